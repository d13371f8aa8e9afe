"""A lab: the hosts and machines of a real file on this machine, made of network namespaces.

    spec = lab.spec_of(load_real("two-machines-real.xml"))
    lab.up(spec, print)
    lab.exec_("lab", "alice", ["ping", "-c", "1", "10.0.0.2"])

Each host is a namespace with its own agent, which answers on loopback; each machine is one whose
interfaces are on its host's bridges; a switch joins the hosts. All namespaces of a lab begin with
`vmib-NAME-`, all its files are in /run/vmib/lab/NAME: that, and nothing else, is what `down`
removes, also after an `up` that was killed. Functions block and need root; `spec_of` and `serving`
do not.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NoReturn

from vmib.errors import ValueRefused

from . import lab_access, lab_agents, lab_spec, namespaces, private_files, processes
from .client import Client
from .credentials_file import Entry
from .lab_agents import Starting
from .lab_errors import InsideLab, NotMade, UnknownLab, UnknownMember
from .lab_real import NotForLab, spec_of
from .lab_records import Progress, alone, holding, names, require_no_other, require_root
from .lab_spec import DEFAULT_NAME, HostSpec, LabSpec
from .lab_status import AgentStatus, HostStatus, LabStatus, MachineStatus, status
from .model import Real
from .processes import Process

__all__ = [
    "spec_of",
    "up",
    "down",
    "status",
    "names",
    "serving",
    "command",
    "exec_",
    "DEFAULT_NAME",
    "Progress",
    "LabSpec",
    "LabStatus",
    "HostStatus",
    "MachineStatus",
    "AgentStatus",
    "NotForLab",
]

_PATIENCE = 2.0
"""Seconds that processes of a lab have to end before they are killed."""


def up(spec: LabSpec, progress: Progress = lambda _: None) -> tuple[str, ...]:
    """Make what is missing of a lab, wait until its agents answer, and return what was made.

    When it fails or is interrupted, what it made is taken back. Raises ValueRefused, LabError and
    CredentialsRefused.
    """
    lab_spec.check(spec)
    require_root()
    with alone(spec.name, progress):
        require_no_other(spec)
        fresh = not lab_spec.paths(spec.name).record.exists()
        made = _Made(fresh, frozenset(namespaces.names(lab_spec.prefix(spec.name))))
        try:
            _make(spec, made, progress)
        except BaseException as error:
            try:
                progress(f"lab {spec.name}: taking back what was made")
            finally:
                _take_back(spec.name, made)
            if isinstance(error, OSError):
                raise NotMade(spec.name, str(error)) from error
            raise
    if not made.things:
        progress(f"lab {spec.name} is up already, nothing to do")
    return tuple(made.things)


def down(name: str, progress: Progress = lambda _: None) -> tuple[str, ...]:
    """Remove a lab with everything that runs in it; returns what was removed, nothing if no lab.

    Raises ValueRefused, LabError and OSError.
    """
    lab_spec.directory(name)
    require_root()
    with alone(name, progress):
        removed = _remove(name)
    progress(f"lab {name} is down" if removed else f"there is no lab {name}, nothing to do")
    return removed


def serving(real: Real) -> str | None:
    """The name of the lab whose agents are those of a real file, None if there is none."""
    if os.geteuid() != 0:
        return None
    agents = [(str(host.agent.address), host.agent.port) for host in real.hosts]
    found = [set(holding(address, port)) for address, port in agents]
    return min(set.intersection(*found), default=None) if found else None


def command(name: str, member: str, words: Sequence[str]) -> list[str]:
    """The command line that runs a command in a host or machine; raises as `exec_`."""
    require_root()
    lab_spec.directory(name)
    if not words:
        raise ValueRefused("command", "", "a program and its arguments")
    prefix = lab_spec.prefix(name)
    present = [full[len(prefix) :] for full in namespaces.names(prefix) if namespaces.exists(full)]
    if not present:
        raise UnknownLab(name, names())
    if member not in present:
        raise UnknownMember(name, member, (other for other in present if other != lab_spec.SWITCH))
    return ["ip", "netns", "exec", lab_spec.namespace(name, member), *words]


def exec_(name: str, member: str, words: Sequence[str]) -> NoReturn:
    """Become a command in a host or machine of a lab: its exit status is this process's.

    Raises UnknownLab, UnknownMember, ValueRefused and OSError.
    """
    line = command(name, member, words)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execvp(line[0], line)  # noqa: S606 -- a list, and no shell in between


@dataclass(slots=True)
class _Made:
    """What one `up` makes: perhaps the lab itself, and namespaces that were not there before."""

    fresh: bool
    before: frozenset[str]
    things: list[str] = field(default_factory=list)
    started: dict[str, Starting] = field(default_factory=dict)


def _make(spec: LabSpec, made: _Made, progress: Progress) -> None:
    from . import lab_wires  # it loads pyroute2, which takes a third of the time of all else

    paths = lab_spec.paths(spec.name)
    if made.fresh:
        private_files.make_directory(paths.directory)
        private_files.write(paths.record, lab_spec.dumps(spec))
    entry = lab_access.grant(spec)
    agents: dict[str, Process] = {}
    with ExitStack() as stack:
        sockets = {}
        for host in spec.hosts:
            lab_agents.prepare(spec, host)
            lab_agents.end_stray(spec.name, host.id)
            process = lab_agents.running(spec.name, host.id)
            if process is None:
                sockets[host] = stack.enter_context(lab_agents.listen(host))
            else:
                agents[host.id] = process

        def build() -> None:
            lab_wires.lay_hosts(spec, made.things.append)
            for host, listening in sockets.items():
                made.started[host.id] = lab_agents.start(spec, host, listening)
                made.things.append(f"agent of {host.id}")
            for host in spec.hosts:
                lab_wires.lay_machines(spec.name, host, made.things.append)
                if host.id in made.started:
                    made.started[host.id].release(entry)

        namespaces.in_thread(build)
    agents |= {host: agent.process for host, agent in made.started.items()}
    asyncio.run(_until_all_serve(spec, entry, agents, progress))


async def _until_all_serve(
    spec: LabSpec, entry: Entry, agents: dict[str, Process], progress: Progress
) -> None:
    async def until(host: HostSpec) -> None:
        process = agents[host.id]
        await lab_agents.wait_until_normal(client, spec, host, entry, process)
        machines = f"{len(host.machines)} machines"
        where = f"{host.address} port {host.port}"
        progress(f"{host.id}: {machines}, agent answers at {where} (process {process.pid})")

    async with Client() as client:
        await asyncio.gather(*map(until, spec.hosts))


def _take_back(lab: str, made: _Made) -> None:
    for agent in made.started.values():
        agent.abandon()
    if made.fresh:
        _remove(lab)
        return
    for name in namespaces.names(lab_spec.prefix(lab)):
        if name not in made.before:
            namespaces.remove(name)


def _remove(lab: str) -> tuple[str, ...]:
    """Remove a lab whatever there is of it: processes, namespaces, files, in this order."""
    removed: list[str] = []
    directory = lab_spec.directory(lab)
    found = namespaces.names(lab_spec.prefix(lab))
    inodes = {namespaces.inode(name) for name in found if namespaces.exists(name)}
    if processes.namespace("self") in inodes:
        raise InsideLab(lab)
    notes = (processes.recorded(path) for path in directory.glob("hosts/*/agent.pid"))
    agents = {agent for agent in notes if agent and agent.alive}
    while running := agents | set(processes.inside(inodes)):
        processes.stop(running, _PATIENCE)
        removed += [f"process {process.pid}" for process in running]
        agents.clear()
    for name in found:
        namespaces.remove(name)
        removed.append(f"namespace {name}")
    if directory.exists():
        shutil.rmtree(directory)
        removed.append(f"directory {directory}")
    return tuple(removed)
