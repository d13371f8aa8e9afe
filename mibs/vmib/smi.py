"""What a MIB object is: syntax, access, columns, tables, and how values and indexes are coded.

The objects themselves are data in `vmib.objects`; this module is the one interpreter of them.
Three representations meet here: the value in Python (a field of a row), the raw value of the
protocol (`int`, `bytes` or a tuple of sub-identifiers, with its BER tag), and the sub-identifiers
of an index (RFC 2578 section 7.7).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from .addresses import address
from .errors import ValueRefused
from .status import ErrorStatus

Oid = tuple[int, ...]
Raw = int | bytes | Oid
IpAddress = IPv4Address | IPv6Address

MAX_SUB_IDENTIFIER = 2**32 - 1


class Tag(IntEnum):
    """BER tags of the SMI's base types (RFC 3416 section 3, RFC 2578)."""

    INTEGER = 0x02
    OCTET_STRING = 0x04
    OBJECT_IDENTIFIER = 0x06
    COUNTER32 = 0x41
    UNSIGNED32 = 0x42
    TIMETICKS = 0x43
    COUNTER64 = 0x46


class Access(Enum):
    """MAX-ACCESS."""

    NOT_ACCESSIBLE = "not-accessible"
    NOTIFY = "accessible-for-notify"
    READ_ONLY = "read-only"
    READ_WRITE = "read-write"
    READ_CREATE = "read-create"

    @property
    def readable(self) -> bool:
        """Whether GET answers with a value."""
        return self in (Access.READ_ONLY, Access.READ_WRITE, Access.READ_CREATE)

    @property
    def writable(self) -> bool:
        """Whether SET can succeed."""
        return self in (Access.READ_WRITE, Access.READ_CREATE)


class Kind(Enum):
    """How Python sees a value."""

    INT = "int"  # int
    NAMED = "named"  # IntEnum
    BOOL = "bool"  # bool (TruthValue)
    TEXT = "text"  # str (SnmpAdminString, UTF-8)
    MAC = "mac"  # str, lower-case, colons
    UUID = "uuid"  # str, lower-case, hyphens; "" for zero-length
    INET = "inet"  # IPv4Address, IPv6Address, or None for zero-length
    BITS = "bits"  # frozenset of names
    OCTETS = "octets"  # bytes
    OID = "oid"  # tuple of sub-identifiers


class SyntaxRefused(ValueRefused):
    """A value that its SYNTAX excludes, with the error-status a SET answers it with."""

    def __init__(self, status: ErrorStatus, name: str, value: object, allowed: str) -> None:
        super().__init__(name, value, allowed)
        self.status = status


class IndexRefused(ValueRefused):
    """Sub-identifiers that are no index of a table."""


