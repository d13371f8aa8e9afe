"""AgentX PDUs: round trips in both byte orders, the octets of the RFC, and what is refused."""

from __future__ import annotations

import struct
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.errors import ValueRefused
from vmib.snmp import ber
from vmib.snmp.ber import DecodeError
from vmib_agent import agentx
from vmib_agent.agentx import Pdu, PduType, SearchRange
from vmib_agent.agentx_codec import MAX_PAYLOAD, decode, decode_header, encode
from vmib_agent.service import Value, VarBind

u8 = st.integers(0, 255)
u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
subids = st.integers(0, 20) | u32
long_oids = st.lists(subids, max_size=128).map(tuple)
internet_oids = st.lists(subids, max_size=12).map(lambda rest: (1, 3, 6, 1, *rest))
oids = long_oids | internet_oids
oid_values = (
    st.one_of(st.tuples(st.integers(0, 1), st.integers(0, 39)), st.tuples(st.just(2), u32)).flatmap(
        lambda start: st.lists(subids, max_size=126).map(lambda rest: (*start, *rest))
    )
    | internet_oids
)
texts = st.binary(max_size=70)
values = st.one_of(
    st.builds(Value, st.just(ber.INTEGER), st.integers(-(2**31), 2**31 - 1)),
    st.builds(Value, st.sampled_from([ber.COUNTER32, ber.UNSIGNED32, ber.TIME_TICKS]), u32),
    st.builds(Value, st.just(ber.COUNTER64), st.integers(0, 2**64 - 1)),
    st.builds(Value, st.sampled_from([ber.OCTET_STRING, ber.OPAQUE]), texts),
    st.builds(Value, st.just(ber.IP_ADDRESS), st.binary(min_size=4, max_size=4)),
    st.builds(Value, st.just(ber.OBJECT_IDENTIFIER), oid_values),
    st.builds(
        Value,
        st.sampled_from([ber.NULL, ber.NO_SUCH_OBJECT, ber.NO_SUCH_INSTANCE, ber.END_OF_MIB_VIEW]),
        st.just(b""),
    ),
)
varbinds = st.lists(st.builds(VarBind, oids, values), max_size=6).map(tuple)
ranges = st.lists(st.builds(SearchRange, oids, oids, st.booleans()), max_size=6).map(tuple)


@st.composite
def registrations(draw: st.DrawFn, kind: type[Any]) -> Any:
    subtree = draw(oids)
    which = draw(st.integers(0, min(len(subtree), 255)))
    bound = draw(u32) if which else 0
    if kind is agentx.Unregister:
        return kind(subtree, draw(u8), which, bound)
    return kind(subtree, draw(u8), draw(u8), which, bound, draw(st.booleans()))


without_context = st.one_of(
    st.builds(agentx.Open, u8, oids, texts),
    st.builds(agentx.Close, u8),
    st.just(agentx.CommitSet()),
    st.just(agentx.UndoSet()),
    st.just(agentx.CleanupSet()),
    st.builds(agentx.Response, u32, u16, u16, varbinds),
)
with_context = st.one_of(
    registrations(agentx.Register),
    registrations(agentx.Unregister),
    st.builds(agentx.Get, ranges),
    st.builds(agentx.GetNext, ranges),
    st.builds(agentx.GetBulk, u16, u16, ranges),
    st.builds(agentx.TestSet, varbinds),
    st.builds(agentx.Notify, varbinds),
    st.just(agentx.Ping()),
    st.builds(agentx.IndexAllocate, varbinds, st.booleans(), st.booleans()),
    st.builds(agentx.IndexDeallocate, varbinds),
    st.builds(agentx.AddAgentCaps, oids, texts),
    st.builds(agentx.RemoveAgentCaps, oids),
)
pdus = st.one_of(
    st.builds(Pdu, without_context, u32, u32, u32, st.none(), st.booleans()),
    st.builds(Pdu, with_context, u32, u32, u32, st.none() | texts, st.booleans()),
)


