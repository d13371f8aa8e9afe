"""Transactions (vmibTxnTable): open, stage, validate, commit, confirm, and their timeouts.

Pure: a step takes a state and gives a state, with what happened in it for notifications. Times
come as `Now`; deadlines are uptimes. An open transaction holds the whole intent as it will be
(`candidate`); one that awaits confirmation holds the intent to return to (`before`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import NamedTuple

from vmib.needs import ROW_STATUS
from vmib.rows import RowStatus, StorageType, Txn, TxnAction, TxnErrorStage, TxnState
from vmib.schema import TABLES, instance
from vmib.status import ErrorStatus

from .numbering import numbered
from .records import evolved
from .service import SetRefused
from .setrequest import RowWrite
from .state import Intent, Key, Now, State, Transaction, TxnError
from .world import PROBE, Problem

COUNTER32 = 2**32
MESSAGE_OCTETS = 255
MAX_ERRORS = 1000

OPEN = frozenset({TxnState.open, TxnState.valid, TxnState.invalid})
"""The states in which SETs of the owner are staged."""


class EventKind(Enum):
    """The notification that tells of an event."""

    FINISHED = "vmibTxnFinished"
    AWAITING_CONFIRM = "vmibTxnAwaitingConfirm"


class Event(NamedTuple):
    """Something to notify: what happened, and the transaction afterwards."""

    kind: EventKind
    transaction: Transaction


class Step(NamedTuple):
    """A state and what happened on the way to it."""

    state: State
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a SET, a timeout or a restart comes to.

    The caller saves `state`, then takes the host from the intent it had to `state.intent` (when
    `applies`), then sends `events`. Where the host refuses, it undoes what it has done and asks
    `commit_failed` for the state to keep instead.

    `positions` lead from a row (table name, key) to the error-index of its varbind; `fallback`
    is the error-index for all other rows. `transaction` is the vmibTxnIndex of the transaction
    whose commit or roll-back this is, or 0. `forced` is True where no SET asked for it, so that
    nobody can be told that it failed.
    """

    state: State
    applies: bool = False
    events: tuple[Event, ...] = ()
    positions: Mapping[tuple[str, Key], int] = field(default_factory=dict)
    fallback: int = 0
    transaction: int = 0
    forced: bool = False

    def position(self, table: str, key: Key) -> int:
        """The error-index to answer with when the host refuses this row."""
        return self.positions.get((table, key), self.fallback)


Check = Callable[[Intent, Intent], Sequence[Problem]]
"""All that stands against the second intent taking the place of the first."""


def transaction(state: State, index: int) -> Transaction | None:
    """The transaction with this vmibTxnIndex, open or finished."""
    if state.current is not None and state.current.index == index:
        return state.current
    return next((txn for txn in state.history if txn.index == index), None)


def with_intent(state: State, intent: Intent, now: Now, by: str) -> State:
    """The state with another committed intent; the same state if nothing differs.

    Probes measure and configure nothing: they do not count as a change of the configuration.
    """
    if intent == state.intent:
        return state
    if {**intent, PROBE: None} == {**state.intent, PROBE: None}:
        return replace(state, intent=intent)
    return replace(
        state,
        intent=intent,
        indexes=numbered(state.indexes, state.intent, intent),
        generation=(state.generation + 1) % COUNTER32,
        last_change=now.wall,
        last_change_by=by,
    )


