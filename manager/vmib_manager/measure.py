"""How fast it goes between machines that are network namespaces.

The sockets live in the machines' namespaces, this process does not: a socket stays in the
namespace it was opened in (namespaces(7)).
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from vmib.errors import VmibError

from . import lab_spec, namespaces
from .model import Model
from .reachability import primary

_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
"""As in asm-generic/socket.h; Python has no names for them."""
_TIMESPEC = struct.Struct("@ll")
_BUFFER = 16 << 20
_CHUNK = 1 << 16
_DATAGRAM = 1472
_SILENCE = 0.5
_TICK = 0.001

TCP_HEADERS = 66
"""Octets of a frame at layer 2 that are no user data: Ethernet 14, IPv4 20, TCP with time stamps
32."""
UDP_HEADERS = 42
"""The same: Ethernet 14, IPv4 20, UDP 8."""
TCP_PAYLOAD = 1448
"""Octets of user data in a full frame, with an MTU of 1500."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A machine as something to measure from: the name of its namespace, and its address."""

    name: str
    namespace: str
    address: str


@dataclass(frozen=True, slots=True)
class Transfer:
    """A measured transfer: octets of user data, seconds, and (seconds, octets) on the way."""

    octets: int
    seconds: float
    samples: tuple[tuple[float, int], ...]


def endpoints(lab: str, model: Model) -> dict[str, Endpoint]:
    """The machines of a lab that are members of sites, by name, with their primary addresses."""
    found = ((name, primary(attachments)) for name, attachments in model.attachments.items())
    return {
        name: Endpoint(name, lab_spec.namespace(lab, name), str(address))
        for name, address in found
        if address is not None
    }


def open_socket(namespace: str, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """A socket that belongs to a named network namespace. Needs CAP_SYS_ADMIN; raises `OSError`."""

    def inside() -> socket.socket:
        with namespaces.entered(namespace):
            return socket.socket(family, kind, protocol)

    return namespaces.in_thread(inside)


def wire_octets(octets: int) -> int:
    """Octets at layer 2 that carry octets of user data over TCP and IPv4 (MTU 1500, time stamps).

    What vMIB's rates count: Ethernet header and all above it; no checksum, preamble or gap.
    """
    frames = -(-octets // TCP_PAYLOAD)
    return octets + frames * TCP_HEADERS


def theory(octets: int, rate: int) -> float:
    """Seconds that octets of user data take over TCP at a rate in kbit/s of layer 2."""
    return wire_octets(octets) * 8 / (rate * 1000)


def transfer(
    source: Endpoint,
    sink: Endpoint,
    octets: int,
    *,
    timeout: float,
    tell: Callable[[int], None] = lambda _: None,
) -> Transfer:
    """Send octets over one TCP connection and time them, from connect to the last octet received.

    `tell` is told how many have arrived. Raises `VmibError` when the connection fails or takes
    longer than `timeout` seconds.
    """
    family = socket.AF_INET6 if ":" in sink.address else socket.AF_INET
    failure: list[OSError] = []
    samples: list[tuple[float, int]] = []
    with (
        open_socket(sink.namespace, family, socket.SOCK_STREAM) as listener,
        open_socket(source.namespace, family, socket.SOCK_STREAM) as sender,
    ):
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
                thread = threading.Thread(target=_send, args=(sender, octets, failure))
                thread.start()
                for sample in _arrivals(connection, started + timeout):
                    samples.append((sample[0] - started, sample[1]))
                    tell(sample[1])
                thread.join()
        except OSError as error:
            raise VmibError(f"transfer {source.name} to {sink.name}: {error}") from error
    received = samples[-1][1] if samples else 0
    if failure or received != octets:
        reason = failure[0] if failure else f"only {received} of {octets} octets arrived"
        raise VmibError(f"transfer {source.name} to {sink.name}: {reason}")
    return Transfer(octets, samples[-1][0], tuple(samples))


def _send(sender: socket.socket, octets: int, failure: list[OSError]) -> None:
    block = bytes(_CHUNK)
    try:
        while octets:
            octets -= sender.send(block[: min(octets, _CHUNK)])
        sender.shutdown(socket.SHUT_WR)
    except OSError as error:
        failure.append(error)


def _arrivals(connection: socket.socket, deadline: float) -> Iterator[tuple[float, int]]:
    """When octets arrive, and how many have by then."""
    received = 0
    while data := connection.recv(_CHUNK):
        now = time.perf_counter()
        received += len(data)
        yield now, received
        if now > deadline:
            raise TimeoutError(f"not done after {received} octets")


def flow(source: Endpoint, sink: Endpoint, rate: int, seconds: float) -> float:
    """The rate in kbit/s of layer 2 at which full frames arrive that are sent faster than `rate`.

    The frames carry UDP over IPv4 and are sent at 5/4 of `rate`, in kbit/s, for some seconds; of
    the last four fifths of that time it is counted how many arrive, by the kernel's time stamps.
    Raises `VmibError` when hardly any do, and `OSError`.
    """
    with (
        open_socket(sink.namespace, socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        open_socket(source.namespace, socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        receiver.bind((sink.address, 0))
        receiver.settimeout(_SILENCE)
        sender.connect(receiver.getsockname())
        thread = threading.Thread(target=_flood, args=(sender, rate * 5 / 4, seconds))
        thread.start()
        try:
            stamps = list(_stamps(receiver))
        finally:
            thread.join()
    begin = stamps[0] + seconds / 5 if stamps else 0.0
    counted = [stamp for stamp in stamps if begin <= stamp <= begin + seconds * 4 / 5]
    if len(counted) < 2:
        raise VmibError(f"flow {source.name} to {sink.name}: only {len(stamps)} frames arrived")
    frame_bits = (_DATAGRAM + UDP_HEADERS) * 8
    return (len(counted) - 1) * frame_bits / (counted[-1] - counted[0]) / 1000


def _flood(sender: socket.socket, rate: float, seconds: float) -> None:
    """Send full frames at a rate in kbit/s; what a queue refuses is lost, as it is to be."""
    datagram = bytes(_DATAGRAM)
    pause = (_DATAGRAM + UDP_HEADERS) * 8 / (rate * 1000)
    began = time.perf_counter()
    sent = 0
    while (now := time.perf_counter() - began) < seconds:
        while sent * pause <= now:
            with suppress(OSError):
                sender.send(datagram)
            sent += 1
        time.sleep(_TICK)


def _stamps(receiver: socket.socket) -> Iterator[float]:
    """When datagrams have arrived, in seconds, until none arrives any more."""
    with suppress(TimeoutError):
        while True:
            _, ancillary, _, _ = receiver.recvmsg(0, 64)
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                    whole, nanoseconds = _TIMESPEC.unpack(data[: _TIMESPEC.size])
                    yield whole + nanoseconds / 1e9
