"""Several impairments at once, of one interface and of those on the same way."""

from __future__ import annotations

import statistics

import pytest

from .frames import FULL, UDP_HEADERS, send
from .judging import DELAY_ERROR, LOAD_ERROR, RATE_ERROR, Record
from .network import LINK, REMOTE_LINK, WAYS, Network, Way

pytestmark = [pytest.mark.netns, pytest.mark.netem]

FRAME_BITS = (FULL + UDP_HEADERS) * 8
AT_ONCE = 16
"""Datagrams that a machine's segmentation offload hands over as one packet."""

on_all_ways = pytest.mark.parametrize("way", WAYS, ids=str)
on_links = pytest.mark.parametrize("way", [LINK, REMOTE_LINK], ids=str)
offload = pytest.mark.parametrize("offload", [True, False], ids=["offload", "no-offload"])


@on_all_ways
def test_rate_delay_and_loss_each_are_as_if_alone(
    net: Network, record: Record, base: dict[Way, float], way: Way
) -> None:
    """Below the rate frames take the delay and some are lost; above it the rate is exact."""
    net.shape('rate="10Mbit" delay="20ms" loss="5%"')

    def count() -> tuple[int, int]:
        stream = send(*net.ends(way), 1500, 0.00053)
        beyond = statistics.median(stream.delays) - base[way]
        record.around("delay", str(way), "10 Mbit/s, 5 % lost", 0.02, beyond, DELAY_ERROR)
        return len(stream.missing), len(stream.sent)

    record.counted("loss", str(way), "10 Mbit/s, 20 ms", 0.05, count)
    stream = send(*net.ends(way), 300, FRAME_BITS / 10e6 * 0.7, octets=FULL, at_first=100)
    record.around("rate", str(way), "UDP, 20 ms, 5 % lost", 10e6, stream.rate(), 10e6 * RATE_ERROR)


@pytest.mark.parametrize(("source", "milliseconds"), [("alice", 8), ("bob", 17)])
def test_delays_on_a_way_add_up(
    net: Network, record: Record, source: str, milliseconds: int
) -> None:
    """Of what one end sends, of the link between, of what the other end receives."""
    way = Way("both vifs" if source == "alice" else "both vifs, link", source, "dave")
    net.clear()
    plain = statistics.median(send(*net.ends(way), 30, 0.01).delays)
    up = {"alice": 'delay="5ms"', "bob": 'delay="7ms"'}
    net.combine(up, {"dave": 'delay="3ms"'}, 'delay="7ms"', ("dave",))
    beyond = statistics.median(send(*net.ends(way), 100, 0.005).delays) - plain
    record.around("delay", str(way), "sum", milliseconds / 1000, beyond, DELAY_ERROR)


def test_the_slower_of_two_rates_on_a_way_is_the_rate(net: Network, record: Record) -> None:
    net.combine({"alice": 'rate="20Mbit"'}, {"dave": 'rate="5Mbit" delay="5ms"'})
    way = Way("both vifs", "alice", "dave")
    stream = send(*net.ends(way), 150, FRAME_BITS / 5e6 * 0.8, octets=FULL, at_first=60)
    record.around("rate", str(way), "20, then 5 Mbit/s", 5e6, stream.rate(), 5e6 * RATE_ERROR)


@on_links
@pytest.mark.parametrize(("of_link", "of_vif"), [("8Mbit", "20Mbit"), ("20Mbit", "8Mbit")])
def test_a_link_shares_the_rate_of_its_interface(
    net: Network, record: Record, way: Way, of_link: str, of_vif: str
) -> None:
    """Below a shape with a rate and a delay, a link has both as well."""
    up = {"bob": f'rate="{of_vif}" delay="2ms" loss="1%"'}
    net.combine(up, {}, f'rate="{of_link}" delay="10ms"')
    stream = send(*net.ends(way), 200, FRAME_BITS / 8e6 * 0.8, octets=FULL, at_first=100)
    conditions = f"link {of_link}, vif {of_vif}, delays, 1 % lost"
    record.around("rate", str(way), conditions, 8e6, stream.rate(), 8e6 * RATE_ERROR)


@on_links
@offload
def test_losses_are_single_frames_also_of_a_machine_with_offload(
    net: Network, record: Record, way: Way, offload: bool
) -> None:
    """Without a segmenter above it, netem loses all that a machine hands over as one packet."""
    net.shape('delay="10ms" loss="5%"')
    conditions = f"UDP in packets of {AT_ONCE}" + ("" if offload else ", no offload")

    def count() -> tuple[int, int]:
        stream = send(*net.ends(way), 3200, 0.0001, octets=1000, at_once=AT_ONCE)
        packets = {number // AT_ONCE for number in stream.missing}
        assert len(packets) > len(stream.missing) / 2
        return len(stream.missing), len(stream.sent)

    if offload:
        record.counted("loss", str(way), conditions, 0.05, count)
    else:
        with net.without_offload(way.source):
            record.counted("loss", str(way), conditions, 0.05, count)


@on_all_ways
@offload
def test_a_packet_of_many_frames_is_delayed_and_queued_frame_by_frame(
    net: Network, record: Record, way: Way, offload: bool
) -> None:
    """Packets of 16 datagrams above the rate: the same rate, the same wait for a full queue."""
    net.shape('rate="10Mbit" delay="20ms" queue-limit="62500B"')
    expected = 0.02 + 62_500 * 8 / 10e6
    conditions = f"UDP in packets of {AT_ONCE}" + ("" if offload else ", no offload")

    def judge() -> None:
        interval = FRAME_BITS / 10e6 * 0.8
        stream = send(*net.ends(way), 320, interval, octets=FULL, at_first=128, at_once=AT_ONCE)
        record.around("rate", str(way), conditions, 10e6, stream.rate(), 10e6 * RATE_ERROR)
        most = max(stream.delays)
        record.around("queue", str(way), conditions, expected, most, expected * LOAD_ERROR)

    if offload:
        judge()
    else:
        with net.without_offload(way.source):
            judge()
