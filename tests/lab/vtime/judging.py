"""What is promised of a measured value, and the record of all that was measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

CONFIDENCE = 0.99
RATE_ERROR = 0.0005
DELAY_ERROR = 25e-6
LOAD_ERROR = 0.05


@dataclass(frozen=True, slots=True)
class Measurement:
    """A configured value beside the measured one, and between which values it has to be."""

    what: str
    way: str
    conditions: str
    configured: float
    measured: float
    least: float
    most: float
    is_final: bool = True
    """Whether it was not taken again, because it did not hold or another one with it did not."""

    @property
    def holds(self) -> bool:
        return self.least <= self.measured <= self.most


@dataclass(frozen=True, slots=True)
class Record:
    """Where measurements are noted: a line of JSON each."""

    file: Path

    def expect(self, measurement: Measurement) -> None:
        """Note a measurement, and fail where the promise is not kept."""
        self.note(measurement)
        assert measurement.holds, measurement

    def note(self, measurement: Measurement) -> None:
        """Note a measurement."""
        with self.file.open("a") as lines:
            lines.write(json.dumps(asdict(measurement)) + "\n")

    def settled(self, measure: Callable[[], Sequence[Measurement]]) -> None:
        """Expect what is measured to hold in one of three attempts, all of which are noted.

        For a dom0 with one processor, where a frame that comes while the agent works waits for it.
        """
        for left in (2, 1, 0):
            found = measure()
            if all(each.holds for each in found) or not left:
                for each in found:
                    self.expect(each)
                return
            for each in found:
                self.note(replace(each, is_final=False))

    def around(
        self, what: str, way: str, conditions: str, configured: float, measured: float, error: float
    ) -> None:
        """Expect a value that is at most `error` off."""
        self.expect(around(what, way, conditions, configured, measured, error))

    def counted(
        self,
        what: str,
        way: str,
        conditions: str,
        probability: float,
        count: Callable[[], tuple[int, int]],
    ) -> None:
        """Expect that of so many events as many happen as their probability says.

        `count` tells how many did and of how many. The interval is that which 1 of 100 exact
        counts leaves: who leaves it is counted once more, twice is a failure.
        """
        for attempt in (1, 2):
            happened, among = count()
            least, most = (limit / among for limit in binomial_interval(among, probability))
            found = Measurement(what, way, conditions, probability, happened / among, least, most)
            if attempt == 2 or found.holds:
                self.expect(found)
                return
            self.note(replace(found, is_final=False))


def around(
    what: str, way: str, conditions: str, configured: float, measured: float, error: float
) -> Measurement:
    """A value that has to be at most `error` off."""
    least, most = configured - error, configured + error
    return Measurement(what, way, conditions, configured, measured, least, most)


def binomial_interval(among: int, probability: float) -> tuple[int, int]:
    """The least and the most events with 99 % between them, the rest in equal parts outside."""
    tail = (1 - CONFIDENCE) / 2
    below, least = 0.0, -1
    for happened in range(among + 1):
        below += _binomial(happened, among, probability)
        if least < 0 and below > tail:
            least = happened
        if below >= 1 - tail:
            return least, happened
    return least, among


def _binomial(happened: int, among: int, probability: float) -> float:
    """The probability of that many events."""
    combinations = (
        math.lgamma(among + 1) - math.lgamma(happened + 1) - math.lgamma(among - happened + 1)
    )
    return math.exp(
        combinations
        + happened * math.log(probability)
        + (among - happened) * math.log1p(-probability)
    )
