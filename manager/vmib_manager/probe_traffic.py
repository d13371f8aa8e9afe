"""Rates measured with real traffic, in a lab of this computer: whether limits are reached.

A rate that nothing fills cannot be measured. Here full frames are sent between the machines of a
lab (`measure.flow`), along each path whose narrowest rate is that of a row: what arrives is the
rate of that row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .measure import Endpoint, flow
from .measurement import MeasurementPlan
from .probe_plan import LINK, Flow, Subject
from .probe_verdict import Passed

SECONDS = 1.0
"""How long frames are sent along a path."""
MOST_RATE = 200_000
"""kbit/s: a faster rate is not filled from here."""
_SILENCE = 0.7


@dataclass(frozen=True, slots=True)
class Stretch:
    """A path to be filled: from where to where, its narrowest rate, and whose rate that is."""

    source: Endpoint
    sink: Endpoint
    rate: int
    flows: tuple[tuple[str, Flow], ...]


def stretches(plan: MeasurementPlan, machines: Mapping[str, Endpoint]) -> list[Stretch]:
    """The paths that together have every rate as their narrowest, if there is such a path."""
    interfaces = {subject.machine: subject for subject in plan.subjects if subject.one_by_one}
    links = {
        (subject.machine, str(subject.probe.dest)): subject
        for subject in plan.subjects
        if not subject.one_by_one
    }
    covered: set[tuple[str, Flow]] = set()
    found = []
    for source in machines.values():
        for sink in machines.values():
            if source is sink or ":" in source.address + sink.address:
                continue
            link = links.get((source.name, sink.address))
            passed = list(_flows(interfaces.get(source.name), link, interfaces.get(sink.name)))
            rates = [each.rate for _, each in passed if each.rate]
            if not rates or min(rates) > MOST_RATE:
                continue
            narrowest = tuple(each for each in passed if each[1].rate == min(rates))
            if not covered.issuperset(narrowest):
                covered.update(narrowest)
                found.append(Stretch(source, sink, min(rates), narrowest))
    return found


def _flows(
    source: Subject | None, link: Subject | None, sink: Subject | None
) -> Iterator[tuple[str, Flow]]:
    if source is not None:
        yield from ((source.host, each) for each in source.flows if each.word == "sends")
    if link is not None:
        yield from ((link.host, each) for each in link.flows if each.table == LINK)
    if sink is not None:
        yield from ((sink.host, each) for each in sink.flows if each.word == "receives")


def seconds(found: Sequence[Stretch]) -> float:
    """How long filling these paths takes, one after the other."""
    return len(found) * (SECONDS + _SILENCE)


def fill(found: Sequence[Stretch], tell: Callable[[int], None]) -> dict[tuple[str, Flow], Passed]:
    """What arrives along each path; raises `VmibError` where nothing does, and `OSError`."""
    passed: dict[tuple[str, Flow], Passed] = {}
    for number, stretch in enumerate(found, 1):
        rate = round(flow(stretch.source, stretch.sink, stretch.rate, SECONDS))
        passed |= dict.fromkeys(stretch.flows, Passed(rate, is_traffic=True))
        tell(number)
    return passed
