"""A lab on a real kernel: it comes up with real agents, and goes without a trace."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from vmib_manager import lab, lab_spec, namespaces
from vmib_manager.lab_errors import (
    AddressTaken,
    AgentFailed,
    InsideLab,
    LabUnusable,
    UnknownLab,
    UnknownMember,
)
from vmib_manager.lab_spec import HostSpec, LabSpec, MachineSpec

from .hosts import run

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

NAME = f"t{os.getpid()}"
NETWORK = f"127.19.{os.getpid() % 250}"
MACHINES = 4


def spec_named(name: str, first: int) -> LabSpec:
    """Two hosts of two machines; their agents are at addresses from `first` on."""
    return LabSpec(
        name,
        (
            HostSpec("north", f"{NETWORK}.{first}", (MachineSpec("ann"), MachineSpec("bob"))),
            HostSpec("south", f"{NETWORK}.{first + 1}", (MachineSpec("cleo"), MachineSpec("dan"))),
        ),
    )


SHARED = spec_named(NAME + "a", 1)
OWN = spec_named(NAME + "b", 11)


def traces(name: str) -> list[str]:
    """Everything that there is of a lab."""
    found = [line for line in run("ip", "netns", "list").split() if f"vmib-{name}-" in line]
    found += [str(path) for path in Path("/run/netns").glob(f"vmib-{name}-*")]
    found += [str(path) for path in Path("/run/vmib/lab").glob(f"*{name}*")]
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"/run/vmib/lab/{name}/".encode() in line.read_bytes():
                found.append(f"{line}: {line.read_bytes()!r}")
    return found


def free(host: HostSpec) -> bool:
    """Whether nobody has an agent's address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host.address, host.port))
        except OSError:
            return False
        return True


def in_member(spec: LabSpec, member: str, *words: str, check: bool = True) -> str:
    """What a command prints that runs in a host or machine."""
    return run(*lab.command(spec.name, member, words), check=check)


