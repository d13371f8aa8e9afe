"""The modes of a switch: who is reached through the host, and with which address."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .hosts import run
from .sites import Site, server, site_of

pytestmark = [pytest.mark.netns, pytest.mark.snmp]


@pytest.fixture
def site() -> Iterator[Site]:
    with site_of(2) as made:
        yield made


@pytest.fixture
def three() -> Iterator[Site]:
    with site_of(3) as made:
        yield made


def test_what_leaves_a_nat_switch_comes_from_the_host(site: Site) -> None:
    with site.outside() as outside, server(outside, "192.0.2.2", 80):
        site.switch(1, "nat", "10.1.0.254", 1, 2)
        for number in (1, 2):
            site.address(number, f"10.1.0.{number}")
            site.default_route(number, "10.1.0.254")
        assert site.ask(1, "tcp", "192.0.2.2", 80) == "192.0.2.1"
        assert site.pings(1, "192.0.2.2")
        with server(site.machine_names[1], "10.1.0.2", 80):
            assert site.ask(1, "tcp", "10.1.0.2", 80) == "10.1.0.1", "within the switch it is plain"
        site.domain(1, 1)
        assert site.ask(1, "tcp", "192.0.2.2", 80) == "nothing"
        site.filter(1, 1, "accept", Protocol=6, DstPortMin=80, DstPortMax=80)
        site.filter(1, 2, "accept", Direction="toVm", Protocol=6, SrcPortMin=80, SrcPortMax=80)
        assert site.ask(1, "tcp", "192.0.2.2", 80) == "192.0.2.1"
        assert not site.pings(1, "192.0.2.2")
        assert site.pings(2, "192.0.2.2"), "the other machine is in no domain"


def test_what_leaves_a_routed_switch_keeps_its_address(site: Site) -> None:
    with site.outside() as outside, server(outside, "192.0.2.2", 80):
        run("ip", "-n", outside, "route", "add", "10.1.0.0/24", "via", "192.0.2.1")
        site.switch(1, "routed", "10.1.0.254", 1)
        site.address(1, "10.1.0.1")
        site.default_route(1, "10.1.0.254")
        assert site.ask(1, "tcp", "192.0.2.2", 80) == "10.1.0.1"
        ping = ("ping", "-c", "1", "-W", "1", "10.1.0.1")
        assert "1 received" in run("ip", "netns", "exec", outside, *ping)


def test_two_domains_are_cut_also_where_the_host_routes_between_their_switches(
    three: Site,
) -> None:
    three.switch(1, "routed", "10.1.0.254", 1)
    three.switch(2, "routed", "10.2.0.254", 2, 3)
    for number, subnet in ((1, 1), (2, 2), (3, 2)):
        three.address(number, f"10.{subnet}.0.{number}")
        three.default_route(number, f"10.{subnet}.0.254")
    assert three.pings(1, "10.2.0.2")
    three.domain(1, 1, 2)
    three.domain(2, 3)
    assert three.pings(1, "10.2.0.2")
    assert not three.pings(1, "10.2.0.3")
    assert not three.pings(3, "10.2.0.2")
    three.set("vmibVifDomain.3.1", "u", "1")
    assert three.pings(1, "10.2.0.3")


def test_from_an_isolated_switch_nothing_is_routed_whoever_forwards(three: Site) -> None:
    with three.outside() as outside, server(outside, "192.0.2.2", 80):
        run("ip", "-n", outside, "route", "add", "10.1.0.0/24", "via", "192.0.2.1")
        three.switch(1, "isolated", "", 1, 2)
        three.inside("sysctl", "-w", "net.ipv4.ip_forward=1")
        three.inside("ip", "addr", "add", "10.1.0.254/24", "dev", "sw1")
        for number in (1, 2):
            three.address(number, f"10.1.0.{number}")
            three.default_route(number, "10.1.0.254")
        assert three.pings(1, "10.1.0.2")
        assert not three.pings(1, "10.0.0.3")
        assert three.ask(1, "tcp", "192.0.2.2", 80) == "nothing"
        three.set("vmibSwitchMode.1", "i", "bridged")
        assert three.ask(1, "tcp", "192.0.2.2", 80) == "10.1.0.1"
