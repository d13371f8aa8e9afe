"""A link of 10 Mbit/s and 20 ms, as other emulators set it up, and as vMIB does, measured alike.

What the others set was read in their sources: Mininet 2.3.1 (mininet/link.py, TCIntf: HTB with a
burst of 15 kB, or TBF with one of 15000 octets, then netem, whose queue is the 1000 packets that
tc gives it), Kollaps (kollaps/TCAL/TC.c: HTB with a quantum of 10 octets, then netem with 1000
packets), containerlab (netem/netem.go: netem alone, with 10000 packets).
"""

from __future__ import annotations

import statistics

import pytest

from .frames import FULL, UDP_HEADERS, send
from .judging import Measurement, Record
from .network import Network, Way
from .traffic import under_load

pytestmark = [pytest.mark.netns, pytest.mark.netem]

WAY = Way("vif-receives", "carol", "dave")
RATE, DELAY, QUEUE = 10e6, 0.02, 0.05
NETEM = "parent 5:1 handle 10: netem delay 20ms"
PEERS = {
    "Mininet (HTB)": (
        "qdisc add root handle 5: htb default 1",
        "class add parent 5: classid 5:1 htb rate 10mbit burst 15k",
        f"qdisc add {NETEM}",
    ),
    "Mininet (TBF)": (
        "qdisc add root handle 5: tbf rate 10mbit burst 15000 latency 12ms",
        f"qdisc add {NETEM}",
    ),
    "Kollaps": (
        "qdisc add root handle 5: htb default 1",
        "class add parent 5: classid 5:1 htb rate 10mbit ceil 10mbit quantum 10",
        f"qdisc add {NETEM} limit 1000",
    ),
    "containerlab": ("qdisc add root handle 1: netem limit 10000 delay 20ms rate 10mbit",),
}
SECONDS = 20
"""Time enough for a flow of TCP to fill the longest of the queues."""


def measure(net: Network, record: Record, who: str, base: float) -> dict[str, float]:
    """Note how a link behaves: delay while idle, rate, round trips under load."""
    small = send(*net.ends(WAY), 50, 0.01)
    interval = (FULL + UDP_HEADERS) * 8 / RATE * 0.8
    large = send(*net.ends(WAY), 300, interval, octets=FULL, at_first=100, patience=1.0)
    load = under_load(net, WAY, SECONDS)
    idle = 2 * base + DELAY
    found = {
        "delay": (DELAY, statistics.median(small.delays) - base),
        "rate": (RATE, large.rate()),
        "mean round trip": (idle + QUEUE, load.mean),
        "longest round trip": (idle + QUEUE, load.most),
    }
    for what, (configured, measured) in found.items():
        least, most = float("-inf"), float("inf")
        record.note(Measurement(what, "peers", who, configured, measured, least, most))
    return {what: measured for what, (_, measured) in found.items()}


@pytest.mark.parametrize("peer", PEERS)
def test_others_let_a_flow_of_tcp_wait_for_their_own_queue(
    net: Network, record: Record, base: dict[Way, float], peer: str
) -> None:
    net.clear()
    host, device = net.device_of(WAY.sink)
    for line in PEERS[peer]:
        kind, verb, *rest = line.split()
        net.inside(host, "tc", kind, verb, "dev", device, *rest)
    try:
        found = measure(net, record, peer, base[WAY])
    finally:
        net.inside(host, "tc", "qdisc", "del", "dev", device, "root")
    assert found["mean round trip"] > 4 * (DELAY + QUEUE)


def test_a_flow_of_tcp_waits_no_longer_than_the_queue_is(
    net: Network, record: Record, base: dict[Way, float]
) -> None:
    net.shape('rate="10Mbit" delay="20ms"')
    found = measure(net, record, "vMIB", base[WAY])
    assert DELAY < found["mean round trip"] <= found["longest round trip"]
    assert found["longest round trip"] == pytest.approx(DELAY + QUEUE, rel=0.05)
