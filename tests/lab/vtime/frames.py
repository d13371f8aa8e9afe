"""Numbered frames that are sent at known times, and a tap that sees when which of them arrive.

Sockets are in the machines' namespaces, this process is not. Times of arrival are the kernel's, on
the clock by which the sender notes its own; all times are in seconds.
"""

from __future__ import annotations

import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass, field
from statistics import linear_regression

from vmib_manager.measure import Endpoint, open_socket

ETHERNET, UDP_HEADERS = 14, 42
FULL = 1472
"""Octets of user data of a full frame of UDP."""
PORT = 9
_ALL, _IPV4 = 0x0003, b"\x08\x00"
_MOST = 1 << 16
_OUTGOING = 4
_SNDBUFFORCE, _RCVBUFFORCE, _TIMESTAMPNS = 32, 33, 35
_SOL_UDP, _UDP_SEGMENT = 17, 103
_BUFFER = 64 << 20
_TIMESPEC = struct.Struct("@ll")
_HEAD = struct.Struct("!8sI")
_MAGIC = b"vmibtest"


class Tap:
    """All frames that arrive at a machine's interface eth0 while it is open: times and octets."""

    def __init__(self, machine: Endpoint) -> None:
        self._socket = open_socket(machine.namespace, socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        self._socket.bind(("eth0", _ALL))
        self._socket.setblocking(False)
        self.frames: list[tuple[float, bytes]] = []

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self) -> bool:
        """Take what has arrived; whether anything has."""
        before = len(self.frames)
        while True:
            try:
                data, ancillary, _, sender = self._socket.recvmsg(_MOST, 64)
            except BlockingIOError:
                return len(self.frames) > before
            if sender[2] != _OUTGOING:
                whole, nanoseconds = _TIMESPEC.unpack(ancillary[0][2][: _TIMESPEC.size])
                self.frames.append((whole + nanoseconds / 1e9, data))

    def wait(self, patience: float) -> None:
        """Read until nothing arrives any more for some seconds."""
        until = time.monotonic() + patience
        while time.monotonic() < until:
            time.sleep(patience / 50)
            if self.read():
                until = time.monotonic() + patience


@dataclass(slots=True)
class Stream:
    """Numbered datagrams: when each was sent, and when it, or each copy of it, arrived whole.

    `damaged` counts datagrams that arrived otherwise.
    """

    frame_octets: int
    sent: list[float] = field(default_factory=list)
    arrivals: list[tuple[int, float]] = field(default_factory=list)
    damaged: int = 0

    @property
    def missing(self) -> list[int]:
        """The numbers of those that never arrived whole."""
        arrived = {number for number, _ in self.arrivals}
        return [number for number in range(len(self.sent)) if number not in arrived]

    @property
    def repeated(self) -> int:
        """How many copies arrived beyond the first."""
        copies = Counter(number for number, _ in self.arrivals)
        return len(self.arrivals) - len(copies)

    @property
    def delays(self) -> list[float]:
        """How long those that arrived took."""
        return [arrived - self.sent[number] for number, arrived in self.arrivals]

    def rate(self) -> float:
        """Bit/s of layer 2 at which all but the first fifth arrived: the slope through all of them.

        What is sent at first has to have filled the queue by then, with `at_first` of `send`. Of
        times from the first to the last one, lateness of a single frame would be in all.
        """
        times = sorted(arrived for _, arrived in self.arrivals)
        counted = times[len(times) // 5 :]
        return self.frame_octets * 8 / linear_regression(range(len(counted)), counted).slope


def send(
    source: Endpoint,
    sink: Endpoint,
    count: int,
    interval: float,
    *,
    octets: int = 100,
    at_first: int = 0,
    at_once: int = 1,
    patience: float = 0.5,
) -> Stream:
    """Send datagrams, one each `interval`, and wait until none arrives for `patience` seconds.

    What arrives is read afterwards: 64 MB of buffer hold it, and the sender has the processor.
    `at_first` datagrams more are sent without a pause before, to empty buckets and fill queues.
    `at_once` datagrams are handed to the kernel as one packet, which its interface, or the first
    on the way that cannot, segments (udp(7), UDP_SEGMENT).
    """
    stream = Stream(octets + UDP_HEADERS)
    filler = (bytes(range(256)) * (octets // 256 + 1))[: octets - _HEAD.size]
    with (
        Tap(sink) as tap,
        open_socket(sink.namespace, socket.AF_INET, socket.SOCK_DGRAM) as absorbing,
        open_socket(source.namespace, socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        absorbing.bind((sink.address, PORT))
        sender.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, _BUFFER)
        sender.connect((sink.address, PORT))
        if at_once > 1:
            sender.setsockopt(_SOL_UDP, _UDP_SEGMENT, octets)
        began = time.monotonic()
        for first in range(0, at_first + count, at_once):
            numbers = range(first, min(first + at_once, at_first + count))
            packet = b"".join(_HEAD.pack(_MAGIC, number) + filler for number in numbers)
            while (rest := began + (first - at_first) * interval - time.monotonic()) > 0:
                time.sleep(rest)
            now = time.time()
            sender.send(packet)
            stream.sent += [now] * len(numbers)
        tap.wait(patience)
        ports = struct.pack("!HH", sender.getsockname()[1], PORT)
    for arrived, data in tap.frames:
        if data[12:14] == _IPV4 and data[34:38] == ports:
            for start in range(UDP_HEADERS, len(data), octets):
                magic, number = _HEAD.unpack_from(data, start)
                rest = data[start + _HEAD.size : start + octets]
                if (magic, rest) == (_MAGIC, filler) and _is_whole_header(data):
                    stream.arrivals.append((number, arrived))
                else:
                    stream.damaged += 1
    return stream


def _is_whole_header(data: bytes) -> bool:
    """Whether the header of IPv4 has its checksum (RFC 1071)."""
    total = sum(struct.unpack_from("!10H", data, ETHERNET))
    return (total & 0xFFFF) + (total >> 16) == 0xFFFF
