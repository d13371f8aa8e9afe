"""Sending probes and hearing answers, beside everything else in the event loop (packet(7)).

Packets go out by the host end of an interface and so through the queues towards the machine. An
answer is heard where it has left the queues from the machine: on the ifb that carries what comes
from there, or, where nothing is shaped, on the host end itself. The kernel stamps it there, so that
a busy agent measures as well as an idle one. Heard is nothing but answers; the answers go on as
all traffic does.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import resource
import secrets
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from operator import is_

from vmib.rows import ProbeKey, VifKey

from .inventory import Rows
from .logs import event, log
from .probe_packets import Question, Signature, answer_filter, frame, parse
from .probe_ways import Way, ways
from .probing import Packet, Probe, Probing
from .state import Key
from .world import ADDR, LINK, PROBE

PACKETS_AT_ONCE = 64
"""Packets sent or received before others get their turn in the event loop."""
RETRY = 5.0
"""Seconds until a probe that the system refused is tried again."""

_SO_ATTACH_FILTER, _SO_TIMESTAMPNS, _SO_SNDBUFFORCE = 26, 35, 32
_ETH_P_ALL = 3
_TIMESPEC = struct.Struct("@ll")
_INSTRUCTION = struct.Struct("=HBBI")
_PROGRAM = struct.Struct("@HP")
_SEND_BUFFER = 64 * 2**20
_LONGEST_ANSWER = 256
_ANCILLARY = 64


@dataclass(frozen=True, slots=True)
class _Ear:
    """Where the answers of one interface are heard."""

    index: int
    socket: socket.socket


class Prober:
    """The probes of a host. Implements `probing.Probes`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._probing = Probing(self._told)
        self._signature = Signature(secrets.randbits(16), secrets.token_bytes(8))
        self._ears: dict[VifKey, _Ear] = {}
        self._sender: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._followed: tuple[object, ...] = ()
        self.tell: Callable[[ProbeKey], None] = lambda _: None

    def capabilities(self) -> frozenset[str]:
        """`probes`, if packets can be sent."""
        try:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0):
                return frozenset({"probes"})
        except OSError:
            return frozenset()

    def follow(self, rows: Rows) -> None:
        """Have the probes that these rows ask for, as far as their machines are there."""
        intent = rows.intent
        seen = (*(intent.get(name) for name in (PROBE, ADDR, LINK)), rows.inventory)
        if len(seen) == len(self._followed) and all(map(is_, seen, self._followed)):
            return
        self._followed = seen
        wanted = intent.get(PROBE, {})
        keys = [ProbeKey(*key) for key in wanted]
        self._probing.follow(wanted, ways(rows, keys), time.monotonic())
        heard = {probe.vif for probe in self._probing.probes.values() if probe.course is not None}
        for vif in self._ears.keys() - heard:
            self._close_ear(vif)
        self._wait()

    def find(self, key: Key) -> Probe | None:
        """The probe with this key."""
        return self._probing.probes.get(ProbeKey(*key))

    def close(self) -> None:
        """Send and hear no more."""
        if self._timer is not None:
            self._timer.cancel()
        for ear in self._ears.values():
            self._loop.remove_reader(ear.socket)
            ear.socket.close()
        self._ears.clear()
        if self._sender is not None:
            self._sender.close()

    def _told(self, key: ProbeKey) -> None:
        self.tell(key)

    def _wait(self) -> None:
        due = self._probing.due()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if due is None else self._loop.call_at(due, self._send_all)

    def _send_all(self) -> None:
        for _ in range(PACKETS_AT_ONCE):
            packet = self._probing.next_packet(time.monotonic(), time.time())
            if packet is None:
                break
            try:
                self._send(packet)
            except OSError as error:
                reason = f"{packet.way.device}: {error.strerror or error}"
                if packet.probe.failure != reason:
                    log.warning(event("cannot-probe", dest=packet.way.dest, reason=reason))
                self._probing.failed(packet, reason, time.monotonic() + RETRY)
        self._wait()

    def _send(self, packet: Packet) -> None:
        """Send one packet; raises `OSError`."""
        probe, course, way = packet
        self._listen(probe.vif, way)
        sender = self._open_sender()
        sender.bind((way.device, 0))
        host_mac: bytes = sender.getsockname()[4]
        question = Question(host_mac.hex(":"), way.mac, way.machine, way.dest)
        octets = frame(question, self._signature, probe.serial, course.number)
        stamp = time.monotonic_ns()
        refused = False
        try:
            sender.send(octets)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            refused = True
        self._probing.sent(packet, time.monotonic(), stamp)
        if refused:
            self._probing.refused(packet)

    def _open_sender(self) -> socket.socket:
        if self._sender is None:
            self._sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._sender.setblocking(False)
            with suppress(PermissionError):  # what waits in slow queues counts
                self._sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BUFFER)
            with suppress(OSError, ValueError):  # a socket for each interface
                _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        return self._sender

    def _listen(self, vif: VifKey, way: Way) -> None:
        """Hear an interface where its traffic leaves the queues now; raises `OSError`."""
        device, index = way.ifb, _index_of(way.ifb)
        if not index:
            device, index = way.device, socket.if_nametoindex(way.device)
        ear = self._ears.get(vif)
        if ear is not None and ear.index == index:
            return
        if ear is not None:
            self._close_ear(vif)
        heard = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            heard.setblocking(False)
            _attach(heard, answer_filter(self._signature.identifier))
            heard.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            heard.bind((device, _ETH_P_ALL))
        except OSError:
            heard.close()
            raise
        self._ears[vif] = _Ear(index, heard)
        self._loop.add_reader(heard, self._hear, vif, heard)

    def _close_ear(self, vif: VifKey) -> None:
        """Hear an interface no more; the kernel takes its time to close, in another thread."""
        ear = self._ears.pop(vif)
        self._loop.remove_reader(ear.socket)
        self._loop.run_in_executor(None, ear.socket.close)

    def _hear(self, vif: VifKey, heard: socket.socket) -> None:
        for _ in range(PACKETS_AT_ONCE):
            try:
                octets, ancillary, _, _ = heard.recvmsg(_LONGEST_ANSWER, _ANCILLARY)
            except BlockingIOError:
                break
            except OSError:  # the device is down or gone
                self._close_ear(vif)
                break
            answer = parse(octets, self._signature)
            stamp = _stamp_of(ancillary)
            if answer is not None and stamp is not None:
                self._probing.answered(answer, stamp, time.monotonic())
        self._wait()


def _index_of(device: str) -> int:
    """The ifIndex of a device, 0 where there is none."""
    try:
        return socket.if_nametoindex(device)
    except OSError:
        return 0


def _attach(heard: socket.socket, program: tuple[tuple[int, int, int, int], ...]) -> None:
    octets = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in program))
    option = _PROGRAM.pack(len(program), ctypes.addressof(octets))
    heard.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)


def _stamp_of(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """When the kernel saw a packet, in nanoseconds of the monotonic clock.

    It stamps by the clock of the day, which may be set at any moment; how far that is off is asked
    anew for each packet.
    """
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
            seconds, nanoseconds = _TIMESPEC.unpack(data[: _TIMESPEC.size])
            offset = time.time_ns() - time.monotonic_ns()
            return int(seconds) * 1_000_000_000 + int(nanoseconds) - offset
    return None
