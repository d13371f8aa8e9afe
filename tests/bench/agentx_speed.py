"""What requests cost below snmpd: the CPU time of snmpd and a subagent together, in C and vMIB's.

snmpd asks a subagent over a UNIX socket, one PDU for each SNMP request (RFC 2741); for a GETBULK
one GetNext for each repetition, one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import agent_peers
from agent_load import Requests
from agent_peers import machines_of
from agent_rounds import BULK, SETS_AT_ONCE, Build, Measurement, Operation, in_rounds

from vmib.snmp.message import PduType

OURS, IN_C = "snmpd, vMIB", "snmpd, C subagent"
BOTH = frozenset({OURS, IN_C})
VIFS = 1000
WINDOW = 16
SETS = SETS_AT_ONCE // 4


def _asking(version: int, kind: PduType, varbinds: int = 1, bulk: bool = False) -> Build:
    def build(requests: Requests) -> list[bytes]:
        cells = requests.cells(1000 * varbinds)
        return requests.asking(version, kind, cells, varbinds, BULK if bulk else (0, 0))

    return build


def _operations() -> list[Operation]:
    found = []
    for version, name in ((2, "v2c"), (3, "v3")):
        for what, build in (
            ("GET", _asking(version, PduType.GET)),
            ("GET, 10 varbinds", _asking(version, PduType.GET, 10)),
            ("GETNEXT", _asking(version, PduType.GET_NEXT)),
            ("GETBULK 25", _asking(version, PduType.GET_BULK, bulk=True)),
        ):
            found.append(Operation(f"{name} {what}", version, build, window=WINDOW, peers=BOTH))
    staged = Operation(
        "v3 SET, staged in a transaction",
        3,
        lambda requests: requests.columns_set(SETS),
        once=True,
        window=WINDOW,
        peers=frozenset({OURS}),
        around=(Requests.open_transaction, Requests.abort_transaction),
    )
    cell = Operation(
        "v3 SET, cell",
        3,
        lambda requests: requests.columns_set(SETS),
        once=True,
        window=WINDOW,
        peers=frozenset({IN_C}),
    )
    return [*found, staged, cell]


def measured(programs: Mapping[str, Path], directory: Path, rounds: int, seconds: float) -> Any:
    """The figures by operation and agent."""
    place = directory / "agentx"
    with (
        agent_peers.ours_under_snmpd(place / "ours", machines_of(VIFS)) as ours,
        agent_peers.c_under_snmpd(programs["agent"], place / "c", VIFS) as in_c,
    ):
        measurement = Measurement(programs["loadgen"], [ours, in_c], seconds)
        return in_rounds(measurement, _operations(), rounds)