def opened(state: State, write: RowWrite, principal: str, now: Now, may: frozenset[str]) -> State:
    """The state after createAndGo in vmibTxnTable; `may` are the host's capabilities."""
    index: int = write.key[0]
    if state.current is not None:
        reason = f"transaction {state.current.index} of {state.current.owner} is not finished"
        raise write.refuse(ErrorStatus.inconsistentValue, ROW_STATUS, reason)
    if transaction(state, index) is not None:
        reason = f"transaction {index} is in the history"
        raise write.refuse(ErrorStatus.inconsistentValue, ROW_STATUS, reason)
    values = Txn(**{name: cell.value for name, cell in write.columns.items()})
    if "transactions" not in may:
        reason = "this host lacks transactions (vmibHostCapabilities)"
        raise write.refuse(ErrorStatus.resourceUnavailable, ROW_STATUS, reason)
    _check_confirm_timeout(write, values.confirm_timeout, may)
    txn = Transaction(
        index=index,
        owner=principal,
        state=TxnState.open,
        confirm_timeout=values.confirm_timeout,
        idle_timeout=values.idle_timeout,
        description=values.description,
        opened=now.wall,
        candidate=state.intent,
    )
    return replace(state, current=_waiting(txn, txn.idle_timeout, now))


def rewritten(
    state: State, write: RowWrite, principal: str, now: Now, may: frozenset[str]
) -> State:
    """The state after a SET of timeouts and description of an existing transaction."""
    txn = _found(state, write)
    if txn.owner != principal:
        raise SetRefused(
            ErrorStatus.inconsistentValue,
            min(cell.position for cell in write.cells.values()),
            f"transaction {txn.index} belongs to {txn.owner}",
        )
    values = {name: cell.value for name, cell in write.columns.items() if name != "action"}
    if not values:
        return state
    if txn is not state.current:
        raise write.refuse(
            ErrorStatus.inconsistentValue,
            next(iter(values)),
            f"transaction {txn.index} is finished",
        )
    txn = replace(txn, **values)
    if "confirm_timeout" in values:
        _check_confirm_timeout(write, txn.confirm_timeout, may)
        if txn.state is TxnState.awaitingConfirm:
            if txn.confirm_timeout == 0:
                reason = "the commit awaits confirmation; write confirm to make it final"
                raise write.refuse(ErrorStatus.inconsistentValue, "confirm_timeout", reason)
            txn = _waiting(txn, txn.confirm_timeout, now)
    return replace(state, current=txn)


def _check_confirm_timeout(write: RowWrite, timeout: int, may: frozenset[str]) -> None:
    if timeout and "confirmedCommit" not in may:
        reason = "this host lacks confirmedCommit (vmibHostCapabilities); 0 commits for good"
        raise write.refuse(ErrorStatus.resourceUnavailable, "confirm_timeout", reason)


def _found(state: State, write: RowWrite) -> Transaction:
    txn = transaction(state, write.key[0])
    if txn is not None:
        return txn
    status = ErrorStatus.inconsistentName
    if write.status is RowStatus.active:
        status = ErrorStatus.inconsistentValue
    raise SetRefused(status, write.position, f"there is no transaction {write.key[0]}")


def restaged(txn: Transaction, candidate: Intent, changes: int, now: Now) -> Transaction:
    """An open transaction after its owner has staged something: `staged` and `kept_alive`."""
    return evolved(
        txn,
        {
            "state": TxnState.open,
            "candidate": candidate,
            "changes": changes,
            "errors": (),
            "deadline": now.uptime + txn.idle_timeout,
            "wall_deadline": now.wall + txn.idle_timeout,
        },
    )


def staged(state: State, candidate: Intent, changes: int) -> State:
    """The state with another candidate in its open transaction."""
    assert state.current is not None
    txn = replace(
        state.current, state=TxnState.open, candidate=candidate, changes=changes, errors=()
    )
    return replace(state, current=txn)


def kept_alive(state: State, principal: str, now: Now) -> State:
    """The state after any SET of the owner: the idle timeout starts anew."""
    txn = state.current
    if txn is None or txn.state not in OPEN or txn.owner != principal:
        return state
    return evolved(state, {"current": _waiting(txn, txn.idle_timeout, now)})


def _waiting(txn: Transaction, timeout: int, now: Now) -> Transaction:
    times = {"deadline": now.uptime + timeout, "wall_deadline": now.wall + timeout}
    return evolved(txn, times)


