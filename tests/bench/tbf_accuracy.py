"""How exactly vMIB's rates are kept: the error of the wire rate in percent.

Two namespaces joined by a veth pair; vMIB shapes the host's end, two processes flood it with UDP
datagrams of full frames, which no offload joins, and the guest's end counts what arrives. The rate
is that of layer-2 octets: Ethernet header, no checksum, preamble or gap. It is measured from one
arrival to another, so the size of a frame is no error. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import IO

from vmib_agent.netlink import in_namespace
from vmib_agent.shaper import Shaper
from vmib_agent.shaping import Impairment, burst_of, compile_tree
from vmib_agent.shapingstate import ShapedVif, VifState, diff

RATES = (64, 128, 256, 512, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000)
RATES += (1_000_000,)
TARGET_PERCENT = 0.5
MTU = 1500
FRAME = 1514
VIF = ShapedVif("va", "vmifb-va")
HOST, GUEST = f"vmt-{os.getpid()}-h", f"vmt-{os.getpid()}-g"
SENDER = """
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.connect(("10.9.0.2", 9))
data = bytes(1472)
while True:
    try:
        for _ in range(1000):
            sender.send(data)
    except OSError:
        pass
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


def arrival(counters: IO[str]) -> tuple[int, float]:
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
    seconds = 10 if kbps < 1000 else 5
    with load():
        time.sleep(1 + burst_of(wanted, MTU) / (kbps * 125))
        start, began = arrival(counters)
        time.sleep(seconds)
        end, ended = arrival(counters)
    shaper.apply(diff({}, shaper.read([VIF])))
    rate = (end - start) * 8 / (ended - began)
    return {
        "kind": kind,
        "kbps": kbps,
        "burst": burst_of(wanted, MTU),
        "measured_bps": round(rate),
        "seconds": round(ended - began, 3),
        "error_percent": round(100 * (rate / (kbps * 1000) - 1), 4),
    }


def main() -> int:
    """Print a table; the exit status says whether every error is within the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, metavar="KBPS")
    parser.add_argument("--kinds", nargs="+", choices=("tbf", "link"), default=("tbf", "link"))
    arguments = parser.parse_args()
    results = []
    with pair(), Shaper(Path("/run/netns") / HOST) as shaper:
        counters = in_namespace(Path("/run/netns") / GUEST, Path("/proc/thread-self/net/dev").open)
        with counters:
            print(f"{'what':5} {'kbit/s':>9} {'burst':>8} {'measured bit/s':>15} {'error %':>9}")
            for kind in arguments.kinds:
                for kbps in arguments.rates:
                    row = measure(kbps, counters, kind, shaper)
                    results.append(row)
                    print(
                        f"{kind:5} {kbps:9} {row['burst']:8} {row['measured_bps']:15}"
                        f" {row['error_percent']:9.4f}",
                        flush=True,
                    )
    worst = max(abs(float(row["error_percent"])) for row in results)
    print(f"layer 2 octets, worst error {worst} %, target {TARGET_PERCENT} %")
    if arguments.json:
        report = {
            "layer": "2: Ethernet header, no FCS",
            "kernel": platform.release(),
            "target_percent": TARGET_PERCENT,
            "worst_percent": worst,
            "results": results,
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0 if worst <= TARGET_PERCENT else 1


if __name__ == "__main__":
    sys.exit(main())
