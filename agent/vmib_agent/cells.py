"""The cells of the MIB: configured values from rows, operational values from the kernel."""

from __future__ import annotations

import math
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import is_not
from typing import Any, Protocol

from vmib import __version__, canonical
from vmib import rows as r
from vmib.schema import CONFIGURATION
from vmib.smi import Column, Scalar, Table

from .delivery import Way
from .desired import RowKey, facts_of
from .inventory import Inventory, Rows
from .network_kernel import Pif
from .probing import Probe
from .readings import Reading, Readings
from .standard_vms import StandardVms
from .state import Key, State, Transaction
from .view import ABSENT
from .world import PROBE

NEVER = bytes(8)
"""DateAndTime that stands for no time."""

OperCells = Mapping[str, Any]
"""The read-only cells of a row by field; `sync` and `last_error` are told without them."""

_SYNC = ("sync", "last_error")
_STANDING = (*_SYNC, "applied")
"""The columns that tell how a row stands."""
_ROW_TABLES = frozenset({PROBE, *(table.name for table in CONFIGURATION)})

_INVENTORIED = frozenset(
    {
        "vmibPifTable",
        "vmibVmTable",
        "vmibVmLookupTable",
        "vmibVifLookupTable",
        "vmibVifTable",
        "vmibAddrTable",
        "vmibRouteTable",
    }
)
"""The tables whose read-only columns tell of nothing but rows and the inventory."""

_READ = frozenset({"vmibShapeOperTable", "vmibLinkOperTable"})
"""The tables of what `Readings` has taken."""

_OF_READING = frozenset({"mechanism", "achieved_rate", "discontinuity"})
"""The columns that are a field of `Reading` itself."""

_UNREAD = Reading()

_ORIGINS = {
    Way.GUEST_AGENT: r.AddrOrigin.guestAgent,
    Way.DHCP: r.AddrOrigin.dhcp,
    Way.ITSELF: r.AddrOrigin.learned,
}
_DELIVERIES = {
    Way.GUEST_AGENT: r.RouteDelivery.guestAgent,
    Way.DHCP: r.RouteDelivery.dhcp,
}


def date_and_time(wall: float | None) -> bytes:
    """Seconds since the epoch as DateAndTime in UTC (RFC 2579), all zero for None."""
    if wall is None:
        return NEVER
    then = datetime.fromtimestamp(wall, UTC)
    deci = then.microsecond // 100_000
    parts = (then.year, then.month, then.day, then.hour, then.minute, then.second, deci)
    return struct.pack("!HBBBBBB", *parts) + b"+\0\0"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What does not change while the agent runs."""

    uuid: str
    hypervisor: str
    capabilities: frozenset[str]
    clock_resolution_us: int


class HostView(Protocol):
    """What the cells need of the host."""

    state: State
    rows: Rows
    facts: HostFacts
    readings: Readings
    pifs: Mapping[int, Pif]
    mode: r.HostAgentMode
    hypervisor_status: r.OperStatus
    vms_changed: float

    @property
    def hypervisor_version(self) -> str:
        """The hypervisor's version, "" while it is not known."""

    @property
    def notify_suppressed(self) -> int:
        """vmibNotifySuppressed."""

    @property
    def version(self) -> int:
        """Grows with every change of what rows there are."""

    @property
    def epoch(self) -> int:
        """Grows with everything that can change, but for time and counters."""

    def sync(self, row: RowKey) -> tuple[r.Sync, str]:
        """How a row compares with the system, and the last error about it."""

    def applied(self, row: RowKey) -> float | None:
        """When a row was last applied (wall clock), or None."""

    def probe(self, key: Key) -> Probe | None:
        """What is known of a probe."""

    def standing(self) -> tuple[object, ...]:
        """Other objects whenever rows may stand otherwise (`sync`, `applied`)."""

    def out_of_sync(self) -> int:
        """How many rows are not inSync."""

    def switch_facts(self, name: str) -> tuple[int, bool, int]:
        """ifIndex (0 if there is none), whether it is up, and the number of ports of a bridge."""

    def parent_of(self, device: str) -> int:
        """ifIndex of the bridge that a device is a port of, or 0."""

    def way(self, vm: int) -> Way:
        """How a machine, by its vmibVmIndex, gets addresses and routes; 0 is this host."""


