"""An agent for the tests of the front end: the whole process, over a MIB that lives in memory.

As a program (`python agents.py CONFIG`) it serves that MIB; as a module it starts such a process,
with two users, and asks it with net-snmp's tools or with datagrams.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vmib import objects
from vmib.schema import instance, locate
from vmib.smi import Oid, SyntaxRefused, Tag
from vmib.status import ErrorStatus
from vmib_agent import config, daemon, users
from vmib_agent.service import Missing, SetRefused, Value, VarBind
from vmib_agent.users import Role

ROOT = Path(__file__).resolve().parents[2]
PASSPHRASES = ("auth pass phrase", "priv pass phrase")
MACHINES = 40
FAULTY = (*objects.vmibHostUuid.oid, 0)
"""Reading this instance raises."""
SETS = (*objects.vmibTxnGeneration.oid, 0)
"""How many SETs were carried out."""
FAULTY_DELAY = 666
REFUSED_DELAY = 667
NOTIFIED_DELAY = 668
ALL_NOTIFIED_DELAY = 669
"""Setting these makes it notify, of a drift or of everything that there is."""


def shape(field_name: str, vm: int, direction: int = 2) -> Oid:
    """A cell of vmibShapeTable."""
    return instance(objects.vmibShapeTable, field_name, (vm, 1, direction))


def dotted(oid: Oid) -> str:
    """An OID as the tools take it."""
    return "." + ".".join(map(str, oid))


class Memory:
    """A MIB of shape rows: integers only, checked for type and range, some of them traps."""

    def __init__(self, notify: Callable[[str, Sequence[VarBind]], None] | None = None) -> None:
        self.sets = 0
        self.principals: list[str] = []
        self._notify = notify
        self.values: dict[Oid, int] = {
            instance(objects.vmibShapeTable, column.field, (vm, 1, direction)): 0
            for column in objects.vmibShapeTable.columns
            if column.access.readable
            for vm in range(1, MACHINES + 1)
            for direction in (1, 2)
        }
        self.values[(*objects.vmibTxnSpinLock.oid, 0)] = 0
        self.values[FAULTY] = 0
        self.values[(*objects.vmibVmNextIndex.oid, 0)] = MACHINES + 1
        self._order = sorted(self.values)

    def get(self, oid: Oid) -> Value | Missing:
        if oid == FAULTY:
            raise RuntimeError("a fault on purpose")
        if oid == SETS:
            return Value(Tag.COUNTER32, self.sets)
        if oid in self.values:
            return self._value(oid)
        place = locate(oid)
        return Missing(instance=place is not None and place.object.access.readable)

    def get_next(self, oid: Oid) -> VarBind | None:
        position = bisect_right(self._order, oid)
        if position == len(self._order):
            return None
        following = self._order[position]
        if following == FAULTY:
            raise RuntimeError("a fault on purpose")
        return VarBind(following, self._value(following))

    def set(self, varbinds: Sequence[VarBind], principal: str) -> None:
        self.sets += 1
        self.principals.append(principal)
        for position, (oid, value) in enumerate(varbinds, 1):
            place = locate(oid)
            if place is None or not place.object.access.writable:
                raise SetRefused(ErrorStatus.notWritable, position, "read-only")
            if value.tag != place.object.syntax.tag:
                raise SetRefused(ErrorStatus.wrongType, position, "another type")
            try:
                place.object.syntax.check(place.object.name, value.raw)
            except SyntaxRefused as refused:
                raise SetRefused(refused.status, position, str(refused)) from None
            if oid not in self.values:
                raise SetRefused(ErrorStatus.inconsistentName, position, "no such row")
            if place.object is objects.vmibShapeDelay and value.raw == FAULTY_DELAY:
                raise RuntimeError("a fault on purpose")
            if place.object is objects.vmibShapeDelay and value.raw == REFUSED_DELAY:
                raise SetRefused(ErrorStatus.undoFailed, 0, "on purpose")
        for oid, value in varbinds:
            assert isinstance(value.raw, int)
            self.values[oid] = value.raw
        if self._notify and NOTIFIED_DELAY in (value.raw for _, value in varbinds):
            self._notify("vmibDrift", varbinds)
        if self._notify and ALL_NOTIFIED_DELAY in (value.raw for _, value in varbinds):
            for notification in objects.NOTIFICATIONS:
                self._notify(notification.name, varbinds)

    def _value(self, oid: Oid) -> Value:
        place = locate(oid)
        assert place is not None
        return Value(place.object.syntax.tag, self.values[oid])


@dataclass
class Agent:
    """A running agent process and how to reach it."""

    process: subprocess.Popen[bytes]
    directory: Path
    port: int
    log: Path
    statuses: list[str] = field(default_factory=list)

    def tool(
        self, program: str, *arguments: str, user: str = "admin", expect: int | None = 0
    ) -> str:
        """What a tool of net-snmp prints, with a user whose secrets are in a private file."""
        command = [program, "-On", "-r", "0", "-t", "3", f"127.0.0.1:{self.port}", *arguments]
        environment = os.environ | {"SNMPCONFPATH": str(self.directory / user), "MIBS": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if expect is not None:
            assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ask(self, datagram: bytes, seconds: float = 3.0) -> bytes | None:
        """The agent's answer to a datagram, or None when there is none in time."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(seconds)
            client.sendto(datagram, ("127.0.0.1", self.port))
            try:
                return client.recv(65535)
            except TimeoutError:
                return None


