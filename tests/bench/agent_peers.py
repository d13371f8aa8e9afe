"""The agents that are measured: each a process of its own, all with the rows of vmibShapeTable.

Every one answers SNMPv2c to `COMMUNITY`, and SNMPv3 (SHA-256, AES-128) to `USER`, on loopback.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from shape_rows import VIFS_PER_MACHINE

from vmib import machines, objects
from vmib.machines import Machine, MachineVif
from vmib.rows import Direction, Shape, ShapeKey
from vmib.smi import Oid
from vmib.snmp import ber
from vmib.snmp.message import V2C, CommunityMessage, Pdu, PduType, decode_message, encode_community
from vmib_agent import users
from vmib_agent.state import Indexes, State
from vmib_agent.statefile import StateFile
from vmib_agent.users import Role

HERE = Path(__file__).resolve().parent
COMMUNITY = "bench-community"
USER = "bench"
PASSPHRASES = ("auth pass phrase", "priv pass phrase")
READY_SECONDS = 120.0

_OWN = objects.VMIB_MIB
FIRST: Oid = (*objects.vmibShapeTable.entry, 2)
"""The first column of vmibShapeTable."""


@dataclass
class Peer:
    """A running agent."""

    name: str
    port: int
    processes: tuple[int, ...]
    vifs: int
    seconds_to_answer: float
    log: Path

    def cpu(self) -> float:
        """The seconds of CPU that its processes have used."""
        spent = 0
        for process in self.processes:
            for task in Path(f"/proc/{process}/task").iterdir():
                spent += int((task / "schedstat").read_text().split()[0])
        return spent / 1e9

    def resident(self) -> float:
        """Its resident memory in MiB."""
        pages = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in self.processes)
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def row_oid(column: int, vif: int, direction: int) -> Oid:
    """A cell of vmibShapeTable in our agent; vifs count from 1."""
    machine, number = divmod(vif - 1, VIFS_PER_MACHINE)
    return (*objects.vmibShapeTable.entry, column, machine + 1, number + 1, direction)


def free_port() -> int:
    """A UDP port of loopback that nobody uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(directory: Path) -> Mapping[str, Path]:
    """Compile the C programs beside this file."""
    built = {name: directory / name for name in ("loadgen", "agent")}
    flags: list[str] = []
    for option in ("--base-cflags", "--agent-libs"):
        flags += subprocess.run(
            ["net-snmp-config", option], check=True, capture_output=True, text=True
        ).stdout.split()
    for name, program in built.items():
        source = str(HERE / "c" / f"{name}.c")
        libraries = flags if name == "agent" else []
        subprocess.run(["gcc", "-O2", "-o", str(program), source, *libraries], check=True)
    return built


