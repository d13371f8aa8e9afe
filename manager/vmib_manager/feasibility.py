"""What the real network can carry: rates and delays of links against the cables below them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

from vmib.units import format_rate, format_time

from .findings import Finding, error, warning
from .model import Cable, Model, Source
from .paths import PairPath


@dataclass(frozen=True, slots=True)
class Carriage:
    """The way between two hosts: its cables, each with whether it is passed from a to b.

    `capacity` is the least on the way, 0 where nothing is known; `delay` the sum.
    """

    cables: tuple[tuple[Cable, bool], ...]
    capacity: int
    delay: int


def carriages(model: Model, start: str) -> dict[str, Carriage]:
    """The shortest way (delay, then number of cables) from a host to every other host."""
    hosts = {host.id for host in model.real.hosts}
    capacities = {node.id: node.capacity for node in model.real.nodes}
    steps: dict[str, list[tuple[str, Cable, bool]]] = {}
    for cable in model.real.cables:
        steps.setdefault(cable.a, []).append((cable.b, cable, True))
        steps.setdefault(cable.b, []).append((cable.a, cable, False))
    best: dict[str, Carriage] = {}
    ways: list[tuple[str, Carriage]] = [(start, Carriage((), 0, 0))]
    queue = [(0, 0, 0)]
    while queue:
        _, _, at = heappop(queue)
        node, way = ways[at]
        if node in best:
            continue
        best[node] = way
        if node in hosts and node != start:
            continue
        for to, cable, forward in steps.get(node, ()):
            known = (way.capacity, cable.capacity, capacities.get(to, 0))
            capacity = min((value for value in known if value), default=0)
            delay = way.delay + cable.delay
            ways.append((to, Carriage((*way.cables, (cable, forward)), capacity, delay)))
            heappush(queue, (delay, len(way.cables) + 1, len(ways) - 1))
    return {node: way for node, way in best.items() if node in hosts}


def check(model: Model, pairs: tuple[PairPath, ...]) -> Iterator[Finding]:
    """Links and paths that the real network cannot carry, and cables that may not carry the sum."""
    ways = {host.id: carriages(model, host.id) for host in model.real.hosts}
    yield from _apart(model, ways)
    seen: set[tuple[str, str, Source]] = set()
    loads: dict[tuple[Cable, bool], int] = {}
    for pair in pairs:
        start, stop = pair.a.machine.host, pair.b.machine.host
        way = ways[start].get(stop)
        if start == stop or way is None:
            continue
        for step in way.cables:
            loads[step] = loads.get(step, 0) + pair.impairment.rate
        if (start, stop, pair.source) not in seen:
            found = list(_beyond(pair, way, start, stop))
            if found:
                seen.add((start, stop, pair.source))
            yield from found
    yield from _overloaded(loads)


def _apart(model: Model, ways: dict[str, dict[str, Carriage]]) -> Iterator[Finding]:
    for site in model.virtual.sites:
        present = [
            attachment.machine.host
            for member in site.members
            for attachment in model.attachments.get(member.machine, ())
            if attachment.member is member
        ]
        hosts = list(dict.fromkeys(present))
        cut = [host for host in hosts[1:] if host not in ways[hosts[0]]]
        if cut:
            message = f"no cables lead from {hosts[0]} to {', '.join(cut)}, over which"
            message += f" {site.id} is spread: rates and delays between them are not checked"
            yield warning(site.source, message, "add cables to the real file")


def _beyond(pair: PairPath, way: Carriage, start: str, stop: str) -> Iterator[Finding]:
    names = f"{pair.a.member.machine} to {pair.b.member.machine}"
    rate, delay = pair.impairment.rate, pair.impairment.delay
    if way.capacity and rate > way.capacity:
        message = f"{names} shall have {format_rate(rate)}, but {start} and {stop} are joined by"
        message += f" {format_rate(way.capacity)}"
        yield error(pair.source, message, "lower the rate, or move one machine to the other's host")
    if 0 < delay < way.delay:
        message = f"{names} shall take {format_time(delay)}, but {start} to {stop} takes"
        message += f" {format_time(way.delay)}"
        yield error(
            pair.source, message, "raise the delay, or move one machine to the other's host"
        )


def _overloaded(loads: dict[tuple[Cable, bool], int]) -> Iterator[Finding]:
    for (cable, forward), load in loads.items():
        if cable.capacity and load > cable.capacity:
            start, stop = (cable.a, cable.b) if forward else (cable.b, cable.a)
            message = f"links from {start} to {stop} add up to {format_rate(load)}, the cable"
            message += f" carries {format_rate(cable.capacity)}"
            yield warning(cable.source, message, "move machines, or do not use all links at once")
