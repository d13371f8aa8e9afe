"""Real vifs of Xen do what they were told: one impairment at a time, both ways, and together."""

from __future__ import annotations

import math
import os
import statistics
from pathlib import Path

import pytest

from ..host_lab import HostLab
from ..hypervisors import run
from ..vtime.judging import DELAY_ERROR, LOAD_ERROR, RATE_ERROR, Measurement, Record, around
from .bench import FRAME, WAYS, Bench, bench_of, ping

pytestmark = pytest.mark.lab

both_ways = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(scope="module")
def bench(lab: HostLab) -> Bench:
    return bench_of(lab)


@pytest.fixture(scope="module")
def record() -> Record:
    return Record(Path(os.environ["VMIB_LAB_RESULTS"]) / "measurements.jsonl")


def unanswered() -> tuple[int, int]:
    """How many of how many echo requests have no answer."""
    found = ping(300, 0.002)
    return found.sent - found.received, found.sent


@both_ways
@pytest.mark.parametrize("microseconds", [1000, 10_000, 200_000])
def test_a_delay_is_exact(bench: Bench, record: Record, way: str, microseconds: int) -> None:
    bench.shape(way, Delay=microseconds)

    def measure() -> list[Measurement]:
        found, seconds = ping(20, 0.05), microseconds / 1e6
        return [
            around("delay", way, "mean of 20", seconds, found.mean - bench.base, DELAY_ERROR),
            around("delay", way, "deviation", 0, found.deviation, DELAY_ERROR),
        ]

    record.settled(measure)


@both_ways
@pytest.mark.parametrize("kbps", [1000, 10_000])
def test_a_rate_is_exact(bench: Bench, record: Record, way: str, kbps: int) -> None:
    bench.shape(way, Rate=kbps)
    measured = bench.flood(way, kbps, {1000: 4, 10_000: 1.5}[kbps]).rate()
    record.around("rate", way, "UDP", kbps * 1000, measured, kbps * 1000 * RATE_ERROR)


@both_ways
def test_so_many_packets_are_lost(bench: Bench, record: Record, way: str) -> None:
    bench.shape(way, Loss=100_000)
    record.counted("loss", way, "ping", 0.1, unanswered)


@both_ways
def test_so_many_packets_arrive_twice(bench: Bench, record: Record, way: str) -> None:
    bench.shape(way, Duplicate=100_000)

    def count() -> tuple[int, int]:
        found = ping(300, 0.002)
        return found.duplicates, found.sent

    record.counted("duplicate", way, "ping", 0.1, count)


@both_ways
def test_so_many_packets_are_damaged(bench: Bench, record: Record, way: str) -> None:
    """Who has a bit wrong is not answered, but for those of the sender's 6 octets of 98."""
    bench.shape(way, Corrupt=100_000)
    record.counted("corrupt", way, "ping", 0.1 * (1 - 6 / 98), unanswered)


@both_ways
def test_so_many_packets_are_not_delayed(bench: Bench, record: Record, way: str) -> None:
    bench.shape(way, Delay=20_000, Reorder=100_000)

    def count() -> tuple[int, int]:
        times = ping(200, 0.002).times
        assert len(times) == 200
        return sum(1 for each in times if each < 0.01), len(times)

    record.counted("reorder", way, "ping", 0.1, count)


@both_ways
def test_delays_vary_as_they_are_to(bench: Bench, record: Record, way: str) -> None:
    """Uniformly: the deviation is within four standard errors."""
    bench.shape(way, Delay=20_000, Jitter=5000)
    found = ping(200, 0.002)
    spread = 0.005 / math.sqrt(3)
    error = 4 * spread / math.sqrt(200) + DELAY_ERROR
    record.around("jitter", way, "mean", 0.02, found.mean - bench.base, error)
    error = 4 * spread / math.sqrt(2 * 200) + DELAY_ERROR
    record.around("jitter", way, "deviation", spread, found.deviation, error)


@both_ways
def test_a_round_trip_under_load_is_delay_and_queue(bench: Bench, record: Record, way: str) -> None:
    bench.shape(way, Rate=10_000, Delay=20_000, QueueLimit=62_500)
    with bench.loaded(way, 3, "-u", "-b", "13M", "-l", "1472"):
        times = ping(20, 0.05).times
    expected = 0.02 + 62_500 * 8 / 10e6
    record.around("queue", way, "UDP", expected, statistics.median(times), expected * LOAD_ERROR)


@both_ways
def test_offload_in_who_sends_makes_no_difference(bench: Bench, record: Record, way: str) -> None:
    """TCP gets the rate, no packet that is delayed is longer than a frame, no queue too long."""
    bench.shape(way, Rate=10_000, Delay=10_000, QueueLimit=62_500)
    for wanted in (True, False):
        how = "offload" if wanted else "no offload"
        with bench.offload(way, wanted), bench.tap(way) as tap, bench.loaded(way, 3):
            times = ping(15, 0.05).times
        record.around("rate", way, f"TCP, {how}", 10e6, tap.rate(), 10e6 * RATE_ERROR)
        assert max(length for _, length in tap.frames) == FRAME
        most = 0.01 + 62_500 * 8 / 10e6
        assert max(times) < most * (1 + LOAD_ERROR), how


@both_ways
def test_rate_delay_and_loss_together_are_as_exact(bench: Bench, record: Record, way: str) -> None:
    bench.shape(way, Rate=10_000, Delay=10_000, Loss=50_000)
    measured = bench.flood(way, 10_000, 1.5).rate()
    record.around("rate", way, "UDP, with delay and loss", 10e6, measured, 10e6 * RATE_ERROR)

    def delayed() -> list[Measurement]:
        beyond = ping(20, 0.05).mean - bench.base
        return [around("delay", way, "with rate and loss", 0.01, beyond, DELAY_ERROR)]

    record.settled(delayed)
    record.counted("loss", way, "ping, with rate and delay", 0.05, unanswered)


def test_a_link_delays_what_goes_to_its_destination_only(bench: Bench, record: Record) -> None:
    bench.shape()
    link = f"{bench.vm}.1.ipv4.4.10.31.1.2.32"

    def shortest(end: str) -> float:
        said = bench.lab.guests[1].run(f"ping -q -c 11 -i 0.1 {end} | tail -1")
        return float(said.split("=")[1].split("/")[0]) / 1000

    ends = ("10.31.1.2", "10.31.1.254")
    bench.lab.guests[1].pings(ends[0])  # for ARP
    before = {end: shortest(end) for end in ends}
    bench.lab.set(
        f"vmibLinkDelay.{link}", "u", "30000", f"vmibLinkRate.{link}", "u", "5000",
        f"vmibLinkRowStatus.{link}", "i", "createAndGo",
    )  # fmt: skip

    def measure() -> list[Measurement]:
        return [
            around("delay", "link", end, seconds, shortest(end) - before[end], DELAY_ERROR)
            for end, seconds in zip(ends, (0.03, 0.0), strict=True)
        ]

    try:
        record.settled(measure)
    finally:
        bench.lab.set(f"vmibLinkRowStatus.{link}", "i", "destroy")


def test_the_console_shows_that_it_is_real(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.shape("toVm", Rate=10_000, Delay=10_000)
    ping(20, 0.01)
    with capsys.disabled():
        print(run("xl", "info"))
        print(run("xl", "list"))
        print(run("tc", "-s", "qdisc", "show"), flush=True)
    bench.shape()
