"""From a plan to varbinds: what is written of each row, and the frame of a transaction.

Pure. A group is what has to stand in one message: all varbinds of a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from vmib import objects, rows
from vmib.smi import Column, Oid, Scalar, Table, Tag
from vmib.snmp import Value, VarBind

from .plan import Change, Kind
from .seen import Key

_MAKERS = {
    Tag.INTEGER: Value.integer,
    Tag.OCTET_STRING: Value.octets,
    Tag.OBJECT_IDENTIFIER: Value.oid,
    Tag.UNSIGNED32: Value.unsigned32,
}

Group = tuple[VarBind, ...]

LOCK_MODULUS = 2**31
"""vmibTxnSpinLock is a TestAndIncr (RFC 2579)."""


def varbind(leaf: Column | Scalar, suffix: Oid, value: Any) -> VarBind:
    """A varbind from a Python value."""
    make: Any = _MAKERS[leaf.syntax.tag]
    return VarBind((*leaf.oid, *suffix), make(leaf.syntax.encode(value)))


def _status(table: Table, suffix: Oid, status: rows.RowStatus) -> VarBind:
    column = table.row_status
    assert column is not None
    return varbind(column, suffix, status)


def waves(changes: Iterable[Change]) -> list[list[tuple[Change, Group]]]:
    """The groups of all changes.

    Groups of one wave may share a message; a row that is replaced is destroyed in the first wave
    and created in the second.
    """
    first: list[tuple[Change, Group]] = []
    second: list[tuple[Change, Group]] = []
    for change in changes:
        if change.kind is Kind.REPLACE:
            first.append((change, destruction(change.table, change.key)))
            second.append((change, _creation(change)))
        elif change.kind is Kind.CREATE:
            first.append((change, _creation(change)))
        elif change.kind is Kind.DELETE:
            first.append((change, destruction(change.table, change.key)))
        else:
            first.append((change, _columns(change.table, change.key, change.after, change.fields)))
    return [wave for wave in (first, second) if wave]


def _creation(change: Change) -> Group:
    return creation(change.table, change.key, change.after, change.fields)


def creation(table: Table, key: Key, row: Any, fields: Iterable[str]) -> Group:
    """What creates a row with these fields."""
    created = _status(table, table.encode_index(key), rows.RowStatus.createAndGo)
    return (created, *_columns(table, key, row, fields))


def destruction(table: Table, key: Key) -> Group:
    """What destroys a row."""
    return (_status(table, table.encode_index(key), rows.RowStatus.destroy),)


def _columns(table: Table, key: Key, row: Any, fields: Iterable[str]) -> Group:
    suffix = table.encode_index(key)
    return tuple(varbind(table.column(name), suffix, getattr(row, name)) for name in fields)


def locked(spin_lock: int) -> VarBind:
    """The lock, which goes first in every SET: a replayed or outdated one is refused by it."""
    return varbind(objects.vmibTxnSpinLock, (0,), spin_lock % LOCK_MODULUS)


def opening(index: int, confirm_timeout: int, idle_timeout: int, description: str) -> Group:
    """What opens a transaction; timeouts in seconds."""
    table = objects.vmibTxnTable
    values: Mapping[str, Any] = {
        "confirm_timeout": confirm_timeout,
        "idle_timeout": idle_timeout,
        "description": description,
    }
    created = _status(table, (index,), rows.RowStatus.createAndGo)
    return (
        created,
        *(varbind(table.column(name), (index,), value) for name, value in values.items()),
    )


def action(index: int, step: rows.TxnAction) -> VarBind:
    """What asks a transaction for a step."""
    return varbind(objects.vmibTxnAction, (index,), step)
