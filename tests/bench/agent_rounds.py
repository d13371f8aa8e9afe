"""Operations that agents carry out, and rounds in which they take turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import agent_load
from agent_load import DISTINCT, Load, Requests
from agent_peers import Peer

from vmib.snmp.message import PduType

WINDOW = 64
BULK = (0, 25)
SETS_AT_ONCE = 4000
TRIES = 4
DURABLE_SETS = 100
OURS = "vMIB"
IN_C = "C agent (net-snmp)"
ALL = frozenset({OURS, IN_C, "pysnmp 7.1", "snmpd, pass_persist (Python)"})
SLOW = ALL - {OURS, IN_C}

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
        """Measure; again, where other work on this computer made datagrams come too late."""
        for tries in range(TRIES):
            spent, load = self._measured(operation, peer)
            if load.errors or (load.lost and tries + 1 == TRIES):
                raise RuntimeError(f"{peer.name}, {operation.name}: {load}; see {peer.log}")
            if not load.lost:
                break
        cell = self.cells.setdefault(operation.name, {}).setdefault(peer.name, Cell())
        cell.microseconds.append(spent / load.answers * 1e6)
        cell.per_second.append(load.answers / load.seconds)

    def _measured(self, operation: Operation, peer: Peer) -> tuple[float, Load]:
        """The seconds of CPU that the agent took, and what it answered."""
        requests = self._requests[peer.name]
        if operation.around:
            operation.around[0](requests)
        datagrams, are_new = self._datagrams(operation, peer)
        answer = requests.ask(datagrams[0]) if not operation.once else None
        if are_new and not operation.once and peer.name not in SLOW:
            # What is asked for the first time is not measured here: vMIB's agent encodes it then.
            agent_load.run(self._loadgen, peer, WINDOW // 4, 0, datagrams)
        if answer is not None and operation.name.endswith("GETBULK 25"):
            assert 1 <= len(answer.varbinds) <= BULK[1]
        seconds = 0.0 if operation.once else self._seconds
        before = peer.cpu()
        load = agent_load.run(self._loadgen, peer, operation.window, seconds, datagrams)
        spent = peer.cpu() - before
        if operation.around:
            operation.around[1](requests)
        return spent, load

    def _datagrams(self, operation: Operation, peer: Peer) -> tuple[Sequence[bytes], bool]:
        """Built once, except where they hold only once or have grown too old for USM; and whether
        they are new."""
        made, datagrams = self._built.get((operation.name, peer.name), (0.0, ()))
        is_old = operation.version == 3 and time.monotonic() - made > 60
        if datagrams and not operation.once and not is_old:
            return datagrams, False
        self._requests[peer.name].settled()
        made, datagrams = time.monotonic(), operation.build(self._requests[peer.name])
        self._built[operation.name, peer.name] = made, datagrams
        return datagrams, True


def in_rounds(measurement: Measurement, operations: Iterable[Operation], rounds: int) -> Any:
    """The figures of so many rounds after one to warm up, as what JSON holds."""
    chosen = list(operations)
    for turn in range(rounds + 1):
        if turn == 1:
            measurement.cells.clear()
        measurement.round(chosen)
    return {
        name: {
            peer: asdict(cell) | {"cost": cell.cost, "rate": cell.rate}
            for peer, cell in cells.items()
        }
        for name, cells in measurement.cells.items()
    }