def snmp(spec: LabSpec, host: int, tool: str, *arguments: str) -> str:
    """What a tool of net-snmp prints that asks an agent from here."""
    where = spec.hosts[host]
    environment = {
        "SNMPCONFPATH": str(lab_spec.paths(spec.name).snmp),
        "PATH": os.environ["PATH"],
    }
    command = [tool, "-OQUsv", "-r1", "-t5", f"{where.address}:{where.port}", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Cannot find module" not in done.stderr
    return done.stdout.strip()


def agent_of(name: str, host: str) -> lab.AgentStatus:
    return next(found.agent for found in lab.status(name).hosts if found.id == host)


def process_of(spec: LabSpec) -> int:
    """The process of the first host's agent."""
    pid = agent_of(spec.name, spec.hosts[0].id).pid
    assert pid is not None
    return pid


def program(spec: LabSpec) -> subprocess.Popen[bytes]:
    """Another process that makes a lab."""
    script = (
        "import sys; from vmib_manager import lab, lab_spec; "
        "lab.up(lab_spec.loads(sys.stdin.read()), print)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    process.stdin.write(lab_spec.dumps(spec).encode())
    process.stdin.close()
    return process


@contextmanager
def removed(name: str) -> Iterator[None]:
    """Whatever happens in the block, the lab is gone after it."""
    try:
        yield
    finally:
        lab.down(name)


@pytest.fixture(scope="module")
def shared() -> Iterator[LabSpec]:
    """A lab for tests that leave it as they found it."""
    with removed(SHARED.name):
        assert lab.up(SHARED)
        yield SHARED


@pytest.fixture
def own() -> Iterator[LabSpec]:
    """A lab for one test alone."""
    with removed(OWN.name):
        assert lab.up(OWN)
        yield OWN
    assert traces(OWN.name) == []


def test_every_agent_answers_on_loopback_about_its_own_host(shared: LabSpec) -> None:
    assert snmp(shared, 0, "snmpget", "VMIB-MIB::vmibHostAgentMode.0") == "normal"
    assert snmp(shared, 0, "snmpwalk", "VMIB-MIB::vmibVmName").split() == ["ann", "bob"]
    assert snmp(shared, 1, "snmpwalk", "VMIB-MIB::vmibVmName").split() == ["cleo", "dan"]
    assert snmp(shared, 1, "snmpwalk", "VMIB-MIB::vmibPifName") == "eth0"


def test_what_an_agent_does_happens_in_its_host_alone(shared: LabSpec) -> None:
    here = run("tc", "qdisc", "show")
    snmp(shared, 0, "snmpset", "VMIB-MIB::vmibShapeRate.1.1.toVm", "u", "1000")
    assert "rate 1Mbit" in in_member(shared, "north", "tc", "qdisc", "show", "dev", "vif1.0")
    assert run("tc", "qdisc", "show") == here
    assert "tbf" not in in_member(shared, "south", "tc", "qdisc", "show")
    snmp(shared, 0, "snmpset", "VMIB-MIB::vmibShapeRate.1.1.toVm", "u", "0")


def test_a_second_up_makes_nothing_and_says_so(shared: LabSpec) -> None:
    before = lab.status(shared.name)
    said: list[str] = []
    namespace = Path("/proc/thread-self/ns/net").stat().st_ino
    assert lab.up(shared, said.append) == ()
    assert Path("/proc/thread-self/ns/net").stat().st_ino == namespace
    assert said[-1] == f"lab {shared.name} is up already, nothing to do"
    after = lab.status(shared.name)
    assert [host.agent.pid for host in after.hosts] == [host.agent.pid for host in before.hosts]


def test_a_lab_of_the_same_name_from_another_description_is_refused(shared: LabSpec) -> None:
    other = replace(shared, hosts=shared.hosts[:1])
    with pytest.raises(LabUnusable, match=f"vmib lab down --name {shared.name}"):
        lab.up(other)
    assert lab.status(shared.name).complete


def test_a_lab_at_the_addresses_of_another_is_refused(shared: LabSpec) -> None:
    with pytest.raises(AddressTaken, match=f"lab {shared.name} has it"):
        lab.up(replace(shared, name=OWN.name))
    assert traces(OWN.name) == []


def test_machines_reach_each_other_through_the_switch_at_once(shared: LabSpec) -> None:
    for number, member in (1, "ann"), (2, "bob"), (3, "dan"):
        for address in f"10.0.0.{number}/24", f"fd00::{number}/64":
            in_member(shared, member, "ip", "address", "add", address, "dev", "eth0")
    for peer in "10.0.0.2", "10.0.0.3", "fd00::2", "fd00::3", "127.0.0.1", "::1":
        assert "1 received" in in_member(shared, "ann", "ping", "-c1", "-W2", peer), peer
    for member in "ann", "bob", "dan":
        in_member(shared, member, "ip", "address", "flush", "dev", "eth0")


def test_status_tells_what_there_is(shared: LabSpec) -> None:
    found = lab.status(shared.name)
    assert found.complete
    assert 0 <= found.uptime < 600
    assert [host.id for host in found.hosts] == ["north", "south"]
    for host, expected in zip(found.hosts, shared.hosts, strict=True):
        assert (host.address, host.port) == (expected.address, expected.port)
        assert [machine.name for machine in host.machines] == [m.name for m in expected.machines]
        assert all(machine.present for machine in host.machines)
        assert host.agent.alive
        assert host.agent.answering
        assert host.agent.uptime is not None
        assert 0 <= host.agent.uptime < 600
        namespace = Path(f"/proc/{host.agent.pid}/ns/net").stat().st_ino
        assert namespace == namespaces.inode(f"vmib-{shared.name}-{host.id}")
    assert shared.name in lab.names()


def test_a_command_in_a_machine_passes_on_its_exit_status(shared: LabSpec) -> None:
    script = (
        "import sys; from vmib_manager import lab; "
        "lab.exec_(sys.argv[1], sys.argv[2], sys.argv[3:])"
    )
    words = ["sh", "-c", "ip -br link show eth0; exit 7"]
    command = [sys.executable, "-c", script, shared.name, "cleo", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    mac = lab_spec.machine(shared.name, shared.hosts[1], 0).vifs[0].mac
    assert mac in done.stdout


def test_who_is_not_there_cannot_be_entered(shared: LabSpec) -> None:
    with pytest.raises(UnknownMember, match="there are: ann, bob, cleo, dan, north, south"):
        lab.command(shared.name, "eve", ["true"])
    with pytest.raises(UnknownLab, match=f"there are: .*{shared.name}"):
        lab.command(OWN.name, "ann", ["true"])
    with pytest.raises(UnknownLab):
        lab.status(OWN.name)


def test_files_are_private_and_pass_phrases_are_where_they_must_be_alone(shared: LabSpec) -> None:
    paths = lab_spec.paths(shared.name)
    secrets = [
        line.split('"')[1] for line in paths.credentials.read_text().splitlines() if "=" in line
    ]
    long = {secret for secret in secrets if secret != "SHA-256"}
    assert len(long) == 2
    for path in (paths.directory, *paths.directory.rglob("*")):
        if path.is_dir():
            assert path.stat().st_mode & 0o777 == 0o700, path
            continue
        if path.parent.name != "machines":
            assert path.stat().st_mode & 0o077 == 0, path
        if path not in (paths.credentials, paths.snmp / "snmp.conf"):
            assert not [secret for secret in long if secret in path.read_text()], path


def test_nobody_takes_a_lab_down_from_inside(shared: LabSpec) -> None:
    script = f"from vmib_manager import lab; lab.down({shared.name!r})"
    said = in_member(shared, "ann", sys.executable, "-c", script, check=False)
    assert InsideLab.__name__ in said
    assert lab.status(shared.name).complete


def test_down_leaves_nothing_not_even_what_runs_in_a_machine() -> None:
    with removed(OWN.name):
        lab.up(OWN)
        line = lab.command(OWN.name, "ann", ["sh", "-c", "trap '' HUP; echo; exec sleep 300"])
        with subprocess.Popen(line, stdout=subprocess.PIPE) as inside:
            assert inside.stdout is not None
            inside.stdout.readline()
            said: list[str] = []
            assert lab.down(OWN.name, said.append)
            assert said[-1] == f"lab {OWN.name} is down"
            assert inside.wait(5) != 0
    assert traces(OWN.name) == []
    assert all(map(free, OWN.hosts))
    assert lab.down(OWN.name, said.append) == ()
    assert said[-1] == f"there is no lab {OWN.name}, nothing to do"


def test_namespaces_of_others_with_similar_names_survive(own: LabSpec) -> None:
    others = [f"vmib-{own.name}x-ann", f"x-vmib-{own.name}-ann", f"vmib-{own.name}"]
    try:
        for other in others:
            run("ip", "netns", "add", other)
        lab.down(own.name)
        assert all(map(namespaces.exists, others))
    finally:
        for other in others:
            run("ip", "netns", "del", other)


def test_an_agent_that_was_killed_comes_back_as_it_was(own: LabSpec) -> None:
    rate = "VMIB-MIB::vmibShapeRate.1.1.toVm"
    snmp(own, 0, "snmpset", rate, "u", "1234")
    engine = snmp(own, 0, "snmpget", "VMIB-MIB::vmibHostUuid.0")
    pid = process_of(own)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while agent_of(own.name, "north").alive and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not agent_of(own.name, "north").answering
    assert not lab.status(own.name).complete
    assert lab.up(own) == ("agent of north",)
    assert process_of(own) != pid
    assert lab.status(own.name).complete
    assert snmp(own, 0, "snmpget", rate) == "1234"
    assert snmp(own, 0, "snmpget", "VMIB-MIB::vmibHostUuid.0") == engine


def test_what_was_removed_by_hand_is_made_again(own: LabSpec) -> None:
    pid = process_of(own)
    run("ip", "netns", "del", f"vmib-{own.name}-ann")
    run("ip", "netns", "del", f"vmib-{own.name}-north")
    made = lab.up(own)
    assert f"namespace vmib-{own.name}-ann" in made
    assert f"namespace vmib-{own.name}-north" in made
    assert "agent of north" in made
    assert not Path(f"/proc/{pid}").exists()
    assert lab.status(own.name).complete
    assert lab.up(own) == ()


def test_an_up_that_fails_takes_back_what_it_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    said: list[str] = []
    with removed(OWN.name), pytest.raises(AgentFailed, match=r"agent of host (north|south): ended"):
        lab.up(OWN, said.append)
    assert said[-1] == f"lab {OWN.name}: taking back what was made"
    assert traces(OWN.name) == []


def test_an_up_whose_reader_is_gone_takes_back_what_it_made() -> None:
    def broken(line: str) -> None:
        raise BrokenPipeError(line)

    with removed(OWN.name), pytest.raises(BrokenPipeError):
        lab.up(OWN, broken)
    assert traces(OWN.name) == []


def test_an_address_that_somebody_else_has_is_named_before_anything_is_made() -> None:
    with removed(OWN.name), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((OWN.hosts[1].address, OWN.hosts[1].port))
        with pytest.raises(AddressTaken, match=r"host south: .* port 1161: Address already in use"):
            lab.up(OWN)
        assert traces(OWN.name) == []


def test_an_up_that_fails_leaves_the_rest_of_the_lab(
    own: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = [host.agent.pid for host in lab.status(own.name).hosts]
    assert pids[0] is not None
    os.kill(pids[0], signal.SIGKILL)
    run("ip", "netns", "del", f"vmib-{own.name}-dan")
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/bin/false")
        with pytest.raises(AgentFailed):
            lab.up(own)
    found = lab.status(own.name)
    assert found.hosts[1].agent.pid == pids[1]
    assert found.hosts[1].agent.answering
    assert [machine.present for machine in found.hosts[1].machines] == [True, False]
    assert lab.up(own)
    assert lab.status(own.name).complete


def some(pattern: str, count: int) -> Callable[[], bool]:
    """Whether there are so many files of a pattern."""
    return lambda: len(list(Path("/run").glob(pattern))) >= count


def answered() -> bool:
    return "serving" in (lab_spec.host_paths(OWN.name, "south").log).read_text()


POINTS: dict[str, Callable[[], bool]] = {
    "the lab is recorded": some(f"vmib/lab/{OWN.name}/spec.json", 1),
    "there is a switch": some(f"netns/vmib-{OWN.name}-*", 1),
    "there are hosts": some(f"netns/vmib-{OWN.name}-*", 3),
    "an agent has started": some(f"vmib/lab/{OWN.name}/hosts/*/agent.pid", 1),
    "there are machines": some(f"netns/vmib-{OWN.name}-*", 3 + MACHINES),
    "agents have users": some(f"vmib/lab/{OWN.name}/hosts/*/state/users.json", 2),
    "an agent serves": answered,
}


def reached(point: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until a lab is made so far."""
    deadline = time.monotonic() + 20
    while True:
        with suppress(FileNotFoundError):
            if point():
                return
        if process.poll() is not None or time.monotonic() > deadline:
            assert process.stderr is not None
            raise AssertionError(process.stderr.read().decode())


@pytest.mark.parametrize("point", POINTS)
def test_down_removes_what_an_up_left_that_was_killed_when(point: str) -> None:
    with removed(OWN.name), program(OWN) as process:
        reached(POINTS[point], process)
        process.kill()
        process.wait()
        assert lab.down(OWN.name)
        assert traces(OWN.name) == []
        time.sleep(0.5)
        assert traces(OWN.name) == []
        assert all(map(free, OWN.hosts))


@pytest.mark.parametrize(
    "point", ["the lab is recorded", "an agent has started", "an agent serves"]
)
def test_up_goes_on_where_another_was_killed_when(point: str) -> None:
    with removed(OWN.name), program(OWN) as process:
        reached(POINTS[point], process)
        process.kill()
        process.wait()
        lab.up(OWN)
        assert lab.status(OWN.name).complete
        assert lab.up(OWN) == ()


@pytest.mark.parametrize("point", ["there are hosts", "an agent has started"])
def test_an_up_that_is_interrupted_takes_back_what_it_made_when(point: str) -> None:
    with removed(OWN.name), program(OWN) as process:
        reached(POINTS[point], process)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert process.returncode != 0
        assert traces(OWN.name) == []
