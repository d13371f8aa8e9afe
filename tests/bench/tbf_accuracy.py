"""How exactly vMIB's rates are kept: the error of the wire rate in percent.

Two namespaces joined by a veth pair; vMIB shapes the host's end. Two processes flood it with UDP
datagrams of full frames, which no offload joins, and the guest's end counts what arrives. From
`FAST` on a computer may not manage so many frames, so it is one TCP connection there, and what
arrives is reckoned with 1514 octets for every 1448 of user data. The rate is that of layer-2
octets: Ethernet header, no checksum, preamble or gap. It is measured from one arrival to another,
so the size of a frame is no error; of three times in a row it is the median. Needs root.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import IO

from common import Results, Table, Target, rate_text

from vmib.impairment import Impairment
from vmib_agent.netlink import in_namespace
from vmib_agent.shaper import Shaper
from vmib_agent.shaping import burst_of, compile_tree
from vmib_agent.shapingstate import ShapedVif, VifState, diff
from vmib_manager.measure import TCP_PAYLOAD

RATES = (
    *(64, 128, 256, 512, 1000, 2000, 5000, 10_000, 20_000),
    *(50_000, 100_000, 200_000, 500_000, 1_000_000),
)
SOME_RATES = (64, 256, 1000, 5000, 20_000, 100_000, 500_000, 1_000_000)
KINDS = ("tbf", "link")
NAMES = {"tbf": "a shape (TBF)", "link": "a link (HTB)"}
FAST = 200_000
WINDOWS = 3
TARGET_PERCENT = 0.5
MTU = 1500
FRAME = 1514
VIF = ShapedVif("va", "vmifb-va")
HOST, GUEST = f"vmt-{os.getpid()}-h", f"vmt-{os.getpid()}-g"
SENDER = """
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, 32, 64 << 20)  # SO_SNDBUFFORCE: the queue is what fills
sender.connect(("10.9.0.2", 9))
data = bytes(1472)
while True:
    try:
        for _ in range(1000):
            sender.send(data)
    except OSError:
        pass
"""


Mark = tuple[float, float]
"""Octets that have arrived, and the time."""

TCP_SENDER = """
import socket
sender = socket.socket()
sender.setsockopt(socket.SOL_SOCKET, 32, 64 << 20)  # SO_SNDBUFFORCE: the queue is what fills
sender.connect(("10.9.0.2", 9))
while True:
    sender.sendall(bytes(1 << 20))
"""
TCP_SINK = """
import socket, sys, time
settle, seconds, windows = map(float, sys.argv[1:])
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
listener.bind(("10.9.0.2", 9))
listener.listen()
print("listens", flush=True)
connection = listener.accept()[0]
buffer, octets, marks = bytearray(1 << 20), 0, []
due = time.monotonic() + settle
while len(marks) <= windows:
    octets += connection.recv_into(buffer)
    if (now := time.monotonic()) >= due:
        marks.append((octets, now))
        due = now + seconds
for octets, now in marks:
    print(octets, now, flush=True)
