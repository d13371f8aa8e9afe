"""All hosts of a network at one moment: what is wrong with it, and what has changed since. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum

from vmib import rows
from vmib.schema import TABLES
from vmib.smi import IpAddress

from .connections import owners
from .findings import Severity
from .graph import Graph
from .model import Link, Model
from .observation import Flow, HostView, is_of_machine
from .paths import PairPath, collapse
from .plan import Change, Kind
from .status import Deviation
from .topology import graph
from .transaction import TxnView


class Trouble(Enum):
    """What kind of thing is wrong."""

    UNREACHABLE = "unreachable"
    AGENT = "agent"
    MISSING = "missing"
    STOPPED = "not running"
    FAILED = "failed"
    DRIFTED = "drifted"
    WAITING = "waiting"
    TRANSACTION = "transaction"
    DIFFERENT = "not as described"
    EXCEEDED = "threshold exceeded"


_SEVERITIES = {
    Trouble.UNREACHABLE: Severity.ERROR,
    Trouble.AGENT: Severity.ERROR,
    Trouble.MISSING: Severity.ERROR,
    Trouble.FAILED: Severity.ERROR,
    Trouble.WAITING: Severity.NOTE,
}
_OF_SYNC = {
    rows.Sync.failed: Trouble.FAILED,
    rows.Sync.drifted: Trouble.DRIFTED,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; `subject` is what it is about, `text` the rest of the sentence.

    `since` is when it was first seen, None if that is not yet known, and `seconds_left` what a
    transaction has left. Two problems are the same without their times.
    """

    trouble: Trouble
    host: str
    subject: str
    text: str
    since: datetime | None = field(default=None, compare=False)
    seconds_left: int = field(default=0, compare=False)

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return _SEVERITIES.get(self.trouble, Severity.WARNING)


@dataclass(frozen=True, slots=True)
class Load:
    """What passes a virtual link in each direction now (kbit/s), over all paths through it."""

    forth: int = 0
    back: int = 0


