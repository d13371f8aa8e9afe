"""What happens on a real host, told to snmptrapd in four ways; and what is held back."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vmib import objects
from vmib_agent import identity

from ..snmp.trapd import COMMUNITY, INFORM_USER, TRAP_USER, Trapd, wait_for
from .hosts import PASSPHRASES, Host, add_machine, host, run

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

WAYS = (
    f"TRAP2, SNMP v2c, community {COMMUNITY}",
    f"TRAP2, SNMP v3, user {TRAP_USER}",
    f"INFORM, SNMP v2c, community {COMMUNITY}",
    f"INFORM, SNMP v3, user {INFORM_USER}",
)
OIDS = {
    notification.name: "." + ".".join(map(str, notification.oid))
    for notification in objects.NOTIFICATIONS
}
ENABLE, INTERVAL = "vmibNotifyEnable.0", "vmibNotifyMinInterval.0"
EVERYTHING = "vifStatus drift applyFailed transaction agentMode threshold"
RATE = "vmibShapeRate.1.1.toVm"
ADDRESS = "1.1.ipv4.4.10.0.0.1"
LOST_ROUTE = "2.1.4.10.9.0.0.16.0"


@dataclass
class Told:
    """A host, and who is told of what happens there."""

    host: Host
    trapd: Trapd
    seen: int = 0

    def count(self, name: str, way: str) -> int:
        """How often a notification has come by one way since the last `forget`."""
        found = self.trapd.lines(f"= OID: {OIDS[name]}\t")
        return sum(way in line for line in self.trapd.lines()[self.seen :] if line in found)

    def is_told(self, name: str) -> bool:
        """Whether a notification comes in time, by every way."""
        return wait_for(lambda: all(self.count(name, way) for way in WAYS), 8)

    def forget(self) -> None:
        """Begin anew to listen."""
        self.seen = len(self.trapd.lines())

    def line(self, name: str) -> str:
        """The last notification of this name."""
        return self.trapd.lines(f"= OID: {OIDS[name]}\t")[-1]


@pytest.fixture(scope="module")
def running() -> Iterator[Told]:
    with tempfile.TemporaryDirectory() as place:
        trapd = Trapd(Path(place) / "trapd", 1162, b"12345", PASSPHRASES)
        trapd.prepare()
        with host(2, trapd.targets) as made:
            trapd.engine_id = identity.load(made.directory / "state").engine_id
            trapd.namespace = made.name
            trapd.prepare()
            trapd.start()
            try:
                made.set(
                    INTERVAL, "u", "0", RATE, "u", "700",
                    f"vmibAddrPrefixLength.{ADDRESS}", "u", "24",
                    f"vmibAddrRowStatus.{ADDRESS}", "i", "createAndGo",
                )  # fmt: skip
                yield Told(made, trapd)
            finally:
                trapd.stop()


@pytest.fixture
def told(running: Told) -> Told:
    running.forget()
    return running


def test_an_interface_that_goes_down(told: Told) -> None:
    told.host.inside("ip", "link", "set", "vif2.0", "down")
    assert told.is_told("vmibVifStatusChange")
    assert 'STRING: "m2"' in told.line("vmibVifStatusChange")
    told.host.inside("ip", "link", "set", "vif2.0", "up")


def test_shaping_that_a_stranger_changes_and_takes_back(told: Told) -> None:
    made = told.host
    handle = made.qdiscs("vif1.0")[0]["handle"]
    change = f"tc qdisc change dev vif1.0 root handle {handle}"
    made.inside(*f"{change} tbf rate 5mbit burst 5000 limit 20000".split())
    assert told.is_told("vmibShapingDrift")
    reason = made.value("vmibShapeOperLastError.1.1.toVm")
    right = re.search(r"tbf rate 700000bit burst \d+ limit \d+", reason)
    assert right is not None
    made.inside(*f"{change} {right[0]}".split())
    assert told.is_told("vmibShapingRestored")


def test_an_address_that_somebody_takes_away(told: Told) -> None:
    told.host.in_machine(1, "ip", "addr", "flush", "dev", "eth0")
    assert told.is_told("vmibDrift")
    told.host.in_machine(1, "ip", "addr", "add", "10.0.0.1/24", "dev", "eth0")


def test_a_commit_that_waits_and_nobody_confirms(told: Told) -> None:
    told.host.set(
        "vmibTxnRowStatus.5", "i", "createAndGo", "vmibTxnConfirmTimeout.5", "u", "1",
        "vmibShapeRate.2.1.toVm", "u", "900",
    )  # fmt: skip
    told.host.set("vmibTxnAction.5", "i", "commit")
    assert told.is_told("vmibTxnAwaitingConfirm")
    assert told.is_told("vmibTxnFinished")


def test_a_hypervisor_that_cannot_be_asked(told: Told) -> None:
    wrong = told.host.directory / "machines" / "m9.json"
    wrong.write_text("{")
    assert told.is_told("vmibAgentModeChange")
    wrong.unlink()


def test_a_row_that_fails_when_its_machine_comes(told: Told) -> None:
    run("ip", "netns", "del", told.host.machine_names[1])
    assert wait_for(lambda: told.host.value("vmibVmPresence.2") == "defined")
    told.host.set(
        f"vmibRouteNextHop.{LOST_ROUTE}", "x", "C0000201",
        f"vmibRouteRowStatus.{LOST_ROUTE}", "i", "createAndGo",
    )  # fmt: skip
    add_machine(told.host, 2)
    assert told.is_told("vmibApplyFailed")
    told.host.set(f"vmibRouteRowStatus.{LOST_ROUTE}", "i", "destroy")


def test_a_probe_that_exceeds_its_threshold_and_does_not_any_more(told: Told) -> None:
    name, threshold = "vmibProbeThresholdChange", f"vmibProbeRttThreshold.{ADDRESS}"
    told.host.set(
        f"vmibProbeInterval.{ADDRESS}", "u", "1", threshold, "u", "1",
        f"vmibProbeRowStatus.{ADDRESS}", "i", "createAndGo",
    )  # fmt: skip
    assert told.is_told(name)
    assert 'STRING: "m1"' in told.line(name)
    assert told.host.value(f"vmibProbeThreshold.{ADDRESS}") == "exceeded"
    assert not wait_for(lambda: any(told.count(name, way) > 1 for way in WAYS), 2.5)
    told.forget()
    told.host.set(threshold, "u", "1000000")
    assert told.is_told(name)
    assert told.host.value(f"vmibProbeThreshold.{ADDRESS}") == "normal"
    told.host.set(f"vmibProbeRowStatus.{ADDRESS}", "i", "destroy")


def test_informs_are_acknowledged_and_do_not_come_twice(told: Told) -> None:
    told.host.set("vmibTxnRowStatus.6", "i", "createAndGo")
    told.host.set("vmibTxnRowStatus.6", "i", "destroy")
    assert told.is_told("vmibTxnFinished")
    assert not wait_for(lambda: any(told.count("vmibTxnFinished", way) > 1 for way in WAYS), 2)
    assert "inform-lost" not in (told.host.directory / "agent.log").read_text()


def test_what_is_not_enabled_is_not_sent(told: Told) -> None:
    told.host.set(ENABLE, "b", "0 1 2 4 5")
    told.host.set("vmibTxnRowStatus.7", "i", "createAndGo")
    told.host.set("vmibTxnRowStatus.7", "i", "destroy")
    assert not wait_for(lambda: any(told.count("vmibTxnFinished", way) for way in WAYS), 1.5)
    told.host.set(ENABLE, "b", "3")
    told.host.set("vmibTxnRowStatus.8", "i", "createAndGo")
    told.host.set("vmibTxnRowStatus.8", "i", "destroy")
    assert told.is_told("vmibTxnFinished")
    told.host.set(ENABLE, "b", EVERYTHING)


def test_what_comes_too_often_is_held_back_and_counted(told: Told) -> None:
    made = told.host
    made.set(INTERVAL, "u", "3600")
    before = int(made.value("vmibNotifySuppressed.0"))
    for _ in range(2):
        for state in "down", "up":
            made.inside("ip", "link", "set", "vif1.0", state)
            status = "vmibVifOperStatus.1.1"
            assert wait_for(lambda status=status, state=state: made.value(status) == state)  # type: ignore[misc]
    assert told.is_told("vmibVifStatusChange")
    assert {told.count("vmibVifStatusChange", way) for way in WAYS} == {1}
    assert int(made.value("vmibNotifySuppressed.0")) >= before + 3
    made.set(INTERVAL, "u", "0")


@pytest.mark.parametrize("tool", ["snmpwalk", "snmpbulkwalk"])
def test_a_walk_with_the_targets_is_in_order(told: Told, tool: str) -> None:
    walked = told.host.snmp(tool, ".1.3", options=("-On", "-r", "1", "-t", "5"))
    found = re.findall(r"^\.([\d.]+) = (?!No more variables)", walked, re.MULTILINE)
    oids = [tuple(map(int, oid.split("."))) for oid in found]
    assert oids == sorted(set(oids))
    assert sum(oid[:9] == (1, 3, 6, 1, 6, 3, 12, 1, 2) for oid in oids) == 32
    assert COMMUNITY not in walked
