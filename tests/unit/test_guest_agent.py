"""What is asked of a QEMU guest agent, and what its answers mean."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from vmib_agent.guest_agent import GuestAgent, GuestRefused, parse_links, parse_routes, words_of
from vmib_agent.network import Address, Route, RouteKind, Stack
from vmib_agent.network_plan import AddAddress, DeleteAddress, DeleteRoute, PutRoute, SetLink

IPROUTE2 = """\
1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
    inet 127.0.0.1/8 scope host lo
       valid_lft forever preferred_lft forever
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc fq_codel state UP group default qlen 1000
    link/ether 52:54:00:aa:00:01 brd ff:ff:ff:ff:ff:ff
    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth0
       valid_lft forever preferred_lft forever
    inet6 fe80::5054:ff:feaa:1/64 scope link
       valid_lft forever preferred_lft forever
3: br0@eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP
    link/ether 52:54:00:aa:00:01 brd ff:ff:ff:ff:ff:ff
4: ppp0: <POINTOPOINT,UP> mtu 1400 qdisc noqueue
    link/ppp
    inet 10.9.0.1 peer 10.9.0.2/32 scope global ppp0
"""
BUSYBOX = """\
1: lo: <LOOPBACK> mtu 65536 qdisc noop qlen 1000
    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00
2: eth0: <BROADCAST,MULTICAST> mtu 1400 qdisc noop qlen 1000
    link/ether 52:54:00:aa:00:01 brd ff:ff:ff:ff:ff:ff
