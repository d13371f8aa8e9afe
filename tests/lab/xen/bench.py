"""Measuring in dom0: a guest's vif is shaped by SNMP, loaded by iperf3, and watched from outside.

In virtual time what a measurement says does not depend on how busy the computer is.
"""

from __future__ import annotations

import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import linear_regression

from vmib_manager.pings import internet_checksum

from ..host_lab import HostLab
from ..hypervisors import BRIDGE, run

GUEST, HOST = "10.31.1.1", "10.31.1.254"
WAYS = ("toVm", "fromVm")
UDP_PAYLOAD, FRAME = 1472, 1514
COLUMNS = (
    "Rate", "QueueLimit", "Delay", "Jitter", "Loss", "Duplicate", "Corrupt", "Reorder",
)  # fmt: skip

_HEADERS, _TCP_PAYLOAD = 66, 1448
_ALL, _OUTGOING = 0x0003, 4
_RCVBUFFORCE, _TIMESTAMPNS = 33, 35
_BUFFER = 64 << 20
_TIMESPEC = struct.Struct("@ll")
_SETTLED = 0.3
"""The part of a flow that is not counted: buckets are full, windows small."""
_ECHO = struct.Struct("!BBHHH56s")
_IDENTIFIER = 0x7862
_SOON, _LAST = 0.02, 0.6
"""Seconds until stamps are right, and for which answers are waited for after the last request."""


@dataclass(frozen=True, slots=True)
class Pings:
    """How many echoes were asked for, and how long the answers took, in seconds.

    An answer that came twice is one of the duplicates; one with a wrong checksum is none.
    """

    sent: int
    duplicates: int
    times: tuple[float, ...]

    @property
    def received(self) -> int:
        return len(self.times)

    @property
    def mean(self) -> float:
        return statistics.fmean(self.times)

    @property
    def deviation(self) -> float:
        return statistics.pstdev(self.times)


def ping(count: int, interval: float, address: str = GUEST) -> Pings:
    """Send so many echo requests (RFC 792) to an address, one each `interval` seconds.

    They leave when this process sends them, and are back when the kernel says so. Between them it
    sleeps, where ping(8) looks for answers all the time: an emulated processor then does no more.
    """
    sent: dict[int, int] = {}
    back: dict[int, list[int]] = {}
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as wire:
        wire.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        wire.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        time.sleep(_SOON)  # until the kernel stamps what comes
        for number in range(count):
            request = _ECHO.pack(8, 0, 0, _IDENTIFIER, number, bytes(56))
            checksum = internet_checksum(request)
            sent[number] = time.time_ns()
            wire.sendto(_ECHO.pack(8, 0, checksum, _IDENTIFIER, number, bytes(56)), (address, 0))
            time.sleep(interval)
        time.sleep(_LAST)
        for message, stamp in _received(wire, address):
            kind, _, _, identifier, number, _ = _ECHO.unpack(message)
            if (kind, identifier) == (0, _IDENTIFIER):
                back.setdefault(number, []).append(stamp)
    times = tuple((min(back[number]) - sent[number]) / 1e9 for number in sorted(back))
    return Pings(count, sum(len(each) - 1 for each in back.values()), times)


