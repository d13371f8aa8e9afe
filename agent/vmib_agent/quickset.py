"""The short way for the SETs that managers send by the thousand, from octets to a state.

These are the lock, and numbers in rows that exist, staged in an open transaction. They touch
neither disk nor kernel. Whatever is not plainly one of them, or would be refused, is `NotPlain`
here or False in `staging`, has had no effect, and goes the long way (`setrequest`, `store`); what
goes the short way comes to the same state there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

from vmib.schema import FIXED, locate
from vmib.smi import Column, IndexRefused, Kind, Oid, Scalar, SyntaxRefused
from vmib.snmp import ber
from vmib.snmp.channel import NotPlain, inside, integer_end
from vmib.snmp.message import PduType

from .rules import ROW_RULES, VALUE_RULES, RowRule
from .service import VarBind
from .setrequest import key_of
from .state import Key
from .world import PROBE, TXN, VIF, VM

_SET = int(PduType.SET)
_NO_ERROR = b"\2\1\0\2\1\0"
_LOCK = "vmibTxnSpinLock"
_NUMBERS = (Kind.INT, Kind.NAMED, Kind.BOOL)
_OTHERS = frozenset({PROBE, TXN, VIF, VM, *FIXED})
"""Tables whose rows have rules of their own about what may be written when."""
_WITH_RULES = frozenset({"RowStatus", "StorageType"})


class Place(NamedTuple):
    """Where a varbind writes to: an instance, its row (table and key; none for the lock), and what
    a number that comes with this tag is turned into: one of `plain` is the value itself, `read`
    makes one of others, or raises where it is not allowed."""

    oid: Oid
    row: tuple[str, Key] | None
    field: str
    tag: int
    plain: range
    read: Callable[[int], Any]
    rules: Sequence[RowRule]


class Cell(NamedTuple):
    """A place and the value for it."""

    place: Place
    value: Any


class QuickService(Protocol):
    """What has a short way for SETs."""

    def set_quickly(self, cells: Sequence[Cell], principal: str) -> bool:
        """Carry out all of it, or nothing: then it is False, and `MibService.set` has to judge."""


class Plain(NamedTuple):
    """A SET as it came: the contents of the Response-PDU that says it was done, and its cells."""

    contents: bytes
    cells: Sequence[Cell]


def parse(data: bytes, at: int) -> Plain:
    """The SET that fills `data` from `at`. Raises `NotPlain`."""
    try:
        end = len(data)
        start = inside(data, at, end, _SET)
        stop = integer_end(data, start)
        if data[stop : stop + 6] != _NO_ERROR:
            raise NotPlain
        first = at = inside(data, stop + 6, end, ber.SEQUENCE)
        cells: list[Cell] = []
        while at < end:
            name = at + 4
            named = name + data[at + 3]
            tag, size = data[named], data[named + 1]
            after = named + 2 + size
            if data[at] != ber.SEQUENCE or data[at + 1] != after - at - 2 or data[at + 1] >= 0x80:
                raise NotPlain
            place = _place(data[name:named])
            if data[at + 2] != ber.OBJECT_IDENTIFIER or place is None or place.tag != tag:
                raise NotPlain
            octets = data[named + 2 : after]
            number = int.from_bytes(octets, signed=True)
            if size > 5 or size != (number if number >= 0 else ~number).bit_length() // 8 + 1:
                raise NotPlain
            value = number if number in place.plain else place.read(number)
            cells.append(Cell(place, value))
            at = after
    except NotPlain:
        raise
    except Exception:  # the long way meets it again, and tells
        raise NotPlain from None
    if at != end or not cells:
        raise NotPlain
    return Plain(data[start:stop] + _NO_ERROR + ber.tlv(ber.SEQUENCE, data[first:end]), cells)


def cells_of(varbinds: Sequence[VarBind]) -> Sequence[Cell] | None:
    """The cells of a SET that was decoded; None where one is not plain."""
    cells: list[Cell] = []
    for oid, (tag, raw) in varbinds:
        place = _place_of(oid)
        if place is None or place.tag != tag or not isinstance(raw, int):
            return None
        try:
            cells.append(Cell(place, raw if raw in place.plain else place.read(raw)))
        except (NotPlain, SyntaxRefused):
            return None
    return cells or None


@lru_cache(maxsize=1 << 14)
def _place(octets: bytes) -> Place | None:
    """What an OID stands for, by its octets; as `_place_of`. Raises `DecodeError`."""
    oid = ber.parse_oid(octets)
    return _place_of(oid) if ber.encode_oid(oid)[2:] == octets else None


@lru_cache(maxsize=1 << 14)
def _place_of(oid: Oid) -> Place | None:
    """What an OID stands for; None where a SET of it is not plain."""
    found = locate(oid)
    if found is None:
        return None
    leaf, table = found.object, found.table
    if isinstance(leaf, Scalar) or table is None:
        if leaf.name != _LOCK or found.suffix != (0,):
            return None
        return Place(oid, None, _LOCK, leaf.syntax.tag, _plain(leaf), partial(_value, leaf, ()), ())
    if not leaf.access.writable or table.name in _OTHERS:
        return None
    if leaf.syntax.kind not in _NUMBERS or leaf.syntax.convention in _WITH_RULES:
        return None
    try:
        key = key_of(table.name, found.suffix)
    except IndexRefused:
        return None
    rules = [rule for rule in ROW_RULES.get(table.name, ()) if leaf.field in rule.fields]
    read = partial(_value, leaf, key)
    row = table.name, key
    return Place(oid, row, leaf.field, leaf.syntax.tag, _plain(leaf), read, rules)


def _plain(leaf: Column | Scalar) -> range:
    """Numbers that are allowed, and values as they are."""
    syntax = leaf.syntax
    if syntax.kind is not Kind.INT or leaf.name in VALUE_RULES or len(syntax.ranges) != 1:
        return range(0)
    low, high = syntax.ranges[0]
    return range(low, high + 1)


def _value(leaf: Column | Scalar, key: Key, number: int) -> Any:
    """A number as a row has it. Raises `NotPlain` or `SyntaxRefused`."""
    leaf.syntax.check(leaf.name, number)
    value = leaf.syntax.decode(number)
    rule = VALUE_RULES.get(leaf.name)
    if rule is not None and not rule.allows(key, value):
        raise NotPlain
    return value
