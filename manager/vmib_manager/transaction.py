"""One transaction on one host (vmibTxnTable): open, stage, validate, commit, confirm, abort.

Every SET begins with vmibTxnSpinLock, so that one that is captured and sent again is refused.
SETs of a host go one after the other; a response that is lost costs a retransmission of the same
octets, which the agent answers without doing it twice.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from vmib import objects, rows
from vmib.errors import VmibError
from vmib.schema import describe_key, instance_name, locate
from vmib.snmp import Oid, VarBind
from vmib.status import ErrorStatus

from .client import MAX_VARBINDS, Agent, SnmpError
from .plan import Change, HostPlan
from .reading import KeepsChanging, decoded, raw_of
from .staging import LOCK_MODULUS, Group, action, locked, opening, waves

POLL = 0.02
"""Seconds between two looks at a transaction that is still at work."""

_SECONDS_PER_ROW = 0.005
"""What an agent may take to validate or commit a row, beyond the time for any request."""

_CHANGED_MEANWHILE = "somebody changed something after the plan was made; plan again"

FINISHED = frozenset(
    {
        rows.TxnState.committed,
        rows.TxnState.rolledBack,
        rows.TxnState.aborted,
        rows.TxnState.failed,
    }
)
_AT_WORK = frozenset(
    {rows.TxnState.validating, rows.TxnState.committing, rows.TxnState.rollingBack}
)

_OF_SYNTAX = frozenset(
    {
        ErrorStatus.wrongType,
        ErrorStatus.wrongLength,
        ErrorStatus.wrongEncoding,
        ErrorStatus.wrongValue,
    }
)

Progress = Callable[[int, int], None]
"""Told how many messages of how many have been taken."""


_Message = Sequence[tuple[Change | None, Group]]
"""Groups that share a SET, and the changes they are of."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an agent has against a change; `change` is None where it is about none of the plan."""

    instance: str
    message: str
    change: Change | None


class HostRefused(VmibError):
    """A host that does not take its part of a plan, and what it says against it."""

    def __init__(self, host: str, what: str, complaints: Sequence[Complaint] = ()) -> None:
        super().__init__(f"{host}: {what}")
        self.host = host
        self.what = what
        self.complaints = tuple(complaints)


@dataclass(frozen=True, slots=True)
class TxnView:
    """A row of vmibTxnTable, and vmibTxnGeneration at that time; times in seconds."""

    generation: int
    index: int
    state: rows.TxnState
    owner: str
    description: str
    time_left: int
    changes: int
    errors: int


_VIEW = ("state", "owner", "description", "time_left", "changes", "errors")


async def view(agent: Agent, index: int) -> TxnView | None:
    """The transaction of that index, or None where there is none."""
    table = objects.vmibTxnTable
    columns = [table.column(name) for name in _VIEW]
    generation = (*objects.vmibTxnGeneration.oid, 0)
    first, *reply = await agent.get([generation, *((*column.oid, index) for column in columns)])
    if any(varbind.value.is_exception for varbind in reply):
        return None
    cells = {
        name: decoded(column, varbind.value)
        for name, column, varbind in zip(_VIEW, columns, reply, strict=True)
    }
    return TxnView(raw_of(first.value), index, **cells)


def describe(found: TxnView) -> str:
    """A transaction that stands in the way, and the way out."""
    what = f" ({found.description})" if found.description else ""
    left = f", {found.time_left} s left" if found.time_left else ""
    state = "awaits confirmation" if found.state is rows.TxnState.awaitingConfirm else "is open"
    return (
        f"transaction {found.index} of {found.owner}{what} {state}{left}; "
        "confirm or abort it (vmib confirm, vmib abort), or wait"
    )


