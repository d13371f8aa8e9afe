"""Measurements between machines that are network namespaces: who reaches whom, and how fast.

The sockets live in the machines' namespaces, this process does not: a socket stays in the
namespace it was opened in (namespaces(7)).
"""

from __future__ import annotations

import ctypes
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vmib.errors import VmibError

_CLONE_NEWNET = 0x40000000
_PROBE = struct.Struct("!8sHH")
_MAGIC = b"vmibprob"
_PORT = 33434
_CHUNK = 1 << 16

ETHERNET_TCP_FRAME = 1514
ETHERNET_TCP_PAYLOAD = 1448
"""Octets of a full frame at layer 2, and of user data in it: TCP with time stamps over IPv4, MTU
1500."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A machine as something to measure from: its namespace and its address."""

    name: str
    namespace: Path
    address: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """A measured transfer: octets of user data, seconds, and (seconds, octets) on the way."""

    octets: int
    seconds: float
    samples: tuple[tuple[float, int], ...]


def open_socket(namespace: Path, family: int, kind: int) -> socket.socket:
    """A socket that belongs to a network namespace. Needs CAP_SYS_ADMIN; raises `OSError`."""
    result: list[socket.socket | OSError] = []

    def inside() -> None:
        try:
            handle = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(handle, _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), str(namespace))
            finally:
                os.close(handle)
            result.append(socket.socket(family, kind))
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    outcome = result[0]
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


def reachability(
    endpoints: Iterable[Endpoint], *, rounds: int = 3, patience: float = 0.5
) -> Mapping[tuple[str, str], bool]:
    """Whether a datagram gets from each machine to each other one.

    Sends at most `rounds` datagrams for each ordered pair and waits `patience` seconds after the
    last arrival of a round; a pair is reached when one of them arrives.
    """
    machines = list(endpoints)
    sockets: list[socket.socket] = []
    reached: set[tuple[int, int]] = set()
    pairs = [(a, b) for a in range(len(machines)) for b in range(len(machines)) if a != b]
    selector = selectors.DefaultSelector()
    try:
        for machine in machines:
            family = socket.AF_INET6 if ":" in machine.address else socket.AF_INET
            opened = open_socket(machine.namespace, family, socket.SOCK_DGRAM)
            sockets.append(opened)
            opened.setblocking(False)
            opened.bind(("", _PORT))
            selector.register(opened, selectors.EVENT_READ, len(sockets) - 1)
        for _ in range(rounds):
            for a, b in pairs:
                if (a, b) not in reached:
                    _send(sockets[a], machines[b].address, _PROBE.pack(_MAGIC, a, b))
            while ready := selector.select(patience):
                for key, _events in ready:
                    reached |= _arrivals(sockets[key.data], key.data)
    finally:
        selector.close()
        for opened in sockets:
            opened.close()
    return {(machines[a].name, machines[b].name): (a, b) in reached for a, b in pairs}


def _send(source: socket.socket, address: str, data: bytes) -> None:
    try:
        source.sendto(data, (address, _PORT))
    except OSError:
        return  # no route, or refused by an earlier probe's answer: not reached


def _arrivals(receiver: socket.socket, number: int) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    while True:
        try:
            data = receiver.recv(64)
        except BlockingIOError:
            return found
        except OSError:
            continue
        if len(data) == _PROBE.size:
            magic, a, b = _PROBE.unpack(data)
            if magic == _MAGIC and b == number:
                found.add((a, b))


def theory(octets: int, rate_kbps: int) -> float:
    """Seconds that octets of user data take over TCP at a rate of layer-2 octets.

    Full frames of 1514 octets carry 1448 octets of data (MTU 1500, time stamps).
    """
    frames = octets / ETHERNET_TCP_PAYLOAD
    return frames * ETHERNET_TCP_FRAME * 8 / (rate_kbps * 1000)


def transfer(source: Endpoint, sink: Endpoint, octets: int, *, timeout: float) -> Transfer:
    """Send octets over one TCP connection and time them, from connect to the last octet received.

    Raises `VmibError` when the connection fails or takes longer than `timeout` seconds.
    """
    family = socket.AF_INET6 if ":" in sink.address else socket.AF_INET
    listener = open_socket(sink.namespace, family, socket.SOCK_STREAM)
    sender = open_socket(source.namespace, family, socket.SOCK_STREAM)
    failure: list[OSError] = []

    def send() -> None:
        try:
            block = bytes(_CHUNK)
            left = octets
            while left:
                left -= sender.send(block[: min(left, _CHUNK)])
            sender.shutdown(socket.SHUT_WR)
        except OSError as error:
            failure.append(error)

    with listener, sender:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((sink.address, 0))
        listener.listen(1)
        listener.settimeout(timeout)
        sender.settimeout(timeout)
        try:
            started = time.perf_counter()
            sender.connect(listener.getsockname()[:2])
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(timeout)
                thread = threading.Thread(target=send)
                thread.start()
                samples = _receive(connection, started, timeout)
                thread.join()
        except OSError as error:
            raise VmibError(f"transfer {source.name} to {sink.name}: {error}") from error
    received = samples[-1][1]
    if failure or received != octets:
        reason = failure[0] if failure else f"only {received} of {octets} octets arrived"
        raise VmibError(f"transfer {source.name} to {sink.name}: {reason}")
    return Transfer(octets, samples[-1][0], tuple(samples))


def _receive(connection: socket.socket, started: float, timeout: float) -> list[tuple[float, int]]:
    samples = [(0.0, 0)]
    received = 0
    while data := connection.recv(_CHUNK):
        received += len(data)
        samples.append((time.perf_counter() - started, received))
        if samples[-1][0] > timeout:
            raise TimeoutError(f"after {received} octets")
    return samples
