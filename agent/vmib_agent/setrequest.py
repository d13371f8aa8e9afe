"""A SET PDU read as rows: what its varbinds say, before any state is looked at.

The checks of RFC 3416 section 4.2.5 that need no state are made here, for the lowest varbind
first and within it in the order of the RFC: notWritable, wrongType, wrongLength, wrongEncoding,
wrongValue, noCreation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from vmib.needs import ROW_STATUS
from vmib.rows import KEYS, ROWS, RowStatus, StorageType
from vmib.schema import CONFIGURATION, TABLES, instance_name, locate
from vmib.smi import Column, IndexRefused, Oid, Scalar, SyntaxRefused, Table
from vmib.status import ErrorStatus

from .rules import VALUE_RULES
from .service import SetRefused, VarBind
from .state import Key
from .world import PROBE, TXN


class Cell(NamedTuple):
    """A value in Python and the position (error-index) of the varbind that holds it."""

    position: int
    value: Any


@dataclass(frozen=True, slots=True)
class RowWrite:
    """All that a PDU says of one row; `cells` are by field."""

    table: Table
    key: Key
    cells: Mapping[str, Cell]

    @property
    def status(self) -> RowStatus | None:
        """What is written to RowStatus, if anything."""
        cell = self.cells.get(ROW_STATUS)
        return None if cell is None else cell.value

    @property
    def position(self) -> int:
        """The position that stands for the row: that of RowStatus, else the lowest."""
        cell = self.cells.get(ROW_STATUS)
        return cell.position if cell else min(cell.position for cell in self.cells.values())

    @property
    def columns(self) -> Mapping[str, Cell]:
        """The cells without RowStatus."""
        return {name: cell for name, cell in self.cells.items() if name != ROW_STATUS}

    def position_of(self, field: str) -> int:
        """The position of a field's varbind, or the one that stands for the row."""
        cell = self.cells.get(field)
        return self.position if cell is None else cell.position

    def refuse(self, status: ErrorStatus, field: str, reason: str) -> SetRefused:
        """The refusal of this row because of one of its fields."""
        return SetRefused(status, self.position_of(field), reason)


@dataclass(frozen=True, slots=True)
class SetRequest:
    """A PDU: configuration rows (parents before what refers to them), transactions, scalars."""

    rows: Sequence[RowWrite]
    transactions: Sequence[RowWrite]
    scalars: Mapping[str, Cell]

    @property
    def first_row(self) -> int:
        """The position of the first varbind of configuration."""
        return min(cell.position for write in self.rows for cell in write.cells.values())


_ORDER = {table.name: rank for rank, table in enumerate(CONFIGURATION)} | {
    PROBE: len(CONFIGURATION),
    TXN: len(CONFIGURATION) + 1,
}
_STATUS_ALLOWED = (RowStatus.active, RowStatus.createAndGo, RowStatus.destroy)
_STORAGE_ALLOWED = (StorageType.volatile, StorageType.nonVolatile)
_ALLOWED_VALUES = {"RowStatus": _STATUS_ALLOWED, "StorageType": _STORAGE_ALLOWED}


def parse(varbinds: Sequence[VarBind], *, read_only: bool) -> SetRequest:
    """Read a PDU; `read_only` makes every varbind of rows notWritable. Raises `SetRefused`."""
    scalars: dict[str, Cell] = {}
    rows: dict[tuple[str, Key], RowWrite] = {}
    contradiction: SetRefused | None = None
    for position, varbind in enumerate(varbinds, 1):
        table, leaf, key, value = _read(varbind, position, read_only)
        if isinstance(leaf, Scalar) or table is None:
            cells, field = scalars, leaf.name
        else:
            write = rows.setdefault((table.name, key), RowWrite(table, key, {}))
            assert isinstance(write.cells, dict)
            cells, field = write.cells, leaf.field
        first = cells.setdefault(field, Cell(position, value))
        if first.value != value and contradiction is None:
            contradiction = SetRefused(
                ErrorStatus.inconsistentValue,
                position,
                f"{instance_name(varbind.oid)} has another value at varbind {first.position}",
            )
    if contradiction is not None:
        raise contradiction
    ordered = sorted(rows.values(), key=_rank)
    return SetRequest(
        rows=[write for write in ordered if write.table.name != TXN],
        transactions=[write for write in ordered if write.table.name == TXN],
        scalars=scalars,
    )


def _rank(write: RowWrite) -> tuple[int, bool, int]:
    """Parents first; machines by number, because new ones take the numbers one after another."""
    single = len(write.key) == 1
    return _ORDER[write.table.name], not single, write.key[0] if single else write.position


def _read(
    varbind: VarBind, position: int, read_only: bool
) -> tuple[Table | None, Column | Scalar, Key, Any]:
    """Table, object, key and value of a varbind; raises `SetRefused`."""
    oid, (tag, raw) = varbind
    place = locate(oid)
    if place is None or not place.object.access.writable:
        raise _refused(ErrorStatus.notWritable, position, varbind, "cannot be written")
    leaf, table = place.object, place.table
    if isinstance(leaf, Scalar) and place.suffix != (0,):
        raise _refused(ErrorStatus.notWritable, position, varbind, "the only instance is .0")
    if table is not None and read_only:
        raise _refused(ErrorStatus.notWritable, position, varbind, "the agent is read-only")
    if tag != leaf.syntax.tag:
        wanted = leaf.syntax.tag.name
        raise _refused(ErrorStatus.wrongType, position, varbind, f"the type is {wanted}")
    try:
        leaf.syntax.check(leaf.name, raw)
    except SyntaxRefused as refused:
        raise SetRefused(refused.status, position, str(refused)) from None
    value = leaf.syntax.decode(raw)
    allowed = _ALLOWED_VALUES.get(leaf.syntax.convention)
    if allowed is not None and value not in allowed:
        names = ", ".join(item.name for item in allowed)
        raise _refused(ErrorStatus.wrongValue, position, varbind, f"allowed: {names}")
    if table is None:
        return None, leaf, (), value
    try:
        key = key_of(table.name, place.suffix)
    except IndexRefused as refused:
        raise SetRefused(ErrorStatus.noCreation, position, str(refused)) from None
    rule = VALUE_RULES.get(leaf.name)
    if rule is not None and not rule.allows(key, value):
        raise _refused(ErrorStatus.wrongValue, position, varbind, f"allowed: {rule.allowed}")
    assert table.name in ROWS
    return table, leaf, key, value


@lru_cache(maxsize=1 << 14)  # 4 us become 0.2: the same rows are set again and again
def key_of(table: str, suffix: Oid) -> Key:
    """The key that sub-identifiers stand for; raises `IndexRefused`."""
    return KEYS[table](*TABLES[table].decode_index(suffix))


def _refused(status: ErrorStatus, position: int, varbind: VarBind, reason: str) -> SetRefused:
    return SetRefused(status, position, f"{instance_name(varbind.oid)}: {reason}")