def _finished(state: State, txn: Transaction, final: TxnState, now: Now) -> Step:
    """Moves a transaction into the history."""
    txn = replace(
        txn,
        state=final,
        closed=now.wall,
        candidate=None,
        before=None,
        deadline=None,
        wall_deadline=None,
    )
    history = (*state.history, txn)[-state.history_size :]
    return Step(replace(state, current=None, history=history), (Event(EventKind.FINISHED, txn),))


def _validate(state: State, txn: Transaction, now: Now, by: str, check: Check) -> Step:
    assert txn.candidate is not None
    return Step(replace(state, current=_checked(state, txn, txn.candidate, check)))


def _checked(state: State, txn: Transaction, candidate: Intent, check: Check) -> Transaction:
    errors = _errors(check(state.intent, candidate), TxnErrorStage.validate)
    return replace(txn, state=TxnState.invalid if errors else TxnState.valid, errors=errors)


def _commit(state: State, txn: Transaction, now: Now, by: str, check: Check) -> Step:
    candidate = txn.candidate
    assert candidate is not None
    txn = _checked(state, txn, candidate, check)
    if txn.state is TxnState.invalid:
        return Step(replace(state, current=txn))
    before = state.intent
    state = with_intent(state, candidate, now, by)
    if txn.confirm_timeout == 0:
        return _finished(state, txn, TxnState.committed, now)
    txn = replace(txn, state=TxnState.awaitingConfirm, candidate=None, before=before)
    txn = _waiting(txn, txn.confirm_timeout, now)
    return Step(replace(state, current=txn), (Event(EventKind.AWAITING_CONFIRM, txn),))


def _confirm(state: State, txn: Transaction, now: Now, by: str, check: Check) -> Step:
    return _finished(state, txn, TxnState.committed, now)


def _abort(state: State, txn: Transaction, now: Now, by: str, check: Check) -> Step:
    return _finished(state, txn, TxnState.aborted, now)


def _roll_back(state: State, txn: Transaction, now: Now, by: str, check: Check) -> Step:
    assert txn.before is not None
    return _finished(with_intent(state, txn.before, now, by), txn, TxnState.rolledBack, now)


_Transition = Callable[[State, Transaction, Now, str, Check], Step]
_WHILE_OPEN: Mapping[TxnAction, _Transition] = {
    TxnAction.validate: _validate,
    TxnAction.commit: _commit,
    TxnAction.abort: _abort,
}
ACTIONS: Mapping[TxnState, Mapping[TxnAction, _Transition]] = {
    TxnState.open: _WHILE_OPEN,
    TxnState.valid: _WHILE_OPEN,
    TxnState.invalid: _WHILE_OPEN,
    TxnState.awaitingConfirm: {TxnAction.confirm: _confirm, TxnAction.abort: _roll_back},
}
"""What vmibTxnAction does in each state; any other pair is inconsistentValue."""


def acted(state: State, write: RowWrite, principal: str, now: Now, check: Check) -> Step:
    """The step that vmibTxnAction or destroy asks for."""
    if write.status is RowStatus.destroy:
        return _destroyed(state, write, principal, now, check)
    cell = write.cells.get("action")
    if cell is None or cell.value is TxnAction.none:
        return Step(state)
    txn = _found(state, write)
    transition = ACTIONS.get(txn.state, {}).get(cell.value)
    if transition is None:
        reason = f"{cell.value.name} is not possible: the transaction is {txn.state.name}"
        raise SetRefused(ErrorStatus.inconsistentValue, cell.position, reason)
    return transition(state, txn, now, principal, check)


def _destroyed(state: State, write: RowWrite, principal: str, now: Now, check: Check) -> Step:
    txn = state.current
    if txn is not None and txn.index == write.key[0]:
        return ACTIONS[txn.state][TxnAction.abort](state, txn, now, principal, check)
    history = tuple(old for old in state.history if old.index != write.key[0])
    return Step(replace(state, history=history))


