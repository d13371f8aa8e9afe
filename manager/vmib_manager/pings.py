"""Who reaches whom, of machines that are network namespaces: each pings each other one."""

from __future__ import annotations

import selectors
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from ipaddress import ip_address

from .measure import Endpoint, open_socket

_ECHO = struct.Struct("!BBHHH8s")
_ECHO_REQUEST = {False: 8, True: 128}
_ECHO_REPLY = {False: 0, True: 129}
_MAGIC = b"vmibping"


def ping_all(
    machines: Sequence[Endpoint], *, rounds: int = 3, patience: float = 0.5
) -> dict[tuple[str, str], bool]:
    """Whether each machine gets an answer to a ping of each other one, for each ordered pair.

    The pings are ICMP echo requests (RFC 792, RFC 4443) that the machines' kernels answer, all at
    once; those without an answer are sent again, `rounds` times in all, `patience` seconds after
    the last arrival. Raises `OSError`.
    """
    missing = {(a, b) for a in range(len(machines)) for b in range(len(machines)) if a != b}
    answered: set[tuple[int, int]] = set()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        pingers = [_Pinger(number, machines) for number in range(len(machines))]
        for pinger in pingers:
            stack.enter_context(pinger.socket)
            selector.register(pinger.socket, selectors.EVENT_READ, pinger)
        for _ in range(rounds):
            for a, b in sorted(missing - answered):
                pingers[a].ping(b)
                answered |= _answers(selector, 0)
            while found := _answers(selector, patience):
                answered |= found
    return {(machines[a].name, machines[b].name): (a, b) in answered for a, b in sorted(missing)}


def _answers(selector: selectors.BaseSelector, patience: float) -> set[tuple[int, int]]:
    """What has arrived, or arrives next within some seconds; empty if nothing does."""
    until = time.monotonic() + patience
    while ready := selector.select(max(0.0, until - time.monotonic())):
        found = {answer for key, _ in ready for answer in key.data.answers()}
        if found:
            return found
    return set()


class _Pinger:
    """A machine that pings others: requests have its number as identifier, the other's as
    sequence number."""

    def __init__(self, number: int, machines: Sequence[Endpoint]) -> None:
        self._number = number
        self._machines = machines
        own = machines[number]
        self._v6 = ":" in own.address
        if self._v6:
            self.socket = open_socket(
                own.namespace, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6
            )
        else:
            self.socket = open_socket(
                own.namespace, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP
            )
        self.socket.setblocking(False)

    def ping(self, other: int) -> None:
        """Send a request; without a route to the other, or with a full queue, none is sent."""
        kind = _ECHO_REQUEST[self._v6]
        request = _ECHO.pack(kind, 0, 0, self._number, other, _MAGIC)
        if not self._v6:  # of ICMPv6 the kernel makes the checksum (RFC 3542, section 3.1)
            request = _ECHO.pack(kind, 0, internet_checksum(request), self._number, other, _MAGIC)
        with suppress(OSError):
            self.socket.sendto(request, (self._machines[other].address, 0))

    def answers(self) -> Iterator[tuple[int, int]]:
        """Those that have arrived."""
        while True:
            try:
                packet, sender = self.socket.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError:  # a router's answer to an earlier request, such as no route
                continue
            message = packet if self._v6 else packet[4 * (packet[0] & 0x0F) :]
            if len(message) != _ECHO.size:
                continue
            kind, _, _, identifier, other, magic = _ECHO.unpack(message)
            expected = (_ECHO_REPLY[self._v6], self._number, _MAGIC)
            if (kind, identifier, magic) == expected and self._is_from(sender[0], other):
                yield self._number, other

    def _is_from(self, address: str, other: int) -> bool:
        wanted = self._machines[other].address if other < len(self._machines) else ""
        return ip_address(address.partition("%")[0]) == ip_address(wanted or "::")


def internet_checksum(octets: bytes) -> int:
    """The checksum of RFC 1071 of an even number of octets."""
    words: tuple[int, ...] = struct.unpack(f"!{len(octets) // 2}H", octets)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
