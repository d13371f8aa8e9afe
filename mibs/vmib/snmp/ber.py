"""BER as SNMP uses it (RFC 3417 section 8, RFC 3416 section 3): typed values and varbinds.

Decoding is strict about contents (integers and sub-identifiers minimal and in range, nothing
after the end, no recursion, so nothing nests deeper than the caller reads) and as tolerant of
length octets as RFC 3417 demands: definite, at most four octets, not necessarily the shortest.
Encoding always writes the shortest form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address
from typing import NamedTuple, cast

from vmib.errors import ValueRefused, VmibError

Oid = tuple[int, ...]

INTEGER = 0x02
OCTET_STRING = 0x04
NULL = 0x05
OBJECT_IDENTIFIER = 0x06
SEQUENCE = 0x30
IP_ADDRESS = 0x40
COUNTER32 = 0x41
UNSIGNED32 = 0x42
TIME_TICKS = 0x43
OPAQUE = 0x44
COUNTER64 = 0x46
NO_SUCH_OBJECT = 0x80
NO_SUCH_INSTANCE = 0x81
END_OF_MIB_VIEW = 0x82

KINDS = {
    INTEGER: "Integer32",
    OCTET_STRING: "OctetString",
    NULL: "Null",
    OBJECT_IDENTIFIER: "ObjectIdentifier",
    IP_ADDRESS: "IpAddress",
    COUNTER32: "Counter32",
    UNSIGNED32: "Unsigned32",
    TIME_TICKS: "TimeTicks",
    OPAQUE: "Opaque",
    COUNTER64: "Counter64",
    NO_SUCH_OBJECT: "noSuchObject",
    NO_SUCH_INSTANCE: "noSuchInstance",
    END_OF_MIB_VIEW: "endOfMibView",
}
"""What each tag is called; Gauge32 has Unsigned32's tag."""

RANGES = {
    INTEGER: (-(1 << 31), (1 << 31) - 1),
    COUNTER32: (0, (1 << 32) - 1),
    UNSIGNED32: (0, (1 << 32) - 1),
    TIME_TICKS: (0, (1 << 32) - 1),
    COUNTER64: (0, (1 << 64) - 1),
}
"""The smallest and the largest value of each numeric tag."""

MAX_OCTETS = 65535
MAX_SUBIDS = 128
MAX_SUBID = (1 << 32) - 1
MAX_ARC = 39


