"""How a lab is now: what is there of it, and what its agents answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from vmib.rows import HostAgentMode

from . import lab_access, lab_agents, lab_spec, namespaces
from .client import Client
from .lab_errors import LabUnusable, UnknownLab
from .lab_records import names, recorded, require_root
from .lab_spec import HostSpec, LabSpec

_SECONDS = 1.0
"""How long an agent may take to answer."""


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """An agent: its process, since how many seconds, and what it answers; None: not at all."""

    pid: int | None
    uptime: float | None
    mode: HostAgentMode | None

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self.pid is not None

    @property
    def answering(self) -> bool:
        """Whether it answers SNMP."""
        return self.mode is not None


@dataclass(frozen=True, slots=True)
class MachineStatus:
    """A machine and whether its namespace is there."""

    name: str
    present: bool


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host, whether its namespace is there, its agent and its machines."""

    id: str
    present: bool
    address: str
    port: int
    agent: AgentStatus
    machines: tuple[MachineStatus, ...]


@dataclass(frozen=True, slots=True)
class LabStatus:
    """A lab and since how many seconds it is there."""

    name: str
    uptime: float
    hosts: tuple[HostStatus, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and every agent answers that all is well."""
        return all(
            host.present
            and host.agent.mode is HostAgentMode.normal
            and all(machine.present for machine in host.machines)
            for host in self.hosts
        )


def status(name: str) -> LabStatus:
    """How a lab is now; raises UnknownLab, CredentialsRefused and ValueRefused."""
    require_root()
    spec = recorded(name)
    if spec is None:
        there = names()
        if name in there:
            raise LabUnusable(name, "it is only half there")
        raise UnknownLab(name, there)
    uptime = max(0.0, time.time() - lab_spec.paths(name).record.stat().st_mtime)
    modes = asyncio.run(_modes(spec))
    hosts = zip(spec.hosts, modes, strict=True)
    return LabStatus(name, uptime, tuple(_host_status(name, host, mode) for host, mode in hosts))


async def _modes(spec: LabSpec) -> list[HostAgentMode | None]:
    entry = lab_access.recall(spec)
    async with Client() as client:
        asked = (lab_agents.mode_now(client, spec, host, entry, _SECONDS) for host in spec.hosts)
        return await asyncio.gather(*asked)


def _host_status(lab: str, host: HostSpec, mode: HostAgentMode | None) -> HostStatus:
    process = lab_agents.running(lab, host.id)
    agent = AgentStatus(
        pid=None if process is None else process.pid,
        uptime=None if process is None else process.uptime,
        mode=mode,
    )
    machines = tuple(
        MachineStatus(machine.name, namespaces.exists(lab_spec.namespace(lab, machine.name)))
        for machine in host.machines
    )
    present = namespaces.exists(lab_spec.namespace(lab, host.id))
    return HostStatus(host.id, present, host.address, host.port, agent, machines)
