"""The Network Manager Module: everything that can be done with the agents of a real network.

    model = load("real.xml", "virtual.xml")
    async with AsyncManager(model.real, credentials) as manager:
        plan = await manager.plan(model)
        result = await manager.apply(plan)

`sync.Manager` has the same methods for programs without an event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from vmib.errors import VmibError

from . import apply as applying
from . import checks, measurement, pending, probe_session, status, topology
from .apply import ApplyResult, Options, Tell
from .capabilities import check_capabilities
from .client import Agent, AgentError, Client
from .credentials import Community, Credentials
from .discover import FoundHost, found_host
from .findings import Finding, error
from .graph import Graph
from .measurement import Measurement, MeasurementPlan
from .model import Model, Real, Source
from .plan import HostPlan, Plan, host_plan, wanted_digest
from .presence import check_presence
from .probe_plan import PACKETS, Flow
from .probe_verdict import DEFAULT, Allowed, Passed
from .reading import read
from .seen import Key, NameLookup, Names, Reading, Scalars, Tables
from .status import Deviation, HostStatus
from .verification import Verification, verified
from .wanted import WantedRow, numbered, resolve

T = TypeVar("T")


class AsyncManager:
    """The agents of a real network; use it as an async context manager.

    `credentials` are by host id. `timeout` is for one request with all its `retries`, in seconds.
    """

    def __init__(
        self,
        real: Real,
        credentials: Mapping[str, Credentials | Community],
        *,
        timeout: float = 5.0,
        retries: int = 4,
    ) -> None:
        self.real = real
        self._credentials = credentials
        self._timeout = timeout
        self._retries = retries
        self._client = Client()
        self._known: dict[str, Mapping[bytes, Tables]] = {}
        self.agents: dict[str, Agent] = {}

    async def __aenter__(self) -> Self:
        for host in self.real.hosts:
            self.agents[host.id] = self._client.agent(
                str(host.agent.address),
                host.agent.port,
                self._credentials[host.id],
                timeout=self._timeout,
                retries=self._retries,
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    async def _on_all(
        self, step: Callable[[str, Agent], Awaitable[T]]
    ) -> tuple[dict[str, T], dict[str, VmibError]]:
        """Take a step on every host at once; the results and the errors by host."""

        async def one(host: str, agent: Agent) -> T | VmibError:
            try:
                return await step(host, agent)
            except VmibError as failure:
                return failure

        results = await asyncio.gather(*(one(host, agent) for host, agent in self.agents.items()))
        done: dict[str, T] = {}
        failed: dict[str, VmibError] = {}
        for host, result in zip(self.agents, results, strict=True):
            if isinstance(result, VmibError):
                failed[host] = result
            else:
                done[host] = result
        return done, failed

    def _unreachable(self, failed: Mapping[str, VmibError]) -> list[Finding]:
        sources = {host.id: host.source for host in self.real.hosts}
        return [_unreachable(sources[host], host, failure) for host, failure in failed.items()]

    async def plan(self, model: Model) -> Plan:
        """What has to change for the agents' hosts to be as the model says.

        Nothing is sent when the files alone are wrong. What is wrong is in the plan's findings.
        """
        examined = checks.examine(model)
        if examined.rows is None:
            return Plan({}, examined.findings)
        rows = examined.rows
        findings = list(examined.findings)

        def asked(host: str, agent: Agent) -> Awaitable[Reading]:
            settled = partial(_settled, rows[host])
            return read(agent, settled, self._known.get(host))

        readings, failed = await self._on_all(asked)
        findings += self._unreachable(failed)
        capabilities = {host: reading.scalars.capabilities for host, reading in readings.items()}
        findings += check_capabilities(rows, capabilities)
        findings += check_presence(model, {host: seen.names for host, seen in readings.items()})
        if checks.has_errors(findings):
            return Plan({}, tuple(findings), tuple(failed))
        hosts = {host: self._planned(host, rows[host], found) for host, found in readings.items()}
        return Plan(hosts, tuple(findings))

    async def plan_to_clear(self) -> Plan:
        """What has to change for the agents' hosts to have no configuration at all."""
        readings, failed = await self._on_all(
            lambda host, agent: read(agent, known=self._known.get(host))
        )
        if failed:
            return Plan({}, tuple(self._unreachable(failed)), tuple(failed))
        return Plan({host: self._planned(host, (), found) for host, found in readings.items()})

    def _planned(self, host: str, rows: tuple[WantedRow, ...], reading: Reading) -> HostPlan:
        """The plan of a host; the rows that it has and will have are remembered by their digest."""
        plan = _host_plan(host, rows, reading)
        before = {} if reading.rows is None else {plan.before: reading.rows}
        self._known[host] = {**before, plan.digest: plan.after}
        return plan

    async def apply(
        self, plan: Plan, options: Options | None = None, tell: Tell | None = None
    ) -> ApplyResult:
        """Carry a plan out on all hosts, or on none; raises `ApplyFailed`, `NotApplicable`."""
        if tell is None:
            return await applying.apply(plan, self.agents, options)
        return await applying.apply(plan, self.agents, options, tell)

    async def verify(self, model: Model) -> Verification:
        """Whether the hosts are configured as the model says and do what they are told."""
        plan = await self.plan(model)
        deviations, failed = await self._on_all(lambda host, agent: status.deviations(agent))
        return verified(plan, deviations, failed)

    async def plan_measurement(self, model: Model, packets: int = PACKETS) -> MeasurementPlan:
        """What is to be measured to compare hosts with the model, by `packets` packets a row.

        Raises a `VmibError` for the first host that cannot be measured.
        """
        rows = measurement.wanted_rows(model)
        found, failed = await self._on_all(
            lambda host, agent: measurement.host_subjects(host, agent, rows[host])
        )
        for failure in failed.values():
            raise failure
        return measurement.planned(found, packets)

    async def measure(
        self,
        plan: MeasurementPlan,
        *,
        allowed: Allowed = DEFAULT,
        traffic: Mapping[tuple[str, Flow], Passed] | None = None,
        tell: Callable[[str, int], None] = lambda host, done: None,
    ) -> Measurement:
        """Measure by probes, which leave nothing behind, and compare.

        `traffic` are rates that were measured before, by `probe_traffic`; `tell` is told how many
        rows of a host are done.
        """

        def one(host: str, agent: Agent) -> Awaitable[probe_session.HostMeasured]:
            waves = plan.hosts[host]
            return probe_session.measure(host, agent, waves, plan.packets, partial(tell, host))

        found, failed = await self._on_all(one)
        return measurement.measured(plan, found, failed, traffic or {}, allowed)

    async def status(self) -> dict[str, HostStatus]:
        """How each host and its agent are."""
        found, failed = await self._on_all(lambda host, agent: status.host_status(host, agent))
        return {
            host: found[host] if host in found else HostStatus(host, error=str(failed[host]))
            for host in self.agents
        }

    async def diff(self) -> tuple[dict[str, list[Deviation]], dict[str, VmibError]]:
        """Where hosts do not do what they are told, by host; and the hosts that cannot be asked."""
        return await self._on_all(lambda host, agent: status.deviations(agent))

    async def confirm(self) -> dict[str, pending.Ended]:
        """Make the commits final that await confirmation, on all hosts."""
        return await self._end(pending.confirm)

    async def abort(self) -> dict[str, pending.Ended]:
        """Take back transactions that are open or await confirmation, on all hosts."""
        return await self._end(pending.abort)

    async def _end(
        self, step: Callable[[Agent], Awaitable[pending.Ended]]
    ) -> dict[str, pending.Ended]:
        ended, failed = await self._on_all(lambda host, agent: step(agent))
        return {
            host: ended[host] if host in ended else pending.Ended(0, None, str(failed[host]))
            for host in self.agents
        }

    async def discover(self) -> tuple[dict[str, FoundHost], dict[str, VmibError]]:
        """What agents report of their hosts and machines; and the hosts that cannot be asked."""
        addresses = {host.id: host.agent for host in self.real.hosts}
        return await self._on_all(lambda host, agent: found_host(host, addresses[host], agent))

    async def topology(self, model: Model) -> Graph:
        """The picture of a model, coloured by the state that the agents report."""
        found, failed = await self._on_all(lambda host, agent: topology.states(agent))
        return topology.graph(model, found, {host: str(error) for host, error in failed.items()})


def _unreachable(source: Source, host: str, failure: VmibError) -> Finding:
    if isinstance(failure, AgentError):
        message = f"{host}: agent {failure.agent}: {failure.problem}"
        return error(source, message, failure.way_out or "look into the agent's log")
    return error(source, f"{host}: {failure}", "then try again")


def _settled(rows: tuple[WantedRow, ...], scalars: Scalars, names: Names) -> bool:
    """Whether the host has just these rows; also where they cannot be told, which is said later."""
    try:
        wanted = resolve(rows, NameLookup(names))
    except VmibError:
        return True
    return wanted_digest(wanted, names) == scalars.digest


def _host_plan(host: str, rows: tuple[WantedRow, ...], reading: Reading) -> HostPlan:
    wanted: dict[str, dict[Key, Any]] = {}
    sources: dict[tuple[str, Key], Source] = {}
    for table, key, row, source in numbered(rows, NameLookup(reading.names)):
        wanted.setdefault(table, {})[key] = row
        sources[table, key] = source
    return host_plan(host, wanted, reading, sources)
