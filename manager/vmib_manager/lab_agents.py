"""The agents of a lab: each runs in the namespace of its host and answers outside of it.

An agent's socket is made here, in the caller's namespace, and passed on as sd_listen_fds(3)
describes: the agent is reached on loopback, what it does to the kernel stays in its host. Every
process of an agent is in its host's namespace from the first moment on.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from vmib import machines, objects
from vmib.errors import ValueRefused
from vmib.rows import HostAgentMode

from . import credentials_file, lab_spec, namespaces, private_files, processes
from .client import Agent, AgentError, BadReply, Client
from .credentials_file import Entry
from .lab_errors import AddressTaken, AgentFailed
from .lab_spec import HostPaths, HostSpec, LabSpec
from .processes import Process

START_SECONDS = 30.0
"""How long an agent may take until it answers."""

_MODE = (*objects.vmibHostAgentMode.oid, 0)
_RECOVERY_PAUSE = 0.1
_MANAGER_VARIABLES = ("LISTEN_", "NOTIFY_", "WATCHDOG_")
_LISTEN_FD = 3
_STARTER = "sh"
_START = """\
umask 077 && cd / &&
read -r stat </proc/$$/stat && printf '%s\\n' "$stat" >"$0" &&
"$1" -P -m vmib_agent user add "$3" --role admin --config "$2" --passphrase-file - >/dev/null &&
export LISTEN_PID=$$ &&
exec "$1" -P -m vmib_agent run --config "$2" </dev/null
"""
"""Notes its process, waits for pass phrases on standard input, becomes the agent.

Arguments: where to note, the Python interpreter, the agent's configuration file, the user.
"""


@dataclass(frozen=True, slots=True)
class Starting:
    """An agent that waits, its modules loaded, for the pass phrases of its user."""

    host: HostSpec
    process: Process
    gate: io.FileIO

    def release(self, entry: Entry) -> None:
        """Let it serve."""
        with self.gate, suppress(BrokenPipeError):  # if it has ended, its log tells why
            self.gate.write(f"{entry.auth}\n{entry.priv}\n".encode())

    def abandon(self) -> None:
        """End it, released or not; raises ProcessStays."""
        self.gate.close()
        processes.stop(processes.session(self.process), 0)


def prepare(spec: LabSpec, host: HostSpec) -> None:
    """Write what is missing of a host's files; raises OSError."""
    paths = lab_spec.host_paths(spec.name, host.id)
    for directory in (paths.directory.parent, paths.directory, paths.state, paths.machines):
        private_files.make_directory(directory)
    text = _configuration(paths, host)
    if not paths.config.exists() or paths.config.read_text() != text:
        private_files.write(paths.config, text)
    for position in range(len(host.machines)):
        machine = lab_spec.machine(spec.name, host, position)
        if not _is_saved(paths.machines, machine):
            machines.save(paths.machines, machine)


def running(lab: str, host: str) -> Process | None:
    """The agent of a host, if it runs."""
    process = processes.recorded(lab_spec.host_paths(lab, host).pid)
    return process if process and process.alive else None


def end_stray(lab: str, host: str) -> None:
    """End what is no agent of a host any more, or will not become one; raises ProcessStays.

    That is one whose host is gone, and one that waits at the gate for somebody who is gone.
    """
    process = processes.recorded(lab_spec.host_paths(lab, host).pid)
    if process is None:
        return
    name = lab_spec.namespace(lab, host)
    there = {namespaces.inode(name)} if namespaces.exists(name) else set()
    astray = process not in processes.inside(there)
    if astray or processes.program(process) == _STARTER:
        processes.stop(processes.session(process), 0)


def listen(host: HostSpec) -> socket.socket:
    """The socket of a host's agent, in this thread's namespace; raises AddressTaken."""
    family = socket.AF_INET6 if ":" in host.address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    try:
        made.bind((host.address, host.port))
    except OSError as error:
        made.close()
        reason = error.strerror or str(error)
        raise AddressTaken(host.id, host.address, host.port, reason) from None
    return made


