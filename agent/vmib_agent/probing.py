"""All probes of a host: what is to be sent when, and what is known of each. Pure.

The caller says how late it is, hands packets over and brings answers. The first round of a probe
begins within a second, at a moment that follows from its index, so that probes made together do
not all go out together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any, NamedTuple, Protocol
from zlib import crc32

from vmib.rows import ProbeKey, Sync, VifKey
from vmib.smi import IpAddress

from .inventory import Rows
from .probe_packets import Answer
from .probe_rounds import NUMBERS, Alarm, Course, Summary, judged
from .probe_ways import Way
from .state import Key

FIRST_WITHIN = 1.0
"""Seconds within which the first rounds begin."""


@dataclass(slots=True)
class Probe:
    """One probe: its row, its way or what it waits for, and its results.

    `serial` tells it from all that were before it; `ended` is when its last round ended (seconds
    since the epoch).
    """

    key: ProbeKey
    serial: int = 0
    row: Any = None
    way: Way | str = ""
    course: Course | None = None
    entry: int = 0
    failure: str = ""
    last: Summary = field(default_factory=Summary)
    ended: float | None = None
    sent: int = 0
    received: int = 0
    alarm: Alarm = field(default_factory=Alarm)

    @property
    def vif(self) -> VifKey:
        """The interface that it goes through."""
        return VifKey(self.key.vm_index, self.key.vif_index)


def probe_sync(probe: Probe | None) -> tuple[Sync, str]:
    """vmibProbeSync and vmibProbeLastError."""
    if probe is None:
        return Sync.pending, ""
    if isinstance(probe.way, str):
        return Sync.waiting, probe.way
    return (Sync.failed, probe.failure) if probe.failure else (Sync.inSync, "")


class Packet(NamedTuple):
    """A packet to be sent: of which probe and course, and where."""

    probe: Probe
    course: Course
    way: Way


class Probes(Protocol):
    """What the host needs of its probes."""

    def capabilities(self) -> frozenset[str]:
        """The name of the bit of vmibHostCapabilities, if there can be probes."""

    def follow(self, rows: Rows) -> None:
        """Have the probes that these rows ask for, as far as their machines are there."""

    def find(self, key: Key) -> Probe | None:
        """The probe with this key."""


class NoProbes:
    """Stands for probes where there can be none."""

    def capabilities(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def follow(self, rows: Rows) -> None:
        """There are no rows that ask for any."""

    def find(self, key: Key) -> Probe | None:
        """There is none."""
        return None


class Probing:
    """The probes; `tell` is called with the key of one that a threshold has been crossed of."""

    def __init__(self, tell: Callable[[ProbeKey], None]) -> None:
        self._tell = tell
        self._probes: dict[ProbeKey, Probe] = {}
        self._by_serial: dict[int, Probe] = {}
        self._by_address: dict[tuple[str, IpAddress], list[Probe]] = {}
        self._queue: list[tuple[float, int, Probe]] = []
        self._serials = count(1)
        self._entries = count(1)

    @property
    def probes(self) -> Mapping[ProbeKey, Probe]:
        """All of them."""
        return self._probes

    def follow(
        self, rows: Mapping[Any, Any], ways: Mapping[ProbeKey, Way | str], now: float
    ) -> None:
        """Have a probe for each row of vmibProbeTable and no other.

        One whose way or pace is another begins anew, and keeps its results.
        """
        for key in self._probes.keys() - rows.keys():
            probe = self._probes.pop(key)
            probe.course, probe.entry = None, 0
            del self._by_serial[probe.serial]
        for key, row in rows.items():
            self._have(key, row, ways[key], now)
        self._by_address = {}
        for probe in self._probes.values():
            if isinstance(probe.way, Way) and probe.way.one_by_one:
                place = probe.way.mac, probe.way.machine
                self._by_address.setdefault(place, []).append(probe)

    def _have(self, key: ProbeKey, row: Any, way: Way | str, now: float) -> None:
        probe = self._probes.get(key)
        if probe is None:
            probe = self._probes[key] = Probe(key, next(self._serials), row)
            self._by_serial[probe.serial] = probe
        paced = (probe.row.interval, probe.row.count) == (row.interval, row.count)
        is_same = paced and probe.way == way
        probe.row = row
        if is_same:
            return
        probe.way, probe.failure = way, ""
        probe.course, probe.entry = None, 0
        if isinstance(way, Way):
            begin = now + crc32(repr(key).encode()) / 2**32 * FIRST_WITHIN
            self._begin(probe, way, begin)

    def _begin(self, probe: Probe, way: Way, begin: float) -> None:
        pace = probe.row.interval, probe.row.count
        probe.course = Course(*pace, begin, one_by_one=way.one_by_one, first=probe.sent)
        self._push(probe, probe.course)

    def _push(self, probe: Probe, course: Course) -> None:
        """Look at a probe when it is due, and no more when it was before."""
        probe.entry = next(self._entries)
        heappush(self._queue, (course.due, probe.entry, probe))

    def due(self) -> float | None:
        """When there is something to do next, or None."""
        while self._queue and self._queue[0][2].entry != self._queue[0][1]:
            heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def next_packet(self, now: float, wall: float) -> Packet | None:
        """The next packet that is to be sent now, if there is one; tell `sent` or `failed` of it.

        Rounds that are over are ended.
        """
        while (due := self.due()) is not None and due <= now:
            probe = heappop(self._queue)[2]
            course, way = probe.course, probe.way
            if course is None or not isinstance(way, Way):
                continue
            found = course.settle(now)
            if found is not None:
                self._end_round(probe, found, wall)
            if course.may_send(now):
                return Packet(probe, course, way)
            self._push(probe, course)
        return None

    def sent(self, packet: Packet, now: float, stamp: int) -> None:
        """A packet has been handed over."""
        packet.course.sent(now, stamp)
        packet.probe.sent = (packet.probe.sent + 1) % NUMBERS
        packet.probe.failure = ""
        self._push(packet.probe, packet.course)

    def refused(self, packet: Packet) -> None:
        """The packet that has just been handed over was refused by a queue: it is lost."""
        packet.course.refused()
        self._push(packet.probe, packet.course)

    def failed(self, packet: Packet, reason: str, retry: float) -> None:
        """The system takes no packets of a probe; it begins anew at `retry`."""
        packet.probe.failure = reason
        self._begin(packet.probe, packet.way, retry)

    def answered(self, answer: Answer, stamp: int, now: float) -> None:
        """Take an answer that the kernel has stamped."""
        if answer.packet is None:
            for probe in self._by_address.get((answer.mac, answer.address), ()):
                self._count(probe, None, stamp, now)
            return
        serial, number = answer.packet
        found = self._by_serial.get(serial)
        if found is None or not isinstance(found.way, Way):
            return
        if (found.way.mac, found.way.machine) == (answer.mac, answer.address):
            self._count(found, number, stamp, now)

    def _count(self, probe: Probe, number: int | None, stamp: int, now: float) -> None:
        course = probe.course
        if course is not None and course.answered(number, stamp, now):
            probe.received = (probe.received + 1) % NUMBERS
            self._push(probe, course)

    def _end_round(self, probe: Probe, found: Summary, wall: float) -> None:
        before = probe.alarm.exceeded
        row = probe.row
        probe.last, probe.ended = found, wall
        probe.alarm = judged(probe.alarm, found, row.rtt_threshold, row.loss_threshold)
        if probe.alarm.exceeded is not before:
            self._tell(probe.key)
