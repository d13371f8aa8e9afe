"""check_vmib where something is wrong: one line and UNKNOWN, whatever it is. And what it judges."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from agents import PASSPHRASES, Agent
from scripted import cell, saying, scalar

from vmib import __version__
from vmib.rows import HostAgentMode, InetAddressType, OperStatus, ProbeThreshold, Sync
from vmib_agent.cells import date_and_time
from vmib_manager import credentials_file
from vmib_manager.credentials_file import Entry

pytestmark = pytest.mark.snmp

PLUGIN = Path(sys.executable).with_name("check_vmib")
LINE = re.compile(r"[^|\n]+(\|[^|\n]*)?\n")
HOST = dict(
    [
        scalar("vmibHostAgentVersion", __version__),
        scalar("vmibHostAgentMode", HostAgentMode.normal),
        scalar("vmibHostHypervisor", "netns"),
        scalar("vmibHostHypervisorStatus", OperStatus.up),
        scalar("vmibHostCapabilities", frozenset({"links", "transactions"})),
        scalar("vmibHostRowsOutOfSync", 0),
    ]
)


def changed(**values: Any) -> dict[str, list[Any]]:
    """`HOST` with other scalars, without those that are None."""
    cells = dict(HOST)
    for name, value in values.items():
        oid, told = scalar(name, 0 if value is None else value)
        cells[oid] = told
        if value is None:
            del cells[oid]
    return cells


def run(*words: str, **environment: str) -> tuple[int, str]:
    """The status of the plug-in and its line; nothing is on standard error."""
    done = subprocess.run(
        [PLUGIN, *words],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"} | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    assert "Traceback" not in done.stdout
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("secrets") / "credentials.toml"
    credentials_file.save(file, {"read": Entry(*PASSPHRASES)})
    return file


def check(agent: Agent, secrets: Path, *words: str) -> tuple[int, str]:
    """What the plug-in says of an agent."""
    reach = ["-H", "127.0.0.1", "-p", str(agent.port), "-U", "read", "-t", "5"]
    status, text = run(words[0], *reach, "--credentials", str(secrets), *words[1:])
    assert LINE.fullmatch(text), text
    return status, text


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with saying(HOST) as started:
        yield started


def test_an_agent_that_is_well(agent: Agent, secrets: Path) -> None:
    told = f"agent {__version__} is in mode normal, hypervisor netns is up"
    assert check(agent, secrets, "host") == (0, f"VMIB HOST OK - {told} | rows_out_of_sync=0;;;0\n")


def test_an_agent_that_is_older_and_lacks_an_object(secrets: Path) -> None:
    with saying(changed(vmibHostAgentVersion="0.0.9", vmibHostRowsOutOfSync=None)) as started:
        status, text = check(started, secrets, "host")
    assert status == 3
    assert "has no vmibHostRowsOutOfSync; it is version 0.0.9, older than check_vmib" in text
    assert text.endswith("upgrade the agent\n")


def test_an_agent_that_is_newer_and_says_what_nobody_knew(secrets: Path) -> None:
    cells = changed(vmibHostAgentVersion="99.1.0", vmibHostAgentMode=7)
    with saying(cells) as started:
        status, text = check(started, secrets, "host")
    assert status == 3
    assert "vmibHostAgentMode: 7 was read" in text
    assert f"version 99.1.0, newer than check_vmib {__version__}; upgrade check_vmib\n" in text


def test_an_agent_of_another_version_that_is_understood(secrets: Path) -> None:
    with saying(changed(vmibHostAgentVersion="99.1.0")) as started:
        assert check(started, secrets, "host")[0] == 0


def test_an_agent_of_something_else(secrets: Path) -> None:
    with saying({"1.3.6.1.2.1.1.5.0": [4, b"printer".hex()]}) as started:
        status, text = check(started, secrets, "host")
    assert (status, "it is no agent of VMIB-MIB" in text) == (3, True)


def test_what_an_agent_says_cannot_begin_performance_data_or_a_line(secrets: Path) -> None:
    with saying(changed(vmibHostHypervisor="a | b=1\n\x1b[2J")) as started:
        status, text = check(started, secrets, "host")
    assert status == 0
    assert "hypervisor a / b=1\\n\\x1b[2J is up | rows_out_of_sync=0" in text


@pytest.mark.parametrize(
    ("values", "status", "told"),
    [
        ({"vmibHostAgentMode": HostAgentMode.recovering}, 1, "is in mode recovering"),
        ({"vmibHostAgentMode": HostAgentMode.readOnly}, 2, "is in mode readOnly"),
        ({"vmibHostHypervisorStatus": OperStatus.down}, 2, "hypervisor netns is down"),
    ],
)
def test_hosts_that_are_not_well(
    secrets: Path, values: dict[str, Any], status: int, told: str
) -> None:
    with saying(changed(**values)) as started:
        found, text = check(started, secrets, "host")
    assert (found, told in text) == (status, True)


def test_a_capability_that_is_needed_and_missing(agent: Agent, secrets: Path) -> None:
    assert check(agent, secrets, "host", "--needs", "links")[0] == 0
    status, text = check(agent, secrets, "host", "--needs", "links", "--needs", "netem")
    assert (status, "the host cannot do netem" in text) == (2, True)


PROBE = (1, 1, InetAddressType.ipv4, ip_address("10.0.0.2"))


def probing(
    *,
    mean: int = 12_500,
    loss: int = 0,
    threshold: int = 1,
    age: float = 5.0,
    sync: Sync = Sync.inSync,
) -> dict[str, list[Any]]:
    """A host with a probe; `mean` in µs, `loss` in ppm, `age` of its last round in s."""
    ended = date_and_time(None if age < 0 else time.time() - age)
    cells = {
        "RttMin": mean - 500,
        "RttAvg": mean,
        "RttMax": mean + 900,
        "Loss": loss,
        "Threshold": ProbeThreshold(threshold),
        "LastRound": ended,
        "Interval": 10,
        "Sync": sync,
        "LastError": "" if sync is Sync.inSync else "m1 is off",
    }
    return HOST | dict(
        [
            cell("vmibVifLookupVmIndex", ("alice", 0), 1),
            cell("vmibVifLookupVifIndex", ("alice", 0), 1),
            *(cell(f"vmibProbe{name}", PROBE, value) for name, value in cells.items()),
        ]
    )


@pytest.mark.parametrize(
    ("probe", "limits", "status", "told"),
    [
        ({}, [], 0, "alice:0 to 10.0.0.2 is normal, round trip 12.5ms, loss 0% |"),
        ({}, ["-w", "10"], 1, "round trip 12.5ms |"),
        ({}, ["-w", "5", "-c", "10"], 2, "round trip 12.5ms |"),
        ({"loss": 200_000}, ["-w", "20,1", "-c", "50,10"], 2, "loss 20% |"),
        ({"threshold": 2}, [], 1, "alice:0 to 10.0.0.2 is exceeded |"),
        ({"age": 300}, [], 1, "the last round was 30"),
        ({"sync": Sync.waiting}, [], 1, "waiting: probe from alice:0 to 10.0.0.2: m1 is off"),
        ({"sync": Sync.failed}, [], 2, "failed: probe from alice:0 to 10.0.0.2: m1 is off"),
        ({"age": -1}, [], 3, "has ended no round yet"),
        (None, [], 3, "has no vmibVifLookupVmIndex"),
    ],
)
def test_probes(
    secrets: Path, probe: dict[str, Any] | None, limits: list[str], status: int, told: str
) -> None:
    with saying(HOST if probe is None else probing(**probe)) as started:
        found, text = check(started, secrets, "probe", "alice:0", "10.0.0.2", *limits)
        assert (found, told in text) == (status, True), text
        if status == 0:
            assert text.endswith(
                "| loss=0.0%;;;0;100 rtt=12.5ms;;;0 rtt_max=13.4ms;;;0 rtt_min=12.0ms;;;0\n"
            )
            status, text = check(started, secrets, "probe", "alice", "10.0.0.3")
            assert (status, "no probe from alice:0 to 10.0.0.3" in text) == (3, True)


def test_other_credentials_than_the_agent_s(agent: Agent, secrets: Path, tmp_path: Path) -> None:
    auth, priv = PASSPHRASES
    cases = {
        "another authentication pass phrase": Entry("not " + auth, priv),
        "another privacy pass phrase": Entry(auth, "not " + priv),
        "pass phrase: '(not shown)' is not allowed; allowed: at least": Entry("short", priv),
    }
    for told, entry in cases.items():
        file = tmp_path / "credentials.toml"
        credentials_file.save(file, {"read": entry})
        status, text = check(agent, file, "host")
        assert (status, told in text) == (3, True), text
    credentials_file.save(file, {"stranger": Entry(auth, priv)})
    status, text = check(agent, file, "host", "-U", "stranger")
    assert (status, "has no such user" in text) == (3, True)
    assert check(agent, file, "host", "--entry", "stranger")[0] == 0
    status, text = check(agent, file, "host")
    assert (status, "no entry 'read', but stranger (--entry NAME)" in text) == (3, True)


def test_pass_phrases_of_the_environment(agent: Agent) -> None:
    words = ["host", "-H", "127.0.0.1", "-p", str(agent.port), "-U", "read"]
    auth, priv = PASSPHRASES
    assert run(*words, VMIB_AUTH_PASSPHRASE=auth, VMIB_PRIV_PASSPHRASE=priv)[0] == 0
    status, text = run(*words, VMIB_AUTH_PASSPHRASE=auth)
    assert (status, "$VMIB_PRIV_PASSPHRASE is not set" in text) == (3, True)
    status, text = run(*words)
    assert (status, "/nonexistent/.config/vmib/credentials.toml: no such" in text) == (3, True)


def test_a_file_that_others_can_read(agent: Agent, secrets: Path, tmp_path: Path) -> None:
    file = tmp_path / "open.toml"
    file.write_bytes(secrets.read_bytes())
    file.chmod(0o644)
    status, text = check(agent, file, "host")
    assert (status, "others may use it (mode 0644)" in text) == (3, True)


def test_an_agent_that_does_not_answer(agent: Agent, secrets: Path) -> None:
    status, text = check(agent, secrets, "host", "-H", "127.37.99.99", "-t", "1", "-e", "1")
    assert (status, "agent 127.37.99.99" in text, "no answer to 2 requests in 1 s" in text) == (
        3,
        True,
        True,
    )
    status, text = check(agent, secrets, "host", "-H", "nobody.invalid")
    assert (status, "nobody.invalid" in text, "cannot be resolved" in text) == (3, True, True)


@pytest.mark.parametrize("secret", ["-A", "-X", "-C", "--authpasswd", "--privpasswd"])
def test_secrets_are_no_arguments_and_are_not_repeated(secret: str) -> None:
    for words in ([secret, "what nobody shall see"], [f"{secret}=what nobody shall see"]):
        status, text = run("host", "-H", "127.0.0.1", "-U", "read", *words)
        assert (status, f"{secret} is refused" in text) == (3, True)
        assert "nobody shall see" not in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "required: MODE"),
        (["hosts"], "invalid choice: 'hosts'"),
        (["host", "-U", "read"], "required: -H/--hostname"),
        (["host", "-H", "127.0.0.1", "-U", "read", "-a", "MD5"], "invalid choice: 'MD5'"),
        (["host", "-H", "127.0.0.1", "-U", "read", "-x", "DES"], "invalid choice: 'DES'"),
        (["host", "-H", "127.0.0.1", "-U", "read", "-P", "2c"], "invalid choice: '2c'"),
        (["host", "-H", "127.0.0.1", "-U", "read", "-L", "noAuthNoPriv"], "invalid choice"),
        (["host", "-H", "127.0.0.1", "-U", "read", "-p", "0"], "'0' is not a number from 1"),
        (["host", "-H", "127.0.0.1", "-U", "read", "--needs", "luck"], "'luck' is none of"),
        (["sync", "-H", "127.0.0.1", "-U", "read", "-c", "5:1"], "'5:1' is no range"),
        (["sync", "-H", "127.0.0.1", "-U", "read", "-w", "1:2:3"], "'1:2:3' is no range"),
        (["rate", "alice", "-H", "127.0.0.1", "-U", "read"], "--direction --to is required"),
        (["probe", "alice", "nowhere", "-H", "127.0.0.1", "-U", "read"], "'nowhere' is no"),
        (["host", "-H", "127.0.0.1", "-U", "x" * 33, "--entry", "read"], "1 to 32 octets"),
    ],
)
def test_command_lines_that_are_wrong(words: list[str], told: str, secrets: Path) -> None:
    status, text = run(*words, VMIB_CREDENTIALS=str(secrets))
    assert status == 3
    assert LINE.fullmatch(text)
    assert told in text, text


def test_a_system_without_the_library() -> None:
    program = (
        "import sys; sys.modules['nagiosplugin'] = None; from vmib_manager import check_vmib; "
        "sys.exit(check_vmib.main(['host']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert "pip install 'vmib[nagios]'" in done.stdout
