"""The picture of a virtual network as SVG.

The document stands alone, follows the reader's light or dark theme, and names everything in text,
so that it can be searched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape

from .graph_layout import (
    CHIP_TEXT,
    HEAD,
    LABEL_HEIGHT,
    LABEL_LINE,
    MARGIN,
    Box,
    Curve,
    Layout,
    layout,
    site_title,
)
from .graph_model import Graph, GraphLink, GraphMachine, GraphSite, NodeState

_HOST_COLOURS = (
    "#3b73b9",
    "#b8651b",
    "#2f8f5b",
    "#8a4fa3",
    "#c04a62",
    "#0f8a94",
    "#93801f",
    "#7d7d7d",
)

STYLE = """
svg { font: 13px system-ui, 'DejaVu Sans', sans-serif; }
.ground { fill: #f6f6f3; } .card { fill: #ffffff; stroke: #c9ccd1; } text { fill: #1d2127; }
.chip { fill: #ffffff; stroke-width: 1.5; } .gateway { stroke-width: 3; }
.quiet { fill: #5a626d; font-size: 11px; } .title { font-size: 18px; font-weight: 600; }
.site { font-weight: 600; } .link { fill: none; stroke-width: 2.5; }
.router { fill: #ffffff; stroke: #1d2127; stroke-width: 2; }
.label { fill: #ffffff; stroke: #c9ccd1; } .does { font-size: 12px; }
.planned { stroke: #6b7480; } .inSync { stroke: #23834a; } .waiting { stroke: #9aa2ad; }
.drifted { stroke: #c26a00; } .failed { stroke: #c4262e; } .silent { stroke: #8a3ffc; }
.different { stroke: #0b6bcb; stroke-dasharray: 8 3; }
.waiting, .planned { stroke-dasharray: 5 3; } .silent { stroke-dasharray: 2 3; }
.mark circle { stroke: none; } .mark text { fill: #ffffff; font-size: 12px; font-weight: 700; }
.mark .drifted { fill: #9a5200; } .mark .failed { fill: #b3202a; } .mark .silent { fill: #6929c4; }
.mark .waiting { fill: #5a626d; } .mark .different { fill: #0b57a4; }
@media (prefers-color-scheme: dark) {
.ground { fill: #15181c; } .card, .chip, .router, .label { fill: #1e2228; }
.card, .label { stroke: #3d444d; } text { fill: #e8eaed; } .quiet { fill: #a3abb6; }
.router { stroke: #e8eaed; } .planned { stroke: #98a1ad; } .inSync { stroke: #4cc27c; }
.waiting { stroke: #6d7683; } .drifted { stroke: #f0a040; } .failed { stroke: #ff6b6b; }
.silent { stroke: #be95ff; } .different { stroke: #6cb2ff; } }
"""
"""What is in the document's one style element."""

_MARKS = {
    NodeState.WAITING: "…",
    NodeState.DRIFTED: "!",
    NodeState.FAILED: "×",  # noqa: RUF001
    NodeState.SILENT: "?",
    NodeState.DIFFERENT: "≠",
}
"""States are told by more than colours."""


def svg(graph: Graph, *, titled: bool = True) -> str:
    """The picture as an SVG document; not `titled` is for a page that has the title itself."""
    states = _states(graph)
    words = [*graph.hosts, *(state.words for state in states)]
    places = layout(graph, words)
    return "\n".join([*_document(graph, places, states, titled), "</svg>", ""])


def _states(graph: Graph) -> list[NodeState]:
    """The states that occur, from good to bad."""
    seen = {machine.state for site in graph.sites for machine in site.machines}
    seen |= {link.state for link in graph.links}
    return [state for state in NodeState if state in seen]


def _document(graph: Graph, places: Layout, states: list[NodeState], titled: bool) -> Iterator[str]:
    top = 0 if titled else HEAD - MARGIN
    size = f'width="{places.width:.0f}" height="{places.height - top:.0f}"'
    title = escape(graph.title)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'viewBox="0 {top} {places.width:.0f} {places.height - top:.0f}" role="img" '
        f'aria-label="{title}">'
    )
    yield f"<title>{title}</title><style>{STYLE}</style>"
    yield f'<rect class="ground" y="{top}" {size}/>' if top else f'<rect class="ground" {size}/>'
    if titled:
        yield f'<text class="title" x="{MARGIN}" y="{MARGIN + 14}">{title}</text>'
    colours = {h: _HOST_COLOURS[i % len(_HOST_COLOURS)] for i, h in enumerate(graph.hosts)}
    for site in graph.sites:
        yield from _card(site, places.cards[site.name], places.titles[site.name])
    for link, curve in zip(graph.links, places.curves, strict=True):
        yield _line(link, curve)
    for site in graph.sites:
        for machine in site.machines:
            yield _chip(machine, places.chips[machine.name], colours[machine.host])
    for router in graph.routers:
        yield _router(router, places.routers[router])
    for link, label, curve in zip(graph.links, places.labels, places.curves, strict=True):
        if label is not None:
            yield from _label(link, label, curve)
    yield from _legend(places, colours, states)


def _card(site: GraphSite, card: Box, title: Box) -> Iterator[str]:
    yield (
        f'<rect class="card" x="{card.x:.1f}" y="{card.y:.1f}" width="{card.width:.1f}" '
        f'height="{card.height:.1f}" rx="10"/>'
    )
    yield (
        f'<text x="{title.x + 12:.1f}" y="{title.y + 22:.1f}"><tspan class="site">'
        f'{escape(site.name)}</tspan> <tspan class="quiet" dx="6">{escape(site_title(site))}'
        "</tspan></text>"
    )


def _chip(machine: GraphMachine, box: Box, colour: str) -> str:
    kind = f"chip{' gateway' * machine.gateway} {machine.state.value}"
    hint = f"{machine.name} {machine.address} on {machine.host}: {machine.state.words}"
    x = box.x + CHIP_TEXT
    return (
        f'<g><title>{escape(hint)}</title><rect class="{kind}" x="{box.x:.1f}" y="{box.y:.1f}" '
        f'width="{box.width:.1f}" height="{box.height}" rx="7"/>'
        f'<rect x="{box.x + 7:.1f}" y="{box.y + 8:.1f}" width="6" height="{box.height - 16}" '
        f'rx="3" fill="{colour}"/>'
        f'<text x="{x:.1f}" y="{box.y + 17:.1f}">{escape(machine.name)}</text>'
        f'<text class="quiet" x="{x:.1f}" y="{box.y + 32:.1f}">{escape(machine.address)}</text>'
        f"{_mark(machine.state, box.x + box.width - 4, box.y + 4)}</g>"
    )


def _mark(state: NodeState, x: float, y: float) -> str:
    """A sign of a state that is to be noticed."""
    if state not in _MARKS:
        return ""
    return (
        f'<g class="mark"><circle class="{state.value}" cx="{x:.1f}" cy="{y:.1f}" r="8"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{_MARKS[state]}</text></g>'
    )


def _router(name: str, box: Box) -> str:
    x, y = box.middle
    return (
        f'<g><circle class="router" cx="{x:.1f}" cy="{y:.1f}" r="{box.width / 2}"/>'
        f'<text x="{x:.1f}" y="{y - 2:.1f}" text-anchor="middle" class="site">{escape(name)}</text>'
        f'<text x="{x:.1f}" y="{y + 14:.1f}" text-anchor="middle" class="quiet">router</text></g>'
    )


def _line(link: GraphLink, curve: Curve) -> str:
    start, *others = (f"{x:.1f} {y:.1f}" for x, y in curve.points)
    hint = f"{link.a} - {link.b}: {link.label}, {link.state.words}"
    if link.forth:
        hint += f"; {link.a} to {link.b} {link.forth}, back {link.back}"
    return (
        f'<path class="link {link.state.value}" d="M {start} C {" ".join(others)}">'
        f"<title>{escape(hint)}</title></path>"
    )


def _label(link: GraphLink, box: Box, curve: Curve) -> Iterator[str]:
    x = box.x + box.width / 2
    yield (
        f'<rect class="label" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height}" rx="{LABEL_HEIGHT / 2}"/><text class="does" x="{x:.1f}" '
        f'y="{box.y + LABEL_HEIGHT / 2 + 4:.1f}" text-anchor="middle">{escape(link.label)}</text>'
    )
    if link.forth:
        yield (
            f'<text class="quiet" x="{x:.1f}" y="{box.y + LABEL_HEIGHT + LABEL_LINE / 2 + 1:.1f}" '
            f'text-anchor="middle">{escape(_passing(link, curve))}</text>'
        )
    yield _mark(link.state, box.x + 6, box.y + 2)


def _passing(link: GraphLink, curve: Curve) -> str:
    """What passes a link, with arrows as it lies in the picture: right or down comes first."""
    (ax, ay), *_, (bx, by) = curve.points
    right, left = ("→", "←") if abs(bx - ax) >= abs(by - ay) else ("↓", "↑")
    first, second = link.forth, link.back
    if (bx - ax if right == "→" else by - ay) < 0:
        first, second = second, first
    return f"{right} {first}  {left} {second}"


def _legend(places: Layout, colours: Mapping[str, str], states: list[NodeState]) -> Iterator[str]:
    of_hosts, of_states = places.legend[: len(colours)], places.legend[len(colours) :]
    for (host, colour), (x, y) in zip(colours.items(), of_hosts, strict=True):
        yield (
            f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="6" height="13" rx="3" fill="{colour}"/>'
            f'<text class="quiet" x="{x + 12:.1f}" y="{y:.1f}">{escape(host)}</text>'
        )
    for state, (x, y) in zip(states, of_states, strict=True):
        yield (
            f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="20" height="13" rx="4" '
            f'class="chip {state.value}"/>{_mark(state, x + 10, y - 3.5)}'
            f'<text class="quiet" x="{x + 26:.1f}" y="{y:.1f}">{state.words}</text>'
        )
