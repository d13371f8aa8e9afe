"""Tables of a host for tests: what an agent would make of changes, and strategies for rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from ipaddress import ip_address
from typing import Any

from hypothesis import strategies as st

from vmib import canonical, rows
from vmib.rows import HostAgentMode, InetAddressType, OperStatus, StorageType, VifKey
from vmib.schema import CONFIGURATION, DISCOVERED, TABLES
from vmib.smi import Column, Kind, Table
from vmib_manager.plan import Change
from vmib_manager.plan import Kind as ChangeKind
from vmib_manager.seen import (
    Key,
    Names,
    OutOfSync,
    Reading,
    Scalars,
    SeenPif,
    SeenVif,
    SeenVm,
    Tables,
)

SHAPE = "vmibShapeTable"
V4 = InetAddressType.ipv4
NAMES = Names(
    vms={
        1: SeenVm("00000000-0000-4000-8000-000000000001", "alice", True),
        2: SeenVm("00000000-0000-4000-8000-000000000002", "bob", True),
        3: SeenVm("00000000-0000-4000-8000-000000000003", "gone", False),
    },
    vifs={
        VifKey(1, 1): SeenVif("02:00:00:00:00:11", 0),
        VifKey(1, 2): SeenVif("02:00:00:00:00:12", 1),
        VifKey(2, 1): SeenVif("02:00:00:00:00:21", 0),
        VifKey(3, 1): SeenVif("02:00:00:00:00:31", -1),
    },
    pifs={2: SeenPif("eth0", 10_000_000, "02:00:00:00:00:01")},
)
"""Two machines that are there, of which the first has two interfaces, and one that was."""


def scalars_of(tables: Tables, names: Names = NAMES, **more: Any) -> Scalars:
    """The scalars of an agent with these rows."""
    values: dict[str, Any] = {
        "uuid": "00000000-0000-4000-8000-0000000000ff",
        "hypervisor": "netns",
        "version": "1",
        "capabilities": frozenset({"transactions"}),
        "mode": HostAgentMode.normal,
        "hypervisor_status": OperStatus.up,
        "out_of_sync": 0,
        "spin_lock": 7,
        "generation": 5,
        "digest": canonical.digest(tables, names.discovered),
        "last_change": b"",
        "last_change_by": "ann",
        "transaction": 0,
    }
    return Scalars(**(values | more))


def reading_of(
    tables: Tables, names: Names = NAMES, drifted: tuple[OutOfSync, ...] = ()
) -> Reading:
    """What a manager reads from an agent with these rows."""
    return Reading(scalars_of(tables, names), names, tables, drifted)


def discovered(table: Table, key: Key, names: Names = NAMES) -> bool:
    """Whether the hypervisor accounts for a row."""
    return key in names.discovered.get(table.name, set())


def unconfigured(table: Table, key: Key, names: Names) -> Any:
    """The row as it is where nobody has configured it; its interface or machine is there."""
    values = {c.field: c.default for c in table.writable if c.has_default}
    if table.name == "vmibVmTable":
        vm = names.vms[key[0]]
        values |= {"uuid": vm.uuid, "name": vm.name}
    if table.name == "vmibVifTable":
        values["mac_address"] = names.vifs[VifKey(*key)].mac
    return rows.ROWS[table.name](**values)


def carried_out(tables: Tables, changes: Iterable[Change], names: Names = NAMES) -> Tables:
    """The rows of an agent after changes, of which it is told the written fields alone.

    As strict as an agent: what is created must not be there, what is removed must.
    """
    after = {name: dict(found) for name, found in tables.items()}
    for change in changes:
        table, key = change.table, change.key
        there = after.setdefault(table.name, {})
        written = {name: getattr(change.after, name) for name in change.fields}
        always = discovered(table, key, names) or table.name == SHAPE
        if change.kind in (ChangeKind.DELETE, ChangeKind.REPLACE):
            assert not always
            assert there.pop(key).storage_type not in (StorageType.permanent, StorageType.readOnly)
        if change.kind in (ChangeKind.CREATE, ChangeKind.REPLACE):
            assert not always
            assert key not in there
            there[key] = rows.ROWS[table.name](**written)
        if change.kind is ChangeKind.UPDATE:
            assert always or key in there
            row = there.get(key) or unconfigured(table, key, names)
            assert row.storage_type is not StorageType.readOnly
            there[key] = replace(row, **written)
            if always and is_unconfigured(table, there[key]):
                del there[key]
    return after


def is_unconfigured(table: Table, row: Any) -> bool:
    """Whether all columns that have defaults have them."""
    return all(getattr(row, c.field) == c.default for c in table.writable if c.has_default)


def told(tables: Tables, names: Names = NAMES) -> dict[tuple[str, Key], Mapping[str, Any]]:
    """What the rows say, without what goes without saying: rows that say nothing are left out."""
    found: dict[tuple[str, Key], Mapping[str, Any]] = {}
    for table in CONFIGURATION:
        for key, row in tables.get(table.name, {}).items():
            here = discovered(table, key, names)
            if (here or table.name == SHAPE) and is_unconfigured(table, row):
                continue
            found[table.name, key] = {
                column.field: getattr(row, column.field)
                for column in table.writable
                if not (here and column.name in canonical.DETERMINED)
            }
    return found


_ADDRESSES = [ip_address("10.0.0.1"), ip_address("10.0.0.2")]
_MEMBERS = [(1, 1), (1, 2), (2, 1), (3, 1)]
KEYS: Mapping[str, list[tuple[Any, ...]]] = {
    "vmibVmTable": [(1,), (2,), (3,), (9,)],
    "vmibVifTable": [*_MEMBERS, (9, 1)],
    "vmibAddrTable": [(*vif, V4, address) for vif in _MEMBERS for address in _ADDRESSES],
    SHAPE: [(*vif, direction) for vif in _MEMBERS for direction in rows.Direction],
    "vmibLinkTable": [(*vif, V4, address, 32) for vif in _MEMBERS for address in _ADDRESSES],
    "vmibDomainTable": [(1,), (2,)],
    "vmibSwitchTable": [(1,), (2,)],
    "vmibRouteTable": [(vm, V4, ip_address("10.0.0.0"), 8, n) for vm in (0, 1) for n in (0, 5)],
    "vmibFilterTable": [(domain, priority) for domain in (1, 2) for priority in (10, 20)],
}
STORED = (StorageType.nonVolatile, StorageType.volatile)
ALL_STORED = (*STORED, StorageType.permanent, StorageType.readOnly)


def values(column: Column, storage: Sequence[StorageType]) -> list[Any]:
    """A few values of a column, the default first."""
    found: list[Any] = [column.default] if column.has_default else []
    syntax = column.syntax
    if column.field == "storage_type":
        found += storage
    elif syntax.enum is not None:
        found += [*syntax.enum][:2]
    elif syntax.kind is Kind.BOOL:
        found += [True, False]
    elif syntax.kind is Kind.TEXT:
        found += ["x", "y"]
    elif syntax.kind is Kind.MAC:
        found += ["02:00:00:00:00:01", "02:00:00:00:00:02"]
    elif syntax.kind is Kind.UUID:
        found += [f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2)]
    elif syntax.kind is Kind.INET:
        found += [None, *_ADDRESSES]
    else:
        found += [24, 32]
    return list(dict.fromkeys(found))


@cache
def some_rows(name: str, storage: tuple[StorageType, ...]) -> list[Any]:
    """Rows of a table of which any two often differ in one column, or in none."""
    choices = {column.field: values(column, storage) for column in TABLES[name].writable}
    plain = rows.ROWS[name](**{field: some[0] for field, some in choices.items()})
    one = [replace(plain, **{field: value}) for field, some in choices.items() for value in some]
    last = replace(plain, **{field: some[-1] for field, some in choices.items()})
    stored = [replace(row, storage_type=kind) for row in (*one[:3], last) for kind in storage]
    return list(dict.fromkeys([*one, *stored]))


@st.composite
def tables(draw: st.DrawFn, storage: tuple[StorageType, ...] = STORED) -> Tables:
    """Rows of a host with the machines of `NAMES`; without those that say nothing, as they are
    read."""
    found: dict[str, dict[Key, Any]] = {}
    for table in CONFIGURATION:
        keys = st.sampled_from([rows.KEYS[table.name](*key) for key in KEYS[table.name]])
        some = st.sampled_from(some_rows(table.name, storage))
        drawn = draw(st.dictionaries(keys, some, max_size=4))
        found[table.name] = {
            key: row
            for key, row in drawn.items()
            if not ((discovered(table, key) or table.name == SHAPE) and is_unconfigured(table, row))
        }
    return found


assert set(KEYS) == {table.name for table in CONFIGURATION}
assert TABLES.keys() >= DISCOVERED
