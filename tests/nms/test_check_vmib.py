"""check_vmib on a running lab: every mode, well and not well."""

from __future__ import annotations

import os
import subprocess
import time
from ipaddress import ip_network

import pytest

from vmib import objects
from vmib.rows import InetAddressType
from vmib.schema import instance

from . import debian
from .site import ADDRESSES, BIN, PORT, READER, Site, eventually

pytestmark = pytest.mark.nms


def check(site: Site, host: str, mode: str, *words: str, **environment: str) -> tuple[int, str]:
    """The status and the line of the plug-in about a host."""
    reach = ["-H", site.address(host), "-p", str(PORT), "-U", READER, "-t", "5"]
    done = subprocess.run(
        [BIN / "check_vmib", mode, *reach, "--credentials", site.credentials, *words],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def told(site: Site, *words: str) -> str:
    """What is told of h1, where everything is well."""
    status, text = check(site, "h1", *words)
    assert status == 0, text
    return text


def test_hosts_machines_and_interfaces_that_are_well(site: Site) -> None:
    text = told(site, "host", "--needs", "links")
    assert "is in mode normal, hypervisor netns is up, the host can do all that is needed |" in text
    assert "alice is running, 1 interface | interfaces=1;;;0\n" in told(site, "machine", "alice")
    assert "bob:0 is up, in sync" in told(site, "vif", "bob")
    assert "all rows are in sync |" in told(site, "sync")
    assert "all rows of bob:0 are in sync |" in told(site, "sync", "bob:0")
    assert "no transaction is open |" in told(site, "transaction")


def test_debian_s_release_of_the_library_says_the_same(site: Site) -> None:
    old = debian.unpacked("python3-nagiosplugin") / "usr" / "lib" / "python3" / "dist-packages"
    assert next(old.glob("nagiosplugin-1.3.2*"))
    for words in (["host"], ["machine", "alice", "--expect", "absent"], ["sync", "-v"]):
        now = check(site, "h1", words[0], *words[1:])
        assert check(site, "h1", words[0], *words[1:], PYTHONPATH=str(old)) == now
        assert now[0] != 3


def test_what_the_agent_does_not_know(site: Site) -> None:
    assert check(site, "h1", "machine", "dave") == (
        3,
        f"VMIB UNKNOWN: agent {site.address('h1')}:{PORT} has no machine dave, but alice, bob\n",
    )
    status, text = check(site, "h1", "vif", "alice:4")
    assert (status, "machine alice has no interface 4, but 0" in text) == (3, True)
    status, text = check(site, "h1", "rate", "alice", "--to", "10.37.0.9", "-i", "0.1")
    assert (status, "10.37.0.9/32 is nothing that is configured" in text) == (3, True)
    status, text = check(site, "h1", "probe", "alice", "10.37.0.9")
    assert (status, "no probe from alice:0 to 10.37.0.9" in text) == (3, True)


def test_a_machine_that_is_not_there(site: Site) -> None:
    assert check(site, "h2", "machine", "carol", "--expect", "defined")[0] == 2
    status, text = check(site, "h2", "machine", "carol", "-c", "2:")
    assert (status, "1 interface" in text) == (2, True)


def test_a_drift_is_told_with_its_reason_until_it_is_set_right(site: Site) -> None:
    site.drift("bob")
    assert eventually(lambda: check(site, "h1", "sync")[0] == 2)
    for about in ([], ["bob"], ["bob:0"]):
        status, text = check(site, "h1", "sync", *about)
        assert status == 2
        assert "1 drifted; shape bob:0 receives drifted: missing: tc qdisc add dev vif2.0" in text
        assert "wrong=1;;0;0" in text
    assert check(site, "h1", "sync", "-c", "1", "-w", "0")[0] == 1
    assert check(site, "h1", "sync", "alice")[0] == 0
    assert check(site, "h2", "sync")[0] == 0
    status, text = check(site, "h1", "rate", "bob", "--direction", "toVm", "-i", "1")
    assert (status, "RATE CRITICAL - drifted: missing" in text) == (2, True)
    site.as_described()
    assert check(site, "h1", "sync")[0] == 0


def percent(text: str, name: str) -> float:
    """A value in percent of the performance data."""
    return float(text.partition(f" {name}=")[2].partition("%")[0])


def test_rates_and_drops_of_real_traffic(site: Site) -> None:
    assert "is not limited, and not counted" in told(
        site, "rate", "alice", "--direction", "toVm", "-i", "0.1"
    )
    with site.traffic("carol", "bob", 8e6, 30):
        time.sleep(1)
        received = ("bob:0", "--direction", "toVm", "-i")
        text = told(site, "rate", *received, "5")
        assert 65 < percent(text, "of_configured") < 95
        assert check(site, "h1", "rate", *received, "2", "-c", "98:")[0] == 2
        assert percent(told(site, "drops", *received, "1"), "dropped") == 0
    with site.traffic("alice", "bob", 10e6, 30):
        time.sleep(1)
        text = told(site, "rate", "alice", "--to", ADDRESSES["bob"], "-i", "5")
        assert 85 < percent(text, "of_configured") < 115
        status, text = check(
            site, "h1", "drops", "alice", "--to", ADDRESSES["bob"], "-i", "3", "-w", "1", "-c", "99"
        )
        assert status == 1
        assert 30 < percent(text, "dropped") < 70


@pytest.mark.parametrize("target", [ADDRESSES["alice"], ADDRESSES["bob"]])
def test_a_probe_of_the_machine_or_of_its_link(site: Site, target: str) -> None:
    row = site.probe("alice", target)
    about = ("probe", "alice", target)
    assert eventually(lambda: check(site, "h1", *about)[0] == 0)
    text = told(site, *about, "-w", "100,5", "-c", "500,50")
    assert f"alice:0 to {target} is normal, round trip " in text
    assert 0 < float(text.partition(" rtt=")[2].partition("ms")[0]) < 100
    assert check(site, "h1", *about, "-c", "0.001")[0] == 2
    site.inside("h1", "ip", "link", "set", "vif1.0", "down")
    assert eventually(lambda: check(site, "h1", *about)[0] == 1)
    assert "waiting: probe from alice:0" in check(site, "h1", *about)[1]
    site.inside("h1", "ip", "link", "set", "vif1.0", "up")
    assert eventually(lambda: check(site, "h1", *about)[0] == 0)
    site.snmp("snmpset", "h1", f"vmibProbeRowStatus.{row}", "i", "destroy")


def test_a_commit_that_waits_to_be_confirmed(site: Site) -> None:
    whole = ip_network(f"{ADDRESSES['bob']}/32")
    index = site.snmp("snmpwalk", "h1", 'vmibVifLookupVmIndex."alice"')[0].split()[-1]
    key = (int(index), 1, InetAddressType.ipv4, whole.network_address, 32)
    rate = ".".join(map(str, instance(objects.vmibLinkTable, "rate", key)))
    site.snmp("snmpset", "h1", rate, "u", "7000")
    site.vmib("apply", "real.xml", "virtual.xml", "--no-confirm", "--confirm-timeout", "300")
    status, text = check(site, "h1", "transaction")
    assert (status, "of vmib (vmib apply) awaits confirmation |" in text) == (1, True), text
    assert 200 < float(text.partition("time_left=")[2].partition("s")[0]) <= 300
    assert check(site, "h1", "transaction", "-c", "400:")[0] == 2
    site.vmib("confirm", "real.xml")
    assert check(site, "h1", "transaction")[0] == 0


def test_a_transaction_that_is_open_stands_in_nobody_s_way_here(site: Site) -> None:
    site.snmp("snmpset", "h1", "vmibTxnRowStatus.8", "i", "createAndGo")
    assert "transaction 8 of vmib is open, 0 rows changed |" in told(site, "transaction")
    site.snmp("snmpset", "h1", "vmibTxnRowStatus.8", "i", "destroy")


def test_an_agent_that_is_stopped(site: Site) -> None:
    with site.silent("h1"):
        status, text = check(site, "h1", "host", "-t", "1")
    assert (status, "no answer to 6 requests in 1 s" in text) == (3, True)
    assert check(site, "h1", "host")[0] == 0