@dataclass(frozen=True, slots=True)
class Syntax:
    """A SYNTAX clause: base type, textual convention, restrictions and names.

    `ranges` restricts the value of numbers and the length, in octets, of strings; empty means
    the whole base type. `names` are those of an enumeration or of BITS; `enum` is the class of
    an enumeration's values.
    """

    tag: Tag
    kind: Kind
    convention: str
    ranges: tuple[tuple[int, int], ...] = ()
    names: Mapping[str, int] = field(default_factory=dict)
    enum: type[IntEnum] | None = None

    @property
    def fixed_length(self) -> int | None:
        """The only length allowed of a string, or None."""
        if self.tag is Tag.OCTET_STRING and len(self.ranges) == 1:
            low, high = self.ranges[0]
            return low if low == high else None
        return None

    def allowed(self) -> str:
        """What is allowed, for people."""
        if self.kind is Kind.BITS or self.kind is Kind.NAMED:
            return ", ".join(f"{name}({number})" for name, number in self.names.items())
        if self.kind is Kind.BOOL:
            return "true(1), false(2)"
        spans = " or ".join(str(a) if a == b else f"{a} to {b}" for a, b in self.ranges)
        if self.tag is Tag.OCTET_STRING:
            return f"{self.convention} of {spans} octets" if spans else self.convention
        return spans or self.convention

    def _in_ranges(self, number: int) -> bool:
        return not self.ranges or any(low <= number <= high for low, high in self.ranges)

    def check(self, name: str, raw: Raw) -> None:
        """Refuse a raw value of the right type that the SYNTAX excludes.

        Raises `SyntaxRefused` with wrongLength, wrongEncoding or wrongValue.
        """
        status: ErrorStatus | None = None
        if isinstance(raw, bytes):
            if not self._in_ranges(len(raw)):
                status = ErrorStatus.wrongLength
            elif not self._is_encoded(raw):
                status = ErrorStatus.wrongEncoding
        elif isinstance(raw, int):
            if self.kind is Kind.NAMED:
                known = raw in self.names.values()
            elif self.kind is Kind.BOOL:
                known = raw in (1, 2)
            else:
                known = self._in_ranges(raw)
            if not known:
                status = ErrorStatus.wrongValue
        if status is not None:
            raise SyntaxRefused(status, name, raw, self.allowed())

    def _is_encoded(self, raw: bytes) -> bool:
        if self.kind is Kind.TEXT:
            return _is_utf8(raw)
        if self.kind is Kind.BITS:
            return set(_bit_numbers(raw)) <= set(self.names.values())
        return True

    def decode(self, raw: Raw) -> Any:
        """The Python value of a raw value that `check` accepts."""
        if self.kind is Kind.BOOL:
            return raw == 1
        if self.enum is not None and isinstance(raw, int):
            return self.enum(raw)
        if isinstance(raw, bytes):
            return self._decode_octets(raw)
        return raw

    def _decode_octets(self, raw: bytes) -> Any:
        match self.kind:
            case Kind.TEXT:
                return raw.decode()
            case Kind.MAC:
                return raw.hex(":")
            case Kind.UUID:
                return str(uuid.UUID(bytes=raw)) if raw else ""
            case Kind.INET:
                return address(raw) if raw else None
            case Kind.BITS:
                numbers = set(_bit_numbers(raw))
                return frozenset(name for name, number in self.names.items() if number in numbers)
            case _:
                return raw

    def encode(self, value: Any) -> Raw:
        """The raw value of a Python value; the inverse of `decode`."""
        match self.kind:
            case Kind.INT | Kind.NAMED:
                return int(value)
            case Kind.BOOL:
                return 1 if value else 2
            case Kind.TEXT:
                return str(value).encode()
            case Kind.MAC:
                return bytes.fromhex(str(value).replace(":", ""))
            case Kind.UUID:
                return uuid.UUID(value).bytes if value else b""
            case Kind.INET:
                return value.packed if value is not None else b""
            case Kind.BITS:
                return _bits(self.names[name] for name in value)
            case Kind.OCTETS:
                return bytes(value)
            case Kind.OID:
                return tuple(value)
            case _:
                return int(value)

    def name_of(self, value: Any) -> str:
        """A value as people read it: its name where it has one."""
        if self.kind is Kind.NAMED:
            return next((n for n, number in self.names.items() if number == value), str(value))
        if self.kind is Kind.BOOL:
            return "true" if value else "false"
        if self.kind is Kind.BITS:
            return " ".join(sorted(value, key=lambda name: self.names[name]))
        if self.kind is Kind.OCTETS:
            return bytes(value).hex()
        if self.kind is Kind.OID:
            return ".".join(map(str, value))
        return "" if value is None else str(value)


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def _bit_numbers(raw: bytes) -> list[int]:
    return [
        8 * position + bit
        for position, octet in enumerate(raw)
        for bit in range(8)
        if octet & (0x80 >> bit)
    ]


