"""What verify --measure measures, in what order, and what it says of the results."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from math import comb
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vmib.impairment import Impairment
from vmib.rows import (
    Addr,
    AddrKey,
    Direction,
    InetAddressType,
    Link,
    LinkKey,
    ProbeKey,
    Shape,
    ShapeKey,
    Vif,
    VifKey,
)
from vmib_manager import measure_text
from vmib_manager.describe import Describer
from vmib_manager.measurement import Measurement, measured, planned
from vmib_manager.model import Source
from vmib_manager.probe_plan import ROWS_AT_ONCE, Flow, Subject, subjects, waves
from vmib_manager.probe_session import HostMeasured, Waits
from vmib_manager.probe_verdict import Allowed, Passed, Round, at_most, judge

from .tables import NAMES

V4 = InetAddressType.ipv4
SOURCE = Source("virtual.xml", 3)
ALICE = VifKey(1, 1)
OWN, PEER = ip_address("10.0.0.1"), ip_address("10.0.0.2")
SHAPES = {
    ShapeKey(*ALICE, Direction.toVm): Shape(rate=10_000, delay=1000),
    ShapeKey(*ALICE, Direction.fromVm): Shape(delay=2000, loss=100_000),
}
ROWS: list[tuple[str, Any, Any, Source]] = [
    ("vmibVifTable", ALICE, Vif(mac_address="02:00:00:00:00:01"), SOURCE),
    ("vmibAddrTable", AddrKey(*ALICE, V4, OWN), Addr(prefix_length=24), SOURCE),
    *(("vmibShapeTable", key, row, SOURCE) for key, row in SHAPES.items()),
    (
        "vmibLinkTable",
        LinkKey(*ALICE, V4, PEER, 32),
        Link(rate=500, delay=20_000, jitter=3000, loss=200_000, corrupt=1000),
        SOURCE,
    ),
]
VIF, LINK = subjects("h1", ROWS, Describer(NAMES, {}))
PLAIN = replace(LINK, ways=(Impairment(), Impairment(), Impairment(delay=20_000)))


def test_an_interface_is_measured_with_both_of_its_shapes() -> None:
    assert VIF.probe == ProbeKey(*ALICE, V4, OWN)
    assert VIF.one_by_one
    assert (VIF.delay, VIF.jitter, VIF.loss) == (3000, 0, 100_000)
    assert [(flow.word, flow.rate) for flow in VIF.flows] == [("receives", 10_000), ("sends", 0)]


def test_a_link_is_measured_with_the_shapes_of_its_interface() -> None:
    assert LINK.probe == ProbeKey(*ALICE, V4, PEER)
    assert not LINK.one_by_one
    assert (LINK.delay, LINK.jitter, LINK.loss, LINK.corrupt) == (23_000, 3000, 280_000, 1000)
    assert [(flow.table, flow.rate) for flow in LINK.flows] == [("vmibLinkTable", 500)]


def test_an_interface_without_an_address_is_not_measured() -> None:
    assert subjects("h1", ROWS[:1] + ROWS[2:], Describer(NAMES, {})) == []


def test_what_is_not_delayed_as_often_as_it_is_reordered() -> None:
    way = Impairment(delay=10_000, reorder=250_000)
    assert replace(LINK, ways=(way,)).delay == 7500
    assert not replace(LINK, ways=(way,)).is_steady


@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from([0, 64, 1000, 10**6])), max_size=400))
def test_every_subject_is_measured_once_and_no_interface_is_filled(
    wanted: list[tuple[int, int]],
) -> None:
    found = [
        replace(
            PLAIN,
            probe=ProbeKey(vm, 1, V4, ip_address(0x0A000000 + number)),
            ways=(Impairment(rate=rate), Impairment()),
        )
        for number, (vm, rate) in enumerate(wanted)
    ]
    made = waves(found, 20)
    assert Counter(s.probe for wave in made for s in wave) == Counter(s.probe for s in found)
    for wave in made:
        assert len(wave) <= ROWS_AT_ONCE
        for vif, count in Counter(subject.vif for subject in wave).items():
            rates = [s.ways[0].rate for s in wave if s.vif == vif and s.ways[0].rate]
            octets = count * 20 * 60
            bucket = 5000  # of the shortest token bucket
            assert not rates or count == 1 or octets <= max(bucket, min(rates) * 25)


def test_longer_delays_and_more_packets_take_longer() -> None:
    def seconds(subject: Subject, packets: int) -> float:
        return planned({"h1": [subject]}, packets).seconds

    slow = replace(PLAIN, ways=(Impairment(delay=800_000),))
    assert seconds(PLAIN, 20) < seconds(slow, 20) < seconds(replace(slow, one_by_one=True), 20)
    assert seconds(PLAIN, 20) < seconds(PLAIN, 100)


def round_of(rtt: int, loss: int = 0, packets: int = 20) -> Round:
    return Round(rtt, rtt, rtt, 0, loss, packets)


def offs(subject: Subject, found: Round, passed: dict[Flow, Passed] | None = None) -> set[str]:
    judged = judge(subject, found, passed or {}, Allowed(), 1)
    return {aspect.field for aspect in judged.aspects if aspect.off}


def test_a_delay_may_be_off_by_the_tolerance_and_what_machines_take() -> None:
    assert offs(PLAIN, round_of(19_000)) == set()
    assert offs(PLAIN, round_of(18_999)) == {"delay"}
    assert offs(PLAIN, round_of(21_000 + Allowed().slack)) == set()
    assert offs(PLAIN, round_of(21_001 + Allowed().slack)) == {"delay"}


def test_a_busy_host_does_not_make_a_steady_delay_wrong() -> None:
    assert offs(PLAIN, Round(20_050, 45_000, 90_000, 9000, 0, 20)) == set()


def test_the_mean_of_delays_that_vary_may_vary() -> None:
    uneven = replace(PLAIN, ways=(Impairment(delay=20_000, jitter=10_000),))
    assert offs(uneven, Round(10_000, 24_000, 30_000, 5000, 0, 20)) == set()
    assert offs(uneven, Round(10_000, 29_500, 30_000, 5000, 0, 20)) == {"delay"}


def test_a_loss_is_off_where_chance_does_not_explain_it() -> None:
    lossy = replace(PLAIN, ways=(Impairment(delay=20_000, loss=100_000),))
    assert offs(lossy, round_of(20_000, 100_000)) == set()
    assert offs(lossy, round_of(20_000, 0)) == set()
    assert offs(lossy, round_of(20_000, 0, 100)) == {"loss"}
    assert offs(lossy, round_of(20_000, 400_000)) == {"loss"}
    assert offs(PLAIN, round_of(20_000, 50_000)) == {"loss"}


def test_what_loses_everything_has_no_delay() -> None:
    judged = judge(PLAIN, Round(0, 0, 0, 0, 1_000_000, 20), {}, Allowed(), 1)
    assert [aspect.field for aspect in judged.aspects] == ["loss"]
    assert judged.off


def test_altered_packets_may_be_lost_or_not() -> None:
    corrupting = replace(PLAIN, ways=(Impairment(delay=20_000, corrupt=300_000),))
    assert offs(corrupting, round_of(20_000, 0)) == set()
    assert offs(corrupting, round_of(20_000, 300_000)) == set()
    assert offs(corrupting, round_of(20_000, 800_000)) == {"loss"}


def test_of_bursts_of_loss_nothing_is_said() -> None:
    bursty = replace(
        PLAIN, ways=(Impairment(delay=20_000, loss=100_000, loss_correlation=500_000),)
    )
    assert offs(bursty, round_of(20_000, 900_000)) == set()


def test_a_rate_is_not_exceeded_and_with_traffic_it_is_reached() -> None:
    (flow,) = LINK.flows
    plain = replace(PLAIN, flows=LINK.flows)
    assert offs(plain, round_of(20_000), {flow: Passed(0)}) == set()
    assert offs(plain, round_of(20_000), {flow: Passed(526)}) == {"rate"}
    assert offs(plain, round_of(20_000), {flow: Passed(476, is_traffic=True)}) == set()
    assert offs(plain, round_of(20_000), {flow: Passed(474, is_traffic=True)}) == {"rate"}


@given(st.integers(0, 100), st.integers(1, 100), st.integers(0, 1_000_000))
def test_at_most_is_the_binomial_distribution(hits: int, tries: int, ppm: int) -> None:
    chance = ppm / 1_000_000
    exact = sum(
        comb(tries, k) * chance**k * (1 - chance) ** (tries - k)
        for k in range(min(hits, tries) + 1)
    )
    assert abs(at_most(hits, tries, chance) - min(exact, 1.0)) < 1e-9


def measurement_of(*rounds: Round | Waits | str) -> Measurement:
    found = [
        replace(PLAIN, name=f"link {n}", probe=PLAIN.probe._replace(vm_index=n))
        for n in range(len(rounds))
    ]
    probes = {s.probe: each for s, each in zip(found, rounds, strict=True)}
    plan = planned({"h1": found}, 20)
    return measured(plan, {"h1": HostMeasured(probes, {})}, {}, {}, Allowed())


def test_rows_that_wait_for_a_machine_are_not_off() -> None:
    assert measurement_of(round_of(20_000), Waits("the machine is off")).ok
    assert not measurement_of(round_of(20_000), "no round has ended").ok
    assert not measurement_of(round_of(40_000)).ok


def test_a_row_is_told_with_what_it_is_off_by() -> None:
    found = measurement_of(round_of(20_030), round_of(40_000), Waits("the machine is off"))
    assert list(measure_text.measurement_lines(found)) == [
        "h1: link 0  delay 20ms, measured 20.03ms (+30us); loss 0%, measured 0%",
        "h1: link 1  delay 20ms, measured 40ms (+20ms), off; loss 0%, measured 0%",
        "h1: link 2  not measured: the machine is off",
        "2 rows measured: 1 off by more than 5%.",
    ]
