"""Links collapse to paths by the rules of composition, the shortest way, the same every time."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.impairment import Impairment
from vmib.rows import Distribution
from vmib_manager.paths import PairPath, collapse, compose

from .descriptions import model_of

PPM = st.integers(0, 1_000_000)
DELAYS = st.integers(0, 10**9)


@st.composite
def impairments(draw: st.DrawFn) -> Impairment:
    delay = draw(DELAYS)
    rate = draw(st.integers(0, 10**9))
    loss = draw(PPM)
    return Impairment(
        rate=rate,
        burst=draw(st.integers(0, 10**6)) if rate else 0,
        queue_limit=draw(st.integers(0, 10**6)),
        delay=delay,
        jitter=draw(st.integers(0, delay)),
        distribution=draw(st.sampled_from(Distribution)),
        loss=loss,
        loss_correlation=draw(PPM) if loss else 0,
        duplicate=draw(PPM),
        corrupt=draw(PPM),
        reorder=draw(PPM) if delay else 0,
    )


HOPS = st.lists(impairments(), min_size=1, max_size=6)


@given(impairments())
def test_one_hop_is_its_own_composition(hop: Impairment) -> None:
    assert compose([hop]) == hop


@given(HOPS)
def test_rates_are_the_least_and_delays_add_up(hops: list[Impairment]) -> None:
    path = compose(hops)
    assert path.rate == min((hop.rate for hop in hops if hop.rate), default=0)
    assert path.delay == sum(hop.delay for hop in hops)


@given(HOPS)
def test_losses_combine_as_independent_events(hops: list[Impairment]) -> None:
    path = compose(hops)
    for name in ("loss", "duplicate", "corrupt", "reorder"):
        given_ppm = [getattr(hop, name) for hop in hops]
        ideal = 1e6 * (1 - prod(1 - ppm / 1e6 for ppm in given_ppm))
        assert getattr(path, name) == pytest.approx(ideal, abs=0.51)
        assert max(given_ppm) <= getattr(path, name) <= 1_000_000


@given(HOPS)
def test_jitter_is_the_root_of_the_summed_squares_and_never_exceeds_the_delay(
    hops: list[Impairment],
) -> None:
    path = compose(hops)
    ideal = sum(hop.jitter**2 for hop in hops) ** 0.5
    assert path.jitter == pytest.approx(ideal, abs=0.51, rel=1e-12)
    assert path.jitter <= path.delay


@given(HOPS)
def test_what_a_composition_needs_it_has(hops: list[Impairment]) -> None:
    path = compose(hops)
    assert path.loss or not path.loss_correlation
    assert path.delay or not path.reorder
    assert path.rate or not path.burst


@given(HOPS, st.randoms())
def test_the_order_of_hops_changes_no_number(hops: list[Impairment], random: object) -> None:
    swapped = list(reversed(hops))
    for name in ("rate", "delay", "jitter", "loss", "duplicate", "corrupt", "reorder"):
        assert getattr(compose(hops), name) == getattr(compose(swapped), name)


def test_queue_and_burst_are_those_of_the_narrowest_hop() -> None:
    wide = Impairment(rate=10_000, burst=9000, queue_limit=90_000)
    narrow = Impairment(rate=1000, burst=2000, queue_limit=20_000)
    path = compose([wide, narrow])
    assert (path.rate, path.burst, path.queue_limit) == (1000, 2000, 20_000)


def ways(links: str, machines: str = "a b c d") -> dict[tuple[str, str], PairPath]:
    found = collapse(model_of(machines, links))
    return {(pair.a.member.machine, pair.b.member.machine): pair for pair in found}


def test_a_star_joins_every_pair_of_its_ends() -> None:
    found = ways(
        """<router id="r"/>
        <link a="a" b="r" rate="1Mbit" delay="1ms"/><link a="b" b="r" rate="2Mbit" delay="2ms"/>
        <link a="c" b="r" rate="3Mbit" delay="3ms"><ab rate="9Mbit"/></link>"""
    )
    assert set(found) == {(x, y) for x in "abc" for y in "abc" if x != y}
    assert found["a", "b"].impairment == Impairment(rate=1000, delay=3000)
    assert found["b", "c"].impairment == Impairment(rate=2000, delay=5000)
    assert found["c", "b"].impairment == Impairment(rate=2000, delay=5000)
    assert [str(link) for link in found["c", "a"].links] == ["c-r", "a-r"]


def test_machines_do_not_pass_traffic_on() -> None:
    found = ways('<link a="a" b="b"/><link a="b" b="c"/>')
    assert set(found) == {("a", "b"), ("b", "a"), ("b", "c"), ("c", "b")}


def test_the_way_with_less_delay_wins_over_the_one_with_fewer_hops() -> None:
    found = ways(
        """<router id="r"/><router id="s"/><link a="a" b="r"/><link a="s" b="b"/>
        <link id="slow" a="a" b="b" delay="50ms"/><link id="fast" a="r" b="s" delay="49ms"/>"""
    )
    assert [str(link) for link in found["a", "b"].links] == ["a-r", "fast", "s-b"]


def test_a_weight_takes_the_place_of_the_delay() -> None:
    found = ways(
        """<router id="r"/><link a="a" b="r" weight="2"/><link a="r" b="b" weight="2"/>
        <link id="direct" a="a" b="b" delay="1s" weight="3.5"/>"""
    )
    assert [str(link) for link in found["a", "b"].links] == ["direct"]


def test_of_equal_ways_the_first_in_the_file_wins() -> None:
    found = ways('<link id="one" a="a" b="b" rate="1Mbit"/><link id="two" a="a" b="b"/>')
    assert found["a", "b"].impairment.rate == found["b", "a"].impairment.rate == 1000


def test_a_path_says_what_lies_between_a_pair_whatever_the_links_say() -> None:
    found = ways(
        """<link a="a" b="b" rate="1Mbit"/><path from="a" to="b" rate="2Mbit" symmetric="false"/>
        <path from="c" to="d" delay="1ms"/>"""
    )
    assert found["a", "b"].impairment.rate == 2000
    assert found["b", "a"].impairment.rate == 1000
    assert found["c", "d"].impairment.delay == found["d", "c"].impairment.delay == 1000


def test_an_end_may_name_one_of_several_interfaces() -> None:
    model = model_of("a b/2", '<link a="a" b="b:1"/>')
    assert {(pair.a.key, pair.b.key) for pair in collapse(model)} == {
        (("a", 0), ("b", 1)),
        (("b", 1), ("a", 0)),
    }


@st.composite
def graphs(draw: st.DrawFn) -> str:
    names = st.sampled_from("abcdrst")
    times = st.integers(0, 5)
    links = draw(st.lists(st.tuples(names, names, times), max_size=12))
    routers = '<router id="r"/><router id="s"/><router id="t"/>'
    return routers + "".join(f'<link a="{a}" b="{b}" delay="{t}ms"/>' for a, b, t in links)


@given(graphs())
def test_symmetric_links_make_symmetric_delays_that_no_detour_beats(links: str) -> None:
    found = ways(links)
    for (a, b), pair in found.items():
        assert found[b, a].impairment.delay == pair.impairment.delay
        assert sum(link.ab.delay for link in pair.links) == pair.impairment.delay
    assert ways(links) == found
