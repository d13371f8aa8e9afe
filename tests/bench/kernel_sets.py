"""What a SET costs that the kernel has to follow before it is answered.

One machine with ten interfaces that exist, in a namespace of its own: each SET of vmibShapeRate is
checked, planned, saved with an fsync, and made in the kernel. vMIB's agent alone does that.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import agent_peers
from agent_load import Requests
from agent_peers import row_oid

from vmib.machines import Machine, MachineVif
from vmib.snmp.ber import Value, VarBind
from vmib.snmp.message import PduType

VIFS = 10
SETS = 40
ROUNDS = 3
VARBINDS = (1, 20)
"""Both directions of each interface have a row."""


@contextmanager
def machine_of(vifs: int) -> Iterator[Machine]:
    """A machine that runs: a namespace with so many interfaces."""
    name = f"vmib-bench-{os.getpid()}"
    found = []
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        for number in range(vifs):
            inside, mac = f"eth{number}", f"02:00:00:00:00:{number + 1:02x}"
            vif = MachineVif(number, mac, f"benchvif{number}", inside)
            peer = ["type", "veth", "peer", "name", inside, "address", mac, "netns", name]
            subprocess.run(["ip", "link", "add", vif.host_device, *peer], check=True)
            subprocess.run(["ip", "link", "set", vif.host_device, "up"], check=True)
            subprocess.run(["ip", "-n", name, "link", "set", inside, "up"], check=True)
            found.append(vif)
        yield Machine(str(UUID(int=1)), "m1", f"/run/netns/{name}", tuple(found))
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def measured(directory: Path) -> dict[str, Any]:
    """By number of varbinds in a SET: the agent's CPU microseconds, and SETs answered in a second,
    one after the other."""
    found: dict[str, Any] = {}
    with (
        machine_of(VIFS) as machine,
        agent_peers.ours(directory / "kernel", VIFS, there=[machine]) as peer,
    ):
        requests, rates = Requests(peer), random.Random(1)
        for varbinds in VARBINDS:
            rows = [(vif, way) for vif in range(1, VIFS + 1) for way in (1, 2)]
            costs, speeds = [], []
            for _ in range(ROUNDS):
                asked = []
                for number in range(SETS):
                    first = number * varbinds % len(rows)
                    cells = [row_oid(2, *row) for row in rows[first : first + varbinds]]
                    said = [
                        VarBind(oid, Value.unsigned32(rates.randint(1, 10**6))) for oid in cells
                    ]
                    asked.append(requests.v3(PduType.SET, said))
                before, began = peer.cpu(), time.perf_counter()
                for datagram in asked:
                    requests.ask(datagram)
                took = time.perf_counter() - began
                costs.append((peer.cpu() - before) / SETS * 1e6)
                speeds.append(SETS / took)
            cost, rate = statistics.median(costs), statistics.median(speeds)
            found[str(varbinds)] = {"cost": cost, "rate": rate}
    return found