"""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def pair() -> Iterator[None]:
    """The two namespaces, with fixed neighbours so that nothing but the load is on the wire."""
    try:
        for name in (HOST, GUEST):
            run("ip", "netns", "add", name)
        macs = ("02:00:00:00:00:01", "02:00:00:00:00:02")
        run(
            "ip",
            "-n",
            HOST,
            "link",
            "add",
            "va",
            "address",
            macs[0],
            "type",
            "veth",
            "peer",
            "name",
            "vb",
            "address",
            macs[1],
            "netns",
            GUEST,
        )
        for name, device, own, other in ((HOST, "va", 1, 2), (GUEST, "vb", 2, 1)):
            run("ip", "-n", name, "link", "set", device, "addrgenmode", "none", "up")
            run("ip", "-n", name, "addr", "add", f"10.9.0.{own}/24", "dev", device)
            run(
                "ip",
                "-n",
                name,
                "neigh",
                "replace",
                f"10.9.0.{other}",
                "dev",
                device,
                "lladdr",
                macs[other - 1],
            )
        yield
    finally:
        for name in (HOST, GUEST):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextmanager
def load() -> Iterator[None]:
    """Two processes that send as fast as they can."""
    command = ["ip", "netns", "exec", HOST, sys.executable, "-c", SENDER]
    senders = [subprocess.Popen(command) for _ in range(2)]
    try:
        yield
    finally:
        for sender in senders:
            sender.kill()
            sender.wait()


def streamed(settle: float, seconds: float) -> list[Mark]:
    """Layer-2 octets and time, every so many seconds, once a TCP connection has settled."""
    inside = ["ip", "netns", "exec", GUEST, sys.executable, "-c", TCP_SINK]
    outside = ["ip", "netns", "exec", HOST, sys.executable, "-c", TCP_SENDER]
    times = [str(settle), str(seconds), str(WINDOWS)]
    with subprocess.Popen([*inside, *times], stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout is not None
        sink.stdout.readline()
        sender = subprocess.Popen(outside, stderr=subprocess.DEVNULL)
        try:
            marks = [tuple(map(float, sink.stdout.readline().split())) for _ in range(WINDOWS + 1)]
        finally:
            sender.kill()
            sender.wait()
            sink.kill()
    return [(octets * FRAME / TCP_PAYLOAD, now) for octets, now in marks]


def flooded(settle: float, seconds: float, counters: IO[str]) -> list[Mark]:
    """Layer-2 octets and time, every so many seconds, once a flood has settled."""
    with load():
        time.sleep(settle)
        marks = [arrival(counters)]
        for _ in range(WINDOWS):
            time.sleep(seconds)
            marks.append(arrival(counters))
    return marks


def arrival(counters: IO[str]) -> Mark:
    """The octets that have arrived, and when the last of them did."""
    first = octets(counters)
    while (now := octets(counters)) == first:
        pass
    return now, time.monotonic()


def octets(counters: IO[str]) -> int:
    counters.seek(0)
    line = next(line for line in counters if line.lstrip().startswith("vb:"))
    return int(line.split(":")[1].split()[0])


def measure(kbps: int, counters: IO[str], kind: str, shaper: Shaper) -> dict[str, float | str]:
    """Shape, load, let the bucket run empty, and measure."""
    wanted = Impairment(rate=kbps)
    links = {ip_network("10.9.0.2/32"): wanted}
    tree = (
        compile_tree(wanted, {}, MTU) if kind == "tbf" else compile_tree(Impairment(), links, MTU)
    )
    shaper.apply(diff({VIF: VifState(to_vm=tree)}, shaper.read([VIF])))
    seconds = 10 if kbps < 1000 else 4
    settle = 1 + burst_of(wanted, MTU) / (kbps * 125)
    marks = flooded(settle, seconds, counters) if kbps < FAST else streamed(settle, seconds)
    shaper.apply(diff({}, shaper.read([VIF])))
    rates = sorted(
        (end - start) * 8 / (ended - began) for (start, began), (end, ended) in pairwise(marks)
    )
    rate = median(rates)
    return {
        "kind": kind,
        "kbps": kbps,
        "burst": burst_of(wanted, MTU),
        "measured_bps": round(rate),
        "lowest_bps": round(rates[0]),
        "highest_bps": round(rates[-1]),
        "error_percent": round(100 * (rate / (kbps * 1000) - 1), 4),
    }


def measured(kinds: Sequence[str], rates: Sequence[int]) -> Iterator[dict[str, float | str]]:
    """Measure all rates, one after the other."""
    with pair(), Shaper(Path("/run/netns") / HOST) as shaper:
        counters = in_namespace(Path("/run/netns") / GUEST, Path("/proc/thread-self/net/dev").open)
        with counters:
            for kind in kinds:
                for kbps in rates:
                    yield measure(kbps, counters, kind, shaper)


def run_all(kinds: Sequence[str] = KINDS, rates: Sequence[int] = SOME_RATES) -> Results:
    """Measure, and say whether every rate is within the target."""
    found = list(measured(kinds, rates))
    errors = {(row["kind"], row["kbps"]): float(row["error_percent"]) for row in found}
    table = Table(
        "Rates on the wire",
        ("rate", *(f"error of {NAMES[kind]}" for kind in kinds)),
        [(rate_text(kbps), *(f"{errors[kind, kbps]:+.3f} %" for kind in kinds)) for kbps in rates],
        (
            "Octets of layer 2: Ethernet header and all above it; no checksum, preamble or gap.",
            f"Below {rate_text(FAST)} two processes flood a veth pair with full frames of UDP and "
            "the other end counts; from there on it is one TCP connection. Medians of three times.",
        ),
    )
    kbps = max(rates, key=lambda rate: max(abs(errors[kind, rate]) for kind in kinds))
    worst = max(abs(errors[kind, kbps]) for kind in kinds)
    span = f"{rate_text(min(rates))} to {rate_text(max(rates))}"
    target = Target(
        f"Rates from {span}: error of the rate on the wire (layer 2)",
        f"within {TARGET_PERCENT} %",
        f"{worst:.3f} % at {rate_text(kbps)}",
        worst <= TARGET_PERCENT,
    )
    return Results({"worst_percent": worst, "rows": found}, [table], [target])


def main() -> int:
    """Print a table; the exit status says whether every error is within the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, metavar="KBPS")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    arguments = parser.parse_args()
    worst = 0.0
    print(f"{'what':5} {'kbit/s':>9} {'burst':>8} {'measured bit/s':>15} {'error %':>9}")
    for row in measured(arguments.kinds, arguments.rates):
        error = float(row["error_percent"])
        worst = max(worst, abs(error))
        numbers = f"{row['kbps']:9} {row['burst']:8} {row['measured_bps']:15} {error:9.4f}"
        print(f"{row['kind']:5} {numbers}", flush=True)
    print(f"layer 2 octets, worst error {worst} %, target {TARGET_PERCENT} %")
    return 0 if worst <= TARGET_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
