"""What rows must have in common with other rows and with the host.

Only rows that change are looked at, and of them only the fields that change: a machine that has
gone, or a capability that was lost, never stands in the way of an unrelated SET.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vmib.needs import ROW_STATUS, needs
from vmib.rows import ProbeKey, StorageType
from vmib.schema import TABLES, describe_key
from vmib.smi import Oid
from vmib.status import ErrorStatus

from .numbering import conflicts
from .probe_ways import Neighbourhood
from .rules import ROW_RULES, VALUE_RULES
from .state import EMPTY, Indexes, Intent, Key
from .world import (
    ADDR,
    DOMAIN,
    FILTER,
    LINK,
    PROBE,
    ROUTE,
    SHAPE,
    SWITCH,
    VIF,
    VM,
    KnownVif,
    KnownVm,
    Problem,
    World,
    changed_keys,
    effective,
)

ETHERNET_HEADER = 14
"""Octets that a full frame has beyond the MTU (rates and bursts count layer-2 octets)."""
PROBES_PER_SECOND = 2000
"""Packets that all probes of a host may send."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A row of one table needs one of another.

    `key` gives the key of the row needed, or None for none. `fields` are the columns that hold
    it; empty where the index does.
    """

    source: str
    target: str
    fields: tuple[str, ...]
    key: Callable[[Key, Any], Key | None]


def _vif_of_key(key: Key, _: Any) -> Key:
    return key[:2]


def _filter_vif(_: Key, row: Any) -> Key | None:
    return (row.vm_index, row.vif_index) if row.vm_index and row.vif_index else None


REFERENCES = (
    Reference(VIF, VM, (), lambda key, _: key[:1]),
    Reference(VIF, SWITCH, ("switch_index",), lambda _, row: _or_none(row.switch_index)),
    Reference(VIF, DOMAIN, ("domain",), lambda _, row: _or_none(row.domain)),
    Reference(SWITCH, DOMAIN, ("domain",), lambda _, row: _or_none(row.domain)),
    Reference(ADDR, VIF, (), _vif_of_key),
    Reference(SHAPE, VIF, (), _vif_of_key),
    Reference(LINK, VIF, (), _vif_of_key),
    Reference(PROBE, VIF, (), _vif_of_key),
    Reference(ROUTE, VM, (), lambda key, _: _or_none(key[0])),
    Reference(
        ROUTE,
        VIF,
        ("vif_index",),
        lambda key, row: (key[0], row.vif_index) if row.vif_index else None,
    ),
    Reference(FILTER, DOMAIN, (), lambda key, _: _or_none(key[0])),
    Reference(FILTER, VM, ("vm_index",), lambda _, row: _or_none(row.vm_index)),
    Reference(FILTER, VIF, ("vif_index", "vm_index"), _filter_vif),
)


def _or_none(index: int) -> Key | None:
    return (index,) if index else None


_FROM = {table: tuple(r for r in REFERENCES if r.source == table) for table in TABLES}
_RANK = {table: rank for rank, table in enumerate(TABLES)}
_TO = {table: tuple(r for r in REFERENCES if r.target == table) for table in TABLES}


def _address_of_machine(key: Key, _: Any) -> Any:
    return key[0], key[3]


UNIQUE: Mapping[str, tuple[tuple[str, Callable[[Key, Any], Any]], ...]] = {
    VM: (("name", lambda _, row: row.name), ("uuid", lambda _, row: row.uuid)),
    VIF: (("mac_address", lambda _, row: row.mac_address),),
    ADDR: ((ROW_STATUS, _address_of_machine),),
    DOMAIN: (("name", lambda _, row: row.name),),
    SWITCH: (("name", lambda _, row: row.name),),
}
"""For each table the fields, and what of a row must not be that of another."""


def row_name(table: str, key: Key) -> str:
    """A row as people read it: `vmibLinkTable 3.1.10.0.0.0/24`."""
    return f"{table} {describe_key(TABLES[table], key)}"


def check_change(
    before: Intent,
    after: Intent,
    touched: Collection[tuple[str, Key]],
    world: World,
    indexes: Indexes,
) -> list[Problem]:
    """What stands against a change of the rows `touched`, but for what only a dry run finds."""
    change = _Change(before, after, frozenset(touched), world)
    found = [problem for table, key in touched for problem in change.problems(table, key)]
    found += conflicts(indexes, before, after, touched, world)
    return found


def check_feasible(
    before: Intent, after: Intent, touched: Collection[tuple[str, Key]], world: World
) -> list[Problem]:
    """What a dry run finds that is new: in rows touched, or not there before."""
    found = world.feasible(after)
    if not found:
        return []
    own = set(touched)
    others = {problem for problem in found if (problem.table, problem.key) not in own}
    standing = others.intersection(world.feasible(before)) if others else others
    return [problem for problem in found if problem not in standing]


def check_candidate(
    before: Intent, after: Intent, world: World, indexes: Indexes
) -> Sequence[Problem]:
    """All that stands against an intent taking the place of another."""
    touched = sorted(changed_keys(before, after), key=_place)
    found = [p for table, key in touched for p in _local(table, key, after.get(table, {}).get(key))]
    found += check_change(before, after, touched, world, indexes)
    return found or check_feasible(before, after, touched, world)


def _place(row: tuple[str, Key]) -> tuple[int, Oid]:
    """Where a row stands in a walk of the tables."""
    table, key = row
    return _RANK[table], TABLES[table].encode_index(key)


def check_intent(intent: Intent, world: World, indexes: Indexes | None = None) -> Sequence[Problem]:
    """All that is wrong with an intent by itself, as after loading a state file.

    A machine with a number in `indexes` may be referred to although it is not there now.
    """
    numbers = Indexes() if indexes is None else indexes
    vms = {number: KnownVm(uuid, "", running=False) for uuid, number in numbers.vms.items()}
    vifs = {
        (numbers.vms[uuid], number): KnownVif(mac, -1, None, running=False)
        for (uuid, mac), number in numbers.vifs.items()
        if uuid in numbers.vms
    }
    configured = {key[0] for key in intent.get(VM, {})}
    absent = {number: vm for number, vm in vms.items() if number not in configured}
    wider = replace(world, vms={**absent, **world.vms}, vifs={**vifs, **world.vifs})
    return check_candidate(EMPTY, intent, wider, numbers)


def _local(table: str, key: Key, row: Any) -> Iterator[Problem]:
    if row is None:
        return
    for column in TABLES[table].writable:
        rule = VALUE_RULES.get(column.name)
        if rule is not None and not rule.allows(key, getattr(row, column.field)):
            reason = f"{column.name}: allowed: {rule.allowed}"
            yield Problem(table, key, column.field, ErrorStatus.wrongValue, reason)
    for row_rule in ROW_RULES.get(table, ()):
        if not row_rule.holds(key, row):
            status = ErrorStatus.inconsistentValue
            yield Problem(table, key, row_rule.fields[0], status, row_rule.reason)


class _Change:
    """One change under examination; what needs a pass over a table is found once."""

    def __init__(
        self, before: Intent, after: Intent, touched: frozenset[tuple[str, Key]], world: World
    ) -> None:
        self.before = before
        self.after = after
        self.touched = touched
        self.world = world
        self._referrers: dict[str, dict[Key, list[tuple[str, Key]]]] = {}
        self._values: dict[tuple[str, str], dict[Any, list[Key]]] = {}
        self._probing: tuple[Neighbourhood, float] | None = None

    def problems(self, table: str, key: Key) -> Iterator[Problem]:
        """What is wrong with one row that changes."""
        old = effective(self.before, self.world, table, key)
        row = effective(self.after, self.world, table, key)
        if row is None:
            if old is not None:
                yield from self._still_needed(table, key)
            return
        yield from self._capabilities(table, key, old, row)
        yield from self._references(table, key, old, row)
        yield from self._uniqueness(table, key, old, row)
        yield from self._bursts(table, key, old, row)
        if table == PROBE:
            yield from self._probe(ProbeKey(*key), old, row)
        if _became_volatile(old, row) and not self.world.discovers(table, key):
            yield from self._outlived(table, key)

    def _still_needed(self, table: str, key: Key) -> Iterator[Problem]:
        for other in self._referring_to(table, key):
            reason = f"{row_name(table, key)} is needed by {row_name(*other)}"
            yield Problem(table, key, ROW_STATUS, ErrorStatus.inconsistentValue, reason)

    def _outlived(self, table: str, key: Key) -> Iterator[Problem]:
        for other in self._referring_to(table, key):
            if self.after[other[0]][other[1]].storage_type != StorageType.volatile:
                reason = f"{row_name(*other)}, which outlives a restart, needs this row"
                yield Problem(table, key, "storage_type", ErrorStatus.inconsistentValue, reason)

    def _capabilities(self, table: str, key: Key, old: Any, row: Any) -> Iterator[Problem]:
        for field, capability in needs(table, key, row):
            if capability in self.world.capabilities:
                continue
            if field == ROW_STATUS:
                asked = old is None
            else:
                asked = old is None or getattr(old, field) != getattr(row, field)
            if asked:
                reason = f"this host lacks {capability} (vmibHostCapabilities)"
                yield Problem(table, key, field, ErrorStatus.resourceUnavailable, reason)

    def _references(self, table: str, key: Key, old: Any, row: Any) -> Iterator[Problem]:
        lasting = row.storage_type != StorageType.volatile
        outlives = lasting and (old is None or old.storage_type == StorageType.volatile)
        for reference in _FROM[table]:
            new = old is None or any(
                getattr(old, name) != getattr(row, name) for name in reference.fields
            )
            if table == SHAPE:
                new = key not in self.before.get(SHAPE, {})
            if not (new or outlives):
                continue
            target = reference.key(key, row)
            if target is None:
                continue
            field = reference.fields[0] if reference.fields else ROW_STATUS
            needed = effective(self.after, self.world, reference.target, target)
            if needed is None:
                if new:
                    yield _dangling(table, key, reference, target, field)
            elif (
                lasting
                and needed.storage_type == StorageType.volatile
                and not self.world.discovers(reference.target, target)
            ):
                reason = f"{row_name(reference.target, target)} is volatile and this row is not"
                yield Problem(table, key, field, ErrorStatus.inconsistentValue, reason)

    def _uniqueness(self, table: str, key: Key, old: Any, row: Any) -> Iterator[Problem]:
        for field, value_of in UNIQUE.get(table, ()):
            value = value_of(key, row)
            if old is not None and value_of(key, old) == value:
                continue
            for other in self._rows_with(table, field, value_of).get(value, ()):
                if other != key:
                    reason = f"{row_name(table, other)} has the same"
                    yield Problem(table, key, field, ErrorStatus.inconsistentValue, reason)

    def _bursts(self, table: str, key: Key, old: Any, row: Any) -> Iterator[Problem]:
        if table in (SHAPE, LINK):
            if old is None or old.burst != row.burst:
                yield from self._burst(table, key, row, table, key, "burst")
        elif table == VIF and old is not None and old.mtu != row.mtu:
            for other in self._referring_to(VIF, key):
                if other[0] in (SHAPE, LINK) and other not in self.touched:
                    yield from self._burst(
                        *other, self.after[other[0]][other[1]], table, key, "mtu"
                    )

    def _burst(
        self, table: str, key: Key, row: Any, blamed: str, blamed_key: Key, field: str
    ) -> Iterator[Problem]:
        mtu = self._mtu(key[:2])
        if mtu is not None and 0 < row.burst < mtu + ETHERNET_HEADER:
            reason = (
                f"the burst {row.burst} of {row_name(table, key)} cannot pass a full frame of the "
                f"interface, {mtu + ETHERNET_HEADER} octets; 0 lets the agent choose"
            )
            yield Problem(blamed, blamed_key, field, ErrorStatus.inconsistentValue, reason)

    def _probe(self, key: ProbeKey, old: Any, row: Any) -> Iterator[Problem]:
        if self._probing is None:
            rates = (probe.count / probe.interval for probe in self.after[PROBE].values())
            probes = [ProbeKey(*probe) for probe in self.after[PROBE]]
            self._probing = Neighbourhood(self.after, probes), sum(rates)
        neighbourhood, rate = self._probing
        asked = neighbourhood.asked(key) if old is None else None
        if isinstance(asked, str):
            yield Problem(PROBE, key, ROW_STATUS, ErrorStatus.inconsistentValue, asked)
        is_faster = old is None or row.count / row.interval > old.count / old.interval
        if is_faster and rate > PROBES_PER_SECOND:
            field = ROW_STATUS if old is None else "count"
            reason = f"all probes would be {rate:.0f} a second, allowed: {PROBES_PER_SECOND}"
            yield Problem(PROBE, key, field, ErrorStatus.resourceUnavailable, reason)

    def _mtu(self, vif: Key) -> int | None:
        row = effective(self.after, self.world, VIF, vif)
        if row is not None and row.mtu:
            return int(row.mtu)
        known = self.world.vifs.get((vif[0], vif[1]))
        return None if known is None else known.mtu

    def _referring_to(self, table: str, key: Key) -> Sequence[tuple[str, Key]]:
        found = self._referrers.get(table)
        if found is None:
            found = self._referrers[table] = {}
            for reference in _TO[table]:
                for source, row in self.after.get(reference.source, {}).items():
                    target = reference.key(source, row)
                    if target is not None:
                        found.setdefault(target, []).append((reference.source, source))
        return found.get(key, ())

    def _rows_with(
        self, table: str, field: str, value_of: Callable[[Key, Any], Any]
    ) -> Mapping[Any, list[Key]]:
        found = self._values.get((table, field))
        if found is None:
            found = self._values[table, field] = {}
            keys: dict[Key, None] = dict.fromkeys(self.after.get(table, {}))
            if table == VM:
                keys |= {(number,): None for number in self.world.vms}
            elif table == VIF:
                keys |= dict.fromkeys(self.world.vifs)
            for key in keys:
                row = effective(self.after, self.world, table, key)
                found.setdefault(value_of(key, row), []).append(key)
        return found


def _became_volatile(old: Any, row: Any) -> bool:
    volatile = StorageType.volatile
    return old is not None and old.storage_type != volatile and row.storage_type == volatile


def _dangling(table: str, key: Key, reference: Reference, target: Key, field: str) -> Problem:
    status = ErrorStatus.inconsistentValue if reference.fields else ErrorStatus.inconsistentName
    return Problem(table, key, field, status, f"there is no {row_name(reference.target, target)}")
