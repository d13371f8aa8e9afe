"""From impairments to trees."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmib.errors import Unavailable, ValueRefused
from vmib_agent.qdiscs import (
    EMPTY,
    NETEM_LEAF_MAJORS,
    QUEUE_LEAF_MAJORS,
    ROOT,
    STAGE_MAJORS,
    Bfifo,
    Htb,
    Netem,
    Tbf,
    Tree,
)
from vmib_agent.shaping import (
    STAGES,
    Impairment,
    burst_of,
    compile_tree,
    netem_limit,
    queue_of,
    stage_name,
)

MTU = 1500
ONE = {ip_network("10.0.0.1/32"): Impairment(rate=1000)}
DELAYED = {ip_network("10.0.0.1/32"): Impairment(delay=1000)}

impairments = st.builds(
    Impairment,
    rate=st.integers(0, 2**32 - 1),
    delay=st.sampled_from([0, 10, 10**6]),
    loss=st.sampled_from([0, 1, 10**6]),
)
networks = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)),
    st.tuples(st.integers(2**32, 2**128 - 1), st.integers(0, 128)),
).map(lambda pair: ip_network(pair, strict=False))


def kinds(tree: Tree) -> list[str]:
    """The chain of stages by name, outermost first, as it hangs together."""
    below = {qdisc.parent: qdisc for qdisc in tree.qdiscs}
    names, parent = [], ROOT
    while parent in below and (name := stage_name(below[parent].handle)):
        names.append(name)
        parent = below[parent].handle | 1
    return names


@pytest.mark.parametrize(
    ("shape", "links", "stages"),
    [
        (Impairment(), {}, []),
        (Impairment(rate=1000), {}, ["rate"]),
        (Impairment(delay=1000), {}, ["segmenter", "netem"]),
        (Impairment(loss=1, rate=1000), {}, ["segmenter", "netem", "rate"]),
        (Impairment(rate=1000), ONE, ["segmenter", "rate", "links"]),
        (Impairment(), ONE, ["segmenter", "links"]),
        (Impairment(delay=1), ONE, ["segmenter", "netem", "links"]),
        (Impairment(delay=1, rate=9), DELAYED, ["segmenter", "netem", "rate", "links"]),
        (Impairment(rate=9, burst=9000, queue_limit=2000), {}, ["segmenter", "rate"]),
    ],
)
def test_only_the_stages_that_do_something_are_made(shape, links, stages) -> None:
    assert kinds(compile_tree(shape, links, MTU)) == stages


def test_nothing_wanted_is_the_empty_tree() -> None:
    assert compile_tree(Impairment(), {}, MTU) == EMPTY
    assert not EMPTY


def test_every_chain_has_handles_of_its_own() -> None:
    assert len(set(STAGES)) == len(STAGES) <= len(STAGE_MAJORS)
    assert all(names[:-1] in (*STAGES, ()) for names in STAGES)


def test_a_link_without_impairment_still_has_a_class_and_a_queue() -> None:
    tree = compile_tree(Impairment(rate=1000), {ip_network("10.0.0.0/8"): Impairment()}, MTU)
    queues = [item.options for item in tree.qdiscs if isinstance(item.options, Bfifo)]
    assert queues == [Bfifo(15140), Bfifo(15140)]
    assert len(tree.classes) == 2


def test_a_delayed_link_has_netem_before_its_queue() -> None:
    tree = compile_tree(Impairment(), DELAYED, MTU)
    netem = next(item for item in tree.qdiscs if isinstance(item.options, Netem))
    queue = next(item for item in tree.qdiscs if item.parent == netem.handle | 1)
    assert netem.parent in {item.classid for item in tree.classes}
    assert netem.options.delay == 1000
    assert isinstance(queue.options, Bfifo)


@pytest.mark.parametrize(
    ("kbps", "burst"), [(64, 5000), (10_000, 5000), (100_000, 50_000), (1_000_000, 500_000)]
)
def test_the_automatic_burst_is_four_milliseconds_but_two_frames_and_5000_at_least(
    kbps, burst
) -> None:
    assert burst_of(Impairment(rate=kbps), MTU) == burst
    assert burst_of(Impairment(rate=64), 9000) == 2 * 9014


@pytest.mark.parametrize(("kbps", "queue"), [(64, 15140), (10_000, 62_500), (0, 62_500_000)])
def test_the_automatic_queue_is_fifty_milliseconds_but_ten_frames_at_least(kbps, queue) -> None:
    assert queue_of(Impairment(rate=kbps), MTU) == queue


def test_the_queue_of_a_rate_is_tbfs_limit_without_the_burst() -> None:
    tree = compile_tree(Impairment(rate=10_000, queue_limit=30_000, burst=6000), {}, MTU)
    assert [item.options for item in tree.qdiscs] == [Tbf(1_250_000, 6000, 30_000)]


def test_netem_holds_twice_what_is_under_way_and_the_queue() -> None:
    wanted = Impairment(rate=1_000_000, delay=100_000)
    octets = 2 * 125_000_000 // 10 + queue_of(wanted, MTU)
    assert netem_limit(wanted, queue_of(wanted, MTU), MTU) == 100_000 > octets // 1514
    slow = Impairment(rate=64, delay=10)
    assert netem_limit(slow, queue_of(slow, MTU), MTU) == 1000
    vast = Impairment(rate=100_000_000, delay=1_000_000)
    assert netem_limit(vast, 0, MTU) == -(-25_000_000_000 // 1514)


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        (Impairment(rate=1000, burst=1513), "Burst"),
        (Impairment(rate=1, burst=100_000), "Burst"),
        (Impairment(queue_limit=1513), "QueueLimit"),
        (Impairment(jitter=2, delay=1), "Jitter"),
        (Impairment(jitter=2_147_484, delay=4_000_000), "Jitter"),
        (Impairment(reorder=1), "Reorder"),
        (Impairment(delay=1, jitter=1, distribution=5), "Distribution"),
    ],
)
def test_values_that_cannot_be_are_refused_by_their_object(wanted, name) -> None:
    with pytest.raises(ValueRefused) as shape:
        compile_tree(wanted, {}, MTU)
    assert shape.value.name == f"vmibShape{name}"
    with pytest.raises(ValueRefused) as link:
        compile_tree(Impairment(), {ip_network("10.0.0.1/32"): wanted}, MTU)
    assert link.value.name == f"vmibLink{name}"


def test_duplication_is_refused_where_another_netem_is_in_the_tree() -> None:
    alone = compile_tree(Impairment(duplicate=1000), {}, MTU)
    assert kinds(alone) == ["segmenter", "netem"]
    with pytest.raises(Unavailable, match="vmibShapeDuplicate"):
        compile_tree(Impairment(duplicate=1000), DELAYED, MTU)
    with pytest.raises(Unavailable, match="vmibLinkDuplicate"):
        compile_tree(Impairment(), DELAYED | {ip_network("::/0"): Impairment(duplicate=1)}, MTU)


def test_the_slowest_rate_still_takes_a_burst() -> None:
    tree = compile_tree(Impairment(rate=1), {}, MTU)
    assert [item.options for item in tree.qdiscs] == [Tbf(125, 5000, 15140)]


def test_ten_thousand_links_have_distinct_classes_and_leaves_in_range() -> None:
    base = int(ip_network("10.0.0.0/32").network_address)
    links = {ip_network((base + n, 32)): Impairment(rate=1000) for n in range(10_000)}
    tree = compile_tree(Impairment(), links, MTU)
    assert len({item.classid for item in tree.classes}) == 10_001
    leaves = {item.handle >> 16 for item in tree.qdiscs if isinstance(item.options, Bfifo)}
    assert len(leaves) == 10_001
    assert leaves <= set(QUEUE_LEAF_MAJORS)


def test_one_link_more_changes_only_its_own_class() -> None:
    base = int(ip_network("10.0.0.0/32").network_address)
    links = {ip_network((base + n, 32)): Impairment(rate=1000) for n in range(500)}
    before = compile_tree(Impairment(), links, MTU)
    after = compile_tree(Impairment(), links | {ip_network("10.9.0.7/32"): Impairment()}, MTU)
    assert set(before.classes) < set(after.classes)
    assert len(after.classes) == len(before.classes) + 1
    assert len(set(after.rules) - set(before.rules)) <= 10


def test_more_links_than_leaves_are_refused() -> None:
    links = {ip_network((n << 8, 32)): Impairment() for n in range(12_282)}
    with pytest.raises(Unavailable, match="12281"):
        compile_tree(Impairment(), links, MTU)


@settings(deadline=None)
@given(impairments, st.dictionaries(networks, impairments, max_size=20))
def test_every_parent_exists_and_comes_first(shape, links) -> None:
    tree = compile_tree(shape, links, MTU)
    known = {ROOT} | {item.classid for item in tree.classes}
    for qdisc in tree.qdiscs:
        assert qdisc.parent in known
        known.add(qdisc.handle | 1)
        ranges = (STAGE_MAJORS, NETEM_LEAF_MAJORS, QUEUE_LEAF_MAJORS)
        assert any(qdisc.handle >> 16 in majors for majors in ranges)
    assert len({item.parent for item in tree.qdiscs}) == len(tree.qdiscs)
    assert bool(tree.classes) == any(isinstance(item.options, Htb) for item in tree.qdiscs)