"""
ROUTES = """\
default via 10.0.0.254 dev eth0
10.0.0.0/24 dev eth0 proto kernel scope link src 10.0.0.1
10.1.0.0/16 via 10.0.0.2 dev eth0 proto 118 metric 5
blackhole 10.2.0.0/16 proto 118
multicast 239.0.0.0/8 dev eth0 proto kernel metric 256
172.17.0.0/16 dev docker0 proto kernel scope link src 172.17.0.1
10.3.0.0/16
\tnexthop via 10.0.0.3 dev eth0 weight 1
"""
MAC = "52:54:00:aa:00:01"


class Guest:
    """Stands for the agent in a guest: programs by their words, each with its outcome."""

    def __init__(self, programs: Mapping[str, tuple[int, str]]) -> None:
        self.programs = programs
        self.run: list[str] = []
        self.waits = 2

    def __call__(self, command: str) -> str:
        asked = json.loads(command)
        arguments = asked["arguments"]
        if asked["execute"] == "guest-exec":
            self.run.append(" ".join([arguments["path"], *arguments["arg"]]))
            return json.dumps({"return": {"pid": len(self.run)}})
        assert asked["execute"] == "guest-exec-status"
        if self.waits:
            self.waits -= 1
            return json.dumps({"return": {"exited": False}})
        status, text = self.programs[self.run[arguments["pid"] - 1]]
        name = "err-data" if status else "out-data"
        data = base64.b64encode(text.encode()).decode()
        return json.dumps({"return": {"exited": True, "exitcode": status, name: data}})


def agent(programs: Mapping[str, tuple[int, str]]) -> GuestAgent:
    return GuestAgent(Guest(programs), lambda _: None)


def test_addresses_are_read_of_what_iproute2_prints() -> None:
    links = {link.name: link for link in parse_links(IPROUTE2)}
    assert list(links) == ["lo", "eth0", "br0", "ppp0"]
    assert links["eth0"].mac == MAC
    assert links["eth0"].addresses == (
        ip_interface("10.0.0.1/24"),
        ip_interface("fe80::5054:ff:feaa:1/64"),
    )
    assert links["ppp0"].addresses == ()


def test_busybox_prints_the_same_and_its_links_may_be_down() -> None:
    eth0 = parse_links(BUSYBOX)[1]
    assert (eth0.name, eth0.mac, eth0.up, eth0.mtu) == ("eth0", MAC, False, 1400)


def test_routes_that_go_by_the_machines_interfaces_are_read_with_their_kind_and_mark() -> None:
    assert set(parse_routes(ROUTES, {"eth0": 0}, 4)) == {
        Route(ip_network("0.0.0.0/0"), via=ip_address("10.0.0.254"), link=0, ours=False),
        Route(ip_network("10.0.0.0/24"), link=0, ours=False),
        Route(ip_network("10.1.0.0/16"), 5, via=ip_address("10.0.0.2"), link=0),
        Route(ip_network("10.2.0.0/16"), kind=RouteKind.BLACKHOLE),
    }


def test_a_guest_is_read_by_the_mac_addresses_of_its_interfaces() -> None:
    programs = {
        "ip addr show": (0, IPROUTE2),
        "ip route show": (0, ROUTES),
        "ip -6 route show": (1, "IPv6 is not there"),
    }
    stack, names = agent(programs).read({MAC: 0, "52:54:00:aa:00:99": 1})
    assert names == {0: "eth0"}
    assert stack.mtus == {0: 1500}
    assert Address(0, ip_interface("10.0.0.1/24")) in stack.addresses
    assert len(stack.routes) == 4


def test_what_ip_says_when_it_fails_is_told() -> None:
    programs = {"ip addr add 10.0.0.1/24 dev eth0": (2, "RTNETLINK answers: File exists\n")}
    with pytest.raises(GuestRefused, match=r"/24 dev eth0: RTNETLINK answers: File exists"):
        agent(programs).ip("addr", "add", "10.0.0.1/24", "dev", "eth0")


@pytest.mark.parametrize("answer", ["", "[]", '{"return": []}', '{"error": {"desc": "no"}}'])
def test_an_answer_that_is_none_is_refused(answer: str) -> None:
    with pytest.raises(GuestRefused, match="guest-exec is not understood"):
        GuestAgent(lambda _: answer).ip("addr")


def test_a_program_that_never_ends_is_not_waited_for() -> None:
    guest = Guest({})
    guest.waits = 10_000
    with pytest.raises(GuestRefused, match="takes more than 10 s"):
        GuestAgent(guest, lambda _: None).ip("addr")


ADDRESS = Address(0, ip_interface("10.0.0.1/24"))
ROUTE = Route(ip_network("10.1.0.0/16"), 5, via=ip_address("10.0.0.2"), link=0)


@pytest.mark.parametrize(
    ("operation", "commands"),
    [
        (AddAddress("u", ADDRESS), ["link set dev eth0 up", "addr add 10.0.0.1/24 dev eth0"]),
        (DeleteAddress("u", ADDRESS), ["addr del 10.0.0.1/24 dev eth0"]),
        (
            PutRoute("u", ROUTE),
            ["route replace 10.1.0.0/16 via 10.0.0.2 dev eth0 metric 5 proto 118"],
        ),
        (
            DeleteRoute("u", Route(ip_network("10.2.0.0/16"), kind=RouteKind.BLACKHOLE)),
            ["route del blackhole 10.2.0.0/16 proto 118"],
        ),
        (SetLink("u", 0, 1400, up=True), ["link set dev eth0 mtu 1400 up"]),
    ],
)
def test_operations_are_commands_of_ip(operation: Any, commands: list[str]) -> None:
    assert [" ".join(words) for words in words_of(operation, {0: "eth0"})] == commands


def test_nothing_is_done_to_an_interface_that_the_guest_does_not_have() -> None:
    with pytest.raises(KeyError):
        words_of(AddAddress("u", ADDRESS), {})


def test_the_stack_of_a_guest_without_the_interfaces_is_empty() -> None:
    programs = {"ip addr show": (0, BUSYBOX), "ip route show": (0, ""), "ip -6 route show": (0, "")}
    assert agent(programs).read({"52:54:00:aa:00:99": 0}) == (Stack(), {})
