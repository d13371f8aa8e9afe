"""How long a SET of many rows keeps snmpd from answering others.

The rows are addresses of a machine, a network namespace of its own: they are tested, planned, saved
and given to the kernel before the SET is answered. Meanwhile somebody else asks snmpd for its
sysUpTime, again and again; what counts is the longest time without an answer.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import agent_peers
from agent_load import Requests
from agent_peers import Peer, v2c_message
from kernel_sets import machine_of

from vmib import objects
from vmib.rows import AddrKey, InetAddressType, RowStatus
from vmib.schema import instance
from vmib.snmp.ber import Value, VarBind
from vmib.snmp.message import PduType

ROWS = (100, 300, 900)
TIMES = 3
SYS_UP_TIME = (1, 3, 6, 1, 2, 1, 1, 3, 0)


def _varbinds(rows: int, status: RowStatus) -> Iterator[VarBind]:
    table = objects.vmibAddrTable
    for number in range(rows):
        address = IPv4Address(0x0A01_0001 + number)
        key = AddrKey(1, 1, InetAddressType.ipv4, address)
        if status is RowStatus.createAndGo:
            yield VarBind(instance(table, "prefix_length", key), Value.unsigned32(32))
        yield VarBind(instance(table, "row_status", key), Value.integer(status))


class _Watch(threading.Thread):
    """Asks for sysUpTime until it is told to stop; `longest` is the longest wait for an answer."""

    def __init__(self, peer: Peer) -> None:
        super().__init__()
        self._port = peer.port
        self.longest = 0.0
        self.is_over = False

    def run(self) -> None:
        """Ask."""
        question = v2c_message(PduType.GET, 1, [SYS_UP_TIME])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect(("127.0.0.1", self._port))
            while not self.is_over:
                began = time.perf_counter()
                client.send(question)
                client.recv(65535)
                self.longest = max(self.longest, time.perf_counter() - began)
                time.sleep(0.001)


def _set(peer: Peer, rows: int, status: RowStatus) -> dict[str, float]:
    requests = Requests(peer)
    datagram = requests.v3(PduType.SET, _varbinds(rows, status))
    before = peer.cpu()
    watch = _Watch(peer)
    watch.start()
    time.sleep(0.05)
    began = time.perf_counter()
    requests.ask(datagram)
    took = time.perf_counter() - began
    watch.is_over = True
    watch.join()
    return {"set": took, "longest": watch.longest, "processors": peer.cpu() - before}


def measured(directory: Path) -> dict[str, Any]:
    """By number of rows: seconds until the SET is answered, the longest wait, both of the best
    of several times."""
    found: dict[str, Any] = {}
    more = "[limits]\nmax_varbinds_per_set = 2000\n"
    with (
        machine_of(1) as machine,
        agent_peers.ours_under_snmpd(directory / "blocking", [machine], more) as peer,
    ):
        for rows in ROWS:
            made = []
            for _ in range(TIMES):
                made.append(_set(peer, rows, RowStatus.createAndGo))
                _set(peer, rows, RowStatus.destroy)
            found[str(rows)] = min(made, key=lambda run: run["longest"])
    return found
