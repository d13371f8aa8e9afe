"""The manager for programs without an event loop: the same methods, each one blocking.

with Manager(model.real, credentials) as manager:
    plan = manager.plan(model)
    result = manager.apply(plan)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from vmib.errors import VmibError

from .apply import ApplyResult, Options, Tell
from .credentials import Community, Credentials
from .discover import FoundHost
from .graph import Graph
from .manager import AsyncManager
from .measurement import Measurement, MeasurementPlan
from .model import Model, Real
from .pending import Ended
from .plan import Plan
from .probe_plan import PACKETS, Flow
from .probe_verdict import DEFAULT, Allowed, Passed
from .status import Deviation, HostStatus
from .verification import Verification

T = TypeVar("T")


class Manager:
    """`manager.AsyncManager` with an event loop of its own; use it as a context manager.

    Methods take, return and raise what those of `AsyncManager` do.
    """

    def __init__(
        self,
        real: Real,
        credentials: Mapping[str, Credentials | Community],
        *,
        timeout: float = 5.0,
        retries: int = 4,
    ) -> None:
        self._real = real
        self._credentials = credentials
        self._timeout = timeout
        self._retries = retries
        self._runner = asyncio.Runner()
        self._manager: AsyncManager

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._manager = self._run(self._started())
        return self

    def _run(self, step: Coroutine[Any, Any, T]) -> T:
        """Run a step to its end.

        Its result is kept apart from its task: asyncio describes the task in words when it takes
        the handler of SIGINT back, and a whole plan in words takes longer than the step.
        """
        outcome: list[T] = []

        async def kept() -> None:
            outcome.append(await step)

        try:
            self._runner.run(kept())
        except asyncio.CancelledError:
            # Nobody else cancels the task: a SIGINT of which asyncio.Runner has lost count, because
            # it came between the setting of the handler and the first step.
            step.close()
            raise KeyboardInterrupt from None
        return outcome[0]

    async def _started(self) -> AsyncManager:
        manager = AsyncManager(
            self._real, self._credentials, timeout=self._timeout, retries=self._retries
        )
        return await manager.__aenter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._manager.__aexit__(kind, error, trace))
        self._runner.close()

    def plan(self, model: Model) -> Plan:
        """What has to change for the hosts to be as the model says."""
        return self._run(self._manager.plan(model))

    def plan_to_clear(self) -> Plan:
        """What has to change for the hosts to have no configuration."""
        return self._run(self._manager.plan_to_clear())

    def apply(
        self, plan: Plan, options: Options | None = None, tell: Tell | None = None
    ) -> ApplyResult:
        """Carry a plan out on all hosts, or on none."""
        return self._run(self._manager.apply(plan, options, tell))

    def verify(self, model: Model) -> Verification:
        """Whether the hosts are as the model says."""
        return self._run(self._manager.verify(model))

    def plan_measurement(self, model: Model, packets: int = PACKETS) -> MeasurementPlan:
        """What is to be measured to compare hosts with the model."""
        return self._run(self._manager.plan_measurement(model, packets))

    def measure(
        self,
        plan: MeasurementPlan,
        *,
        allowed: Allowed = DEFAULT,
        traffic: Mapping[tuple[str, Flow], Passed] | None = None,
        tell: Callable[[str, int], None] = lambda host, done: None,
    ) -> Measurement:
        """Measure by probes, which leave nothing behind, and compare."""
        step = self._manager.measure(plan, allowed=allowed, traffic=traffic, tell=tell)
        return self._run(step)

    def status(self) -> dict[str, HostStatus]:
        """How each host and its agent are."""
        return self._run(self._manager.status())

    def diff(self) -> tuple[dict[str, list[Deviation]], dict[str, VmibError]]:
        """Where hosts do not do what they are told, and the hosts that cannot be asked."""
        return self._run(self._manager.diff())

    def confirm(self) -> dict[str, Ended]:
        """Make the commits final that await confirmation."""
        return self._run(self._manager.confirm())

    def abort(self) -> dict[str, Ended]:
        """Take back transactions that are open or await confirmation."""
        return self._run(self._manager.abort())

    def discover(self) -> tuple[dict[str, FoundHost], dict[str, VmibError]]:
        """What agents report of their hosts and machines, and the hosts that cannot be asked."""
        return self._run(self._manager.discover())

    def topology(self, model: Model) -> Graph:
        """The picture of a model, coloured by the state that the agents report."""
        return self._run(self._manager.topology(model))
