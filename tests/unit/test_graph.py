"""The picture of a virtual network: everything is in it, and nothing covers anything else."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmib.errors import ValueRefused
from vmib_manager import graph_layout
from vmib_manager.graph import (
    FORMATS,
    Graph,
    GraphLink,
    GraphMachine,
    GraphSite,
    NodeState,
    dot,
    render,
    svg,
)
from vmib_manager.graph_layout import Box, Layout, layout

SVG = "{http://www.w3.org/2000/svg}"


def site(number: int, machines: int, gateways: int = 1) -> GraphSite:
    """A site whose first machines are gateways, on hosts by turns."""
    members = tuple(
        GraphMachine(
            f"m{number}-{each}", f"host{each + 1}", f"10.{number}.0.{each + 1}", each < gateways
        )
        for each in range(machines)
    )
    return GraphSite(f"site{number}", f"10.{number}.0.0/24", members)


STAR = Graph(
    "a star",
    (site(1, 10), site(2, 13), site(3, 9)),
    ("core",),
    tuple(GraphLink(f"m{number}-0", "core", "1Mbit", NodeState.IN_SYNC) for number in (1, 2, 3)),
)
RING = Graph(
    "a ring of routers <&>",
    tuple(site(number, 4) for number in range(1, 7)),
    ("r1", "r2", "r3"),
    (
        *(GraphLink(f"m{n}-0", f"r{n % 3 + 1}", "10Mbit 20ms / 2Mbit 30ms") for n in range(1, 7)),
        GraphLink("r1", "r2", "100Mbit"),
        GraphLink("r2", "r3", "100Mbit 5ms"),
        GraphLink("r1", "r3", "1Gbit", NodeState.FAILED),
    ),
)
DIRECT = Graph(
    "no routers",
    (site(1, 3), site(2, 3, 2), site(3, 1)),
    (),
    (
        GraphLink("m1-0", "m2-0", "10Mbit"),
        GraphLink("m2-1", "m3-0", "10Mbit"),
        GraphLink("m1-0", "m3-0", "5Mbit"),
        GraphLink("m2-0", "m2-1", ""),
    ),
)
MIXED = Graph(
    "a router and a link of a site",
    (site(1, 2, 2), site(2, 2)),
    ("wan",),
    (
        GraphLink("m1-0", "wan", "10Mbit"),
        GraphLink("wan", "m2-0", "2Mbit"),
        GraphLink("m1-0", "m1-1", "50Mbit"),
    ),
)
BUSY = tuple(
    replace(
        graph,
        title=f"{graph.title}, busy",
        links=tuple(
            replace(link, forth="12.3Mbit" if link.label else "", back="0") for link in graph.links
        ),
    )
    for graph in (STAR, RING, DIRECT, MIXED)
)
PICTURES = {graph.title: graph for graph in (STAR, RING, DIRECT, MIXED, *BUSY)}


def everything(places: Layout) -> list[Box]:
    """All that has a text in it."""
    labels = [label for label in places.labels if label is not None]
    return [*places.chips.values(), *places.routers.values(), *places.titles.values(), *labels]


@pytest.mark.parametrize("title", PICTURES)
def test_no_text_covers_another(title: str) -> None:
    places = layout(PICTURES[title], ["host1", "planned"])
    for one, other in combinations(everything(places), 2):
        assert one.overlap(other) == 0, (one, other)


@pytest.mark.parametrize("title", PICTURES)
def test_no_link_leads_over_a_title(title: str) -> None:
    places = layout(PICTURES[title], [])
    for curve in places.curves:
        for step in range(101):
            point = curve.at(step / 100)
            assert not any(box.holds(point) for box in places.titles.values())


machines = st.integers(1, 40)


@settings(max_examples=60, deadline=None)
@given(st.lists(machines, min_size=1, max_size=12), st.integers(0, 4), st.integers(0, 30))
def test_everything_is_inside_the_picture_and_apart(
    sizes: list[int], routers: int, words: int
) -> None:
    sites = tuple(site(number, size) for number, size in enumerate(sizes, 1))
    names = tuple(f"r{number}" for number in range(routers))
    links = tuple(
        GraphLink(f"m{number}-0", names[number % routers], "")
        for number in range(1, len(sites) + 1)
        if routers
    )
    places = layout(Graph("any", sites, names, links), ["in sync"] * words)
    for one, other in combinations(everything(places), 2):
        assert one.overlap(other) == 0
    for box in [*everything(places), *places.cards.values()]:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= places.width
        assert box.y + box.height <= places.height
    assert all(0 < x < places.width - 100 and y < places.height for x, y in places.legend)
    for number in range(1, len(sites) + 1):
        card = places.cards[f"site{number}"]
        assert card.holds(places.chips[f"m{number}-0"].middle)


@pytest.mark.parametrize("title", PICTURES)
def test_the_svg_names_everything_in_text(title: str) -> None:
    graph = PICTURES[title]
    document = ElementTree.fromstring(svg(graph))
    assert document.tag == f"{SVG}svg"
    texts = {"".join(element.itertext()) for element in document.iter(f"{SVG}text")}
    joined = "\n".join(texts)
    for named in graph.sites:
        assert f"{named.name} {graph_layout.site_title(named)}" in joined
        for machine in named.machines:
            assert {machine.name, machine.address, machine.host} <= texts
    assert set(graph.routers) <= texts
    assert {link.label for link in graph.links if link.label} <= texts
    assert graph.title in texts


def test_the_legend_has_the_states_that_occur_and_no_others() -> None:
    document = ElementTree.fromstring(svg(RING))
    texts = {element.text for element in document.iter(f"{SVG}text")}
    assert {"planned", "failed"} <= texts
    assert not {"in sync", "waiting", "drifted"} & texts


def test_what_passes_a_link_is_told_with_arrows_as_the_link_lies() -> None:
    def shown(a: str, b: str) -> str:
        link = GraphLink(a, b, "1Mbit", forth="1kbit", back="2kbit")
        document = ElementTree.fromstring(svg(replace(DIRECT, links=(link,))))
        texts = ["".join(element.itertext()) for element in document.iter(f"{SVG}text")]
        return next(text for text in texts if "kbit" in text)

    assert shown("m1-0", "m2-0") == "→ 1kbit  ← 2kbit"
    assert shown("m2-0", "m1-0") == "→ 2kbit  ← 1kbit"
    router = GraphLink("m1-0", "core", "1Mbit", forth="1kbit", back="2kbit")
    above = Graph("above", (site(1, 1),), ("core",), (router,))
    assert "↓ 1kbit  ↑ 2kbit" in svg(above)


def test_a_label_stays_where_it_is_when_what_passes_changes() -> None:
    slow, fast = (
        replace(BUSY[0], links=tuple(replace(link, forth=rate) for link in BUSY[0].links))
        for rate in ("0", "999Mbit")
    )
    assert layout(slow, []).labels == layout(fast, []).labels


def test_states_that_are_to_be_noticed_have_a_sign_and_not_only_a_colour() -> None:
    signs = {"DRIFTED": "!", "FAILED": "×", "SILENT": "?", "WAITING": "…", "DIFFERENT": "≠"}  # noqa: RUF001
    for state, sign in signs.items():
        members = (GraphMachine("m", "host1", state=NodeState[state]),)
        graph = Graph("one", (GraphSite("site", "", members),), (), ())
        document = ElementTree.fromstring(svg(graph))
        texts = [element.text for element in document.iter(f"{SVG}text")]
        assert texts.count(sign) == 2  # at the machine and in the legend


def test_the_svg_follows_a_dark_theme() -> None:
    style = next(ElementTree.fromstring(svg(STAR)).iter(f"{SVG}style")).text or ""
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    for state in NodeState:
        assert f".{state.value}" in light
        assert f".{state.value}" in dark


def test_hosts_are_listed_by_number() -> None:
    members = tuple(GraphMachine(f"m{n}", f"host{n}") for n in (10, 2, 1))
    graph = Graph("hosts", (GraphSite("site", "10.0.0.0/24", members),), (), ())
    assert graph.hosts == ("host1", "host2", "host10")


def test_the_same_graph_is_the_same_document() -> None:
    assert svg(STAR) == svg(STAR)
    assert dot(STAR) == dot(STAR)


def test_dot_quotes_names_and_colours_states() -> None:
    graph = Graph(
        'a "title"',
        (GraphSite("site", "10.0.0.0/24", (GraphMachine("m", "h", "10.0.0.1", True),)),),
        ("core",),
        (GraphLink("m", "core", "1Mbit", NodeState.DRIFTED),),
    )
    text = dot(graph)
    assert text.startswith('graph "a \\"title\\"" {')
    assert '"m" [label="m\\n10.0.0.1\\nh", color=gray40, penwidth=3];' in text
    assert '"m" -- "core" [label="1Mbit", color=darkorange];' in text
    assert text.count("{") == text.count("}")


def test_formats_are_rendered_and_others_are_refused() -> None:
    assert {form: render(STAR, form) for form in FORMATS} == {"svg": svg(STAR), "dot": dot(STAR)}
    with pytest.raises(ValueRefused, match=re.escape("svg or dot")):
        render(STAR, "png")
