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
        assert eventually(lambda: running.status(), 60), (running.place / "out").read_text()
        yield running


def is_green(monitor: Monitor) -> bool:
    """Whether everything was checked and is well."""
    status = monitor.status()
    checked = {name for name in status if "/" in name}
    return checked == monitor.objects() and {state for state, _ in status.values()} <= GREEN


def green_again(monitor: Monitor) -> None:
    assert eventually(lambda: is_green(monitor), 120), "\n".join(monitor.report())


def test_everything_is_green(monitor: Monitor) -> None:
    green_again(monitor)
    said("all is well", monitor.report())
    assert {"h1/vMIB agent", "h1/vMIB in sync", "h1/vMIB transaction"} <= monitor.objects()
    assert {"h2/vMIB in sync", "h2/carol", "h1/bob:0 receives"} <= monitor.objects()
    assert "all rows are in sync" in monitor.status()["h1/vMIB in sync"][1]
    assert monitor.state("h1") == "UP"


def test_a_drift_is_red_and_a_commit_that_waits_is_yellow_until_both_are_mended(
    monitor: Monitor, site: Site
) -> None:
    green_again(monitor)
    site.snmp(
        "snmpset", "h2", "vmibTxnRowStatus.8", "i", "createAndGo", "vmibTxnConfirmTimeout.8", "u",
        "300", "vmibNotifyMinInterval.0", "u", "11", "vmibTxnAction.8", "i", "commit",
    )  # fmt: skip
    site.drift("bob")
    assert eventually(lambda: monitor.state("h1/vMIB in sync") == "CRITICAL", 60)
    assert eventually(lambda: monitor.state("h2/vMIB transaction") == "WARNING", 60)
    assert eventually(lambda: monitor.state("h1/bob:0 receives") == "CRITICAL", 60)
    said(
        "somebody ran `tc qdisc del dev vif2.0 root` on h1, a commit waits on h2", monitor.report()
    )
    told = {name: line for name, (_, line) in monitor.status().items()}
    assert "shape bob:0 receives drifted: missing: tc qdisc add" in told["h1/vMIB in sync"]
    assert "transaction 8 of vmib awaits confirmation" in told["h2/vMIB transaction"]
    for well in ("h1/vMIB agent", "h1/alice", "h1/vMIB transaction", "h2/vMIB in sync"):
        assert eventually(lambda name=well: monitor.state(name) == "OK", 60), well
    site.snmp("snmpset", "h2", "vmibTxnAction.8", "i", "confirm")
    site.as_described()
    green_again(monitor)
    said("it is confirmed, and `vmib apply` has set the other right", monitor.report())
    site.snmp("snmpset", "h2", "vmibTxnRowStatus.8", "i", "destroy")


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