class DecodeError(VmibError):
    """Octets that are not what SNMP allows; `offset` counts from the start of the datagram."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"octet {offset}: {reason}")
        self.reason = reason
        self.offset = offset


class Value(NamedTuple):
    """A typed SNMP value.

    `value` is an int for the numeric tags, bytes for OctetString, Opaque and IpAddress (four
    octets), a tuple for ObjectIdentifier, and None for Null and the three exceptions. The
    constructors raise ValueRefused.
    """

    tag: int
    value: int | bytes | Oid | None

    @property
    def kind(self) -> str:
        """The name of the tag, such as "Counter32" or "noSuchInstance"."""
        return KINDS[self.tag]

    @property
    def is_exception(self) -> bool:
        """Whether this is noSuchObject, noSuchInstance or endOfMibView."""
        return NO_SUCH_OBJECT <= self.tag <= END_OF_MIB_VIEW

    @classmethod
    def integer(cls, value: int) -> Value:
        return cls(INTEGER, _in_range(INTEGER, value))

    @classmethod
    def octets(cls, value: bytes) -> Value:
        return cls(OCTET_STRING, _not_too_long(OCTET_STRING, value))

    @classmethod
    def null(cls) -> Value:
        return cls(NULL, None)

    @classmethod
    def oid(cls, value: Iterable[int]) -> Value:
        oid = tuple(value)
        encode_oid(oid)
        return cls(OBJECT_IDENTIFIER, oid)

    @classmethod
    def ip_address(cls, value: str | bytes) -> Value:
        try:
            return cls(IP_ADDRESS, IPv4Address(value).packed)
        except AddressValueError:
            raise ValueRefused("IpAddress", value, "an IPv4 address") from None

    @classmethod
    def counter32(cls, value: int) -> Value:
        return cls(COUNTER32, _in_range(COUNTER32, value))

    @classmethod
    def unsigned32(cls, value: int) -> Value:
        return cls(UNSIGNED32, _in_range(UNSIGNED32, value))

    @classmethod
    def time_ticks(cls, value: int) -> Value:
        return cls(TIME_TICKS, _in_range(TIME_TICKS, value))

    @classmethod
    def opaque(cls, value: bytes) -> Value:
        return cls(OPAQUE, _not_too_long(OPAQUE, value))

    @classmethod
    def counter64(cls, value: int) -> Value:
        return cls(COUNTER64, _in_range(COUNTER64, value))

    @classmethod
    def no_such_object(cls) -> Value:
        return cls(NO_SUCH_OBJECT, None)

    @classmethod
    def no_such_instance(cls) -> Value:
        return cls(NO_SUCH_INSTANCE, None)

    @classmethod
    def end_of_mib_view(cls) -> Value:
        return cls(END_OF_MIB_VIEW, None)


class VarBind(NamedTuple):
    """An object instance and its value."""

    oid: Oid
    value: Value


def _in_range(tag: int, value: int) -> int:
    low, high = RANGES[tag]
    if not low <= value <= high:
        raise ValueRefused(KINDS[tag], value, f"{low} to {high}")
    return value


def _not_too_long(tag: int, value: bytes) -> bytes:
    if len(value) > MAX_OCTETS:
        raise ValueRefused(KINDS[tag], f"{len(value)} octets", f"at most {MAX_OCTETS} octets")
    return value


def head(tag: int, size: int) -> bytes:
    """What stands before so many octets of contents: a tag, the shortest form of the length."""
    if size < 0x80:
        return bytes((tag, size))
    if size < 0x100:
        return bytes((tag, 0x81, size))
    if size < 0x10000:
        return bytes((tag, 0x82, size >> 8, size & 0xFF))
    return bytes((tag, 0x84)) + size.to_bytes(4)


def tlv(tag: int, contents: bytes) -> bytes:
    """A tag, the shortest form of the length, and the contents."""
    size = len(contents)
    if size < 0x80:
        return bytes((tag, size)) + contents
    return head(tag, size) + contents


def encode_integer(value: int, tag: int = INTEGER) -> bytes:
    """A numeric value with its tag; raises ValueRefused outside the range of the tag."""
    low, high = RANGES[tag]
    if not low <= value <= high:
        _in_range(tag, value)
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return bytes((tag, size)) + value.to_bytes(size, signed=True)


@lru_cache(maxsize=4096)
def _subid_octets(subid: int, highest: int = MAX_SUBID) -> bytes:
    if not 0 <= subid <= highest:
        raise ValueRefused("sub-identifier", subid, f"0 to {MAX_SUBID}")
    octets = [subid & 0x7F]
    while subid := subid >> 7:
        octets.append(subid & 0x7F | 0x80)
    return bytes(reversed(octets))


@lru_cache(maxsize=256)
def _first_octets(arc: int, second: int) -> bytes:
    if arc not in (0, 1, 2) or not 0 <= second <= (MAX_SUBID if arc == 2 else MAX_ARC):
        raise ValueRefused("OID", (arc, second), "a start of 0.0 to 0.39, 1.0 to 1.39 or 2.x")
    return _subid_octets(arc * 40 + second, MAX_SUBID + 80)


@lru_cache(maxsize=4096)  # 1.4 us become 0.2: the same instances are set on many hosts
def encode_oid(oid: Oid) -> bytes:
    """An OBJECT IDENTIFIER with its tag; raises ValueRefused for what SNMP cannot carry."""
    if not 2 <= len(oid) <= MAX_SUBIDS:
        raise ValueRefused("OID", oid, f"2 to {MAX_SUBIDS} sub-identifiers")
    arc, second, *rest = oid
    return tlv(OBJECT_IDENTIFIER, _first_octets(arc, second) + b"".join(map(_subid_octets, rest)))


def encode_value(value: Value) -> bytes:
    """A value with its tag; raises ValueRefused when the tag cannot carry it."""
    tag, content = value
    if tag in RANGES and isinstance(content, int):
        return encode_integer(content, tag)
    if isinstance(content, bytes) and (
        tag in (OCTET_STRING, OPAQUE) or (tag == IP_ADDRESS and len(content) == 4)
    ):
        return tlv(tag, _not_too_long(tag, content))
    if tag == OBJECT_IDENTIFIER and isinstance(content, tuple):
        return encode_oid(content)
    if content is None and (tag == NULL or NO_SUCH_OBJECT <= tag <= END_OF_MIB_VIEW):
        return bytes((tag, 0))
    raise ValueRefused(KINDS.get(tag, f"tag 0x{tag:02x}"), content, "a value of that kind")


def encode_varbinds(varbinds: Iterable[VarBind]) -> bytes:
    """A VarBindList with its tag."""
    encoded = [tlv(SEQUENCE, encode_oid(oid) + encode_value(value)) for oid, value in varbinds]
    return tlv(SEQUENCE, b"".join(encoded))


def varbinds_size(varbinds: Iterable[VarBind]) -> int:
    """The octets of these varbinds in a VarBindList."""
    return sum(len(tlv(SEQUENCE, encode_oid(oid) + encode_value(value))) for oid, value in varbinds)


def header(data: bytes, at: int, end: int) -> tuple[int, int, int]:
    """The tag at `at`, and where its contents start and stop; they end at `end` at the latest."""
    start = at + 2
    if start > end:
        raise DecodeError("ends inside a header", at)
    size = data[at + 1]
    if size >= 0x80:
        count = size & 0x7F
        if not 1 <= count <= 4:
            raise DecodeError("length is indefinite or longer than four octets", at + 1)
        if start + count > end:
            raise DecodeError("ends inside a length", at + 1)
        size = int.from_bytes(data[start : start + count])
        start += count
    stop = start + size
    if stop > end:
        raise DecodeError("length goes past the end", at + 1)
    return data[at], start, stop


def expect(data: bytes, at: int, end: int, tag: int) -> tuple[int, int]:
    """Where the contents of the element at `at`, which must have this tag, start and stop."""
    start = at + 2
    if start <= end and data[at] == tag and data[at + 1] < 0x80:  # nearly all; saves a call
        stop = start + data[at + 1]
        if stop <= end:
            return start, stop
    found, start, stop = header(data, at, end)
    if found != tag:
        raise DecodeError(f"tag 0x{found:02x} where 0x{tag:02x} belongs", at)
    return start, stop


def decode_integer(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The Integer32 at `at`, and where it stops."""
    start, stop = expect(data, at, end, INTEGER)
    return _integer(data, start, stop), stop


