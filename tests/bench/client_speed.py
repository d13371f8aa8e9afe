"""How fast the manager's client makes SETs to many agents, beside pysnmp, ezsnmp and snmpset.

Where many agents are wanted, one process stands for them (`responder.py`), with a socket and an
SNMP engine for each: two CPUs have no room for hundreds of agents beside the client. Up to four
real agents are asked as well, those in C (`c/agent.c`) and vMIB's, which stage what they are told
in a transaction. SNMPv3, SHA-256 and AES-128.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import agent_peers
from agent_load import Requests
from agent_peers import PASSPHRASES, USER, Peer

MANY: Mapping[int, int] = {1: 32, 64: 2, 200: 1}
"""Agents that one process stands for, and SETs under way at a time to each of them."""
FEW: Mapping[int, int] = {1: 32, 4: 16}
"""The same for real agents."""
COUNTS = {"vmib": 8000, "pysnmp": 800, "ezsnmp": 400, "snmpset": 40}
ROUNDS = 3
RESPONDER, IN_C, OURS = "a responder for all", "agents in C", "vMIB's agents"

Result = dict[str, dict[str, float]]
"""Client -> SETs per second and CPU microseconds for one SET."""


def ezsnmp_python(directory: Path) -> Path | None:
    """A Python that has ezsnmp, in a virtual environment made there; None if that fails."""
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", "ezsnmp"], capture_output=True, check=False
    )
    return python if done.returncode == 0 else None


def measured(program: Path, directory: Path, ezsnmp: Path | None) -> dict[str, Any]:
    """All results: by kind of agents, by their number, by client."""
    found: dict[str, Any] = {RESPONDER: {}, IN_C: {}, OURS: {}}
    for number, at_once in MANY.items():
        with _responder(directory / f"many-{number}", number) as peers:
            found[RESPONDER][str(number)] = _by_client(peers, at_once, COUNTS, ezsnmp)
    for number, at_once in FEW.items():
        with _agents_in_c(program, directory / f"c-{number}", number) as peers:
            found[IN_C][str(number)] = _by_client(peers, at_once, COUNTS, ezsnmp)
        with _own_agents(directory / f"own-{number}", number) as peers:
            counts = {client: COUNTS[client] for client in ("vmib", "pysnmp")}
            found[OURS][str(number)] = _by_client(peers, at_once, counts, None)
    return found


def _by_client(
    peers: Sequence[Peer], at_once: int, counts: Mapping[str, int], ezsnmp: Path | None
) -> Result:
    rounds: dict[str, list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for client, count in counts.items():
            python = ezsnmp if client == "ezsnmp" else Path(sys.executable)
            if python is not None:
                figures = _run(python, client, count, at_once, peers)
                rounds.setdefault(client, []).append(figures)
    return {
        client: {
            "per_second": statistics.median(rate for rate, _ in figures),
            "microseconds": statistics.median(cost for _, cost in figures),
        }
        for client, figures in rounds.items()
    }


def _run(
    python: Path, client: str, count: int, at_once: int, peers: Iterable[Peer]
) -> tuple[float, float]:
    ports = [str(peer.port) for peer in peers]
    program = str(agent_peers.HERE / "client_programs.py")
    command = ["taskset", "-c", "1", str(python), program, client, str(count), str(at_once), *ports]
    environment = {
        "BENCH_USER": USER,
        "BENCH_AUTH": PASSPHRASES[0],
        "BENCH_PRIV": PASSPHRASES[1],
        "BENCH_OID": ".".join(map(str, agent_peers.row_oid(2, 1, 2))),
        "SNMPCONFPATH": str(_snmpset_configuration(peers)),
        "MIBS": "",
    }
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{client}: {done.stderr[-2000:]}")
    sets, seconds, cpu = map(float, done.stdout.split())
    return sets / seconds, cpu / sets * 1e6


def _snmpset_configuration(peers: Iterable[Peer]) -> Path:
    """A directory with the snmp.conf of the user."""
    home = next(iter(peers)).log.parent / "client"
    home.mkdir(exist_ok=True)
    file = home / "snmp.conf"
    file.touch(mode=0o600)
    file.write_text(
        f"defVersion 3\ndefSecurityName {USER}\ndefSecurityLevel authPriv\ndefAuthType SHA-256\n"
        f'defPrivType AES\ndefAuthPassphrase "{PASSPHRASES[0]}"\n'
        f'defPrivPassphrase "{PASSPHRASES[1]}"\n'
    )
    return home


@contextmanager
def _responder(directory: Path, number: int) -> Iterator[list[Peer]]:
    directory.mkdir()
    command = [sys.executable, str(agent_peers.HERE / "responder.py"), str(number)]
    process = subprocess.Popen(["taskset", "-c", "0", *command], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        ports = map(int, process.stdout.readline().split())
        log = directory / "log"
        yield [Peer(RESPONDER, port, (process.pid,), 0, 0.0, log) for port in ports]
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _agents_in_c(program: Path, directory: Path, number: int) -> Iterator[list[Peer]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(agent_peers.in_c(program, directory / str(n), 10))
            for n in range(number)
        ]


@contextmanager
def _own_agents(directory: Path, number: int) -> Iterator[list[Peer]]:
    with ExitStack() as stack:
        peers = [
            stack.enter_context(agent_peers.ours(directory / str(n), 10)) for n in range(number)
        ]
        for peer in peers:
            Requests(peer).open_transaction()
        yield peers
