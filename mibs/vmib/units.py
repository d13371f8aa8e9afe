"""Quantities as people write them, to and from the numbers of the MIB.

Rates are bits (never bytes) per second, times are seconds, probabilities percent, sizes octets;
a unit is always written and its case counts. What the MIB cannot hold exactly is refused, not
rounded: rates are whole kbit/s, times whole microseconds, probabilities whole parts per million
and sizes whole octets. Each `format_` is the inverse of its `parse_` and gives the shortest text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from .errors import ValueRefused

MAX_UNSIGNED32 = 2**32 - 1
MILLION = 1_000_000

_QUANTITY = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?([^0-9.\s]*)")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A kind of quantity: its units (as multiples of the MIB's own) and what may be said of it.

    `word` is the text for 0 where 0 means something else than nothing, as in rate 0 = unlimited.
    `hint` says what to write instead of the usual mistakes.
    """

    kind: str
    scales: Mapping[str, Fraction]
    whole: str
    maximum: int
    example: str
    word: str = ""
    hint: str = ""

    @property
    def allowed(self) -> str:
        """What may be written, in one phrase."""
        units = ", ".join(self.scales)
        word = f", or '{self.word}'" if self.word else ""
        return f"a number with one of the units {units}, such as '{self.example}'{word}"

    def parse(self, text: str, name: str) -> int:
        """The number of the MIB for a text; raises `ValueRefused`, naming `name`."""
        if self.word and text == self.word:
            return 0
        matched = _QUANTITY.fullmatch(text)
        if matched is None:
            raise ValueRefused(name, text, self.allowed)
        number, unit = matched.groups()
        scale = self.scales.get(unit)
        if scale is None:
            raise ValueRefused(name, text, f"{self.allowed}; {self._about(unit)}")
        value = Fraction(number) * scale
        if value.denominator != 1:
            raise ValueRefused(name, text, f"a whole number of {self.whole}")
        if value > self.maximum:
            raise ValueRefused(name, text, f"at most {self.format(self.maximum)}")
        if value == 0 and self.word:
            raise ValueRefused(name, text, f"more than 0; for no limit of one's own '{self.word}'")
        return int(value)

    def _about(self, unit: str) -> str:
        if not unit:
            return "the unit is missing"
        same = [known for known in self.scales if known.lower() == unit.removesuffix("/s").lower()]
        if same:
            return f"case counts: '{same[0]}', not '{unit}'"
        return self.hint or f"'{unit}' is no unit of {self.kind}"

    def format(self, value: int) -> str:
        """The shortest text that stands for a number of the MIB, exactly."""
        if value == 0 and self.word:
            return self.word
        texts = []
        for place, (unit, scale) in enumerate(self.scales.items()):
            number = _decimal(Fraction(value) / scale)
            if "/" not in unit and number is not None:
                texts.append((len(number) + len(unit), "." in number, -place, number + unit))
        return min(texts)[-1]


def _decimal(value: Fraction) -> str | None:
    """A fraction as a decimal number without exponent, or None where it takes over 20 places."""
    for places in range(21):
        shifted = value * 10**places
        if shifted.denominator == 1:
            digits = str(shifted.numerator).rjust(places + 1, "0")
            return f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return None


def _with_per_second(scales: Mapping[str, Fraction]) -> dict[str, Fraction]:
    return {**scales, **{f"{unit}/s": scale for unit, scale in scales.items()}}


RATE = Quantity(
    kind="rate",
    scales=_with_per_second(
        {
            "bit": Fraction(1, 1000),
            "kbit": Fraction(1),
            "Mbit": Fraction(1000),
            "Gbit": Fraction(MILLION),
            "Tbit": Fraction(1000 * MILLION),
        }
    ),
    whole="kbit/s",
    maximum=MAX_UNSIGNED32,
    example="1.5Mbit",
    word="unlimited",
    hint="'bps' and 'B' leave open whether bits or bytes are meant: write bits, as in 'Mbit'",
)
TIME = Quantity(
    kind="time",
    scales={"us": Fraction(1), "ms": Fraction(1000), "s": Fraction(MILLION)},
    whole="microseconds",
    maximum=MAX_UNSIGNED32,
    example="20ms",
)
PROBABILITY = Quantity(
    kind="probability",
    scales={"%": Fraction(10_000)},
    whole="parts per million (0.0001%)",
    maximum=MILLION,
    example="0.5%",
)
SIZE = Quantity(
    kind="size",
    scales={
        "B": Fraction(1),
        "kB": Fraction(1000),
        "MB": Fraction(MILLION),
        "GB": Fraction(1000 * MILLION),
        "KiB": Fraction(2**10),
        "MiB": Fraction(2**20),
        "GiB": Fraction(2**30),
    },
    whole="octets",
    maximum=MAX_UNSIGNED32,
    example="15kB",
    word="auto",
    hint="sizes are octets: B, kB (1000) or KiB (1024)",
)


def parse_rate(text: str, name: str = "rate") -> int:
    """kbit/s of a text such as `1.5Mbit`, `512kbit/s` or `unlimited` (0)."""
    return RATE.parse(text, name)


def format_rate(kbps: int) -> str:
    """The shortest text for kbit/s."""
    return RATE.format(kbps)


def parse_time(text: str, name: str = "time") -> int:
    """Microseconds of a text such as `20ms`, `250us` or `1.5s`."""
    return TIME.parse(text, name)


def format_time(microseconds: int) -> str:
    """The shortest text for microseconds."""
    return TIME.format(microseconds)


def parse_probability(text: str, name: str = "probability") -> int:
    """Parts per million of a text such as `0.5%`."""
    return PROBABILITY.parse(text, name)


def format_probability(ppm: int) -> str:
    """The shortest text for parts per million."""
    return PROBABILITY.format(ppm)


def parse_size(text: str, name: str = "size") -> int:
    """Octets of a text such as `15kB`, `1KiB` or `auto` (0)."""
    return SIZE.parse(text, name)


def format_size(octets: int) -> str:
    """The shortest text for octets."""
    return SIZE.format(octets)