class HostTransaction:
    """Carries a host's plan out, step by step; nothing is undone here but by `abort`."""

    def __init__(self, agent: Agent, plan: HostPlan) -> None:
        self.agent = agent
        self.plan = plan
        self.index = secrets.randbelow(2**31 - 1) + 1
        self.opened = False
        self.messages = 0
        self._most = MAX_VARBINDS
        self._lock = plan.spin_lock

    @property
    def _longer(self) -> float:
        """Seconds more than for any request that a step of all rows may take."""
        return len(self.plan.changes) * _SECONDS_PER_ROW

    async def _set(self, varbinds: Sequence[VarBind], longer: float = 0.0) -> None:
        await self.agent.set([locked(self._lock), *varbinds], longer=longer)
        self._lock = (self._lock + 1) % LOCK_MODULUS
        self.messages += 1

    async def stage(
        self, confirm_timeout: int, idle_timeout: int, description: str, progress: Progress
    ) -> None:
        """Open the transaction, stage all changes and have them validated.

        What an agent finds too big (RFC 3416 section 4.2.5) is staged in halves: nothing takes
        effect before the commit, so a host never has one of them without the other.

        Raises `HostRefused` with what is wrong, or an AgentError.
        """
        first = opening(self.index, confirm_timeout, idle_timeout, description)
        messages = self._messages(first)
        total = sum(map(len, messages))
        taken = 0
        for wave in messages:
            for message in wave:
                longer = self._longer if taken + 1 == total else 0.0
                await self._stage_message(message, longer)
                taken += 1
                progress(taken, total)
        found = await self._after(rows.TxnState.valid, "does not accept the changes")
        if found.generation != self.plan.generation:
            raise KeepsChanging(f"{self.plan.host}: {_CHANGED_MEANWHILE}")

    def _messages(self, first: Group) -> list[list[_Message]]:
        """What is sent, wave by wave and message by message."""
        staged: list[list[tuple[Change | None, Group]]] = [
            list(wave) for wave in waves(self.plan.changes)
        ] or [[]]
        staged[0].insert(0, (None, first))
        last: Group = (action(self.index, rows.TxnAction.validate),)
        staged[-1].append((None, last))
        head = (locked(LOCK_MODULUS - 1),)
        packed: list[list[_Message]] = []
        for wave in staged:
            groups = iter(wave)
            sizes = [len(m) for m in self.agent.batches([group for _, group in wave], head=head)]
            packed.append([[next(groups) for _ in range(size)] for size in sizes])
        return packed

    async def _stage_message(self, message: _Message, longer: float) -> None:
        parts = [message]
        while parts:
            part = parts.pop(0)
            if len(part) > 1 and _count(part) > self._most:
                parts[:0] = part[: len(part) // 2], part[len(part) // 2 :]
                continue
            try:
                await self._set(list(chain.from_iterable(group for _, group in part)), longer)
            except SnmpError as error:
                if error.status != ErrorStatus.tooBig or len(part) == 1:
                    await self._explain(error, part)
                self._most = _count(part) - 1
                parts.insert(0, part)
                continue
            self.opened = True

    async def _explain(self, error: SnmpError, message: _Message) -> None:
        """Raise the `HostRefused` that an error-status means."""
        host = self.plan.host
        lock = (*objects.vmibTxnSpinLock.oid, 0)
        if not self.opened and error.status == ErrorStatus.inconsistentValue:
            await self._explain_opening(error)
            if error.oid == lock:
                raise KeepsChanging(f"{host}: {_CHANGED_MEANWHILE}") from error
        position = 1
        for change, group in message:
            if position < error.index <= position + len(group):
                complaint = Complaint(_named(error.oid), _reason(error), change)
                raise HostRefused(host, "refuses a change", [complaint]) from error
            position += len(group)
        raise error

    async def _explain_opening(self, error: SnmpError) -> None:
        reply = await self.agent.get([(*objects.vmibTxnCurrent.oid, 0)])
        current = raw_of(reply[0].value)
        found = await view(self.agent, current) if current else None
        if found is not None:
            raise HostRefused(self.plan.host, describe(found)) from error

    async def commit(self) -> None:
        """Commit; the host now is as planned, until the confirm timeout ends.

        Raises `HostRefused` where the kernel refuses, or an AgentError.
        """
        await self._act(rows.TxnAction.commit)
        await self._after(
            rows.TxnState.awaitingConfirm, "could not commit", rows.TxnState.committed
        )

    async def confirm(self) -> None:
        """Make the commit final. Raises `HostRefused` where it is too late, or an AgentError."""
        await self._act(rows.TxnAction.confirm)

    async def abort(self) -> rows.TxnState | None:
        """Take back what is not final yet; the state before, None where there was nothing.

        A transaction that has ended is left alone.
        """
        found = await view(self.agent, self.index)
        if found is None:
            return None
        if found.state not in FINISHED:
            await self.refresh_lock()
            await self._act(rows.TxnAction.abort)
        return found.state

    async def refresh_lock(self) -> None:
        """Learn the spin lock anew, after a SET of which it is not known whether it was taken."""
        reply = await self.agent.get([(*objects.vmibTxnSpinLock.oid, 0)])
        lock = raw_of(reply[0].value)
        assert isinstance(lock, int)
        self._lock = lock

    async def _act(self, step: rows.TxnAction) -> None:
        try:
            await self._set([action(self.index, step)], self._longer)
        except SnmpError as error:
            found = await view(self.agent, self.index)
            state = "there is no such transaction" if found is None else f"it is {found.state.name}"
            complaints = await self._complaints() if found is not None and found.errors else ()
            what = f"{step.name} is refused ({error.status_name}): {state}"
            raise HostRefused(self.plan.host, what, complaints) from error

    async def _after(self, wanted: rows.TxnState, what: str, *also: rows.TxnState) -> TxnView:
        """Wait for the end of a step; raises `HostRefused` unless it ends in a wanted state."""
        while True:
            found = await view(self.agent, self.index)
            if found is None or found.state not in _AT_WORK:
                break
            await asyncio.sleep(POLL)
        if found is None:
            raise HostRefused(self.plan.host, f"{what}: the transaction is gone")
        if found.state not in (wanted, *also):
            complaints = await self._complaints()
            raise HostRefused(self.plan.host, f"{what} (it is {found.state.name})", complaints)
        return found

    async def _complaints(self) -> list[Complaint]:
        columns = (objects.vmibTxnErrorObject, objects.vmibTxnErrorMessage)
        roots = [(*column.oid, self.index) for column in columns]
        walked = await self.agent.walk(*roots)
        texts = [decoded(objects.vmibTxnErrorMessage, v) for _, v in walked[1]]
        changes = {
            (change.table.name, change.table.encode_index(change.key)): change
            for change in self.plan.changes
        }
        found = []
        for (_, value), text in zip(walked[0], texts, strict=False):
            oid = value.value
            assert isinstance(oid, tuple)
            place = locate(oid)
            table = None if place is None or place.table is None else place.table
            change = (
                None if place is None or table is None else changes.get((table.name, place.suffix))
            )
            found.append(Complaint(_named(oid), text, change))
        return found


def _count(message: _Message) -> int:
    """The varbinds of a message without the lock."""
    return sum(len(group) for _, group in message)


def _named(oid: Oid | None) -> str:
    """An instance as people read it, with its key where that can be told."""
    if oid is None:
        return ""
    place = locate(oid)
    if place is None or place.table is None:
        return instance_name(oid)
    try:
        key = place.table.decode_index(place.suffix)
    except VmibError:
        return instance_name(oid)
    return f"{place.object.name}.{describe_key(place.table, key)}"


def _reason(error: SnmpError) -> str:
    place = None if error.oid is None else locate(error.oid)
    if place is not None and error.status in _OF_SYNTAX:
        return f"{error.status_name}; its SYNTAX allows {place.object.syntax.allowed()}"
    return f"{error.status_name}{'; ' if error.way_out else ''}{error.way_out}"
