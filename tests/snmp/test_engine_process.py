"""The agent as a process: start, sockets, signals, users, notifications."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import agents
import pytest
from agents import dotted, shape

from vmib import objects
from vmib.snmp.message import (
    Pdu,
    PduType,
    ScopedPdu,
    UsmParameters,
    V3Message,
    encode_scoped,
    encode_v3,
)
from vmib_agent import identity, users
from vmib_agent.users import Role

pytestmark = pytest.mark.snmp

SYS_UP_TIME = ".1.3.6.1.2.1.1.3.0"
ENGINE_BOOTS = ".1.3.6.1.6.3.10.2.1.2.0"
DELAY = dotted(shape("delay", 1))


def wait_for(found: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found():
            return True
        time.sleep(0.05)
    return False


def test_it_is_ready_when_it_says_so_and_stops_when_asked() -> None:
    with agents.running() as agent:
        assert agent.statuses[0].startswith("STATUS=3 users, listening on 127.0.0.1 port ")
        assert "Timeticks" in agent.tool("snmpget", SYS_UP_TIME)
        assert agents.stop(agent) == 0
        assert 'event=stopped network="left as it is"' in agent.log.read_text()


def test_boots_count_and_the_engine_id_stays(tmp_path: Path) -> None:
    ids = set()
    for boots in 1, 2, 3:
        with agents.running(directory=tmp_path) as agent:
            assert agent.tool("snmpget", ENGINE_BOOTS).split()[-1] == str(boots)
            ids.add(agent.tool("snmpget", ".1.3.6.1.6.3.10.2.1.1.0").partition("=")[2])
            if boots == 2:
                agent.process.kill()
    assert len(ids) == 1


def test_nothing_is_left_in_the_directory_for_temporary_files() -> None:
    before = set(Path("/tmp").glob("__pysnmp*"))
    with agents.running() as agent:
        agent.tool("snmpget", SYS_UP_TIME)
    assert set(Path("/tmp").glob("__pysnmp*")) == before


def test_without_users_it_starts_and_says_that_nobody_is_answered(tmp_path: Path) -> None:
    port = agents.free_port()
    file = agents.prepare(tmp_path, port)
    (tmp_path / "state" / "users.json").unlink()
    agent = agents.start(file, tmp_path, port)
    try:
        assert agent.statuses[0].startswith("STATUS=no users, so nobody is answered")
        assert "Unknown user name" in agent.tool("snmpget", SYS_UP_TIME, expect=1)
    finally:
        agents.stop(agent)


def test_users_come_and_go_with_sighup() -> None:
    with agents.running() as agent:
        agents.add_user(agent.directory, "late", Role.READ)
        assert "Unknown user name" in agent.tool("snmpget", SYS_UP_TIME, user="late", expect=1)
        agent.process.send_signal(signal.SIGHUP)
        assert "Timeticks" in agent.tool("snmpget", SYS_UP_TIME, user="late")
        users.remove_user(agent.directory / "state", "late")
        agent.process.send_signal(signal.SIGHUP)
        assert "Unknown user name" in agent.tool("snmpget", SYS_UP_TIME, user="late", expect=1)


def test_a_user_list_that_cannot_be_read_leaves_the_users_as_they_are() -> None:
    with agents.running() as agent:
        (agent.directory / "state" / "users.json").write_text("[")
        agent.process.send_signal(signal.SIGHUP)
        assert "Timeticks" in agent.tool("snmpget", SYS_UP_TIME)
        assert "event=users-not-read" in agent.log.read_text()


def test_an_address_in_use_is_refused_in_words(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        file = agents.prepare(tmp_path, port)
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1:{port}: Address"):
            agents.start(file, tmp_path, port)


def test_it_answers_on_ipv6_and_from_the_address_it_was_asked_at(tmp_path: Path) -> None:
    port = agents.free_port()
    file = agents.prepare(tmp_path, port)
    text = file.read_text().replace(f'"127.0.0.1:{port}"', f'"0.0.0.0:{port}", "[::]:{port}"')
    file.write_text(text)
    agent = agents.start(file, tmp_path, port)
    try:
        environment = os.environ | {"SNMPCONFPATH": str(tmp_path / "admin"), "MIBS": ""}
        for address in f"udp6:[::1]:{port}", f"127.0.0.9:{port}":
            command = ["snmpget", "-On", "-r0", "-t2", address, SYS_UP_TIME]
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False
            )
            assert "Timeticks" in done.stdout, done.stderr
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(3)
            client.sendto(discovery(), ("127.0.0.9", port))
            assert client.recvfrom(4096)[1] == ("127.0.0.9", port)
    finally:
        agents.stop(agent)


def discovery() -> bytes:
    """An engine ID discovery (RFC 3414 section 4)."""
    data = encode_scoped(ScopedPdu(b"", b"", Pdu(PduType.GET, 1)))
    return encode_v3(V3Message(1, 65507, 4, UsmParameters(b"", 0, 0, b"", b"", b""), data))[0]


def test_it_serves_on_a_socket_that_was_passed_to_it(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as passed:
        passed.bind(("127.0.0.1", 0))
        port = passed.getsockname()[1]
        file = agents.prepare(tmp_path, agents.free_port())

        agent = agents.start(file, tmp_path, port, passed)
    try:
        assert f"listening on 127.0.0.1 port {port}" in agent.statuses[0]
        assert "Timeticks" in agent.tool("snmpget", SYS_UP_TIME)
    finally:
        agents.stop(agent)


def test_what_waited_in_a_passed_socket_is_answered_from_where_it_was_sent_to(
    tmp_path: Path,
) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as passed,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        passed.bind(("127.0.0.9", 0))
        client.connect(passed.getsockname())
        client.settimeout(5)
        client.send(discovery())
        file = agents.prepare(tmp_path, agents.free_port())
        agent = agents.start(file, tmp_path, passed.getsockname()[1], passed)
        try:
            assert client.recv(65535)
        finally:
            agents.stop(agent)


@contextmanager
def trap_daemon(directory: Path, engine_id: bytes) -> Iterator[tuple[int, Path]]:
    """snmptrapd on loopback, for one v3 user of this engine and one community."""
    port, home, log = agents.free_port(), directory / "trapd", directory / "traps"
    home.mkdir()
    file = home / "snmptrapd.conf"
    file.touch(mode=0o600)
    file.write_text(
        f'createUser -e 0x{engine_id.hex()} admin SHA-256 "{agents.PASSPHRASES[0]}" '
        f'AES "{agents.PASSPHRASES[1]}"\n'
        "authUser log admin priv\nauthCommunity log ears\n"
        "format2 %b %v\\n\nformat1 %b %v\\n\n"
    )
    environment = os.environ | {"SNMPCONFPATH": str(home), "SNMP_PERSISTENT_DIR": str(home)}
    command = ["snmptrapd", "-f", "-Lf", str(log), "-On", "-m", "", f"udp:127.0.0.1:{port}"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        assert wait_for(lambda: log.exists() and "NET-SNMP version" in log.read_text())
        yield port, log
    finally:
        process.terminate()
        process.wait(10)


def test_notifications_reach_snmptrapd_by_v3_and_by_v2c(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    engine_id = identity.load(tmp_path / "state").engine_id
    with trap_daemon(tmp_path, engine_id) as (port, log):
        targets = (
            f'[[notifications.targets]]\naddress = "127.0.0.1:{port}"\nuser = "admin"\n'
            f'[[notifications.targets]]\naddress = "127.0.0.1:{port}"\ncommunity = "ears"\n'
        )
        with agents.running(targets, directory=tmp_path) as agent:
            agent.tool("snmpset", DELAY, "u", str(agents.NOTIFIED_DELAY))
            drift = dotted(objects.vmibDrift.oid)
            assert wait_for(lambda: log.read_text().count(f"OID: {drift}") == 2), log.read_text()
    traps = [line for line in log.read_text().splitlines() if drift in line]
    for trap in traps:
        assert re.search(
            r"\.1\.3\.6\.1\.2\.1\.1\.3\.0 = Timeticks: \(\d+\).*"
            r"\.1\.3\.6\.1\.6\.3\.1\.1\.4\.1\.0 = OID: .*"
            rf"{re.escape(DELAY)} = Gauge32: {agents.NOTIFIED_DELAY}",
            trap,
        )


def test_without_targets_a_notification_is_only_counted() -> None:
    with agents.running() as agent:
        agent.tool("snmpset", DELAY, "u", str(agents.NOTIFIED_DELAY))
        assert "cannot-notify" not in agent.log.read_text()


def test_a_target_that_is_no_user_is_named_and_keeps_nobody_from_being_told(
    tmp_path: Path,
) -> None:
    targets = '[[notifications.targets]]\naddress = "127.0.0.1:9"\nuser = "ghost"\n'
    with agents.running(targets, directory=tmp_path) as agent:
        assert "event=target-without-user" in agent.log.read_text()
        assert "Gauge32" in agent.tool("snmpset", DELAY, "u", str(agents.NOTIFIED_DELAY))


def command(
    *arguments: str, directory: Path, text: str | None = None
) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join(str(agents.ROOT / part) for part in ("agent", "mibs"))
    return subprocess.run(
        [sys.executable, "-m", "vmib_agent", *arguments],
        input=text,
        env=os.environ | {"PYTHONPATH": paths},
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_adds_lists_and_removes_users(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    phrases = "a long pass phrase\nanother long one\n"
    add = ("user", "add", "eve", "--role", "shape", "--state", state, "--passphrase-file", "-")
    added = command(*add, directory=tmp_path, text=phrases)
    assert added.returncode == 0, added.stderr
    listed = command("user", "list", "--state", state, directory=tmp_path)
    assert listed.stdout == "eve\tshape\tSHA-256\tAES-128\n"
    kept = tmp_path / "state" / "users.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "phrase" not in kept.read_text()
    assert command("user", "remove", "eve", "--state", state, directory=tmp_path).returncode == 0
    assert json.loads(kept.read_text()) == {}
    again = command("user", "remove", "eve", "--state", state, directory=tmp_path)
    assert again.returncode == 1
    assert "there are no users" in again.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act for somebody else")
def test_what_root_adds_belongs_to_the_user_that_the_agent_runs_as() -> None:
    owner = 64123
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        directory.chmod(0o755)
        state, secret = directory / "state", directory / "secret"
        state.mkdir(mode=0o700)
        os.chown(state, owner, owner)
        secret.touch(mode=0o600)
        secret.write_text("a long pass phrase\nanother long one\n")
        add = ("user", "add", "eve", "--role", "read", "--passphrase-file", str(secret))
        for arguments in (add, ("user", "list")):
            done = command(*arguments, "--state", str(state), directory=directory)
            assert done.returncode == 0, done.stderr
        assert done.stdout == "eve\tread\tSHA-256\tAES-128\n"
        assert {file.stat().st_uid for file in state.iterdir()} == {owner}


def test_the_command_refuses_what_is_weak_and_names_the_rule(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    add = ("user", "add", "eve", "--role", "read", "--state", state, "--passphrase-file", "-")
    short = command(*add, directory=tmp_path, text="eleven char\nanother long one\n")
    assert short.returncode == 1
    assert "at least 12 characters" in short.stderr
    for weak in ("--auth", "MD5"), ("--auth", "SHA"), ("--priv", "DES"):
        refused = command(*add, *weak, directory=tmp_path, text="")
        assert refused.returncode == 2
        assert "invalid choice" in refused.stderr


def test_the_command_says_under_which_number_it_is(tmp_path: Path) -> None:
    said = command("--version", directory=tmp_path).stdout
    assert ".".join(map(str, objects.ROOT)) in said
    assert "RFC 5612" in said


def test_a_wrong_configuration_has_its_own_exit_status(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text("listn = []\n")
    said = command("check-config", "--config", str(file), directory=tmp_path)
    assert said.returncode == 3
    assert f"{file}: key: 'listn' is not allowed; allowed: listen" in said.stderr
    assert command("check-config", "--config", "/absent", directory=tmp_path).returncode == 3
    file.write_text('listen = ["192.0.2.1:1161"]\n')
    said = command("check-config", "--config", str(file), directory=tmp_path)
    assert said.returncode == 0
    assert "listen: 192.0.2.1:1161" in said.stdout
    assert "AgentX master: off" in said.stdout
    file.write_text('listen = []\n[agentx]\nenabled = true\naddress = "tcp:127.0.0.1:705"\n')
    said = command("check-config", "--config", str(file), directory=tmp_path)
    assert "listen: nowhere" in said.stdout
    assert "AgentX master: 127.0.0.1:705" in said.stdout