def free_port() -> int:
    """A UDP port of loopback that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tool_configuration(
    directory: Path, user: str, auth: str = "SHA-256", priv: str = "AES-128"
) -> None:
    """A private snmp.conf for net-snmp's tools, in a directory named like the user."""
    home = directory / user
    home.mkdir(exist_ok=True)
    file = home / "snmp.conf"
    file.touch(mode=0o600)
    file.write_text(
        f"defVersion 3\ndefSecurityName {user}\ndefSecurityLevel authPriv\n"
        f"defAuthType {auth}\ndefPrivType {priv.replace('AES-128', 'AES')}\n"
        f'defAuthPassphrase "{PASSPHRASES[0]}"\ndefPrivPassphrase "{PASSPHRASES[1]}"\n'
    )


def add_user(directory: Path, name: str, role: Role, **protocols: str) -> None:
    """A user of the agent in this directory, with the configuration of the tools."""
    users.add_user(directory / "state", name, role, *PASSPHRASES, **protocols)
    tool_configuration(directory, name, **protocols)


def prepare(directory: Path, port: int, more: str = "") -> Path:
    """State, users and configuration file of an agent."""
    (directory / "state").mkdir(mode=0o700, exist_ok=True)
    for role in Role:
        add_user(directory, role.value, role)
    file = directory / "agent.toml"
    file.touch(mode=0o600)
    file.write_text(
        f'listen = ["127.0.0.1:{port}"]\nstate_directory = "{directory / "state"}"\n{more}'
    )
    return file


@contextmanager
def running(more: str = "", directory: Path | None = None, port: int = 0) -> Iterator[Agent]:
    """An agent that serves `Memory` on loopback, until the end of the block."""
    with tempfile.TemporaryDirectory() as temporary:
        where = directory or Path(temporary)
        port = port or free_port()
        started = start(prepare(where, port, more), where, port)
        try:
            yield started
        finally:
            stop(started)


def start(
    file: Path,
    directory: Path,
    port: int,
    passed: socket.socket | None = None,
    program: str = __file__,
) -> Agent:
    """Start the process and wait until it says that it is ready, as systemd would.

    A socket that is passed is its descriptor 3, by the protocol of sd_listen_fds(3).
    """
    log = directory / "log"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        tempfile.TemporaryDirectory() as place,
        log.open("ab") as output,
    ):
        manager.bind(f"{place}/notify")
        manager.settimeout(15)
        paths = os.pathsep.join(str(ROOT / part) for part in ("agent", "mibs"))
        environment = os.environ | {"NOTIFY_SOCKET": f"{place}/notify", "PYTHONPATH": paths}
        command = [sys.executable, program, str(file)]
        if passed is None:
            process = subprocess.Popen(command, stderr=output, env=environment)
        else:
            script = 'exec env LISTEN_FDS=1 LISTEN_PID=$$ "$@" 3<&0'
            command = ["sh", "-c", script, "sh", *command]
            process = subprocess.Popen(command, stdin=passed, stderr=output, env=environment)
        statuses: list[str] = []
        while "READY=1" not in statuses:
            try:
                statuses += manager.recv(4096).decode().split("\n")
            except TimeoutError:
                process.kill()
                raise AssertionError(log.read_text()) from None
    return Agent(process, directory, port, log, statuses)


def stop(agent: Agent) -> int:
    """End the process as systemd would; its exit status."""
    if agent.process.poll() is None:
        agent.process.send_signal(signal.SIGTERM)
    return agent.process.wait(10)


class _MemoryHost:
    def __init__(self, service: Memory) -> None:
        self.service = service
        self.view = None
        self.quick = None

    def close(self) -> None:
        """Nothing to stop."""


def main() -> None:
    """Serve `Memory` as the configuration file says."""
    chosen = config.load(Path(sys.argv[1]))
    daemon.run(chosen, lambda _config, _loop, notify, _uptime: _MemoryHost(Memory(notify)))


if __name__ == "__main__":
    main()
