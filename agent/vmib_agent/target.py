"""From a wish to the target of the kernel: trees of qdiscs, network, packet filter rules.

Pure. What cannot be (a burst below a frame, duplication beside other loss, a filter that no rule
can say) becomes a `Problem` that names the row, and the rest is compiled all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_network
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
from .inventory import Rows
from .iptables import Ruleset
from .qdiscs import Tree
from .scope import Target
from .shaping import compile_tree
from .shapingstate import ShapedVif, VifState

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
        self._trees: dict[tuple[VifKey, Direction], tuple[Shaped, Tree]] = {}
        self._rules: tuple[_Isolation, Ruleset, list[Obstruction]] | None = None

    def tree(self, place: tuple[VifKey, Direction], shaped: Shaped) -> Tree:
        """The tree of one direction; raises what `compile_tree` raises."""
        known = self._trees.get(place)
        if known is not None and known[0] == shaped:
            return known[1]
        tree = compile_tree(shaped.shape, shaped.links, shaped.mtu)
        self._trees[place] = shaped, tree
        return tree

    def rules(self, wanted: _Isolation) -> tuple[Ruleset, list[Obstruction]]:
        """The packet filter, and the rows that stand in its way."""
        if self._rules is None or self._rules[0] != wanted:
            self._rules = wanted, *_compile_rules(wanted)
        _, rules, obstructions = self._rules
        return rules, obstructions


def compile_target(
    rows: Rows, wanted: Wish, cache: TargetCache
) -> tuple[Target, list[Obstruction]]:
    """The target of the kernel, and what stands in the way of it."""
    obstructions: list[Obstruction] = []
    shaping = _shaping(rows, wanted, cache, obstructions)
    rules, in_the_way = cache.rules(_isolation(rows))
    return Target(shaping, wanted.network, rules), [*obstructions, *in_the_way]


def _shaping(
    rows: Rows, wanted: Wish, cache: TargetCache, obstructions: list[Obstruction]
) -> Mapping[ShapedVif, VifState]:
    trees: dict[VifKey, dict[Direction, Tree]] = {}
    for (vif, direction), shaped in wanted.shaped.items():
        try:
            trees.setdefault(vif, {})[direction] = cache.tree((vif, direction), shaped)
        except (ValueRefused, Unavailable) as refusal:
            unavailable = isinstance(refusal, Unavailable)
            owner = _blamed(shaped, refusal.name)
            obstructions.append(Obstruction(owner, str(refusal), unavailable))
    return {
        ShapedVif(facts.device, ifb_name(vif)): _both(trees[vif]) if vif in trees else _UNSHAPED
        for vif, facts in rows.inventory.vifs.items()
    }


_NO_TREE = Tree()
_UNSHAPED = VifState(_NO_TREE, _NO_TREE)


def _both(trees: Mapping[Direction, Tree]) -> VifState:
    return VifState(
        to_vm=trees.get(Direction.toVm, _NO_TREE), from_vm=trees.get(Direction.fromVm, _NO_TREE)
    )


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
