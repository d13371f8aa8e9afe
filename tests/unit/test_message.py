"""SNMP messages: round trips, agreement with pysnmp, and refusal of what is damaged."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto import rfc1905
from pysnmp.proto.api import v2c

from vmib.errors import ValueRefused
from vmib.snmp import DecodeError, ErrorStatus, Pdu, PduType, Value, VarBind, ber, message

int32 = st.integers(-(2**31), 2**31 - 1)
positive = st.integers(0, 2**31 - 1)
names = st.lists(st.integers(0, 2**32 - 1), max_size=8).map(lambda rest: (1, 3, 6, *rest))
values = st.one_of(
    int32.map(Value.integer),
    st.binary(max_size=40).map(Value.octets),
    st.integers(0, 2**64 - 1).map(Value.counter64),
    st.just(Value.null()),
)
varbinds = st.lists(st.builds(VarBind, names, values), max_size=4).map(tuple)
pdus = st.builds(Pdu, st.sampled_from(PduType), int32, varbinds, int32, int32)
contexts = st.binary(max_size=32)
scoped = st.builds(message.ScopedPdu, contexts, contexts, pdus)
parameters = st.builds(
    message.UsmParameters,
    contexts,
    positive,
    positive,
    contexts,
    st.binary(max_size=48),
    st.binary(max_size=8),
)
flags = st.sampled_from([0, message.AUTH, message.AUTH | message.PRIV]).flatmap(
    lambda level: st.sampled_from([level, level | message.REPORTABLE])
)


@st.composite
def v3_messages(draw: st.DrawFn) -> message.V3Message:
    bits = draw(flags)
    data = draw(st.binary(max_size=99)) if bits & message.PRIV else b""
    return message.V3Message(
        draw(positive),
        draw(st.integers(484, 2**31 - 1)),
        bits,
        draw(parameters),
        data or message.encode_scoped(draw(scoped)),
    )


LONGER_IN_PYASN1 = {-(1 << bits) for bits in (7, 15, 23, 31)}
"""Integers before which pyasn1 writes a needless octet, against X.690 section 8.3.2."""


def outcome(datagram: bytes) -> message.CommunityMessage | message.V3Message | DecodeError:
    try:
        return message.decode_message(datagram)
    except DecodeError as error:
        return error


@given(scoped)
def test_a_scoped_pdu_is_decoded_as_it_was(given_scoped: message.ScopedPdu) -> None:
    assert message.decode_scoped(message.encode_scoped(given_scoped)) == given_scoped


@given(st.binary(max_size=20), pdus)
def test_a_v2c_message_is_decoded_as_it_was(community: bytes, pdu: Pdu) -> None:
    given_message = message.CommunityMessage(community, pdu)
    assert message.decode_message(message.encode_community(given_message)) == given_message


@given(v3_messages())
def test_a_v3_message_is_decoded_as_it_was(given_message: message.V3Message) -> None:
    datagram, auth_at = message.encode_v3(given_message)
    found = message.decode_message(datagram)
    assert isinstance(found, message.V3Message)
    assert found == given_message
    assert found.auth_at == auth_at
    auth = given_message.usm.auth
    assert datagram[auth_at : auth_at + len(auth)] == auth


@given(st.binary(max_size=20), pdus)
def test_pyasn1_reads_what_is_written_and_writes_the_same(community: bytes, pdu: Pdu) -> None:
    octets = message.encode_community(message.CommunityMessage(community, pdu))
    in_range = pdu.error_status in range(19) and pdu.error_index >= 0
    if not in_range and pdu.type is not PduType.GET_BULK:
        return
    if pdu.type is PduType.GET_BULK and (pdu.non_repeaters < 0 or pdu.max_repetitions < 0):
        return
    found, rest = decoder.decode(octets, asn1Spec=v2c.Message())
    assert rest == b""
    assert bytes(found["community"]) == community
    numbers = {pdu.request_id, *(value.value for _, value in pdu.varbinds)}
    if LONGER_IN_PYASN1.isdisjoint(numbers):
        assert encoder.encode(found) == octets


@given(st.one_of(v3_messages().map(lambda m: message.encode_v3(m)[0])), st.data())
def test_damaged_messages_are_refused_or_valid(datagram: bytes, data: st.DataObject) -> None:
    octets = bytearray(datagram)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(octets)))
        octets[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    found = outcome(bytes(octets))
    if isinstance(found, message.V3Message):
        assert message.decode_message(message.encode_v3(found)[0]) == found
    elif isinstance(found, DecodeError):
        assert 0 <= found.offset <= len(octets)


@given(st.binary(max_size=300))
def test_random_octets_are_no_message(octets: bytes) -> None:
    assert isinstance(outcome(octets), DecodeError)


def v3_datagram(**changed: int) -> bytes:
    fields = {"msg_id": 1, "max_size": 484, "flags": 0, "boots": 0, "time": 0} | changed
    usm = message.UsmParameters(b"", fields["boots"], fields["time"], b"", b"", b"")
    pdu = message.encode_scoped(message.ScopedPdu(b"", b"", Pdu(PduType.GET, 0)))
    return message.encode_v3(
        message.V3Message(fields["msg_id"], fields["max_size"], fields["flags"], usm, pdu)
    )[0]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"msg_id": -1}, "at least 0"),
        ({"max_size": 483}, "at least 484"),
        ({"boots": -1}, "at least 0"),
        ({"time": -1}, "at least 0"),
        ({"flags": message.PRIV}, "privacy without authentication"),
    ],
)
def test_header_fields_out_of_range_are_refused(changed: dict[str, int], reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        message.decode_message(v3_datagram(**changed))


def test_reserved_flags_are_ignored() -> None:
    found = message.decode_message(v3_datagram(flags=0xF8 | message.REPORTABLE))
    assert isinstance(found, message.V3Message)
    assert found.flags == message.REPORTABLE


def test_snmpv1_is_refused() -> None:
    v1 = ber.tlv(ber.SEQUENCE, ber.encode_integer(0) + ber.tlv(ber.OCTET_STRING, b"public"))
    with pytest.raises(DecodeError, match="version field 0"):
        message.decode_message(v1)


def test_another_security_model_is_refused() -> None:
    datagram = v3_datagram()
    other = datagram.replace(b"\x04\x01\x00\x02\x01\x03", b"\x04\x01\x00\x02\x01\x04")
    assert other != datagram
    with pytest.raises(DecodeError, match="security model 4"):
        message.decode_message(other)


@pytest.mark.parametrize("datagram", [v3_datagram() + b"\0", v3_datagram()[:-1]])
def test_octets_missing_or_left_over_are_refused(datagram: bytes) -> None:
    with pytest.raises(DecodeError):
        message.decode_message(datagram)


def test_error_status_has_the_names_of_rfc_3416() -> None:
    theirs = {str(name): int(number) for name, number in rfc1905.errorStatus.namedValues.items()}
    assert {status.name: int(status) for status in ErrorStatus} == theirs


def test_a_number_that_no_integer32_holds_is_not_sent() -> None:
    with pytest.raises(ValueRefused):
        message.encode_scoped(message.ScopedPdu(b"", b"", Pdu(PduType.GET, 2**31)))


def test_a_community_is_not_in_the_repr() -> None:
    shown = repr(message.CommunityMessage(b"hidden", Pdu(PduType.GET, 1)))
    assert "hidden" not in shown


def test_a_datagram_full_of_varbinds_is_decoded_in_bounded_time() -> None:
    pdu = Pdu(PduType.SET, 1, tuple(VarBind((1, 3), Value.null()) for _ in range(9000)))
    datagram = message.encode_community(message.CommunityMessage(b"c", pdu))
    assert len(datagram) < message.MAX_DATAGRAM
    started = time.perf_counter()
    assert message.decode_message(datagram) == message.CommunityMessage(b"c", pdu)
    assert time.perf_counter() - started < 1
