"""One impairment at a time, on each way that can be shaped, against what was configured."""

from __future__ import annotations

import math
import statistics

import pytest

from .frames import FULL, UDP_HEADERS, send
from .judging import DELAY_ERROR, LOAD_ERROR, RATE_ERROR, Record
from .network import LINK, REMOTE_LINK, WAYS, Network, Way
from .traffic import under_load

pytestmark = [pytest.mark.netns, pytest.mark.netem]

FRAME = FULL + UDP_HEADERS
on_all_ways = pytest.mark.parametrize("way", WAYS, ids=str)
on_links = pytest.mark.parametrize("way", [LINK, REMOTE_LINK], ids=str)


@on_all_ways
@pytest.mark.parametrize("microseconds", [100, 20_000, 200_000])
def test_a_delay_is_exact(
    net: Network, record: Record, base: dict[Way, float], way: Way, microseconds: int
) -> None:
    net.shape(f'delay="{microseconds}us"')
    interval = 0.0053  # No frame is to arrive while another one is sent.
    beyond = [delay - base[way] for delay in send(*net.ends(way), 100, interval).delays]
    parts = {"median": statistics.median(beyond), "99th of 100": sorted(beyond)[98]}
    for part, found in parts.items():
        record.around("delay", str(way), part, microseconds / 1e6, found, DELAY_ERROR)


@on_all_ways
@pytest.mark.parametrize("kbps", [64, 1000, 10_000, 100_000])
def test_a_rate_is_exact(net: Network, record: Record, way: Way, kbps: int) -> None:
    net.shape(f'rate="{kbps}kbit"')
    frames = {64: 20, 1000: 100, 10_000: 300, 100_000: 1600}[kbps]
    interval = FRAME * 8 / (kbps * 1000) * 0.8
    stream = send(*net.ends(way), frames, interval, octets=FULL, at_first=max(20, frames // 4))
    rate = kbps * 1000
    record.around("rate", str(way), "UDP", rate, stream.rate(), rate * RATE_ERROR)


@on_all_ways
@pytest.mark.parametrize("percent", [1, 10])
def test_so_many_frames_are_lost(net: Network, record: Record, way: Way, percent: int) -> None:
    net.shape(f'loss="{percent}%"')

    def count() -> tuple[int, int]:
        stream = send(*net.ends(way), 2000, 0.0001)
        assert stream.damaged == stream.repeated == 0
        return len(stream.missing), len(stream.sent)

    record.counted("loss", str(way), "UDP", percent / 100, count)


@on_all_ways
@pytest.mark.parametrize(
    ("distribution", "deviation"),
    [("uniform", 1 / math.sqrt(3)), ("normal", 1), ("pareto", None), ("paretoNormal", None)],
)
def test_delays_vary_as_they_are_to(
    net: Network,
    record: Record,
    base: dict[Way, float],
    way: Way,
    distribution: str,
    deviation: float | None,
) -> None:
    """Mean and deviation are within four standard errors of what was configured.

    The tails of the Pareto distributions are too long for the deviation of a sample to say much.
    """
    net.shape(f'delay="20ms" jitter="2ms" distribution="{distribution}"')
    count = 500
    delays = [each - base[way] for each in send(*net.ends(way), count, 0.001).delays]
    spread = 0.002 * (deviation or 1)
    error = 4 * spread / math.sqrt(count) + DELAY_ERROR
    record.around(
        "jitter", str(way), f"{distribution}, mean", 0.02, statistics.fmean(delays), error
    )
    if deviation is not None:
        error = 4 * spread / math.sqrt(2 * count) + DELAY_ERROR
        measured = statistics.stdev(delays)
        record.around("jitter", str(way), f"{distribution}, deviation", spread, measured, error)


@on_all_ways
def test_so_many_frames_arrive_twice(net: Network, record: Record, way: Way) -> None:
    """The kernel duplicates only where it is the one impairment of what an interface sends."""
    other = "erin" if way.is_remote else "carol"
    net.shape('duplicate="2%"', linked=(other,))

    def count() -> tuple[int, int]:
        stream = send(*net.ends(way), 2000, 0.0001)
        assert not stream.missing
        return stream.repeated, len(stream.sent)

    record.counted("duplicate", str(way), "UDP", 0.02, count)


@on_all_ways
def test_so_many_frames_arrive_damaged(net: Network, record: Record, way: Way) -> None:
    """One bit of each; a filter on the way drops those whose addresses are not whole."""
    net.shape('corrupt="2%"')

    def count() -> tuple[int, int]:
        stream = send(*net.ends(way), 2000, 0.0001, octets=400)
        assert stream.damaged > len(stream.missing) // 2
        return len(stream.missing), len(stream.sent)

    record.counted("corrupt", str(way), "UDP", 0.02, count)


@on_all_ways
def test_so_many_frames_overtake_others(
    net: Network, record: Record, base: dict[Way, float], way: Way
) -> None:
    """Those do that are not delayed at all."""
    net.shape('delay="10ms" reorder="5%"')

    def count() -> tuple[int, int]:
        stream = send(*net.ends(way), 2000, 0.0002)
        at_once = [delay for delay in stream.delays if delay - base[way] < 0.001]
        others = [delay for delay in stream.delays if delay - base[way] >= 0.001]
        assert statistics.median(others) - base[way] == pytest.approx(0.01, abs=DELAY_ERROR)
        assert len(stream.delays) == len(stream.sent)
        return len(at_once), len(stream.sent)

    record.counted("reorder", str(way), "UDP", 0.05, count)


@on_all_ways
@pytest.mark.parametrize("queue", ["62500B", "25kB"])
def test_a_full_queue_takes_its_octets_at_the_rate(
    net: Network, record: Record, way: Way, queue: str
) -> None:
    """Of frames that are sent too fast, those that arrive have waited for the whole queue."""
    net.shape(f'rate="10Mbit" delay="20ms" queue-limit="{queue}"')
    octets = {"62500B": 62_500, "25kB": 25_000}[queue]
    expected = 0.02 + octets * 8 / 10e6
    interval = FRAME * 8 / 10e6 * 0.8
    stream = send(*net.ends(way), 150, interval, octets=FULL, at_first=60)
    waited = statistics.median(stream.delays[len(stream.delays) // 2 :])
    record.around("queue", str(way), "UDP", expected, waited, expected * LOAD_ERROR)


@on_links
@pytest.mark.parametrize("offload", [True, False], ids=["offload", "no-offload"])
def test_a_round_trip_under_load_is_delay_and_queue(
    net: Network, record: Record, way: Way, offload: bool
) -> None:
    """A flow of TCP keeps the rate, and fills the queue up to its limit, no further."""
    net.shape('rate="10Mbit" delay="20ms" queue-limit="62500B"')
    expected = 0.04 + 62_500 * 8 / 10e6
    if offload:
        load = under_load(net, way, 6)
    else:
        with net.without_offload(way.source):
            load = under_load(net, way, 6)
    conditions = "TCP" if offload else "TCP, no offload"
    record.around("rate", str(way), conditions, 10e6, load.rate, 10e6 * RATE_ERROR)
    record.around("round trip", str(way), conditions, expected, load.most, expected * LOAD_ERROR)
