"""Measuring in dom0: a guest's vif is shaped by SNMP, loaded by iperf3, and watched from outside.

In virtual time what a measurement says does not depend on how busy the computer is.
"""

from __future__ import annotations

import re
import socket
import statistics
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

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
_SUMMARY = re.compile(r"= [\d.]+/([\d.]+)/[\d.]+/([\d.]+) ms")
_SENT = re.compile(r"(\d+) packets transmitted, (\d+) received(?:, \+(\d+) duplicates)?")


@dataclass(frozen=True, slots=True)
class Pings:
    """What ping(8) says; times in seconds, all of them to three digits, mean and deviation to 1 us.

    The deviation is that of all, not of a sample.
    """

    sent: int
    received: int
    duplicates: int
    mean: float
    deviation: float
    times: tuple[float, ...]


def ping(count: int, interval: float, *options: str, address: str = GUEST) -> Pings:
    """Send so many echo requests to the guest, one each `interval` seconds."""
    words = ("ping", "-n", "-c", str(count), "-i", str(interval), "-W", "1", *options, address)
    said = run(*words, check=False)
    sent, summary = _SENT.search(said), _SUMMARY.search(said)
    assert sent is not None, said
    assert summary is not None, said
    times = tuple(float(found) / 1000 for found in re.findall(r"time=([\d.]+) ms", said))
    mean, deviation = (float(text) / 1000 for text in summary.groups())
    numbers = [int(text or 0) for text in sent.groups()]
    return Pings(numbers[0], numbers[1], numbers[2], mean, deviation, times)


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
        """Bit/s of layer 2 at which full frames passed, from one to another."""
        full = [frame for frame in self.frames if frame[1] >= FRAME]
        counted = full[int(len(full) * _SETTLED) :]
        octets = sum(_wire_octets(length) for _, length in counted[1:])
        return octets * 8 / (counted[-1][0] - counted[0][0])


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
        for each in WAYS:
            assert self.lab.value(f"vmibShapeOperSync.{self.vm}.1.{each}") == "inSync"

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
    made.base = statistics.fmean(ping(20, 0.05, "-q").mean for _ in range(2))
    return made
