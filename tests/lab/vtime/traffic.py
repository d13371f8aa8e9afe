"""Load by iperf3, seen by a tap, with pings beside it."""

from __future__ import annotations

import re
import statistics
import subprocess
import time
from dataclasses import dataclass

from vmib_manager import lab_spec
from vmib_manager.measure import TCP_HEADERS, TCP_PAYLOAD

from .frames import ETHERNET, Tap
from .network import NAME, Network, Way

_SETTLED = 0.2
"""The part of the time that is not counted: buckets are full, windows small."""
_PING = re.compile(r"time=([\d.]+) ms")
_PING_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class Load:
    """What a loaded way lets through: bit/s of layer 2, seconds of round trips of pings.

    All that the machine at its end receives is counted, pings as well.
    """

    rate: float
    trips: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.trips)

    @property
    def most(self) -> float:
        return max(self.trips)


def under_load(net: Network, way: Way, seconds: int, *options: str) -> Load:
    """Load a way by iperf3 with these options of its client, and ping at the same time."""
    _, sink = net.ends(way)

    def start(machine: str, *command: str) -> subprocess.Popen[str]:
        words = ["ip", "netns", "exec", lab_spec.namespace(NAME, machine), *command]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    server = start(way.sink, "iperf3", "-s", "-1", "-B", sink.address, "--forceflush")
    assert server.stdout is not None
    while "listening" not in (line := server.stdout.readline()):
        assert line, "iperf3 does not listen"
    with Tap(sink) as tap:
        loading = start(way.source, "iperf3", "-c", sink.address, "-t", str(seconds), *options)
        settle = seconds * _SETTLED
        time.sleep(settle)
        count = str(int(seconds * (1 - 1.5 * _SETTLED) / _PING_INTERVAL))
        pinging = start(
            way.source, "ping", "-i", str(_PING_INTERVAL), "-c", count, "-W", "1", sink.address
        )
        while loading.poll() is None:
            tap.read()
            time.sleep(0.02)
        said, _ = loading.communicate()
        assert loading.returncode == 0, said
        pings, _ = pinging.communicate()
        server.communicate(timeout=30)
        tap.read()
    trips = tuple(float(found) / 1000 for found in _PING.findall(pings))
    assert trips, pings
    frames = [(arrived, wire_octets(data)) for arrived, data in tap.frames]
    began = next(arrived for arrived, octets in frames if octets > TCP_PAYLOAD)
    counted = [frame for frame in frames if began + settle <= frame[0] < began + seconds]
    octets = sum(length for _, length in counted[1:])
    return Load(octets * 8 / (counted[-1][0] - counted[0][0]), trips)


def wire_octets(data: bytes) -> int:
    """Octets at layer 2 of all the frames that a packet of TCP is sent as, or of a frame."""
    frames = -(-(len(data) - TCP_HEADERS) // TCP_PAYLOAD)
    return len(data) + (frames - 1) * TCP_HEADERS if len(data) > ETHERNET + 1500 else len(data)
