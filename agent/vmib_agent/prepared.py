"""A SET between being found good and being over: the phases that every front end goes through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from vmib.status import ErrorStatus

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

    def decide(self, varbinds: Sequence[VarBind], principal: str) -> Decision:
        """What a SET comes to, after a dry run; raises `SetRefused`. Nothing changes."""

    def enact(self, decision: Decision) -> None:
        """Make it so on disk, in the kernel and in memory; raises `SetRefused`."""

    def take_back(self, before: State, after: State) -> None:
        """Undo what led from one state to the other; raises `SetRefused` (undoFailed)."""

    def announce(self, events: Iterable[Event]) -> None:
        """Notify of events."""


class PreparedChange:
    """Implements `service.PreparedSet`; making one raises `SetRefused`."""

    def __init__(self, host: Changeable, varbinds: Sequence[VarBind], principal: str) -> None:
        self._host = host
        self._varbinds = varbinds
        self._principal = principal
        self._decision = host.decide(varbinds, principal)
        self._epoch = host.epoch
        self._states: tuple[State, State] | None = None

    def commit(self) -> None:
        """Carry it out; raises `SetRefused`, and then nothing has changed.

        What has changed since it was prepared is taken into account: it is decided anew, and
        commitFailed if it is no longer good.
        """
        if self._host.epoch != self._epoch:
            try:
                self._decision = self._host.decide(self._varbinds, self._principal)
            except SetRefused as refused:
                reason = f"since it was tested: {refused.reason}"
                raise SetRefused(ErrorStatus.commitFailed, refused.index, reason) from None
        before = self._host.state
        self._host.enact(self._decision)
        self._states = before, self._host.state

    def undo(self) -> None:
        """Take back what `commit` has done, if it has; raises `SetRefused` (undoFailed)."""
        if self._states is not None:
            states, self._states = self._states, None
            self._host.take_back(*states)

    def release(self) -> None:
        """It is over: what was committed and not undone is announced."""
        if self._states is not None:
            self._states = None
            self._host.announce(self._decision.events)