def _received(wire: socket.socket, address: str) -> Iterator[tuple[bytes, int]]:
    """Echoes with a right checksum, and when they came, in nanoseconds since the epoch."""
    while True:
        try:
            packet, ancillary, _, sender = wire.recvmsg(256, 64, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        message = packet[4 * (packet[0] & 0x0F) :]
        right = len(message) == _ECHO.size and internet_checksum(message) == 0
        if right and sender[0] == address:
            whole, nanoseconds = _TIMESPEC.unpack(ancillary[0][2][: _TIMESPEC.size])
            yield message, whole * 1_000_000_000 + nanoseconds


@dataclass
class Tap:
    """Frames that leave a device, or that come in by it: when, and of how many octets."""

    device: str
    outgoing: bool
    frames: list[tuple[float, int]] = field(default_factory=list)

    def __enter__(self) -> Tap:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        self._socket.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        self._socket.bind((self.device, _ALL))
        return self

    def __exit__(self, *_: object) -> None:
        self._read()
        self._socket.close()

    def _read(self) -> None:
        """Take all that was seen; the kernel keeps it until then."""
        place, how = bytearray(1), socket.MSG_TRUNC | socket.MSG_DONTWAIT
        while True:
            try:
                octets, ancillary, _, sender = self._socket.recvmsg_into([place], 64, how)
            except BlockingIOError:
                return
            if (sender[2] == _OUTGOING) == self.outgoing:
                whole, nanoseconds = _TIMESPEC.unpack(ancillary[0][2][: _TIMESPEC.size])
                self.frames.append((whole + nanoseconds / 1e9, octets))

    def rate(self) -> float:
        """Bit/s of layer 2 at which frames passed, all of them, from one full one to another.

        It is the slope through all of them: of times from the first to the last one, lateness of a
        single frame would be in all.
        """
        full = [number for number, frame in enumerate(self.frames) if frame[1] >= FRAME]
        counted = self.frames[full[int(len(full) * _SETTLED)] : full[-1] + 1]
        passed = list(accumulate(_wire_octets(length) for _, length in counted))
        return 8 / linear_regression(passed, [when for when, _ in counted]).slope


def _wire_octets(length: int) -> int:
    """Octets at layer 2 of all the frames that a packet of TCP is sent as, or of a frame."""
    frames = -(-(length - _HEADERS) // _TCP_PAYLOAD)
    return length + (frames - 1) * _HEADERS if length > FRAME else length


@dataclass
class Bench:
    """Guest 1 with its vif."""

    lab: HostLab
    vm: int
    device: str
    base: float = 0.0

    def shape(self, way: str = "", **columns: int) -> None:
        """Shape one way, by columns of vmibShapeTable, and nothing else."""
        triples = []
        for each in WAYS:
            for column in COLUMNS:
                value = columns.get(column, 0) if each == way else 0
                triples += [f"vmibShape{column}.{self.vm}.1.{each}", "u", str(value)]
        self.lab.set(*triples)
        rows = [f"vmibShapeOperSync.{self.vm}.1.{each}" for each in WAYS]
        assert self.lab.snmp("snmpget", "-Ov", *rows).split() == ["inSync", "inSync"]

    def tap(self, way: str) -> Tap:
        """What has passed the shaping of a way."""
        return Tap(self.device, True) if way == "toVm" else Tap(BRIDGE, False)

    @contextmanager
    def loaded(self, way: str, seconds: float, *options: str) -> Iterator[None]:
        """A flow of iperf3, of these options of its client; the block runs once it is settled."""
        reverse = ("-R",) if way == "fromVm" else ()
        command = ["iperf3", "-c", GUEST, "-t", str(seconds), *reverse, *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as flow:
            time.sleep(seconds * _SETTLED)
            yield
            said, _ = flow.communicate()
        assert flow.returncode == 0, said.decode()

    def flood(self, way: str, kbps: int, seconds: float) -> Tap:
        """Full frames of UDP, sent faster than a rate lets through."""
        rate = ("-u", "-b", f"{kbps * 13 // 10}k", "-l", str(UDP_PAYLOAD))
        with self.tap(way) as tap, self.loaded(way, seconds, *rate):
            pass
        return tap

    @contextmanager
    def offload(self, way: str, wanted: bool) -> Iterator[None]:
        """Whether who sends hands over more than a frame at once."""
        if wanted:
            yield
            return
        self._switch_offload(way, "off")
        try:
            yield
        finally:
            self._switch_offload(way, "on")

    def _switch_offload(self, way: str, state: str) -> None:
        if way == "fromVm":
            self.lab.guests[1].run(f"ethtool -K eth0 tso {state} gso {state}")
        else:
            run("ethtool", "-K", BRIDGE, "tso", state, "gso", state)


def bench_of(lab: HostLab) -> Bench:
    """The measuring of guest 1 of a lab; dom0 becomes its neighbour."""
    run("ip", "address", "replace", f"{HOST}/24", "dev", BRIDGE)
    made = Bench(lab, lab.vm(1), lab.device(1))
    ping(2, 0.1)  # for ARP
    made.base = statistics.fmean(ping(20, 0.05).mean for _ in range(2))
    return made
