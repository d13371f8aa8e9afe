"""Rules over time: machines come and go, the agent dies, strangers interfere."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator

import pytest

from vmib import objects

from .hosts import add_machine, run
from .sites import Site, eventually, site_of

pytestmark = [pytest.mark.netns, pytest.mark.snmp]


@pytest.fixture
def site() -> Iterator[Site]:
    with site_of(2) as made:
        yield made


def test_a_machine_that_appears_is_in_its_domain_at_once(site: Site) -> None:
    site.domain(1, 1)
    site.domain(2, 2)
    rules = site.rules()
    site.inside("ip", "link", "del", "vif2.0")
    assert eventually(lambda: "vif2.0" not in site.rules())
    run("ip", "netns", "del", site.machine_names[1])
    add_machine(site, 2)
    assert eventually(lambda: site.rules() == rules)
    assert eventually(lambda: "10.0.0.2" in site.in_machine(2, "ip", "addr"))
    assert not site.pings(1, "10.0.0.2")
    site.set("vmibVifDomain.2.1", "u", "1")
    assert site.pings(1, "10.0.0.2")


def test_rules_and_their_counters_outlive_the_agent(site: Site) -> None:
    site.domain(1, 1, default="accept")
    site.filter(1, 1, "accept", Protocol=1)
    assert site.pings(1, "10.0.0.2")
    rules = site.rules()
    site.kill(signal.SIGKILL)
    assert site.rules() == rules
    assert site.pings(1, "10.0.0.2")
    site.start()
    assert site.rules() == rules
    assert site.pings(1, "10.0.0.2")
    assert site.packets(1, 1) == 3


def command_to_delete(site: Site, comment: str) -> list[str]:
    rule = next(line for line in site.rules().splitlines() if comment in line)
    return ["iptables-legacy", *rule.replace("-A", "-D", 1).replace('"', "").split()]


def test_a_rule_that_a_stranger_removes_is_laid_to_its_filter_and_mended_by_the_next_set(
    site: Site,
) -> None:
    site.domain(1, 1)
    site.filter(1, 10, "drop", Protocol=6)
    site.filter(1, 20, "drop", Protocol=17)
    rules = site.rules()
    site.inside(*command_to_delete(site, "vmib:f1.10"))
    assert eventually(lambda: site.value("vmibFilterSync.1.10") == "drifted")
    assert site.value("vmibFilterSync.1.20") == "inSync"
    assert "vmib:f1.10" in site.value("vmibFilterLastError.1.10")
    site.set("vmibShapeRate.2.1.toVm", "u", "100")
    assert site.value("vmibFilterSync.1.10") == "inSync"
    assert site.rules() == rules


def test_all_rows_drift_when_packets_do_not_meet_the_rules_any_more(site: Site) -> None:
    site.domain(1, 1)
    site.filter(1, 10, "drop", Protocol=6)
    site.switch(3, "nat", "10.3.0.254")
    rules = site.rules()
    rows = ("vmibDomainSync.1", "vmibFilterSync.1.10", "vmibSwitchSync.3")

    def verdicts() -> set[str]:
        return {site.value(row) for row in rows}

    for rate, damage in enumerate(
        (
            command_to_delete(site, "-A FORWARD"),
            ["iptables-legacy", "-I", "FORWARD", "-j", "ACCEPT"],
            ["iptables-legacy", "-t", "nat", "-F"],
            ["sysctl", "-w", "net.bridge.bridge-nf-call-ip6tables=0"],
            ["sysctl", "-w", "net.ipv4.ip_forward=0"],
        ),
        100,
    ):
        assert verdicts() == {"inSync"}
        site.inside(*damage)
        assert eventually(lambda: verdicts() == {"drifted"}), damage
        site.set("vmibShapeRate.2.1.toVm", "u", str(rate))
    assert verdicts() == {"inSync"}
    site.inside("iptables-legacy", "-D", "FORWARD", "-j", "ACCEPT")
    assert site.rules() == rules


TRAPD = """
authCommunity log ears
format2 %b %v\\n
"""


def test_drift_of_the_filter_is_announced_with_the_row_and_the_rule() -> None:
    sink = '[[notifications.targets]]\naddress = "127.0.0.1:1162"\ncommunity = "ears"\n'
    with site_of(1, sink) as site:
        home = site.directory / "trapd"
        home.mkdir()
        (home / "snmptrapd.conf").write_text(TRAPD)
        log = home / "log"
        command = ["ip", "netns", "exec", site.name, "env", f"SNMPCONFPATH={home}"]
        command += [f"SNMP_PERSISTENT_DIR={home}", "snmptrapd", "-f", "-Lf", str(log), "-m", ""]
        with subprocess.Popen([*command, "-On", "udp:127.0.0.1:1162"]) as trapd:
            try:
                assert eventually(lambda: log.exists() and "NET-SNMP version" in log.read_text())
                site.domain(1, 1)
                site.filter(1, 10, "drop", Protocol=6)
                site.inside(*command_to_delete(site, "vmib:f1.10"))
                assert eventually(lambda: "vmib:f1.10" in log.read_text())
            finally:
                trapd.kill()
        row = ".".join(map(str, (*objects.vmibFilterSync.oid, 1, 10)))
        told = [line for line in log.read_text().splitlines() if f"OID: .{row}" in line]
        assert len(told) == 1, log.read_text()
        assert "missing: ip" in told[0]
