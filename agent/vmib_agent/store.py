"""What a SET means: from a state and a PDU to the state that follows, or a refusal.

Pure. The order of the varbinds in a PDU does not matter: the lock is tested, scalars are
written, a transaction is opened, rows are changed or staged, and last comes the action.
Outside a transaction the PDU must leave the rows consistent and the host able to follow. Within
one, what rows say of each other is looked at by validate and commit, so that a change larger
than a PDU can come in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from vmib.needs import ROW_STATUS
from vmib.rows import ROWS, HostAgentMode, RowStatus, StorageType, TxnAction, TxnState
from vmib.schema import FIXED, TABLES
from vmib.status import ErrorStatus

from .checks import check_candidate, check_change, check_feasible, row_name
from .persistent import GONE, persistent
from .rules import ROW_RULES
from .service import SetRefused, VarBind
from .setrequest import Cell, RowWrite, SetRequest, parse
from .state import LOCK_MODULUS, Indexes, Intent, Key, Now, State, Transaction
from .transactions import (
    OPEN,
    Decision,
    Event,
    acted,
    kept_alive,
    opened,
    rewritten,
    staged,
    transaction,
    with_intent,
)
from .world import SHAPE, VIF, VM, Problem, World, effective, is_default

_SCALAR_FIELDS = {
    "vmibTxnHistorySize": "history_size",
    "vmibNotifyEnable": "notify_enable",
    "vmibNotifyMinInterval": "notify_min_interval",
}
_PROTECTED = (StorageType.permanent, StorageType.readOnly)
_MANDATORY = {name: tuple((c.field, c.name) for c in TABLES[name].mandatory) for name in ROWS}
_DETERMINED = {VM: ("uuid", "name"), VIF: ("mac_address",)}


def decide(
    state: State, varbinds: Sequence[VarBind], principal: str, now: Now, world: World
) -> Decision:
    """The outcome of a SET PDU by `principal`; raises `SetRefused`, and then nothing changes."""
    request = parse(varbinds, read_only=world.mode is HostAgentMode.readOnly)
    after = _scalars_written(state, request.scalars)
    _check_mode(request, world)
    after = _transactions_opened(after, request.transactions, principal, now, world)
    positions: Mapping[tuple[str, Key], int] = {}
    if request.rows:
        after = _rows_written(after, request, principal, now, world)
        positions = {(write.table.name, write.key): write.position for write in request.rows}
    after, events, acting = _acted(after, request.transactions, principal, now, world)
    after = kept_alive(after, principal, now)
    fallback = acting.position_of("action") if acting else min(positions.values(), default=1)
    return Decision(
        after,
        applies=after.intent is not state.intent or _commits(after, acting),
        events=events,
        positions={} if acting else positions,
        fallback=fallback,
        transaction=acting.key[0] if acting else 0,
    )


def _scalars_written(state: State, scalars: Mapping[str, Cell]) -> State:
    lock = scalars.get("vmibTxnSpinLock")
    if lock is not None:
        if lock.value != state.spin_lock:
            reason = f"vmibTxnSpinLock is {state.spin_lock}: something changed in between"
            raise SetRefused(ErrorStatus.inconsistentValue, lock.position, reason)
        state = replace(state, spin_lock=(state.spin_lock + 1) % LOCK_MODULUS)
    fields = {
        _SCALAR_FIELDS[name]: cell.value for name, cell in scalars.items() if name in _SCALAR_FIELDS
    }
    if not fields:
        return state
    state = replace(state, **fields)
    return replace(state, history=state.history[-state.history_size :])


def _check_mode(request: SetRequest, world: World) -> None:
    if world.mode is HostAgentMode.recovering and (request.rows or request.transactions):
        writes = (*request.rows, *request.transactions)
        first = min(cell.position for write in writes for cell in write.cells.values())
        reason = "the agent is recovering (vmibHostAgentMode)"
        raise SetRefused(ErrorStatus.inconsistentValue, first, reason)


def _transactions_opened(
    state: State, writes: Sequence[RowWrite], principal: str, now: Now, world: World
) -> State:
    for write in writes:
        if write.status is RowStatus.createAndGo:
            state = opened(state, write, principal, now, world.capabilities)
        elif write.status is RowStatus.destroy:
            _check_alone(write)
            if transaction(state, write.key[0]) is not None:
                state = rewritten(state, write, principal, now, world.capabilities)
        else:
            state = rewritten(state, write, principal, now, world.capabilities)
    return state


def _acted(
    state: State, writes: Sequence[RowWrite], principal: str, now: Now, world: World
) -> tuple[State, tuple[Event, ...], RowWrite | None]:
    """The state after actions and destroys, events, and the write that acted on the intent."""
    events: tuple[Event, ...] = ()
    acting: RowWrite | None = None
    for write in writes:
        check = partial(check_candidate, world=world, indexes=state.indexes)
        before = state.current
        step = acted(state, write, principal, now, check)
        if step.state.current is not before:
            acting = write
        state, events = step.state, (*events, *step.events)
    return state, events, acting


def _commits(after: State, acting: RowWrite | None) -> bool:
    """Whether a commit was taken: it makes the host as its rows say also where none differs."""
    if acting is None or "action" not in acting.cells:
        return False
    if acting.cells["action"].value is not TxnAction.commit:
        return False
    txn = transaction(after, acting.key[0])
    return txn is not None and txn.state in (TxnState.awaitingConfirm, TxnState.committed)


def _check_alone(write: RowWrite) -> None:
    """Refuse columns beside destroy: they would be lost."""
    if write.columns:
        field = min(write.columns, key=lambda name: write.columns[name].position)
        reason = f"{row_name(write.table.name, write.key)} is destroyed by the same SET"
        raise write.refuse(ErrorStatus.inconsistentValue, field, reason)


def _rows_written(
    state: State, request: SetRequest, principal: str, now: Now, world: World
) -> State:
    txn = state.current
    if txn is not None:
        _check_stageable(txn, request, principal)
    base = state.intent if txn is None or txn.candidate is None else txn.candidate
    edit = _Edit(base, world, state.indexes)
    for write in request.rows:
        edit.write(write)
    after = edit.intent()
    touched = [(write.table.name, write.key) for write in request.rows]
    if txn is not None:
        if edit.next_vm != state.indexes.next_vm:
            state = replace(state, indexes=replace(state.indexes, next_vm=edit.next_vm))
        return _staged(state, txn, after, touched)
    _refuse_first(request, check_change(base, after, touched, world, state.indexes))
    if after != base:
        _refuse_first(request, check_feasible(base, after, touched, world))
    return with_intent(state, after, now, principal)


def _check_stageable(txn: Transaction, request: SetRequest, principal: str) -> None:
    if txn.owner != principal:
        reason = f"transaction {txn.index} of {txn.owner} is not finished"
    elif txn.state not in OPEN:
        reason = f"the commit of transaction {txn.index} awaits confirmation"
    else:
        return
    raise SetRefused(ErrorStatus.inconsistentValue, request.first_row, reason)


def _staged(
    state: State, txn: Transaction, after: Intent, touched: Sequence[tuple[str, Key]]
) -> State:
    """The state with a candidate; counting the rows that it changes by those touched."""
    changes, differs = txn.changes, False
    for table, key in touched:
        committed, before, now = (
            intent.get(table, {}).get(key) for intent in (state.intent, txn.candidate or {}, after)
        )
        changes += (now != committed) - (before != committed)
        differs = differs or now != before
    return staged(state, after, changes) if differs else state


def _refuse_first(request: SetRequest, problems: Sequence[Problem]) -> None:
    """Refuse because of the problem with the lowest position, if there is any."""
    if not problems:
        return
    writes = {(write.table.name, write.key): write for write in request.rows}

    def position(problem: Problem) -> int:
        write = writes.get((problem.table, problem.key))
        return request.first_row if write is None else write.position_of(problem.field)

    first = min(problems, key=position)
    reason = f"{row_name(first.table, first.key)}: {first.message}"
    raise SetRefused(first.status, position(first), reason)


class _Edit:
    """An intent being changed row by row."""

    def __init__(self, intent: Intent, world: World, indexes: Indexes) -> None:
        self.next_vm = indexes.next_vm
        self._numbers = indexes.vms
        self._world = world
        self._tables: dict[str, Mapping[Key, Any]] = dict(intent)

    def intent(self) -> Intent:
        """The intent as it is now."""
        return {name: rows for name, rows in self._tables.items() if rows}

    def write(self, write: RowWrite) -> None:
        """Do what a PDU says of one row; raises `SetRefused`."""
        if write.status is RowStatus.createAndGo:
            self._create(write)
        elif write.status is RowStatus.destroy:
            self._destroy(write)
        else:
            self._update(write)

    def _put(self, table: str, key: Key, row: Any) -> None:
        """Make this the row, or have none if it is `GONE`."""
        rows = persistent(self._tables.get(table, {}))
        self._tables[table] = rows.changed({key: row})

    def _create(self, write: RowWrite) -> None:
        table = write.table.name
        if effective(self._tables, self._world, table, write.key) is not None:
            reason = f"{row_name(table, write.key)} exists"
            raise write.refuse(ErrorStatus.inconsistentValue, ROW_STATUS, reason)
        missing = [name for field, name in _MANDATORY[table] if field not in write.cells]
        if missing:
            reason = f"{row_name(table, write.key)} needs {', '.join(missing)} in the same SET"
            raise write.refuse(ErrorStatus.inconsistentValue, ROW_STATUS, reason)
        limit = self._world.limits.get(table)
        if limit is not None and len(self._tables.get(table, {})) >= limit:
            reason = f"{table} has its {limit} rows"
            raise write.refuse(ErrorStatus.resourceUnavailable, ROW_STATUS, reason)
        row = ROWS[table](**{name: cell.value for name, cell in write.columns.items()})
        if table == VM:
            self._take_number(write, row.uuid)
        _check_row(write, row)
        self._put(table, write.key, row)

    def _take_number(self, write: RowWrite, uuid: str) -> None:
        index = write.key[0]
        if self._numbers.get(uuid, self.next_vm) == index:
            self.next_vm = max(self.next_vm, index + 1)
            return
        if uuid in self._numbers and index == self.next_vm:
            reason = f"this machine has the vmibVmIndex {self._numbers[uuid]}"
            raise write.refuse(ErrorStatus.inconsistentValue, "uuid", reason)
        reason = f"vmibVmIndex {index} is not vmibVmNextIndex, {self.next_vm}"
        raise write.refuse(ErrorStatus.inconsistentName, ROW_STATUS, reason)

    def _destroy(self, write: RowWrite) -> None:
        table = write.table.name
        _check_alone(write)
        if self._world.discovers(table, write.key):
            reason = f"the hypervisor reports {row_name(table, write.key)}"
            raise write.refuse(ErrorStatus.inconsistentValue, ROW_STATUS, reason)
        stored = self._tables.get(table, {}).get(write.key)
        if stored is None:
            return
        if stored.storage_type in _PROTECTED:
            raise write.refuse(ErrorStatus.notWritable, ROW_STATUS, _protected(write, stored))
        self._put(table, write.key, GONE)

    def _update(self, write: RowWrite) -> None:
        table, key, columns = write.table.name, write.key, write.columns
        row = effective(self._tables, self._world, table, key)
        if row is None:
            active = write.status is RowStatus.active
            status = ErrorStatus.inconsistentValue if active else ErrorStatus.inconsistentName
            raise SetRefused(status, write.position, f"there is no {row_name(table, key)}")
        if not columns:
            return
        self._check_changeable(write, row, columns)
        row = replace(row, **{name: cell.value for name, cell in columns.items()})
        _check_row(write, row)
        cleared = table == SHAPE or self._world.discovers(table, key)
        if cleared and is_default(table, row):
            self._put(table, key, GONE)
        else:
            self._put(table, key, row)

    def _check_changeable(self, write: RowWrite, row: Any, columns: Mapping[str, Cell]) -> None:
        table, key = write.table.name, write.key
        if row.storage_type == StorageType.readOnly:
            field = min(columns, key=lambda name: columns[name].position)
            raise write.refuse(ErrorStatus.notWritable, field, _protected(write, row))
        if row.storage_type == StorageType.permanent and "storage_type" in columns:
            raise write.refuse(ErrorStatus.notWritable, "storage_type", _protected(write, row))
        discovered = self._world.discovers(table, key)
        for field in _DETERMINED.get(table, ()) if discovered else FIXED.get(table, ()):
            if field in columns and columns[field].value != getattr(row, field):
                why = "the hypervisor determines it" if discovered else "it was set for good"
                reason = f"{row_name(table, key)}: {why}: {getattr(row, field)}"
                raise write.refuse(ErrorStatus.inconsistentValue, field, reason)
        mac = columns.get("mac_address")
        if mac is not None and mac.value != row.mac_address:
            machine = self._world.vms.get(key[0])
            if machine is not None and machine.running:
                reason = f"the machine of {row_name(table, key)} is running"
                raise write.refuse(ErrorStatus.inconsistentValue, "mac_address", reason)


def _protected(write: RowWrite, row: Any) -> str:
    return f"{row_name(write.table.name, write.key)} is {row.storage_type.name}"


def _check_row(write: RowWrite, row: Any) -> None:
    """Refuse columns that contradict each other: wrongValue where the PDU gives all of them."""
    created = write.status is RowStatus.createAndGo
    for rule in ROW_RULES.get(write.table.name, ()):
        given = [field for field in rule.fields if field in write.cells]
        if not (given or created) or rule.holds(write.key, row):
            continue
        whole = len(given) == len(rule.fields)
        status = ErrorStatus.wrongValue if whole else ErrorStatus.inconsistentValue
        reason = f"{row_name(write.table.name, write.key)}: {rule.reason}"
        raise write.refuse(status, given[0] if given else ROW_STATUS, reason)
