"""SETs of the short way (`quickset`), one after another, on top of a state.

What they say is noted, and the state that they come to is made for all of them at once, when
somebody wants to see it: to make a state costs more than all else that such a SET needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from vmib.rows import HostAgentMode, StorageType

from .persistent import GONE, persistent
from .quickset import Cell
from .records import evolved
from .state import LOCK_MODULUS, Intent, Key, Now, State
from .transactions import OPEN, kept_alive, restaged
from .world import SHAPE, World, effective, is_default

_Cells = dict[str, Cell]
"""What a SET says of one row, by field."""


class _Row(NamedTuple):
    """A row as it was, and the values that fields of it have been given since."""

    before: Any
    fields: dict[str, Any]

    def now(self) -> Any:
        """The row as it is."""
        return evolved(self.before, self.fields)


class Judged(NamedTuple):
    """What a SET of the short way comes to: the lock afterwards, and rows with their cells."""

    lock: int
    rows: Sequence[tuple[_Row, _Cells]]


class Staging:
    """A state and what has been set since, as `world` allows it."""

    def __init__(self, state: State, world: World) -> None:
        self.world = world
        self._begin(state)

    def _begin(self, state: State) -> None:
        self._state = state
        self._lock = state.spin_lock
        self._rows: dict[tuple[str, Key], _Row] = {}
        self._owner: str | None = None
        self._candidate: Intent = {}
        self._kept_alive: Now | None = None
        self._is_ahead = False
        txn = state.current
        if txn is not None and txn.candidate is not None and txn.state in OPEN:
            self._owner, self._candidate = txn.owner, txn.candidate

    def state(self) -> State:
        """The state that all of it comes to."""
        if self._is_ahead:
            self._begin(self._made())
        return self._state

    def take(self, cells: Sequence[Cell], principal: str, now: Now) -> bool:
        """Note a SET; or nothing of it, where the long way has to judge it."""
        judged = self.judge(cells, principal)
        if judged is None:
            return False
        for known, fields in judged.rows:
            for name, cell in fields.items():
                if known.fields.get(name, getattr(known.before, name)) != cell.value:
                    known.fields[name] = cell.value
        self._lock = judged.lock
        if principal == self._owner:
            self._kept_alive = now
        self._is_ahead = True
        return True

    def judge(self, cells: Sequence[Cell], principal: str) -> Judged | None:
        """What a SET comes to; None where the long way has to judge it. Nothing is noted."""
        lock = self._lock
        said: dict[tuple[str, Key], _Cells] = {}
        for cell in cells:
            row, field = cell.place.row, cell.place.field
            if row is not None:
                if said.setdefault(row, {}).setdefault(field, cell) is not cell:
                    return None
            elif cell.value == lock == self._lock:
                lock = (lock + 1) % LOCK_MODULUS
            else:
                return None
        if said and (principal != self._owner or self.world.mode is not HostAgentMode.normal):
            return None
        rows = []
        for (table, key), fields in said.items():
            known = self._rows.get((table, key)) or self._found(table, key)
            if known is None or not _is_consistent(key, known, fields):
                return None
            rows.append((known, fields))
        return Judged(lock, rows)

    def _found(self, table: str, key: Key) -> _Row | None:
        """A row of the candidate, which is known from now on; None if in doubt."""
        row = effective(self._candidate, self.world, table, key)
        if row is None or row.storage_type == StorageType.readOnly:
            return None
        if table == SHAPE and row is self._stored(table, key) and is_default(table, row):
            return None  # any SET of it removes it, also one that changes nothing
        known = self._rows[table, key] = _Row(row, {})
        return known

    def _stored(self, table: str, key: Key) -> Any:
        return self._candidate.get(table, {}).get(key)

    def _made(self) -> State:
        state, now = evolved(self._state, {"spin_lock": self._lock}), self._kept_alive
        txn = state.current
        if txn is None or now is None:
            return state
        changes: dict[str, dict[Key, Any]] = {}
        count = txn.changes
        for (table, key), known in self._rows.items():
            if known.fields:
                row = known.now()
                is_gone = table == SHAPE and is_default(table, row)
                changes.setdefault(table, {})[key] = GONE if is_gone else row
                committed = state.intent.get(table, {}).get(key)
                count += ((None if is_gone else row) != committed) - (
                    self._stored(table, key) != committed
                )
        if not changes:
            return kept_alive(state, txn.owner, now)
        candidate = {**self._candidate}
        for table, changed in changes.items():
            candidate[table] = persistent(candidate.get(table, {})).changed(changed)
            if not candidate[table]:
                del candidate[table]
        return evolved(state, {"current": restaged(txn, candidate, count, now)})


def _is_consistent(key: Key, known: _Row, cells: _Cells) -> bool:
    """Whether a row may say what it says with these cells."""
    rules = [rule for cell in cells.values() for rule in cell.place.rules]
    if not rules:
        return True
    values = {name: cell.value for name, cell in cells.items()}
    row = evolved(known.before, known.fields | values)
    return all(rule.holds(key, row) for rule in rules)
