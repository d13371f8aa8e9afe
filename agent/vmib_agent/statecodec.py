"""The state as JSON, and what differs between two states as JSON.

What is open but not committed is not written: a restart aborts it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter, is_
from typing import Any

from vmib.addresses import address
from vmib.rows import KEYS, ROWS, TxnErrorStage, TxnState
from vmib.schema import TABLES
from vmib.smi import Column, Kind

from .persistent import GONE, differing, persistent
from .state import EMPTY, Indexes, Intent, Key, State, Transaction, TxnError

Document = Mapping[str, Any]
"""What stands in JSON."""

_PLAIN = (
    "spin_lock",
    "generation",
    "last_change",
    "last_change_by",
    "history_size",
    "notify_min_interval",
)
"""What of a state is in JSON as it is."""


def to_json(value: Any) -> str:
    """The one JSON text of a value."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def document_of(state: State) -> Document:
    """A whole state."""
    return {name: getattr(state, name) for name in _PLAIN} | {
        "notify_enable": sorted(state.notify_enable),
        "next_vm": state.indexes.next_vm,
        "vms": dict(state.indexes.vms),
        "vifs": [[uuid, mac, index] for (uuid, mac), index in state.indexes.vifs.items()],
        "intent": {
            name: [_row(name, key, row) for key, row in rows.items()]
            for name, rows in state.intent.items()
        },
        "current": _current(state),
        "history": [_transaction(txn) for txn in state.history],
    }


def state_of(document: Document) -> State:
    """The state in a document; raises ValueError, KeyError, TypeError or AttributeError."""
    return State(
        **{name: document[name] for name in _PLAIN},
        notify_enable=frozenset(document["notify_enable"]),
        indexes=Indexes(
            vms={str(uuid): int(index) for uuid, index in document["vms"].items()},
            vifs={(uuid, mac): int(index) for uuid, mac, index in document["vifs"]},
            next_vm=int(document["next_vm"]),
        ),
        intent={
            name: persistent(dict(_rows(name, rows))) for name, rows in document["intent"].items()
        },
        current=_current_of(document["current"]),
        history=tuple(map(_transaction_of, document["history"])),
    )


def changes_between(old: State, new: State) -> Document:
    """What has to be known beside the old state for the new one; nothing if nothing differs.

    A commit that awaits confirmation has the rows to return to as they differ from those of the
    new state.
    """
    found: dict[str, Any] = {
        name: getattr(new, name) for name in _PLAIN if getattr(new, name) != getattr(old, name)
    }
    if new.notify_enable != old.notify_enable:
        found["notify_enable"] = sorted(new.notify_enable)
    if new.indexes is not old.indexes:
        found |= _numbers_between(old.indexes, new.indexes)
    rows = _rows_between(old.intent, new.intent)
    if rows:
        found["intent"] = rows
    if new.history != old.history:
        found["history"] = _history_between(old.history, new.history)
    if _awaiting(new) != _awaiting(old):
        found["current"] = _current(new, new.intent)
    return found


def changed(state: State, changes: Document) -> State:
    """The state with changes; raises what `state_of` raises."""
    values = {name: changes[name] for name in _PLAIN if name in changes}
    if "notify_enable" in changes:
        values["notify_enable"] = frozenset(changes["notify_enable"])
    if not changes.keys().isdisjoint(("vms", "vifs", "next_vm")):
        values["indexes"] = _numbers_changed(state.indexes, changes)
    if "intent" in changes:
        values["intent"] = _rows_changed(state.intent, changes["intent"])
    if "history" in changes:
        forgotten, added = changes["history"]
        values["history"] = (*state.history[forgotten:], *map(_transaction_of, added))
    state = replace(state, **values)
    if "current" in changes:
        state = replace(state, current=_current_of(changes["current"], state.intent))
    return state


def _awaiting(state: State) -> Transaction | None:
    """The transaction that is written: one whose commit awaits confirmation."""
    current = state.current
    return current if current is not None and current.before is not None else None


def _current(state: State, base: Intent = EMPTY) -> Document | None:
    current = _awaiting(state)
    if current is None or current.before is None:
        return None
    return {**_transaction(current), "before": _rows_between(base, current.before)}


def _current_of(document: Document | None, base: Intent = EMPTY) -> Transaction | None:
    if document is None:
        return None
    return replace(_transaction_of(document), before=_rows_changed(base, document["before"]))


def _rows_between(old: Intent, new: Intent) -> dict[str, list[Any]]:
    """The rows that differ, as they are in the new intent."""
    found = {}
    for name in old.keys() | new.keys():
        rows = new.get(name, {})
        keys = differing(old.get(name, {}), rows)
        if keys:
            found[name] = [_row(name, key, rows.get(key)) for key in keys]
    return found


def _rows_changed(intent: Intent, changes: Mapping[str, Sequence[Any]]) -> Intent:
    tables = dict(intent)
    for name, rows in changes.items():
        tables[name] = persistent(tables.get(name, {})).changed(dict(_rows(name, rows)))
    return {name: rows for name, rows in tables.items() if rows}


