"""The rounds of one probe: when its packets go out, and what their answers come to.

Pure: times are given, in seconds of any clock that never goes back; stamps are nanoseconds of the
clock that the kernel stamps packets with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

GAP = 0.1
"""Seconds at most between two packets of a round."""
PATIENCE = 5.0
"""Seconds at most until an unanswered packet counts as lost."""
MILLION = 1_000_000
NUMBERS = 2**32
"""How many numbers packets have."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A round that has ended: round trips in microseconds (0 without answers), loss in parts per
    million of the packets sent."""

    rtt_min: int = 0
    rtt_avg: int = 0
    rtt_max: int = 0
    rtt_std_dev: int = 0
    loss: int = 0

    @property
    def has_answers(self) -> bool:
        """Whether any packet was answered."""
        return self.loss < MILLION


def summary(round_trips: Sequence[int], sent: int) -> Summary:
    """What `sent` packets and the round trips of those answered, in nanoseconds, come to."""
    loss = round((sent - len(round_trips)) * MILLION / sent)
    if not round_trips:
        return Summary(loss=loss)
    mean = fmean(round_trips)
    found = (min(round_trips), mean, max(round_trips), pstdev(round_trips, mean))
    least, mean_us, most, deviation = (round(nanoseconds / 1000) for nanoseconds in found)
    return Summary(least, mean_us, most, deviation, loss)


@dataclass(frozen=True, slots=True)
class Alarm:
    """Which thresholds are exceeded."""

    rtt: bool = False
    loss: bool = False

    @property
    def exceeded(self) -> bool:
        """Whether one is."""
        return self.rtt or self.loss


def judged(before: Alarm, found: Summary, rtt_threshold: int, loss_threshold: int) -> Alarm:
    """The alarm after a round; thresholds as in vmibProbeTable, 0 for none."""
    rtt = before.rtt
    if not rtt_threshold:
        rtt = False
    elif found.has_answers and found.rtt_avg > rtt_threshold:
        rtt = True
    elif found.has_answers and found.rtt_avg * 10 < rtt_threshold * 9:
        rtt = False
    return Alarm(rtt, loss=0 < loss_threshold < found.loss)


class Course:
    """The rounds of `count` packets each, one every `interval` seconds, from `begin` on.

    With `one_by_one` a packet is sent only when no other is on its way, and after an answer not
    before the time that it took has passed again: by then there is nothing left that could be
    mistaken for the next answer. `first` is the number of the first packet.
    """

    def __init__(
        self, interval: float, count: int, begin: float, *, one_by_one: bool, first: int = 0
    ) -> None:
        self._interval = interval
        self._count = count
        self._one_by_one = one_by_one
        self._gap = min(GAP, interval / 2 / count)
        self._patience = min(PATIENCE, interval)
        self._begin = begin
        self._next = begin
        self._left = count
        self._underway: dict[int, tuple[float, int]] = {}
        self._round_trips: list[int] = []
        self.number = first

    @property
    def due(self) -> float:
        """When there is something to do next."""
        if self._left and not (self._one_by_one and self._underway):
            return self._next
        return next(iter(self._underway.values()), (self._begin, 0))[0]

    def settle(self, now: float) -> Summary | None:
        """Give up what is out of patience; the summary of the round where that ends it."""
        for number, (deadline, _) in tuple(self._underway.items()):
            if deadline > now:
                break
            del self._underway[number]
        if self._left or self._underway:
            return None
        found = summary(self._round_trips, self._count)
        self._begin = self._next = max(self._begin + self._interval, now)
        self._left, self._round_trips = self._count, []
        return found

    def may_send(self, now: float) -> bool:
        """Whether it is time for the packet with the number `number`."""
        is_free = not (self._one_by_one and self._underway)
        return bool(self._left) and is_free and self._next <= now

    def sent(self, now: float, stamp: int) -> None:
        """The packet with the number `number` has been handed over, at `stamp`."""
        self._underway[self.number] = now + self._patience, stamp
        self.number = (self.number + 1) % NUMBERS
        self._left -= 1
        self._next += self._gap

    def refused(self) -> None:
        """The packet sent last was refused by a queue: it is lost."""
        self._underway.popitem()

    def answered(self, number: int | None, stamp: int, now: float) -> bool:
        """Take an answer to a packet, None for the only one underway; whether it was waited for."""
        if number is None:
            number = next(iter(self._underway), None)
        known = None if number is None else self._underway.get(number)
        if number is None or known is None or now > known[0]:
            return False
        del self._underway[number]
        round_trip = stamp - known[1]
        self._round_trips.append(round_trip)
        if self._one_by_one:
            self._next = max(self._next, now + round_trip / 1e9)
        return True