def decoded_or_refused(octets: bytes) -> Pdu | DecodeError:
    try:
        return decode(octets)
    except DecodeError as error:
        return error


@given(pdus)
def test_every_pdu_is_decoded_as_it_was(pdu: Pdu) -> None:
    octets = encode(pdu)
    assert decode(octets) == pdu
    header = decode_header(octets)
    assert 20 + header.length == len(octets)
    assert (header.session_id, header.transaction_id) == (pdu.session_id, pdu.transaction_id)
    assert header.packet_id == pdu.packet_id


def test_every_type_of_pdu_has_a_codec() -> None:
    kinds = {decode_header(encode(Pdu(body))).type for body in _ONE_OF_EACH}
    assert kinds == set(PduType)


_OID = (1, 3, 6, 1, 4, 1)
_ONE_OF_EACH = (
    agentx.Open(5, _OID, b"test"),
    agentx.Close(agentx.CloseReason.shutdown),
    agentx.Register(_OID, 0, 127, 6, 9),
    agentx.Unregister(_OID),
    agentx.Get((SearchRange(_OID),)),
    agentx.GetNext((SearchRange(_OID, (1, 3, 6, 2), True),)),
    agentx.GetBulk(0, 10, (SearchRange(_OID),)),
    agentx.TestSet((VarBind(_OID, Value(ber.IP_ADDRESS, b"1234")),)),
    agentx.CommitSet(),
    agentx.UndoSet(),
    agentx.CleanupSet(),
    agentx.Notify((VarBind(_OID, Value(ber.COUNTER64, 2**40)),)),
    agentx.Ping(),
    agentx.IndexAllocate((VarBind(_OID, Value(ber.INTEGER, -7)),), is_new=True),
    agentx.IndexDeallocate((VarBind(_OID, Value(ber.INTEGER, -7)),)),
    agentx.AddAgentCaps(_OID, b"what it can"),
    agentx.RemoveAgentCaps(_OID),
    agentx.Response(4711, 14, 2, (VarBind(_OID, Value(ber.NULL, b"")),)),
)


@pytest.mark.parametrize("body", _ONE_OF_EACH, ids=lambda body: type(body).__name__)
@pytest.mark.parametrize("network_order", [True, False])
def test_a_pdu_cut_anywhere_or_with_more_behind_it_is_refused(
    body: agentx.Body, network_order: bool
) -> None:
    octets = encode(Pdu(body, network_order=network_order))
    for size in range(len(octets)):
        with pytest.raises(DecodeError):
            decode(octets[:size])
        if size >= 20 and (size - 20) % 4 == 0:
            sign = ">" if network_order else "<"
            shorter = octets[:16] + struct.pack(sign + "I", size - 20) + octets[20:size]
            assert decoded_or_refused(shorter) != Pdu(body, network_order=network_order)
    with pytest.raises(DecodeError):
        decode(octets + bytes(4))


@given(st.binary(max_size=200), st.sampled_from(PduType), st.booleans())
def test_any_payload_is_decoded_or_refused(payload: bytes, kind: PduType, order: bool) -> None:
    payload += bytes(-len(payload) % 4)
    sign, flag = (">", 0x10) if order else ("<", 0)
    for flags in (flag, flag | 8):
        header = struct.pack(sign + "4B4I", 1, kind, flags, 0, 1, 2, 3, len(payload))
        found = decoded_or_refused(header + payload)
        if isinstance(found, Pdu):
            assert decode(encode(found)) == found


