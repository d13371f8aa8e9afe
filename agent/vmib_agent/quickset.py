"""The short way for the SETs that managers send by the thousand, from octets to a state.

These are the lock, and numbers in rows that exist, staged in an open transaction. They touch
neither disk nor kernel. Whatever is not plainly one of them, or would be refused, is `None` or
`NotPlain` here, has had no effect, and goes the long way (`setrequest`, `store`); what goes the
short way comes to the same state there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

from vmib.rows import HostAgentMode, StorageType
from vmib.schema import FIXED, locate
from vmib.smi import Column, IndexRefused, Kind, Oid, Scalar
from vmib.snmp import ber
from vmib.snmp.channel import NotPlain, inside, integer_end
from vmib.snmp.message import PduType

from .persistent import GONE, persistent
from .records import evolved
from .rules import ROW_RULES, VALUE_RULES, RowRule
from .setrequest import key_of
from .state import LOCK_MODULUS, Intent, Key, Now, State
from .transactions import OPEN, kept_alive, restaged
from .world import PROBE, SHAPE, TXN, VIF, VM, World, effective, is_default

_SET = int(PduType.SET)
_NO_ERROR = b"\2\1\0\2\1\0"
_LOCK = "vmibTxnSpinLock"
_NUMBERS = (Kind.INT, Kind.NAMED, Kind.BOOL)
_OTHERS = frozenset({PROBE, TXN, VIF, VM, *FIXED})
"""Tables whose rows have rules of their own about what may be written when."""
_WITH_RULES = frozenset({"RowStatus", "StorageType"})


class Place(NamedTuple):
    """Where a varbind writes to: an instance, its table ("" for the lock), the row's key, and what
    a number that comes with this tag is turned into; `read` raises where it is not allowed."""

    oid: Oid
    table: str
    key: Key
    field: str
    tag: int
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
            value = name + data[at + 3]
            tag, size = data[value], data[value + 1]
            after = value + 2 + size
            if data[at] != ber.SEQUENCE or data[at + 1] != after - at - 2 or data[at + 1] >= 0x80:
                raise NotPlain
            place = _place(data[name:value])
            if data[at + 2] != ber.OBJECT_IDENTIFIER or place is None or place.tag != tag:
                raise NotPlain
            octets = data[value + 2 : after]
            number = int.from_bytes(octets, signed=True)
            if size > 5 or size != (number if number >= 0 else ~number).bit_length() // 8 + 1:
                raise NotPlain
            cells.append(Cell(place, place.read(number)))
            at = after
    except NotPlain:
        raise
    except Exception:  # the long way meets it again, and tells
        raise NotPlain from None
    if at != end or not cells:
        raise NotPlain
    return Plain(data[start:stop] + _NO_ERROR + ber.tlv(ber.SEQUENCE, data[first:end]), cells)


@lru_cache(maxsize=1 << 14)
def _place(octets: bytes) -> Place | None:
    """What an OID stands for; None where a SET of it is not plain. Raises `DecodeError`."""
    oid = ber.parse_oid(octets)
    found = locate(oid)
    if found is None or ber.encode_oid(oid)[2:] != octets:
        return None
    leaf, table = found.object, found.table
    if isinstance(leaf, Scalar) or table is None:
        if leaf.name != _LOCK or found.suffix != (0,):
            return None
        return Place(oid, "", (), _LOCK, leaf.syntax.tag, partial(_value, leaf, ()), ())
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
    return Place(oid, table.name, key, leaf.field, leaf.syntax.tag, read, rules)


def _value(leaf: Column | Scalar, key: Key, number: int) -> Any:
    """A number as a row has it. Raises `NotPlain` or `SyntaxRefused`."""
    leaf.syntax.check(leaf.name, number)
    value = leaf.syntax.decode(number)
    rule = VALUE_RULES.get(leaf.name)
    if rule is not None and not rule.allows(key, value):
        raise NotPlain
    return value


def after(
    state: State, cells: Sequence[Cell], principal: str, now: Now, world: World
) -> State | None:
    """The state that a SET comes to, or None where the long way has to judge it."""
    lock = state.spin_lock
    rows: dict[tuple[str, Key], dict[str, Cell]] = {}
    for cell in cells:
        place = cell.place
        if place.table:
            fields = rows.setdefault((place.table, place.key), {})
            if fields.setdefault(place.field, cell) is not cell:
                return None
        elif cell.value == lock == state.spin_lock:
            lock = (lock + 1) % LOCK_MODULUS
        else:
            return None
    txn = state.current
    is_own = txn is not None and txn.state in OPEN and txn.owner == principal
    if not rows:
        state = evolved(state, {"spin_lock": lock})
        return kept_alive(state, principal, now) if is_own else state
    if txn is None or txn.candidate is None or not is_own:
        return None
    if world.mode is not HostAgentMode.normal:
        return None
    changes: dict[str, dict[Key, Any]] = {}
    count = txn.changes
    for (table, key), fields in rows.items():
        change = _change(txn.candidate, table, key, fields, world)
        if change is None:
            return None
        before, row = change
        if before is not row and before != row:
            changes.setdefault(table, {})[key] = GONE if row is None else row
            committed = state.intent.get(table, {}).get(key)
            count += (row != committed) - (before is not committed and before != committed)
    candidate = {**txn.candidate}
    for table, changed in changes.items():
        candidate[table] = persistent(candidate.get(table, {})).changed(changed)
        if not candidate[table]:
            del candidate[table]
    if not changes:
        return kept_alive(evolved(state, {"spin_lock": lock}), principal, now)
    current = restaged(txn, candidate, count, now)
    return evolved(state, {"spin_lock": lock, "current": current})


def _change(
    candidate: Intent, table: str, key: Key, fields: Mapping[str, Cell], world: World
) -> tuple[Any, Any] | None:
    """A row as it is staged and as it is to be staged, None for none; or None if in doubt."""
    before = candidate.get(table, {}).get(key)
    row = effective(candidate, world, table, key) if before is None else before
    if row is None or row.storage_type == StorageType.readOnly:
        return None
    row = evolved(row, {name: cell.value for name, cell in fields.items()})
    for cell in fields.values():
        if not all(rule.holds(key, row) for rule in cell.place.rules):
            return None
    return before, None if table == SHAPE and is_default(table, row) else row
