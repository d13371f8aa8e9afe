"""How fast the agent answers, beside an agent in C on net-snmp's library, pysnmp, pass_persist.

    agent_speed.py [--rounds N] [--seconds S] [--vifs N,N] [--json FILE] [--markdown FILE]

Every agent serves the cells of vmibShapeTable on loopback, on the first CPU; a program in C
replays requests built beforehand, on the second. What counts is the CPU time of the agent for
one request (/proc/PID/task/*/schedstat), the median of rounds in which the agents take turns.
Runs in a network namespace of its own; as root.
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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import agent_load
import agent_peers
import client_speed
from agent_load import DISTINCT, Requests
from agent_peers import Peer
from agent_report import as_markdown, as_text
from snmp_exporter import scrape_seconds

from vmib.snmp.message import PduType

WINDOW = 64
BULK = (0, 25)
SETS_AT_ONCE = 4000
DURABLE_SETS = 100
MANY = 1_000_000
IN_NAMESPACE = "VMIB_BENCH_EZSNMP"
"""Set in the network namespace: to the Python that has ezsnmp, or to nothing."""
OURS = "vMIB"
IN_C = "C agent (net-snmp)"
ALL = frozenset({OURS, IN_C, "pysnmp 7.1", "snmpd, pass_persist (Python)"})

Build = Callable[[Requests], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Operation:
    """A kind of request, `window` of which are under way at a time.

    With `once`, its datagrams are made for each round and sent once. `compared` is the operation
    of the C agent that it is compared with, where it is not the same. What is `around` happens
    before and after each round.
    """

    name: str
    version: int
    build: Build
    once: bool = False
    window: int = WINDOW
    peers: frozenset[str] = ALL
    compared: str = ""
    around: tuple[Callable[[Requests], None], Callable[[Requests], None]] | None = None


def _reads(version: int) -> list[Operation]:
    def asking(kind: PduType, varbinds: int = 1, numbers: tuple[int, int] = (0, 0)) -> Build:
        def build(requests: Requests) -> Sequence[bytes]:
            cells = requests.cells(DISTINCT * varbinds)
            return requests.asking(version, kind, cells, varbinds, numbers)

        return build

    def live(kind: PduType, numbers: tuple[int, int] = (0, 0)) -> Build:
        def build(requests: Requests) -> Sequence[bytes]:
            return requests.asking(version, kind, requests.live_cells(DISTINCT), 1, numbers)

        return build

    name = "v3" if version == 3 else "v2c"
    ours = frozenset({OURS})
    return [
        Operation(f"{name} GET", version, asking(PduType.GET)),
        Operation(f"{name} GET, one at a time", version, asking(PduType.GET), window=1),
        Operation(f"{name} GET, 10 varbinds", version, asking(PduType.GET, 10)),
        Operation(f"{name} GETNEXT", version, asking(PduType.GET_NEXT)),
        Operation(f"{name} GETBULK 25", version, asking(PduType.GET_BULK, 1, BULK)),
        Operation(
            f"{name} GET, live", version, live(PduType.GET), peers=ours, compared=f"{name} GET"
        ),
        Operation(
            f"{name} GETBULK 25, live",
            version,
            live(PduType.GET_BULK, BULK),
            peers=ours,
            compared=f"{name} GETBULK 25",
        ),
    ]


OPERATIONS: Sequence[Operation] = (
    *_reads(2),
    *_reads(3),
    Operation(
        "v3 SET, spin lock",
        3,
        lambda requests: requests.spin_locks(SETS_AT_ONCE),
        once=True,
        peers=frozenset({OURS}),
        compared="v3 SET, cell",
    ),
    Operation(
        "v3 SET, staged in a transaction",
        3,
        lambda requests: requests.columns_set(SETS_AT_ONCE),
        once=True,
        peers=frozenset({OURS}),
        compared="v3 SET, cell",
        around=(Requests.open_transaction, Requests.abort_transaction),
    ),
    Operation(
        "v3 SET, on disk before it is answered",
        3,
        lambda requests: requests.columns_set(DURABLE_SETS),
        once=True,
        peers=frozenset({OURS}),
        compared="v3 SET, cell",
    ),
    Operation(
        "v3 SET, cell",
        3,
        lambda requests: requests.columns_set(SETS_AT_ONCE),
        once=True,
        peers=ALL - {OURS},
    ),
)


@dataclass
class Cell:
    """The rounds of one operation at one agent."""

    microseconds: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """CPU microseconds for one request, the median."""
        return statistics.median(self.microseconds)

    @property
    def rate(self) -> float:
        """Requests answered in a second, the median."""
        return statistics.median(self.per_second)


Cells = dict[str, dict[str, Cell]]
"""Operation -> agent -> what was measured."""


class Measurement:
    """Takes turns between agents of the same number of interfaces."""

    def __init__(self, loadgen: Path, peers: Iterable[Peer], seconds: float) -> None:
        self._loadgen = loadgen
        self._peers = list(peers)
        self._seconds = seconds
        self._requests = {peer.name: Requests(peer) for peer in self._peers}
        self._built: dict[tuple[str, str], tuple[float, Sequence[bytes]]] = {}
        self.cells: Cells = {}

    def round(self, operations: Iterable[Operation]) -> None:
        """Every operation once at every agent."""
        for operation in operations:
            for peer in self._peers:
                if peer.name in operation.peers:
                    self._measure(operation, peer)

    def _measure(self, operation: Operation, peer: Peer) -> None:
        requests = self._requests[peer.name]
        if operation.around:
            operation.around[0](requests)
        datagrams = self._datagrams(operation, peer)
        answer = requests.ask(datagrams[0]) if not operation.once else None
        if answer is not None and operation.name.endswith("GETBULK 25"):
            assert 1 <= len(answer.varbinds) <= BULK[1]
        seconds = 0.0 if operation.once else self._seconds
        before = peer.cpu()
        load = agent_load.run(self._loadgen, peer, operation.window, seconds, datagrams)
        spent = peer.cpu() - before
        if load.lost or load.errors:
            raise RuntimeError(f"{peer.name}, {operation.name}: {load}; see {peer.log}")
        if operation.around:
            operation.around[1](requests)
        cell = self.cells.setdefault(operation.name, {}).setdefault(peer.name, Cell())
        cell.microseconds.append(spent / load.answers * 1e6)
        cell.per_second.append(load.answers / load.seconds)

    def _datagrams(self, operation: Operation, peer: Peer) -> Sequence[bytes]:
        """Built once, except where they hold only once or have grown too old for USM."""
        made, datagrams = self._built.get((operation.name, peer.name), (0.0, ()))
        if operation.once or not datagrams or time.monotonic() - made > 60:
            self._requests[peer.name].settled()
            made, datagrams = time.monotonic(), operation.build(self._requests[peer.name])
            self._built[operation.name, peer.name] = made, datagrams
        return datagrams


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
        done, rounds = 0, 0
        began = time.monotonic()
        while done < requests and time.monotonic() - began < 100:
            done += agent_load.run(loadgen, peer, WINDOW, 2, reads).answers
            rounds += 1
            if rounds == 1:
                for datagram in mutated:
                    _send(peer, datagram)
        return {
            "vifs": vifs,
            "first_answer_mib": first,
            "all_read_mib": read,
            "requests": done,
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
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one run of reads")
    parser.add_argument("--vifs", default="1000,10000", help="sizes, separated by commas")
    parser.add_argument("--only", default="", help="operations whose names hold this")
    parser.add_argument("--speed-alone", action="store_true", help="no memory, start, exporter")
    parser.add_argument("--json", type=Path, default=Path("out/bench-agent.json"))
    parser.add_argument("--markdown", type=Path)
    chosen = parser.parse_args(arguments)
    if IN_NAMESPACE not in os.environ:
        with tempfile.TemporaryDirectory(prefix="vmib-bench-") as temporary:
            ezsnmp = None if chosen.speed_alone else client_speed.ezsnmp_python(Path(temporary))
            again = ["unshare", "--net", sys.executable, *sys.argv]
            environment = os.environ | {IN_NAMESPACE: str(ezsnmp or "")}
            sys.exit(subprocess.run(again, env=environment, check=False).returncode)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="vmib-bench-") as temporary:
        results = measured(chosen, Path(temporary))
    print(as_text(results))
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(results, indent=1) + "\n")
    if chosen.markdown:
        chosen.markdown.parent.mkdir(parents=True, exist_ok=True)
        chosen.markdown.write_text(as_markdown(results))


def measured(chosen: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """All results, as what JSON holds."""
    programs = agent_peers.build(directory)
    operations = [found for found in OPERATIONS if chosen.only in found.name]
    speed: dict[str, Any] = {}
    idle: dict[str, Any] = {}
    exporter: dict[str, Any] = {}
    for number, vifs in enumerate(map(int, chosen.vifs.split(","))):
        with peers_of(programs, directory, vifs, with_python=number == 0) as peers:
            measurement = Measurement(programs["loadgen"], peers, chosen.seconds)
            for turn in range(chosen.rounds + 1):
                if turn == 1:  # the first was to warm up
                    measurement.cells.clear()
                measurement.round(operations)
            speed[str(vifs)] = {
                name: {
                    peer: asdict(cell) | {"cost": cell.cost, "rate": cell.rate}
                    for peer, cell in cells.items()
                }
                for name, cells in measurement.cells.items()
            }
            if not chosen.speed_alone:
                idle[str(vifs)] = {peer.name: idle_share(peer) for peer in peers}
                if number == 0:
                    exporter = scrape_seconds(peers, directory)
    results = {
        "machine": machine(),
        "window": WINDOW,
        "rounds": chosen.rounds,
        "compared": {found.name: found.compared or found.name for found in operations},
        "speed": speed,
    }
    ezsnmp = os.environ[IN_NAMESPACE]
    if not chosen.speed_alone:
        results |= {
            "idle": idle,
            "exporter": exporter,
            "growth": growth(programs["loadgen"], directory, 10_000, MANY),
            "start": start_up(directory),
            "client": client_speed.measured(
                programs["agent"], directory, Path(ezsnmp) if ezsnmp else None
            ),
        }
    return results


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
