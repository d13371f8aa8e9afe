"""All probes of a host together: their ways, and whose answer is whose."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from vmib.rows import Addr, AddrKey, InetAddressType, Link, LinkKey, ProbeKey, Sync, VifKey, VmKey
from vmib.rows import Probe as Row
from vmib_agent.inventory import Inventory, Rows, VifFacts
from vmib_agent.ports import Guest, Presence
from vmib_agent.probe_packets import Answer
from vmib_agent.probe_ways import Way, ways
from vmib_agent.probing import FIRST_WITHIN, Packet, Probing, probe_sync

MAC = "02:00:00:00:00:01"
FACTS = VifFacts("u", MAC, 0, "vif1.0", 7, 1500, up=True, running=True)
GUEST = Guest("u", "m1", Presence.RUNNING, ())


def address(text: str) -> tuple[InetAddressType, object]:
    found = ip_address(text)
    return (InetAddressType.ipv4 if found.version == 4 else InetAddressType.ipv6), found


def key(text: str) -> ProbeKey:
    return ProbeKey(1, 1, *address(text))  # type: ignore[arg-type]


def addr(text: str, prefix: int) -> tuple[AddrKey, Addr]:
    return AddrKey(1, 1, *address(text)), Addr(prefix_length=prefix)  # type: ignore[arg-type]


ADDRESSES = dict([addr("10.0.0.1", 24), addr("10.9.0.1", 16), addr("fd00::1", 64)])
LINKS = {LinkKey(1, 1, *address("192.0.2.0"), 24): Link()}  # type: ignore[arg-type]
INTENT = {"vmibAddrTable": ADDRESSES, "vmibLinkTable": LINKS}


def way_to(
    text: str, facts: VifFacts | None = FACTS, intent: object = INTENT, *, paused: bool = False
) -> Way | str:
    vifs = {} if facts is None else {VifKey(1, 1): facts}
    guest = replace(GUEST, presence=Presence.PAUSED) if paused else GUEST
    rows = Rows(intent, Inventory({VmKey(1): guest}, vifs))  # type: ignore[arg-type]
    return ways(rows, [key(text)])[key(text)]


def asked(found: Way | str) -> str:
    assert isinstance(found, Way), found
    return str(found.machine)


def test_a_machines_own_address_is_asked_for() -> None:
    found = way_to("10.0.0.1")
    assert found == Way("vif1.0", "vmib1.1", MAC, *[ip_address("10.0.0.1")] * 2)
    assert found.one_by_one


def test_any_address_may_be_that_of_a_machine_of_which_none_is_known() -> None:
    assert asked(way_to("203.0.113.5", intent={})) == "203.0.113.5"


def test_the_machine_is_asked_at_its_address_in_the_same_network() -> None:
    assert asked(way_to("10.0.0.77")) == "10.0.0.1"
    assert asked(way_to("10.9.44.5")) == "10.9.0.1"
    assert asked(way_to("fd00::99")) == "fd00::1"


def test_the_other_end_of_a_link_may_be_in_another_network() -> None:
    assert asked(way_to("192.0.2.9")) == "10.0.0.1"


def test_what_a_probe_waits_for_is_said() -> None:
    told = {
        "the hypervisor does not report": way_to("10.0.0.1", None),
        "the machine is off": way_to("10.0.0.1", replace(FACTS, running=False)),
        "the machine is paused": way_to("10.0.0.1", replace(FACTS, running=False), paused=True),
        "does not exist": way_to("10.0.0.1", replace(FACTS, device="")),
        "vif1.0, is down": way_to("10.0.0.1", replace(FACTS, up=False)),
        "neither an address of the interface": way_to("198.51.100.1"),
        "not the address of a host": way_to("224.0.0.1"),
    }
    assert [words for words, found in told.items() if words not in str(found)] == []


WAY = Way("vif1.0", "vmib1.1", MAC, ip_address("10.0.0.1"), ip_address("10.0.0.2"))
OWN = replace(WAY, dest=WAY.machine)


def sending(probing: Probing, now: float) -> list[Packet]:
    """Hand over all that is due."""
    found = []
    while (packet := probing.next_packet(now, now)) is not None:
        probing.sent(packet, now, round(now * 1e9))
        found.append(packet)
    return found


def test_probes_made_together_begin_within_a_second_but_not_together() -> None:
    probing = Probing(lambda _: None)
    keys = [key(f"10.0.1.{number}") for number in range(1, 101)]
    probing.follow(dict.fromkeys(keys, Row()), dict.fromkeys(keys, WAY), 50.0)
    begun: list[float] = []
    while len(begun) < 100:
        due = probing.due()
        assert due is not None
        begun += [due for packet in sending(probing, due) if packet.course.number == 1]
    assert 50.0 <= min(begun) <= max(begun) <= 50.0 + FIRST_WITHIN
    assert len(set(begun)) > 90


def test_an_answer_is_its_probes_alone() -> None:
    probing = Probing(lambda _: None)
    rows = {key("10.0.0.1"): Row(count=1), key("10.0.0.2"): Row(count=1)}
    probing.follow(rows, {key("10.0.0.1"): OWN, key("10.0.0.2"): WAY}, 0.0)
    assert len(sending(probing, 1.0)) == 2
    own, other = (probing.probes[each] for each in rows)
    stranger = "02:00:00:00:00:99"
    probing.answered(Answer(stranger, OWN.machine, None), 1_005_000_000, 1.005)
    probing.answered(Answer(stranger, OWN.machine, (other.serial, 0)), 1_005_000_000, 1.005)
    assert (own.received, other.received) == (0, 0)
    probing.answered(Answer(MAC, OWN.machine, None), 1_004_000_000, 1.005)
    probing.answered(Answer(MAC, OWN.machine, (other.serial, 0)), 1_003_000_000, 1.005)
    assert probing.next_packet(1.006, 1000.0) is None
    assert (own.last.rtt_avg, other.last.rtt_avg) == (4000, 3000)
    assert (own.received, other.received) == (1, 1)
    assert own.ended == 1000.0


def test_a_probe_that_changes_its_way_begins_anew_and_keeps_its_results() -> None:
    probing = Probing(lambda _: None)
    rows = {key("10.0.0.2"): Row(count=1)}
    probing.follow(rows, {key("10.0.0.2"): WAY}, 0.0)
    (packet,) = sending(probing, 1.0)
    probe = packet.probe
    probing.answered(Answer(MAC, WAY.machine, (probe.serial, 0)), 1_003_000_000, 1.003)
    probing.next_packet(1.1, 7.0)
    probing.follow(rows, {key("10.0.0.2"): "the machine is off"}, 2.0)
    assert probe_sync(probe) == (Sync.waiting, "the machine is off")
    assert probing.due() is None
    assert (probe.last.rtt_avg, probe.sent) == (3000, 1)
    probing.follow(rows, {key("10.0.0.2"): WAY}, 3.0)
    (packet,) = sending(probing, 4.0)
    assert packet.course.number == 2  # an answer to the first packet is none to this one
    assert probe_sync(probe) == (Sync.inSync, "")


def test_what_the_system_refuses_is_tried_again() -> None:
    probing = Probing(lambda _: None)
    rows = {key("10.0.0.2"): Row()}
    probing.follow(rows, {key("10.0.0.2"): WAY}, 0.0)
    packet = probing.next_packet(1.0, 1.0)
    assert packet is not None
    probing.failed(packet, "vif1.0: Operation not permitted", 6.0)
    assert probe_sync(packet.probe) == (Sync.failed, "vif1.0: Operation not permitted")
    assert probing.next_packet(5.9, 5.9) is None
    assert len(sending(probing, 6.0)) == 1
    assert probe_sync(packet.probe) == (Sync.inSync, "")


def test_a_crossed_threshold_is_told_once() -> None:
    told: list[ProbeKey] = []
    probing = Probing(told.append)
    rows = {key("10.0.0.2"): Row(count=1, interval=1, loss_threshold=1)}
    probing.follow(rows, {key("10.0.0.2"): WAY}, 0.0)
    for turn in range(1, 5):
        sending(probing, turn * 3.0)
    assert told == [key("10.0.0.2")]
    for turn in range(5, 9):
        (packet,) = sending(probing, turn * 3.0)
        answer = Answer(MAC, WAY.machine, (packet.probe.serial, packet.course.number - 1))
        probing.answered(answer, round(turn * 3e9) + 1, turn * 3.0)
    assert told == [key("10.0.0.2")] * 2


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(1, 3)), max_size=30))
def test_there_is_a_course_for_each_row_with_a_way_and_no_more(
    changes: list[tuple[str, bool, int]],
) -> None:
    probing = Probing(lambda _: None)
    rows: dict[ProbeKey, Row] = {}
    wanted: dict[ProbeKey, Way | str] = {}
    now = 0.0
    for name, there, interval in changes:
        which = key(f"10.0.0.{ord(name)}")
        if which in rows and not there:
            del rows[which], wanted[which]
        else:
            rows[which] = Row(interval=interval)
            wanted[which] = WAY if there else "waits"
        probing.follow(rows, wanted, now)
        now += 0.7
        running = {k for k, way in wanted.items() if isinstance(way, Way)}
        assert {packet.probe.key for packet in sending(probing, now)} <= running
        assert (probing.due() is not None) is bool(running)
        assert probing.probes.keys() == rows.keys()
