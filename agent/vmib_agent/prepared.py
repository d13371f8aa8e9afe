"""A SET between being found good and being over: the phases that every front end goes through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from vmib.status import ErrorStatus

from .quickset import Cell
from .service import SetRefused, VarBind
from .state import State
from .transactions import Decision, Event


class Changeable(Protocol):
    """What a SET changes: a host."""

    @property
    def state(self) -> State:
        """What is in force."""

    @property
    def epoch(self) -> int:
        """Grows with everything that a decision may depend on."""

    def would_take(self, cells: Sequence[Cell], principal: str) -> bool:
        """Whether `set_quickly` would do it."""

    def set_quickly(self, cells: Sequence[Cell], principal: str) -> bool:
        """All of the cells, if that takes neither disk nor kernel; else False, and nothing."""

    def decide(self, varbinds: Sequence[VarBind], principal: str) -> Decision:
        """What a SET comes to, after a dry run; raises `SetRefused`. Nothing changes."""

    def enact(self, decision: Decision) -> None:
        """Make it so on disk, in the kernel and in memory; raises `SetRefused`."""

    def take_back(self, before: State, after: State) -> None:
        """Undo what led from one state to the other; raises `SetRefused` (undoFailed)."""

    def announce(self, events: Iterable[Event]) -> None:
        """Notify of events."""


class PreparedChange:
    """Implements `service.PreparedSet`; making one raises `SetRefused`.

    With `cells`, which are all that the varbinds say, it takes the short way where there is one.
    """

    def __init__(
        self,
        host: Changeable,
        varbinds: Sequence[VarBind],
        principal: str,
        cells: Sequence[Cell] | None = None,
    ) -> None:
        self._host = host
        self._varbinds = varbinds
        self._principal = principal
        self._cells = cells if cells and host.would_take(cells, principal) else None
        self._decision = None if self._cells else host.decide(varbinds, principal)
        self._epoch = host.epoch
        self._states: tuple[State, State] | None = None

    def commit(self) -> None:
        """Carry it out; raises `SetRefused`, and then nothing has changed.

        What has changed since it was prepared is taken into account: it is decided anew, and
        commitFailed if it is no longer good.
        """
        before = self._host.state
        if self._cells is None or not self._host.set_quickly(self._cells, self._principal):
            self._host.enact(self._decided())
        self._states = before, self._host.state

    def _decided(self) -> Decision:
        """What it comes to now."""
        if self._decision is None or self._host.epoch != self._epoch:
            try:
                self._decision = self._host.decide(self._varbinds, self._principal)
            except SetRefused as refused:
                reason = f"since it was tested: {refused.reason}"
                raise SetRefused(ErrorStatus.commitFailed, refused.index, reason) from None
        return self._decision

    def undo(self) -> None:
        """Take back what `commit` has done, if it has; raises `SetRefused` (undoFailed)."""
        if self._states is not None:
            states, self._states = self._states, None
            self._host.take_back(*states)

    def release(self) -> None:
        """It is over: what was committed and not undone is announced."""
        if self._states is not None:
            self._states = None
            if self._decision is not None:
                self._host.announce(self._decision.events)
