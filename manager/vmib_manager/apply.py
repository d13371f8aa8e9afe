"""Carrying a plan out on all hosts at once: all of them take it, or none does.

Each phase begins on every host when the phase before has succeeded on every host: stage (open,
write, validate), commit, verify (read back), confirm. On any failure, and on cancellation, every
host takes back what it has done. If the manager dies or an agent cannot be reached, the agent
does that by itself: an open transaction ends with its idle timeout, a commit that nobody confirms
with its confirm timeout.

One window is left, as in any commit over several hosts: an agent that is lost for good after the
first confirmation left. Then the hosts that have confirmed are taken back by a second
transaction, and the lost one is named.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from vmib import rows
from vmib.errors import VmibError

from .client import Agent
from .plan import HostPlan, Plan
from .reading import read_out_of_sync, read_scalars
from .seen import OutOfSync
from .snmp_errors import AgentError
from .transaction import Complaint, HostRefused, HostTransaction, view

CONFIRM_TIMEOUT = 120
"""Seconds after which hosts take back a commit that `apply` has not confirmed."""
LEAVE_OPEN_TIMEOUT = 600
"""The same where a person is to confirm: the default of vmibTxnConfirmTimeout."""
IDLE_TIMEOUT = 60
"""Seconds after which hosts forget a transaction that `apply` has begun and left."""

_CONFIRM_AGAIN = 0.2


class Phase(Enum):
    """The steps of an apply, in order, and the way back."""

    STAGE = "stage"
    COMMIT = "commit"
    VERIFY = "verify"
    CONFIRM = "confirm"
    ROLL_BACK = "roll back"


class Outcome(Enum):
    """What has become of one host, or of all."""

    UNCHANGED = "unchanged"
    CONFIRMED = "confirmed"
    AWAITING_CONFIRM = "awaiting confirmation"
    ROLLED_BACK = "rolled back"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Progress:
    """Something got further: `done` of `total` messages of a host in a phase."""

    phase: Phase
    host: str
    done: int
    total: int


Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to apply. `confirm` False leaves the commit to be confirmed by somebody.

    Timeouts in seconds; a `confirm_timeout` of None is the usual one.
    """

    confirm: bool = True
    confirm_timeout: int | None = None
    idle_timeout: int = IDLE_TIMEOUT
    description: str = "vmib apply"

    @property
    def seconds_to_confirm(self) -> int:
        """vmibTxnConfirmTimeout."""
        if self.confirm_timeout is not None:
            return self.confirm_timeout
        return CONFIRM_TIMEOUT if self.confirm else LEAVE_OPEN_TIMEOUT


@dataclass(frozen=True, slots=True)
class HostResult:
    """What has become of one host; `message` says what a person has to know, or is empty.

    `changes` counts rows that were written, `drifted` those that only had to be set right.
    """

    host: str
    outcome: Outcome
    changes: int
    message: str = ""
    complaints: tuple[Complaint, ...] = ()
    transaction: int = 0
    drifted: int = 0


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """What has become of a plan: of each host, and how long each phase took, in seconds.

    `unsettled` are rows that do not match the system and that the plan did not touch.
    """

    hosts: Mapping[str, HostResult]
    seconds: Mapping[Phase, float]
    unsettled: Mapping[str, tuple[OutOfSync, ...]] = field(default_factory=dict)

    @property
    def outcome(self) -> Outcome:
        """The outcome of the hosts that had something to change."""
        found = {result.outcome for result in self.hosts.values()} - {Outcome.UNCHANGED}
        return found.pop() if found else Outcome.UNCHANGED


class ApplyFailed(VmibError):
    """A plan that not all hosts took; `result` tells that and how each host was taken back."""

    def __init__(self, phase: Phase, failures: Mapping[str, Exception], result: ApplyResult):
        listed = "; ".join(str(error) for error in failures.values())
        ways = {host.outcome for host in result.hosts.values()}
        lost = Outcome.UNREACHABLE in ways
        ending = "see each host" if lost else "every host is as before"
        super().__init__(f"{phase.value} failed: {listed}; {ending}")
        self.phase = phase
        self.failures = dict(failures)
        self.result = result


class NotApplicable(VmibError):
    """A plan with errors, which is not tried."""


class _PhaseFailed(Exception):
    def __init__(self, phase: Phase, failures: Mapping[str, Exception]) -> None:
        super().__init__(phase.value)
        self.phase = phase
        self.failures = failures


