"""What was measured, as text for people. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from vmib import units

from .measurement import Measurement, MeasurementPlan
from .plan_text import Paint, plain, plural
from .probe_verdict import Aspect, Measured
from .visible import visible


def _scaled(value: int, *names: str) -> str:
    """A value in units that are a thousand times each other, as measured values read well."""
    scaled, number = float(value), 0
    while scaled >= 1000 and number + 1 < len(names):
        scaled, number = scaled / 1000, number + 1
    return f"{scaled:.3f}".rstrip("0").rstrip(".") + names[number]


_FORMATS: Mapping[str, Callable[[int], str]] = {
    "delay": lambda microseconds: _scaled(microseconds, "us", "ms", "s"),
    "loss": units.format_probability,
    "rate": lambda kbps: _scaled(kbps, "kbit", "Mbit", "Gbit"),
}


def announcement(plan: MeasurementPlan, paths: int, seconds: float) -> str:
    """What is going to be measured, and how long that takes."""
    hosts, packets = plural(len(plan.hosts), "host"), plural(plan.packets, "packet")
    filled = f", {plural(paths, 'path')} filled" if paths else ""
    return (
        f"Measuring {len(plan.subjects)} interfaces and links of {hosts} by {packets} "
        f"each{filled}: about {seconds:.0f} s."
    )


def measurement_lines(found: Measurement, paint: Paint = plain) -> Iterator[str]:
    """Each row: what is described, what was measured, and by how much that is off."""
    width = max((len(visible(row.subject.name)) for row in found.rows), default=0)
    for row in found.rows:
        label = f"{visible(row.subject.host)}: {visible(row.subject.name):{width}}"
        yield f"{label}  {_row(row, paint)}"
    for host, reason in found.failed.items():
        yield f"{visible(host)}: {paint('not measured', 'bad')}: {visible(reason)}"
    yield _summary(found, paint)


def _row(row: Measured, paint: Paint) -> str:
    if row.reason:
        return f"{paint('not measured', 'bad' if row.is_wrong else 'quiet')}: {visible(row.reason)}"
    return "; ".join(_aspect(aspect, paint) for aspect in row.aspects)


def _aspect(aspect: Aspect, paint: Paint) -> str:
    form = _FORMATS[aspect.field]
    word = f"{aspect.word} " if aspect.word else ""
    difference = aspect.measured - aspect.configured
    sign = "-" if difference < 0 else "+"
    measured = f"{'passed' if aspect.is_passed else 'measured'} {form(aspect.measured)}"
    if difference and (aspect.off or not aspect.is_passed):
        measured += f" ({sign}{form(abs(difference))})"
    if aspect.off:
        measured = paint(f"{measured}, off", "bad")
    return f"{word}{aspect.field} {form(aspect.configured)}, {measured}"


def _summary(found: Measurement, paint: Paint) -> str:
    measured = plural(sum(row.round is not None for row in found.rows), "row")
    tolerance = units.format_probability(found.allowed.tolerance)
    off, failed = len(found.off), len(found.failed)
    if found.ok:
        return paint(f"{measured} measured: all as described, within {tolerance}.", "good")
    lost = f"; {plural(failed, 'host')} not measured" if failed else ""
    return paint(f"{measured} measured: {off} off by more than {tolerance}{lost}.", "bad")
