"""A small rtnetlink socket: many requests in few system calls, every answer matched.

Requests are packed into buffers and sent together; only the last of a buffer asks for an
acknowledgement, errors come unasked and carry the sequence number of what they refuse
(netlink(7), RFC 3549). A second socket hears what anybody changes.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, TypeVar

from vmib.errors import Unavailable

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x001, 0x004, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
_NLM_F_DUMP_INTR = 0x010
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_MESSAGE_TYPES_BELOW_OWN = 16

RTNLGRP_LINK, RTNLGRP_TC = 1, 4

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 1, 10, 11
_NETLINK_GET_STRICT_CHK = 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER = 8 << 20
_MOST_OCTETS = 256 << 10
_MOST_REQUESTS = 1000
_RECEIVE = 256 << 10
_MOST_SEQUENCE = 0x7FFF_FFFF
_DUMP_TRIES = 10
_CLONE_NEWNET = 0x4000_0000

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")

T = TypeVar("T")


class Message(NamedTuple):
    """A netlink message: what it is, from which port, and its body after the header."""

    kind: int
    flags: int
    sequence: int
    port: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A request: message type, flags besides REQUEST and ACK, and the body.

    The errors in `tolerated` count as success.
    """

    kind: int
    flags: int
    body: bytes
    tolerated: frozenset[int] = frozenset()


class Refused(Exception):
    """The kernel refused the request at `index`; `text` is its extended acknowledgement, if any."""

    def __init__(self, index: int, number: int, text: str) -> None:
        reason = os.strerror(number)
        super().__init__(f"{text} ({reason})" if text else reason)
        self.index = index
        self.errno = number
        self.text = text


class Overrun(Exception):
    """Events were lost: everything may have changed."""


def messages(data: bytes | memoryview) -> Iterator[Message]:
    """The messages of one datagram."""
    offset = 0
    while offset + _HEADER.size <= len(data):
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or offset + length > len(data):
            raise ValueError(f"message of {length} octets at {offset} of {len(data)}")
        body = bytes(data[offset + _HEADER.size : offset + length])
        yield Message(kind, flags, sequence, port, body)
        offset += length + (-length % 4)


def _error(message: Message) -> tuple[int, str]:
    """errno (0 for success) and text (NLMSGERR_ATTR_MSG 1) of an NLMSG_ERROR or NLMSG_DONE."""
    (negative,) = _ERRNO.unpack_from(message.body)
    if message.kind == _NLMSG_DONE or not message.flags & _NLM_F_ACK_TLVS:
        return -negative, ""
    (length,) = struct.unpack_from("=I", message.body, 4)
    offset = 4 + (_HEADER.size if message.flags & _NLM_F_CAPPED else length + (-length % 4))
    while offset + 4 <= len(message.body):
        size, kind = _ATTR.unpack_from(message.body, offset)
        if size < 4:
            break
        if kind & 0x3FFF == 1:
            text = message.body[offset + 4 : offset + size]
            return -negative, text.rstrip(b"\0").decode("utf-8", "replace")
        offset += size + (-size % 4)
    return -negative, ""


