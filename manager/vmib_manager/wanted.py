"""Rows that a host shall have, before its agent has told the numbers of machines and interfaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from vmib.rows import KEYS

from .model import Source


@dataclass(frozen=True, slots=True)
class VmRef:
    """Stands for the vmibVmIndex of a machine."""

    machine: str


@dataclass(frozen=True, slots=True)
class VifRef:
    """Stands for the vmibVifIndex of a machine's interface, by vmibVifNumber."""

    machine: str
    number: int


@dataclass(frozen=True, slots=True)
class PifRef:
    """Stands for the ifIndex of a physical interface of the host."""

    name: str


Ref = VmRef | VifRef | PifRef


class Lookup(Protocol):
    """The numbers that one host's agent gave. Unknown names raise a `VmibError`."""

    def vm_index(self, machine: str) -> int:
        """vmibVmIndex of a machine."""

    def vif_index(self, machine: str, number: int) -> int:
        """vmibVifIndex of an interface."""

    def if_index(self, pif: str) -> int:
        """ifIndex of a physical interface."""


@dataclass(frozen=True, slots=True)
class WantedRow:
    """A row of a host.

    `table` is the MIB's name of the table; `key` has the parts of the table's key, references
    among them; `row` is a dataclass of `vmib.rows`, whose fields named in `references` are still
    0. In rows of machines and interfaces the columns that the hypervisor determines
    (`vmib.canonical.DETERMINED`) say what the real file says and may be empty. `source` is the
    line that asks for the row.
    """

    table: str
    key: tuple[Any, ...]
    row: Any
    source: Source = field(compare=False)
    references: tuple[tuple[str, Ref], ...] = ()


def _number(value: Any, lookup: Lookup) -> Any:
    match value:
        case VmRef(machine):
            return lookup.vm_index(machine)
        case VifRef(machine, number):
            return lookup.vif_index(machine, number)
        case PifRef(name):
            return lookup.if_index(name)
        case _:
            return value


def numbered(
    rows: Iterable[WantedRow], lookup: Lookup
) -> Iterator[tuple[str, tuple[Any, ...], Any, Source]]:
    """Table, key, row and source of each row, all references replaced by the host's numbers."""
    for wanted in rows:
        key = KEYS[wanted.table](*(_number(part, lookup) for part in wanted.key))
        row = wanted.row
        if wanted.references:
            row = replace(row, **{name: _number(ref, lookup) for name, ref in wanted.references})
        yield wanted.table, key, row, wanted.source


def resolve(rows: Iterable[WantedRow], lookup: Lookup) -> dict[str, dict[tuple[Any, ...], Any]]:
    """Table -> key -> row, all references replaced by the host's numbers."""
    tables: dict[str, dict[tuple[Any, ...], Any]] = {}
    for table, key, row, _ in numbered(rows, lookup):
        tables.setdefault(table, {})[key] = row
    return tables
