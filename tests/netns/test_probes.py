"""Probes on a real host: answers of real machines through real queues."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .hosts import add_machine, run
from .sites import Site, eventually, inet, site_of

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

FLOOD = """
import socket, sys, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
    made.connect((sys.argv[1], 9))
    made.setblocking(False)
    print("ready", flush=True)
    while True:
        for _ in range(4):
            try:
                made.send(bytes(1400))
            except OSError:
                pass
        time.sleep(0.005)
"""
"""More than 5 Mbit/s."""


def probe(site: Site, number: int, address: str, **columns: int | str) -> str:
    """Make a probe through a machine's interface, rounds of 5 a second; the index of the row."""
    row = f"{number}.1.{inet(address)}"
    kinds = {"StorageType": "i"}
    given = [
        word
        for name, value in {"Interval": 1, **columns}.items()
        for word in (f"vmibProbe{name}.{row}", kinds.get(name, "u"), str(value))
    ]
    site.set(*given, f"vmibProbeRowStatus.{row}", "i", "createAndGo")
    return row


def forget(site: Site, row: str) -> None:
    """Destroy a probe."""
    site.set(f"vmibProbeRowStatus.{row}", "i", "destroy")


def number(site: Site, column: str, row: str) -> int:
    """A numeric column of a probe."""
    return int(site.value(f"vmibProbe{column}.{row}").split()[0])


def sync(site: Site, row: str) -> str:
    """vmibProbeSync and, where it tells why, vmibProbeLastError."""
    return f"{site.value(f'vmibProbeSync.{row}')} {site.value(f'vmibProbeLastError.{row}')}"


def wait_for_rounds(site: Site, row: str, rounds: int = 1, seconds: float = 12) -> None:
    """Wait until so many more rounds have ended."""
    for _ in range(rounds):
        before = site.value(f"vmibProbeLastRound.{row}")
        assert eventually(
            lambda before=before: site.value(f"vmibProbeLastRound.{row}") != before,  # type: ignore[misc]
            seconds,
        ), sync(site, row)


@contextmanager
def flood(site: Site, source: int, address: str) -> Iterator[None]:
    """Datagrams from a machine, more than slow queues take."""
    namespace = site.machine_names[source - 1]
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", FLOOD, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with site_of(3) as made:
        for machine in (1, 2, 3):
            made.address(machine, f"fd00::{machine}", 64)
        yield made


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1", "10.0.0.2", "fd00::2"])
def test_a_machine_answers(site: Site, address: str) -> None:
    row = probe(site, 1, address, Count=4)
    try:
        wait_for_rounds(site, row, 2)
        assert number(site, "Loss", row) == 0, sync(site, row)
        times = [number(site, f"Rtt{name}", row) for name in ("Min", "Avg", "Max")]
        assert 0 < times[0] <= times[1] <= times[2] < 100_000
        assert sync(site, row) == "inSync "
        assert number(site, "Sent", row) >= 8
    finally:
        forget(site, row)


def test_the_queue_towards_a_machine_is_measured(site: Site) -> None:
    shape = "1.1.toVm"
    site.set(f"vmibShapeRate.{shape}", "u", "2000", f"vmibShapeQueueLimit.{shape}", "u", "50000")
    row = probe(site, 1, "10.0.0.1")
    try:
        with flood(site, 2, "10.0.0.1"):
            wait_for_rounds(site, row, 2)
            # 50000 octets take 200 ms at 2 Mbit/s
            assert 150_000 < number(site, "RttAvg", row) < 230_000
    finally:
        forget(site, row)
        site.set(f"vmibShapeRate.{shape}", "u", "0", f"vmibShapeQueueLimit.{shape}", "u", "0")


