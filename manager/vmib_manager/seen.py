"""What is known of a host from its agent: scalars, machines and their numbers, rows. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmib import rows
from vmib.errors import VmibError
from vmib.schema import TABLES, describe_key
from vmib.smi import Table

Key = tuple[Any, ...]
Tables = Mapping[str, Mapping[Key, Any]]
"""Table name -> key -> row of `vmib.rows`. Rows of discovered tables only where something in
them differs from the default."""


Labels = Mapping[str, Mapping[int, str]]
"""The names that rows give to their numbers, by table: those of domains and switches."""

SHAPE = "vmibShapeTable"
"""Its rows come and go with interfaces: one without configuration is none, whoever made it."""

LABELLED = ("vmibDomainTable", "vmibSwitchTable")


def labels_of(*found: Tables) -> Labels:
    """The names in these rows; later rows win."""
    return {
        name: {key[0]: row.name for tables in found for key, row in tables.get(name, {}).items()}
        for name in LABELLED
    }


class UnknownName(VmibError):
    """A machine, interface or device that the agent does not report."""


@dataclass(frozen=True, slots=True)
class Scalars:
    """The scalars of an agent that say what it is and what state it is in."""

    uuid: str
    hypervisor: str
    version: str
    capabilities: frozenset[str]
    mode: rows.HostAgentMode
    hypervisor_status: rows.OperStatus
    out_of_sync: int
    spin_lock: int
    generation: int
    digest: bytes
    last_change: bytes
    last_change_by: str
    transaction: int


@dataclass(frozen=True, slots=True)
class SeenVm:
    """A machine as the agent reports it; `present` says that the hypervisor knows it now."""

    uuid: str
    name: str
    present: bool
    running: bool = True


@dataclass(frozen=True, slots=True)
class SeenVif:
    """An interface as the agent reports it; `number` is -1 while the hypervisor has it not."""

    mac: str
    number: int


@dataclass(frozen=True, slots=True)
class SeenPif:
    """A physical interface of the host; `speed` in kbit/s, 0 if unknown."""

    name: str
    speed: int
    mac: str


@dataclass(frozen=True, slots=True)
class Names:
    """Machines, interfaces and devices of a host by their numbers."""

    vms: Mapping[int, SeenVm] = field(default_factory=dict)
    vifs: Mapping[rows.VifKey, SeenVif] = field(default_factory=dict)
    pifs: Mapping[int, SeenPif] = field(default_factory=dict)

    @property
    def discovered(self) -> dict[str, set[Key]]:
        """The keys of rows that exist because of the hypervisor, as `vmib.canonical` wants."""
        vifs = [key for key, vif in self.vifs.items() if vif.number >= 0]
        return {
            "vmibVmTable": {(key,) for key, vm in self.vms.items() if vm.present},
            "vmibVifTable": {*vifs},
            "vmibShapeTable": {(*vif, direction) for vif in vifs for direction in rows.Direction},
        }


class NameLookup:
    """Numbers by name; implements `wanted.Lookup`."""

    def __init__(self, names: Names) -> None:
        self._vms = {vm.name: index for index, vm in names.vms.items() if vm.present}
        self._vifs = {
            (key.vm_index, vif.number): key.vif_index
            for key, vif in names.vifs.items()
            if vif.number >= 0
        }
        self._pifs = {pif.name: index for index, pif in names.pifs.items()}

    def vm_index(self, machine: str) -> int:
        """vmibVmIndex of a machine; raises UnknownName."""
        if machine not in self._vms:
            raise UnknownName(f"the agent reports no machine {machine}")
        return self._vms[machine]

    def vif_index(self, machine: str, number: int) -> int:
        """vmibVifIndex of a machine's interface; raises UnknownName."""
        found = self._vifs.get((self.vm_index(machine), number))
        if found is None:
            raise UnknownName(f"the agent reports no interface {number} of {machine}")
        return found

    def if_index(self, pif: str) -> int:
        """ifIndex of a physical interface; raises UnknownName."""
        if pif not in self._pifs:
            known = ", ".join(sorted(self._pifs)) or "none"
            raise UnknownName(f"the agent reports no interface {pif} of its host, but {known}")
        return self._pifs[pif]


@dataclass(frozen=True, slots=True)
class OutOfSync:
    """A row that the system does not match; `name` is the row as people read it."""

    table: str
    key: Key
    sync: rows.Sync
    last_error: str

    @property
    def name(self) -> str:
        """Table and key as people read them."""
        return f"{self.table} {describe_key(TABLES[self.table], self.key)}"


@dataclass(frozen=True, slots=True)
class Reading:
    """A host as its agent described it at one moment.

    `rows` is None where the digest said all that was asked: nobody had to walk them. `drifted`
    are rows that were applied and that something else has changed in the system since.
    """

    scalars: Scalars
    names: Names
    rows: Tables | None
    drifted: tuple[OutOfSync, ...] = ()


def configured(table: Table, rows: Mapping[Key, Any], names: Names) -> dict[Key, Any]:
    """The rows without those that are there, as they are, because of the hypervisor alone."""
    found = names.discovered.get(table.name, set())
    return {
        key: row
        for key, row in rows.items()
        if not ((key in found or table.name == SHAPE) and is_default(table, row))
    }


def is_default(table: Table, row: Any) -> bool:
    """Whether a discovered row is as it is without configuration."""
    return all(
        getattr(row, column.field) == column.default
        for column in table.writable
        if column.has_default
    )
