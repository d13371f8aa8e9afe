"""From links to paths: what lies between each two machines that links connect.

Links meet in virtual routers; no packet ever visits those. Instead each ordered pair of machines
gets one impairment, put together along the shortest path, as Kollaps does (Gouveia et al.,
"Kollaps: decentralized and dynamic topology emulation", EuroSys 2020): rates by minimum, delays
by sum, jitters by the root of the summed squares, probabilities by 1 - product(1 - p). Machines
do not forward here: what passes through one is a matter of its routes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import isqrt, prod

from vmib.impairment import Impairment

from .model import Attachment, End, Link, Model, Source

MILLION = 1_000_000

_Node = str | tuple[str, int]
"""A virtual router by its name, or an interface of a machine."""


@dataclass(frozen=True, slots=True)
class PairPath:
    """What lies between two machines, in one direction.

    `links` are those it leads through, empty where the file says it as a path; `source` is the
    line to name in messages.
    """

    a: Attachment
    b: Attachment
    impairment: Impairment
    links: tuple[Link, ...]
    source: Source = field(compare=False)


def compose(hops: Sequence[Impairment]) -> Impairment:
    """One impairment for several in a row; `hops` must not be empty.

    Burst and queue limit are those of the hop with the lowest rate (without any rate, of the
    shortest queue), the distribution that of the largest jitter, the correlation that of the
    largest loss; of equals, the first.
    """
    if len(hops) == 1:
        return hops[0]
    narrow = min(hops, key=lambda hop: (hop.rate or _INFINITE, hop.queue_limit or _INFINITE))
    uneven = max(hops, key=lambda hop: hop.jitter)
    lossy = max(hops, key=lambda hop: hop.loss)
    return Impairment(
        rate=narrow.rate,
        burst=narrow.burst,
        queue_limit=narrow.queue_limit,
        delay=sum(hop.delay for hop in hops),
        jitter=_nearest_root(sum(hop.jitter**2 for hop in hops)),
        distribution=uneven.distribution,
        loss=_any_of(hop.loss for hop in hops),
        loss_correlation=lossy.loss_correlation,
        duplicate=_any_of(hop.duplicate for hop in hops),
        corrupt=_any_of(hop.corrupt for hop in hops),
        reorder=_any_of(hop.reorder for hop in hops),
    )


_INFINITE = 2**64


def _nearest_root(square: int) -> int:
    root = isqrt(square)
    return root + (square - root * root > root)


def _any_of(ppm: Iterable[int]) -> int:
    """Parts per million of at least one of independent events, rounded to the nearest."""
    events = list(ppm)
    spared = prod(MILLION - p for p in events)
    whole = prod(MILLION for _ in events)
    return ((whole - spared) * MILLION * 2 + whole) // (2 * whole)


@dataclass(frozen=True, slots=True)
class _Edge:
    """One direction of a link; `position` is that of the link in the file."""

    position: int
    to: _Node
    cost: int
    impairment: Impairment
    link: Link


@dataclass(frozen=True, slots=True)
class _Graph:
    edges: dict[_Node, list[_Edge]]
    attachments: dict[tuple[str, int], Attachment]


def _graph(model: Model) -> _Graph:
    routers = {router.id for router in model.virtual.routers}
    graph = _Graph({}, {})

    def node(end: End) -> _Node | None:
        if end.name in routers and end.vif is None:
            return end.name
        attachment = model.attached(end)
        if attachment is None:
            return None
        graph.attachments[attachment.key] = attachment
        return attachment.key

    for position, link in enumerate(model.virtual.links):
        a, b = node(link.a), node(link.b)
        if a is None or b is None or a == b:
            continue
        for start, stop, impairment in ((a, b, link.ab), (b, a, link.ba)):
            cost = impairment.delay if link.weight is None else link.weight
            edge = _Edge(position, stop, cost, impairment, link)
            graph.edges.setdefault(start, []).append(edge)
    return graph


def _shortest(graph: _Graph, start: tuple[str, int]) -> dict[tuple[str, int], tuple[_Edge, ...]]:
    """The best way to every machine: lowest cost, then fewest hops, then first in the file."""
    best: dict[_Node, tuple[_Edge, ...]] = {}
    queue: list[tuple[int, int, tuple[int, ...], int]] = []
    ways: list[tuple[_Node, tuple[_Edge, ...]]] = [(start, ())]
    heappush(queue, (0, 0, (), 0))
    while queue:
        cost, hops, positions, at = heappop(queue)
        node, way = ways[at]
        if node in best:
            continue
        best[node] = way
        if node != start and isinstance(node, tuple):
            continue
        for edge in graph.edges.get(node, ()):
            if edge.to not in best:
                ways.append((edge.to, (*way, edge)))
                order = (*positions, edge.position)
                heappush(queue, (cost + edge.cost, hops + 1, order, len(ways) - 1))
    return {node: way for node, way in best.items() if isinstance(node, tuple) and way}


def collapse(model: Model) -> tuple[PairPath, ...]:
    """One `PairPath` for each ordered pair of machines that links or paths connect.

    Links whose ends do not exist are left out; `checks.check` reports them.
    """
    graph = _graph(model)
    pairs: dict[tuple[tuple[str, int], tuple[str, int]], PairPath] = {}
    composed: dict[tuple[Impairment, ...], Impairment] = {}
    for start, attachment in graph.attachments.items():
        for stop, way in _shortest(graph, start).items():
            peer = graph.attachments[stop]
            if peer.member.machine == attachment.member.machine:
                continue
            hops = tuple(edge.impairment for edge in way)
            impairment = composed.get(hops)
            if impairment is None:
                impairment = composed[hops] = compose(hops)
            links = tuple(edge.link for edge in way)
            pairs[start, stop] = PairPath(attachment, peer, impairment, links, links[0].source)
    for path in model.virtual.paths:
        a, b = model.attached(path.start), model.attached(path.stop)
        if a is None or b is None:
            continue
        pairs[a.key, b.key] = PairPath(a, b, path.forth, (), path.source)
        if path.back is not None:
            pairs[b.key, a.key] = PairPath(b, a, path.back, (), path.source)
    return tuple(pairs.values())
