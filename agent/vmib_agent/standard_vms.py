"""The cells of VM-MIB (RFC 7666): the hypervisor, its machines and their interfaces.

The machines are those that the hypervisor tells of; a row of vmibVmTable whose machine it does not
know has none here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from vmib.rows import OperStatus, VifKey, VmKey
from vmib.vm_mib import ADMIN_STATES, AUTO_START, OPER_STATES, PERSISTENT

from .inventory import Rows
from .ports import Presence
from .state import Key

_ADMIN = {
    Presence.ABSENT: ADMIN_STATES["shutdown"],
    Presence.DEFINED: ADMIN_STATES["shutdown"],
    Presence.RUNNING: ADMIN_STATES["running"],
    Presence.PAUSED: ADMIN_STATES["paused"],
}
_OPER = {
    Presence.ABSENT: OPER_STATES["unknown"],
    Presence.DEFINED: OPER_STATES["shutdown"],
    Presence.RUNNING: OPER_STATES["running"],
    Presence.PAUSED: OPER_STATES["paused"],
}
_AUTO_START = {
    None: AUTO_START["unknown"],
    True: AUTO_START["enabled"],
    False: AUTO_START["disabled"],
}
_TICKS = 2**32


class HypervisorView(Protocol):
    """What these cells need of the host."""

    rows: Rows
    hypervisor_status: OperStatus
    vms_changed: float

    @property
    def hypervisor_version(self) -> str:
        """The hypervisor's version, "" while it is not known."""

    def parent_of(self, device: str) -> int:
        """ifIndex of the bridge that a device is a port of, or 0."""


class StandardVms:
    """The tables of VM-MIB over a host; `software` is the hypervisor's name."""

    def __init__(self, host: HypervisorView, software: str) -> None:
        self._host = host
        self.tables: Mapping[str, Callable[[Key], Mapping[str, Any] | None]] = {
            "vmTable": self._vm,
            "vmNetworkTable": self._network,
        }
        self.scalars: Mapping[str, Callable[[], Any]] = {
            "vmHvSoftware": lambda: software,
            "vmHvVersion": lambda: host.hypervisor_version,
            "vmHvUpTime": lambda: _ticks(time.clock_gettime(time.CLOCK_BOOTTIME)),
            "vmNumber": lambda: len(host.rows.inventory.vms),
            "vmTableLastChange": lambda: _ticks(host.vms_changed),
            "vmPerVMNotificationsEnabled": lambda: False,
            "vmBulkNotificationsEnabled": lambda: False,
        }

    def keys(self, table: str) -> Iterable[Key]:
        """The keys of all rows of a table, in no order."""
        inventory = self._host.rows.inventory
        return inventory.vms if table == "vmTable" else inventory.vifs

    def _vm(self, key: Key) -> Mapping[str, Any] | None:
        guest = self._host.rows.inventory.vms.get(VmKey(*key))
        if guest is None:
            return None
        is_known = self._host.hypervisor_status is OperStatus.up
        return {
            "name": guest.name,
            "uuid": guest.uuid,
            "os_type": "",
            "admin_state": _ADMIN[guest.presence],
            "oper_state": _OPER[guest.presence] if is_known else OPER_STATES["unknown"],
            "auto_start": _AUTO_START[guest.autostart],
            "persistent": PERSISTENT["persistent" if guest.is_persistent else "transient"],
        }

    def _network(self, key: Key) -> Mapping[str, Any] | None:
        vif = self._host.rows.inventory.vifs.get(VifKey(*key))
        if vif is None:
            return None
        return {
            "if_index": vif.if_index,
            "parent": self._host.parent_of(vif.device),
            "model": vif.model,
            "phys_address": vif.mac,
        }


def _ticks(seconds: float) -> int:
    return int(seconds * 100) % _TICKS
