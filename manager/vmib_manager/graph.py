"""The picture of a virtual network: sites, machines, routers and links, coloured by state.

A `Graph` is plain data; `svg` and `dot` are pure functions of it. The SVG stands alone, follows
the reader's light or dark theme, and names everything in text, so that it can be searched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from xml.sax.saxutils import escape, quoteattr

from vmib.errors import ValueRefused


class NodeState(Enum):
    """How a machine or a link compares with what is wanted of it."""

    PLANNED = "planned"
    IN_SYNC = "inSync"
    WAITING = "waiting"
    DRIFTED = "drifted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class GraphMachine:
    """A machine of a site; a gateway stands at the border of its site."""

    name: str
    host: str
    address: str = ""
    gateway: bool = False
    state: NodeState = NodeState.PLANNED


@dataclass(frozen=True, slots=True)
class GraphSite:
    """A site with its members in the order of the file."""

    name: str
    subnet: str
    machines: tuple[GraphMachine, ...]


@dataclass(frozen=True, slots=True)
class GraphLink:
    """A link between two machines, two routers, or one of each; the label says what it does."""

    a: str
    b: str
    label: str
    state: NodeState = NodeState.PLANNED


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything in the picture."""

    title: str
    sites: tuple[GraphSite, ...]
    routers: tuple[str, ...]
    links: tuple[GraphLink, ...]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that machines live on, in the order of first appearance."""
        return tuple(dict.fromkeys(m.host for site in self.sites for m in site.machines))


_CHIP_WIDTH, _CHIP_HEIGHT, _GAP = 128, 40, 10
_MARGIN, _TITLE, _BAND = 28, 34, 190
_HOST_COLOURS = (
    "#3b73b9",
    "#b8651b",
    "#2f8f5b",
    "#8a4fa3",
    "#a8324a",
    "#0f8a94",
    "#7a6a1f",
    "#555",
)

_STYLE = """
svg { font: 13px system-ui, 'DejaVu Sans', sans-serif; }
.ground { fill: #f6f6f3; } .card { fill: #ffffff; stroke: #c9ccd1; } text { fill: #1d2127; }
.chip { fill: #ffffff; stroke-width: 1.5; } .gateway { stroke-width: 3; }
.quiet { fill: #5a626d; font-size: 11px; } .title { font-size: 18px; font-weight: 600; }
.site { font-weight: 600; } .link { fill: none; stroke-width: 2.5; }
.router { fill: #ffffff; stroke: #1d2127; stroke-width: 2; }
.label { fill: #ffffff; stroke: #c9ccd1; }
.planned { stroke: #6b7480; } .inSync { stroke: #23834a; } .waiting { stroke: #9aa2ad; }
.drifted { stroke: #c26a00; } .failed { stroke: #c4262e; }
@media (prefers-color-scheme: dark) {
.ground { fill: #15181c; } .card, .chip, .router, .label { fill: #1e2228; }
.card, .label { stroke: #3d444d; } text { fill: #e8eaed; } .quiet { fill: #a3abb6; }
.router { stroke: #e8eaed; } .planned { stroke: #98a1ad; } .inSync { stroke: #4cc27c; }
.waiting { stroke: #6d7683; } .drifted { stroke: #f0a040; } .failed { stroke: #ff6b6b; } }
"""


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


def _columns(count: int) -> int:
    columns = 1
    while columns * columns < count * 0.8:
        columns += 1
    return columns


def _card_size(site: GraphSite) -> tuple[float, float]:
    members = [m for m in site.machines if not m.gateway]
    columns = max(_columns(len(members)), len(site.machines) - len(members), 1)
    rows = -(-len(members) // columns) + (len(members) < len(site.machines))
    width = columns * (_CHIP_WIDTH + _GAP) + _GAP
    return max(width, 220), _TITLE + rows * (_CHIP_HEIGHT + _GAP) + _GAP


def _chips(site: GraphSite, card: _Box, gateways_below: bool) -> dict[str, _Box]:
    members = [m for m in site.machines if not m.gateway]
    gateways = [m for m in site.machines if m.gateway]
    columns = max(int((card.width - _GAP) // (_CHIP_WIDTH + _GAP)), 1)
    member_rows = -(-len(members) // columns)
    top = card.y + _TITLE
    step = _CHIP_HEIGHT + _GAP
    gateway_y = top + member_rows * step if gateways_below else top
    member_y = top if gateways_below or not gateways else top + step
    boxes: dict[str, _Box] = {}
    for number, machine in enumerate(members):
        x = card.x + _GAP + number % columns * (_CHIP_WIDTH + _GAP)
        boxes[machine.name] = _Box(
            x, member_y + number // columns * step, _CHIP_WIDTH, _CHIP_HEIGHT
        )
    width = len(gateways) * (_CHIP_WIDTH + _GAP) - _GAP
    for number, machine in enumerate(gateways):
        x = card.x + (card.width - width) / 2 + number * (_CHIP_WIDTH + _GAP)
        boxes[machine.name] = _Box(x, gateway_y, _CHIP_WIDTH, _CHIP_HEIGHT)
    return boxes


def _place_row(sites: Sequence[GraphSite], y: float, width: float) -> tuple[dict[str, _Box], float]:
    sizes = [_card_size(site) for site in sites]
    total = sum(size[0] for size in sizes) + _MARGIN * (len(sites) - 1)
    x = (width - total) / 2
    height = max((size[1] for size in sizes), default=0)
    cards: dict[str, _Box] = {}
    for site, size in zip(sites, sizes, strict=True):
        cards[site.name] = _Box(x, y, size[0], size[1])
        x += size[0] + _MARGIN
    return cards, height


def _row_width(sites: Sequence[GraphSite]) -> float:
    return sum(_card_size(site)[0] + _MARGIN for site in sites) + _MARGIN


def svg(graph: Graph) -> str:
    """The picture as a stand-alone SVG document."""
    half = -(-len(graph.sites) // 2) if graph.routers or len(graph.sites) > 2 else len(graph.sites)
    upper, lower = graph.sites[:half], graph.sites[half:]
    width = max(_row_width(upper), _row_width(lower), 640)
    head = _MARGIN + 44
    cards, upper_height = _place_row(upper, head, width)
    upper_height = max(upper_height, 1)
    cards = {
        name: _Box(c.x, head + upper_height - c.height, c.width, c.height)
        for name, c in cards.items()
    }
    band = _BAND if graph.routers else 90 if lower or graph.links else 0
    low_top = head + upper_height + band
    lower_cards, lower_height = _place_row(lower, low_top, width)
    height = low_top + lower_height + _MARGIN + 34

    places: dict[str, _Box] = {}
    for site in graph.sites:
        card = cards.get(site.name) or lower_cards[site.name]
        places |= _chips(site, card, gateways_below=site.name in cards)
    for number, router in enumerate(graph.routers):
        x = width * (number + 1) / (len(graph.routers) + 1)
        places[router] = _Box(x - 44, head + upper_height + band / 2 - 44, 88, 88)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label={quoteattr(graph.title)}>',
        f"<title>{escape(graph.title)}</title><style>{_STYLE}</style>",
        f'<rect class="ground" width="{width:.0f}" height="{height:.0f}"/>',
        f'<text class="title" x="{_MARGIN}" y="{_MARGIN + 14}">{escape(graph.title)}</text>',
    ]
    colours = {h: _HOST_COLOURS[i % len(_HOST_COLOURS)] for i, h in enumerate(graph.hosts)}
    for site in graph.sites:
        out += _svg_card(site, cards.get(site.name) or lower_cards[site.name])
    labels: list[str] = []
    for link in graph.links:
        line, label = _svg_link(link, places[link.a], places[link.b])
        out.append(line)
        labels.append(label)
    for site in graph.sites:
        out += [_svg_chip(m, places[m.name], colours[m.host]) for m in site.machines]
    out += [_svg_router(name, places[name]) for name in graph.routers]
    out += labels
    out += _svg_legend(colours, height - _MARGIN)
    return "\n".join([*out, "</svg>", ""])


def _svg_card(site: GraphSite, card: _Box) -> list[str]:
    return [
        f'<rect class="card" x="{card.x:.1f}" y="{card.y:.1f}" width="{card.width:.1f}" '
        f'height="{card.height:.1f}" rx="10"/>',
        f'<text x="{card.x + 12:.1f}" y="{card.y + 22:.1f}"><tspan class="site">'
        f'{escape(site.name)}</tspan> <tspan class="quiet" dx="6">{escape(site.subnet)}, '
        f"{len(site.machines)} machines</tspan></text>",
    ]


def _svg_chip(machine: GraphMachine, box: _Box, colour: str) -> str:
    kind = (
        f"chip gateway {machine.state.value}" if machine.gateway else f"chip {machine.state.value}"
    )
    hint = f"{machine.name} {machine.address} on {machine.host}: {machine.state.value}"
    return (
        f'<g><title>{escape(hint)}</title><rect class="{kind}" x="{box.x:.1f}" y="{box.y:.1f}" '
        f'width="{box.width}" height="{box.height}" rx="7"/>'
        f'<rect x="{box.x + 7:.1f}" y="{box.y + 8:.1f}" width="6" height="{box.height - 16}" '
        f'rx="3" fill="{colour}"/>'
        f'<text x="{box.x + 20:.1f}" y="{box.y + 17:.1f}">{escape(machine.name)}</text>'
        f'<text class="quiet" x="{box.x + 20:.1f}" y="{box.y + 32:.1f}">'
        f"{escape(machine.address)}</text></g>"
    )


def _svg_router(name: str, box: _Box) -> str:
    x, y = box.middle
    return (
        f'<g><circle class="router" cx="{x:.1f}" cy="{y:.1f}" r="{box.width / 2}"/>'
        f'<text x="{x:.1f}" y="{y - 2:.1f}" text-anchor="middle" class="site">{escape(name)}</text>'
        f'<text x="{x:.1f}" y="{y + 14:.1f}" text-anchor="middle" class="quiet">router</text></g>'
    )


def _svg_link(link: GraphLink, a: _Box, b: _Box) -> tuple[str, str]:
    (ax, ay), (bx, by) = a.middle, b.middle
    if abs(ay - by) < _CHIP_HEIGHT:
        drop = max(a.y + a.height, b.y + b.height) + 46
        path = f"M {ax:.1f} {ay:.1f} C {ax:.1f} {drop:.1f} {bx:.1f} {drop:.1f} {bx:.1f} {by:.1f}"
        x, y = (ax + bx) / 2, drop - 12
    else:
        path = f"M {ax:.1f} {ay:.1f} L {bx:.1f} {by:.1f}"
        x, y = (ax + bx) / 2, (ay + by) / 2
    hint = f"{link.a} - {link.b}: {link.label}, {link.state.value}"
    line = f'<path class="link {link.state.value}" d="{path}"><title>{escape(hint)}</title></path>'
    width = 7 * len(link.label) + 16
    label = (
        f'<rect class="label" x="{x - width / 2:.1f}" y="{y - 11:.1f}" width="{width}" height="22" '
        f'rx="11"/><text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" font-size="12">'
        f"{escape(link.label)}</text>"
    )
    return line, label if link.label else ""


def _svg_legend(colours: Mapping[str, str], y: float) -> list[str]:
    out, x = [], float(_MARGIN)
    for host, colour in colours.items():
        out.append(
            f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="6" height="13" rx="3" fill="{colour}"/>'
            f'<text class="quiet" x="{x + 12:.1f}" y="{y:.1f}">{escape(host)}</text>'
        )
        x += 12 + 7 * len(host) + 22
    for state in NodeState:
        out.append(
            f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="20" height="13" rx="4" '
            f'class="chip {state.value}"/>'
            f'<text class="quiet" x="{x + 26:.1f}" y="{y:.1f}">{state.value}</text>'
        )
        x += 26 + 7 * len(state.value) + 22
    return out


_DOT_COLOURS = {
    NodeState.PLANNED: "gray40",
    NodeState.IN_SYNC: "forestgreen",
    NodeState.WAITING: "gray60",
    NodeState.DRIFTED: "darkorange",
    NodeState.FAILED: "red",
}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def dot(graph: Graph) -> str:
    """The picture for Graphviz."""
    lines = [f"graph {_quoted(graph.title)} {{", "  node [shape=box, style=rounded];"]
    for number, site in enumerate(graph.sites):
        label = f"{site.name} {site.subnet}"
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(label)};"]
        for machine in site.machines:
            text = "\\n".join(
                part.replace("\\", "\\\\").replace('"', '\\"')
                for part in (machine.name, machine.address, machine.host)
            )
            colour = _DOT_COLOURS[machine.state]
            width = 3 if machine.gateway else 1
            lines.append(
                f'    {_quoted(machine.name)} [label="{text}", color={colour}, penwidth={width}];'
            )
        lines.append("  }")
    lines += [f"  {_quoted(router)} [shape=circle];" for router in graph.routers]
    for link in graph.links:
        attributes = f"label={_quoted(link.label)}, color={_DOT_COLOURS[link.state]}"
        lines.append(f"  {_quoted(link.a)} -- {_quoted(link.b)} [{attributes}];")
    return "\n".join([*lines, "}", ""])


_WRITERS: Mapping[str, Callable[[Graph], str]] = {"svg": svg, "dot": dot}

FORMATS = tuple(_WRITERS)
"""The formats of a picture."""


def render(graph: Graph, form: str) -> str:
    """The picture in one of `FORMATS`; raises ValueRefused for another."""
    if form not in _WRITERS:
        raise ValueRefused("format of a picture", form, " or ".join(FORMATS))
    return _WRITERS[form](graph)
