"""How hosts are: their agents, what does not match the system, configured beside read back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from vmib import objects, rows
from vmib.schema import TABLES
from vmib.smi import Table

from .client import Agent
from .describe import Describer
from .reading import (
    decoded,
    read_names,
    read_oper,
    read_out_of_sync,
    read_rows,
    read_scalars,
)
from .seen import LABELLED, Key, Names, OutOfSync, Scalars, labels_of
from .transaction import TxnView, view

READ_BACK = ("rate", "delay", "jitter", "loss", "duplicate", "corrupt", "reorder")
"""Fields of vmibShapeTable and vmibLinkTable whose value the kernel must have exactly."""

_COMPARABLE = frozenset({rows.Sync.inSync, rows.Sync.drifted})
"""The states in which what is read back says something."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row by table and key, and as people read it."""

    table: str
    key: Key
    name: str


@dataclass(frozen=True, slots=True)
class Deviation:
    """A row that the system does not match.

    `field` is empty where the row as a whole is concerned; `configured` and `actual` are values
    with their units, for people. `waiting` rows are not wrong: what they are about is not there.
    """

    row: Row
    sync: rows.Sync
    reason: str
    field: str = ""
    configured: str = ""
    actual: str = ""

    @property
    def is_wrong(self) -> bool:
        """Whether the host fails to do what it is told."""
        return self.sync is not rows.Sync.waiting


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host; `scalars` is None and `error` says why where its agent cannot be asked."""

    host: str
    scalars: Scalars | None = None
    machines: int = 0
    running_vifs: int = 0
    transaction: TxnView | None = None
    deviations: tuple[Deviation, ...] = ()
    error: str = ""


async def host_status(host: str, agent: Agent) -> HostStatus:
    """The status of one host; rows are only walked where any is out of sync."""
    scalars = await read_scalars(agent)
    names = await read_names(agent)
    transaction = await view(agent, scalars.transaction) if scalars.transaction else None
    found: tuple[Deviation, ...] = ()
    if scalars.out_of_sync:
        unsynced = await read_out_of_sync(agent)
        found = tuple(unsynced_rows(unsynced, await _describer(agent, names)))
    return HostStatus(
        host=host,
        scalars=scalars,
        machines=sum(vm.present for vm in names.vms.values()),
        running_vifs=sum(vif.number >= 0 for vif in names.vifs.values()),
        transaction=transaction,
        deviations=found,
    )


async def deviations(agent: Agent) -> list[Deviation]:
    """Every row that the system does not match, and every value that reads back differently.

    A row with such values is there once for each of them.
    """
    names = await read_names(agent)
    there = await read_rows(agent, names)
    describer = Describer(names, labels_of(there))
    values: list[Deviation] = []
    for table, oper in (
        (objects.vmibShapeTable, objects.vmibShapeOperTable),
        (objects.vmibLinkTable, objects.vmibLinkOperTable),
    ):
        if not there.get(table.name):
            continue
        actual = await read_oper(agent, oper)
        for key, row in there[table.name].items():
            if key in actual:
                values += differences(table, key, row, actual[key], describer)
    return without_repeats(unsynced_rows(await read_out_of_sync(agent), describer), values)


def without_repeats(unsynced: list[Deviation], values: list[Deviation]) -> list[Deviation]:
    """Rows with values that read back differently are there once for each of these alone."""
    told = {(found.row.table, found.row.key) for found in values}
    return [found for found in unsynced if (found.row.table, found.row.key) not in told] + values


def differences(
    table: Table, key: Key, row: Any, actual: Mapping[str, Any], describer: Describer
) -> Iterator[Deviation]:
    """The values of a row that the kernel has otherwise; `actual` is what its agent reads back."""
    if actual["sync"] not in _COMPARABLE:
        return
    for name in READ_BACK:
        configured = getattr(row, name)
        if configured != actual[name]:
            column = table.column(name)
            yield Deviation(
                Row(table.name, key, describer.subject(table, key)),
                actual["sync"],
                actual["last_error"],
                name,
                describer.value(column, configured),
                describer.value(column, actual[name]),
            )


def unsynced_rows(found: Iterable[OutOfSync], describer: Describer) -> list[Deviation]:
    """Rows that are not in sync, each as a whole."""
    return [
        Deviation(
            Row(row.table, row.key, describer.subject(TABLES[row.table], row.key)),
            row.sync,
            row.last_error,
        )
        for row in found
    ]


async def _describer(agent: Agent, names: Names) -> Describer:
    columns = [TABLES[table].column("name") for table in LABELLED]
    walked = await agent.walk(*(column.oid for column in columns))
    labels = {
        table: {oid[-1]: decoded(column, value) for oid, value in found}
        for table, column, found in zip(LABELLED, columns, walked, strict=True)
    }
    return Describer(names, labels)
