"""What was measured of a row beside what is described, and whether that is too far off. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb, sqrt
from typing import NamedTuple

from .probe_plan import MILLION, Flow, Subject


class Allowed(NamedTuple):
    """What may be off: parts per million of a value, and the microseconds that a round trip may
    take beyond what is described, for machines are not infinitely fast."""

    tolerance: int = 50_000
    slack: int = 1000


CONFIDENCE = 0.99
"""How sure it is, over all rows together, that a loss that is called off is."""
_LEAST_RATE = 1
"""kbit/s: what whole numbers are off by."""


DEFAULT = Allowed()
"""What may be off if nothing else is said."""


class Round(NamedTuple):
    """What an agent has measured: microseconds, parts per million, packets."""

    rtt_min: int
    rtt_avg: int
    rtt_max: int
    rtt_std_dev: int
    loss: int
    packets: int


class Passed(NamedTuple):
    """What has passed of a flow meanwhile, kbit/s, by the agent's counters; with `is_traffic` it
    was sent to measure and the described rate is to be reached, without it is not exceeded."""

    rate: int
    is_traffic: bool = False


@dataclass(frozen=True, slots=True)
class Aspect:
    """One quantity of a row: what is described and what was measured.

    `field` is `delay` (microseconds, of the round trip), `loss` (parts per million) or `rate`
    (kbit/s; `word` says of which direction, `is_passed` that it is what happened to pass); `off` is
    whether they differ by more than is allowed.
    """

    field: str
    configured: int
    measured: int
    off: bool
    word: str = ""
    is_passed: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """A row that was measured, or why it was not; `is_wrong` tells whether it ought to have been.

    `round` has all that the agent measured.
    """

    subject: Subject
    aspects: tuple[Aspect, ...] = ()
    round: Round | None = None
    reason: str = ""
    is_wrong: bool = False

    @property
    def off(self) -> bool:
        """Whether anything is off."""
        return self.is_wrong or any(aspect.off for aspect in self.aspects)


def judge(
    subject: Subject,
    found: Round,
    passed: Mapping[Flow, Passed],
    allowed: Allowed,
    rows: int,
) -> Measured:
    """A row beside its description; `rows` are judged in all."""
    aspects = []
    if found.loss < MILLION:
        aspects.append(_delay(subject, found, allowed))
    aspects.append(_loss(subject, found, rows))
    for flow in subject.flows:
        if flow.rate and flow in passed:
            aspects.append(_rate(flow, passed[flow], allowed.tolerance))
    return Measured(subject, tuple(aspects), found)


def _delay(subject: Subject, found: Round, allowed: Allowed) -> Aspect:
    """The shortest round trip, whatever else the host was busy with; the mean where they vary."""
    answered = max(1, round(found.packets * (1 - found.loss / MILLION)))
    margin = subject.delay * allowed.tolerance / MILLION + 3 * subject.jitter / sqrt(answered)
    measured = found.rtt_min if subject.is_steady else found.rtt_avg
    off = not -margin <= measured - subject.delay <= margin + allowed.slack
    return Aspect("delay", subject.delay, measured, off)


def _loss(subject: Subject, found: Round, rows: int) -> Aspect:
    lost = round(found.packets * found.loss / MILLION)
    unlikely = (1 - CONFIDENCE) / max(1, rows) / 2
    least = subject.loss / MILLION
    most = 1 - (1 - least) * (1 - subject.corrupt / MILLION)
    too_few = at_most(lost, found.packets, least) < unlikely
    too_many = 1 - at_most(lost - 1, found.packets, most) < unlikely
    off = (too_few or too_many) and not subject.has_bursts_of_loss
    return Aspect("loss", subject.loss, found.loss, off)


def _rate(flow: Flow, passed: Passed, tolerance: int) -> Aspect:
    allowed = max(_LEAST_RATE, flow.rate * tolerance / MILLION)
    difference = passed.rate - flow.rate
    off = difference > allowed or (passed.is_traffic and difference < -allowed)
    return Aspect("rate", flow.rate, passed.rate, off, flow.word, not passed.is_traffic)


def at_most(hits: int, tries: int, chance: float) -> float:
    """The probability of at most so many hits in independent tries (binomial distribution)."""
    if hits < 0:
        return 0.0
    if chance <= 0 or hits >= tries:
        return 1.0
    if chance >= 1:
        return 0.0
    return min(1.0, sum(_exactly(each, tries, chance) for each in range(hits + 1)))


def _exactly(hits: int, tries: int, chance: float) -> float:
    return comb(tries, hits) * chance**hits * (1 - chance) ** (tries - hits)
