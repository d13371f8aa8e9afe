"""A real Nagios 4 and a real Icinga 2 watch a lab: green, red, green again, as they say themselves.

make nms-nagios
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .monitors import Monitor, icinga, nagios
from .site import Site, eventually, said

pytestmark = pytest.mark.nms

GREEN = {"OK", "UP"}


@pytest.fixture(scope="module", params=[nagios, icinga], ids=["nagios", "icinga"])
def monitor(
    request: pytest.FixtureRequest, site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Monitor]:
    with request.param(site, tmp_path_factory.mktemp("monitor") / "place") as running:
        assert eventually(lambda: running.status(), 30), (running.place / "out").read_text()
        yield running


def is_green(monitor: Monitor) -> bool:
    """Whether everything was checked and is well."""
    status = monitor.status()
    checked = {name for name in status if "/" in name}
    return checked == monitor.objects() and {state for state, _ in status.values()} <= GREEN


def green_again(monitor: Monitor) -> None:
    assert eventually(lambda: is_green(monitor), 60), "\n".join(monitor.report())


def test_everything_is_green(monitor: Monitor) -> None:
    green_again(monitor)
    said("all is well", monitor.report())
    assert {"h1/vMIB agent", "h1/vMIB in sync", "h1/vMIB transaction"} <= monitor.objects()
    assert {"h2/vMIB in sync", "h2/carol", "h1/bob:0 receives"} <= monitor.objects()
    assert "all rows are in sync" in monitor.status()["h1/vMIB in sync"][1]
    assert monitor.state("h1") == "UP"


def test_a_drift_makes_it_red_and_its_repair_green(monitor: Monitor, site: Site) -> None:
    green_again(monitor)
    site.drift("bob")
    assert eventually(lambda: monitor.state("h1/vMIB in sync") == "CRITICAL", 30)
    assert eventually(lambda: monitor.state("h1/bob:0 receives") == "CRITICAL", 60)
    said("somebody ran `tc qdisc del dev vif2.0 root` on h1", monitor.report())
    told = monitor.status()["h1/vMIB in sync"][1]
    assert "shape bob:0 receives drifted: missing: tc qdisc add dev vif2.0" in told
    assert monitor.state("h2/vMIB in sync") == "OK"
    assert monitor.state("h1/vMIB agent") == monitor.state("h1/alice") == "OK"
    site.as_described()
    green_again(monitor)
    said("`vmib apply` has set it right", monitor.report())


def test_a_commit_that_waits_is_yellow(monitor: Monitor, site: Site) -> None:
    green_again(monitor)
    site.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "1000")
    site.vmib("apply", "real.xml", "virtual.xml", "--no-confirm", "--confirm-timeout", "300")
    assert eventually(lambda: monitor.state("h1/vMIB transaction") == "WARNING", 30)
    said("a commit waits to be confirmed", monitor.report())
    assert "awaits confirmation" in monitor.status()["h1/vMIB transaction"][1]
    site.vmib("confirm", "real.xml")
    green_again(monitor)


def test_an_agent_that_stops_answering_is_told_and_its_host_is_down(
    monitor: Monitor, site: Site
) -> None:
    green_again(monitor)
    with site.silent("h2"):
        assert eventually(lambda: monitor.state("h2/vMIB in sync") == "UNKNOWN", 60)
        assert eventually(lambda: monitor.state("h2") == "DOWN", 60)
        said("the agent of h2 is stopped", monitor.report())
        assert "no answer to" in monitor.status()["h2"][1]
        assert monitor.state("h1") == "UP"
    green_again(monitor)
    said("and goes on", monitor.report())