def machines_of(vifs: int, first: int = 0) -> list[Machine]:
    """Machines with so many interfaces together, which are numbered from `first`; their devices do
    not exist."""
    found = []
    for number in range(first // VIFS_PER_MACHINE, -(-(first + vifs) // VIFS_PER_MACHINE)):
        names = range(number * VIFS_PER_MACHINE, min((number + 1) * VIFS_PER_MACHINE, first + vifs))
        interfaces = tuple(
            MachineVif(
                place,
                f"02:00:00:{vif >> 16:02x}:{vif >> 8 & 255:02x}:{vif & 255:02x}",
                f"bench{vif}",
                f"eth{place}",
            )
            for place, vif in enumerate(names)
        )
        name = f"m{number + 1:05d}"
        found.append(Machine(str(UUID(int=number + 1)), name, f"/nonexistent/{name}", interfaces))
    return found


def _intent(vifs: int, rows: int) -> State:
    """A state with so many configured rows of vmibShapeTable, one way of an interface each."""
    indexes = Indexes(
        {str(UUID(int=n + 1)): n + 1 for n in range(-(-vifs // VIFS_PER_MACHINE))},
        {},
        -(-vifs // VIFS_PER_MACHINE) + 1,
    )
    keys = [row_oid(2, vif, 2)[-3:] for vif in range(1, rows + 1)]
    shapes = {ShapeKey(vm, vif, Direction(way)): Shape(rate=1000) for vm, vif, way in keys}
    return State(spin_lock=0, intent={"vmibShapeTable": shapes} if rows else {}, indexes=indexes)


@contextmanager
def ours(
    directory: Path,
    vifs: int,
    rows: int = 0,
    extra: str = "",
    first: int = 0,
    cpus: Collection[int] = (0,),
    there: Iterable[Machine] | None = None,
) -> Iterator[Peer]:
    """vMIB's agent: the whole process; its machines have devices that do not exist, unless others
    are there."""
    _prepare(directory, there or machines_of(vifs, first), _intent(vifs, rows))
    port = free_port()
    more = f'[v2c]\ncommunity = "{COMMUNITY}"\nsources = ["127.0.0.0/8"]\n'
    command = _command(directory, f'listen = ["127.0.0.1:{port}"]\n{extra}', more)
    with _running("vMIB", command, port, vifs, directory, cpus=cpus) as peer:
        yield peer


def _prepare(directory: Path, there: Iterable[Machine], known: State) -> None:
    """Machines, a user, and what the agent remembers."""
    state = directory / "state"
    state.mkdir(mode=0o700, parents=True)
    (directory / "machines").mkdir()
    for machine in there:
        machines.save(directory / "machines", machine)
    users.add_user(state, USER, Role.ADMIN, *PASSPHRASES)
    if known.intent:
        StateFile(state).save(known)


def _command(directory: Path, before: str, after: str) -> list[str]:
    """What starts an agent over what was prepared, with more configuration around its own."""
    file = directory / "agent.toml"
    file.touch(mode=0o600)
    file.write_text(
        f'{before}\nstate_directory = "{directory / "state"}"\n'
        f'[hypervisor]\nmachines_directory = "{directory / "machines"}"\n{after}'
    )
    return [sys.executable, "-m", "vmib_agent", "run", "--config", str(file)]


@contextmanager
def in_c(program: Path, directory: Path, vifs: int) -> Iterator[Peer]:
    """The C agent on net-snmp's library."""
    directory.mkdir(parents=True)
    port = free_port()
    (directory / "vmib_bench.conf").write_text(_net_snmp_access())
    command = [str(program), str(port), str(vifs), _dotted(objects.vmibShapeTable.oid)]
    environment = {"SNMPCONFPATH": str(directory), "SNMP_PERSISTENT_DIR": f"{directory}/kept"}
    with _running("C agent (net-snmp)", command, port, vifs, directory, environment) as peer:
        yield peer


@contextmanager
def pass_persist(directory: Path, vifs: int) -> Iterator[Peer]:
    """snmpd with a Python program behind `pass_persist`."""
    directory.mkdir(parents=True)
    port = free_port()
    configuration = directory / "snmpd.conf"
    root = _dotted(objects.vmibShapeTable.oid)
    program = f"{sys.executable} {HERE / 'pass_persist_agent.py'} {vifs}"
    configuration.write_text(
        f"agentaddress udp:127.0.0.1:{port}\n{_net_snmp_access()}pass_persist {root} {program}\n"
    )
    command = ["snmpd", "-f", "-r", "-C", "-c", str(configuration), "-Lf", "/dev/null"]
    environment = {"SNMPCONFPATH": str(directory), "SNMP_PERSISTENT_DIR": f"{directory}/kept"}
    with _running(
        "snmpd, pass_persist (Python)", command, port, vifs, directory, environment
    ) as peer:
        children = Path(f"/proc/{peer.processes[0]}/task/{peer.processes[0]}/children")
        peer.processes += tuple(map(int, children.read_text().split()))
        yield peer


@contextmanager
def master(directory: Path) -> Iterator[tuple[Peer, Path]]:
    """snmpd as AgentX master, and where it is that."""
    directory.mkdir(parents=True, exist_ok=True)
    port, socket_path = free_port(), directory / "agentx"
    configuration = directory / "snmpd.conf"
    configuration.write_text(
        f"agentaddress udp:127.0.0.1:{port}\n{_net_snmp_access()}"
        f"master agentx\nagentXSocket {socket_path}\nagentXTimeout 10\n"
    )
    command = ["snmpd", "-f", "-r", "-C", "-c", str(configuration), "-Lf", "/dev/null"]
    environment = {"SNMPCONFPATH": str(directory), "SNMP_PERSISTENT_DIR": f"{directory}/kept"}
    log = directory / "snmpd.log"
    with process(command, log, environment, (0,)) as snmpd:
        while not socket_path.exists():
            time.sleep(0.01)
        yield Peer("snmpd", port, (snmpd.pid,), 0, 0.0, log), socket_path


@contextmanager
def _under_snmpd(
    name: str,
    directory: Path,
    vifs: int,
    subagent: Callable[[Path], tuple[list[str], Mapping[str, str]]],
) -> Iterator[Peer]:
    """A subagent: what starts it at a master's socket, and its environment. The CPU time is that
    of both."""
    with master(directory) as (snmpd, socket_path):
        command, own = subagent(socket_path)
        with _running(name, command, snmpd.port, vifs, directory, own) as peer:
            peer.processes = (*snmpd.processes, *peer.processes)
            yield peer


@contextmanager
def ours_under_snmpd(directory: Path, there: Collection[Machine], more: str = "") -> Iterator[Peer]:
    """vMIB's agent below snmpd, with these machines and more configuration."""

    def subagent(socket_path: Path) -> tuple[list[str], Mapping[str, str]]:
        _prepare(directory, there, State(spin_lock=0))
        agentx = f'[agentx]\nenabled = true\naddress = "{socket_path}"\n{more}'
        return _command(directory, "listen = []", agentx), {}

    vifs = sum(len(machine.vifs) for machine in there)
    with _under_snmpd("snmpd, vMIB", directory, vifs, subagent) as peer:
        yield peer


@contextmanager
def c_under_snmpd(program: Path, directory: Path, vifs: int) -> Iterator[Peer]:
    """The C agent below snmpd."""

    def subagent(socket_path: Path) -> tuple[list[str], Mapping[str, str]]:
        root = _dotted(objects.vmibShapeTable.oid)
        own = {"SNMPCONFPATH": "/nonexistent", "SNMP_PERSISTENT_DIR": f"{directory}/sub"}
        return [str(program), str(socket_path), str(vifs), root], own

    with _under_snmpd("snmpd, C subagent", directory, vifs, subagent) as peer:
        yield peer


@contextmanager
def pysnmp(directory: Path, vifs: int) -> Iterator[Peer]:
    """pysnmp alone, with a small controller over a sorted list."""
    directory.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, str(HERE / "pysnmp_agent.py"), str(port), str(vifs)]
    with _running("pysnmp 7.1", command, port, vifs, directory) as peer:
        yield peer


def _dotted(oid: Oid) -> str:
    return "." + ".".join(map(str, oid))


def _net_snmp_access() -> str:
    return (
        f"rocommunity {COMMUNITY} 127.0.0.1\n"
        f'createUser {USER} SHA-256 "{PASSPHRASES[0]}" AES "{PASSPHRASES[1]}"\n'
        f"rwuser {USER} priv\ndontLogTCPWrappersConnects yes\n"
    )


@contextmanager
def _running(
    name: str,
    command: list[str],
    port: int,
    vifs: int,
    directory: Path,
    environment: Mapping[str, str] | None = None,
    cpus: Collection[int] = (0,),
) -> Iterator[Peer]:
    log = directory / "log"
    began = time.monotonic()
    with process(command, log, environment, cpus) as running:
        _wait_for_answer(running, port, began, log)
        yield Peer(name, port, (running.pid,), vifs, time.monotonic() - began, log)


@contextmanager
def process(
    command: list[str], log: Path, environment: Mapping[str, str] | None, cpus: Collection[int]
) -> Iterator[subprocess.Popen[bytes]]:
    """A program on some processors, its output in a file; it is ended afterwards."""
    with log.open("wb") as output:
        started = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | {"MIBS": ""} | dict(environment or {}),
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        started.wait(20)


def _wait_for_answer(process: subprocess.Popen[bytes], port: int, began: float, log: Path) -> None:
    """Ask for what follows vmibShapeRate until somebody answers with a value of VMIB-MIB."""
    question = v2c_message(PduType.GET_NEXT, 1, [FIRST])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.01)
        client.connect(("127.0.0.1", port))
        while time.monotonic() - began < READY_SECONDS:
            if process.poll() is not None:
                raise RuntimeError(f"{log}: {log.read_text()[-2000:]}")
            try:
                client.send(question)
                answer = decode_message(client.recv(65535))
            except OSError:
                time.sleep(0.005)
                continue
            assert isinstance(answer, CommunityMessage)
            found = answer.pdu.varbinds[0].oid if answer.pdu.varbinds else ()
            if answer.pdu.error_status == 0 and found[: len(_OWN)] == _OWN:
                return
            time.sleep(0.005)
    raise RuntimeError(f"{log}: no answer within {READY_SECONDS:g} s")


def v2c_message(
    kind: PduType, request_id: int, oids: list[Oid], numbers: tuple[int, int] = (0, 0)
) -> bytes:
    """A request by community."""
    varbinds = tuple(ber.VarBind(oid, ber.Value.null()) for oid in oids)
    pdu = Pdu(kind, request_id, varbinds, *numbers)
    assert V2C == 1
    return encode_community(CommunityMessage(COMMUNITY.encode(), pdu))


def exporter_program() -> Path | None:
    """prometheus-snmp-exporter, installed or unpacked in the cache of this tree."""
    found = shutil.which("prometheus-snmp-exporter")
    unpacked = HERE.parents[1] / ".cache/exporter/usr/bin/prometheus-snmp-exporter"
    return Path(found) if found else unpacked if unpacked.exists() else None


Start = Callable[[Path, int], "contextmanager[Peer]"]
