"""What strangers change is seen within two seconds, told to snmptrapd, and so is its end."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from vmib import objects
from vmib.schema import instance
from vmib_agent import identity

from .hosts import PASSPHRASES, Host, host

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

SINK = '[[notifications.targets]]\naddress = "127.0.0.1:1162"\nuser = "admin"\n'
TO_VM, FROM_VM = "vmibShapeOperSync.1.1.toVm", "vmibShapeOperSync.1.1.fromVm"
LINK, LINK_SYNC = (f"vmibLink{name}.1.1.ipv4.4.10.0.0.0.24" for name in ("", "OperSync"))


@dataclass
class Watched:
    """A host and the notifications that have come from it, by SNMPv3."""

    host: Host
    log: Path
    seen: int = 0

    def told(self) -> str:
        """What snmptrapd has printed since the last `forget`."""
        return self.log.read_text()[self.seen :]

    def forget(self) -> None:
        """Begin anew to listen."""
        self.seen = len(self.log.read_text())

    def is_told(self, notification: str, about: tuple[int, ...]) -> bool:
        """Whether this notification has come, with this instance in it."""
        oid = next(found.oid for found in objects.NOTIFICATIONS if found.name == notification)
        return any(
            f"OID: .{dotted(oid)}\t" in line and f".{dotted(about)}" in line
            for line in self.told().splitlines()
        )


def dotted(oid: tuple[int, ...]) -> str:
    return ".".join(map(str, oid))


def within_two_seconds(check: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with host(2, SINK) as made:
        home = made.directory / "trapd"
        home.mkdir()
        log = home / "log"
        conf = home / "snmptrapd.conf"
        conf.touch(mode=0o600)
        engine = identity.load(made.directory / "state").engine_id.hex()
        auth, priv = PASSPHRASES
        conf.write_text(
            f'createUser -e 0x{engine} admin SHA-256 "{auth}" AES "{priv}"\n'
            "authUser log admin priv\nformat2 %v\\t\\n\n"
        )
        command = ["ip", "netns", "exec", made.name, "snmptrapd", "-f", "-Lf", str(log), "-On"]
        environment = os.environ | {"SNMPCONFPATH": str(home), "SNMP_PERSISTENT_DIR": str(home)}
        with subprocess.Popen([*command, "-m", "", "udp:127.0.0.1:1162"], env=environment) as trapd:
            try:
                assert within_two_seconds(lambda: log.exists() and "NET-SNMP" in log.read_text())
                made.set(
                    "vmibNotifyMinInterval.0", "u", "0",
                    "vmibShapeRate.1.1.toVm", "u", "700", "vmibShapeRate.1.1.fromVm", "u", "800",
                    LINK.replace("Link", "LinkRate"), "u", "300",
                    LINK.replace("Link", "LinkRowStatus"), "i", "createAndGo",
                    "vmibFilterAction.0.9", "i", "drop", "vmibFilterProtocol.0.9", "u", "222",
                    "vmibFilterRowStatus.0.9", "i", "createAndGo",
                    "vmibAddrPrefixLength.1.1.ipv4.4.10.0.0.1", "u", "24",
                    "vmibAddrRowStatus.1.1.ipv4.4.10.0.0.1", "i", "createAndGo",
                    "vmibSwitchName.1", "s", "br1", "vmibSwitchRowStatus.1", "i", "createAndGo",
                    "vmibVifSwitchIndex.2.1", "u", "1",
                )  # fmt: skip
                yield Watched(made, log)
            finally:
                trapd.kill()


@pytest.fixture
def all_in_sync(watched: Watched) -> Watched:
    assert watched.host.value("vmibHostRowsOutOfSync.0") == "0"
    watched.forget()
    return watched


def shape(field: str, direction: int) -> tuple[int, ...]:
    return instance(objects.vmibShapeTable, field, (1, 1, direction))


def test_a_changed_qdisc_and_its_repair_are_seen_and_told(all_in_sync: Watched) -> None:
    watched, made = all_in_sync, all_in_sync.host
    handle = made.qdiscs("vif1.0")[0]["handle"]
    change = f"tc qdisc change dev vif1.0 root handle {handle}"
    made.inside(*f"{change} tbf rate 5mbit burst 5000 limit 20000".split())
    assert within_two_seconds(lambda: made.value(TO_VM) == "drifted")
    assert made.value(FROM_VM) == "inSync"
    rate = shape("rate", 2)
    assert within_two_seconds(lambda: watched.is_told("vmibShapingDrift", rate))
    told = next(line for line in watched.told().splitlines() if f".{dotted(rate)}" in line)
    oper_rate = instance(objects.vmibShapeOperTable, "rate", (1, 1, 2))
    assert f".{dotted(rate)} = Gauge32: 700\t" in told
    assert f".{dotted(oper_rate)} = Gauge32: 5000\t" in told
    assert '"m1"' in told
    reason = made.value("vmibShapeOperLastError.1.1.toVm")
    right = re.search(r"tbf rate 700000bit burst \d+ limit \d+", reason)
    assert right is not None
    made.inside(*f"{change} {right[0]}".split())
    assert within_two_seconds(lambda: made.value(TO_VM) == "inSync")
    sync = instance(objects.vmibShapeOperTable, "sync", (1, 1, 2))
    assert within_two_seconds(lambda: watched.is_told("vmibShapingRestored", sync))


def test_a_filter_that_somebody_removed_makes_the_link_drift(all_in_sync: Watched) -> None:
    watched, made = all_in_sync, all_in_sync.host
    htb = next(q["handle"] for q in made.qdiscs("vmib1.1") if q["kind"] == "htb")
    made.inside("tc", "filter", "del", "dev", "vmib1.1", "parent", htb)
    assert within_two_seconds(lambda: made.value(LINK_SYNC) == "drifted")
    assert made.value(FROM_VM) == "drifted"
    assert made.value(TO_VM) == "inSync"
    assert "tc filter add" in made.value(LINK_SYNC.replace("Sync", "LastError"))
    assert within_two_seconds(lambda: watched.is_told("vmibShapingDrift", shape("rate", 1)))
    made.set("vmibShapeRate.2.1.toVm", "u", "100")
    assert made.value(LINK_SYNC) == made.value(FROM_VM) == "inSync"
    assert "10.0.0.0/24" in made.inside(
        "tc", "-p", "filter", "show", "dev", "vmib1.1", "parent", htb
    )
    sync = instance(objects.vmibShapeOperTable, "sync", (1, 1, 1))
    assert within_two_seconds(lambda: watched.is_told("vmibShapingRestored", sync))


@pytest.mark.parametrize(
    "damage",
    ["tc qdisc del dev vif1.0 ingress", "ip link del vmib1.1", "ip link set vmib1.1 down"],
)
def test_traffic_that_is_not_shaped_any_more_is_seen(all_in_sync: Watched, damage: str) -> None:
    made = all_in_sync.host
    made.inside(*damage.split())
    assert within_two_seconds(lambda: made.value(FROM_VM) == "drifted")
    rate = "101" if made.value("vmibShapeRate.2.1.toVm") != "101" else "102"
    made.set("vmibShapeRate.2.1.toVm", "u", rate)
    assert made.value(FROM_VM) == "inSync"
    assert "800Kbit" in made.inside("tc", "qdisc", "show", "dev", "vmib1.1")


def test_a_rule_that_somebody_removed_is_seen_told_and_mended(all_in_sync: Watched) -> None:
    watched, made = all_in_sync, all_in_sync.host
    rule = next(line for line in made.rules().splitlines() if "vmib:f0.9" in line)
    made.inside("iptables-legacy", *rule.replace("-A", "-D", 1).replace('"', "").split())
    assert within_two_seconds(lambda: made.value("vmibFilterSync.0.9") == "drifted")
    sync = instance(objects.vmibFilterTable, "sync", (0, 9))
    assert within_two_seconds(lambda: watched.is_told("vmibDrift", sync))
    watched.forget()
    made.inside("iptables-legacy", *rule.replace("-A", "-I", 1).replace('"', "").split())
    assert within_two_seconds(lambda: made.value("vmibFilterSync.0.9") == "inSync")
    assert within_two_seconds(lambda: watched.is_told("vmibDrift", sync))
    assert "in sync again" in watched.told()


def test_what_happens_inside_a_machine_is_seen(all_in_sync: Watched) -> None:
    made, row = all_in_sync.host, "vmibAddrSync.1.1.ipv4.4.10.0.0.1"
    made.in_machine(1, "ip", "addr", "flush", "dev", "eth0")
    assert within_two_seconds(lambda: made.value(row) == "drifted")
    made.in_machine(1, "ip", "addr", "add", "10.0.0.1/24", "dev", "eth0")
    assert within_two_seconds(lambda: made.value(row) == "inSync")


def test_a_port_that_is_moved_is_seen(all_in_sync: Watched) -> None:
    made = all_in_sync.host
    made.inside("ip", "link", "set", "vif2.0", "master", "br0")
    assert within_two_seconds(lambda: made.value("vmibVifSync.2.1") == "drifted")
    assert made.value("vmibVifSync.1.1") == "inSync"
    made.inside("ip", "link", "set", "vif2.0", "master", "br1")
    assert within_two_seconds(lambda: made.value("vmibVifSync.2.1") == "inSync")


def test_a_host_end_that_is_made_anew_at_once_is_shaped_again(all_in_sync: Watched) -> None:
    made = all_in_sync.host
    commands = (
        "link del vif1.0\n"
        f"link add vif1.0 type veth peer name eth0 address 02:00:00:00:00:01 "
        f"netns {made.machine_names[0]}\n"
        "link set vif1.0 up\n"
    )
    batch = made.directory / "batch"
    batch.write_text(commands)
    made.inside("ip", "-batch", str(batch))
    assert within_two_seconds(lambda: made.rate("vif1.0") == 700)
    assert within_two_seconds(lambda: "10.0.0.1/24" in made.in_machine(1, "ip", "addr"))
    assert within_two_seconds(lambda: made.value("vmibHostRowsOutOfSync.0") == "0")
