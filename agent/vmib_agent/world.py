"""What the store is told of the outside, and the rows that exist because of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from vmib.rows import HostAgentMode, Shape, Vif, Vm
from vmib.schema import DISCOVERED, TABLES
from vmib.status import ErrorStatus

from .persistent import differing
from .state import Intent, Key

VM = "vmibVmTable"
VIF = "vmibVifTable"
ADDR = "vmibAddrTable"
SHAPE = "vmibShapeTable"
LINK = "vmibLinkTable"
DOMAIN = "vmibDomainTable"
SWITCH = "vmibSwitchTable"
ROUTE = "vmibRouteTable"
FILTER = "vmibFilterTable"
PROBE = "vmibProbeTable"
TXN = "vmibTxnTable"


class Problem(NamedTuple):
    """What is wrong with a row: the field concerned (`ROW_STATUS` for the row as a whole), the
    error-status that a SET answers with, and the reason for people."""

    table: str
    key: Key
    field: str
    status: ErrorStatus
    message: str


@dataclass(frozen=True, slots=True)
class KnownVm:
    """A machine that the hypervisor reports now."""

    uuid: str
    name: str
    running: bool


@dataclass(frozen=True, slots=True)
class KnownVif:
    """An interface that the hypervisor reports now; `mtu` is None while its host end is absent."""

    mac: str
    number: int
    mtu: int | None
    running: bool


def _always_feasible(_: Intent) -> Sequence[Problem]:
    return ()


@dataclass(frozen=True, slots=True)
class World:
    """The outside, as the caller knows it now.

    `vms` are by vmibVmIndex, `vifs` by (vmibVmIndex, vmibVifIndex); `capabilities` are names of
    vmibHostCapabilities bits; `limits` the most rows of a table, by its name; `feasible` a dry
    run that says what of an intent cannot be done on this host.
    """

    vms: Mapping[int, KnownVm] = field(default_factory=dict)
    vifs: Mapping[tuple[int, int], KnownVif] = field(default_factory=dict)
    capabilities: frozenset[str] = frozenset()
    mode: HostAgentMode = HostAgentMode.normal
    limits: Mapping[str, int] = field(default_factory=dict)
    feasible: Callable[[Intent], Sequence[Problem]] = _always_feasible

    def discovers(self, table: str, key: Key) -> bool:
        """Whether a row exists because of the hypervisor."""
        if table == VM:
            return key[0] in self.vms
        return table in DISCOVERED and (key[0], key[1]) in self.vifs


_UNSHAPED = Shape()


def effective(intent: Intent, world: World, table: str, key: Key) -> Any:
    """The row with this key, configured or discovered, or None.

    Of a discovered row, what the hypervisor determines is as it reports it.
    """
    row = intent.get(table, {}).get(key)
    if table == VM:
        vm = world.vms.get(key[0])
        if vm is None:
            return row
        if row is None:
            return Vm(uuid=vm.uuid, name=vm.name)
        return row if row.name == vm.name else replace(row, name=vm.name)
    if row is None and table == VIF:
        vif = world.vifs.get((key[0], key[1]))
        return None if vif is None else Vif(mac_address=vif.mac)
    if row is None and table == SHAPE:
        of = key[0], key[1]
        return _UNSHAPED if of in world.vifs or of in intent.get(VIF, {}) else None
    return row


_DEFAULTED = {
    name: tuple((c.field, c.default) for c in TABLES[name].writable if c.has_default)
    for name in DISCOVERED
}


def is_default(table: str, row: Any) -> bool:
    """Whether nothing in a discovered row differs from what it is without configuration."""
    return all(getattr(row, name) == default for name, default in _DEFAULTED[table])


def changed_keys(before: Intent, after: Intent) -> list[tuple[str, Key]]:
    """Table name and key of every row that two intents do not have in common."""
    found: list[tuple[str, Key]] = []
    for table in {**before, **after}:
        found += [(table, key) for key in differing(before.get(table, {}), after.get(table, {}))]
    return found
