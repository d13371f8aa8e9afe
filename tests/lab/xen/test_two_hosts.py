"""Host 1 of two, each with a guest and an agent: the manager on it changes both, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmib.errors import VmibError
from vmib_manager import Manager, credentials_for, load
from vmib_manager.apply import ApplyFailed, Options, Outcome, Phase, Progress
from vmib_manager.model import Model

from .. import hypervisors
from ..host_lab import PASSPHRASES, PORT, SETTINGS, HostLab, eventually, mac_of
from ..hypervisors import run
from . import wire

pytestmark = pytest.mark.lab

PATIENCE = 600.0
"""Seconds until host 2 answers, which is booted at the same time."""
SHORT = Options(confirm_timeout=120, idle_timeout=120)
CONSOLE = Path("/dev/console")
CALM = 'rate="1Mbit" delay="50ms"'
REAL = "".join(
    f'<host id="h{n}" hypervisor="xen"><agent address="{wire.address_of(n)}" port="{PORT}" '
    f'user="admin"/><machine name="m{n}"><vif mac="{mac_of(n)}"/></machine></host>'
    for n in (1, 2)
)
MEMBERS = "".join(f'<member machine="m{n}" address="{wire.guest_address(n)}"/>' for n in (1, 2))


class Net:
    """Both hosts, as the manager on the first one knows them."""

    def __init__(self, lab: HostLab) -> None:
        self.lab = lab
        self.real = lab.directory / "real.xml"
        self.real.write_text(f'<real xmlns="urn:vmib:1">{REAL}</real>')
        secrets = f'auth = "{PASSPHRASES[0]}"\npriv = "{PASSPHRASES[1]}"\n'
        (lab.directory / "both.toml").touch(mode=0o600)
        (lab.directory / "both.toml").write_text(f"[h1]\n{secrets}[h2]\n{secrets}")

    def model(self, link: str) -> Model:
        """The guests in one site with a link between them."""
        virtual = self.lab.directory / "virtual.xml"
        site = f'<site id="lan" subnet="10.31.1.0/24">{MEMBERS}</site>'
        virtual.write_text(
            f'<virtual xmlns="urn:vmib:1">{site}<link a="m1" b="m2" {link}/></virtual>'
        )
        return load(self.real, virtual)

    def manager(self, model: Model) -> Manager:
        credentials = credentials_for(model.real, self.lab.directory / "both.toml")
        return Manager(model.real, credentials, timeout=5.0, retries=1)

    def is_complete(self) -> bool:
        """Whether the other host's agent and guest answer."""
        model = self.model(CALM)
        try:
            with self.manager(model) as manager:
                manager.plan(model)
        except VmibError:
            return False
        return self.lab.guests[1].pings(wire.guest_address(2))

    def apply(self, link: str, tell: Callable[[Progress], None] | None = None) -> Outcome:
        model = self.model(link)
        with self.manager(model) as manager:
            return manager.apply(manager.plan(model), SHORT, tell).outcome

    def shortest_trip(self, count: int = 10) -> float:
        """The shortest of the guests' round trips, in milliseconds: time is real in this lab."""
        command = f"ping -q -c {count} -i 0.2 {wire.guest_address(2)} | tail -1"
        return float(self.lab.guests[1].run(command).split("=")[1].split("/")[0])


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    directory = tmp_path_factory.mktemp("two")
    with hypervisors.hypervisor(directory) as hypervisor:
        lab = HostLab(hypervisor, directory, SETTINGS, address=wire.address_of(1))
        try:
            wire.join(1)
            lab.define(1, words=wire.guest_words(1))
            lab.boot(1)
            lab.start_agent()
            made = Net(lab)
            eventually(made.is_complete, "host 2, its agent and its guest are there", PATIENCE)
            yield made
        finally:
            lab.close()


def answers(address: str) -> bool:
    return "1 received" in run("ping", "-c", "1", "-W", "1", address, check=False)


def test_guests_of_two_hosts_reach_each_other(net: Net) -> None:
    assert net.shortest_trip() < 50


def test_a_network_is_applied_on_both_hosts(net: Net) -> None:
    assert net.apply(CALM) is Outcome.CONFIRMED
    assert 100 <= net.shortest_trip() < 150
    command = f"iperf3 -c {wire.guest_address(2)} -t 8 -f k -i 0 -J | grep -A9 sum_received"
    said = net.lab.guests[1].run(command, 60)
    (line,) = [line for line in said.splitlines() if "bits_per_second" in line]
    found, most = float(line.split(":")[1].strip(" ,")), 1e6 * 1448 / 1514
    assert 0.4 * most < found < 1.03 * most, "never more; how much less says how busy all is"


def test_both_hosts_are_as_before_when_one_loses_its_power_while_committing(net: Net) -> None:
    acted: list[Phase] = []

    def tell(progress: Progress) -> None:
        if progress.phase is Phase.COMMIT and not acted:
            acted.append(progress.phase)
            CONSOLE.write_text(f"{wire.DOOMED}\n")  # pytest keeps for itself what is printed
            eventually(lambda: not answers(wire.address_of(2)), "host 2 is gone", PATIENCE)

    before = qdiscs(net)
    with pytest.raises(ApplyFailed) as failed:
        net.apply('rate="3Mbit" delay="10ms"', tell)
    assert failed.value.phase is Phase.COMMIT
    assert failed.value.result.hosts["h1"].outcome is Outcome.ROLLED_BACK
    assert failed.value.result.hosts["h2"].outcome is Outcome.UNREACHABLE
    assert qdiscs(net) == before
    assert net.lab.value("vmibTxnCurrent.0") == "0"


def qdiscs(net: Net) -> list[tuple[str, object]]:
    """What shapes the vif of host 1's guest, without counters."""
    found = net.lab.qdiscs(net.lab.device(1))
    return [(each["kind"], each.get("options")) for each in found]