def test_the_queue_from_a_machine_is_measured(site: Site) -> None:
    shape = "1.1.fromVm"
    site.set(f"vmibShapeRate.{shape}", "u", "2000", f"vmibShapeQueueLimit.{shape}", "u", "50000")
    row = probe(site, 1, "10.0.0.1")
    try:
        with flood(site, 1, "10.0.0.2"):
            wait_for_rounds(site, row, 2)
            assert 150_000 < number(site, "RttAvg", row) < 230_000
    finally:
        forget(site, row)
        site.set(f"vmibShapeRate.{shape}", "u", "0", f"vmibShapeQueueLimit.{shape}", "u", "0")


def test_a_link_is_measured_by_its_destination_alone(site: Site) -> None:
    link = f"1.1.{inet('10.0.0.2')}.32"
    site.set(
        f"vmibLinkRate.{link}", "u", "2000", f"vmibLinkQueueLimit.{link}", "u", "50000",
        f"vmibLinkRowStatus.{link}", "i", "createAndGo",
    )  # fmt: skip
    rows = [probe(site, 1, address) for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3")]
    try:
        with flood(site, 1, "10.0.0.2"):
            for row in rows:
                wait_for_rounds(site, row, 2)
            own, linked, other = (number(site, "RttAvg", row) for row in rows)
        assert 150_000 < linked < 230_000
        assert own < 50_000
        assert other < 50_000
    finally:
        for row in rows:
            forget(site, row)
        site.set(f"vmibLinkRowStatus.{link}", "i", "destroy")


def test_what_a_machine_does_not_answer_is_lost(site: Site) -> None:
    nth = ("statistic", "--mode", "nth", "--every", "2", "--packet", "0")
    every_other = ("-p", "icmp", "-m", *nth, "-j", "DROP")
    own, other = probe(site, 3, "10.0.0.3", Count=2), probe(site, 3, "10.0.0.2", Count=10)
    site.in_machine(3, "iptables-legacy", "-A", "INPUT", *every_other)
    try:
        wait_for_rounds(site, other, 2)
        assert number(site, "Loss", other) == 500_000
        assert number(site, "Loss", own) == 0
        assert number(site, "RttAvg", other) > 0
        site.in_machine(3, "ip", "link", "set", "eth0", "arp", "off")
        wait_for_rounds(site, own, 2, 25)
        assert number(site, "Loss", own) == 1_000_000
        assert number(site, "RttAvg", own) == 0
    finally:
        site.in_machine(3, "ip", "link", "set", "eth0", "arp", "on")
        site.in_machine(3, "iptables-legacy", "-D", "INPUT", *every_other)
        forget(site, own)
        forget(site, other)


def test_a_probe_waits_while_its_machine_is_off(site: Site) -> None:
    row = probe(site, 3, "10.0.0.3")
    try:
        wait_for_rounds(site, row)
        run("ip", "netns", "del", site.machine_names[2])
        assert eventually(lambda: sync(site, row) == "waiting the machine is off")
        sent = number(site, "Sent", row)
        time.sleep(1.5)
        assert number(site, "Sent", row) == sent
        assert number(site, "RttAvg", row) > 0
        add_machine(site, 3)
        assert eventually(lambda: sync(site, row) == "inSync ")
        wait_for_rounds(site, row, 2)
        assert number(site, "Loss", row) == 0
    finally:
        forget(site, row)


def test_a_probe_waits_while_its_interface_is_down(site: Site) -> None:
    row = probe(site, 2, "10.0.0.1")
    try:
        wait_for_rounds(site, row)
        site.inside("ip", "link", "set", "vif2.0", "down")
        assert eventually(lambda: sync(site, row).startswith("waiting the host end"))
        site.inside("ip", "link", "set", "vif2.0", "up")
        assert eventually(lambda: sync(site, row) == "inSync ")
        wait_for_rounds(site, row, 2)
        assert number(site, "Loss", row) == 0
    finally:
        forget(site, row)


def test_a_probe_waits_while_there_is_nobody_to_ask(site: Site) -> None:
    row = probe(site, 1, "10.0.0.77")
    site.set(f"vmibAddrRowStatus.1.1.{inet('10.0.0.1')}", "i", "destroy")
    site.address(1, "10.9.0.1")
    try:
        assert "10.0.0.77 is neither an address" in sync(site, row)
        assert sync(site, row).startswith("waiting")
    finally:
        site.set(f"vmibAddrRowStatus.1.1.{inet('10.9.0.1')}", "i", "destroy")
        site.address(1, "10.0.0.1")
        forget(site, row)


def test_filters_and_domains_do_not_meet_probes(site: Site) -> None:
    site.domain(7, 1)
    row = probe(site, 1, "10.0.0.1")
    try:
        assert not site.pings(1, "10.0.0.2")
        wait_for_rounds(site, row, 2)
        assert number(site, "Loss", row) == 0
    finally:
        forget(site, row)
        site.set("vmibVifDomain.1.1", "u", "0", "vmibDomainRowStatus.7", "i", "destroy")


def test_a_probe_can_be_changed_while_it_runs(site: Site) -> None:
    row = probe(site, 1, "10.0.0.2", Interval=60)
    try:
        wait_for_rounds(site, row)
        before = number(site, "Sent", row)
        assert before == 5
        site.set(f"vmibProbeInterval.{row}", "u", "1", f"vmibProbeCount.{row}", "u", "20")
        wait_for_rounds(site, row)
        assert number(site, "Sent", row) >= before + 20
    finally:
        forget(site, row)


def test_a_probe_ends_by_itself(site: Site) -> None:
    generation = site.value("vmibTxnGeneration.0")
    row = probe(site, 1, "10.0.0.1", Lifetime=3, StorageType="volatile")
    time.sleep(2)
    site.set(f"vmibProbeLifetime.{row}", "u", "4")
    time.sleep(2)
    assert number(site, "Interval", row) == 1
    assert eventually(lambda: "No Such Instance" in site.value(f"vmibProbeInterval.{row}"))
    assert site.value("vmibTxnGeneration.0") == generation


def test_probes_are_staged_in_a_transaction(site: Site) -> None:
    row = f"1.1.{inet('10.0.0.2')}"
    site.set("vmibTxnRowStatus.5", "i", "createAndGo", "vmibTxnConfirmTimeout.5", "u", "0")
    site.set(f"vmibProbeInterval.{row}", "u", "1", f"vmibProbeRowStatus.{row}", "i", "createAndGo")
    try:
        assert "No Such Instance" in site.value(f"vmibProbeSync.{row}")
        site.set("vmibTxnAction.5", "i", "commit")
        wait_for_rounds(site, row)
    finally:
        forget(site, row)


REFUSED = {
    "an address that no host has": ("224.0.0.5", {}, "inconsistentValue"),
    "an address in no network of the interface": ("192.0.2.7", {}, "inconsistentValue"),
    "more packets than the host may send": ("10.0.0.1", {"Count": 101}, "wrongValue"),
    "no packet": ("10.0.0.1", {"Count": 0}, "wrongValue"),
    "no interval": ("10.0.0.1", {"Interval": 0}, "wrongValue"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_probed_is_refused(site: Site, case: str) -> None:
    address, columns, status = REFUSED[case]
    row = f"1.1.{inet(address)}"
    given = [w for name, v in columns.items() for w in (f"vmibProbe{name}.{row}", "u", str(v))]
    said = site.set(*given, f"vmibProbeRowStatus.{row}", "i", "createAndGo", check=False)
    assert status in said


def test_lasting_probes_survive_a_restart_and_volatile_ones_do_not(site: Site) -> None:
    lasting = probe(site, 1, "10.0.0.1")
    passing = probe(site, 1, "10.0.0.2", StorageType="volatile")
    try:
        wait_for_rounds(site, lasting)
        site.kill()
        site.start()
        assert eventually(lambda: site.value("vmibHostAgentMode.0") == "normal")
        wait_for_rounds(site, lasting)
        assert number(site, "Loss", lasting) == 0
        assert "No Such Instance" in site.value(f"vmibProbeInterval.{passing}")
    finally:
        forget(site, lasting)
