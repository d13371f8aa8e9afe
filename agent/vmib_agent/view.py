"""GET and GETNEXT over the MIB: from OIDs to cells, in lexicographic order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from vmib.schema import LEAVES, TABLES, locate
from vmib.smi import Column, IndexRefused, Oid, Scalar, Table

from .service import Missing, Value, VarBind
from .state import Key


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
"""Stands for a cell that does not exist; None is a value: an empty InetAddress."""


class Source(Protocol):
    """Where the values come from. `version` changes whenever the keys of a table may have."""

    @property
    def version(self) -> int:
        """Grows with every change of what rows there are."""

    def keys(self, table: str) -> Iterable[Key]:
        """The keys of all rows of a table that augments no other."""

    def cell(self, table: Table, column: Column, key: Key) -> Any:
        """The Python value of a cell, or ABSENT where the row does not exist."""

    def scalar(self, scalar: Scalar) -> Any:
        """The Python value of a scalar."""


_LEAVES = tuple(leaf for leaf in LEAVES if leaf[2].access.readable)
_LEAF_OIDS = [leaf[0] for leaf in _LEAVES]


S = TypeVar("S", bound=Source, covariant=True)


class View(Generic[S]):
    """The readable part of VMIB-MIB over one source."""

    def __init__(self, source: S) -> None:
        self._source = source
        self._version = -1
        self._sorted: dict[str, tuple[list[Oid], list[Key]]] = {}

    @property
    def source(self) -> S:
        """Where the values come from."""
        return self._source

    def get(self, oid: Oid) -> Value | Missing:
        """The value of one instance (RFC 3416 section 4.2.1)."""
        place = locate(oid)
        if place is None or not place.object.access.readable:
            return Missing(instance=False)
        if isinstance(place.object, Scalar):
            if place.suffix != (0,):
                return Missing(instance=True)
            return _value(place.object, self._source.scalar(place.object))
        table = place.table
        assert table is not None
        try:
            key = table.decode_index(place.suffix)
        except IndexRefused:
            return Missing(instance=True)
        value = self._source.cell(table, place.object, key)
        return Missing(instance=True) if value is ABSENT else _value(place.object, value)

    def get_next(self, oid: Oid) -> VarBind | None:
        """The first instance after an OID (RFC 3416 section 4.2.2), or None after the last."""
        position = max(bisect_right(_LEAF_OIDS, oid) - 1, 0)
        for prefix, table, leaf in _LEAVES[position:]:
            after = oid[len(prefix) :] if oid[: len(prefix)] == prefix else ()
            if prefix < oid[: len(prefix)]:
                continue
            if isinstance(leaf, Scalar):
                if after < (0,):
                    return VarBind((*prefix, 0), _value(leaf, self._source.scalar(leaf)))
            elif table is not None:
                found = self._next_cell(table, leaf, after)
                if found is not None:
                    return found
        return None

    def _next_cell(self, table: Table, column: Column, after: Oid) -> VarBind | None:
        suffixes, keys = self.rows(table)
        for position in range(bisect_right(suffixes, after) if after else 0, len(suffixes)):
            value = self._source.cell(table, column, keys[position])
            if value is not ABSENT:
                return VarBind((*column.oid, *suffixes[position]), _value(column, value))
        return None

    def rows(self, table: Table) -> tuple[Sequence[Oid], Sequence[Key]]:
        """The indexes of a table's rows in their order, and the keys they stand for."""
        if self._version != self._source.version:
            self._version = self._source.version
            self._sorted.clear()
        base = TABLES[table.augments] if table.augments else table
        rows = self._sorted.get(base.name)
        if rows is None:
            pairs = sorted((base.encode_index(key), key) for key in self._source.keys(base.name))
            rows = ([suffix for suffix, _ in pairs], [key for _, key in pairs])
            self._sorted[base.name] = rows
        return rows


def _value(leaf: Scalar | Column, value: Any) -> Value:
    return Value(leaf.syntax.tag, leaf.syntax.encode(value))
