"""What dnsmasq is told of guests: by the text, and by a real dnsmasq that reads it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
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


def test_files_for_a_machine_that_is_off_are_there_before_it_starts(tmp_path: Path) -> None:
    sent = courier(tmp_path, Network())
    sent.bring(domain(Presence.DEFINED), stack(FIRST, ROUTE))
    assert "192.0.2.1" in (tmp_path / "dhcp" / "hosts" / UUID).read_text()
    assert "203.0.113.0/24" in (tmp_path / "dhcp" / "options" / UUID).read_text()
    sent.bring(domain(Presence.DEFINED), Stack())
    assert [*tmp_path.glob("dhcp/*/*")] == []


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "dhcp").write_text("")
    with pytest.raises(GuestRefused, match=r"dhcp.*Not a directory"):
        courier(tmp_path, Network()).bring(domain(), stack(FIRST))


CLIENT = """#!/bin/sh
[ "$1" != bound ] || echo "$ip $staticroutes"
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A real dnsmasq; called, the fixture tells what it gives to a client."""
    if os.geteuid() != 0 or not shutil.which("dnsmasq") or not shutil.which("busybox"):
        pytest.skip("needs root, dnsmasq and busybox (Debian: dnsmasq-base, busybox-static)")
    for kind in ("hosts", "options"):
        (tmp_path / "dhcp" / kind).mkdir(parents=True)
    script = tmp_path / "client"
    script.write_text(CLIENT)
    script.chmod(0o755)
    server, client = (f"vmtd-{os.getpid()}-{end}" for end in "sc")
    inside = ("ip", "netns", "exec")
    command = [*inside, server, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"]
    command += ["--port=0", "--log-facility=-", "--user=root", "--interface=va"]
    command += ["--bind-interfaces", "--dhcp-range=192.0.2.0,static", "--pid-file"]
    command += [f"--dhcp-leasefile={tmp_path / 'leases'}"]
    command += [f"--dhcp-hostsdir={tmp_path}/dhcp/hosts", f"--dhcp-optsdir={tmp_path}/dhcp/options"]
    process = None
    try:
        for name in (server, client):
            run("ip", "netns", "add", name)
        peer = ("peer", "name", "vb", "address", MACS[0], "netns", client)
        run("ip", "-n", server, "link", "add", "va", "type", "veth", *peer)
        run("ip", "-n", server, "addr", "add", "192.0.2.254/24", "dev", "va")
        run("ip", "-n", server, "link", "set", "va", "up")
        run("ip", "-n", client, "link", "set", "vb", "up")
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        asks = (
            "busybox",
            "udhcpc",
            "-n",
            "-q",
            "-f",
            "-i",
            "vb",
            "-s",
            script,
            "-t",
            "3",
            "-T",
            "1",
        )
        yield lambda: run(*inside, client, *asks, "-O", "staticroutes")
        assert process.poll() is None, (tmp_path / "log").read_text()
    finally:
        if process is not None:
            process.kill()
            process.wait(10)
        for name in (server, client):
            run("ip", "netns", "del", name)


@pytest.mark.netns
def test_a_client_of_a_real_dnsmasq_gets_what_was_written_last(
    tmp_path: Path, lease: Callable[[], str]
) -> None:
    def gets(words: str) -> None:
        end = time.monotonic() + 20
        while words not in (found := lease()):
            assert time.monotonic() < end, found + (tmp_path / "log").read_text()

    sent = courier(tmp_path, Network())
    sent.bring(domain(), stack(FIRST, ROUTE))
    gets("192.0.2.1 203.0.113.0/24 192.0.2.9\n")
    sent.bring(domain(), stack(Address(0, ip_interface("192.0.2.7/24")), ON_LINK))
    gets("192.0.2.7 10.0.0.0/8 0.0.0.0\n")
    sent.bring(domain(), stack(Address(0, ip_interface("192.0.2.7/24"))))
    gets("192.0.2.7 \n")
