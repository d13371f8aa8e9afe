"""The frames of probes, and what of the answers is taken."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib_agent.probe_packets import (
    Answer,
    Question,
    Signature,
    answer_filter,
    frame,
    internet_checksum,
    link_local,
    parse,
)

HOST, GUEST = "fe:ff:ff:ff:ff:ff", "02:76:6d:00:00:01"
SIGNATURE = Signature(0x1234, b"12345678")
V4 = Question(HOST, GUEST, IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2"))
V6 = Question(HOST, GUEST, IPv6Address("fd00::1"), IPv6Address("fd00::2"))
OWN4, OWN6 = replace(V4, dest=V4.machine), replace(V6, dest=V6.machine)

ADDRESSES = st.one_of(
    st.tuples(st.ip_addresses(v=4), st.ip_addresses(v=4)),
    st.tuples(st.ip_addresses(v=6), st.ip_addresses(v=6)),
)


def answered(request: bytes) -> bytes:
    """What a machine answers to a request, as its kernel does."""
    kind = request[12:14]
    ethernet = request[6:12] + request[:6] + kind
    body = request[14:]
    if kind == b"\x08\x06":
        ours, asker = body[8:14], body[14:18]
        mine = request[:6] + body[24:28]
        return ethernet + body[:7] + b"\x02" + mine + ours + asker
    if kind == b"\x08\x00":
        return ethernet + body[:12] + body[16:20] + body[12:16] + b"\x00" + body[21:]
    header, message = body[:8] + body[24:40] + body[8:24], body[40:]
    if message[0] == 135:
        return ethernet + header + b"\x88" + message[1:24] + b"\x02\x01" + request[:6]
    return ethernet + header + b"\x81" + message[1:]


def run_filter(octets: bytes, identifier: int) -> int:
    """What a classic BPF program returns for a frame (0: it is not let through)."""
    program = answer_filter(identifier)
    accumulator = index = at = 0
    while True:
        code, yes, no, operand = program[at]
        at += 1
        size = {0x28: 2, 0x30: 1, 0x20: 4, 0x50: 1, 0x48: 2}.get(code)
        if size is not None:
            start = operand + (index if code in (0x50, 0x48) else 0)
            if start + size > len(octets):
                return 0
            accumulator = int.from_bytes(octets[start : start + size])
        elif code == 0xB1:
            index = 4 * (octets[operand] & 0xF)
        elif code == 0x15:
            at += yes if accumulator == operand else no
        else:
            assert code == 0x06
            return operand


@pytest.mark.parametrize("question", [V4, V6])
def test_an_echo_reply_tells_which_packet_it_is_for(question: Question) -> None:
    request = frame(question, SIGNATURE, 77, 70_000)
    assert parse(request, SIGNATURE) is None
    reply = answered(request)
    assert parse(reply, SIGNATURE) == Answer(GUEST, question.machine, (77, 70_000))
    assert parse(reply, replace(SIGNATURE, token=b"87654321")) is None
    assert run_filter(reply, SIGNATURE.identifier)
    assert not run_filter(reply, 0x4321)
    assert not run_filter(request, SIGNATURE.identifier)


@pytest.mark.parametrize("question", [OWN4, OWN6])
def test_who_has_an_address_is_asked_without_a_number(question: Question) -> None:
    request = frame(question, SIGNATURE, 77, 5)
    assert parse(request, SIGNATURE) is None
    reply = answered(request)
    assert parse(reply, SIGNATURE) == Answer(GUEST, question.machine, None)
    assert run_filter(reply, SIGNATURE.identifier)
    assert not run_filter(request, SIGNATURE.identifier)


def test_an_arp_request_teaches_nobody_an_address() -> None:
    request = frame(OWN4, SIGNATURE, 1, 1)
    assert request[28:32] == bytes(4)
    somebody_else = bytearray(answered(request))
    somebody_else[38:42] = IPv4Address("10.0.0.9").packed
    assert parse(bytes(somebody_else), SIGNATURE) is None
    assert not run_filter(bytes(somebody_else), SIGNATURE.identifier)


def test_a_solicitation_comes_from_the_host_ends_link_local_address() -> None:
    request = frame(OWN6, SIGNATURE, 1, 1)
    assert (
        IPv6Address(request[22:38]) == link_local(HOST) == IPv6Address("fe80::fcff:ffff:feff:ffff")
    )
    assert request[21] == 255


@given(ADDRESSES, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_checksums_are_right_for_all_addresses(
    addresses: tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address], probe: int, number: int
) -> None:
    question = Question(HOST, GUEST, *addresses)
    octets = frame(question, SIGNATURE, probe, number)
    body = octets[14:]
    if octets[12:14] == b"\x08\x00":
        assert internet_checksum(body[:20]) == 0
        assert internet_checksum(body[20:]) == 0
        assert struct.unpack("!H", body[2:4]) == (len(body),)
    elif octets[12:14] == b"\x86\xdd":
        pseudo = body[8:40] + len(body[40:]).to_bytes(4) + (58).to_bytes(4)
        assert internet_checksum(pseudo + body[40:]) == 0
    found = parse(answered(octets), SIGNATURE)
    assert found is not None
    assert found.address == question.machine
    if question.machine != question.dest:
        assert found.packet == (probe, number)


@given(st.binary(max_size=200))
def test_whatever_arrives_is_looked_at_without_harm(octets: bytes) -> None:
    parse(octets, SIGNATURE)


@given(st.sampled_from([V4, V6, OWN4, OWN6]), st.integers(0, 100))
def test_answers_that_are_cut_off_are_none(question: Question, length: int) -> None:
    whole = answered(frame(question, SIGNATURE, 1, 2))
    found = parse(whole[:length], SIGNATURE)
    assert found is None or found.address == ip_address(str(question.machine))
