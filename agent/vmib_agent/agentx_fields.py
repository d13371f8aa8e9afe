"""The fields that AgentX PDUs are made of (RFC 2741 section 5), in both byte orders.

Decoding is strict about what has a meaning; reserved octets and padding are not looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from vmib.errors import ValueRefused
from vmib.smi import Oid, Raw
from vmib.snmp import ber
from vmib.snmp.ber import MAX_OCTETS, MAX_SUBIDS, DecodeError

from .agentx import SearchRange
from .service import Value, VarBind

HEADER_OCTETS = 20

_INTERNET: Oid = (1, 3, 6, 1)
_NULL_VALUE: Oid = (0, 0)
_EMPTY = {ber.NULL, ber.NO_SUCH_OBJECT, ber.NO_SUCH_INSTANCE, ber.END_OF_MIB_VIEW}
_TEXTS = {ber.OCTET_STRING, ber.IP_ADDRESS, ber.OPAQUE}


class Order(NamedTuple):
    """The layouts of numbers in one byte order."""

    sign: str
    header: struct.Struct
    u16: struct.Struct
    u32: struct.Struct
    i32: struct.Struct
    u64: struct.Struct
    two_u16: struct.Struct


def _order(sign: str) -> Order:
    formats = ("4B4I", "H", "I", "i", "Q", "2H")
    return Order(sign, *(struct.Struct(sign + text) for text in formats))


NETWORK = _order(">")
LITTLE = _order("<")


class Reader:
    """Takes a payload apart; everything raises `DecodeError` at what does not fit."""

    def __init__(self, octets: bytes, order: Order) -> None:
        self.octets = octets
        self.order = order
        self.at = HEADER_OCTETS
        self.end = len(octets)

    def take(self, count: int) -> int:
        """Step over so many octets; where they start."""
        at = self.at
        if count > self.end - at:
            raise DecodeError("ends inside a field", at)
        self.at = at + count
        return at

    def number(self, layout: struct.Struct) -> int:
        found: int = layout.unpack_from(self.octets, self.take(layout.size))[0]
        return found

    def text(self) -> bytes:
        """An Octet String and its padding (section 5.3)."""
        at = self.at
        size = self.number(self.order.u32)
        if size > MAX_OCTETS:
            raise DecodeError(f"{size} octets; at most {MAX_OCTETS} are allowed", at)
        start = self.take(size + -size % 4)
        return self.octets[start : start + size]

    def oid(self) -> tuple[Oid, bool]:
        """An Object Identifier and its include field (section 5.1)."""
        at = self.take(4)
        count, prefix, include = self.octets[at : at + 3]
        if include > 1:
            raise DecodeError(f"include is {include}; 0 or 1 is allowed", at + 2)
        if count + (5 if prefix else 0) > MAX_SUBIDS:
            raise DecodeError(f"an OID of more than {MAX_SUBIDS} sub-identifiers", at)
        start = self.take(4 * count)
        rest: Oid = struct.unpack_from(f"{self.order.sign}{count}I", self.octets, start)
        return (*_INTERNET, prefix, *rest) if prefix else rest, include == 1

    def ranges(self) -> tuple[SearchRange, ...]:
        found = []
        while self.at < self.end:
            start, include = self.oid()
            found.append(SearchRange(start, self.oid()[0], include))
        return tuple(found)

    def varbinds(self) -> tuple[VarBind, ...]:
        found = []
        while self.at < self.end:
            at = self.take(4)
            tag = self.order.u16.unpack_from(self.octets, at)[0]
            name, _ = self.oid()
            found.append(VarBind(name, self._value(tag, at)))
        return tuple(found)

    def _value(self, tag: int, at: int) -> Value:
        if tag == ber.INTEGER:
            return Value(tag, self.number(self.order.i32))
        if tag == ber.COUNTER64:
            return Value(tag, self.number(self.order.u64))
        if tag in ber.RANGES:
            return Value(tag, self.number(self.order.u32))
        if tag in _TEXTS:
            text = self.text()
            if tag == ber.IP_ADDRESS and len(text) != 4:
                raise DecodeError(f"an IpAddress of {len(text)} octets", at)
            return Value(tag, text)
        if tag == ber.OBJECT_IDENTIFIER:
            oid = self.oid()[0] or _NULL_VALUE
            if len(oid) < 2 or oid[0] > 2 or (oid[0] < 2 and oid[1] > ber.MAX_ARC):
                raise DecodeError("a value that is no OBJECT IDENTIFIER", at)
            return Value(tag, oid)
        if tag in _EMPTY:
            return Value(tag, b"")
        raise DecodeError(f"no SNMP value has type {tag}", at)


class Writer:
    """Puts a payload together."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.parts: list[bytes] = []

    def octets(self, *octets: int) -> None:
        try:
            self.parts.append(bytes(octets))
        except ValueError:
            raise ValueRefused("octets", octets, "0 to 255 each") from None

    def number(self, layout: struct.Struct, *numbers: int) -> None:
        self.parts.append(layout.pack(*numbers))

    def text(self, text: bytes) -> None:
        if len(text) > MAX_OCTETS:
            raise ValueRefused("octet string", f"{len(text)} octets", f"at most {MAX_OCTETS}")
        self.parts += (self.order.u32.pack(len(text)), text, bytes(-len(text) % 4))

    def oid(self, oid: Oid, include: bool = False) -> None:
        if len(oid) > MAX_SUBIDS:
            raise ValueRefused("OID", oid, f"at most {MAX_SUBIDS} sub-identifiers")
        prefix = oid[4] if len(oid) > 4 and oid[:4] == _INTERNET and 0 < oid[4] < 256 else 0
        rest = oid[5:] if prefix else oid
        head = bytes((len(rest), prefix, include, 0))
        self.parts.append(head + struct.pack(f"{self.order.sign}{len(rest)}I", *rest))

    def ranges(self, ranges: Iterable[SearchRange]) -> None:
        for start, end, include in ranges:
            self.oid(start, include)
            self.oid(end)

    def varbinds(self, varbinds: Iterable[VarBind]) -> None:
        for name, (tag, raw) in varbinds:
            self.number(self.order.two_u16, tag, 0)
            self.oid(name)
            self.value(tag, raw)

    def value(self, tag: int, raw: Raw) -> None:
        """The value of a varbind (section 5.4), behind its type and name."""
        if tag in _EMPTY:
            return
        if tag in ber.RANGES and isinstance(raw, int):
            layout = {ber.INTEGER: self.order.i32, ber.COUNTER64: self.order.u64}
            self.number(layout.get(tag, self.order.u32), raw)
        elif tag in _TEXTS and isinstance(raw, bytes):
            if tag == ber.IP_ADDRESS and len(raw) != 4:
                raise ValueRefused("IpAddress", raw, "four octets")
            self.text(raw)
        elif tag == ber.OBJECT_IDENTIFIER and isinstance(raw, tuple):
            self.oid(raw)
        else:
            raise ValueRefused(ber.KINDS.get(tag, f"type {tag}"), raw, "a value of that kind")