def tick(state: State, now: Now) -> Decision | None:
    """What the running timeout does, if its time has come: abort, or roll back."""
    txn = state.current
    if txn is None or txn.deadline is None or now.uptime < txn.deadline:
        return None
    return _ended(state, now)


def next_deadline(state: State) -> float | None:
    """The uptime at which `tick` has something to do, or None."""
    return None if state.current is None else state.current.deadline


def recovered(state: State, now: Now) -> Decision:
    """The state to start with after a restart.

    An open transaction is aborted, a commit that was not confirmed rolled back, and volatile
    rows are gone.
    """
    ended = Decision(state, forced=True) if state.current is None else _ended(state, now)
    lasting = {
        table: kept
        for table, rows in ended.state.intent.items()
        if (kept := {k: r for k, r in rows.items() if r.storage_type != StorageType.volatile})
    }
    after = with_intent(ended.state, lasting, now, "")
    return replace(ended, state=after, applies=after.intent != state.intent)


def _ended(state: State, now: Now) -> Decision:
    txn = state.current
    assert txn is not None
    transition = _abort if txn.before is None else _roll_back
    after, events = transition(state, txn, now, "", lambda _, __: ())
    applies = after.intent is not state.intent
    return Decision(after, applies, events, transaction=txn.index, forced=True)


def commit_failed(
    state: State, decision: Decision, problems: Sequence[Problem], now: Now
) -> Decision:
    """What to keep after the host refused a decision; `state` is the one before it.

    A refused commit fails its transaction and changes nothing else. A refused roll-back that a
    SET asked for leaves the commit awaiting confirmation, to be rolled back by its timeout. A
    refused roll-back that nobody asked for stands: the intent is the earlier one, and the host
    is brought to it by repair; the transaction is failed.
    """
    if decision.forced:
        return _unenforced(decision, problems)
    txn = transaction(decision.state, decision.transaction)
    if txn is None:
        return Decision(state)
    if state.current is not None and state.current.state is TxnState.awaitingConfirm:
        errors = _errors(problems, TxnErrorStage.undo)
        return Decision(replace(state, current=replace(state.current, errors=errors)))
    txn = replace(txn, errors=_errors(problems, TxnErrorStage.apply))
    after, events = _finished(state, txn, TxnState.failed, now)
    return Decision(after, events=events)


def _unenforced(decision: Decision, problems: Sequence[Problem]) -> Decision:
    errors = _errors(problems, TxnErrorStage.undo)
    history = tuple(
        replace(txn, state=TxnState.failed, errors=errors)
        if txn.index == decision.transaction
        else txn
        for txn in decision.state.history
    )
    events = tuple(Event(EventKind.FINISHED, txn) for txn in history[-1:] if decision.transaction)
    return Decision(replace(decision.state, history=history), False, events, forced=True)


def _errors(problems: Sequence[Problem], stage: TxnErrorStage) -> tuple[TxnError, ...]:
    errors = [
        TxnError(_instance(problem), stage, _cut(problem.message))
        for problem in problems[:MAX_ERRORS]
    ]
    if len(problems) > MAX_ERRORS:
        last = problems[MAX_ERRORS]
        more = f"and {len(problems) - MAX_ERRORS} more errors, from this instance on"
        errors.append(TxnError(_instance(last), stage, more))
    return tuple(errors)


def _instance(problem: Problem) -> tuple[int, ...]:
    """The instance to name: that of the field, or of the first column a manager can write."""
    table = TABLES[problem.table]
    field_name = problem.field
    if field_name == ROW_STATUS and table.row_status is None:
        field_name = table.writable[0].field
    return instance(table, field_name, problem.key)


def _cut(message: str) -> str:
    return message.encode()[:MESSAGE_OCTETS].decode(errors="ignore")