class Cells:
    """Implements `view.Source` over a host."""

    def __init__(self, host: HostView) -> None:
        self._host = host
        self._standard = StandardVms(host, host.facts.hypervisor)
        self._lookups_of: Inventory | None = None
        self._vif_counts: tuple[int, Counter[int]] = (-1, Counter())
        self._uuids: dict[str, int] = {}
        self._numbers: dict[tuple[str, int], r.VifKey] = {}
        self._oper: Mapping[str, Callable[[Key], OperCells | None]] = {
            "vmibPifTable": self._pif,
            "vmibVmTable": self._vm,
            "vmibVmLookupTable": self._vm_lookup,
            "vmibVifLookupTable": self._vif_lookup,
            "vmibVifTable": self._vif,
            "vmibAddrTable": self._addr,
            "vmibSwitchTable": self._switch,
            "vmibRouteTable": self._route,
            "vmibFilterTable": self._filter,
            "vmibProbeTable": self._probe,
            "vmibTxnTable": self._txn,
            "vmibTxnErrorTable": self._txn_error,
            **self._standard.tables,
        }
        self._readings = {
            "vmibShapeTable": _Followed(self._shape),
            "vmibLinkTable": _Followed(self._link),
        }
        self._scalars: Mapping[str, Callable[[], Any]] = {
            "vmibHostUuid": lambda: host.facts.uuid,
            "vmibHostCapabilities": lambda: host.facts.capabilities,
            "vmibHostClockResolution": lambda: host.facts.clock_resolution_us,
            "vmibHostHypervisorStatus": lambda: host.hypervisor_status,
            "vmibHostAgentMode": lambda: host.mode,
            "vmibHostHypervisor": lambda: host.facts.hypervisor,
            "vmibHostAgentVersion": lambda: __version__,
            "vmibHostRowsOutOfSync": host.out_of_sync,
            "vmibVmNextIndex": lambda: host.state.indexes.next_vm,
            "vmibTxnSpinLock": lambda: host.state.spin_lock,
            "vmibTxnGeneration": lambda: host.state.generation,
            "vmibTxnDigest": self._digest,
            "vmibTxnLastChange": lambda: date_and_time(host.state.last_change),
            "vmibTxnLastChangeBy": lambda: host.state.last_change_by,
            "vmibTxnCurrent": lambda: host.state.current.index if host.state.current else 0,
            "vmibTxnHistorySize": lambda: host.state.history_size,
            "vmibNotifyEnable": lambda: host.state.notify_enable,
            "vmibNotifyMinInterval": lambda: host.state.notify_min_interval,
            "vmibNotifySuppressed": lambda: host.notify_suppressed,
            **self._standard.scalars,
        }
        self._digest_of: tuple[Any, Any, bytes] = (None, None, b"")

    @property
    def version(self) -> int:
        """Grows with every change of what rows there are."""
        return self._host.version

    @property
    def epoch(self) -> int:
        """Grows with every change but that of time and of counters."""
        return self._host.epoch

    def is_live(self, table: Table, column: Column) -> bool:
        """Whether the cells of a column may change at any moment."""
        if _is_of_row(table, column):
            return False
        if column.field in _SYNC:
            return table.name == PROBE
        return table.name not in _READ and table.name not in _INVENTORIED

    def is_read(self, table: Table, column: Column) -> bool:
        """Whether the cells of a column are of a reading."""
        return table.name in _READ and column.field not in _STANDING

    def origins(self, table: Table, keys: Sequence[Key]) -> Sequence[object]:
        """The readings of rows, the same object as long as they read the same."""
        host = self._host
        rows = host.rows
        now = host.readings.taken(), rows.inventory, rows.intent.get(table.augments)
        return self._readings[table.augments].of(keys, now)

    def stamp(self, table: Table, column: Column) -> tuple[object, ...]:
        """What the cells of a column depend on that are not live."""
        host = self._host
        if column.field in _STANDING:
            base = table.augments or table.name
            return *host.standing(), host.rows.intent.get(base), host.rows.inventory
        if _is_of_row(table, column):
            return host.rows.intent.get(table.name), host.rows.inventory
        return host.rows.inventory, host.pifs, host.version

    def keys(self, table: str) -> Iterable[Key]:
        """The keys of all rows of a table, in no order."""
        if table in _ROW_TABLES:
            return self._host.rows.keys(table)
        match table:
            case "vmibPifTable":
                return [(number,) for number in self._host.pifs]
            case "vmibVmLookupTable":
                return [(uuid,) for uuid in self._lookups()[0]]
            case "vmibVifLookupTable":
                return list(self._lookups()[1])
            case "vmibTxnTable":
                return [(txn.index,) for txn in self._transactions()]
            case "vmibTxnErrorTable":
                return [
                    (txn.index, number)
                    for txn in self._transactions()
                    for number in range(1, len(txn.errors) + 1)
                ]
            case "vmTable" | "vmNetworkTable":
                return self._standard.keys(table)
            case _:
                return ()

    def cell(self, table: Table, column: Column, key: Key) -> Any:
        """The Python value of a cell, or ABSENT where the row does not exist."""
        if _is_of_row(table, column):
            row = self._host.rows.row(table.name, key)
            if row is None:
                return ABSENT
            if column.syntax.convention == "RowStatus":
                return r.RowStatus.active
            return getattr(row, column.field)
        if column.field in _SYNC:
            return self._sync(table.augments or table.name, key)[_SYNC.index(column.field)]
        if table.name in _READ:
            return self._read(RowKey(table.augments, key), column.field)
        make = self._oper.get(table.name)
        found = None if make is None else make(key)
        return ABSENT if found is None else found[column.field]

    def scalar(self, scalar: Scalar) -> Any:
        """The Python value of a scalar."""
        return self._scalars[scalar.name]()

    def _sync(self, table: str, key: Key) -> tuple[Any, Any]:
        """How a row is; no counter need be read for that."""
        if self._host.rows.row(table, key) is None:
            return ABSENT, ABSENT
        return self._host.sync(RowKey(table, key))

    def _digest(self) -> bytes:
        intent, inventory = self._host.state.intent, self._host.rows.inventory
        if self._digest_of[0] is not intent or self._digest_of[1] is not inventory:
            digest = canonical.digest(intent, inventory.discovered)
            self._digest_of = (intent, inventory, digest)
        return self._digest_of[2]

    def _lookups(self) -> tuple[dict[str, int], dict[tuple[str, int], r.VifKey]]:
        inventory = self._host.rows.inventory
        if self._lookups_of is not inventory:
            self._lookups_of = inventory
            self._uuids = {guest.uuid: key[0] for key, guest in inventory.vms.items()}
            self._numbers = {
                (inventory.vms[r.VmKey(vif.vm_index)].name, facts.number): vif
                for vif, facts in inventory.vifs.items()
            }
        return self._uuids, self._numbers

    def _transactions(self) -> list[Transaction]:
        current = self._host.state.current
        return [*self._host.state.history, *([current] if current else [])]

    def _transaction(self, index: int) -> Transaction | None:
        return next((txn for txn in self._transactions() if txn.index == index), None)

    def _pif(self, key: Key) -> OperCells | None:
        pif = self._host.pifs.get(key[0])
        if pif is None:
            return None
        return {
            "name": pif.name,
            "speed": pif.speed_kbps,
            "mac_address": pif.mac,
            "mtu": min(pif.mtu, 65535),
            "oper_status": _status(pif.oper_up),
        }

    def _vm(self, key: Key) -> OperCells | None:
        if self._host.rows.row("vmibVmTable", key) is None:
            return None
        guest = self._host.rows.inventory.vms.get(r.VmKey(*key))
        presence = guest.presence.value if guest is not None else "absent"
        return {"presence": r.VmPresence[presence], "vif_count": self._vifs_of()[key[0]]}

    def _vifs_of(self) -> Counter[int]:
        """How many interfaces each machine has."""
        if self._vif_counts[0] != self._host.version:
            vifs = self._host.rows.keys("vmibVifTable")
            self._vif_counts = self._host.version, Counter(vif[0] for vif in vifs)
        return self._vif_counts[1]

    def _vm_lookup(self, key: Key) -> OperCells | None:
        found = self._lookups()[0].get(key[0])
        return None if found is None else {"vm_lookup_index": found}

    def _vif_lookup(self, key: Key) -> OperCells | None:
        found = self._lookups()[1].get((key[0], key[1]))
        if found is None:
            return None
        return {"vm_index": found.vm_index, "vif_index": found.vif_index}

    def _vif(self, key: Key) -> OperCells | None:
        if self._host.rows.row("vmibVifTable", key) is None:
            return None
        facts = self._host.rows.inventory.vifs.get(r.VifKey(*key))
        present = facts is not None and bool(facts.device)
        return {
            "number": facts.number if facts else -1,
            "oper_status": _status(facts.up) if facts and present else r.OperStatus.notPresent,
            "if_index": facts.if_index if facts else 0,
            "host_name": facts.device if facts else "",
        }

    def _addr(self, key: Key) -> OperCells | None:
        if self._host.rows.row("vmibAddrTable", key) is None:
            return None
        return {"origin": _ORIGINS.get(self._host.way(key[0]), r.AddrOrigin.configured)}

    def _shape(self, key: Key) -> Reading | None:
        if self._host.rows.row("vmibShapeTable", key) is None:
            return None
        vif = r.VifKey(key[0], key[1])
        if facts_of(self._host.rows, vif) is None:
            return _UNREAD
        return self._host.readings.shape(vif, r.Direction(key[2]))

    def _link(self, key: Key) -> Reading | None:
        if self._host.rows.row("vmibLinkTable", key) is None:
            return None
        vif = r.VifKey(key[0], key[1])
        if facts_of(self._host.rows, vif) is None:
            return _UNREAD
        return self._host.readings.link(vif, key[3], key[4])

    def _read(self, row: RowKey, field: str) -> Any:
        """A cell of what has been read of a row."""
        if field == "applied":
            if self._host.rows.row(row.table, row.key) is None:
                return ABSENT
            return date_and_time(self._host.applied(row))
        reading = self._readings[row.table].read(row.key)
        if reading is None:
            return ABSENT
        return getattr(reading if field in _OF_READING else reading.values, field)

    def _switch(self, key: Key) -> OperCells | None:
        row = self._host.rows.row("vmibSwitchTable", key)
        if row is None:
            return None
        if_index, up, ports = self._host.switch_facts(row.name)
        return {
            "oper_status": _status(up) if if_index else r.OperStatus.notPresent,
            "if_index": if_index,
            "port_count": ports,
        }

    def _route(self, key: Key) -> OperCells | None:
        if self._host.rows.row("vmibRouteTable", key) is None:
            return None
        return {"delivery": _DELIVERIES.get(self._host.way(key[0]), r.RouteDelivery.kernel)}

    def _filter(self, key: Key) -> OperCells | None:
        if self._host.rows.row("vmibFilterTable", key) is None:
            return None
        packets, octets, since = self._host.readings.filter(key[0], key[1])
        return {"packets": packets, "octets": octets, "discontinuity": since}

    def _probe(self, key: Key) -> OperCells | None:
        if self._host.rows.row(PROBE, key) is None:
            return None
        probe = self._host.probe(key) or Probe(r.ProbeKey(*key))
        return {
            "rtt_min": probe.last.rtt_min,
            "rtt_avg": probe.last.rtt_avg,
            "rtt_max": probe.last.rtt_max,
            "rtt_std_dev": probe.last.rtt_std_dev,
            "loss": probe.last.loss,
            "sent": probe.sent,
            "received": probe.received,
            "last_round": date_and_time(probe.ended),
            "threshold": r.ProbeThreshold(1 + probe.alarm.exceeded),
        }

    def _txn(self, key: Key) -> OperCells | None:
        txn = self._transaction(key[0])
        if txn is None:
            return None
        left = 0.0 if txn.deadline is None else max(txn.deadline - _boot_time(), 0.0)
        return {
            "action": r.TxnAction.none,
            "state": txn.state,
            "confirm_timeout": txn.confirm_timeout,
            "idle_timeout": txn.idle_timeout,
            "time_left": math.ceil(left),
            "owner": txn.owner,
            "description": txn.description,
            "changes": txn.changes,
            "errors": len(txn.errors),
            "opened": date_and_time(txn.opened),
            "closed": date_and_time(txn.closed),
            "row_status": r.RowStatus.active,
        }

    def _txn_error(self, key: Key) -> OperCells | None:
        txn = self._transaction(key[0])
        if txn is None or not 1 <= key[1] <= len(txn.errors):
            return None
        error = txn.errors[key[1] - 1]
        return {"object": error.object, "stage": error.stage, "message": error.message[:255]}


class _Followed:
    """The readings of one table's rows; one that is as it was is the same object."""

    def __init__(self, read: Callable[[Key], Reading | None]) -> None:
        self.read = read
        self._now: tuple[object, ...] = ()
        self._before: dict[Key, Reading] = {}
        self._found: dict[Key, Reading] = {}

    def of(self, keys: Sequence[Key], now: tuple[object, ...]) -> Sequence[Reading | None]:
        """The readings of rows; `now` are other objects when they are to be read again."""
        if any(map(is_not, now, self._now or (None,))):
            self._now = now
            self._before, self._found = self._found, {}
        found: list[Reading | None] = list(map(self._found.get, keys))
        if not all(found):
            for place, key in enumerate(keys):
                if found[place] is None:
                    found[place] = self._read_again(key)
        return found

    def _read_again(self, key: Key) -> Reading | None:
        reading, before = self.read(key), self._before.get(key)
        if reading is not None:
            if before is not None and before == reading:
                reading = before
            self._found[key] = reading
        return reading


def _is_of_row(table: Table, column: Column) -> bool:
    return column.access.writable and table.name in _ROW_TABLES


def _boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _status(up: bool) -> r.OperStatus:
    return r.OperStatus.up if up else r.OperStatus.down