def in_namespace(path: Path | None, work: Callable[[], T]) -> T:
    """Run `work` inside the network namespace at `path`, in a thread that ends with it.

    Sockets opened by `work` stay in that namespace. Without a path it runs here.
    """
    if path is None:
        return work()
    done: list[T] = []
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(descriptor, _CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number), str(path))
            finally:
                os.close(descriptor)
            done.append(work())
        except BaseException as error:  # handed to the caller's thread
            failed.append(error)

    thread = threading.Thread(target=enter, name="vmib-netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def in_new_namespace(work: Callable[[], T]) -> T | None:
    """Run `work` in a network namespace that ends with it, in a thread of its own.

    None if it may not be made; that takes CAP_SYS_ADMIN.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) == 0:
                done.append(work())
        except BaseException as error:  # handed to the caller's thread
            failed.append(error)

    thread = threading.Thread(target=enter, name="vmib-new-netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0] if done else None


def _open(groups: int) -> socket.socket:
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except PermissionError:
        opened.close()
        raise Unavailable("rtnetlink", "takes CAP_NET_ADMIN, which this process lacks") from None
    opened.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _BUFFER)
    for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
        opened.setsockopt(_SOL_NETLINK, option, 1)
    opened.bind((0, 0))
    for group in (RTNLGRP_LINK, RTNLGRP_TC) if groups else ():
        opened.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)
    return opened


class Rtnetlink:
    """Requests and events of one network namespace, that of `namespace` or the caller's.

    Raises `Unavailable` without the right to change it, `OSError` if it cannot be entered.
    """

    def __init__(self, namespace: Path | None = None) -> None:
        self._requests, self._events = in_namespace(namespace, lambda: (_open(0), _open(1)))
        self._events.setblocking(False)
        self._sequence = 0
        self._buffer = memoryview(bytearray(_RECEIVE))
        self.port: int = self._requests.getsockname()[0]

    def __enter__(self) -> Rtnetlink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close both sockets."""
        self._requests.close()
        self._events.close()

    def fileno(self) -> int:
        """The descriptor that is readable when there are events."""
        return self._events.fileno()

    def _receive(self, source: socket.socket) -> memoryview:
        return self._buffer[: source.recv_into(self._buffer)]

    def _next_sequence(self) -> int:
        return self._sequence + 1 if self._sequence < _MOST_SEQUENCE else 1

    def transact(self, requests: Sequence[Request]) -> None:
        """Carry out the requests in order.

        Raises `Refused` for the first that the kernel refuses. Requests sent in the same buffer
        have then been tried too: the kernel does not stop at an error.
        """
        start = 0
        while start < len(requests):
            start = self._send_some(requests, start)

    def _send_some(self, requests: Sequence[Request], start: int) -> int:
        """Send as many as one buffer takes, wait for their outcome; where to go on."""
        first = self._next_sequence()
        buffer = bytearray()
        index = start
        while index < len(requests) and index - start < _MOST_REQUESTS:
            request = requests[index]
            length = _HEADER.size + len(request.body)
            if buffer and len(buffer) + length > _MOST_OCTETS:
                break
            flags = request.flags | NLM_F_REQUEST
            sequence = first + index - start
            buffer += _HEADER.pack(length, request.kind, flags, sequence, 0)
            buffer += request.body + bytes(-length % 4)
            index += 1
            last = len(buffer) - length - (-length % 4)
        _HEADER.pack_into(buffer, last, length, request.kind, flags | NLM_F_ACK, sequence, 0)
        self._sequence = sequence
        self._requests.send(buffer)
        refused: Refused | None = None
        for message in self._answers(sequence):
            number, text = _error(message)
            position = start + message.sequence - first
            if refused is None and number and number not in requests[position].tolerated:
                refused = Refused(position, number, text)
        if refused:
            raise refused
        return index

    def _answers(self, last: int) -> Iterator[Message]:
        while True:
            for message in messages(self._receive(self._requests)):
                if message.kind == _NLMSG_ERROR:
                    yield message
                    if message.sequence == last:
                        return

    def dump(self, kind: int, body: bytes) -> list[Message]:
        """All objects of a kind; asks again when they changed meanwhile.

        Raises `Refused` with index 0.
        """
        for _ in range(_DUMP_TRIES):
            self._sequence = self._next_sequence()
            flags = NLM_F_REQUEST | NLM_F_DUMP
            length = _HEADER.size + len(body)
            self._requests.send(_HEADER.pack(length, kind, flags, self._sequence, 0) + body)
            answers, consistent = self._dumped()
            if consistent:
                return answers
        raise Refused(0, errno.EINTR, f"the tables changed during {_DUMP_TRIES} readings")

    def _dumped(self) -> tuple[list[Message], bool]:
        answers: list[Message] = []
        consistent = True
        while True:
            for message in messages(self._receive(self._requests)):
                consistent &= not message.flags & _NLM_F_DUMP_INTR
                if message.sequence != self._sequence:
                    continue
                if message.kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    number, text = _error(message) if len(message.body) >= 4 else (0, "")
                    if number:
                        raise Refused(0, number, text)
                    return answers, consistent
                answers.append(message)

    def events(self) -> list[Message]:
        """What changed since the last call, from anybody; does not wait.

        Raises `Overrun` when events were lost.
        """
        heard: list[Message] = []
        while True:
            try:
                data = self._receive(self._events)
            except BlockingIOError:
                return heard
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    self._drain()
                    raise Overrun from error
                raise
            heard += (item for item in messages(data) if item.kind >= _MESSAGE_TYPES_BELOW_OWN)

    def _drain(self) -> None:
        while True:
            try:
                self._receive(self._events)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
