"""What an agent says of its host: scalars, machines and their numbers, and the rows it has.

A reading is taken with few datagrams: one GET tells the digest of the configuration
(vmibTxnDigest), and rows are walked only where the digest is of something that the manager does
not already know.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from vmib import canonical, objects, rows
from vmib.errors import ValueRefused, VmibError
from vmib.schema import CONFIGURATION, SCALARS, TABLES
from vmib.smi import Column, Scalar, Table
from vmib.snmp import Oid, Value, VarBind

from .client import Agent, BadReply
from .seen import (
    Key,
    Names,
    OutOfSync,
    Reading,
    Scalars,
    SeenPif,
    SeenVif,
    SeenVm,
    Tables,
    configured,
)

EMPTY_DIGEST = canonical.digest({}, {})
"""vmibTxnDigest of a host that nobody has configured."""

_CONSISTENT_TRIES = 5


class Undecodable(VmibError):
    """A value that an agent cannot have by VMIB-MIB."""


class KeepsChanging(VmibError):
    """The configuration changed during every attempt to read it."""


_SCALARS = {
    "uuid": "vmibHostUuid",
    "hypervisor": "vmibHostHypervisor",
    "version": "vmibHostAgentVersion",
    "capabilities": "vmibHostCapabilities",
    "mode": "vmibHostAgentMode",
    "hypervisor_status": "vmibHostHypervisorStatus",
    "out_of_sync": "vmibHostRowsOutOfSync",
    "spin_lock": "vmibTxnSpinLock",
    "generation": "vmibTxnGeneration",
    "digest": "vmibTxnDigest",
    "last_change": "vmibTxnLastChange",
    "last_change_by": "vmibTxnLastChangeBy",
    "transaction": "vmibTxnCurrent",
}


async def read_scalars(agent: Agent) -> Scalars:
    """One GET."""
    leaves = [SCALARS[name] for name in _SCALARS.values()]
    reply = await agent.get([(*leaf.oid, 0) for leaf in leaves])
    values = {}
    for field_name, leaf, varbind in zip(_SCALARS, leaves, reply, strict=True):
        if varbind.value.is_exception:
            raise BadReply(agent.name, f"has no {leaf.name}; it is no agent of VMIB-MIB")
        values[field_name] = decoded(leaf, varbind.value)
    return Scalars(**values)


_NAME_COLUMNS = (
    objects.vmibVmUuid,
    objects.vmibVmName,
    objects.vmibVmPresence,
    objects.vmibVifMacAddress,
    objects.vmibVifNumber,
    objects.vmibPifName,
    objects.vmibPifSpeed,
    objects.vmibPifMacAddress,
)


async def read_names(agent: Agent) -> Names:
    """Machines, interfaces and physical interfaces; one walk over their columns."""
    walked = await agent.walk(*(column.oid for column in _NAME_COLUMNS))
    uuid, name, presence, mac, number, pif, speed, pif_mac = (
        _column(column, found) for column, found in zip(_NAME_COLUMNS, walked, strict=True)
    )
    vms = {
        suffix[0]: SeenVm(
            uuid[suffix],
            name[suffix],
            present=found is not rows.VmPresence.absent,
            running=found is rows.VmPresence.running,
        )
        for suffix, found in presence.items()
        if suffix in uuid and suffix in name
    }
    vifs = {
        rows.VifKey(suffix[0], suffix[1]): SeenVif(found, number[suffix])
        for suffix, found in mac.items()
        if suffix in number
    }
    pifs = {
        suffix[0]: SeenPif(found, speed.get(suffix, 0), pif_mac.get(suffix, ""))
        for suffix, found in pif.items()
    }
    return Names(vms, vifs, pifs)


async def read_rows(agent: Agent, names: Names) -> dict[str, dict[Key, Any]]:
    """The configured rows of all tables; one walk over their writable columns.

    Raises HalfRow for a row of which columns are missing.
    """
    columns = [(table, column) for table in CONFIGURATION for column in table.writable]
    walked = await agent.walk(*(column.oid for _, column in columns))
    cells: dict[str, dict[Oid, dict[str, Any]]] = {}
    for (table, column), found in zip(columns, walked, strict=True):
        by_suffix = cells.setdefault(table.name, {})
        for suffix, value in _column(column, found).items():
            by_suffix.setdefault(suffix, {})[column.field] = value
    return {
        table.name: configured(table, dict(_rows_of(agent, table, cells[table.name])), names)
        for table in CONFIGURATION
        if cells.get(table.name)
    }


class HalfRow(BadReply):
    """A row of which columns are missing: it came or went during a walk, or the agent errs."""


def _rows_of(
    agent: Agent, table: Table, cells: Mapping[Oid, Mapping[str, Any]]
) -> Iterable[tuple[Key, Any]]:
    make, key_type = rows.ROWS[table.name], rows.KEYS[table.name]
    whole = len(table.writable)
    for suffix, fields in cells.items():
        if len(fields) != whole:
            index = ".".join(map(str, suffix))
            raise HalfRow(agent.name, f"gave {len(fields)} columns of {table.name} {index}")
        yield key_type(*table.decode_index(suffix)), make(**fields)


async def read_oper(
    agent: Agent, table: Table, fields: Collection[str] | None = None
) -> dict[Key, dict[str, Any]]:
    """The read-only columns of a table, or those of these fields: key -> field -> value."""
    columns = [
        c
        for c in table.columns
        if c.access.readable and not c.access.writable and (fields is None or c.field in fields)
    ]
    walked = await agent.walk(*(column.oid for column in columns))
    index = TABLES[table.augments] if table.augments else table
    found: dict[Oid, dict[str, Any]] = {}
    for column, varbinds in zip(columns, walked, strict=True):
        for suffix, value in _column(column, varbinds).items():
            found.setdefault(suffix, {})[column.field] = value
    key_type = rows.KEYS[index.name]
    return {key_type(*index.decode_index(suffix)): cells for suffix, cells in found.items()}


_SYNC = tuple(
    (table, table.column("sync"), table.column("last_error"))
    for table in TABLES.values()
    if any(column.field == "sync" for column in table.columns)
)


async def read_out_of_sync(agent: Agent) -> list[OutOfSync]:
    """All rows that are not inSync, in the order of the tables."""
    roots = [column.oid for _, sync, error in _SYNC for column in (sync, error)]
    walked = await agent.walk(*roots)
    found = []
    for position, (table, sync, error) in enumerate(_SYNC):
        states = _column(sync, walked[2 * position])
        errors = _column(error, walked[2 * position + 1])
        index = TABLES[table.augments] if table.augments else table
        for suffix, state in states.items():
            if state is not rows.Sync.inSync:
                key = rows.KEYS[index.name](*index.decode_index(suffix))
                found.append(OutOfSync(index.name, key, state, errors.get(suffix, "")))
    return found


async def _read_drifted(agent: Agent) -> tuple[OutOfSync, ...]:
    return tuple(row for row in await read_out_of_sync(agent) if row.sync is rows.Sync.drifted)


async def read(
    agent: Agent,
    settled: Callable[[Scalars, Names], bool] | None = None,
    known: Mapping[bytes, Tables] | None = None,
) -> Reading:
    """A host at one moment.

    Rows are not walked where nobody has configured any, where `settled` says that the digest
    tells enough, nor where the rows of that digest are `known`. Raises `KeepsChanging` when
    somebody changes the configuration again and again meanwhile.
    """
    scalars = await read_scalars(agent)
    for _ in range(_CONSISTENT_TRIES):
        names = await read_names(agent)
        drifted = await _read_drifted(agent) if scalars.out_of_sync else ()
        if scalars.digest == EMPTY_DIGEST:
            return Reading(scalars, names, {}, drifted)
        if settled is not None and settled(scalars, names):
            return Reading(scalars, names, None, drifted)
        if known is not None and scalars.digest in known:
            return Reading(scalars, names, known[scalars.digest], drifted)
        try:
            found, half = await read_rows(agent, names), None
        except HalfRow as error:
            found, half = {}, error
        after = await read_scalars(agent)
        if (after.generation, after.digest) == (scalars.generation, scalars.digest):
            if half is not None:
                raise half
            return Reading(after, names, found, drifted)
        scalars = after
    raise KeepsChanging(
        f"agent {agent.name}: its configuration changed {_CONSISTENT_TRIES} times while being "
        "read; find out who else is changing it (vmib status)"
    )


def _column(column: Column, varbinds: Iterable[VarBind]) -> dict[Oid, Any]:
    prefix = len(column.oid)
    return {oid[prefix:]: decoded(column, value) for oid, value in varbinds}


def decoded(leaf: Column | Scalar, value: Value) -> Any:
    """What an agent says of an object; raises Undecodable where its SYNTAX excludes that."""
    raw, syntax = value.value, leaf.syntax
    if raw is None or value.tag != syntax.tag:
        raise Undecodable(f"{leaf.name}: a value of another type ({value.tag:#x}) was read")
    try:
        syntax.check(leaf.name, raw)
        return syntax.decode(raw)
    except ValueError as error:
        raise Undecodable(f"{leaf.name}: {raw!r} was read: {error}") from None
    except ValueRefused as refused:
        raise Undecodable(f"{leaf.name}: {raw!r} was read; allowed: {refused.allowed}") from None


def raw_of(value: Value) -> Any:
    """The raw value of the protocol, as `vmib.smi` decodes it; exceptions have None."""
    return value.value
