"""Where everything of a picture goes. Pure; lengths are in pixels.

Sites are cards in two rows, routers stand between the rows. In a card the machines that links
begin at are in the row next to the other sites, and its title is on the far side, where no link
leads over it. Labels of links move along their links until they cover nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import dist

from .graph_model import Graph, GraphLink, GraphSite

MARGIN = 28
HEAD = 72
"""The room for the title of the picture."""
CHIP_HEIGHT = 40
CHIP_TEXT = 20
LABEL_HEIGHT, LABEL_LINE = 22, 15
"""The height of a label with one line, and of every other line."""
PASSING = "→ 12.3Mbit  ← 12.3Mbit"
"""As wide as what passes a link gets: its label stays where it is when that changes."""
CHARACTER, SMALL_CHARACTER = 8.0, 6.8
"""The width of a character of machine names, and of everything smaller, in a wide typeface."""

_GAP = 10
_CARD_TITLE, _LEGEND_LINE = 34, 24
_LEAST_CARD, _LEAST_WIDTH, _LEAST_CHIP = 220, 480, 128
_ROUTER = 88
_BAND_WITH_ROUTERS, _BAND_OF_DETOURS, _BAND_OF_PASSING, _BAND = 190, 60, 60, 96
_DROP = 52
_SAMPLES = 40
_PLACES = sorted((step / 20 for step in range(2, 19)), key=lambda place: abs(place - 0.5))

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle by its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> Point:
        """Its centre."""
        return self.x + self.width / 2, self.y + self.height / 2

    def holds(self, point: Point) -> bool:
        """Whether a point is inside."""
        x, y = point
        return self.x <= x <= self.x + self.width and self.y <= y <= self.y + self.height

    def overlap(self, other: Box) -> float:
        """The area that both cover."""
        width = min(self.x + self.width, other.x + other.width) - max(self.x, other.x)
        height = min(self.y + self.height, other.y + other.height) - max(self.y, other.y)
        return max(width, 0.0) * max(height, 0.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """A cubic Bezier curve."""

    points: tuple[Point, Point, Point, Point]

    def at(self, t: float) -> Point:
        """The point at 0 (its beginning) to 1 (its end)."""
        weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
        x = sum(w * point[0] for w, point in zip(weights, self.points, strict=True))
        y = sum(w * point[1] for w, point in zip(weights, self.points, strict=True))
        return x, y


@dataclass(slots=True)
class Layout:
    """The place of everything: by name, of links by their position in the graph.

    `titles` are the places of cards' titles, `labels` those of links' labels.
    """

    width: float = 0.0
    height: float = 0.0
    cards: dict[str, Box] = field(default_factory=dict)
    titles: dict[str, Box] = field(default_factory=dict)
    chips: dict[str, Box] = field(default_factory=dict)
    routers: dict[str, Box] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    labels: list[Box | None] = field(default_factory=list)
    legend: list[Point] = field(default_factory=list)


def site_title(site: GraphSite) -> str:
    """What a card says below the name of its site."""
    count = len(site.machines)
    return f"{site.subnet}, {count} machine" + "s" * (count != 1)


def layout(graph: Graph, legend: Sequence[str]) -> Layout:
    """The layout of a graph, with a legend of these words."""
    chip = _chip_width(graph)
    two_rows = bool(graph.routers) or len(graph.sites) > 2
    half = -(-len(graph.sites) // 2) if two_rows else len(graph.sites)
    upper, lower = graph.sites[:half], graph.sites[half:]
    wanted = Layout()
    title = 2 * MARGIN + 12 * len(graph.title)
    rows = _row_width(upper, chip), _row_width(lower, chip), _routers_width(graph)
    wanted.width = max(*rows, title, _LEAST_WIDTH)

    tallest = max((_card_size(site, chip)[1] for site in upper), default=0.0)
    _place_row(wanted, upper, chip, HEAD + tallest, above=True)
    band = _band(graph)
    _place_routers(wanted, graph.routers, HEAD + tallest + band / 2)
    _place_row(wanted, lower, chip, HEAD + tallest + band, above=False)
    bottom = HEAD + tallest + band
    bottom += max((_card_size(site, chip)[1] for site in lower), default=0.0)
    _place_links(wanted, graph)
    _place_legend(wanted, legend, bottom + MARGIN + 14)
    return wanted


def _chip_width(graph: Graph) -> float:
    machines = [machine for site in graph.sites for machine in site.machines]
    widths = [CHARACTER * len(machine.name) for machine in machines]
    widths += [SMALL_CHARACTER * len(machine.address) for machine in machines]
    return max(_LEAST_CHIP, CHIP_TEXT + _GAP + max(widths, default=0.0))


def _columns(site: GraphSite) -> int:
    """Columns that make a card somewhat wider than high, with room for all gateways in a row."""
    gateways = sum(machine.gateway for machine in site.machines)
    members = len(site.machines) - gateways
    columns = 1
    while columns * columns < members * 0.8:
        columns += 1
    return max(columns, gateways)


def _card_size(site: GraphSite, chip: float) -> Point:
    gateways = sum(machine.gateway for machine in site.machines)
    rows = -(-(len(site.machines) - gateways) // _columns(site)) + (gateways > 0)
    title = 36 + CHARACTER * len(site.name) + SMALL_CHARACTER * len(site_title(site))
    width = max(_columns(site) * (chip + _GAP) + _GAP, title, _LEAST_CARD)
    return width, _CARD_TITLE + rows * (CHIP_HEIGHT + _GAP) + _GAP / 2


def _row_width(sites: Sequence[GraphSite], chip: float) -> float:
    return sum(_card_size(site, chip)[0] + MARGIN for site in sites) + MARGIN


def _routers_width(graph: Graph) -> float:
    """Room for the routers and the labels between them."""
    between = [
        _label_size(link)[0] + 2 * _GAP
        for link in graph.links
        if link.a in graph.routers and link.b in graph.routers
    ]
    return (len(graph.routers) + 1) * (_ROUTER + max(between, default=0.0))


def _place_row(
    wanted: Layout, sites: Sequence[GraphSite], chip: float, edge: float, *, above: bool
) -> None:
    """A row of cards that ends at the edge, or begins there."""
    x = (wanted.width - _row_width(sites, chip)) / 2 + MARGIN
    for site in sites:
        width, height = _card_size(site, chip)
        card = Box(x, edge - height if above else edge, width, height)
        title = card.y if above else card.y + height - _CARD_TITLE
        wanted.cards[site.name] = card
        wanted.titles[site.name] = Box(x, title, width, _CARD_TITLE)
        _place_chips(wanted, site, chip, card, above=above)
        x += width + MARGIN


def _place_chips(wanted: Layout, site: GraphSite, chip: float, card: Box, *, above: bool) -> None:
    members = [machine.name for machine in site.machines if not machine.gateway]
    gateways = [machine.name for machine in site.machines if machine.gateway]
    columns = _columns(site)
    rows = [members[at : at + columns] for at in range(0, len(members), columns)]
    step = CHIP_HEIGHT + _GAP
    left = card.x + (card.width - columns * (chip + _GAP) + _GAP) / 2
    top = card.y + (_CARD_TITLE if above else _GAP + (step if gateways else 0))
    for number, row in enumerate(rows):
        for column, name in enumerate(row):
            x, y = left + column * (chip + _GAP), top + number * step
            wanted.chips[name] = Box(x, y, chip, CHIP_HEIGHT)
    y = top + len(rows) * step if above else card.y + _GAP
    left = card.x + (card.width - len(gateways) * (chip + _GAP) + _GAP) / 2
    for column, name in enumerate(gateways):
        wanted.chips[name] = Box(left + column * (chip + _GAP), y, chip, CHIP_HEIGHT)


def _band(graph: Graph) -> float:
    """The room between the rows, or below the only row."""
    more = _BAND_OF_PASSING * any(link.forth for link in graph.links)
    if graph.routers:
        detours = any(_is_detour(graph.routers, link) for link in graph.links)
        direct = any(not {link.a, link.b} & {*graph.routers} for link in graph.links)
        return _BAND_WITH_ROUTERS + _BAND_OF_DETOURS * (detours + 2 * direct) + more
    return _BAND + more if graph.links or len(graph.sites) > 2 else 0


def _is_detour(routers: Sequence[str], link: GraphLink) -> bool:
    """Whether a straight line would lead through other routers."""
    if link.a not in routers or link.b not in routers:
        return False
    return abs(routers.index(link.a) - routers.index(link.b)) > 1


def _place_routers(wanted: Layout, routers: Sequence[str], y: float) -> None:
    for number, router in enumerate(routers, 1):
        x = wanted.width * number / (len(routers) + 1)
        wanted.routers[router] = Box(x - _ROUTER / 2, y - _ROUTER / 2, _ROUTER, _ROUTER)


def _place_links(wanted: Layout, graph: Graph) -> None:
    places = wanted.chips | wanted.routers
    taken = [*places.values(), *wanted.titles.values()]
    wanted.curves = [_curve(wanted, graph, link) for link in graph.links]
    wanted.labels = [None] * len(graph.links)

    def freedom(number: int) -> tuple[bool, float]:
        """Labels with little choice come first: between routers, and of short links."""
        link, points = graph.links[number], wanted.curves[number].points
        routers = link.a in wanted.routers and link.b in wanted.routers
        return not routers, dist(points[0], points[-1])

    for number in sorted(range(len(graph.links)), key=freedom):
        link = graph.links[number]
        if link.label:
            ends = places[link.a], places[link.b]
            label = min(
                _label_places(wanted.curves[number], ends, link),
                key=lambda place: sum(map(place.overlap, taken)),
            )
            taken.append(label)
            wanted.labels[number] = label


def _curve(wanted: Layout, graph: Graph, link: GraphLink) -> Curve:
    """A straight line, or a curve between places in a row: into the band."""
    places = wanted.chips | wanted.routers
    a, b = places[link.a], places[link.b]
    (ax, ay), (bx, by) = a.middle, b.middle
    in_row = link.a in wanted.chips and link.b in wanted.chips and ay == by
    if in_row:
        card = next(card for card in wanted.cards.values() if card.holds((ax, ay)))
        below = ay > card.y + card.height / 2 or len(graph.sites) <= 2
        turn = ay + (1 if below else -1) * (CHIP_HEIGHT + _DROP)
    elif _is_detour(graph.routers, link):
        turn = ay + _ROUTER * 1.25
    else:
        thirds = [(ax + (bx - ax) * t / 3, ay + (by - ay) * t / 3) for t in range(4)]
        return Curve((thirds[0], thirds[1], thirds[2], thirds[3]))
    return Curve(((ax, ay), (ax, turn), (bx, turn), (bx, by)))


def _label_size(link: GraphLink) -> Point:
    characters, height = len(link.label), LABEL_HEIGHT
    if link.forth:
        characters, height = max(characters, len(PASSING)), LABEL_HEIGHT + LABEL_LINE
    return SMALL_CHARACTER * characters + 18, height


def _label_places(curve: Curve, ends: tuple[Box, Box], link: GraphLink) -> Iterator[Box]:
    """Places for a label on the part of a curve that is outside of its ends."""
    steps = [step / _SAMPLES for step in range(_SAMPLES + 1)]
    seen = [t for t in steps if not any(end.holds(curve.at(t)) for end in ends)] or [0.5]
    width, height = _label_size(link)
    for place in _PLACES:
        x, y = curve.at(seen[0] + (seen[-1] - seen[0]) * place)
        yield Box(x - width / 2, y - height / 2, width, height)


def _place_legend(wanted: Layout, words: Iterable[str], y: float) -> None:
    x = float(MARGIN)
    for word in words:
        width = 26 + SMALL_CHARACTER * len(word) + 20
        if x > MARGIN and x + width > wanted.width - MARGIN:
            x, y = float(MARGIN), y + _LEGEND_LINE
        wanted.legend.append((x, y))
        x += width
    wanted.height = y + MARGIN
