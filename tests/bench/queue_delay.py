"""How long frames wait under load: the round trip through a full queue, beside the queue asked for.

A program on the host sends half as many frames again as the rate lets through, and the machine
sends each that arrives back, on a way that is idle. What the queue holds is what the round trip
takes: its octets at the rate.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from common import Results, Table, Target, rate_text
from tbf_accuracy import FRAME, GUEST, HOST, MTU, VIF, pair

from vmib.impairment import Impairment
from vmib_agent.shaper import Shaper
from vmib_agent.shaping import compile_tree, queue_of
from vmib_agent.shapingstate import VifState, diff

SECONDS = 4
ECHO = """
import socket
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind(("10.9.0.2", 9))
print("ready", flush=True)
while True:
    data, peer = echo.recvfrom(2048)
    echo.sendto(data[:8], peer)
"""
SENDER = """
import json, socket, sys, time
interval, seconds = float(sys.argv[1]), float(sys.argv[2])
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, 32, 64 << 20)  # SO_SNDBUFFORCE: the queue is what fills
sender.setblocking(False)
sender.connect(("10.9.0.2", 9))
rest, trips = bytes(1464), []
began = due = time.monotonic()
while (now := time.monotonic()) < began + seconds:
    while due <= now:
        due += interval
        try:
            sender.send(time.monotonic_ns().to_bytes(8) + rest)
        except OSError:
            pass
    try:
        while True:
            sent = int.from_bytes(sender.recv(8))
            if now > began + seconds / 2:
                trips.append((time.monotonic_ns() - sent) / 1e9)
    except OSError:
        time.sleep(min(interval, 0.001))
print(json.dumps(trips))
"""


@dataclass(frozen=True, slots=True)
class Case:
    """A rate in kbit/s and the queue asked for in octets, 0 for vMIB's own choice."""

    kbps: int
    queue: int = 0


CASES = (Case(1000), Case(10_000), Case(10_000, 25_000), Case(10_000, 250_000), Case(100_000))


def measure(case: Case, shaper: Shaper) -> dict[str, float]:
    """The seconds that the queue is to take, and those of the round trips: quartiles."""
    wanted = Impairment(rate=case.kbps, queue_limit=case.queue)
    tree = compile_tree(wanted, {}, MTU)
    shaper.apply(diff({VIF: VifState(to_vm=tree)}, shaper.read([VIF])))
    inside = ["ip", "netns", "exec", GUEST, sys.executable, "-c", ECHO]
    echo = subprocess.Popen(inside, stdout=subprocess.PIPE)
    try:
        assert echo.stdout is not None
        echo.stdout.readline()
        interval = FRAME * 8 / (case.kbps * 1000) / 1.5
        outside = ["ip", "netns", "exec", HOST, sys.executable, "-c", SENDER]
        done = subprocess.run(
            [*outside, str(interval), str(SECONDS)], check=True, capture_output=True
        )
    finally:
        echo.kill()
        echo.wait()
        shaper.apply(diff({}, shaper.read([VIF])))
    trips = sorted(json.loads(done.stdout))
    octets = queue_of(wanted, MTU)
    return {
        "kbps": case.kbps,
        "queue_octets": octets,
        "wanted": octets * 8 / (case.kbps * 1000),
        "frame": FRAME * 8 / (case.kbps * 1000),
        "low": trips[len(trips) // 4],
        "median": trips[len(trips) // 2],
        "high": trips[3 * len(trips) // 4],
        "arrived": len(trips),
    }


def run() -> Results:
    """Measure, and say whether frames wait as long as the queue is."""
    with pair(), Shaper(Path("/run/netns") / HOST) as shaper:
        found = [measure(case, shaper) for case in CASES]
    rows = [
        (
            rate_text(int(row["kbps"])),
            f"{row['queue_octets']:,} octets",
            f"{row['wanted'] * 1000:.1f} ms",
            f"{row['median'] * 1000:.1f} ms",
            f"{row['low'] * 1000:.1f} to {row['high'] * 1000:.1f} ms",
        )
        for row in found
    ]
    table = Table(
        "Round trip under load",
        ("rate", "queue", "which is", "round trip, median", "quartiles"),
        rows,
        ("A queue that has no room for one more frame can be up to one frame shorter.",),
    )
    off = [max(0.0, abs(row["median"] - row["wanted"]) - row["frame"]) for row in found]
    shares = [100 * error / row["wanted"] for error, row in zip(off, found, strict=True)]
    target = Target(
        "Round trip under load: that of the configured queue",
        "within 5 %, and one frame",
        f"{max(shares):.1f} % off at most",
        max(shares) <= 5,
    )
    return Results(found, [table], [target])
