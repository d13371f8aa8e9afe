"""Prometheus' SNMP exporter as Debian has it, walking a table of each agent."""

from __future__ import annotations

import re
import socket
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterable
from pathlib import Path

from agent_peers import COMMUNITY, Peer, exporter_program

from vmib import objects

CELLS = 10_000
SCRAPES = 7
_DURATION = re.compile(r"^snmp_scrape_walk_duration_seconds\S* ([0-9.e+-]+)$", re.MULTILINE)
_PDUS = re.compile(r"^snmp_scrape_pdus_returned\S* ([0-9.e+-]+)$", re.MULTILINE)


def _configuration(columns: int) -> str:
    walked = objects.vmibShapeTable.columns[1 : 1 + columns]
    names = "\n".join(f"  - {'.'.join(map(str, column.oid))}" for column in walked)
    indexes = "".join(
        f"    - labelname: {name}\n      type: gauge\n" for name in ("vm", "vif", "direction")
    )
    metrics = "".join(
        f"  - name: {column.name}\n    oid: {'.'.join(map(str, column.oid))}\n    type: gauge\n"
        f"    help: {column.name}\n    indexes:\n{indexes}"
        for column in walked
    )
    return (
        f"vmib:\n  walk:\n{names}\n  metrics:\n{metrics}  version: 2\n  max_repetitions: 25\n"
        f"  timeout: 30s\n  auth:\n    community: {COMMUNITY}\n"
    )


def scrape_seconds(peers: Iterable[Peer], directory: Path) -> dict[str, object]:
    """By agent: the median time of a walk over 10,000 cells, and the number of its cells."""
    program = exporter_program()
    if program is None:
        return {}
    peers = list(peers)
    columns = max(1, CELLS // (2 * peers[0].vifs))
    file = directory / "snmp.yml"
    file.write_text(_configuration(columns))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(program), f"--config.file={file}", f"--web.listen-address=127.0.0.1:{port}"]
    with (directory / "exporter.log").open("wb") as log:
        exporter = subprocess.Popen(["taskset", "-c", "1", *command], stdout=log, stderr=log)
    try:
        _wait_for(port)
        found: dict[str, list[float]] = {peer.name: [] for peer in peers}
        cells = 0.0
        for _ in range(SCRAPES):
            for peer in peers:
                text = _scrape(port, peer)
                duration, pdus = _DURATION.search(text), _PDUS.search(text)
                if duration is None or pdus is None:
                    raise RuntimeError(f"the exporter tells no duration: {text[:500]}")
                found[peer.name].append(float(duration[1]))
                cells = float(pdus[1])
        return {
            "cells": cells,
            "seconds": {name: statistics.median(times) for name, times in found.items()},
            "first_seconds": {name: times[0] for name, times in found.items()},
        }
    finally:
        exporter.terminate()
        exporter.wait()


def _scrape(port: int, peer: Peer) -> str:
    url = f"http://127.0.0.1:{port}/snmp?module=vmib&target=127.0.0.1:{peer.port}"
    with urllib.request.urlopen(url, timeout=120) as response:
        return str(response.read().decode())


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the exporter does not listen")
