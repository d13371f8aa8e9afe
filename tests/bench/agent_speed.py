"""How fast the agent answers, beside an agent in C on net-snmp's library, pysnmp, pass_persist.

    agent_speed.py [--rounds N] [--sections NAME ...] [--json FILE] [--markdown FILE]

Every agent serves the cells of vmibShapeTable on loopback, on the first CPU; a program in C
replays requests built beforehand, on the second. What counts is the CPU time of the agent for
one request (/proc/PID/task/*/schedstat), the median of rounds in which the agents take turns.
Runs in a network namespace of its own; as root. Takes some ten minutes on a quiet computer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import agent_load
import agent_peers
import agentx_speed
import blocking
import client_speed
import fleet
import kernel_sets
import two_phase
from agent_load import Requests
from agent_peers import Peer
from agent_report import as_markdown, as_text
from agent_rounds import BULK, OPERATIONS, WINDOW, Measurement, in_rounds
from snmp_exporter import scrape_seconds

from vmib.snmp.message import PduType

MANY = 1_000_000
IN_NAMESPACE = "VMIB_BENCH_EZSNMP"
"""Set in the network namespace: to the Python that has ezsnmp, or to nothing."""


def idle_share(peer: Peer, seconds: float = 4.0) -> float:
    """The share of a CPU that an agent takes when nobody asks it."""
    before = peer.cpu()
    time.sleep(seconds)
    return (peer.cpu() - before) / seconds


@contextmanager
def peers_of(
    programs: Mapping[str, Path], directory: Path, vifs: int, with_python: bool
) -> Iterator[list[Peer]]:
    """The agents of one size, all running."""
    with ExitStack() as stack:
        place = directory / str(vifs)
        found = [
            stack.enter_context(agent_peers.ours(place / "ours", vifs)),
            stack.enter_context(agent_peers.in_c(programs["agent"], place / "c", vifs)),
        ]
        if with_python:
            found.append(stack.enter_context(agent_peers.pysnmp(place / "pysnmp", vifs)))
            found.append(stack.enter_context(agent_peers.pass_persist(place / "pass", vifs)))
        yield found


def growth(loadgen: Path, directory: Path, vifs: int, requests: int) -> dict[str, float]:
    """Resident memory: at the first answer, when all is read, and after so many requests."""
    with agent_peers.ours(directory / "growth", vifs) as peer:
        first = peer.resident()
        asked = Requests(peer)
        cells = asked.cells(20_000)
        reads = [
            *asked.asking(2, PduType.GET, cells[:8000]),
            *asked.asking(2, PduType.GET_NEXT, cells[8000:16000]),
            *asked.asking(3, PduType.GET, cells[16000:18000]),
            *asked.asking(2, PduType.GET_BULK, cells[18000:], 1, BULK),
        ]
        mutated = _mutated(reads)
        every = asked.asking(2, PduType.GET_BULK, cells, 1, (0, 200))
        agent_load.run(loadgen, peer, 8, 0, every)
        agent_load.run(loadgen, peer, WINDOW, 1, reads)
        read = peer.resident()
        done, half = 0, 0.0
        began = time.monotonic()
        while done < requests and time.monotonic() - began < 90:
            done += agent_load.run(loadgen, peer, WINDOW, 1, reads).answers
            for datagram in mutated[:]:
                _send(peer, datagram)
            mutated.clear()
            if not half and done >= requests / 2:
                half = peer.resident()
        return {
            "vifs": vifs,
            "first_answer_mib": first,
            "all_read_mib": read,
            "requests": done,
            "half_way_mib": half,
            "afterwards_mib": peer.resident(),
        }


def _mutated(datagrams: Sequence[bytes], count: int = 5000) -> list[bytes]:
    chooser = random.Random(7)
    found = []
    for _ in range(count):
        octets = bytearray(chooser.choice(datagrams))
        octets[chooser.randrange(len(octets))] = chooser.randrange(256)
        found.append(bytes(octets))
    return found


def _send(peer: Peer, datagram: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(datagram, ("127.0.0.1", peer.port))


def start_up(directory: Path, times: int = 3) -> dict[str, float]:
    """Seconds from exec to the first answer, by what there is: interfaces and rows of intent."""
    found: dict[str, float] = {}
    for vifs, rows in ((0, 0), (10_000, 0), (10_000, 10_000)):
        seconds = []
        for number in range(times):
            place = directory / f"start-{vifs}-{rows}-{number}"
            with agent_peers.ours(place, vifs, rows) as peer:
                seconds.append(peer.seconds_to_answer)
        found[f"{vifs:,} interfaces, {rows:,} rows"] = statistics.median(seconds)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.4, help="of one run of reads")
    parser.add_argument("--vifs", default="1000,10000", help="sizes, separated by commas")
    parser.add_argument("--only", default="", help="operations whose names hold this")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--json", type=Path, default=Path("out/bench-agent.json"))
    parser.add_argument("--markdown", type=Path)
    parser.add_argument(
        "--measured", type=Path, metavar="FILE", help="results of an earlier run; measures nothing"
    )
    chosen = parser.parse_args(arguments)
    if chosen.measured:
        results = json.loads(chosen.measured.read_text())
    else:
        if IN_NAMESPACE not in os.environ:
            sys.exit(_again_in_a_namespace(chosen))
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        with tempfile.TemporaryDirectory(prefix="vmib-bench-") as temporary:
            results = json.loads(json.dumps(measured(chosen, Path(temporary))))
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(results, indent=1) + "\n")
    print(as_text(results))
    if chosen.markdown:
        chosen.markdown.parent.mkdir(parents=True, exist_ok=True)
        chosen.markdown.write_text(as_markdown(results))


def _again_in_a_namespace(chosen: argparse.Namespace) -> int:
    """Run this in a network namespace, beside a Python that has the peers' libraries."""
    with tempfile.TemporaryDirectory(prefix="vmib-bench-") as temporary:
        needs = {"two_phase", "client"}.intersection(chosen.sections)
        python = client_speed.ezsnmp_python(Path(temporary)) if needs else None
        two_phase.install(python)
        again = ["unshare", "--net", sys.executable, *sys.argv]
        environment = os.environ | {IN_NAMESPACE: str(python or "")}
        return subprocess.run(again, env=environment, check=False).returncode