@given(pdus, st.data())
def test_a_damaged_pdu_is_decoded_or_refused(pdu: Pdu, data: st.DataObject) -> None:
    octets = bytearray(encode(pdu))
    for _ in range(data.draw(st.integers(1, 4))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(u8)
    decoded_or_refused(bytes(octets))


@given(st.binary(max_size=60))
def test_any_octets_are_decoded_or_refused(octets: bytes) -> None:
    decoded_or_refused(octets)


def test_the_octets_are_those_of_the_rfc() -> None:
    body = agentx.GetNext((SearchRange((1, 3, 6, 1, 2, 1, 7, 1), (1, 3, 6, 1, 2, 1, 8), True),))
    assert encode(Pdu(body, 1, 2, 3)).hex(" ", 4) == (
        "01061000 00000001 00000002 00000003 0000001c "
        "03020100 00000001 00000007 00000001 02020000 00000001 00000008"
    )
    assert encode(Pdu(body, 1, 2, 3, network_order=False)).hex(" ", 4) == (
        "01060000 01000000 02000000 03000000 1c000000 "
        "03020100 01000000 07000000 01000000 02020000 01000000 08000000"
    )


def test_the_prefix_stands_for_the_internet_s_sub_identifiers_only() -> None:
    def octets(*oid: int) -> str:
        return encode(Pdu(agentx.RemoveAgentCaps(oid)))[20:].hex(" ", 4)

    assert octets(1, 3, 6, 1, 255) == "00ff0000"
    assert octets(1, 3, 6, 1, 256) == "05000000 00000001 00000003 00000006 00000001 00000100"
    assert octets(1, 3, 6, 1, 0) == "05000000 00000001 00000003 00000006 00000001 00000000"
    assert octets(1, 3, 6, 1) == "04000000 00000001 00000003 00000006 00000001"
    assert octets() == "00000000"


def test_texts_are_padded_to_whole_words() -> None:
    octets = encode(Pdu(agentx.TestSet(()), context=b"abcde"))
    assert octets[20:].hex(" ", 4) == "00000005 61626364 65000000"
    assert octets[2] == 0x18


@pytest.mark.parametrize(
    ("payload", "kind", "reason"),
    [
        ("00000000 00000000 00000000", PduType.CLOSE, "8 octets after the end"),
        ("7c020000" + 124 * "00000001", PduType.REMOVE_AGENT_CAPS, "more than 128"),
        ("00020200", PduType.REMOVE_AGENT_CAPS, "include is 2"),
        ("ff000000", PduType.REMOVE_AGENT_CAPS, "more than 128"),
        ("05000000 00000000", PduType.REMOVE_AGENT_CAPS, "ends inside"),
        ("00000000 ffffffff", PduType.ADD_AGENT_CAPS, "at most 65535"),
        ("00000000 00000001", PduType.ADD_AGENT_CAPS, "ends inside"),
        ("00000900 00020000", PduType.REGISTER, "sub-identifier 9 of 5"),
        ("00000500 00020000", PduType.REGISTER, "ends inside"),
        ("00470000 00020000 00000001", PduType.TEST_SET, "no SNMP value has type 71"),
        ("01020000 00020000 00000001", PduType.TEST_SET, "no SNMP value has type 258"),
        ("00400000 00020000 00000003 01020300", PduType.TEST_SET, "IpAddress of 3"),
        ("00060000 00020000 01000000 00000001", PduType.TEST_SET, "no OBJECT IDENTIFIER"),
        ("00060000 00020000 02000000 00000003 00000001", PduType.TEST_SET, "no OBJECT"),
        ("00060000 00020000 02000000 00000001 00000028", PduType.TEST_SET, "no OBJECT"),
        ("00020000", PduType.GET_NEXT, "ends inside"),
        ("", PduType.RESPONSE, "ends inside"),
    ],
)
def test_what_has_no_meaning_is_refused_in_words(payload: str, kind: PduType, reason: str) -> None:
    octets = bytes.fromhex(payload)
    header = struct.pack(">4B4I", 1, kind, 0x10, 0, 1, 2, 3, len(octets))
    with pytest.raises(DecodeError, match=reason):
        decode(header + octets)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (struct.pack(">4B4I", 2, 13, 0x10, 0, 0, 0, 0, 0), "AgentX version 2"),
        (struct.pack(">4B4I", 1, 13, 0x10, 0, 0, 0, 0, MAX_PAYLOAD + 4), "at most 524288"),
        (struct.pack(">4B4I", 1, 13, 0x10, 0, 0, 0, 0, 2), "a multiple of 4"),
        (struct.pack(">4B4I", 1, 13, 0, 0, 0, 0, 0, 4), "a multiple of 4, at most"),
        (struct.pack(">4B4I", 1, 13, 0x10, 0, 0, 0, 0, 0)[:19], "ends inside the header"),
        (struct.pack(">4B4I", 1, 19, 0x10, 0, 0, 0, 0, 0), "no PDU has type 19"),
        (struct.pack(">4B4I", 1, 9, 0x18, 0, 0, 0, 0, 0), "COMMIT_SET has no context"),
    ],
)
def test_a_header_that_cannot_be_is_refused_in_words(header: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode(header)


def test_a_null_oid_as_a_value_is_zero_dot_zero() -> None:
    octets = bytes.fromhex("00060000 00020000 00000000")
    header = struct.pack(">4B4I", 1, PduType.TEST_SET, 0x10, 0, 1, 2, 3, len(octets))
    body = decode(header + octets).body
    assert body == agentx.TestSet((VarBind((1, 3, 6, 1, 2), Value(6, (0, 0))),))


def test_reserved_octets_padding_and_the_include_field_of_a_value_have_no_meaning() -> None:
    payload = bytes.fromhex(
        "0006ffff 000200ff 010201ff 00000001 0004ffff 00020000 00000001 61ffffff"
    )
    header = struct.pack(">4B4I", 1, PduType.TEST_SET, 0xF0, 0xFF, 1, 2, 3, len(payload))
    body = decode(header + payload).body
    name = (1, 3, 6, 1, 2)
    assert body == agentx.TestSet(
        (VarBind(name, Value(6, (1, 3, 6, 1, 2, 1))), VarBind(name, Value(4, b"a")))
    )


@pytest.mark.parametrize(
    "body",
    [
        agentx.RemoveAgentCaps((1,) * 129),
        agentx.RemoveAgentCaps((-1,)),
        agentx.RemoveAgentCaps((2**32,)),
        agentx.Close(256),
        agentx.Open(-1, (), b""),
        agentx.Open(0, (), bytes(65536)),
        agentx.Register((1,), range_subid=2),
        agentx.GetBulk(65536, 0, ()),
        agentx.Response(2**32),
        agentx.TestSet((VarBind((1,), Value(ber.INTEGER, 2**31)),)),
        agentx.TestSet((VarBind((1,), Value(ber.COUNTER32, -1)),)),
        agentx.TestSet((VarBind((1,), Value(ber.INTEGER, b"1")),)),
        agentx.TestSet((VarBind((1,), Value(ber.OCTET_STRING, 1)),)),
        agentx.TestSet((VarBind((1,), Value(ber.IP_ADDRESS, b"123")),)),
        agentx.TestSet((VarBind((1,), Value(0x47, 1)),)),
        agentx.TestSet(9 * (VarBind((1,), Value(ber.OCTET_STRING, bytes(65535))),)),
    ],
)
def test_what_agentx_cannot_carry_is_refused(body: agentx.Body) -> None:
    with pytest.raises(ValueRefused):
        encode(Pdu(body))


def test_a_context_is_refused_where_there_is_none() -> None:
    with pytest.raises(ValueRefused, match="none in a COMMIT_SET"):
        encode(Pdu(agentx.CommitSet(), context=b"x"))


@pytest.mark.parametrize("kind", [PduType.GET_NEXT, PduType.TEST_SET])
def test_the_work_is_bounded_by_the_octets(kind: PduType) -> None:
    payload = bytes(MAX_PAYLOAD)
    if kind is PduType.TEST_SET:
        payload = bytes.fromhex("00050000 00000000") * (MAX_PAYLOAD // 8)
    header = struct.pack(">4B4I", 1, kind, 0x10, 0, 1, 2, 3, len(payload))
    started = time.process_time()
    decode(header + payload)
    assert time.process_time() - started < 3
