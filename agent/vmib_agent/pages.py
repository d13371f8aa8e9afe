"""The readable cells as varbinds that are encoded already, in the order of their OIDs.

A page is one column of a table, or one scalar. OIDs are looked up by the octets that they have in
a message: those of a column, then those of a row. Nothing is encoded before it is asked for; what
is encoded is kept as long as the source says that nothing has changed (`PagedSource.stamp`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import is_not
from typing import Any, Protocol, cast

from vmib.schema import LEAVES, TABLES
from vmib.smi import Column, Oid, Scalar, Table
from vmib.snmp import ber

from .access import Subtrees
from .standard import Objects
from .state import Key
from .view import ABSENT, Source, View

MAX_KEPT = 1 << 18
"""Varbinds that are kept at most, some 100 octets each; when there are more, none is kept."""

Stamp = Sequence[object]
"""What cells depend on: they stay the same as long as these are the same objects."""


class PagedSource(Source, Protocol):
    """A source that tells when cells may have changed."""

    @property
    def epoch(self) -> int:
        """Grows with every change but that of time and of counters."""

    def is_live(self, table: Table, column: Column) -> bool:
        """Whether the cells of a column may change at any moment."""

    def is_read(self, table: Table, column: Column) -> bool:
        """Whether the cells of a column are read again and again, row by row."""

    def origins(self, table: Table, keys: Sequence[Key]) -> Sequence[object]:
        """What the cells of rows that are read depend on: the same objects, the same cells."""

    def stamp(self, table: Table, column: Column) -> Stamp:
        """What the cells of a column depend on that are not live."""


class NoPage(Exception):
    """There is no such cell, or none that follows."""


class Notation(Protocol):
    """How OIDs and varbinds stand in messages."""

    def start(self, oid: Oid) -> bytes:
        """The octets of an OID, or of the start of one."""

    def rest(self, suffix: Oid) -> bytes:
        """The octets of sub-identifiers that do not begin an OID."""

    def parse(self, octets: bytes) -> Oid:
        """The OID with these octets; raises `DecodeError`."""

    def varbind(self, octets: bytes, tag: int, raw: Any) -> bytes:
        """The varbind of the instance with these octets."""


class Ber:
    """As in SNMP messages (X.690)."""

    def start(self, oid: Oid) -> bytes:
        """The octets of an OID, or of the start of one."""
        return ber.encode_oid(oid)[2:]

    def rest(self, suffix: Oid) -> bytes:
        """The octets of sub-identifiers that do not begin an OID."""
        return ber.encode_oid((0, 0, *suffix))[3:]

    def parse(self, octets: bytes) -> Oid:
        """The OID with these octets; raises `DecodeError`."""
        return ber.parse_oid(octets)

    def varbind(self, octets: bytes, tag: int, raw: Any) -> bytes:
        """The varbind of the instance with these octets."""
        name = ber.tlv(ber.OBJECT_IDENTIFIER, octets)
        return ber.tlv(ber.SEQUENCE, name + ber.encode_value(ber.Value(tag, raw)))


BER = Ber()


class Rows:
    """The rows of a table, in order."""

    def __init__(self, suffixes: Sequence[Oid], keys: Sequence[Any], notation: Notation) -> None:
        self.suffixes = suffixes
        self.keys = keys
        self.octets = [notation.rest(suffix) for suffix in suffixes]
        self.positions = {octets: number for number, octets in enumerate(self.octets)}


class Page:
    """One column whose cells are encoded whenever they are asked for."""

    def __init__(
        self,
        oid: Oid,
        load: Callable[[], Rows],
        read: Callable[[Any], tuple[int, Any]],
        notation: Notation,
    ) -> None:
        self.oid = oid
        self.octets = notation.start(oid)
        self._notation = notation
        self.number = 0
        self._load = load
        self._read = read
        self._rows: Rows | None = None

    @property
    def rows(self) -> Rows:
        """Its rows now."""
        if self._rows is None:
            self._rows = self._load()
        return self._rows

    def forget_rows(self) -> None:
        """The rows may be others now."""
        self._rows = None

    def varbind(self, row: int, epoch: int) -> bytes:
        """The varbind of one row."""
        return self._encoded(self.rows.keys[row], self.rows.octets[row])

    def run(self, start: int, count: int, epoch: int) -> list[bytes]:
        """The varbinds of so many rows from one on, or of as many as there are."""
        rows = self.rows
        stop = start + count
        return list(map(self._encoded, rows.keys[start:stop], rows.octets[start:stop]))

    def _encoded(self, key: Any, octets: bytes) -> bytes:
        return self._notation.varbind(self.octets + octets, *self._read(key))


class _Kept:
    """How many varbinds are kept."""

    count = 0


class KeptPage(Page):
    """One column whose varbinds are kept while its stamp says so."""

    def __init__(
        self,
        oid: Oid,
        load: Callable[[], Rows],
        read: Callable[[Any], tuple[int, Any]],
        notation: Notation,
        stamp: Callable[[], Stamp],
        kept: _Kept,
    ) -> None:
        super().__init__(oid, load, read, notation)
        self._stamp = stamp
        self._kept = kept
        self._stamped: Stamp = ()
        self._epoch = -1
        self._varbinds: list[bytes | None] = []

    def forget_rows(self) -> None:
        """The rows may be others now."""
        super().forget_rows()
        self.forget()

    def forget(self) -> None:
        """Keep nothing."""
        self._varbinds = []
        self._epoch = -1
        self._stamped = ()

    def varbind(self, row: int, epoch: int) -> bytes:
        """The varbind of one row."""
        if self._epoch != epoch:
            self._renew(epoch)
        return self._varbinds[row] or self.run(row, 1, epoch)[0]

    def run(self, start: int, count: int, epoch: int) -> list[bytes]:
        """The varbinds of so many rows from one on, or of as many as there are."""
        if self._epoch != epoch:
            self._renew(epoch)
        found = self._varbinds[start : start + count]
        if not all(found):
            rows = self.rows
            for place, varbind in enumerate(found, start):
                if varbind is None:
                    found[place - start] = self._encoded(rows.keys[place], rows.octets[place])
            self._varbinds[start : start + count] = found
            self._kept.count += len(found)
        return cast(list[bytes], found)

    def _renew(self, epoch: int) -> None:
        """Forget the varbinds that may have changed."""
        stamp = self._stamp()
        if not self._stamped or any(map(is_not, stamp, self._stamped)):
            self._varbinds = [None] * len(self.rows.keys)
        self._stamped = stamp
        self._epoch = epoch


class ReadPage(Page):
    """One column that is read again and again, of which a varbind is kept while its row reads the
    same."""

    def __init__(
        self,
        oid: Oid,
        load: Callable[[], Rows],
        read: Callable[[Any], tuple[int, Any]],
        notation: Notation,
        origins: Callable[[Sequence[Any]], Sequence[object]],
        kept: _Kept,
    ) -> None:
        super().__init__(oid, load, read, notation)
        self._origins_of = origins
        self._kept = kept
        self._origins: list[object] = []
        self._varbinds: list[bytes] = []

    def forget_rows(self) -> None:
        """The rows may be others now."""
        super().forget_rows()
        self.forget()

    def forget(self) -> None:
        """Keep nothing."""
        self._origins, self._varbinds = [], []

    def varbind(self, row: int, epoch: int) -> bytes:
        """The varbind of one row."""
        return self.run(row, 1, epoch)[0]

    def run(self, start: int, count: int, epoch: int) -> list[bytes]:
        """The varbinds of so many rows from one on, or of as many as there are."""
        rows = self.rows
        if not self._varbinds:
            self._origins = [None] * len(rows.keys)
            self._varbinds = [b""] * len(rows.keys)
        stop = start + count
        origins = self._origins_of(rows.keys[start:stop])
        if any(map(is_not, origins, self._origins[start:stop])):
            for place, origin in enumerate(origins, start):
                if origin is not self._origins[place]:
                    self._kept.count += not self._varbinds[place]
                    self._varbinds[place] = self._encoded(rows.keys[place], rows.octets[place])
                    self._origins[place] = origin
        return self._varbinds[start:stop]


class Pages:
    """All pages of a view."""

    def __init__(
        self,
        standard: Objects | None,
        view: View[PagedSource],
        included: Subtrees,
        notation: Notation = BER,
    ) -> None:
        self._notation = notation
        self._source = view.source
        self._view = view
        self._epoch = self._version = -1
        self._kept = _Kept()
        self._rows: dict[str, Rows] = {}
        pages = [*self._of_standard(standard), *self._of_source()]
        pages = [page for page in pages if included.includes(page.oid)]
        self._pages = sorted(pages, key=lambda page: page.oid)
        for number, page in enumerate(self._pages):
            page.number = number
        self._oids = [page.oid for page in self._pages]
        self._by_octets = {page.octets: page for page in self._pages}
        sizes = Counter(len(page.octets) for page in self._pages)
        self._sizes = [size for size, _ in sizes.most_common()]

    def renew(self) -> None:
        """To be called before each request: rows that may be others are forgotten."""
        epoch = self._source.epoch
        if epoch == self._epoch:
            return
        self._epoch = epoch
        if self._source.version != self._version:
            self._version = self._source.version
            self._rows.clear()
            for page in self._pages:
                page.forget_rows()
        if self._kept.count > MAX_KEPT:
            self._kept.count = 0
            for page in self._pages:
                if isinstance(page, KeptPage | ReadPage):
                    page.forget()

    def get(self, octets: bytes) -> bytes:
        """The varbind of the instance with these octets; raises `NoPage`."""
        page, row = self._place(octets)
        return page.varbind(row, self._epoch)

    def following(self, octets: bytes, count: int) -> list[bytes]:
        """The so many varbinds after an OID.

        Raises `NoPage` where there are fewer, `DecodeError` where the octets are no OID.
        """
        try:
            page, row = self._place(octets)
            row += 1
        except NoPage:
            page, row = self._after(self._notation.parse(octets))
        found = page.run(row, count, self._epoch)
        while len(found) < count:
            if page.number + 1 == len(self._pages):
                raise NoPage
            page = self._pages[page.number + 1]
            found += page.run(0, count - len(found), self._epoch)
        return found

    def _place(self, octets: bytes) -> tuple[Page, int]:
        for size in self._sizes:
            page = self._by_octets.get(octets[:size])
            if page is not None:
                row = page.rows.positions.get(octets[size:])
                if row is not None:
                    return page, row
        raise NoPage

    def _after(self, oid: Oid) -> tuple[Page, int]:
        """Where to look for what follows an OID that is no instance."""
        page = self._pages[max(bisect_right(self._oids, oid) - 1, 0)]
        if oid[: len(page.oid)] == page.oid:
            return page, bisect_right(page.rows.suffixes, oid[len(page.oid) :])
        return page, len(page.rows.keys) if page.oid < oid else 0

    def _of_standard(self, standard: Objects | None) -> Iterator[Page]:
        """A page for each instance of the standard objects, most of which count something."""
        if standard is not None:
            for oid in standard.order:
                rows = Rows([()], [oid], self._notation)
                yield Page(oid, partial(_same, rows), standard.read, self._notation)

    def _of_source(self) -> Iterator[Page]:
        for oid, table, leaf in LEAVES:
            if not leaf.access.readable:
                continue
            if isinstance(leaf, Scalar):
                rows = Rows([(0,)], [()], self._notation)
                read = partial(self._read_scalar, leaf)
                yield Page(oid, partial(_same, rows), read, self._notation)
            elif table is not None:
                yield self._column(table, leaf)

    def _column(self, table: Table, column: Column) -> Page:
        source = self._source
        base = TABLES[table.augments] if table.augments else table
        load, read = partial(self._rows_of, base), partial(self._read_cell, table, column)
        if source.is_live(table, column):
            return Page(column.oid, load, read, self._notation)
        if source.is_read(table, column):
            origins = partial(source.origins, table)
            return ReadPage(column.oid, load, read, self._notation, origins, self._kept)
        stamp = partial(source.stamp, table, column)
        return KeptPage(column.oid, load, read, self._notation, stamp, self._kept)

    def _rows_of(self, table: Table) -> Rows:
        rows = self._rows.get(table.name)
        if rows is None:
            rows = self._rows[table.name] = Rows(*self._view.rows(table), self._notation)
        return rows

    def _read_scalar(self, scalar: Scalar, key: Key) -> tuple[int, Any]:
        return scalar.syntax.tag, scalar.syntax.encode(self._source.scalar(scalar))

    def _read_cell(self, table: Table, column: Column, key: Key) -> tuple[int, Any]:
        value = self._source.cell(table, column, key)
        if value is ABSENT:
            raise NoPage
        return column.syntax.tag, column.syntax.encode(value)


def _same(rows: Rows) -> Rows:
    return rows
