"""From a model, and what agents report of it, to its picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vmib import rows, units
from vmib.impairment import Impairment

from .client import Agent
from .graph import Graph, GraphLink, GraphMachine, GraphSite, NodeState
from .model import Attachment, Link, Model, Site
from .paths import PairPath, collapse
from .reading import read_names, read_out_of_sync
from .seen import Names, OutOfSync

_WORST = (
    NodeState.FAILED,
    NodeState.SILENT,
    NodeState.DRIFTED,
    NodeState.DIFFERENT,
    NodeState.WAITING,
    NodeState.PLANNED,
    NodeState.IN_SYNC,
)
_OF_SYNC = {
    rows.Sync.inSync: NodeState.IN_SYNC,
    rows.Sync.pending: NodeState.WAITING,
    rows.Sync.waiting: NodeState.WAITING,
    rows.Sync.drifted: NodeState.DRIFTED,
    rows.Sync.failed: NodeState.FAILED,
}


@dataclass(frozen=True, slots=True)
class HostStates:
    """The state of the machines of one host, and of the links that leave them, by machine name.

    What is not named is in sync.
    """

    machines: frozenset[str] = frozenset()
    rows: Mapping[str, NodeState] = field(default_factory=dict)
    links: Mapping[tuple[str, str], NodeState] = field(default_factory=dict)


async def states(agent: Agent) -> HostStates:
    """What an agent reports of its machines and links (a link by machine and destination)."""
    return host_states(await read_names(agent), await read_out_of_sync(agent))


def host_states(names: Names, unsynced: Iterable[OutOfSync]) -> HostStates:
    """Machines that do not run are waiting; the rest has the worst state of its rows."""
    of_machines = {
        vm.name: [NodeState.WAITING] for vm in names.vms.values() if vm.present and not vm.running
    }
    of_links: dict[tuple[str, str], NodeState] = {}
    for row in unsynced:
        state = _OF_SYNC[row.sync]
        if row.table in ("vmibDomainTable", "vmibSwitchTable", "vmibFilterTable"):
            continue
        vm = names.vms.get(row.key[0])
        if vm is None:
            continue
        if row.table == "vmibLinkTable":
            of_links[vm.name, str(row.key[3])] = state
        else:
            of_machines.setdefault(vm.name, []).append(state)
    return HostStates(
        machines=frozenset(vm.name for vm in names.vms.values() if vm.present),
        rows={name: worst(found) for name, found in of_machines.items()},
        links=of_links,
    )


def worst(found: Iterable[NodeState]) -> NodeState:
    """The state to show for several."""
    return min(found, key=_WORST.index, default=NodeState.PLANNED)


def graph(
    model: Model,
    found: Mapping[str, HostStates] | None = None,
    unreachable: Mapping[str, str] | None = None,
    *,
    pairs: Iterable[PairPath] | None = None,
    passing: Sequence[tuple[str, str]] | None = None,
) -> Graph:
    """The picture; without `found` everything is planned.

    `unreachable` says of hosts why their agents could not be asked, and `passing` of each link
    what passes it now, there and back. `pairs` saves work where the caller has called
    `paths.collapse` before.
    """
    sites = tuple(_site(model, site, found) for site in model.virtual.sites)
    of_links: Mapping[Link, NodeState] = {}
    if found is not None:
        of_links = _link_states(collapse(model) if pairs is None else pairs, found)
    if passing is None:
        passing = [("", "")] * len(model.virtual.links)
    links = tuple(
        GraphLink(
            link.a.name,
            link.b.name,
            label(link),
            NodeState.PLANNED if found is None else of_links.get(link, NodeState.IN_SYNC),
            *now,
        )
        for link, now in zip(model.virtual.links, passing, strict=True)
    )
    title = f"{model.virtual.file.rsplit('/', 1)[-1]} on {model.real.file.rsplit('/', 1)[-1]}"
    routers = tuple(router.id for router in model.virtual.routers)
    return Graph(title, sites, routers, links, unreachable or {})


def _site(model: Model, site: Site, found: Mapping[str, HostStates] | None) -> GraphSite:
    bordering = {end.name for link in model.virtual.links for end in (link.a, link.b)}
    machines = []
    for attachment in _attachments(model, site):
        member, host = attachment.member, attachment.machine.host
        machines.append(
            GraphMachine(
                member.machine,
                host,
                str(member.addresses[0]) if member.addresses else "",
                member.gateway or member.machine in bordering,
                NodeState.PLANNED if found is None else _state(member.machine, found.get(host)),
            )
        )
    return GraphSite(site.id, " ".join(map(str, site.subnets)), tuple(machines))


def _attachments(model: Model, site: Site) -> Iterable[Attachment]:
    for member in site.members:
        for attachment in model.attachments.get(member.machine, ()):
            if attachment.member is member:
                yield attachment


def _state(machine: str, found: HostStates | None) -> NodeState:
    if found is None:
        return NodeState.SILENT
    if machine not in found.machines:
        return NodeState.FAILED
    return found.rows.get(machine, NodeState.IN_SYNC)


def _link_states(
    pairs: Iterable[PairPath], found: Mapping[str, HostStates]
) -> dict[Link, NodeState]:
    """The state of each link: the worst of the rows of all paths that lead through it."""
    states_of: dict[Link, list[NodeState]] = {}
    for pair in pairs:
        host = found.get(pair.a.machine.host)
        for address in pair.a.addresses_towards(pair.b):
            state = NodeState.SILENT
            if host is not None:
                key = (pair.a.member.machine, str(address))
                state = host.links.get(key, NodeState.IN_SYNC)
            for link in pair.links:
                states_of.setdefault(link, []).append(state)
    return {link: worst(states) for link, states in states_of.items()}


def label(link: Link) -> str:
    """What a link does, in a few words; both directions where they differ."""
    there, back = impairment_label(link.ab), impairment_label(link.ba)
    return there if there == back else f"{there} / {back}"


def impairment_label(impairment: Impairment) -> str:
    """What an impairment does, in a few words."""
    parts = []
    if impairment.rate:
        parts.append(units.format_rate(impairment.rate))
    if impairment.delay or impairment.jitter:
        jitter = f"±{units.format_time(impairment.jitter)}" if impairment.jitter else ""
        parts.append(units.format_time(impairment.delay) + jitter)
    for name, word in _PROBABILITIES.items():
        if probability := getattr(impairment, name):
            parts.append(f"{units.format_probability(probability)} {word}")
    return " ".join(parts) or "unlimited"


_PROBABILITIES = {
    "loss": "loss",
    "duplicate": "twice",
    "corrupt": "corrupt",
    "reorder": "reordered",
}
