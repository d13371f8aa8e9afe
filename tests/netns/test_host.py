"""The whole agent, by net-snmp's tools, on a real kernel: what a person would try first."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from .hosts import Host, host

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

RATE = "vmibShapeRate.1.1.toVm"


@pytest.fixture
def running() -> Iterator[Host]:
    with host() as made:
        yield made


def eventually(check: Callable[[], bool], seconds: float = 6.0) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return False


def test_one_snmpset_shapes_an_interface_and_the_defaults_clear_it(running: Host) -> None:
    running.set(RATE, "u", "1000", "vmibShapeRate.1.1.fromVm", "u", "2000")
    assert running.rate("vif1.0") == 1000
    assert running.rate("vmib1.1") == 2000
    assert running.value("vmibShapeOperRate.1.1.toVm") == "1000"
    assert running.value("vmibShapeOperSync.1.1.toVm") == "inSync"
    running.set(RATE, "u", "0", "vmibShapeRate.1.1.fromVm", "u", "0")
    assert running.rate("vif1.0") is None
    assert "vmib1.1" not in running.inside("ip", "link")


def test_a_machine_is_found_by_its_name(running: Host) -> None:
    assert running.value('vmibVifLookupVmIndex."m2".0') == "2"
    assert running.value("vmibVifHostName.2.1") == "vif2.0"
    uuid = "00000000-0000-4000-8000-000000000002"
    assert running.value(f"vmibVmLookupIndex.'{uuid}'") == "2"


def test_a_walk_of_the_whole_mib_ends(running: Host) -> None:
    walked = running.snmp("snmpbulkwalk", "vmibMIB")
    assert "No more variables" in walked or len(walked.splitlines()) > 100
    assert "vmibShapeOperRate.2.1.toVm = 0" in walked


def test_a_set_of_several_rows_is_all_or_nothing(running: Host) -> None:
    refused = running.set(RATE, "u", "500", "vmibShapeRate.9.1.toVm", "u", "500", check=False)
    assert "inconsistentName" in refused
    assert "vmibShapeRate.9.1.toVm" in refused
    assert running.value(RATE) == "0"
    assert running.rate("vif1.0") is None


def test_what_the_kernel_lacks_is_refused_and_named(running: Host) -> None:
    if "netem" in running.value("vmibHostCapabilities.0"):
        pytest.skip("this kernel has sch_netem: nothing is lacking")
    refused = running.set(RATE, "u", "500", "vmibShapeDelay.1.1.toVm", "u", "20000", check=False)
    assert "resourceUnavailable" in refused
    assert "vmibShapeDelay.1.1.toVm" in refused
    assert running.rate("vif1.0") is None


def test_a_reader_cannot_write_and_a_shaper_cannot_filter(running: Host) -> None:
    assert "noAccess" in running.set(RATE, "u", "500", user="read", check=False)
    running.set(RATE, "u", "500", user="shape")
    refused = running.set("vmibDomainName.1", "s", "a", user="shape", check=False)
    assert "noAccess" in refused


def test_machines_of_two_domains_on_one_bridge_are_cut(running: Host) -> None:
    for number in (1, 2):
        address = f"{number}.1.ipv4.4.10.0.0.{number}"
        running.set(
            f"vmibAddrPrefixLength.{address}", "u", "24",
            f"vmibAddrRowStatus.{address}", "i", "createAndGo",
        )  # fmt: skip
    ping = ("ping", "-c", "1", "-W", "1", "10.0.0.2")
    assert "1 received" in running.in_machine(1, *ping, check=False)
    for domain in ("1", "2"):
        running.set(
            f"vmibDomainName.{domain}", "s", f"site{domain}",
            f"vmibDomainRowStatus.{domain}", "i", "createAndGo",
            f"vmibVifDomain.{domain}.1", "u", domain,
        )  # fmt: skip
    assert "VMIB-" in running.rules()
    assert "0 received" in running.in_machine(1, *ping, check=False)
    running.set("vmibVifDomain.2.1", "u", "1")
    assert "1 received" in running.in_machine(1, *ping, check=False)


def test_a_confirmed_commit_that_nobody_confirms_is_taken_back(running: Host) -> None:
    running.set(RATE, "u", "700")
    running.set(
        "vmibTxnRowStatus.5", "i", "createAndGo",
        "vmibTxnConfirmTimeout.5", "u", "2",
        RATE, "u", "900",
    )  # fmt: skip
    assert running.rate("vif1.0") == 700
    running.set("vmibTxnAction.5", "i", "commit")
    assert running.value("vmibTxnState.5") == "awaitingConfirm"
    assert running.rate("vif1.0") == 900
    assert eventually(lambda: running.value("vmibTxnState.5") == "rolledBack")
    assert running.rate("vif1.0") == 700


def test_a_kill_while_awaiting_confirmation_is_taken_back_at_the_restart(running: Host) -> None:
    running.set(RATE, "u", "700")
    running.set(
        "vmibTxnRowStatus.5", "i", "createAndGo", RATE, "u", "900", "vmibTxnAction.5", "i", "commit"
    )
    assert running.rate("vif1.0") == 900
    running.kill()
    assert running.rate("vif1.0") == 900
    running.start()
    assert running.rate("vif1.0") == 700
    assert running.value("vmibTxnState.5") == "rolledBack"


def test_what_was_set_survives_a_kill_and_the_network_never_notices(running: Host) -> None:
    running.set(RATE, "u", "700")
    before = running.qdiscs("vif1.0")
    running.kill()
    running.start()
    assert running.value(RATE) == "700"
    assert running.qdiscs("vif1.0")[0]["handle"] == before[0]["handle"]


def test_a_clean_stop_leaves_the_network_as_it_is(running: Host) -> None:
    running.set(RATE, "u", "700")
    running.kill(signal.SIGTERM)
    assert running.rate("vif1.0") == 700


def test_a_stranger_s_change_is_seen_reported_and_mended_by_the_next_set(running: Host) -> None:
    running.set(RATE, "u", "700")
    handle = running.qdiscs("vif1.0")[0]["handle"]
    stranger = ["tc", "qdisc", "change", "dev", "vif1.0", "root", "handle", handle]
    running.inside(*stranger, "tbf", "rate", "5mbit", "burst", "5000", "limit", "20000")
    assert eventually(lambda: running.value("vmibShapeOperSync.1.1.toVm") == "drifted")
    assert running.value("vmibShapeOperRate.1.1.toVm") == "5000"
    assert running.value("vmibHostRowsOutOfSync.0") == "1"
    assert "tc qdisc change" in running.value("vmibShapeOperLastError.1.1.toVm")
    running.set("vmibShapeRate.2.1.toVm", "u", "100")
    assert running.value("vmibShapeOperSync.1.1.toVm") == "inSync"
    assert running.rate("vif1.0") == 700


def test_a_rule_that_a_stranger_removed_is_seen(running: Host) -> None:
    running.set(
        "vmibDomainName.1", "s", "a", "vmibDomainRowStatus.1", "i", "createAndGo",
        "vmibVifDomain.1.1", "u", "1",
    )  # fmt: skip
    rule = next(line for line in running.rules().splitlines() if line.startswith("-A FORWARD"))
    running.inside("iptables-legacy", *rule.replace("-A", "-D", 1).replace('"', "").split())
    assert eventually(lambda: running.value("vmibDomainSync.1") == "drifted", 12)


def test_a_foreign_qdisc_is_never_removed(running: Host) -> None:
    running.inside("tc", "qdisc", "add", "dev", "vif1.0", "root", "handle", "5:", "pfifo")
    refused = running.set(RATE, "u", "700", check=False)
    assert "resourceUnavailable" in refused
    assert [q["handle"] for q in running.qdiscs("vif1.0") if q.get("root")] == ["5:"]
    assert running.value(RATE) == "0"


def test_a_machine_that_comes_back_is_shaped_again(running: Host) -> None:
    running.set(RATE, "u", "700")
    running.inside("ip", "link", "del", "vif1.0")
    assert eventually(lambda: running.value("vmibShapeOperSync.1.1.toVm") == "waiting")
    peer = ["type", "veth", "peer", "name", "eth0", "netns", running.machine_names[0]]
    running.inside("ip", "link", "add", "vif1.0", *peer)
    assert eventually(lambda: running.rate("vif1.0") == 700, 3)
    assert running.value("vmibShapeOperSync.1.1.toVm") == "inSync"


def test_cleanup_takes_away_what_is_ours_and_nothing_else(running: Host) -> None:
    running.inside("iptables-legacy", "-A", "FORWARD", "-j", "ACCEPT")
    running.set(
        RATE, "u", "700", "vmibShapeRate.1.1.fromVm", "u", "700",
        "vmibDomainName.1", "s", "a", "vmibDomainRowStatus.1", "i", "createAndGo",
        "vmibVifDomain.1.1", "u", "1",
        "vmibAddrPrefixLength.1.1.ipv4.4.10.0.0.1", "u", "24",
        "vmibAddrRowStatus.1.1.ipv4.4.10.0.0.1", "i", "createAndGo",
    )  # fmt: skip
    running.kill(signal.SIGTERM)
    import sys

    config = str(running.directory / "agent.toml")
    from .hosts import ROOT

    paths = f"PYTHONPATH={ROOT / 'agent'}:{ROOT / 'mibs'}"
    command = ["env", paths, sys.executable, "-m", "vmib_agent", "cleanup", "--config", config]
    said = running.inside(*command)
    assert "tc qdisc del dev vif1.0 root" in said
    assert running.rate("vif1.0") is None
    assert "vmib1.1" not in running.inside("ip", "link")
    assert re.findall("VMIB", running.rules()) == []
    assert "-A FORWARD -j ACCEPT" in running.rules()
    assert "10.0.0.1" not in running.in_machine(1, "ip", "addr")