SECTIONS = (
    *("speed", "exporter", "kernel", "agentx", "two_phase", "blocking"),
    *("fleet", "growth", "start", "client"),
)
"""What can be measured, in this order."""


def measured(chosen: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """All results, as what JSON holds."""
    programs = agent_peers.build(directory)
    python = Path(os.environ[IN_NAMESPACE]) if os.environ[IN_NAMESPACE] else None
    rounds, seconds = chosen.rounds, chosen.seconds
    results: dict[str, Any] = {"machine": machine(), "window": WINDOW, "rounds": rounds}
    began = time.monotonic()
    if {"speed", "exporter"}.intersection(chosen.sections):
        results |= _beside_others(chosen, programs, directory)
    parts: dict[str, Callable[[], Any]] = {
        "kernel": lambda: kernel_sets.measured(directory),
        "agentx": lambda: agentx_speed.measured(programs, directory, rounds, seconds),
        "two_phase": lambda: two_phase.measured(directory, python),
        "blocking": lambda: blocking.measured(directory),
        "fleet": lambda: fleet.measured(directory),
        "growth": lambda: growth(programs["loadgen"], directory, 10_000, MANY),
        "start": lambda: start_up(directory),
        "client": lambda: client_speed.measured(programs["agent"], directory, python),
    }
    for name, measure in parts.items():
        if name in chosen.sections:
            _tell(name)
            results[name] = measure()
    return results | {"minutes": (time.monotonic() - began) / 60}


def _beside_others(
    chosen: argparse.Namespace, programs: Mapping[str, Path], directory: Path
) -> dict[str, Any]:
    """What one request costs each agent, what none costs, and how long a real reader takes."""
    operations = [found for found in OPERATIONS if chosen.only in found.name]
    found: dict[str, Any] = {name: {} for name in ("speed", "idle", "exporter")}
    found["compared"] = {made.name: made.compared or made.name for made in operations}
    for number, vifs in enumerate(map(int, chosen.vifs.split(","))):
        _tell(f"{vifs:,} interfaces")
        with peers_of(programs, directory, vifs, with_python=number == 0) as peers:
            if "exporter" in chosen.sections and number == 0:
                found["exporter"] = scrape_seconds(peers, directory)
            if "speed" in chosen.sections:
                found["idle"][str(vifs)] = {peer.name: idle_share(peer) for peer in peers}
                measurement = Measurement(programs["loadgen"], peers, chosen.seconds)
                speed = in_rounds(measurement, operations, chosen.rounds)
                found["speed"][str(vifs)] = speed
    return found


def _tell(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def machine() -> dict[str, str]:
    """What it was measured on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    version = subprocess.run(["snmpd", "-v"], capture_output=True, text=True, check=False).stdout
    return {
        "cpu": f"{os.cpu_count()} x {model}",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "net-snmp": version.partition("version:")[2].split()[0],
    }


if __name__ == "__main__":
    main()
