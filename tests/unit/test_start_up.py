"""What a machine is told on its kernel's command line, and whether it answers."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib_agent.neighbours import is_answer, question
from vmib_agent.network import Address, Link, Route, RouteKind, Stack
from vmib_agent.start_up import BEGIN, END, seen, start_up, with_words, words_in

MACS: dict[Link, str] = {0: "00:16:3e:00:00:01", 1: "00:16:3e:00:00:02"}
V4 = Address(0, ip_interface("192.0.2.1/24"))
V6 = Address(1, ip_interface("2001:db8::1/64"))
ROUTE = Route(ip_network("198.51.100.0/24"), via=ip_address("192.0.2.9"), link=0)
ON_LINK = Route(ip_network("2001:db8:1::/48"), link=1)


def test_addresses_and_routes_are_words_of_dracut() -> None:
    told = start_up(Stack(frozenset({V4, V6}), frozenset({ROUTE, ON_LINK})), MACS)
    assert told.words == [
        "ifname=vif0:00:16:3e:00:00:01",
        "ifname=vif1:00:16:3e:00:00:02",
        "ip=192.0.2.1:::24::vif0:none",
        "ip=[2001:db8::1]:::64::vif1:none",
        "rd.route=198.51.100.0/24:192.0.2.9:vif0",
        "rd.route=[2001:db8:1::/48]::vif1",
    ]
    assert told.unsaid == {}


def test_an_interface_that_gets_nothing_keeps_its_name() -> None:
    assert start_up(Stack(frozenset({V4})), MACS).words[0] == "ifname=vif0:00:16:3e:00:00:01"
    assert len(start_up(Stack(frozenset({V4})), MACS).words) == 2
    assert start_up(Stack(), MACS).words == []


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (Route(ip_network("198.51.100.0/24"), kind=RouteKind.BLACKHOLE), "type blackhole"),
        (Route(ip_network("198.51.100.0/24"), 7, via=ip_address("192.0.2.9")), "metric"),
    ],
)
def test_what_cannot_be_said_is_told(route: Route, reason: str) -> None:
    told = start_up(Stack(routes=frozenset({route})), MACS)
    assert told.words == []
    assert reason in told.unsaid[route]


def test_our_words_stand_between_marks_and_the_others_stay() -> None:
    line = with_words("console=hvc0 quiet", ["ip=a", "ip=b"])
    assert line == f"console=hvc0 quiet {BEGIN} ip=a ip=b {END}"
    assert words_in(line) == ["ip=a", "ip=b"]
    assert with_words(line, ["ip=c"]) == f"console=hvc0 quiet {BEGIN} ip=c {END}"
    assert with_words(line, []) == "console=hvc0 quiet"
    assert words_in("console=hvc0 ip=dhcp") == []


words = st.lists(st.text("abc=.:0123456789", min_size=1, max_size=8), max_size=5)


@given(words, words, words, words)
def test_words_are_put_and_taken_without_a_trace(
    before: list[str], after: list[str], first: list[str], second: list[str]
) -> None:
    line = " ".join([*before, BEGIN, *first, END, *after]) if first else " ".join(before + after)
    assert words_in(with_words(line, second)) == second
    assert with_words(with_words(line, second), []).split() == before + after


def test_a_line_that_the_kernel_would_cut_is_refused() -> None:
    with pytest.raises(ValueError, match="octets is too long"):
        with_words("quiet", ["x" * 2048])


def test_what_a_machine_was_told_is_seen_on_the_line_it_was_started_with() -> None:
    told = start_up(Stack(frozenset({V4, V6}), frozenset({ROUTE})), MACS)
    assert seen(told, "quiet") == Stack()
    line = with_words("quiet", ["ip=192.0.2.1:::24::vif0:none"])
    assert seen(told, line) == Stack(frozenset({V4}))
    assert seen(told, with_words("quiet", told.words)).routes == {ROUTE}


GUEST = bytes.fromhex("00163e000001")


def test_a_question_for_an_ipv4_address_is_no_conflict_for_the_one_who_has_it() -> None:
    frame = question(ip_address("192.0.2.1"), MACS[0])
    assert frame[:6] == GUEST
    assert frame[6:12] != GUEST
    request = struct.unpack("!HHBBH6s4s6s4s", frame[14:])
    assert request == (1, 0x800, 6, 4, 1, GUEST, bytes(4), bytes(6), bytes([192, 0, 2, 1]))


def test_a_question_for_an_ipv6_address_has_a_sender_and_a_checksum() -> None:
    frame = question(ip_address("2001:db8::1"), MACS[0])
    assert frame[12:14] == b"\x86\xdd"
    length, upper, hops = struct.unpack_from("!HBB", frame, 18)
    body = frame[54:]
    assert (length, upper, hops) == (len(body), 58, 255)
    assert ip_address(frame[22:38]).is_link_local
    whole = frame[22:54] + struct.pack("!II", len(body), 58) + body
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_only_the_guests_own_answer_for_the_address_counts() -> None:
    address = ip_address("192.0.2.1")
    reply = struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + GUEST + address.packed + bytes(10)
    frame = bytes(6) + GUEST + b"\x08\x06" + reply
    assert is_answer(frame, address, MACS[0])
    assert not is_answer(frame, ip_address("192.0.2.2"), MACS[0])
    assert not is_answer(frame, address, MACS[1])
    assert not is_answer(question(address, MACS[0]), address, MACS[0])
    assert not is_answer(b"", address, MACS[0])
