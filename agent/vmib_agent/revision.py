"""A wish made from the one before it: only the rows that differ are looked at.

What rows of queues and addresses say of an interface or a guest can be told without the others;
where anything else differs, everything is looked at (`desired.wish`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

from vmib.impairment import Impairment, impairment_of
from vmib.rows import Direction, ShapeKey, VifKey

from .desired import RowKey, Shaped, Wish, address_of, facts_of, wish
from .inventory import Rows
from .network import Stack
from .persistent import GONE, differing, persistent
from .world import ADDR, LINK, SHAPE

_FOLLOWED = frozenset({SHAPE, LINK, ADDR})

_Place = tuple[VifKey, Direction]
_Changes = dict[RowKey, tuple[Any, Any]]
"""Rows as they were and as they are, None for none."""


class WishCache:
    """The last wish, from which the next is made."""

    def __init__(self) -> None:
        self._last: tuple[Rows, Mapping[int, str], Wish] | None = None

    def wish(self, rows: Rows, device_names: Mapping[int, str]) -> Wish:
        """What `desired.wish` gives, but for the order of the rows that one thing has."""
        last = self._last
        if last is not None and last[1] == device_names and _are_near(last[0], rows):
            made = revised(last[0], rows, last[2])
        else:
            made = wish(rows, device_names)
        self._last = rows, device_names, made
        return made


def _are_near(one: Rows, other: Rows) -> bool:
    return one.inventory is other.inventory and all(
        one.intent.get(table) is other.intent.get(table)
        for table in one.intent.keys() | other.intent.keys()
        if table not in _FOLLOWED
    )


def revised(before: Rows, rows: Rows, known: Wish) -> Wish:
    """The wish of rows that differ from others, whose wish is known, in queues and addresses."""
    waiting: dict[RowKey, Any] = {}
    queues: dict[_Place, _Changes] = {}
    addresses: dict[str, _Changes] = {}
    for table in _FOLLOWED:
        old, new = before.intent.get(table, {}), rows.intent.get(table, {})
        for key in differing(old, new):
            row, change = RowKey(table, key), (old.get(key), new.get(key))
            facts = facts_of(rows, VifKey(key[0], key[1]))
            if facts is None or (table == ADDR and not facts.running):
                waiting[row] = GONE if change[1] is None else None
            elif table == ADDR:
                addresses.setdefault(facts.uuid, {})[row] = change
            else:
                queues.setdefault(_place(row), {})[row] = change
    stacks = {
        guest: _stack(known.network.stacks[guest], rows, changes)
        for guest, changes in addresses.items()
    }
    owners = {
        guest: _owners(known.owners.get(guest, ()), changes) or GONE
        for guest, changes in addresses.items()
    }
    shaped = {place: _shaped(known, rows, place, changes) for place, changes in queues.items()}
    return Wish(
        persistent(known.shaped).changed(shaped),
        replace(known.network, stacks=persistent(known.network.stacks).changed(stacks))
        if stacks
        else known.network,
        persistent(known.owners).changed(owners),
        persistent(known.waiting).changed(waiting),
    )


def _place(row: RowKey) -> _Place:
    vif = VifKey(row.key[0], row.key[1])
    return vif, ShapeKey(*row.key).direction if row.table == SHAPE else Direction.fromVm


def _shaped(known: Wish, rows: Rows, place: _Place, changes: _Changes) -> Any:
    """What one direction of an interface is to be, or `GONE` where no row says anything of it."""
    facts = facts_of(rows, place[0])
    assert facts is not None
    before = known.shaped.get(place) or Shaped(Impairment(), {}, facts.mtu, ())
    shape, links = before.shape, dict(before.links)
    for row, (_, now) in changes.items():
        if row.table == SHAPE:
            shape = Impairment() if now is None else impairment_of(now)
        elif now is None:
            links.pop(ip_network((row.key[3], row.key[4])), None)
        else:
            links[ip_network((row.key[3], row.key[4]))] = impairment_of(now)
    owners = sorted(_owners(before.rows, changes), key=lambda row: row.table != SHAPE)
    return Shaped(shape, links, facts.mtu, tuple(owners)) if owners else GONE


def _owners(before: Collection[RowKey], changes: _Changes) -> tuple[RowKey, ...]:
    stay = (row for row in before if row not in changes)
    return (*stay, *(row for row, (_, now) in changes.items() if now is not None))


def _stack(before: Stack, rows: Rows, changes: _Changes) -> Stack:
    addresses = set(before.addresses)
    for row, change in changes.items():
        facts = facts_of(rows, VifKey(row.key[0], row.key[1]))
        assert facts is not None
        old, new = ([address_of(facts, row.key, one)] if one else [] for one in change)
        addresses.difference_update(old)
        addresses.update(new)
    return replace(before, addresses=frozenset(addresses))