def decode_octets(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """The OCTET STRING at `at`, and where it stops."""
    start, stop = expect(data, at, end, OCTET_STRING)
    return data[start:stop], stop


def decode_varbinds(data: bytes, at: int, end: int) -> tuple[VarBind, ...]:
    """The VarBindList at `at`, which must stop at `end`."""
    at, stop = expect(data, at, end, SEQUENCE)
    at_end(stop, end)
    found = []
    while at < end:
        start, stop = expect(data, at, end, SEQUENCE)
        name, name_stop = expect(data, start, stop, OBJECT_IDENTIFIER)
        tag, content, content_stop = header(data, name_stop, stop)
        at_end(content_stop, stop)
        decode = _DECODERS.get(tag)
        if decode is None:
            raise DecodeError(f"no SNMP value has tag 0x{tag:02x}", name_stop)
        value = Value(tag, decode(data, content, stop))
        found.append(VarBind(_oid(data, name, name_stop), value))
        at = stop
    return tuple(found)


def at_end(stop: int, end: int) -> None:
    """Raise DecodeError unless the element that stops at `stop` is the last one."""
    if stop != end:
        raise DecodeError(f"{end - stop} octets after the end", stop)


def _number(data: bytes, start: int, stop: int, octets: int) -> int:
    if not 1 <= stop - start <= octets:
        raise DecodeError(f"an integer of {stop - start} octets; 1 to {octets} are allowed", start)
    if stop - start > 1 and data[start] in (0x00, 0xFF) and (data[start] ^ data[start + 1]) < 0x80:
        raise DecodeError("an integer with needless leading octets", start)
    return int.from_bytes(data[start:stop], signed=True)


def _integer(data: bytes, start: int, stop: int) -> int:
    return _number(data, start, stop, 4)


def _unsigned32(data: bytes, start: int, stop: int) -> int:
    value = _number(data, start, stop, 5)
    if not 0 <= value <= 0xFFFFFFFF:
        raise DecodeError("outside 0 to 4294967295", start)
    return value


def _counter64(data: bytes, start: int, stop: int) -> int:
    value = _number(data, start, stop, 9)
    if not 0 <= value <= 0xFFFFFFFFFFFFFFFF:
        raise DecodeError("outside 0 to 18446744073709551615", start)
    return value


def _octets(data: bytes, start: int, stop: int) -> bytes:
    return data[start:stop]


def _ip_address(data: bytes, start: int, stop: int) -> bytes:
    if stop - start != 4:
        raise DecodeError(f"an IpAddress of {stop - start} octets", start)
    return data[start:stop]


def _nothing(data: bytes, start: int, stop: int) -> None:
    if start != stop:
        raise DecodeError("contents where none belong", start)


def _oid(data: bytes, start: int, stop: int) -> Oid:
    try:
        return parse_oid(data[start:stop])
    except DecodeError as error:
        raise DecodeError(error.reason, start + error.offset) from None


_ONE_OCTET_EACH = bytes(range(0x80))


def parse_oid(octets: bytes) -> Oid:
    """The OID with these contents; raises DecodeError.

    Most end in sub-identifiers of one octet, which differ; what is before them recurs.
    """
    end = len(octets.rstrip(_ONE_OCTET_EACH)) + 1
    oid = _parsed_start(octets[:end]) + tuple(octets[end:])
    if len(oid) > MAX_SUBIDS:
        raise DecodeError(f"an OID of more than {MAX_SUBIDS} sub-identifiers", 0)
    return oid


@lru_cache(maxsize=4096)
def _parsed_start(octets: bytes) -> Oid:
    subids: list[int] = []
    subid = 0
    for at, octet in enumerate(octets):
        if octet < 0x80:
            subids.append(subid | octet)
            subid = 0
        else:
            subid = (subid | octet & 0x7F) << 7
            if not subid:
                raise DecodeError("a sub-identifier with needless leading octets", at)
            if subid > MAX_SUBID + 80:
                raise DecodeError(f"a sub-identifier above {MAX_SUBID}", at)
    if subid or not subids:
        raise DecodeError("an OID that is empty or ends inside a sub-identifier", 0)
    first, *rest = subids
    arc = min(first // 40, 2)
    second = first - 40 * arc
    if second > MAX_SUBID or max(rest, default=0) > MAX_SUBID:
        raise DecodeError(f"a sub-identifier above {MAX_SUBID}", 0)
    return (arc, second, *rest)


_Decoder = Callable[[bytes, int, int], int | bytes | Oid | None]

_DECODERS: dict[int, _Decoder] = {
    INTEGER: _integer,
    OCTET_STRING: _octets,
    NULL: cast(_Decoder, _nothing),
    OBJECT_IDENTIFIER: _oid,
    IP_ADDRESS: _ip_address,
    COUNTER32: _unsigned32,
    UNSIGNED32: _unsigned32,
    TIME_TICKS: _unsigned32,
    OPAQUE: _octets,
    COUNTER64: _counter64,
    NO_SUCH_OBJECT: cast(_Decoder, _nothing),
    NO_SUCH_INSTANCE: cast(_Decoder, _nothing),
    END_OF_MIB_VIEW: cast(_Decoder, _nothing),
}