def _bits(numbers: Any) -> bytes:
    chosen = sorted(numbers)
    octets = bytearray(chosen[-1] // 8 + 1 if chosen else 0)
    for number in chosen:
        octets[number // 8] |= 0x80 >> number % 8
    return bytes(octets)


@dataclass(frozen=True, slots=True)
class Column:
    """A columnar object. `field` is its name in rows; `default` its DEFVAL in Python, if any."""

    name: str
    field: str
    oid: Oid
    syntax: Syntax
    access: Access
    default: Any = None
    has_default: bool = False
    units: str = ""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar object; its only instance is `oid + (0,)`."""

    name: str
    field: str
    oid: Oid
    syntax: Syntax
    access: Access
    default: Any = None
    has_default: bool = False
    units: str = ""


@dataclass(frozen=True, slots=True)
class Notification:
    """A NOTIFICATION-TYPE with the names of its OBJECTS."""

    name: str
    oid: Oid
    objects: tuple[str, ...]


@dataclass(frozen=True)  # no slots: what follows from the fields is found once
class Table:
    """A conceptual table. `index` are the columns of its INDEX, also those of other tables."""

    name: str
    oid: Oid
    index: tuple[Column, ...]
    columns: tuple[Column, ...]
    augments: str = ""

    @cached_property
    def entry(self) -> Oid:
        """OID of the entry node; a column's number follows it."""
        return (*self.oid, 1)

    @cached_property
    def row_status(self) -> Column | None:
        """The RowStatus column, or None where rows are not created by managers."""
        return next((c for c in self.columns if c.syntax.convention == "RowStatus"), None)

    @cached_property
    def writable(self) -> tuple[Column, ...]:
        """The columns a SET may write, without RowStatus."""
        return tuple(
            c for c in self.columns if c.access.writable and c.syntax.convention != "RowStatus"
        )

    @cached_property
    def mandatory(self) -> tuple[Column, ...]:
        """The columns that the PDU creating a row must hold."""
        return tuple(c for c in self.writable if not c.has_default)

    def column(self, field_name: str) -> Column:
        """The column with this field name; KeyError where there is none."""
        try:
            return self._columns_by_field[field_name]
        except KeyError:
            raise KeyError(f"{self.name} has no column {field_name}") from None

    @cached_property
    def _columns_by_field(self) -> dict[str, Column]:
        return {column.field: column for column in self.columns}

    def encode_index(self, key: Sequence[Any]) -> Oid:
        """The sub-identifiers of a key (one Python value for each INDEX object)."""
        out: list[int] = []
        for column, value in zip(self.index, key, strict=True):
            raw = column.syntax.encode(value)
            if isinstance(raw, bytes):
                if column.syntax.fixed_length is None:
                    out.append(len(raw))
                out.extend(raw)
            elif isinstance(raw, int):
                out.append(raw)
        return tuple(out)

    def decode_index(self, suffix: Oid) -> tuple[Any, ...]:
        """The key that sub-identifiers stand for.

        Raises `IndexRefused` where they are too few, too many, out of range, where an address
        does not have the length of its type, or a prefix leaves host bits.
        """
        values: list[Any] = []
        rest = suffix
        for column in self.index:
            raw, rest = self._take(column, rest)
            try:
                column.syntax.check(column.name, raw)
            except SyntaxRefused as refused:
                raise IndexRefused(column.name, refused.value, refused.allowed) from None
            values.append(column.syntax.decode(raw))
        if rest:
            raise IndexRefused(self.name, suffix, "no sub-identifiers after the index")
        self._check_addresses(values)
        return tuple(values)

    def _take(self, column: Column, rest: Oid) -> tuple[Raw, Oid]:
        if not rest:
            raise IndexRefused(column.name, rest, "an index that is not cut short")
        if column.syntax.tag is not Tag.OCTET_STRING:
            return rest[0], rest[1:]
        length = column.syntax.fixed_length
        if length is None:
            length, rest = rest[0], rest[1:]
        octets, rest = rest[:length], rest[length:]
        if len(octets) < length or any(octet > 255 for octet in octets):
            raise IndexRefused(column.name, octets, f"{length} octets of 0 to 255")
        return bytes(octets), rest

    def _check_addresses(self, values: Sequence[Any]) -> None:
        for position, column in enumerate(self.index):
            address = values[position]
            if not isinstance(address, IPv4Address | IPv6Address):
                continue
            family = values[position - 1]
            if family != (1 if address.version == 4 else 2):
                raise IndexRefused(column.name, str(address), "an address of the type before it")
            following = self.index[position + 1 : position + 2]
            if not following or following[0].syntax.convention != "InetAddressPrefixLength":
                continue
            prefix = values[position + 1]
            if prefix > address.max_prefixlen:
                allowed = f"0 to {address.max_prefixlen}"
                raise IndexRefused(following[0].name, prefix, allowed)
            if int(address) & ((1 << (address.max_prefixlen - prefix)) - 1):
                allowed = f"a network of prefix length {prefix}, its host bits zero"
                raise IndexRefused(column.name, str(address), allowed)
