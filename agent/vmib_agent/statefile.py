"""The state on disk: one checksummed JSON file, replaced atomically, the previous one kept.

A write returns only when the new file and its name are on stable storage (write, fsync, rename,
fsync of the directory), so that what a manager was told survives a power cut. What is open but
not committed is not written: a restart aborts it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from vmib.errors import VmibError
from vmib.rows import KEYS, ROWS, TxnErrorStage, TxnState
from vmib.schema import TABLES
from vmib.smi import Column, Kind, Table

from .persistent import persistent
from .state import Indexes, Intent, Key, State, Transaction, TxnError

FORMAT = 1
NAME = "state.json"
PREVIOUS = "state.previous.json"


class StateUnreadable(VmibError):
    """The state file exists and cannot be trusted; an empty intent must not be guessed."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}; the kernel is left as it is. Restore the file, or copy "
            f"{PREVIOUS} over it, or remove it to start with an empty configuration"
        )
        self.path = path
        self.reason = reason


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file of mode 0600 so that a reader sees the old or the new, also after a crash."""
    temporary = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.rename(path)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class StateFile:
    """The state file of one agent, in a directory that only the agent can enter."""

    def __init__(self, directory: Path) -> None:
        self._encoder = _Encoder()
        self.path = directory / NAME
        self.previous = directory / PREVIOUS

    def load(self) -> State | None:
        """The state as last saved, or None where there is no file; raises `StateUnreadable`."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnreadable(self.path, error.strerror or str(error)) from error
        with os.fdopen(handle, "rb") as file:
            data = file.read()
        try:
            return decode(data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateUnreadable(self.path, f"cannot be read ({error})") from error

    def save(self, state: State) -> None:
        """Write the state; raises `OSError` (full disk, read-only) and then nothing has changed."""
        data = self._encoder.encode(state)
        if not self.path.exists():
            write_atomically(self.path, data)
            return
        self.previous.unlink(missing_ok=True)
        os.link(self.path, self.previous)
        try:
            write_atomically(self.path, data)
        except OSError:
            self.restore()
            raise

    def restore(self) -> None:
        """Make the state before the last save the state again, which needs no space on the disk.

        Raises `OSError`.
        """
        self.previous.rename(self.path)
        _sync_directory(self.path.parent)


def encode(state: State) -> bytes:
    """The file's contents for a state."""
    return _Encoder().encode(state)


def decode(data: bytes) -> State:
    """The state in a file's contents; raises ValueError, KeyError or TypeError."""
    document = json.loads(data)
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}, this agent reads {FORMAT}")
    body = _json(document["state"])
    if hashlib.sha256(body.encode()).hexdigest() != document["sha256"]:
        raise ValueError("checksum does not match")
    return _state_from_json(document["state"])


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _object(members: Mapping[str, str]) -> str:
    """A JSON object whose values are JSON already, as `_json` would write it."""
    return "{" + ",".join(f"{_json(name)}:{text}" for name, text in sorted(members.items())) + "}"


