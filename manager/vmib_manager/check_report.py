"""What a check found, and its status, line and performance data, as nagiosplugin makes them. Pure.

A report is a list of facts and values. Texts of agents are made fit for one line of a plug-in.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nagiosplugin
from nagiosplugin import Check, Metric, Range
from nagiosplugin.output import Output

from .visible import visible

OK, WARNING, CRITICAL = nagiosplugin.Ok, nagiosplugin.Warn, nagiosplugin.Critical

NO_RANGE = Range()
"""A threshold that everything is inside of."""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is so, and whether that is well."""

    name: str
    state: Any
    text: str


@dataclass(frozen=True, slots=True)
class Value:
    """A number: performance data, and well inside its ranges. Without a text nobody is told."""

    name: str
    value: float
    text: str = ""
    unit: str = ""
    warning: Range = NO_RANGE
    critical: Range = NO_RANGE
    low: float | None = 0
    high: float | None = None


Report = Sequence[Fact | Value]


def line(text: str) -> str:
    """A text of others as a part of a plug-in's line, where `|` begins performance data."""
    return visible(text).replace("|", "/")


def check(name: str, report: Report) -> Check:
    """The check with this report as its outcome."""
    return Check(_Resource(f"vmib {name}", report), _Summary(), *map(_context, report))


def text(made: Check, verbose: int) -> str:
    """Carry out a check; what a plug-in prints of it, without the line feed at the end."""
    made()
    output = Output(logging.StreamHandler(io.StringIO()), verbose)
    output.add(made)
    return str(output).rstrip("\n")


class _Resource(nagiosplugin.Resource):  # type: ignore[misc]
    def __init__(self, name: str, report: Report) -> None:
        self._name = name
        self._report = report

    @property
    def name(self) -> str:
        """What the line begins with."""
        return self._name

    def probe(self) -> list[Metric]:
        return [_metric(each) for each in self._report]


def _metric(found: Fact | Value) -> Metric:
    if isinstance(found, Fact):
        return Metric(found.name, found.state)
    return Metric(found.name, found.value, found.unit, found.low, found.high)


def _context(found: Fact | Value) -> nagiosplugin.Context:
    text = line(found.text)
    if isinstance(found, Fact):
        return _FactContext(found.name, lambda *_: text)
    return nagiosplugin.ScalarContext(
        found.name, found.warning, found.critical, lambda *_: text, _Result
    )


class _Result(nagiosplugin.Result):  # type: ignore[misc]
    """What a value says is enough: ranges are in the performance data."""

    def __str__(self) -> str:
        return str(self.metric.description)


class _FactContext(nagiosplugin.Context):  # type: ignore[misc]
    def evaluate(self, metric: Metric, resource: nagiosplugin.Resource) -> nagiosplugin.Result:
        return nagiosplugin.Result(metric.value, metric=metric)


class _Summary(nagiosplugin.Summary):  # type: ignore[misc]
    """All that is so while it is well; what is not, the worst first, where something is not."""

    def ok(self, results: nagiosplugin.Results) -> str:
        return ", ".join(filter(None, map(str, results.results)))

    def problem(self, results: nagiosplugin.Results) -> str:
        return ", ".join(filter(None, (str(each) for each in results if each.state != OK)))

    def verbose(self, results: nagiosplugin.Results) -> list[str]:
        return [f"{each.state}: {each}" for each in results.results if str(each)]