def rounded_time(microseconds: int) -> str:
    """A measured time with three digits, such as `43us`, `20.1ms` or `1.5s`."""
    rounded = round(microseconds, 3 - len(str(microseconds)))
    for unit, scale in (("s", 1_000_000), ("ms", 1000)):
        if rounded >= scale:
            return f"{rounded / scale:.10g}{unit}"
    return f"{microseconds}us"


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What only depends on the two files.

    `peers` are the machines that have addresses; `round_trips` the times (in us) that the delays of
    a machine's interface and an address beyond a link add up to.
    """

    model: Model
    pairs: tuple[PairPath, ...]
    peers: Mapping[IpAddress, str]
    round_trips: Mapping[tuple[str, int, IpAddress], int]


def network_plan(model: Model) -> NetworkPlan:
    """What the files say about what is measured."""
    pairs = collapse(model)
    delays = {(pair.a.key, pair.b.key): _delay(pair) for pair in pairs}
    return NetworkPlan(
        model=model,
        pairs=pairs,
        peers={address: at.member.machine for address, at in owners(model).by_address.items()},
        round_trips={
            (*pair.a.key, address): _delay(pair) + delays.get((pair.b.key, pair.a.key), 0)
            for pair in pairs
            for address in pair.a.addresses_towards(pair.b)
        },
    )


def _delay(pair: PairPath) -> int:
    return pair.a.member.up.delay + pair.impairment.delay + pair.b.member.down.delay


@dataclass(frozen=True, slots=True)
class NetworkView:
    """All hosts, in the order of the real file. `number` grows with every view.

    `loads` are those of the model's links, in its order; None where a host does not answer.
    """

    number: int
    taken: datetime
    plan: NetworkPlan
    hosts: Mapping[str, HostView]
    problems: tuple[Problem, ...]
    graph: Graph
    loads: tuple[Load | None, ...]

    @property
    def flows(self) -> Iterator[Flow]:
        """Everything that is shaped, on all hosts."""
        return (flow for host in self.hosts.values() for flow in host.flows)

    @property
    def worst(self) -> Severity | None:
        """How bad it is; None where nothing is wrong, notes aside."""
        found = {problem.severity for problem in self.problems}
        return next((each for each in (Severity.ERROR, Severity.WARNING) if each in found), None)


def rounded_rate(kbps: int) -> str:
    """A measured rate with three digits, such as `956kbit` or `12.3Mbit`; `0` for none."""
    rounded = round(kbps, 3 - len(str(kbps)))
    for unit, scale in (("Gbit", 1_000_000), ("Mbit", 1000)):
        if rounded >= scale:
            return f"{rounded / scale:.10g}{unit}"
    return f"{kbps}kbit" if kbps else "0"


class Viewer:
    """Puts views of one network together; remembers since when what is wrong is wrong."""

    def __init__(self, plan: NetworkPlan) -> None:
        self._plan = plan
        self._since: Mapping[Problem, datetime] = {}

    def follow(self, plan: NetworkPlan) -> None:
        """Go on with other files."""
        self._plan = plan

    def view(self, number: int, taken: datetime, hosts: Mapping[str, HostView]) -> NetworkView:
        """The view of these hosts at a time."""
        plan = self._plan
        answering = {name: host.states for name, host in hosts.items() if host.answers}
        silent = {name: host.status.error for name, host in hosts.items() if not host.answers}
        found = [each for name, host in hosts.items() for each in problems(name, host)]
        self._since = {each: self._since.get(each, taken) for each in found}
        dated = tuple(replace(each, since=self._since[each]) for each in found)
        loads = link_loads(plan, hosts)
        passing = [_texts(load) for load in loads]
        drawn = graph(plan.model, answering, silent, pairs=plan.pairs, passing=passing)
        return NetworkView(number, taken, plan, hosts, dated, drawn, loads)


def _texts(load: Load | None) -> tuple[str, str]:
    if load is None:
        return "?", "?"
    return rounded_rate(load.forth), rounded_rate(load.back)


def link_loads(plan: NetworkPlan, hosts: Mapping[str, HostView]) -> tuple[Load | None, ...]:
    """What passes each link of the model."""
    rates = {
        (flow.machine, flow.vif, flow.dest): flow.counters.achieved_rate
        for host in hosts.values()
        if host.answers
        for flow in host.flows
        if flow.dest is not None and flow.counters is not None
    }
    sums = {link: [0, 0] for link in plan.model.virtual.links}
    unknown: set[Link] = set()
    for pair in plan.pairs:
        host = hosts.get(pair.a.machine.host)
        if host is None or not host.answers:
            unknown.update(pair.links)
            continue
        rate = sum(rates.get((*pair.a.key, dest), 0) for dest in pair.a.addresses_towards(pair.b))
        at = pair.a.member.machine
        for link in pair.links if rate else ():
            forth = link.a.name == at
            sums[link][0 if forth else 1] += rate
            at = (link.b if forth else link.a).name
    return tuple(
        None if link in unknown else Load(*sums[link]) for link in plan.model.virtual.links
    )


def problems(name: str, host: HostView) -> Iterator[Problem]:
    """What is wrong with a host."""
    status = host.status
    if status.scalars is None:
        yield Problem(Trouble.UNREACHABLE, name, "", status.error)
        return
    if status.scalars.mode is not rows.HostAgentMode.normal:
        yield Problem(Trouble.AGENT, name, "agent", f"its mode is {status.scalars.mode.name}")
    if status.scalars.hypervisor_status is not rows.OperStatus.up:
        state = status.scalars.hypervisor_status.name
        yield Problem(Trouble.AGENT, name, f"hypervisor {status.scalars.hypervisor}", state)
    for machine in host.missing:
        text = "its agent reports no such machine"
        yield Problem(Trouble.MISSING, name, f"machine {machine}", text)
    stopped = {index: vm for index, vm in host.names.vms.items() if vm.present and not vm.running}
    for vm in stopped.values():
        yield Problem(Trouble.STOPPED, name, f"machine {vm.name}", "its rows wait for it")
    for deviation in status.deviations:
        waits = not deviation.is_wrong and deviation.row.key[0] in stopped
        if not (waits and is_of_machine(TABLES[deviation.row.table])):
            yield _of_deviation(name, deviation)
    if status.transaction is not None:
        yield _of_transaction(name, status.transaction)
    for change in host.changes:
        yield _of_change(name, host, change)
    for probe in host.probes:
        if probe.exceeded:
            subject = f"probe {probe.machine}:{probe.vif} to {probe.key.dest}"
            yield Problem(Trouble.EXCEEDED, name, subject, "round trip or loss is above it")


def _of_deviation(host: str, found: Deviation) -> Problem:
    trouble = _OF_SYNC.get(found.sync, Trouble.WAITING)
    parts = []
    if found.field:
        word = found.field.replace("_", "-")
        parts.append(f"{word} {found.configured}, reads back {found.actual}")
    if found.reason:
        parts.append(found.reason)
    return Problem(trouble, host, found.row.name, ": ".join(parts))


def _of_transaction(host: str, found: TxnView) -> Problem:
    awaits = found.state is rows.TxnState.awaitingConfirm
    state = "awaits confirmation" if awaits else f"is {found.state.name}"
    what = f" ({found.description})" if found.description else ""
    subject = f"transaction {found.index}"
    text = f"of {found.owner}{what} {state}"
    return Problem(Trouble.TRANSACTION, host, subject, text, seconds_left=found.time_left)


def _of_change(host: str, view: HostView, change: Change) -> Problem:
    row = change.before if change.after is None else change.after
    subject = view.describer.subject(change.table, change.key, row)
    where = "" if change.source is None else f" ({change.source})"
    match change.kind:
        case Kind.CREATE:
            text = f"is described{where}, but not there"
        case Kind.DELETE:
            text = "is there, but not described"
        case _:
            text = f"apply would change {view.describer.what(change)}{where}"
    return Problem(Trouble.DIFFERENT, host, subject, text)
