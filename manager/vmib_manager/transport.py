"""UDP for requests to many agents: matching, retransmission, and a bound on what is in flight.

A request is retransmitted as the same octets, so that an agent can recognise the duplicate of a
SET, with pauses that double. What arrives after its request has ended is dropped and counted.
"""

from __future__ import annotations

import asyncio
import errno
import math
import secrets
import socket
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from vmib.errors import VmibError
from vmib.snmp import DecodeError
from vmib.snmp.channel import NotPlain, Outline, outline
from vmib.snmp.message import MAX_INT, CommunityMessage, V3Message, decode_message

from .snmp_errors import AgentError

Peer = tuple[Any, ...]
"""A socket address of its family."""

Accept = Callable[[CommunityMessage | V3Message, bytes], object | None]
"""Makes the result from a decoded message and its datagram; None means: wait for another.

A VmibError that it raises ends the request.
"""

AcceptSealed = Callable[[Outline, bytes], object | None]
"""The same for an SNMPv3 message with privacy, from its octets alone; raises `NotPlain` where the
message has to be decoded."""

REPLY_COST = 4096
"""Octets of receive buffer that Linux charges, at most, for a reply of one Ethernet frame."""

_READS_AT_ONCE = 64
_BUFFER_FULL = (errno.EAGAIN, errno.ENOBUFS)
_TICK = 0.02
"""Seconds between two looks at what has not been answered."""
_RETRY_FULL = 0.001


class NoReply(Exception):
    """The last pause ended without an answer."""


def pauses(total: float, attempts: int) -> Iterator[float]:
    """Seconds to wait after each of `attempts` transmissions: doubling, `total` in all."""
    first = total / ((1 << attempts) - 1)
    return (first * (1 << attempt) for attempt in range(attempts))


class Exchange:
    """One request: its octets, the pauses that are left, and the future of its result."""

    __slots__ = (
        "_datagram",
        "_pauses",
        "accept",
        "accept_sealed",
        "due",
        "endpoint",
        "future",
        "name",
        "peer",
    )

    def __init__(
        self,
        endpoint: Endpoint,
        name: str,
        peer: Peer,
        datagram: bytes,
        accept: Accept,
        accept_sealed: AcceptSealed | None,
    ) -> None:
        self.endpoint = endpoint
        self.name = name
        self.peer = peer
        self.accept = accept
        self.accept_sealed = accept_sealed
        self.future: asyncio.Future[object] = endpoint.loop.create_future()
        self._datagram = datagram
        self._pauses: Iterator[float] = iter(())
        self.due = math.inf

    async def run(self, timeout: float, attempts: int) -> object:
        """Transmit until there is a result; raises NoReply, or what `accept` raised."""
        self._pauses = pauses(timeout, attempts)
        self.transmit()
        return await self.future

    def transmit(self) -> None:
        """Send, and be `due` again when the answer has not come by then."""
        pause = next(self._pauses, None)
        if pause is None:
            self.due = math.inf
            if not self.future.done():
                self.future.set_exception(NoReply())
            return
        self._send()
        self.due = self.endpoint.loop.time() + pause

    def _send(self) -> None:
        if self.future.done():
            return
        try:
            self.endpoint.socket.sendto(self._datagram, self.peer)
        except OSError as error:
            if error.errno in _BUFFER_FULL:
                self.endpoint.loop.call_later(_RETRY_FULL, self._send)
            else:
                self.fail(AgentError(self.name, f"cannot be sent to: {error.strerror}"))

    def fail(self, error: Exception) -> None:
        """End the request with an error, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)

    def receive(self, accept: Callable[[], object | None]) -> bool:
        """Whether a message, from which `accept` makes the result, is the answer, good or bad."""
        if self.future.done():
            return False
        try:
            result = accept()
        except VmibError as error:
            self.future.set_exception(error)
            return True
        if result is None:
            return False
        self.future.set_result(result)
        return True


class Endpoint:
    """One socket of one address family, for any number of agents."""

    def __init__(self, family: int, max_in_flight: int, receive_buffer: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.dropped = 0
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        granted = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        # All answers of what is in flight fit in the buffer, even if nobody reads for a while.
        self._slots = asyncio.Semaphore(max(1, min(max_in_flight, granted // REPLY_COST)))
        self._pending: dict[int, Exchange] = {}
        self._last_id = secrets.randbelow(MAX_INT)
        self._timer: asyncio.TimerHandle | None = None
        self.loop.add_reader(self.socket, self._readable)

    def close(self) -> None:
        """Close the socket; whoever still waits gets CancelledError."""
        self.loop.remove_reader(self.socket)
        if self._timer is not None:
            self._timer.cancel()
        self.socket.close()
        for exchange in self._pending.values():
            exchange.future.cancel()

    def next_id(self) -> int:
        """A message or request ID that no pending request has."""
        while True:
            self._last_id = self._last_id % MAX_INT + 1
            if self._last_id not in self._pending:
                return self._last_id

    async def request(
        self,
        name: str,
        peer: Peer,
        build: Callable[[int], bytes],
        accept: Accept,
        timeout: float,
        attempts: int,
        accept_sealed: AcceptSealed | None = None,
    ) -> object:
        """The result of one request, whose octets `build` makes when its turn comes.

        `build` gets the ID by which the answer is matched (msgID, in SNMPv2c request-id). The
        time starts when there is a free place in flight.
        """
        async with self._slots:
            number = self.next_id()
            exchange = Exchange(self, name, peer, build(number), accept, accept_sealed)
            self._pending[number] = exchange
            if self._timer is None:
                self._timer = self.loop.call_later(_TICK, self._look)
            try:
                return await exchange.run(timeout, attempts)
            finally:
                del self._pending[number]

    def _look(self) -> None:
        """Send again what is due. One timer for all costs less than one for each."""
        now = self.loop.time()
        for exchange in [found for found in self._pending.values() if found.due <= now]:
            exchange.transmit()
        self._timer = self.loop.call_later(_TICK, self._look) if self._pending else None

    def _readable(self) -> None:
        for _ in range(_READS_AT_ONCE):
            try:
                datagram, peer = self.socket.recvfrom(65535)
            except OSError:  # nothing more to read, or a late ICMP error: retransmission decides
                return
            if not self._matched(datagram, peer):
                self.dropped += 1

    def _matched(self, datagram: bytes, peer: Peer) -> bool:
        try:
            found = outline(datagram)
            exchange = self._asked(int.from_bytes(found.msg_id[2:]), peer)
            if exchange is not None and exchange.accept_sealed is not None:
                return exchange.receive(partial(exchange.accept_sealed, found, datagram))
        except NotPlain:
            pass
        try:
            message = decode_message(datagram)
        except DecodeError:
            return False
        number = message.msg_id if isinstance(message, V3Message) else message.pdu.request_id
        exchange = self._asked(number, peer)
        if exchange is None:
            return False
        return exchange.receive(partial(exchange.accept, message, datagram))

    def _asked(self, number: int, peer: Peer) -> Exchange | None:
        """The request with this ID, if it was this peer that was asked."""
        exchange = self._pending.get(number)
        return None if exchange is None or exchange.peer[:2] != peer[:2] else exchange
