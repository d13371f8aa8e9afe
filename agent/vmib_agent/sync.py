"""Which rows the system does not match: from differences in the kernel back to rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from vmib.rows import Direction, ShapeKey, VifKey

from .desired import RowKey, Wish
from .network import HOST
from .shapingstate import ShapedVif
from .state import Intent

_FIREWALL_TABLES = ("vmibFilterTable", "vmibDomainTable")


def rows_of_subject(wish: Wish, subject: str) -> tuple[RowKey, ...]:
    """The rows behind what a plan or an error names: a device, a bridge, a guest, a sentence."""
    if subject in wish.owners:
        return wish.owners[subject]
    words = subject.replace(",", " ").split()
    for word in words:
        if word in wish.owners:
            return wish.owners[word]
    return wish.owners.get(HOST, ()) if "host" in words else ()


class Drift:
    """Rows that were applied and that the system no longer matches, with the first difference.

    Each look replaces what an earlier look at the same things found; the answer of a look says
    which rows began (True) and which ceased (False) to drift.
    """

    def __init__(self) -> None:
        self._rows: dict[RowKey, tuple[str, str]] = {}

    def of(self, row: RowKey) -> str | None:
        """The difference that makes a row drift, or None."""
        found = self._rows.get(row)
        return None if found is None else found[1]

    def rows(self) -> set[RowKey]:
        """All rows that drift."""
        return set(self._rows)

    def subjects(self) -> set[str]:
        """What a change has to look at besides what it changes."""
        return {subject for subject, _ in self._rows.values()}

    def clear(self) -> None:
        """Everything has been made right."""
        self._rows.clear()

    def vifs(
        self,
        found: Mapping[tuple[ShapedVif, str], str],
        compared: Iterable[ShapedVif],
        keys: Mapping[ShapedVif, VifKey],
        wish: Wish,
    ) -> dict[RowKey, bool]:
        """A look at the queues of some interfaces."""
        now: dict[RowKey, tuple[str, str]] = {}
        looked: set[RowKey] = set()
        for vif in compared:
            for direction in Direction:
                place = (keys[vif], direction)
                shape = RowKey("vmibShapeTable", ShapeKey(*keys[vif], direction))
                rows = wish.shaped[place].rows if place in wish.shaped else ()
                looked.update(rows, (shape,))
                difference = found.get((vif, direction.name))
                if difference:
                    for row in {*rows, shape}:
                        now[row] = (vif.device, difference)
        return self._replace(now, looked)

    def network(
        self, found: Mapping[str, str], places: Collection[str], wish: Wish
    ) -> dict[RowKey, bool]:
        """A look at the host's network and at some guests."""
        now: dict[RowKey, tuple[str, str]] = {}
        for subject, difference in found.items():
            for row in rows_of_subject(wish, subject):
                now[row] = (subject, difference)
        guests = {row for place in places for row in wish.owners.get(place, ())}
        others = {
            row for subject, rows in wish.owners.items() if not _is_guest(subject) for row in rows
        }
        return self._replace(now, guests | others)

    def single(self, subject: str, difference: str, intent: Intent) -> dict[RowKey, bool]:
        """A look at the packet filter as a whole."""
        rows = {RowKey(table, key) for table in _FIREWALL_TABLES for key in intent.get(table, {})}
        now = dict.fromkeys(rows, (subject, difference)) if difference else {}
        return self._replace(now, rows)

    def _replace(
        self, now: Mapping[RowKey, tuple[str, str]], looked: Collection[RowKey]
    ) -> dict[RowKey, bool]:
        before = {row for row in looked if row in self._rows}
        changes = {row: True for row in now if row not in self._rows}
        for row in before - now.keys():
            del self._rows[row]
            changes[row] = False
        self._rows.update(now)
        return changes


def _is_guest(subject: str) -> bool:
    return subject.count("-") == 4 and len(subject) == 36
