"""Finding MIB objects: by name, by OID, by row class; and the instances they name."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import objects, rows, vm_mib
from .smi import Column, Oid, Scalar, Table

TABLES: Mapping[str, Table] = {table.name: table for table in objects.TABLES}
SCALARS: Mapping[str, Scalar] = {scalar.name: scalar for scalar in objects.SCALARS}
COLUMNS: Mapping[str, tuple[Table, Column]] = {
    column.name: (table, column) for table in objects.TABLES for column in table.columns
}

CONFIGURATION: tuple[Table, ...] = (
    objects.vmibVmTable,
    objects.vmibVifTable,
    objects.vmibAddrTable,
    objects.vmibShapeTable,
    objects.vmibLinkTable,
    objects.vmibDomainTable,
    objects.vmibSwitchTable,
    objects.vmibRouteTable,
    objects.vmibFilterTable,
)
"""The tables that say how the network behaves, in the order of vmibTxnDigest."""

DISCOVERED = frozenset({"vmibVmTable", "vmibVifTable", "vmibShapeTable"})
"""The tables whose rows exist because the hypervisor reports a machine."""

FIXED: Mapping[str, frozenset[str]] = {
    "vmibVmTable": frozenset({"uuid", "name"}),
    "vmibSwitchTable": frozenset({"name"}),
    "vmibAddrTable": frozenset({"prefix_length"}),
}
"""Fields that are given when a row is created and never change."""

SYNC: Mapping[str, Column] = {
    table.augments or table.name: table.column("sync")
    for table in objects.TABLES
    if any(column.field == "sync" for column in table.columns)
}
"""The Sync column of each table whose rows have one, be it in a table that augments it."""

TABLE_OF_ROW: Mapping[type[Any], Table] = {cls: TABLES[name] for name, cls in rows.ROWS.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """What an OID names: a scalar or a column, and the sub-identifiers after it."""

    object: Scalar | Column
    table: Table | None
    suffix: Oid


LEAVES: tuple[tuple[Oid, Table | None, Scalar | Column], ...] = tuple(
    sorted(
        [(c.oid, t, c) for t in (*objects.TABLES, *vm_mib.TABLES) for c in t.columns]
        + [(s.oid, None, s) for s in (*objects.SCALARS, *vm_mib.SCALARS)],
        key=lambda leaf: leaf[0],
    )
)
"""Every columnar and scalar object with its OID and table, in the order of OIDs: those of VMIB-MIB,
and of VM-MIB (RFC 7666) what `vm_mib` has."""

_LEAF_OIDS = [leaf[0] for leaf in LEAVES]


def locate(oid: Oid) -> Place | None:
    """The object that an instance's OID lies under, or None."""
    position = bisect_right(_LEAF_OIDS, oid) - 1
    if position < 0:
        return None
    prefix, table, leaf = LEAVES[position]
    if oid[: len(prefix)] != prefix:
        return None
    return Place(leaf, table, oid[len(prefix) :])


def instance(table: Table, field: str, key: tuple[Any, ...]) -> Oid:
    """The OID of one cell."""
    return (*table.column(field).oid, *table.encode_index(key))


def instance_name(oid: Oid) -> str:
    """An OID as people read it: `vmibShapeRate.3.1.2`."""
    place = locate(oid)
    if place is None:
        return ".".join(map(str, oid))
    return ".".join([place.object.name, *map(str, place.suffix)])


def describe_key(table: Table, key: tuple[Any, ...]) -> str:
    """A key as people read it: `3.1.toVm`, `3.1.10.0.0.0/24`."""
    parts: list[str] = []
    for column, value in zip(table.index, key, strict=True):
        if column.syntax.convention == "InetAddressType":
            continue
        text = column.syntax.name_of(value)
        if column.syntax.convention == "InetAddressPrefixLength" and parts:
            parts[-1] += f"/{text}"
        else:
            parts.append(text)
    return ".".join(parts)
