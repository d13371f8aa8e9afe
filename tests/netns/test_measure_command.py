"""`vmib verify --measure` on a lab of two hosts."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest

from .command_lab import HOSTS, NAME, NETWORK, VIRTUAL, VMIB, Net, eventually

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

LINKS = """  <link a="alice" b="carol" rate="4Mbit"/>
  <link a="alice" b="bob" rate="6Mbit"/>
</virtual>"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    net = Net(tmp_path_factory.mktemp("measured"))
    try:
        up = net.installed("lab", "up", "real.xml", "--name", NAME)
        assert up.returncode == 0, up.stderr
        yield net
    finally:
        down = net.installed("lab", "down", "--name", NAME)
        assert down.returncode == 0, down.stderr


@pytest.fixture
def linked(made: Net) -> Net:
    """The lab with links from alice."""
    described = VIRTUAL.replace("</virtual>", LINKS).format(rate="10Mbit")
    (made.directory / "linked.xml").write_text(described)
    assert made.vmib("apply", "real.xml", "linked.xml").status == 0
    return made


def probes(net: Net) -> list[str]:
    """What is in vmibProbeTable of all hosts."""
    return [line for host in HOSTS for line in net.snmp("snmpwalk", host, "vmibProbeRowStatus")]


def test_every_interface_and_link_is_measured_and_nothing_is_left(linked: Net) -> None:
    before = linked.snmp("snmpget", "h1", "vmibTxnGeneration.0")
    done = linked.vmib("verify", "real.xml", "linked.xml", "--measure")
    assert (done.status, done.err) == (0, "")
    assert re.search(
        r"Measuring 7 interfaces and links of 2 hosts by 20 packets each: about", done.out
    )
    row = r"h1: link alice:0 to 10.7.0.3 +delay 0us, measured \S+ \(\+\S+\); loss 0%, measured 0%"
    assert re.search(row + r"; rate 4Mbit, passed \S+bit\n", done.out), done.out
    assert "7 rows measured: all as described, within 5%.\n" in done.out
    assert "active" not in probes(linked)
    assert linked.snmp("snmpget", "h1", "vmibTxnGeneration.0") == before


def test_traffic_fills_what_it_measures(linked: Net) -> None:
    for _ in range(3):  # a busy computer is a slow network
        done = linked.vmib("verify", "real.xml", "linked.xml", "--measure", "--traffic", "--json")
        if done.status == 0:
            break
    assert done.status == 0, done.out
    found = done.document["measurement"]
    assert found["ok"]
    rates = {
        (row["subject"], value["word"]): value["measured"]
        for row in found["rows"]
        for value in row["values"]
        if value["field"] == "rate" and not value["is_passed"]
    }
    assert rates["link alice:0 to 10.7.0.3", ""] == pytest.approx(4000, rel=0.05)
    assert rates["link alice:0 to 10.7.0.2", ""] == pytest.approx(6000, rel=0.05)
    assert rates["vif carol:0", "receives"] == pytest.approx(10_000, rel=0.05)


def test_a_row_that_is_off_is_named_and_the_exit_status_says_so(linked: Net) -> None:
    linked.inside("bob", "iptables-legacy", "-A", "INPUT", "-p", "icmp", "-j", "DROP")
    try:
        done = linked.vmib("verify", "real.xml", "linked.xml", "--measure")
    finally:
        linked.inside("bob", "iptables-legacy", "-F", "INPUT")
    assert done.status == 3, done.out
    assert re.search(
        r"h1: link bob:0 to 10.7.0.1 +loss 0%, measured 100% \(\+100%\), off; rate", done.out
    )
    assert "7 rows measured: 1 off by more than 5%.\n" in done.out


def test_somebody_elses_probe_is_read_and_stays(linked: Net) -> None:
    row = "1.1.ipv4.4.10.7.0.2"
    address = f"{NETWORK}.1:1161"
    environment = linked.environment | {"SNMPCONFPATH": str(linked.paths.snmp)}

    def put(*words: str) -> None:
        scoped = [f"VMIB-MIB::{word}" if word.startswith("vmib") else word for word in words]
        command = ["snmpset", "-Oq", address, *scoped]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    put(f"vmibProbeCount.{row}", "u", "7", f"vmibProbeRowStatus.{row}", "i", "createAndGo")
    try:
        done = linked.vmib("verify", "real.xml", "linked.xml", "--measure", "--json")
        assert done.status == 0, done.out
        (found,) = [
            each
            for each in done.document["measurement"]["rows"]
            if each["subject"] == "link alice:0 to 10.7.0.2"
        ]
        assert found["round"]["packets"] == 7
        assert linked.snmp("snmpget", "h1", f"vmibProbeCount.{row}")[0].split()[0] == "7"
    finally:
        put(f"vmibProbeRowStatus.{row}", "i", "destroy")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_manager_that_is_ended_leaves_no_probe_for_long(linked: Net, number: int) -> None:
    command = [VMIB, "verify", "real.xml", "linked.xml", "--measure", "--packets", "100"]
    with subprocess.Popen(
        command, cwd=linked.directory, env=linked.environment, stdout=subprocess.PIPE
    ) as process:
        assert eventually(lambda: "active" in probes(linked))
        process.send_signal(number)
        process.wait(20)
    if number == signal.SIGKILL:
        kinds = linked.snmp("snmpwalk", "h1", "vmibProbeStorageType")
        lifetimes = linked.snmp("snmpwalk", "h1", "vmibProbeLifetime")
        assert set(kinds) == {"volatile"}
        assert all(0 < int(each.split()[0]) < 120 for each in lifetimes)
        for host in HOSTS:
            os.kill(linked.pid(host), signal.SIGKILL)
        assert linked.installed("lab", "up", "real.xml", "--name", NAME).returncode == 0
    assert "active" not in probes(linked)


@pytest.mark.parametrize(
    "option", [["--traffic"], ["--packets", "5"], ["--tolerance", "0%"], ["--slack", "1s"]]
)
def test_how_to_measure_is_said_where_it_is_measured(linked: Net, option: list[str]) -> None:
    done = linked.vmib("verify", "real.xml", "linked.xml", *option)
    assert done.status == 1
    assert "allowed: together with --measure" in done.err


def test_what_is_not_as_described_is_not_measured(linked: Net) -> None:
    done = linked.vmib("verify", "real.xml", "20Mbit.xml", "--measure")
    assert done.status == 3
    assert done.out.endswith("Nothing is measured of a network that is not as described.\n")
