"""What dnsmasq is told of guests, and what becomes of it."""

from __future__ import annotations

import os
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from vmib_agent.delivery import Way, missing
from vmib_agent.dhcp import reservations
from vmib_agent.dhcp_courier import DhcpCourier
from vmib_agent.domains import Domain, DomainVif
from vmib_agent.guest_agent import GuestRefused
from vmib_agent.ledger import Ledger
from vmib_agent.network import Address, Link, Route, RouteKind, Stack
from vmib_agent.ports import Presence

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
MACS: dict[Link, str] = {0: "00:16:3e:00:00:01", 1: "00:16:3e:00:00:02"}
FIRST = Address(0, ip_interface("192.0.2.1/24"))
SECOND = Address(1, ip_interface("198.51.100.1/24"))
IPV6 = Address(0, ip_interface("2001:db8::1/64"))
ROUTE = Route(ip_network("203.0.113.0/24"), via=ip_address("192.0.2.9"))
ON_LINK = Route(ip_network("10.0.0.0/8"), link=0)


def stack(*things: Address | Route) -> Stack:
    return Stack(
        frozenset(it for it in things if isinstance(it, Address)),
        frozenset(it for it in things if isinstance(it, Route)),
    )


def test_an_address_is_a_reservation_and_routes_are_options_of_it() -> None:
    told = reservations(stack(FIRST, SECOND, IPV6, ROUTE, ON_LINK), MACS)
    assert told.hosts == (
        "00:16:3e:00:00:01,set:vmib-00163e000001,192.0.2.1,[2001:db8::1]\n"
        "00:16:3e:00:00:02,set:vmib-00163e000002,198.51.100.1\n"
    )
    assert told.options == (
        "tag:vmib-00163e000001,option:classless-static-route,"
        "10.0.0.0/8,0.0.0.0,203.0.113.0/24,192.0.2.9\n"
        "tag:vmib-00163e000002,option:classless-static-route\n"
    )
    assert told.routes == {ROUTE: 0, ON_LINK: 0}
    assert not told.unsaid


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        (Address(0, ip_interface("192.0.2.2/24")), "one address of a family by DHCP; it has 192"),
        (Route(ip_network("10.0.0.0/8"), kind=RouteKind.PROHIBIT), "type prohibit"),
        (Route(ip_network("10.0.0.0/8"), 5, via=ip_address("192.0.2.9")), "metrics"),
        (Route(ip_network("2001:db8:1::/48"), via=ip_address("2001:db8::9")), "DHCPv6"),
        (Route(ip_network("10.0.0.0/8"), via=ip_address("172.16.0.1")), "no interface"),
    ],
)
def test_what_dhcp_cannot_say_is_told(thing: Any, reason: str) -> None:
    told = reservations(stack(FIRST, thing), MACS)
    assert reason in told.unsaid[thing]
    assert told.addresses == {FIRST}
    assert told.options == "tag:vmib-00163e000001,option:classless-static-route\n"


def test_a_machine_that_gets_nothing_has_no_lines() -> None:
    told = reservations(Stack(), MACS)
    assert (told.hosts, told.options) == ("", "")


def domain(presence: Presence = Presence.RUNNING) -> Domain:
    vifs = (DomainVif(0, MACS[0], "vnet0"), DomainVif(1, MACS[1], "vnet1"))
    return Domain(UUID, "web", presence, 3, vifs)


class Network:
    """The addresses that answer."""

    def __init__(self) -> None:
        self.there: set[str] = set()

    def answers(self, device: str, mac: str, address: Any) -> bool:
        return f"{device} {address}" in self.there


def courier(tmp_path: Path, network: Network) -> DhcpCourier:
    (tmp_path / "state").mkdir(mode=0o700, exist_ok=True)
    ledger = Ledger(tmp_path / "state" / "guests.json")
    return DhcpCourier(tmp_path / "dhcp", ledger, lambda it: it, network.answers)


def test_rows_wait_until_the_machine_answers_for_its_address(tmp_path: Path) -> None:
    network, wanted = Network(), stack(FIRST, SECOND, ROUTE)
    sent = courier(tmp_path, network)
    network.there = {"vnet1 198.51.100.1"}
    delivery = sent.bring(domain(), wanted)
    assert delivery.way is Way.DHCP
    waiting = missing(UUID, wanted, delivery)
    assert len(waiting) == 2
    assert set(waiting.values()) == {"DHCP: the machine does not answer for 192.0.2.1 yet"}
    network.there.add("vnet0 192.0.2.1")
    assert missing(UUID, wanted, sent.bring(domain(), wanted)) == {}


def test_files_for_a_machine_that_is_off_are_there_before_it_starts(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before = os.umask(0o077)
    request.addfinalizer(lambda: os.umask(before))
    sent = courier(tmp_path, Network())
    sent.bring(domain(Presence.DEFINED), stack(FIRST, ROUTE))
    assert "192.0.2.1" in (tmp_path / "dhcp" / "hosts" / UUID).read_text()
    assert "203.0.113.0/24" in (tmp_path / "dhcp" / "options" / UUID).read_text()
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.glob("dhcp/*/*")}
    assert modes == {0o644}, "the server is another user"
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("dhcp/*")} == {0o755}
    sent.bring(domain(Presence.DEFINED), Stack())
    assert [*tmp_path.glob("dhcp/*/*")] == []


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "dhcp").write_text("")
    with pytest.raises(GuestRefused, match=r"dhcp.*Not a directory"):
        courier(tmp_path, Network()).bring(domain(), stack(FIRST))
