"""Which rows the system does not match: from differences in the kernel back to rows."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Literal, TypeAlias

from vmib.rows import Direction, ShapeKey, VifKey

from .desired import RowKey, Wish
from .iptables import Owner
from .network import HOST
from .scope import FIREWALL
from .shapingstate import ShapedVif
from .state import Intent

SHAPING_TABLES = ("vmibShapeTable", "vmibLinkTable")
NETWORK_TABLES = ("vmibVifTable", "vmibAddrTable", "vmibSwitchTable", "vmibRouteTable")
RULES_TABLES = ("vmibFilterTable", "vmibDomainTable", "vmibSwitchTable")

_Section: TypeAlias = Literal["shaping", "network", "rules"]


def rows_of_subject(
    wish: Wish, subject: str, shaped: Mapping[str, VifKey] | None = None
) -> tuple[RowKey, ...]:
    """The rows behind what a plan or an error names: a device, a bridge, a guest, a sentence.

    `shaped` are the interfaces whose queues are on a device; their rows come first. Of many
    routes or addresses the one that is named is meant.
    """
    words = subject.replace(",", " ").split()
    found = _rows_of_words(wish, (subject, *words), shaped or {})
    if not found and "host" in words:
        found = wish.owners.get(HOST, ())
    named = tuple(row for row in found if _is_named(row, words))
    return named or found


def _is_named(row: RowKey, words: Sequence[str]) -> bool:
    """Whether a route or an address is the one of which the words speak."""
    if row.table == "vmibAddrTable":
        return str(row.key[3]) in words
    if row.table != "vmibRouteTable":
        return False
    destination = ip_network((row.key[2], row.key[3]))
    metric = row.key[4] or (1024 if destination.version == 6 else 0)
    is_the_metric = "metric" not in words or str(metric) == words[words.index("metric") + 1]
    return str(destination) in words and is_the_metric


def _rows_of_words(
    wish: Wish, words: Iterable[str], shaped: Mapping[str, VifKey]
) -> tuple[RowKey, ...]:
    for word in words:
        vif = shaped.get(word)
        queues = [
            row
            for direction in Direction
            if vif is not None and (vif, direction) in wish.shaped
            for row in wish.shaped[vif, direction].rows
        ]
        if found := (*queues, *wish.owners.get(word, ())):
            return found
    return ()


class Drift:
    """Rows that were applied and that the system no longer matches, with the first difference.

    Each look replaces what an earlier look at the same things found; the answer of a look says
    which rows began (True) and which ceased (False) to drift. A row of several sections (a switch
    is a bridge and has rules) drifts as long as one of them does. `revision` grows with every
    change.
    """

    def __init__(self) -> None:
        self.revision = 0
        self._found: dict[_Section, dict[RowKey, tuple[str, str]]] = {
            "shaping": {},
            "network": {},
            "rules": {},
        }

    def of(self, row: RowKey) -> str | None:
        """The difference that makes a row drift, or None."""
        return next((found[row][1] for found in self._found.values() if row in found), None)

    def rows(self) -> set[RowKey]:
        """All rows that drift."""
        return {row for found in self._found.values() for row in found}

    def subjects(self) -> set[str]:
        """What a change has to look at besides what it changes."""
        return {subject for found in self._found.values() for subject, _ in found.values()}

    def keep(self, rows: Collection[RowKey]) -> list[RowKey]:
        """Everything but these rows has been made right; the rows that drift no more."""
        ceased = [row for row in self.rows() if row not in rows]
        self.revision += bool(ceased)
        for found in self._found.values():
            for row in ceased:
                found.pop(row, None)
        return ceased

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
        return self._replace("shaping", now, looked)

    def network(
        self, found: Mapping[str, str], places: Collection[str], wish: Wish
    ) -> dict[RowKey, bool]:
        """A look at the host's network and at some guests."""
        now: dict[RowKey, tuple[str, str]] = {}
        for subject, difference in found.items():
            concerned = next(
                (word for word in (subject, *subject.split()) if word in wish.owners), HOST
            )
            for row in rows_of_subject(wish, subject):
                now.setdefault(row, (concerned, difference))
        guests = {row for place in places for row in wish.owners.get(place, ())}
        others = {
            row for subject, rows in wish.owners.items() if not _is_guest(subject) for row in rows
        }
        return self._replace("network", now, guests | others)

    def rules(self, found: Mapping[Owner | None, str], intent: Intent) -> dict[RowKey, bool]:
        """A look at the packet filter: the owner of a rule, or None for all -> the difference."""
        filtered = {RowKey(table, key) for table in RULES_TABLES for key in intent.get(table, {})}
        now: dict[RowKey, tuple[str, str]] = {}
        for owner, difference in found.items():
            row = _row_of(owner)
            for concerned in {row} if row in filtered else filtered:
                now.setdefault(concerned, (FIREWALL, difference))
        return self._replace("rules", now, self._found["rules"].keys() | filtered)

    def _replace(
        self,
        section: _Section,
        now: Mapping[RowKey, tuple[str, str]],
        looked: Collection[RowKey],
    ) -> dict[RowKey, bool]:
        before = self.rows()
        known = self._found[section]
        others = {row: why for row, why in known.items() if row not in looked}
        self._found[section] = {**others, **now}
        self.revision += self._found[section] != known
        after = self.rows()
        return dict.fromkeys(after - before, True) | dict.fromkeys(before - after, False)


def _row_of(owner: Owner | None) -> RowKey | None:
    match owner:
        case ("filter", *key):
            return RowKey("vmibFilterTable", tuple(key))
        case ("domain", *key):
            return RowKey("vmibDomainTable", tuple(key))
    return None


def _is_guest(subject: str) -> bool:
    return subject.count("-") == 4 and len(subject) == 36
