"""What a lab in virtual time measured, as tables of a page of the documentation.

    accuracy_page.py MEASUREMENTS.jsonl PAGE.md

What stands in the page between the two comments `measured in virtual time` is made anew.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

_BEGIN = "<!-- measured in virtual time: written by tests/lab/accuracy_page.py -->"
_END = "<!-- end of what was measured in virtual time -->"


@dataclass(frozen=True, slots=True)
class Found:
    """A configured value beside the measured one, as `vtime.judging` notes it."""

    what: str
    way: str
    conditions: str
    configured: float
    measured: float
    least: float
    most: float
    is_final: bool


def read(file: Path) -> list[Found]:
    """All that was noted."""
    return [Found(**json.loads(line)) for line in file.read_text().splitlines()]


def page(text: str, found: Iterable[Found]) -> str:
    """The page with the tables of what was found."""
    found = list(found)
    has_peers = any(one.way == "peers" for one in found)
    tables = "\n\n".join([_promised(found), *([_peers(found)] if has_peers else [])])
    between = re.compile(f"(?<={re.escape(_BEGIN)}\n).*?(?={re.escape(_END)})", re.DOTALL)
    made, count = between.subn(lambda _: f"\n{tables}\n\n", text)
    if count != 1:
        raise ValueError(f"the page has not {_BEGIN} and {_END}")
    return made


def _percent(value: float) -> str:
    return _signed(value * 100, 4, "%")


def _points(value: float) -> str:
    return _signed(value * 100, 2, "points")


def _microseconds(value: float) -> str:
    return _signed(value * 1e6, 1, "µs")


def _signed(value: float, digits: int, unit: str) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f} {unit}"  # no -0.0


@dataclass(frozen=True, slots=True)
class _Row:
    """What is told of one property: how a deviation is written, and relative to what."""

    what: str
    title: str
    promise: str
    tell: Callable[[float], str]
    relative: bool = True


_ROWS = (
    _Row("rate", "rate", "± 0.05 %", _percent),
    _Row("delay", "delay beyond the unshaped one", "± 25 µs", _microseconds, False),
    _Row("jitter", "jitter: mean and deviation", "4 standard errors", _microseconds, False),
    _Row("loss", "loss", "binomial, 99 %", _points, False),
    _Row("duplicate", "duplication", "binomial, 99 %", _points, False),
    _Row("corrupt", "corruption", "binomial, 99 %", _points, False),
    _Row("reorder", "reordering", "binomial, 99 %", _points, False),
    _Row("queue", "delay and a full queue (UDP)", "± 5 %", _percent),
    _Row("round trip", "longest round trip under load (TCP)", "± 5 %", _percent),
)


def _promised(found: list[Found]) -> str:
    lines = [
        "| | measurements | taken again | promise | least deviation | greatest deviation |",
        "|--|--|--|--|--|--|",
    ]
    for row in _ROWS:
        mine = [one for one in found if one.what == row.what and one.way != "peers"]
        final = [one for one in mine if one.is_final]
        if not final:
            continue
        off = [
            (one.measured - one.configured) / (one.configured if row.relative else 1)
            for one in final
        ]
        again = len(mine) - len(final)
        least, most = (row.tell(value) for value in (min(off), max(off)))
        lines.append(f"| {row.title} | {len(final)} | {again} | {row.promise} | {least} | {most} |")
    return "\n".join(lines)


def _peers(found: list[Found]) -> str:
    mine = [one for one in found if one.way == "peers"]
    lines = [
        "| | delay, idle | rate (UDP) | mean round trip, one TCP flow | longest |",
        "|--|--|--|--|--|",
    ]
    for who in dict.fromkeys(one.conditions for one in mine):
        values = {one.what: one for one in mine if one.conditions == who}
        rate = values["rate"]
        lines.append(
            f"| {who} | {values['delay'].measured * 1000:.3f} ms"
            f" | {_percent(rate.measured / rate.configured - 1)}"
            f" | {values['mean round trip'].measured * 1000:.0f} ms"
            f" | {values['longest round trip'].measured * 1000:.0f} ms |"
        )
    return "\n".join(lines)


def main() -> None:
    """Write the page."""
    measurements, file = map(Path, sys.argv[1:])
    file.write_text(page(file.read_text(), read(measurements)))


if __name__ == "__main__":
    main()
