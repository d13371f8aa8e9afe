"""Probes measure what netem does: delay, jitter, loss and duplicates, each row's own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from vmib_manager.probe_verdict import at_most

from .command_lab import NAME, VIRTUAL, Net
from .sites import Site, eventually, inet, site_of
from .test_probes import forget, number, probe, sync

pytestmark = [pytest.mark.netns, pytest.mark.netem, pytest.mark.snmp]

LATE = 200
"""Microseconds that the shortest of many round trips may take longer than it has to."""
OWN, PEER, OTHER = "10.0.0.1", "10.0.0.2", "10.0.0.3"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with site_of(3) as made:
        yield made


def shape(site: Site, direction: str, **columns: int) -> None:
    """Change what is done to machine 1."""
    words = [
        word
        for name, value in columns.items()
        for word in (f"vmibShape{name}.1.1.{direction}", "u", str(value))
    ]
    site.set(*words)


@pytest.fixture
def plain(site: Site) -> Iterator[Site]:
    """The site, and afterwards nothing done to machine 1."""
    yield site
    nothing = dict.fromkeys(("Delay", "Jitter", "Loss", "Duplicate"), 0)
    for direction in ("toVm", "fromVm"):
        shape(site, direction, **nothing)


def let_round_end(site: Site, row: str, seconds: float) -> None:
    """Wait for a round that takes about so long; who is emulated sleeps faster than it asks."""
    before = site.value(f"vmibProbeLastRound.{row}")
    time.sleep(seconds)
    ended = f"vmibProbeLastRound.{row}"
    assert eventually(lambda: site.value(ended) != before, 30), sync(site, row)


def shortest(site: Site, address: str) -> int:
    """The shortest round trip to an address in a round, in microseconds."""
    row = probe(site, 1, address, Count=10, Interval=4)
    try:
        let_round_end(site, row, 2.5)
        assert number(site, "Loss", row) == 0
        return number(site, "RttMin", row)
    finally:
        forget(site, row)


def test_the_delays_of_both_directions_add_up(plain: Site) -> None:
    base = shortest(plain, OWN)
    shape(plain, "toVm", Delay=20_000)
    assert 20_000 <= shortest(plain, OWN) <= base + 20_000 + LATE
    shape(plain, "fromVm", Delay=30_000)
    assert 50_000 <= shortest(plain, OWN) <= base + 50_000 + LATE


def test_the_delay_of_a_link_is_that_of_its_destination_alone(plain: Site) -> None:
    shape(plain, "fromVm", Delay=5000)
    link = f"1.1.{inet(PEER)}.32"
    plain.set(
        f"vmibLinkDelay.{link}", "u", "40000", f"vmibLinkRowStatus.{link}", "i", "createAndGo"
    )
    try:
        assert 45_000 <= shortest(plain, PEER) <= 46_000 + LATE
        assert 5000 <= shortest(plain, OTHER) <= 6000 + LATE
        assert 5000 <= shortest(plain, OWN) <= 6000 + LATE
    finally:
        plain.set(f"vmibLinkRowStatus.{link}", "i", "destroy")


def test_the_deviation_is_that_of_the_jitter(plain: Site) -> None:
    shape(plain, "toVm", Delay=30_000, Jitter=10_000)
    row = probe(plain, 1, PEER, Count=100, Interval=20)
    try:
        let_round_end(plain, row, 11)
        assert 28_000 < number(plain, "RttAvg", row) < 32_500
        assert number(plain, "RttStdDev", row) == pytest.approx(10_000 / 3**0.5, rel=0.25)
        assert number(plain, "RttMin", row) >= 20_000
        assert number(plain, "RttMax", row) <= 41_000
    finally:
        forget(plain, row)


def test_the_loss_is_what_chance_makes_of_it(plain: Site) -> None:
    shape(plain, "fromVm", Loss=100_000)
    row = probe(plain, 1, PEER, Count=100, Interval=4)
    lost = 0
    try:
        for _ in range(4):
            let_round_end(plain, row, 6)
            lost += number(plain, "Loss", row) // 10_000
    finally:
        forget(plain, row)
    assert at_most(lost, 400, 0.1) > 0.0005
    assert at_most(lost - 1, 400, 0.1) < 0.9995


def test_answers_that_come_twice_count_once(plain: Site) -> None:
    for direction in ("toVm", "fromVm"):
        shape(plain, direction, Delay=10_000, Duplicate=1_000_000)
    rows = [probe(plain, 1, address, Count=10, Interval=4) for address in (OWN, PEER)]
    try:
        for row in rows:
            let_round_end(plain, row, 2.5)
            assert number(plain, "Loss", row) == 0
            assert number(plain, "RttMin", row) >= 20_000
            assert number(plain, "RttMax", row) <= 22_000 + LATE
            assert number(plain, "Received", row) <= number(plain, "Sent", row)
    finally:
        for row in rows:
            forget(plain, row)


LINK = '  <link a="alice" b="carol" delay="20ms" loss="5%"/>\n</virtual>'


@pytest.fixture
def linked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    """A lab of two hosts with a link between them."""
    net = Net(tmp_path_factory.mktemp("measured"))
    described = VIRTUAL.replace("</virtual>", LINK).format(rate="10Mbit")
    (net.directory / "linked.xml").write_text(described)
    try:
        up = net.vmib("lab", "up", "real.xml", "--name", NAME)
        assert up.status == 0, up.err
        assert net.vmib("apply", "real.xml", "linked.xml").status == 0
        yield net
    finally:
        net.vmib("lab", "down", "--name", NAME)


def test_what_is_measured_is_compared_with_what_is_described(linked: Net) -> None:
    def values(name: str) -> dict[str, dict[str, int]]:
        done = linked.vmib(
            "verify", "real.xml", "linked.xml", "--measure", "--packets", "20", "--json"
        )
        measurement = done.document["measurement"]
        assert (done.status == 0) is measurement["ok"]
        (found,) = [row for row in measurement["rows"] if row["subject"] == name]
        return {value["field"]: value for value in found["values"]}

    delay = values("link alice:0 to 10.7.0.3")["delay"]
    assert delay["configured"] == 20_000
    assert 20_000 <= delay["measured"] <= 21_000
    assert not delay["off"]
    assert values("link alice:0 to 10.7.0.3")["loss"]["configured"] == 50_000
    linked.inside("alice", *["tc", "qdisc", "add", "dev", "eth0", "root", "netem", "delay", "15ms"])
    delay = values("link alice:0 to 10.7.0.3")["delay"]
    assert delay["off"]
    assert 35_000 <= delay["measured"] <= 36_000