def _numbers_between(old: Indexes, new: Indexes) -> Document:
    found: dict[str, Any] = {}
    vms = {uuid: new.vms.get(uuid) for uuid in differing(old.vms, new.vms)}
    vifs = [[*owner, new.vifs.get(owner)] for owner in differing(old.vifs, new.vifs)]
    if vms:
        found["vms"] = vms
    if vifs:
        found["vifs"] = vifs
    if new.next_vm != old.next_vm:
        found["next_vm"] = new.next_vm
    return found


def _numbers_changed(indexes: Indexes, changes: Document) -> Indexes:
    vms = {**indexes.vms, **changes.get("vms", {})}
    vifs = {**indexes.vifs, **{(u, mac): number for u, mac, number in changes.get("vifs", ())}}
    return Indexes(
        {uuid: number for uuid, number in vms.items() if number is not None},
        {owner: number for owner, number in vifs.items() if number is not None},
        changes.get("next_vm", indexes.next_vm),
    )


def _history_between(
    old: Sequence[Transaction], new: Sequence[Transaction]
) -> tuple[int, list[Document]]:
    """How many of the oldest are forgotten, and what comes after the others."""
    for kept in range(min(len(old), len(new)), 0, -1):
        if all(map(is_, old[-kept:], new[:kept])):
            return len(old) - kept, [_transaction(txn) for txn in new[kept:]]
    return len(old), [_transaction(txn) for txn in new]


@dataclass(frozen=True, slots=True)
class _Codec:
    """How rows of one table are written and read."""

    fields: tuple[str, ...]
    get: Callable[[Any], tuple[Any, ...]]
    writers: Mapping[str, Callable[[Any], Any]]
    readers: Mapping[str, Callable[[Any], Any]]
    key_writers: tuple[Callable[[Any], Any], ...]
    key_readers: tuple[Callable[[Any], Any], ...]


@cache
def _codec(table: str) -> _Codec:
    columns, index = TABLES[table].writable, TABLES[table].index
    fields = tuple(column.field for column in columns)
    return _Codec(
        fields,
        attrgetter(*fields),
        {c.field: made for c in columns if (made := _writer(c)) is not _as_it_is},
        {c.field: made for c in columns if (made := _reader(c)) is not _as_it_is},
        tuple(map(_writer, index)),
        tuple(map(_reader, index)),
    )


def _as_it_is(value: Any) -> Any:
    return value


def _writer(column: Column) -> Callable[[Any], Any]:
    if column.syntax.kind is Kind.INET:
        return lambda address: None if address is None else str(address)
    return int if column.syntax.kind in (Kind.INT, Kind.NAMED) else _as_it_is


def _reader(column: Column) -> Callable[[Any], Any]:
    if column.syntax.kind is Kind.INET:
        return lambda text: None if text is None else address(text)
    return column.syntax.enum or _as_it_is


def _row(table: str, key: Key, row: Any) -> list[Any]:
    """A row, or None in its place where it is no more."""
    codec = _codec(table)
    index = [write(part) for write, part in zip(codec.key_writers, key, strict=True)]
    if row is None:
        return [index, None]
    cells = dict(zip(codec.fields, codec.get(row), strict=True))
    for field, write in codec.writers.items():
        cells[field] = write(cells[field])
    return [index, cells]


def _rows(table: str, rows: Sequence[Any]) -> Sequence[tuple[Key, Any]]:
    """Keys and rows, or `GONE` for those that are no more."""
    codec, make_key, make_row = _codec(table), KEYS[table], ROWS[table]
    found = []
    for index, cells in rows:
        key = make_key(*(read(part) for read, part in zip(codec.key_readers, index, strict=True)))
        if cells is None:
            found.append((key, GONE))
            continue
        values = dict(cells)
        for field, read in codec.readers.items():
            if field in values:
                values[field] = read(values[field])
        found.append((key, make_row(**values)))
    return found


def _transaction(txn: Transaction) -> Document:
    return {
        "index": txn.index,
        "owner": txn.owner,
        "state": int(txn.state),
        "confirm_timeout": txn.confirm_timeout,
        "idle_timeout": txn.idle_timeout,
        "description": txn.description,
        "opened": txn.opened,
        "closed": txn.closed,
        "changes": txn.changes,
        "errors": [[list(e.object), int(e.stage), e.message] for e in txn.errors],
        "before": None,
        "wall_deadline": txn.wall_deadline,
    }


def _transaction_of(document: Document) -> Transaction:
    return Transaction(
        index=int(document["index"]),
        owner=document["owner"],
        state=TxnState(document["state"]),
        confirm_timeout=int(document["confirm_timeout"]),
        idle_timeout=int(document["idle_timeout"]),
        description=document["description"],
        opened=document["opened"],
        closed=document["closed"],
        changes=int(document["changes"]),
        errors=tuple(
            TxnError(tuple(oid), TxnErrorStage(stage), message)
            for oid, stage, message in document["errors"]
        ),
        wall_deadline=document["wall_deadline"],
    )
