"""Measurements between machines: on a wire that tc shapes, they say what tc was told."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from vmib.errors import VmibError
from vmib_manager.measure import Endpoint, flow, theory, transfer, wire_octets
from vmib_manager.pings import ping_all

from .hosts import run

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

BRIDGE = f"vmt-{os.getpid()}-measure"
NAMES = ("ann", "bob", "cleo")


def inside(name: str, *command: str) -> str:
    return run("ip", "netns", "exec", f"{BRIDGE}-{name}", *command)


def shape(name: str, *words: str) -> None:
    """What the bridge sends to a machine."""
    run("tc", "-n", BRIDGE, "qdisc", "replace", "dev", name, "root", *words)


@pytest.fixture(scope="module")
def machines() -> Iterator[dict[str, Endpoint]]:
    """Three machines at a bridge; ann and bob have IPv6, too."""
    found = {}
    try:
        run("ip", "netns", "add", BRIDGE)
        run("ip", "-n", BRIDGE, "link", "add", "br0", "up", "type", "bridge", "forward_delay", "0")
        for number, name in enumerate(NAMES, 1):
            own = f"{BRIDGE}-{name}"
            run("ip", "netns", "add", own)
            peer = ("type", "veth", "peer", "name", "eth0", "netns", own)
            run("ip", "-n", BRIDGE, "link", "add", name, "master", "br0", "up", *peer)
            run("ip", "-n", own, "link", "set", "eth0", "up")
            run("ip", "-n", own, "addr", "add", f"10.9.0.{number}/24", "dev", "eth0")
            run("ip", "-n", own, "addr", "add", f"fd09::{number}/64", "dev", "eth0", "nodad")
            found[name] = Endpoint(name, own, f"10.9.0.{number}")
        yield found
    finally:
        for name in NAMES:
            run("ip", "netns", "del", f"{BRIDGE}-{name}", check=False)
        run("ip", "netns", "del", BRIDGE, check=False)


def test_machines_reach_each_other_as_ping_says(machines: dict[str, Endpoint]) -> None:
    rule = ("INPUT", "-p", "icmp", "-s", "10.9.0.1", "-j", "DROP")
    inside("cleo", "iptables-legacy", "-A", *rule)
    try:
        reached = ping_all(list(machines.values()))
        for (start, stop), answered in reached.items():
            words = ("ping", "-c", "1", "-W", "1", machines[stop].address)
            said = "1 received" in run(
                "ip", "netns", "exec", f"{BRIDGE}-{start}", *words, check=False
            )
            assert answered == said, (start, stop)
    finally:
        inside("cleo", "iptables-legacy", "-D", *rule)
    assert {pair for pair, answered in reached.items() if not answered} == {
        ("ann", "cleo"),
        ("cleo", "ann"),
    }


def test_a_machine_without_a_route_reaches_nobody(machines: dict[str, Endpoint]) -> None:
    lonely = Endpoint("far", machines["cleo"].namespace, "192.0.2.1")
    assert ping_all([machines["ann"], lonely]) == {("ann", "far"): False, ("far", "ann"): True}


def test_machines_with_ipv6_are_pinged_over_it(machines: dict[str, Endpoint]) -> None:
    both = [
        Endpoint(name, machines[name].namespace, f"fd09::{number}")
        for number, name in enumerate(NAMES[:2], 1)
    ]
    assert ping_all(both) == {("ann", "bob"): True, ("bob", "ann"): True}


def test_a_flow_arrives_at_the_rate_that_tc_was_told(machines: dict[str, Endpoint]) -> None:
    shape("bob", "tbf", "rate", "8mbit", "burst", "5000", "limit", "50000")
    assert flow(machines["ann"], machines["bob"], 8000, 1.0) == pytest.approx(8000, rel=0.01)


def test_a_flow_that_nothing_holds_back_arrives_as_it_is_sent(
    machines: dict[str, Endpoint],
) -> None:
    shape("bob", "bfifo")
    measured = flow(machines["ann"], machines["bob"], 8000, 1.0)
    assert measured == pytest.approx(10_000, rel=0.05)


def test_a_transfer_takes_as_long_as_its_frames(machines: dict[str, Endpoint]) -> None:
    shape("bob", "tbf", "rate", "8mbit", "burst", "5000", "limit", "50000")
    told: list[int] = []
    done = transfer(machines["ann"], machines["bob"], 2_000_000, timeout=30, tell=told.append)
    assert done.seconds == pytest.approx(theory(2_000_000, 8000), rel=0.03)
    assert told == sorted(told)
    assert told[-1] == done.octets == done.samples[-1][1] == 2_000_000


def test_a_transfer_that_takes_too_long_is_given_up(machines: dict[str, Endpoint]) -> None:
    shape("bob", "tbf", "rate", "100kbit", "burst", "5000", "limit", "50000")
    with pytest.raises(VmibError, match="transfer ann to bob"):
        transfer(machines["ann"], machines["bob"], 2_000_000, timeout=1)


def test_nobody_to_transfer_to_is_an_error(machines: dict[str, Endpoint]) -> None:
    rule = ("OUTPUT", "-p", "tcp", "-j", "REJECT")
    inside("cleo", "iptables-legacy", "-A", *rule)
    try:
        with pytest.raises(VmibError, match="transfer cleo to bob"):
            transfer(machines["cleo"], machines["bob"], 1000, timeout=2)
    finally:
        inside("cleo", "iptables-legacy", "-D", *rule)


@pytest.mark.parametrize(
    ("octets", "frames"), [(0, 0), (1, 1), (1448, 1), (1449, 2), (1_448_000, 1000)]
)
def test_user_data_travels_in_frames_with_66_octets_of_headers(octets: int, frames: int) -> None:
    assert wire_octets(octets) == octets + 66 * frames


def test_a_full_frame_of_1514_octets_carries_1448() -> None:
    assert wire_octets(1448) == 1514
    assert theory(1448, 1) == 1514 * 8 / 1000
