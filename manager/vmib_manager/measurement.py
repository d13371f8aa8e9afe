"""Comparing what hosts do with what is described, by probes: the plan of it, and the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vmib.errors import VmibError

from .client import Agent
from .compile import compile_rows
from .describe import Describer
from .model import Model
from .probe_plan import Flow, Subject, estimate, subjects, waves
from .probe_session import HostMeasured, Waits
from .probe_verdict import Allowed, Measured, Passed, Round, judge
from .reading import read_names, read_scalars
from .seen import NameLookup
from .transaction import HostRefused
from .wanted import WantedRow, numbered


@dataclass(frozen=True, slots=True)
class MeasurementPlan:
    """What is measured: by host, sets of subjects, each measured at once."""

    hosts: Mapping[str, Sequence[Sequence[Subject]]]
    packets: int

    @property
    def subjects(self) -> list[Subject]:
        """All of them."""
        return [subject for found in self.hosts.values() for wave in found for subject in wave]

    @property
    def seconds(self) -> float:
        """How long it will take."""
        return estimate(self.hosts, self.packets)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The result; `failed` says by host why nothing is known of it."""

    rows: tuple[Measured, ...]
    packets: int
    allowed: Allowed
    failed: Mapping[str, str]

    @property
    def off(self) -> list[Measured]:
        """The rows that are off, or were not measured and ought to have been."""
        return [row for row in self.rows if row.off]

    @property
    def ok(self) -> bool:
        """Whether nothing is off; rows that wait for a machine do not count."""
        return not self.failed and not self.off


def wanted_rows(model: Model) -> Mapping[str, tuple[WantedRow, ...]]:
    """The rows of each host that the model asks for."""
    return compile_rows(model)


async def host_subjects(host: str, agent: Agent, rows: tuple[WantedRow, ...]) -> list[Subject]:
    """What can be measured of one host; raises `HostRefused` where its agent has no probes."""
    names = await read_names(agent)
    found = subjects(host, numbered(rows, NameLookup(names)), Describer(names, {}))
    if found and "probes" not in (await read_scalars(agent)).capabilities:
        raise HostRefused(host, "its agent lacks probes (vmibHostCapabilities)")
    return found


def planned(found: Mapping[str, Sequence[Subject]], packets: int) -> MeasurementPlan:
    """The sets in which subjects are measured."""
    return MeasurementPlan({host: waves(each, packets) for host, each in found.items()}, packets)


def measured(
    plan: MeasurementPlan,
    found: Mapping[str, HostMeasured],
    failed: Mapping[str, VmibError],
    traffic: Mapping[tuple[str, Flow], Passed],
    allowed: Allowed,
) -> Measurement:
    """The verdict; `traffic` are rates that traffic sent to measure has reached, by host."""
    rows = [
        _measured(subject, found[subject.host], traffic, allowed, len(plan.subjects))
        for subject in plan.subjects
        if subject.host in found
    ]
    reasons = {host: str(error) for host, error in failed.items()}
    return Measurement(tuple(rows), plan.packets, allowed, reasons)


def _measured(
    subject: Subject,
    found: HostMeasured,
    traffic: Mapping[tuple[str, Flow], Passed],
    allowed: Allowed,
    rows: int,
) -> Measured:
    result: Any = found.probes[subject.probe]
    if isinstance(result, Round):
        sent = {flow: rate for (host, flow), rate in traffic.items() if host == subject.host}
        return judge(subject, result, {**found.passed, **sent}, allowed, rows)
    if isinstance(result, Waits):
        return Measured(subject, reason=result.reason)
    return Measured(subject, reason=result, is_wrong=True)
