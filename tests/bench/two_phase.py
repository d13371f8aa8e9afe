"""What a SET leaves behind whose second part fails when it is committed, below snmpd.

vMIB's agent is told a rate, and a route whose next hop the kernel finds unreachable: both pass
every test, and the second fails in CommitSet. pyagentx3 is told two numbers, of which the second
raises an error when it is committed.
"""

from __future__ import annotations

import subprocess
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import agent_peers
from agent_load import Requests
from agent_peers import Peer, machines_of, row_oid

from vmib import objects
from vmib.rows import InetAddressType, RouteKey, RowStatus
from vmib.schema import instance
from vmib.smi import Oid
from vmib.snmp.ber import Value, VarBind
from vmib.snmp.message import PduType
from vmib.status import ErrorStatus

PLAYPEN: Oid = (1, 3, 6, 1, 4, 1, 8072, 9999, 9999, 1)
_ROUTE = RouteKey(0, InetAddressType.ipv4, IPv4Address("10.9.0.0"), 16, 0)


def measured(directory: Path, python: Path | None) -> dict[str, Any]:
    """The answer and what is there afterwards, by agent."""
    with agent_peers.ours_under_snmpd(directory / "two-phase", machines_of(10)) as peer:
        rate = row_oid(2, 1, 2)
        table = objects.vmibRouteTable
        route = instance(table, "next_hop", _ROUTE)
        varbinds = [
            VarBind(rate, Value.unsigned32(700)),
            VarBind(route, Value.octets(IPv4Address("192.0.2.1").packed)),
            VarBind(instance(table, "row_status", _ROUTE), Value.integer(RowStatus.createAndGo)),
        ]
        found = {"vMIB": _outcome(peer, varbinds, (rate, route))}
    if python is not None and _has_pyagentx3(python):
        found["pyagentx3"] = _of_pyagentx3(directory / "pyagentx3", python)
    return found


def _of_pyagentx3(directory: Path, python: Path) -> dict[str, Any]:
    program = str(agent_peers.HERE / "pyagentx3_agent.py")
    dotted = ".".join(map(str, PLAYPEN))
    with agent_peers.master(directory) as (peer, socket_path):
        log = directory / "pyagentx3.log"
        command = [str(python), program, str(socket_path), dotted]
        with agent_peers.process(command, log, None, (0,)):
            names = (*PLAYPEN, 1, 0), (*PLAYPEN, 2, 0)
            requests = Requests(peer)
            unset = [VarBind(names[0], Value.null())]
            deadline = time.monotonic() + 20
            while requests.answer(requests.v3(PduType.GET, unset)).varbinds[0].value.is_exception:
                if time.monotonic() > deadline:
                    raise RuntimeError(log.read_text()[-2000:])
                time.sleep(0.1)
            return _outcome(peer, [VarBind(name, Value.integer(7)) for name in names], names)


def _outcome(peer: Peer, varbinds: list[VarBind], asked: tuple[Oid, Oid]) -> dict[str, Any]:
    requests = Requests(peer)
    answer = requests.answer(requests.v3(PduType.SET, varbinds))
    time.sleep(1)  # pyagentx3 tells what it has some time later
    unset = [VarBind(oid, Value.null()) for oid in asked]
    now = requests.answer(requests.v3(PduType.GET, unset)).varbinds
    return {
        "status": ErrorStatus(answer.error_status).name,
        "index": answer.error_index,
        "values": [None if v.value.is_exception else str(v.value.value) for v in now],
    }


def install(python: Path | None) -> None:
    """Give a Python pyagentx3, if it is to be had."""
    if python is not None:
        command = [str(python), "-m", "pip", "install", "--quiet", "pyagentx3"]
        subprocess.run(command, capture_output=True, check=False)


def _has_pyagentx3(python: Path) -> bool:
    done = subprocess.run([str(python), "-c", "import pyagentx3"], capture_output=True)
    return done.returncode == 0