def start(spec: LabSpec, host: HostSpec, listening: socket.socket) -> Starting:
    """Start the agent of a host up to the gate; use it inside `namespaces.in_thread`."""
    paths = lab_spec.host_paths(spec.name, host.id)
    source, gate = os.pipe2(os.O_CLOEXEC)
    log_flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    with io.FileIO(source), ExitStack() as stack:
        opened = stack.enter_context(io.FileIO(gate, "wb"))
        with namespaces.entered(lab_spec.namespace(spec.name, host.id)):
            pid = os.posix_spawn(
                "/bin/sh",
                [
                    "sh",
                    "-c",
                    _START,
                    *map(str, (paths.pid, sys.executable, paths.config)),
                    spec.user,
                ],
                _environment(os.environ) | {"LISTEN_FDS": "1"},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, source, 0),
                    (os.POSIX_SPAWN_OPEN, 1, paths.log, log_flags, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                    (os.POSIX_SPAWN_DUP2, listening.fileno(), _LISTEN_FD),
                ],
                setsid=True,
            )
        process = processes.current(pid)
        # Who makes a lab and stays must not keep the agents that end as zombies.
        threading.Thread(target=os.waitpid, args=(pid, 0), daemon=True).start()
        if process is None:
            raise AgentFailed(host.id, f"ended: {_last_line(paths.log)}", paths.log)
        stack.pop_all()
        return Starting(host, process, opened)


async def wait_until_normal(
    client: Client, spec: LabSpec, host: HostSpec, entry: Entry, process: Process
) -> None:
    """Return when a host's agent answers that all is well; raises AgentFailed."""
    log = lab_spec.host_paths(spec.name, host.id).log
    asking = asyncio.ensure_future(_mode(_agent(client, spec, host, entry, START_SECONDS)))
    try:
        with _end_of(process) as ended:
            await asyncio.wait((asking, ended), return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                raise AgentFailed(host.id, f"ended: {_last_line(log)}", log)
        mode = asking.result()
    except AgentError as error:
        raise AgentFailed(host.id, str(error), log) from None
    finally:
        asking.cancel()
    if mode is not HostAgentMode.normal:
        raise AgentFailed(host.id, f"its mode is {mode.name}", log)


async def mode_now(
    client: Client, spec: LabSpec, host: HostSpec, entry: Entry, seconds: float
) -> HostAgentMode | None:
    """What a host's agent answers within `seconds`, None without an answer."""
    try:
        return await _read_mode(_agent(client, spec, host, entry, seconds))
    except AgentError:
        return None


def _agent(client: Client, spec: LabSpec, host: HostSpec, entry: Entry, seconds: float) -> Agent:
    known = credentials_file.credentials_of(spec.user, entry)
    return client.agent(host.address, host.port, known, timeout=seconds, retries=5)


async def _mode(agent: Agent) -> HostAgentMode:
    """The mode of an agent once it is not recovering any more."""
    while (mode := await _read_mode(agent)) is HostAgentMode.recovering:
        await asyncio.sleep(_RECOVERY_PAUSE)
    return mode


async def _read_mode(agent: Agent) -> HostAgentMode:
    ((_, value),) = await agent.get([_MODE])
    if not isinstance(value.value, int):
        raise BadReply(agent.name, "has no vmibHostAgentMode; it is no agent of VMIB-MIB")
    return HostAgentMode(value.value)


@contextmanager
def _end_of(process: Process) -> Iterator[asyncio.Future[None]]:
    """A future that is done when the process has ended."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        ended.set_result(None)
        yield ended
        return

    def note() -> None:
        loop.remove_reader(handle)
        ended.set_result(None)

    loop.add_reader(handle, note)
    if not process.alive and not ended.done():
        note()
    try:
        yield ended
    finally:
        loop.remove_reader(handle)
        os.close(handle)


def _configuration(paths: HostPaths, host: HostSpec) -> str:
    address = f"[{host.address}]" if ":" in host.address else host.address
    return (
        f"listen = [{json.dumps(f'{address}:{host.port}')}]\n"
        f"state_directory = {json.dumps(str(paths.state))}\n\n"
        f"[system]\nname = {json.dumps(host.id)}\n\n"
        f"[hypervisor]\nmachines_directory = {json.dumps(str(paths.machines))}\n"
    )


def _is_saved(directory: Path, machine: machines.Machine) -> bool:
    try:
        return machines.load(directory / (machine.name + machines.SUFFIX)) == machine
    except (OSError, ValueRefused):
        return False


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Our environment without what a service manager told us alone."""
    return {key: value for key, value in own.items() if not key.startswith(_MANAGER_VARIABLES)}


def _last_line(log: Path) -> str:
    """The last words of an agent."""
    try:
        lines = log.read_text(errors="replace").split("\n")
    except OSError:
        lines = []
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
