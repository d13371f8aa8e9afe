"""Domains, filters and the spoof guard, by real traffic between machines."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from .sites import SEND, SNIFF, Site, eventually, inet, server, site_of

pytestmark = [pytest.mark.netns, pytest.mark.snmp]


@pytest.fixture
def site() -> Iterator[Site]:
    with site_of(2) as made:
        yield made


@pytest.fixture
def three() -> Iterator[Site]:
    with site_of(3) as made:
        yield made


def test_machines_of_two_domains_are_cut_in_both_families_and_those_of_one_are_not(
    three: Site,
) -> None:
    for number in (1, 2, 3):
        three.address(number, f"fd00::{number}", 64)
    assert eventually(lambda: three.pings(1, "fd00::2") and three.pings(1, "fd00::3"))
    three.domain(1, 1, 2)
    three.domain(2, 3)
    for to, is_reached in ((2, True), (3, False)):
        assert three.pings(1, f"10.0.0.{to}") is is_reached
        assert three.pings(1, f"fd00::{to}") is is_reached
    three.set("vmibVifDomain.3.1", "u", "1")
    assert three.pings(1, "10.0.0.3")
    assert three.pings(1, "fd00::3")
    three.set("vmibVifDomain.3.1", "u", "0")
    assert not three.pings(1, "10.0.0.3"), "a machine of no domain is outside, too"


@pytest.mark.parametrize("before", ["0800", "810000050800", "886411000001001e0021"])
def test_a_tag_before_the_packet_is_no_way_around_a_domain(site: Site, before: str) -> None:
    packet = "4500001c00004000401126cf" + "0a0000010a000002" + "0009000900080000" + "00" * 32
    frame = "020000000002" + "020000000001" + before + packet

    def arrives() -> bool:
        command = ["ip", "netns", "exec", site.machine_names[1], sys.executable, "-c", SNIFF]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as sniffing:
            assert sniffing.stdout is not None
            assert sniffing.stdout.readline() == "ready\n"
            site.in_machine(1, sys.executable, "-c", SEND, frame)
            return sniffing.stdout.readline() == "arrived\n"

    assert arrives()
    site.domain(1, 1)
    assert not arrives()
    if before != "0800":
        for tag in ("vlan", "pppoe"):
            site.inside("sysctl", "-w", f"net.bridge.bridge-nf-filter-{tag}-tagged=0")
        assert arrives(), "nothing else was in the way"


def test_filters_are_tried_from_low_to_high_by_protocol_and_port(site: Site) -> None:
    site.inside("ip", "addr", "add", "10.0.0.254/24", "dev", "br0")
    site.domain(1, 1, default="accept")
    site.filter(1, 10, "accept", Protocol=6, DstPortMin=80, DstPortMax=81)
    site.filter(1, 20, "reject", Protocol=6, DstPortMin=1, DstPortMax=100)
    site.filter(1, 30, "reject", Protocol=17, SrcPortMin=1024, SrcPortMax=65535,
                DstPortMin=82, DstPortMax=82)  # fmt: skip
    site.filter(1, 40, "drop", Protocol=17, DstPortMin=0, DstPortMax=83)
    with server(site.machine_names[1], "10.0.0.2", 80, 81, 82, 83, 101):
        answers = {
            (kind, port): site.ask(1, kind, "10.0.0.2", port)
            for kind in ("tcp", "udp")
            for port in (80, 81, 82, 83, 101)
        }
        assert answers == {
            ("tcp", 80): "10.0.0.1", ("tcp", 81): "10.0.0.1", ("tcp", 82): "refused",
            ("tcp", 83): "refused", ("tcp", 101): "10.0.0.1",
            ("udp", 80): "nothing", ("udp", 81): "nothing", ("udp", 82): "refused",
            ("udp", 83): "nothing", ("udp", 101): "10.0.0.1",
        }  # fmt: skip
        assert site.packets(1, 20) == 2
        assert site.packets(1, 30) == 1
        assert site.packets(1, 40) == 3
        before = site.packets(1, 10)
        assert before > 4
        site.filter(1, 5, "drop", Protocol=6, DstPortMin=80, DstPortMax=80)
        assert site.ask(1, "tcp", "10.0.0.2", 80) == "nothing"
        assert site.ask(1, "tcp", "10.0.0.2", 81) == "10.0.0.1"
        assert site.packets(1, 10) > before, "the counter of another filter goes on"
        site.set("vmibFilterRowStatus.1.5", "i", "destroy")
        assert site.ask(1, "tcp", "10.0.0.2", 80) == "10.0.0.1"


def test_a_packet_between_domains_has_to_be_let_out_and_in_and_so_does_the_answer(
    site: Site,
) -> None:
    site.domain(1, 1)
    site.domain(2, 2)
    with server(site.machine_names[1], "10.0.0.2", 80):
        for domain, direction, ports in (
            (1, "fromVm", "Dst"), (2, "toVm", "Dst"), (2, "fromVm", "Src"), (1, "toVm", "Src")
        ):  # fmt: skip
            assert site.ask(1, "tcp", "10.0.0.2", 80) == "nothing"
            columns = {f"{ports}PortMin": 80, f"{ports}PortMax": 80}
            priority = {"fromVm": 1, "toVm": 2}[direction]
            site.filter(domain, priority, "accept", Direction=direction, Protocol=6, **columns)
        assert site.ask(1, "tcp", "10.0.0.2", 80) == "10.0.0.1"
        assert not site.pings(1, "10.0.0.2")


def test_a_filter_is_of_one_machine_and_of_networks(three: Site) -> None:
    three.domain(1, 1, 2, default="accept")
    three.filter(1, 1, "drop", Direction="toVm", VmIndex=2, AddrType="ipv4",
                 Src=ip_address("10.0.0.2").packed.hex(), SrcPrefix=31)  # fmt: skip
    assert three.pings(1, "10.0.0.2")
    assert not three.pings(3, "10.0.0.2"), "10.0.0.3 is in 10.0.0.2/31"
    assert three.pings(3, "10.0.0.1")


def test_rows_of_domain_0_come_before_all_domains_and_their_accept_is_final(site: Site) -> None:
    site.domain(1, 1)
    site.domain(2, 2)
    site.filter(0, 1, "accept", Protocol=1)
    assert site.pings(1, "10.0.0.2")
    site.set("vmibFilterRowStatus.0.1", "i", "destroy")
    assert not site.pings(1, "10.0.0.2")


def test_a_machine_sends_with_its_own_addresses_only(site: Site) -> None:
    site.domain(1, 1, 2)
    assert site.pings(1, "10.0.0.2")
    mac = ("ip", "link", "set", "eth0", "address")
    site.in_machine(1, *mac, "02:00:00:00:00:99")
    assert not site.pings(1, "10.0.0.2")
    site.set("vmibVifSpoofGuard.1.1", "i", "false")
    assert site.pings(1, "10.0.0.2"), "nothing else than the guard was in the way"
    site.set("vmibVifSpoofGuard.1.1", "i", "true")
    assert not site.pings(1, "10.0.0.2")
    site.in_machine(1, *mac, "02:00:00:00:00:01")
    assert site.pings(1, "10.0.0.2")
    site.in_machine(1, "ip", "addr", "add", "10.0.0.99/24", "dev", "eth0")
    assert not site.pings(1, "10.0.0.2", "-I", "10.0.0.99")
    site.address(1, "10.0.0.99")
    assert site.pings(1, "10.0.0.2", "-I", "10.0.0.99")
    assert site.pings(1, "10.0.0.2", "-I", "10.0.0.1")


def test_a_machine_cannot_pretend_to_the_host_either(site: Site) -> None:
    site.inside("ip", "addr", "add", "10.0.0.254/24", "dev", "br0")
    site.domain(1, 1)
    site.in_machine(1, "ip", "addr", "add", "10.0.0.99/24", "dev", "eth0")
    assert site.pings(1, "10.0.0.254")
    assert not site.pings(1, "10.0.0.254", "-I", "10.0.0.99")


def test_addresses_and_routes_are_in_the_guest_until_their_rows_go(site: Site) -> None:
    site.address(1, "fd00::1", 64)
    site.default_route(1, "10.0.0.2")
    site.default_route(1, "fd00::2")
    addresses = site.in_machine(1, "ip", "-o", "addr", "show", "dev", "eth0")
    assert "inet 10.0.0.1/24" in addresses
    assert "inet6 fd00::1/64" in addresses
    assert "default via 10.0.0.2 dev eth0" in site.in_machine(1, "ip", "route")
    assert "default via fd00::2 dev eth0" in site.in_machine(1, "ip", "-6", "route")
    for row in (f"1.{inet('0.0.0.0')}.0.0", f"1.{inet('::')}.0.0"):
        site.set(f"vmibRouteRowStatus.{row}", "i", "destroy")
    site.set(f"vmibAddrRowStatus.1.1.{inet('fd00::1')}", "i", "destroy")
    assert "default" not in site.in_machine(1, "ip", "route")
    assert "default" not in site.in_machine(1, "ip", "-6", "route")
    assert "fd00::1/64" not in site.in_machine(1, "ip", "addr")
