"""BER of values and varbinds: round trips, what is refused, and agreement with pyasn1."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.ber import encoder
from pysnmp.proto import rfc1902

from vmib.errors import ValueRefused
from vmib.snmp import DecodeError, Value, VarBind, ber

subids = st.integers(0, ber.MAX_SUBID)
oids = st.one_of(
    st.tuples(st.integers(0, 1), st.integers(0, 39)),
    st.tuples(st.just(2), subids),
).flatmap(
    lambda start: st.lists(subids | st.integers(0, 300), max_size=126).map(
        lambda rest: (*start, *rest)
    )
)
unsigned = st.integers(0, 2**32 - 1)
values = st.one_of(
    st.integers(-(2**31), 2**31 - 1).map(Value.integer),
    st.binary(max_size=300).map(Value.octets),
    st.just(Value.null()),
    oids.map(Value.oid),
    st.binary(min_size=4, max_size=4).map(Value.ip_address),
    unsigned.map(Value.counter32),
    unsigned.map(Value.unsigned32),
    unsigned.map(Value.time_ticks),
    st.binary(max_size=300).map(Value.opaque),
    st.integers(0, 2**64 - 1).map(Value.counter64),
    st.sampled_from([Value.no_such_object(), Value.no_such_instance(), Value.end_of_mib_view()]),
)
varbinds = st.builds(VarBind, oids, values)

PYSNMP_TYPES = {
    ber.INTEGER: rfc1902.Integer32,
    ber.OCTET_STRING: rfc1902.OctetString,
    ber.OBJECT_IDENTIFIER: rfc1902.ObjectName,
    ber.IP_ADDRESS: rfc1902.IpAddress,
    ber.COUNTER32: rfc1902.Counter32,
    ber.UNSIGNED32: rfc1902.Unsigned32,
    ber.TIME_TICKS: rfc1902.TimeTicks,
    ber.OPAQUE: rfc1902.Opaque,
    ber.COUNTER64: rfc1902.Counter64,
}


def decoded(octets: bytes) -> tuple[VarBind, ...]:
    return ber.decode_varbinds(octets, 0, len(octets))


def decoded_or_refused(octets: bytes) -> tuple[VarBind, ...] | DecodeError:
    try:
        return decoded(octets)
    except DecodeError as error:
        return error


def decoded_value(octets: bytes) -> Value:
    name = ber.encode_oid((1, 3, 6))
    (varbind,) = decoded(ber.tlv(ber.SEQUENCE, ber.tlv(ber.SEQUENCE, name + octets)))
    return varbind.value


@given(st.lists(varbinds, max_size=5))
def test_what_is_encoded_is_decoded_again(given_varbinds: list[VarBind]) -> None:
    assert decoded(ber.encode_varbinds(given_varbinds)) == tuple(given_varbinds)


@pytest.mark.parametrize("octets", [1, 2, 3, 4])
def test_the_smallest_number_of_some_octets_takes_no_more_of_them(octets: int) -> None:
    smallest = -(1 << (8 * octets - 1))
    assert ber.encode_integer(smallest) == bytes((ber.INTEGER, octets, 0x80)) + bytes(octets - 1)


# pyasn1 spends an octet more on them than X.690 section 8.3.2 allows.
WASTEFUL = {-(1 << bits) for bits in (7, 15, 23, 31)}


@given(values.filter(lambda value: value.tag in PYSNMP_TYPES and value.value not in WASTEFUL))
def test_values_are_encoded_as_pyasn1_encodes_them(value: Value) -> None:
    assert ber.encode_value(value) == encoder.encode(PYSNMP_TYPES[value.tag](value.value))


@given(values, st.data())
def test_decoding_then_encoding_gives_the_same_octets(value: Value, data: st.DataObject) -> None:
    octets = bytearray(ber.encode_value(value))
    octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decoded_value(bytes(octets))
    except DecodeError:
        return
    again = ber.encode_value(found)
    assert again == octets or octets[1] >= 0x80, "only length octets may be longer than needed"


@given(st.lists(varbinds, min_size=1, max_size=3), st.data())
def test_damaged_octets_are_refused_or_valid_and_never_anything_else(
    given_varbinds: list[VarBind], data: st.DataObject
) -> None:
    octets = bytearray(ber.encode_varbinds(given_varbinds))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(octets)))
        octets[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    found = decoded_or_refused(bytes(octets))
    if isinstance(found, DecodeError):
        assert 0 <= found.offset <= len(octets)
    else:
        assert decoded(ber.encode_varbinds(found)) == found


@given(st.binary(max_size=200))
def test_random_octets_are_refused_or_valid(octets: bytes) -> None:
    found = decoded_or_refused(octets)
    assert isinstance(found, DecodeError) or decoded(ber.encode_varbinds(found)) == found


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        ("0200", "integer of 0 octets"),
        ("02020001", "needless leading"),
        ("0202ff80", "needless leading"),
        ("0205007fffffff", "integer of 5 octets"),
        ("410100" + "00", "after the end"),
        ("4101ff", "outside 0 to 4294967295"),
        ("42050100000000", "outside 0 to 4294967295"),
        ("4609010000000000000000", "outside 0 to 1844"),
        ("460affffffffffffffffffff", "integer of 10 octets"),
        ("40037f0000", "IpAddress of 3 octets"),
        ("050100", "contents where none belong"),
        ("810100", "contents where none belong"),
        ("0600", "empty"),
        ("06022b80", "needless leading"),
        ("06022b81", "ends inside"),
        ("06059080808050", "sub-identifier above"),
        ("06062b9080808000", "sub-identifier above"),
        ("0481", "inside a length"),
        ("0480", "indefinite"),
        ("0485000000000141", "longer than four"),
        ("0484ffffffff41", "past the end"),
        ("0402" + "41", "past the end"),
        ("04", "inside a header"),
        ("", "inside a header"),
        ("0a0101", "no SNMP value has tag 0x0a"),
        ("3000", "no SNMP value has tag 0x30"),
        ("1f0101", "no SNMP value has tag 0x1f"),
    ],
)
def test_octets_that_snmp_does_not_allow_are_refused(octets: str, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decoded_value(bytes.fromhex(octets))


def test_a_length_may_be_longer_than_needed_as_rfc_3417_says() -> None:
    assert decoded_value(bytes.fromhex("04820001" + "41")) == Value.octets(b"A")
    assert decoded_value(bytes.fromhex("048400000001" + "41")) == Value.octets(b"A")


def test_an_oid_has_at_most_128_sub_identifiers() -> None:
    longest = (1, 3, *[7] * 126)
    assert decoded(ber.encode_varbinds([VarBind(longest, Value.null())]))[0].oid == longest
    with pytest.raises(ValueRefused, match="128"):
        ber.encode_oid((*longest, 7))
    with pytest.raises(DecodeError, match="more than 128"):
        decoded_value(ber.tlv(ber.OBJECT_IDENTIFIER, b"\x2b" + b"\x07" * 127))


@pytest.mark.parametrize("oid", [(1,), (), (3, 1), (1, 40), (0, -1), (1, 3, -1), (1, 3, 2**32)])
def test_an_oid_that_snmp_cannot_carry_is_refused(oid: tuple[int, ...]) -> None:
    with pytest.raises(ValueRefused):
        Value.oid(oid)


@pytest.mark.parametrize("second", [0, 47, 48, 79, 80, 2**32 - 1])
def test_the_second_sub_identifier_under_2_may_be_any(second: int) -> None:
    assert decoded_value(ber.encode_oid((2, second, 1))) == Value.oid((2, second, 1))


@pytest.mark.parametrize(
    "refused",
    [
        lambda: Value.integer(2**31),
        lambda: Value.integer(-(2**31) - 1),
        lambda: Value.unsigned32(-1),
        lambda: Value.unsigned32(2**32),
        lambda: Value.counter64(2**64),
        lambda: Value.octets(bytes(65536)),
        lambda: Value.ip_address("10.0.0.256"),
        lambda: Value.ip_address(b"12345"),
        lambda: ber.encode_value(Value(ber.UNSIGNED32, b"5")),
        lambda: ber.encode_value(Value(ber.COUNTER32, 2**32)),
        lambda: ber.encode_value(Value(ber.NULL, 0)),
        lambda: ber.encode_value(Value(ber.IP_ADDRESS, b"123")),
        lambda: ber.encode_value(Value(0x99, None)),
    ],
)
def test_a_value_out_of_its_range_is_refused(refused: object) -> None:
    assert callable(refused)
    with pytest.raises(ValueRefused):
        refused()


def test_the_largest_datagram_of_the_worst_octets_is_judged_quickly() -> None:
    worst = [
        b"\x30\x84\x00\x00\xff\xd0" + b"\x30\x80" * 32000,
        ber.tlv(0x30, ber.tlv(0x30, ber.tlv(0x06, b"\xff" * 65000))),
        ber.tlv(0x30, ber.tlv(0x30, ber.tlv(0x06, b"\x01" * 65000) + b"\x05\x00")),
        ber.tlv(0x30, b"\x30\x00" * 32000),
        ber.tlv(0x30, b"\x30\x05\x06\x01\x2b\x05\x00" * 9300),
    ]
    started = time.perf_counter()
    *refused, many = [decoded_or_refused(octets) for octets in worst]
    assert all(isinstance(error, DecodeError) for error in refused)
    assert isinstance(many, tuple)
    assert len(many) == 9300
    assert time.perf_counter() - started < 1