class _Encoder:
    """Writes one state after the other, and anew only those tables that differ from the last one.

    Rows never change, they are only replaced: while a table is kept here its `id` stands for it.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Mapping[Key, Any], str]] = {}
        self._used: dict[int, tuple[Mapping[Key, Any], str]] = {}

    def encode(self, state: State) -> bytes:
        """The file's contents for a state."""
        self._used = {}
        body = self._state(state)
        self._known = self._used
        checksum = hashlib.sha256(body.encode()).hexdigest()
        return f'{{"format":{FORMAT},"sha256":"{checksum}","state":{body}}}\n'.encode()

    def _state(self, state: State) -> str:
        current = state.current
        keep = current is not None and current.before is not None
        members = {
            "spin_lock": state.spin_lock,
            "vms": dict(state.indexes.vms),
            "vifs": [[uuid, mac, index] for (uuid, mac), index in state.indexes.vifs.items()],
            "next_vm": state.indexes.next_vm,
            "generation": state.generation,
            "last_change": state.last_change,
            "last_change_by": state.last_change_by,
            "history_size": state.history_size,
            "notify_enable": sorted(state.notify_enable),
            "notify_min_interval": state.notify_min_interval,
        }
        texts = {name: _json(value) for name, value in members.items()}
        texts["intent"] = self._intent(state.intent)
        texts["current"] = self._transaction(current) if current is not None and keep else "null"
        texts["history"] = f"[{','.join(map(self._transaction, state.history))}]"
        return _object(texts)

    def _intent(self, intent: Intent) -> str:
        return _object({name: self._rows(TABLES[name], rows) for name, rows in intent.items()})

    def _rows(self, table: Table, rows: Mapping[Key, Any]) -> str:
        known = self._known.get(id(rows))
        text = _rows_text(table, rows) if known is None else known[1]
        self._used[id(rows)] = rows, text
        return text

    def _transaction(self, txn: Transaction) -> str:
        members = {
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
            "wall_deadline": txn.wall_deadline,
        }
        texts = {name: _json(value) for name, value in members.items()}
        texts["before"] = "null" if txn.before is None else self._intent(txn.before)
        return _object(texts)


def _rows_text(table: Table, rows: Mapping[Key, Any]) -> str:
    return _json(
        [
            [
                [_to_json(c, v) for c, v in zip(table.index, key, strict=True)],
                {c.field: _to_json(c, getattr(row, c.field)) for c in table.writable},
            ]
            for key, row in rows.items()
        ]
    )


def _state_from_json(body: Mapping[str, Any]) -> State:
    return State(
        spin_lock=int(body["spin_lock"]),
        intent=_intent_from_json(body["intent"]),
        indexes=Indexes(
            vms={str(uuid): int(index) for uuid, index in body["vms"].items()},
            vifs={(uuid, mac): int(index) for uuid, mac, index in body["vifs"]},
            next_vm=int(body["next_vm"]),
        ),
        generation=int(body["generation"]),
        last_change=body["last_change"],
        last_change_by=body["last_change_by"],
        current=None if body["current"] is None else _transaction_from_json(body["current"]),
        history=tuple(_transaction_from_json(txn) for txn in body["history"]),
        history_size=int(body["history_size"]),
        notify_enable=frozenset(body["notify_enable"]),
        notify_min_interval=int(body["notify_min_interval"]),
    )


def _intent_from_json(document: Mapping[str, Any]) -> Intent:
    intent: dict[str, Mapping[Key, Any]] = {}
    for name, rows in document.items():
        table = TABLES[name]
        row_class = ROWS[name]
        key_class = KEYS[name]
        loaded: dict[tuple[Any, ...], Any] = {}
        for key, fields in rows:
            decoded = [_from_json(c, v) for c, v in zip(table.index, key, strict=True)]
            values = {f: _from_json(table.column(f), value) for f, value in fields.items()}
            loaded[key_class(*decoded)] = row_class(**values)
        intent[name] = persistent(loaded)
    return intent


def _to_json(column: Column, value: Any) -> Any:
    if column.syntax.kind is Kind.INET:
        return None if value is None else str(value)
    if column.syntax.kind in (Kind.INT, Kind.NAMED):
        return int(value)
    return value


def _from_json(column: Column, value: Any) -> Any:
    if column.syntax.kind is Kind.INET:
        return None if value is None else ip_address(value)
    if column.syntax.enum is not None:
        return column.syntax.enum(value)
    return value


def _transaction_from_json(body: Mapping[str, Any]) -> Transaction:
    return Transaction(
        index=int(body["index"]),
        owner=body["owner"],
        state=TxnState(body["state"]),
        confirm_timeout=int(body["confirm_timeout"]),
        idle_timeout=int(body["idle_timeout"]),
        description=body["description"],
        opened=body["opened"],
        closed=body["closed"],
        changes=int(body["changes"]),
        errors=tuple(
            TxnError(tuple(oid), TxnErrorStage(stage), message)
            for oid, stage, message in body["errors"]
        ),
        before=None if body["before"] is None else _intent_from_json(body["before"]),
        wall_deadline=body["wall_deadline"],
    )
