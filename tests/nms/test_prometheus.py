"""A real Prometheus watches a lab through its SNMP exporter, and answers what people ask.

make nms-prometheus
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import debian
from .prometheus import (
    PACKAGES,
    SOURCE,
    Prometheus,
    exporter,
    expressions,
    prometheus,
    scraped,
)
from .site import ADDRESSES, PORT, Site, eventually, said

pytestmark = pytest.mark.nms

DRIFTED = 'vmibShapeOperSync{vmibShapeOperSync="drifted"} == 1'
OFF = "abs(vmibLinkOperRate / vmibLinkRate - 1) > 0.02"
OPEN = "vmibTxnState <= 6"
QUESTIONS = re.compile(r"^```promql\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPEED = "rate(vmibLinkOperOctets[10s]) * 8 / 1000 / vmibLinkRate"


@pytest.fixture(scope="module")
def station(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    place = tmp_path_factory.mktemp("prometheus")
    with exporter(site, place), prometheus(site, place) as running:
        assert eventually(lambda: len(running.query("up == 1")) == 2, 30)
        yield running


def instance(site: Site, host: str) -> str:
    return f"{site.address(host)}:{PORT}"


def test_nothing_is_wrong_at_first(station: Prometheus, site: Site) -> None:
    said("agents", station.report("up"))
    hosts = {instance(site, host) for host in ("h1", "h2")}
    assert {
        labels["instance"] for labels, _ in station.query("vmibHostRowsOutOfSync == 0")
    } == hosts
    for expression in (DRIFTED, OFF, OPEN):
        assert station.query(expression) == []
    assert station.alerts() == {}


def test_a_drift_is_found_and_alerted_until_it_is_set_right(
    station: Prometheus, site: Site
) -> None:
    site.drift("bob")
    assert eventually(lambda: station.query(DRIFTED))
    said("somebody ran `tc qdisc del dev vif2.0 root` on h1", station.report(DRIFTED))
    ((labels, _),) = station.query(DRIFTED)
    assert labels["instance"] == instance(site, "h1")
    assert (labels["vmibVmName"], labels["vmibVifNumber"]) == ("bob", "0")
    assert labels["vmibShapeDirection"] == "2"
    assert eventually(lambda: "VmibDrift" in station.alerts())
    said("alerts", station.report('ALERTS{alertstate="firing"}'))
    (alert,) = station.alerts()["VmibDrift"]
    assert alert["vmibVmName"] == "bob"
    check_panel(station, ROWS)
    site.as_described()
    assert eventually(lambda: not station.query(DRIFTED) and not station.alerts())
    said("`vmib apply` has set it right", station.report("vmibHostRowsOutOfSync"))


def test_which_links_are_off_by_more_than_two_percent(station: Prometheus, site: Site) -> None:
    """Somebody makes the link from alice to bob slower, in the kernel: by 1 %, then by 20 %."""
    device = "vmib1.1"
    line = next(
        line
        for line in site.inside("h1", "tc", "class", "show", "dev", device).splitlines()
        if "rate 5Mbit" in line
    )
    classid = line.split()[2]
    parent = f"{classid.partition(':')[0]}:"
    change = f"tc class change dev {device} parent {parent} classid {classid} htb rate"
    site.inside("h1", *change.split(), "4950kbit", "ceil", "4950kbit")
    assert eventually(lambda: station.query("vmibLinkOperRate == 4950"))
    assert station.query(OFF) == []
    site.inside("h1", *change.split(), "4mbit", "ceil", "4mbit")
    assert eventually(lambda: station.query(OFF))
    said("which links are off by more than 2 %?", station.report(OFF))
    ((labels, value),) = station.query(OFF)
    assert (labels["vmibVmName"], labels["vmibLinkDest"]) == ("alice", "10.37.0.2")
    assert value == pytest.approx(0.2)
    assert eventually(lambda: "VmibRateOff" in station.alerts())
    site.as_described()
    assert eventually(lambda: not station.query(OFF))


def test_how_fast_a_link_is_beside_its_rate(station: Prometheus, site: Site) -> None:
    busy = f"{SPEED} > 0.5"
    site.probe("bob", ADDRESSES["bob"])
    with site.traffic("alice", "bob", 8e6, 60):
        found = lambda: [v for _, v in station.query(busy) if 0.9 < v < 1.1]  # noqa: E731
        assert eventually(found, 40), station.report(SPEED)
        said("what passes beside what is configured", station.report(busy))
        ((labels, _),) = station.query(busy)
        assert labels["vmibVmName"] == "alice"
        assert eventually(lambda: station.query("vmibProbeRttAvg > 0"))
        said("round trips in microseconds", station.report("vmibProbeRttAvg"))
        check_panels(station)


ROWS, TRANSACTIONS = "Rows that have drifted or failed", "Transactions that are open or wait"
"""Panels that have nothing to show where nothing is wrong."""


def check_panel(station: Prometheus, title: str, shows: bool = True) -> None:
    """Prometheus understands what a panel of the dashboard asks, and knows an answer or none."""
    for expression in expressions()[title]:
        assert bool(station.query(expression)) == shows, (title, expression)


def check_panels(station: Prometheus) -> None:
    """All of them, where nothing is wrong."""
    for title in expressions():
        check_panel(station, title, shows=title not in (ROWS, TRANSACTIONS))


def test_which_transaction_is_open(station: Prometheus, site: Site) -> None:
    site.snmp(
        "snmpset", "h2", "vmibTxnRowStatus.8", "i", "createAndGo", "vmibTxnDescription.8", "s", "x"
    )
    assert eventually(lambda: station.query(OPEN))
    said("which transaction is open?", station.report(OPEN))
    ((labels, state),) = station.query(OPEN)
    assert (labels["instance"], state) == (instance(site, "h2"), 1)
    assert (labels["vmibTxnIndex"], labels["vmibTxnOwner"]) == ("8", "vmib")
    assert labels["vmibTxnDescription"] == "x"
    check_panel(station, TRANSACTIONS)
    site.snmp("snmpset", "h2", "vmibTxnRowStatus.8", "i", "destroy")
    assert eventually(lambda: not station.query(OPEN))
    site.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "1000")
    site.vmib("apply", "real.xml", "virtual.xml", "--no-confirm", "--confirm-timeout", "300")
    assert eventually(lambda: "VmibTransactionAwaitingConfirm" in station.alerts())
    said("a commit waits to be confirmed", station.report(OPEN))
    ((labels, state),) = station.query(OPEN)
    assert (labels["instance"], state) == (instance(site, "h1"), 6)
    site.vmib("confirm", "real.xml")
    assert eventually(lambda: not station.query(OPEN))


def test_the_questions_of_the_documentation_are_understood(station: Prometheus) -> None:
    text = (SOURCE.parent / "docs" / "prometheus.md").read_text()
    asked = [line for block in QUESTIONS.findall(text) for line in block.splitlines()]
    assert {OFF, DRIFTED, OPEN} < set(asked)
    for expression in asked:
        station.query(expression)
    assert station.query("vmibProbeRttAvg / 1000")


def test_an_agent_that_stops_answering_is_down(station: Prometheus, site: Site) -> None:
    with site.silent("h2"):
        assert eventually(lambda: station.query("up == 0"), 40)
        said("the agent of h2 is stopped", station.report("up"))
        ((labels, _),) = station.query("up == 0")
        assert labels["instance"] == instance(site, "h2")
    assert eventually(lambda: not station.query("up == 0"), 40)


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    promtool = debian.unpacked(*PACKAGES) / "usr" / "bin" / "promtool"
    done = subprocess.run(
        [promtool, "check", "config", "--lint-fatal", SOURCE / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 rules found" in done.stdout


def test_what_is_committed_is_what_the_generator_makes(tmp_path: Path) -> None:
    generator = debian.unpacked(*PACKAGES) / "usr" / "bin" / "prometheus-snmp-generator"
    made = [SOURCE / "generate.py", generator, SOURCE.parents[1] / ".cache" / "mibs", tmp_path]
    subprocess.run([sys.executable, *made], check=True)
    for name in ("snmp.yml", "snmp-0.22.yml"):
        assert (tmp_path / name).read_text() == (SOURCE / name).read_text(), "run make generated"


def test_exporters_of_before_and_after_0_23_make_the_same_of_an_agent(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> None:
    try:
        debian.of_suite("trixie", PACKAGES[1])
    except debian.NotToBeHad as error:
        pytest.skip(f"needs the exporter of Debian 13: {error}")
    made = []
    for new in (False, True):
        with exporter(site, tmp_path_factory.mktemp("exporter"), new) as auth:
            made.append({name for name in scraped(site, "h1", auth) if name.startswith("vmib")})
    assert made[0] == made[1]
    assert len(made[0]) > 100
