"""A real snmptrapd with what packaging/snmptrapd has is told everything that an agent can tell.

make nms-traps
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from vmib import objects
from vmib_manager import lab_access

from ..netns.hosts import Host, add_machine, host, run
from .site import eventually, said

pytestmark = pytest.mark.nms

CONFIGURATION = Path(__file__).resolve().parents[2] / "packaging" / "snmptrapd" / "vmib.conf"
SECRETS = ("what is on the air", "what nobody hears")
SHAPE, ADDRESS, ROUTE = "1.1.toVm", "1.1.ipv4.4.10.0.0.1", "2.1.4.10.9.0.0.16.0"


@dataclass
class Told:
    """A host and the log of the daemon that its agent tells."""

    host: Host
    log: Path

    @contextmanager
    def of(self, *names: str) -> Iterator[None]:
        """What happens in the block is told by these notifications, logged by their names."""
        before = {name: len(self.lines(name)) for name in names}
        yield
        assert eventually(lambda: all(len(self.lines(n)) > count for n, count in before.items()))

    def lines(self, name: str) -> list[str]:
        """Those of one name."""
        told = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in told if re.search(rf"snmpTrapOID\.0 = {name}\b", line)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    place = tmp_path_factory.mktemp("trapd")
    secret = place / "listener"
    secret.touch(mode=0o600)
    secret.write_text("\n".join(SECRETS) + "\n")
    target = 'address = "127.0.0.1:162"\nuser = "listener"\ninform = true\ntimeout = 2\n'
    settings = f'[[notifications.targets]]\n{target}passphrase_file = "{secret}"\n'
    text = CONFIGURATION.read_text()
    for words, phrase in zip(("authentication", "privacy"), SECRETS, strict=True):
        assert text.count(f"the pass phrase for {words}") == 1
        text = text.replace(f"the pass phrase for {words}", phrase)
    conf = place / "snmptrapd.conf"
    conf.touch(mode=0o600)
    conf.write_text(text)
    log = place / "log"
    directories = ":".join(map(str, lab_access.mib_directories()))
    command = ["snmptrapd", "-f", "-Lf", str(log), "-M", directories, "-m", "SNMPv2-MIB:VMIB-MIB"]
    environment = os.environ | {"SNMPCONFPATH": str(place), "SNMP_PERSISTENT_DIR": str(place)}
    with host(2, settings) as made:
        inside = ["ip", "netns", "exec", made.name, *command, "udp:127.0.0.1:162"]
        with subprocess.Popen(inside, env=environment) as trapd:
            try:
                assert eventually(lambda: log.exists() and "NET-SNMP" in log.read_text(), 10)
                made.set("vmibNotifyMinInterval.0", "u", "0")
                yield Told(made, log)
            finally:
                trapd.kill()


def shaping(made: Host) -> None:
    """A rate that somebody takes away in the kernel, and that a commit brings back."""
    made.set(f"vmibShapeRate.{SHAPE}", "u", "700")
    made.inside(*["tc", "qdisc", "del", "dev", "vif1.0", "root"])


def probe(made: Host) -> None:
    """A round trip above its threshold of a microsecond."""
    row = f"vmibProbe{{}}.{ADDRESS}"
    made.set(
        row.format("Interval"), "u", "1", row.format("RttThreshold"), "u", "1",
        row.format("RowStatus"), "i", "createAndGo",
    )  # fmt: skip


def commit(made: Host) -> None:
    """A commit that nobody confirms within a second."""
    made.set(
        "vmibTxnRowStatus.5", "i", "createAndGo", "vmibTxnConfirmTimeout.5", "u", "1",
        "vmibShapeRate.2.1.toVm", "u", "900",
    )  # fmt: skip
    made.set("vmibTxnAction.5", "i", "commit")


def test_every_notification_of_the_mib_is_logged_by_its_name(told: Told) -> None:
    made = told.host
    with told.of("vmibVifStatusChange"):
        made.inside("ip", "link", "set", "vif2.0", "down")
    with told.of("vmibVifStatusChange"):
        made.inside("ip", "link", "set", "vif2.0", "up")
    with told.of("vmibShapingDrift"):
        shaping(made)
    with told.of("vmibTxnAwaitingConfirm", "vmibShapingRestored", "vmibTxnFinished"):
        commit(made)
    made.set(
        f"vmibAddrPrefixLength.{ADDRESS}", "u", "24",
        f"vmibAddrRowStatus.{ADDRESS}", "i", "createAndGo",
    )  # fmt: skip
    with told.of("vmibProbeThresholdChange"):
        probe(made)
    with told.of("vmibDrift"):
        made.in_machine(1, "ip", "addr", "flush", "dev", "eth0")
    wrong = made.directory / "machines" / "m9.json"
    with told.of("vmibAgentModeChange"):
        wrong.write_text("{")
    with told.of("vmibAgentModeChange"):
        wrong.unlink()
    run("ip", "netns", "del", made.machine_names[1])
    assert eventually(lambda: made.value("vmibVmPresence.2") == "defined", 10)
    made.set(
        f"vmibRouteNextHop.{ROUTE}", "x", "C0000201",
        f"vmibRouteRowStatus.{ROUTE}", "i", "createAndGo",
    )  # fmt: skip
    with told.of("vmibApplyFailed"):
        add_machine(made, 2)

    names = [notification.name for notification in objects.NOTIFICATIONS]
    said("what snmptrapd has logged, one of each", [told.lines(name)[-1] for name in names])
    (line, *_) = told.lines("vmibShapingDrift")
    assert "vmibVmName.1 = m1" in line
    assert "vmibShapeRate.1.1.toVm = 700" in line
    assert "vmibShapeOperSync.1.1.toVm = drifted" in line


def test_the_values_of_a_notification_are_logged_as_the_mib_shows_them(told: Told) -> None:
    (line, *_) = told.lines("vmibTxnAwaitingConfirm")
    assert re.search(r"^\d{4}-\d\d-\d\d +\d+:\d+:\d+ \S+ ", line), line
    assert re.search(r"vmibTxnTimeLeft\.5 = [01]\b", line), line
