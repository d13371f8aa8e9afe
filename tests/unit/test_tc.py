"""Messages of traffic control, byte for byte, and back."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmib_agent import distributions, psched, tc
from vmib_agent.qdiscs import (
    INGRESS_HANDLE,
    INGRESS_PARENT,
    ROOT,
    UNLIMITED_RATE,
    Bfifo,
    HashOn,
    Htb,
    HtbClass,
    Ingress,
    Key,
    Netem,
    Other,
    Qdisc,
    Rule,
    Table,
    Tbf,
)

u32 = st.integers(0, 2**32 - 1)
ppm = st.integers(0, 1_000_000)
rates = st.integers(1, 2**32 - 1).map(lambda kbps: kbps * 125)


@st.composite
def tbfs(draw) -> Tbf:
    rate = draw(rates)
    octets = draw(st.integers(1, psched.largest_burst(rate) // 2))
    return Tbf(rate, psched.tbf_burst(rate, octets), draw(u32))


@st.composite
def netems(draw) -> Netem:
    return Netem(
        limit=draw(u32),
        delay=draw(u32),
        jitter=draw(u32),
        distribution=draw(st.integers(1, 4)),
        loss=draw(ppm),
        loss_correlation=draw(ppm),
        duplicate=draw(ppm),
        corrupt=draw(ppm),
        reorder=draw(ppm),
    )


options = st.one_of(tbfs(), netems(), st.builds(Htb, st.integers(0, 0xFFFF)), st.builds(Bfifo, u32))


@settings(deadline=None)
@given(options, st.booleans())
def test_options_of_a_qdisc_keep_their_value(wanted, change) -> None:
    qdisc = Qdisc(0x76F20000, ROOT, wanted)
    found = tc.decode(tc.RTM_NEWQDISC, tc.encode_qdisc(7, qdisc, change=change))
    assert found.item == qdisc
    assert found.header.device == 7


@given(rates | st.just(UNLIMITED_RATE), st.integers(1514, 10_000_000), st.integers(1, 200_000))
def test_a_class_keeps_its_value(rate, octets, quantum) -> None:
    octets = min(octets, psched.largest_burst(rate))
    item = HtbClass(0x76F31001, rate, psched.htb_burst(rate, octets), quantum)
    found = tc.decode(tc.RTM_NEWTCLASS, tc.encode_class(3, item))
    assert found.item == item
    assert octets <= item.burst <= octets + 64 * rate // 1_000_000_000 + 2


keys = st.builds(Key, st.sampled_from([16, 24, 28, 32, 36]), u32, u32)
rules = st.builds(
    Rule,
    protocol=st.sampled_from([tc.ETH_P_IP, tc.ETH_P_IPV6]),
    table=st.integers(0, 0x7FF),
    bucket=st.integers(0, 255),
    node=st.integers(1, 0xFFE),
    keys=st.lists(keys, max_size=4).map(tuple),
    classid=st.sampled_from([0, 0x76F31001]),
    hash_on=st.none() | st.builds(HashOn, st.integers(1, 0x7FF), st.just(24), u32),
    redirect=st.sampled_from([0, 5]),
    copying=st.booleans(),
).map(lambda rule: rule if rule.redirect else replace(rule, copying=False))


@given(rules | st.builds(Table, st.just(tc.ETH_P_IP), st.integers(1, 0x7FF)))
def test_a_filter_keeps_its_value(wanted) -> None:
    found = tc.decode(tc.RTM_NEWTFILTER, tc.encode_filter(3, 0x76F30000, 1, wanted))
    assert found.item == wanted
    assert found.header.parent == 0x76F30000
    assert found.header.info >> 16 == 1


def test_the_ingress_hook_carries_its_block() -> None:
    qdisc = Qdisc(INGRESS_HANDLE, INGRESS_PARENT, Ingress(0x76000003))
    assert tc.decode(tc.RTM_NEWQDISC, tc.encode_qdisc(3, qdisc)).item == qdisc


def test_tbf_is_sent_with_its_burst_in_octets_and_no_rate_table() -> None:
    data = tc.encode_qdisc(2, Qdisc(0x76F80000, ROOT, Tbf(1_250_000, 5000, 62_500)))
    parms = struct.pack("=BBHhHI", 0, 1, 0, 0, 0, 1_250_000) + bytes(12)
    parms += struct.pack("=III", 62_500, 4_000_000 // 64, 0)
    body = struct.pack("=HH", 40, 1) + parms + struct.pack("=HHI", 8, 6, 5000)
    expected = struct.pack("=BBHiIII", 0, 0, 0, 2, 0x76F80000, ROOT, 0)
    expected += struct.pack("=HH", 8, 1) + b"tbf\0" + struct.pack("=HH", 52, 2) + body
    assert data == expected


def test_a_rate_above_34_gbit_takes_64_bits() -> None:
    data = tc.encode_qdisc(2, Qdisc(0x76F80000, ROOT, Tbf(5_000_000_000, 20_000_000, 1)))
    assert struct.pack("=HHQ", 12, 4, 5_000_000_000) in data
    assert struct.pack("=I", 0xFFFFFFFF) in data


def test_netem_is_sent_in_the_layout_of_pkt_sched_h() -> None:
    wanted = Netem(1000, delay=20_000, jitter=5_000, loss=10_000, reorder=250_000, corrupt=1)
    data = tc.encode_qdisc(2, Qdisc(0x76F10000, 0x76F00001, wanted))
    one_percent = round(0.01 * 0xFFFFFFFF)
    quarter = round(0.25 * 0xFFFFFFFF)
    parms = struct.pack("=IIIIII", 312_500, 1000, one_percent, 1, 0, 78_125)
    attributes = [
        struct.pack("=HHq", 12, 10, 20_000_000),
        struct.pack("=HHq", 12, 11, 5_000_000),
        struct.pack("=HHIII", 16, 1, 0, 0, 0),
        struct.pack("=HHII", 12, 3, quarter, 0),
        struct.pack("=HHII", 12, 4, 4295, 0),
        struct.pack("=HHIiIi", 20, 6, 0, 0, 0, 0),
    ]
    body = parms + b"".join(attributes)
    assert data.endswith(struct.pack("=HH", 4 + len(body), 2) + body)


SENT_BY_TC = bytes.fromhex(
    "b4c40400e8030000295c8f020100000014ae47012d310100"
    "100001000000000000000040000000000c00030000000040000000000c0004003789410000000000"
)
"""TCA_OPTIONS of iproute2 6.1's `tc qdisc add ... netem limit 1000 delay 20ms 5ms loss 1% 25%
duplicate 0.5% corrupt 0.1% reorder 25%`."""


def test_netem_is_sent_as_tc_sends_it() -> None:
    wanted = Netem(
        limit=1000,
        delay=20_000,
        jitter=5_000,
        loss=10_000,
        loss_correlation=250_000,
        duplicate=5_000,
        corrupt=1_000,
        reorder=250_000,
    )
    data = tc.encode_qdisc(2, Qdisc(0x76F10000, 0x76F00001, wanted))
    ours = dict(tc.attributes(data[20:]))[2]
    assert ours[:24] == SENT_BY_TC[:24]
    sent_by_tc = dict(tc.attributes(SENT_BY_TC[24:]))
    assert len(sent_by_tc) == 3
    assert sent_by_tc.items() <= dict(tc.attributes(ours[24:])).items()


def test_a_change_to_uniform_jitter_sends_a_table_because_the_kernel_keeps_the_last() -> None:
    qdisc = Qdisc(0x76F10000, 0x76F00001, Netem(1000, delay=9, jitter=9))
    table = distributions.table(distributions.UNIFORM)
    assert table not in tc.encode_qdisc(2, qdisc)
    assert table in tc.encode_qdisc(2, qdisc, change=True)


@pytest.mark.parametrize(
    "tail",
    [
        struct.pack("=HHIiIi", 20, 6, 1000, 0, 0, 0),
        struct.pack("=HHIII", 16, 1, 5, 0, 0),
        struct.pack("=HHI", 8, 7, 1),
    ],
)
def test_a_netem_with_what_vmib_never_sets_is_not_taken_for_ours(tail) -> None:
    data = tc.encode_qdisc(2, Qdisc(0x76F10000, 0x76F00001, Netem(1000)))
    body_at = data.index(b"netem\0") + 8
    length, kind = struct.unpack_from("=HH", data, body_at)
    changed = data[:body_at] + struct.pack("=HH", length + len(tail), kind) + data[body_at + 4 :]
    found = tc.decode(tc.RTM_NEWQDISC, changed + tail)
    assert isinstance(found.item, Qdisc)
    assert found.item.options == Other("netem")


@given(st.binary(max_size=200), st.sampled_from([36, 40, 44]))
def test_octets_that_are_no_message_are_a_value_error(data, kind) -> None:
    try:
        tc.decode(kind, data)
    except ValueError:
        return
    assert len(data) >= 20


@pytest.mark.parametrize("distribution", distributions.DISTRIBUTIONS)
def test_jitter_tables_have_mean_0_and_the_deviation_netem_expects(distribution) -> None:
    values = struct.unpack("=4096h", distributions.table(distribution))
    mean = sum(values) / 4096
    deviation = (sum((value - mean) ** 2 for value in values) / 4096) ** 0.5
    expected = 8192 if distribution != distributions.UNIFORM else 8192 / 3**0.5
    assert abs(mean) < 5
    assert deviation == pytest.approx(expected, rel=0.001)


@given(rates, st.integers(1, 2**31))
def test_a_burst_is_never_rounded_below_what_was_asked(rate, octets) -> None:
    rounded = psched.tbf_burst(rate, octets)
    assert octets <= rounded <= octets + 64 * rate // 1_000_000_000 + 2
    assert psched.tbf_burst(rate, rounded) == rounded
    assert psched.least_octets(rate, psched.ticks_down(rate, rounded)) == rounded


def test_up_to_125_mbit_bursts_are_exact() -> None:
    assert all(psched.tbf_burst(15_625_000, octets) == octets for octets in range(5000, 9000))