def _say_nothing(_: Progress) -> None:
    return


async def apply(
    plan: Plan,
    agents: Mapping[str, Agent],
    options: Options | None = None,
    tell: Tell = _say_nothing,
) -> ApplyResult:
    """Carry out a plan on the hosts of these agents.

    Raises `ApplyFailed` after everything that was done has been taken back, and `NotApplicable`
    for a plan with errors.
    """
    if not plan.ok:
        errors = [str(found) for found in plan.findings if found.severity.value == "error"]
        raise NotApplicable(f"the plan has errors: {'; '.join(errors)}")
    run = _Run(plan, agents, options or Options(), tell)
    return await run.run()


class _Run:
    """One apply."""

    def __init__(
        self, plan: Plan, agents: Mapping[str, Agent], options: Options, tell: Tell
    ) -> None:
        self.plan = plan
        self.agents = agents
        self.options = options
        self.tell = tell
        self.transactions = {
            host.host: HostTransaction(agents[host.host], host) for host in plan.changed
        }
        self.seconds: dict[Phase, float] = {}
        self.unsettled: dict[str, tuple[OutOfSync, ...]] = {}
        self.committed_at = 0.0
        self.confirming = False

    async def run(self) -> ApplyResult:
        try:
            await self._phase(Phase.STAGE, self._stage)
            self.committed_at = time.monotonic()
            await self._phase(Phase.COMMIT, self._commit)
            await self._phase(Phase.VERIFY, self._verify)
            if not self.options.confirm:
                return self._result(Outcome.AWAITING_CONFIRM)
            await self._confirm_all()
        except _PhaseFailed as failed:
            raise await self._taken_back(failed) from next(iter(failed.failures.values()))
        except asyncio.CancelledError:
            await asyncio.shield(self._roll_back())
            raise
        return self._result(Outcome.CONFIRMED)

    def _result(self, outcome: Outcome) -> ApplyResult:
        hosts = {}
        for name, host in self.plan.hosts.items():
            if host.touched:
                index = self.transactions[name].index
                hosts[name] = _host_result(host, outcome, transaction=index)
            else:
                hosts[name] = HostResult(name, Outcome.UNCHANGED, 0)
        return ApplyResult(hosts, dict(self.seconds), dict(self.unsettled))

    async def _phase(
        self, phase: Phase, step: Callable[[HostTransaction], Awaitable[None]]
    ) -> None:
        began = time.monotonic()

        async def one(transaction: HostTransaction) -> None:
            self.tell(Progress(phase, transaction.plan.host, 0, 1))
            await step(transaction)
            self.tell(Progress(phase, transaction.plan.host, 1, 1))

        failures = await _all_of({name: one(txn) for name, txn in self.transactions.items()})
        self.seconds[phase] = time.monotonic() - began
        if failures:
            raise _PhaseFailed(phase, failures)

    async def _stage(self, transaction: HostTransaction) -> None:
        host = transaction.plan.host
        await transaction.stage(
            self.options.seconds_to_confirm,
            self.options.idle_timeout,
            self.options.description,
            lambda done, total: self.tell(Progress(Phase.STAGE, host, done, total)),
        )

    async def _commit(self, transaction: HostTransaction) -> None:
        await transaction.commit()

    async def _verify(self, transaction: HostTransaction) -> None:
        """Read back: the digest of what is configured, and whether the system matches it."""
        plan, agent = transaction.plan, transaction.agent
        scalars = await read_scalars(agent)
        if scalars.digest != plan.digest:
            raise HostRefused(plan.host, "reads back another configuration than was written")
        if not scalars.out_of_sync:
            return
        touched = {(change.table.name, change.key): change for change in plan.changes}
        found = [row for row in await read_out_of_sync(agent) if row.sync is not rows.Sync.waiting]
        complaints = [
            Complaint(row.name, f"{row.sync.name}: {row.last_error}", touched[row.table, row.key])
            for row in found
            if (row.table, row.key) in touched
        ]
        if complaints:
            raise HostRefused(plan.host, "does not do what was written", complaints)
        if found:
            self.unsettled[plan.host] = tuple(found)

    async def _confirm_all(self) -> None:
        """Confirm everywhere; what is not answered is asked again while the time lasts."""
        began = time.monotonic()
        self.confirming = True
        until = self.committed_at + self.options.seconds_to_confirm
        failures = await _all_of(
            {name: self._confirm(txn, until) for name, txn in self.transactions.items()}
        )
        self.seconds[Phase.CONFIRM] = time.monotonic() - began
        if failures:
            raise _PhaseFailed(Phase.CONFIRM, failures)

    async def _confirm(self, transaction: HostTransaction, until: float) -> None:
        host = transaction.plan.host
        self.tell(Progress(Phase.CONFIRM, host, 0, 1))
        while True:
            try:
                await transaction.confirm()
            except (AgentError, HostRefused):
                if await self._is_confirmed(transaction):
                    break
                if time.monotonic() >= until:
                    raise
                await asyncio.sleep(_CONFIRM_AGAIN)
            else:
                break
        self.tell(Progress(Phase.CONFIRM, host, 1, 1))

    async def _is_confirmed(self, transaction: HostTransaction) -> bool:
        """Whether the commit is final; raises `HostRefused` where it never will be."""
        try:
            found = await view(transaction.agent, transaction.index)
        except AgentError:
            return False
        if found is not None and found.state is rows.TxnState.committed:
            return True
        if found is None or found.state is not rows.TxnState.awaitingConfirm:
            state = "gone" if found is None else found.state.name
            raise HostRefused(transaction.plan.host, f"was not confirmed in time: it is {state}")
        await transaction.refresh_lock()
        return False

    async def _taken_back(self, failed: _PhaseFailed) -> ApplyFailed:
        """Every host as before, as far as it can be reached; the error to raise."""
        began = time.monotonic()
        hosts = await self._roll_back()
        self.seconds[Phase.ROLL_BACK] = time.monotonic() - began
        for name, error in failed.failures.items():
            if isinstance(error, HostRefused):
                hosts[name] = replace(hosts[name], complaints=error.complaints)
        for name, host in self.plan.hosts.items():
            if not host.touched:
                hosts[name] = HostResult(name, Outcome.UNCHANGED, 0)
        ordered = {name: hosts[name] for name in self.plan.hosts}
        result = ApplyResult(ordered, dict(self.seconds), dict(self.unsettled))
        return ApplyFailed(failed.phase, failed.failures, result)

    async def _roll_back(self) -> dict[str, HostResult]:
        failures = await _all_of({name: self._undo(name) for name in self.transactions})
        return {name: self._after_undo(name, failures.get(name)) for name in self.transactions}

    async def _undo(self, name: str) -> None:
        """Take a host back, by a transaction of its own where the commit is final already."""
        if await self.transactions[name].abort() is rows.TxnState.committed:
            await self._reverse(name)
        self.tell(Progress(Phase.ROLL_BACK, name, 1, 1))

    def _after_undo(self, name: str, error: Exception | None) -> HostResult:
        plan, index = self.plan.hosts[name], self.transactions[name].index
        if error is None:
            return _host_result(plan, Outcome.ROLLED_BACK, transaction=index)
        limit = max(self.options.seconds_to_confirm, self.options.idle_timeout)
        message = f"{error}; it takes transaction {index} back by itself within {limit} s"
        if self.confirming:
            message += ", unless the confirmation has reached it"
        return _host_result(plan, Outcome.UNREACHABLE, message, index)

    async def _reverse(self, name: str) -> None:
        agent, plan = self.agents[name], self.plan.hosts[name]
        scalars = await read_scalars(agent)
        if scalars.digest != plan.digest:
            raise HostRefused(name, "is final and somebody has changed it since; it is left so")
        plan = plan.backwards(scalars.generation, scalars.spin_lock)
        transaction = HostTransaction(agent, plan)
        description = f"{self.options.description}: taken back"
        await transaction.stage(0, self.options.idle_timeout, description, lambda *_: None)
        await transaction.commit()


def _host_result(
    plan: HostPlan, outcome: Outcome, message: str = "", transaction: int = 0
) -> HostResult:
    return HostResult(
        host=plan.host,
        outcome=outcome,
        changes=len(plan.changes),
        message=message,
        transaction=transaction,
        drifted=len(plan.drifted),
    )


async def _all_of(steps: Mapping[str, Awaitable[None]]) -> dict[str, Exception]:
    """Run all steps to their end, side by side; the errors by name."""
    results: Sequence[object] = await asyncio.gather(*steps.values(), return_exceptions=True)
    failures: dict[str, Exception] = {}
    for name, result in zip(steps, results, strict=True):
        if isinstance(result, VmibError | OSError):
            failures[name] = result
        elif isinstance(result, BaseException):
            raise result
    return failures
