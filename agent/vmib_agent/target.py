"""From a wish to the target of the kernel: trees of qdiscs, network, packet filter rules.

Pure. What cannot be (a burst below a frame, duplication beside other loss, a filter that no rule
can say) becomes a `Problem` that names the row, and the rest is compiled all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from operator import is_
from typing import Any

from vmib.errors import Unavailable, ValueRefused
from vmib.rows import (
    Direction,
    DomainDefaultAction,
    Filter,
    FilterAction,
    Switch,
    SwitchMode,
    Vif,
    VifKey,
)

from . import isolation
from .desired import RowKey, Shaped, Wish, facts_of
from .inventory import Inventory, Rows
from .iptables import Ruleset
from .persistent import Persistent, differing
from .qdiscs import Tree
from .scope import Target
from .shaping import compile_tree
from .shapingstate import ShapedVif, VifState
from .world import ADDR, DOMAIN, FILTER, SWITCH, VIF

IFB_PREFIX = "vmib"


def ifb_name(vif: VifKey) -> str:
    """The ifb of an interface: `vmib3.1`."""
    return f"{IFB_PREFIX}{vif.vm_index}.{vif.vif_index}"


@dataclass(frozen=True, slots=True)
class Obstruction:
    """A row that cannot be carried out as it is: why, and whether the host lacks something."""

    row: RowKey
    message: str
    unavailable: bool


@dataclass(frozen=True, slots=True)
class _Isolation:
    """All that the packet filter is compiled from."""

    members: tuple[isolation.Member, ...]
    domains: tuple[isolation.Domain, ...]
    filters: tuple[isolation.Filter, ...]
    nats: tuple[isolation.Nat, ...]
    routed: tuple[isolation.Routed, ...]
    closed: tuple[str, ...]


class TargetCache:
    """What was compiled, kept while what it was compiled from stays the same."""

    def __init__(self) -> None:
        self._shaping: _Shaping | None = None
        self._sources: tuple[object, ...] = ()
        self._rules: tuple[_Isolation, Ruleset, list[Obstruction]] | None = None

    def shaping(self, rows: Rows, wanted: Wish) -> _Shaping:
        """The queues, and the rows that stand in their way."""
        last = self._shaping
        if last is None or last.inventory is not rows.inventory:
            last = _Shaping.of_nothing(rows.inventory)
        self._shaping = last.revised(wanted.shaped)
        return self._shaping

    def rules(self, rows: Rows) -> tuple[Ruleset, list[Obstruction]]:
        """The packet filter, and the rows that stand in its way."""
        sources = _sources(rows)
        if self._rules is None or not _are_same(self._sources, sources):
            wanted = _isolation(rows)
            if self._rules is None or self._rules[0] != wanted:
                self._rules = wanted, *_compile_rules(wanted)
            self._sources = sources
        _, rules, obstructions = self._rules
        return rules, obstructions


def _sources(rows: Rows) -> tuple[object, ...]:
    """All that `_isolation` looks at."""
    intent = rows.intent
    found: list[object] = [intent.get(table) for table in (DOMAIN, FILTER, SWITCH)]
    if intent.get(DOMAIN) or intent.get(FILTER):
        found += [rows.inventory, intent.get(VIF), intent.get(ADDR)]
    return tuple(found)


def _are_same(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))


_Place = tuple[VifKey, Direction]


@dataclass(frozen=True, slots=True)
class _Shaping:
    """Queues that were compiled, what they were compiled from, and what stood in the way."""

    inventory: Inventory
    shaped: Mapping[_Place, Shaped]
    target: Persistent[ShapedVif, VifState]
    obstructions: Mapping[_Place, Obstruction]

    @classmethod
    def of_nothing(cls, inventory: Inventory) -> _Shaping:
        """No queues anywhere."""
        unshaped = {_shaped_vif(inventory, vif): _UNSHAPED for vif in inventory.vifs}
        return cls(inventory, {}, Persistent(unshaped), {})

    def revised(self, shaped: Mapping[_Place, Shaped]) -> _Shaping:
        """The queues of another wish; only what differs is compiled."""
        states: dict[ShapedVif, VifState] = {}
        obstructions = dict(self.obstructions)
        for place in differing(self.shaped, shaped):
            vif, direction = place
            name = _shaped_vif(self.inventory, vif)
            before = states.get(name) or self.target[name]
            tree = _NO_TREE
            obstructions.pop(place, None)
            try:
                if place in shaped:
                    wanted = shaped[place]
                    tree = compile_tree(wanted.shape, wanted.links, wanted.mtu)
            except (ValueRefused, Unavailable) as refusal:
                owner = _blamed(wanted, refusal.name)
                unavailable = isinstance(refusal, Unavailable)
                obstructions[place] = Obstruction(owner, str(refusal), unavailable)
            to_vm, from_vm = before.to_vm, before.from_vm
            if direction is Direction.toVm:
                to_vm = tree
            else:
                from_vm = tree
            states[name] = VifState(to_vm=to_vm, from_vm=from_vm)
        return _Shaping(self.inventory, shaped, self.target.changed(states), obstructions)


def _shaped_vif(inventory: Inventory, vif: VifKey) -> ShapedVif:
    return ShapedVif(inventory.vifs[vif].device, ifb_name(vif))


def compile_target(
    rows: Rows, wanted: Wish, cache: TargetCache
) -> tuple[Target, list[Obstruction]]:
    """The target of the kernel, and what stands in the way of it."""
    shaping = cache.shaping(rows, wanted)
    rules, in_the_way = cache.rules(rows)
    obstructions = [*shaping.obstructions.values(), *in_the_way]
    return Target(shaping.target, wanted.network, rules), obstructions


_NO_TREE = Tree()
_UNSHAPED = VifState(_NO_TREE, _NO_TREE)


def _blamed(shaped: Shaped, name: str) -> RowKey:
    """The row that an error about an object of a direction is laid to."""
    prefix = "vmibLinkTable" if name.startswith("vmibLink") else "vmibShapeTable"
    return next((row for row in shaped.rows if row.table == prefix), shaped.rows[0])


def _isolation(rows: Rows) -> _Isolation:
    domains = [
        isolation.Domain(
            key[0],
            row.name,
            "drop" if row.default_action is DomainDefaultAction.drop else "accept",
        )
        for key, row in rows.intent.get("vmibDomainTable", {}).items()
    ]
    filters = [_filter(key, row) for key, row in rows.intent.get("vmibFilterTable", {}).items()]
    nats, routed, closed = [], [], []
    for row in rows.intent.get("vmibSwitchTable", {}).values():
        switch: Switch = row
        if switch.mode is SwitchMode.isolated:
            closed.append(switch.name)
        elif switch.addr is not None and switch.mode is not SwitchMode.bridged:
            network = ip_network((switch.addr, switch.addr_prefix), strict=False)
            if switch.mode is SwitchMode.nat:
                nats.append(isolation.Nat(switch.name, network))
            else:
                routed.append(isolation.Routed(switch.name, network))
    members = _members(rows) if domains or filters else []
    return _Isolation(
        tuple(members),
        tuple(domains),
        tuple(filters),
        tuple(nats),
        tuple(routed),
        tuple(closed),
    )


def _compile_rules(wanted: _Isolation) -> tuple[Ruleset, list[Obstruction]]:
    obstructions: list[Obstruction] = []
    while True:
        try:
            rules = isolation.compile_rules(
                wanted.members,
                wanted.domains,
                wanted.filters,
                wanted.nats,
                wanted.routed,
                wanted.closed,
            )
        except (ValueRefused, Unavailable) as refusal:
            row, wanted = _without_the_blamed(wanted, refusal.name)
            unavailable = isinstance(refusal, Unavailable)
            obstructions.append(Obstruction(row, str(refusal), unavailable))
        else:
            return rules, obstructions


def _without_the_blamed(wanted: _Isolation, name: str) -> tuple[RowKey, _Isolation]:
    """The row whose column an error names, such as `vmibFilterProtocol.1.100`, and the rest."""
    column, _, instance = name.partition(".")
    first, second = map(int, instance.split("."))
    if column.startswith("vmibFilter"):
        filters = tuple(
            row for row in wanted.filters if (row.domain, row.priority) != (first, second)
        )
        return RowKey("vmibFilterTable", (first, second)), replace(wanted, filters=filters)
    members = tuple(vif for vif in wanted.members if (vif.vm, vif.vif) != (first, second))
    return RowKey("vmibVifTable", (first, second)), replace(wanted, members=members)


def _members(rows: Rows) -> list[isolation.Member]:
    switches = rows.intent.get("vmibSwitchTable", {})
    addresses: dict[tuple[Any, Any], list[Any]] = {}
    for key in rows.intent.get("vmibAddrTable", {}):
        addresses.setdefault((key[0], key[1]), []).append(key[3])
    members = []
    for key in rows.keys("vmibVifTable"):
        facts = facts_of(rows, VifKey(*key))
        if facts is None:
            continue
        row: Vif = rows.row("vmibVifTable", key)
        switch: Switch | None = switches.get((row.switch_index,))
        domain = row.domain or (switch.domain if switch is not None else 0)
        members.append(
            isolation.Member(
                device=facts.device,
                mac=facts.mac,
                addresses=tuple(addresses.get((key[0], key[1]), ())),
                spoof_guard=row.spoof_guard and domain != 0,
                domain=domain,
                vm=key[0],
                vif=key[1],
                bridge="" if switch is None else switch.name,
            )
        )
    return members


_ACTIONS: Mapping[FilterAction, isolation.Action] = {
    FilterAction.accept: "accept",
    FilterAction.drop: "drop",
    FilterAction.reject: "reject",
}


def _filter(key: Any, row: Filter) -> isolation.Filter:
    return isolation.Filter(
        domain=key[0],
        priority=key[1],
        direction="fromVm" if row.direction is Direction.fromVm else "toVm",
        action=_ACTIONS[row.action],
        vm=row.vm_index,
        vif=row.vif_index,
        family={1: 4, 2: 6}.get(int(row.addr_type), 0),
        src=None if row.src is None else ip_network((row.src, row.src_prefix)),
        dst=None if row.dst is None else ip_network((row.dst, row.dst_prefix)),
        protocol=row.protocol,
        src_ports=(row.src_port_min, row.src_port_max),
        dst_ports=(row.dst_port_min, row.dst_port_max),
    )
