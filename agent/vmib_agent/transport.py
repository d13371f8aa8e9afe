"""UDP sockets on an asyncio loop: each datagram is answered from where it arrived."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from ipaddress import ip_address
from typing import Any

from vmib.errors import VmibError

from .config import Endpoint
from .logs import RateLimit, event, log, together

Handler = Callable[[bytes, tuple[str, int]], bytes | None]

_MAX_DATAGRAM = 65535
_DATAGRAMS_IN_A_ROW = 32
_RECEIVE_BUFFER = 4 * 1024 * 1024
_IP_PKTINFO = 8
_ANCILLARY_OCTETS = 256


class CannotListen(VmibError):
    """An address that cannot be bound."""


def bind(endpoint: Endpoint) -> socket.socket:
    """A UDP socket on an address. Raises `CannotListen`."""
    family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(endpoint)
    except OSError as error:
        bound.close()
        raise CannotListen(f"cannot listen on {endpoint}: {error.strerror}") from None
    return bound


class _OneAddress:
    """A socket on one address: there is no other that answers could leave from."""

    def __init__(self, listener: socket.socket) -> None:
        self.receive = listener.recvfrom
        self.send: Callable[[bytes, Any], object] = listener.sendto


class _AllAddresses:
    """A socket on all addresses, and where the datagram received last was sent to."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._ancillary: list[tuple[int, int, bytes]] = []
        if listener.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)

    def receive(self, octets: int) -> tuple[bytes, Any]:
        datagram, self._ancillary, _, address = self._listener.recvmsg(octets, _ANCILLARY_OCTETS)
        return datagram, address

    def send(self, answer: bytes, address: Any) -> object:
        origin = _from_the_same_address(self._ancillary)
        return self._listener.sendmsg([answer], origin, 0, address)


class Listeners:
    """Sockets whose datagrams go through one handler."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sockets: Iterable[socket.socket], handler: Handler
    ) -> None:
        self._loop = loop
        self._handler = handler
        self._complaints = RateLimit()
        self.sockets = tuple(sockets)
        for listener in self.sockets:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            own = ip_address(listener.getsockname()[0].partition("%")[0])
            door = _AllAddresses(listener) if own.is_unspecified else _OneAddress(listener)
            loop.add_reader(listener, partial(self._readable, door.receive, door.send))

    def close(self) -> None:
        """Stop listening."""
        for listener in self.sockets:
            self._loop.remove_reader(listener)
            listener.close()

    def _readable(
        self,
        receive: Callable[[int], tuple[bytes, Any]],
        send: Callable[[bytes, Any], object],
    ) -> None:
        with together:
            for _ in range(_DATAGRAMS_IN_A_ROW):
                try:
                    datagram, address = receive(_MAX_DATAGRAM)
                except (BlockingIOError, InterruptedError):
                    return
                except OSError as error:
                    self._complain("cannot-receive", error)
                    return
                answer = self._handler(datagram, address[:2])
                if answer is not None:
                    try:
                        send(answer, address)
                    except OSError as error:
                        self._complain("cannot-send", error)

    def _complain(self, kind: str, error: OSError) -> None:
        suppressed = self._complaints.suppressed_before(kind)
        if suppressed is not None:
            log.warning(event(kind, reason=error.strerror, suppressed=suppressed))


def _from_the_same_address(ancillary: Iterable[tuple[int, int, bytes]]) -> list[Any]:
    """What makes the answer leave from the address that the request was sent to (RFC 3417).

    Of a datagram that waited in a passed socket the kernel knows no local address (ip(7),
    ipi_spec_dst), only the destination in its header.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
            _, local, destination = struct.unpack("@i4s4s", data)
            local = local if any(local) else destination
            return [(level, kind, struct.pack("@i4s4s", 0, local, bytes(4)))]
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            return [(level, kind, data)]
    return []
