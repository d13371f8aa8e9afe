"""The agent's heart: one state, one kernel, and the order in which they change.

A change is decided on data (`store`), written to disk, made in the kernel, and only then becomes
the state. If the disk or the kernel refuses, the state stays what it was and the kernel is taken
back. Everything runs in one thread.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from vmib.errors import Unavailable
from vmib.rows import HostAgentMode, OperStatus, Sync, VifKey
from vmib.schema import TABLES, describe_key, instance
from vmib.smi import Oid
from vmib.status import ErrorStatus

from . import inventory as inventories
from . import numbering, store, transactions
from .cells import Cells, HostFacts
from .desired import RowKey, Wish, wish
from .inventory import Device, Inventory, Rows
from .kernel import Change, ChangeFailed, HostKernel
from .logs import event, log
from .network_kernel import Pif
from .notices import Notices, Send
from .ports import Hypervisor, Presence
from .readings import Readings
from .scope import Scope, Target, scope_of
from .service import Missing, SetRefused, Value, VarBind
from .shaper import ALL
from .shapingstate import ShapedVif
from .state import Intent, Now, State
from .statefile import StateFile, StateUnreadable, without_volatile
from .sync import Drift, rows_of_subject
from .target import Obstruction, TargetCache, compile_target, ifb_name
from .transactions import Decision, Event
from .view import View
from .world import ROW_STATUS, KnownVif, KnownVm, Problem, World, changed_keys

GUESTS_PER_TICK = 8
"""Guests whose addresses and routes are compared in one tick."""
RETRY_TICKS = 10
"""Ticks between two attempts at what failed outside a SET."""
FIREWALL_TICKS = 5
"""Ticks between two comparisons of the packet filter, which announces no changes."""


def clock() -> Now:
    """The time as the core wants it."""
    return Now(time.time(), time.clock_gettime(time.CLOCK_BOOTTIME))


class Host:
    """One host. Implements `service.MibService` and what `cells` asks for."""

    def __init__(
        self,
        kernel: HostKernel,
        hypervisor: Hypervisor,
        devices: Callable[[], Mapping[str, Device]],
        state_file: StateFile,
        send: Send,
        uptime: Callable[[], float],
        clock: Callable[[], Now] = clock,
    ) -> None:
        self._kernel = kernel
        self._hypervisor = hypervisor
        self._devices = devices
        self._file = state_file
        self._clock = clock
        self.uptime = uptime
        self._present: Mapping[str, Device] = {}
        self._cache = TargetCache()
        self._target = Target()
        self._wish = Wish()
        self._drift = Drift()
        self._failed: dict[RowKey, str] = {}
        self._obstructed: dict[RowKey, str] = {}
        self._applied: dict[RowKey, float] = {}
        self._ticks = 0
        self._version = 0
        self._prepared: tuple[Intent, Change, Target, Wish] | None = None
        self.state = State(spin_lock=secrets.randbelow(2**31))
        self.rows = Rows({}, Inventory())
        self.pifs: Mapping[int, Pif] = {}
        self.mode = HostAgentMode.recovering
        self.hypervisor_status = OperStatus.unknown
        self.facts = HostFacts(
            "",
            hypervisor.kind,
            kernel.capabilities() | {"transactions", "confirmedCommit", "notifications"},
            kernel.shaper.clock_resolution_us(),
        )
        self.readings = Readings(kernel, self.shaped_vifs, self.uptime)
        self._cells = Cells(self)
        self._view = View(self._cells)
        self._notices = Notices(send, self._view.get)

    @property
    def version(self) -> int:
        """Grows with every change of what rows there are."""
        return self._version

    @property
    def notify_suppressed(self) -> int:
        """vmibNotifySuppressed."""
        return self._notices.suppressed

    def shaped_vifs(self) -> Mapping[VifKey, ShapedVif]:
        """The interfaces that exist now, as the shaper knows them."""
        return {
            key: ShapedVif(facts.device, ifb_name(key))
            for key, facts in self.rows.inventory.vifs.items()
        }

    def get(self, oid: Oid) -> Value | Missing:
        """The value of one instance."""
        return self._view.get(oid)

    def get_next(self, oid: Oid) -> VarBind | None:
        """The first instance after this OID, or None at the end."""
        return self._view.get_next(oid)

    def set(self, varbinds: Sequence[VarBind], principal: str) -> None:
        """All of the varbinds or none; raises `SetRefused`."""
        decision = store.decide(self.state, varbinds, principal, self._clock(), self._world())
        self._carry_out(decision)

    def sync(self, row: RowKey) -> tuple[Sync, str]:
        """How a row compares with the system, and the last error about it."""
        if row in self._wish.waiting:
            return Sync.waiting, self._failed.get(row, "")
        for found, verdict in ((self._failed, Sync.failed), (self._obstructed, Sync.failed)):
            if row in found:
                return verdict, found[row][:255]
        drift = self._drift.of(row)
        if drift is not None:
            return Sync.drifted, drift[:255]
        return (Sync.pending if self.mode is HostAgentMode.recovering else Sync.inSync), ""

    def applied(self, row: RowKey) -> float | None:
        """When a row was last applied (wall clock), or None."""
        return self._applied.get(row)

    def out_of_sync(self) -> int:
        """How many rows are not inSync."""
        configured = {
            RowKey(table, key)
            for table, rows in self.state.intent.items()
            if table != "vmibVmTable"
            for key in rows
        }
        return sum(
            1 for row in configured | self._drift.rows() if self.sync(row)[0] is not Sync.inSync
        )

    def switch_facts(self, name: str) -> tuple[int, bool, int]:
        """ifIndex (0 if there is none), whether it is up, and the number of ports of a bridge."""
        device = self._present.get(name)
        if device is None:
            return 0, False, 0
        ports = sum(1 for other in self._present.values() if other.master == device.if_index)
        return device.if_index, device.up, ports

    def start(self) -> None:
        """Load the state, take back what was not confirmed, and make the kernel agree with it.

        A state that cannot be read leaves the kernel alone and the agent read-only.
        """
        try:
            loaded = self._file.load()
        except StateUnreadable as error:
            log.critical(event("state-unreadable", error=error))
            self._enter(HostAgentMode.readOnly)
            self._look_around()
            return
        if loaded is not None:
            self.state = replace(
                loaded, spin_lock=self.state.spin_lock, intent=without_volatile(loaded.intent)
            )
        self._look_around()
        decision = transactions.recovered(self.state, self._clock())
        self._become(decision.state)
        self._tell(decision.events)
        self._save(self.state)
        self._reconcile(everything=True)
        if self.mode is HostAgentMode.recovering and not self._failed:
            self._enter(HostAgentMode.normal)

    def tick(self) -> None:
        """Look at machines and deadlines, and at a share of what may have drifted."""
        self._ticks += 1
        decision = transactions.tick(self.state, self._clock())
        if decision is not None:
            try:
                self._carry_out(decision)
            except SetRefused as refused:
                log.error(event("rollback-failed", reason=refused.reason))
                self._failed.update(dict.fromkeys(_any_row(self.state.intent), refused.reason))
        retry = bool(self._failed) and self._ticks % RETRY_TICKS == 0
        if self._look_around() or retry:
            self._reconcile(everything=retry)
        self._look_for_drift()

    def kernel_event(self) -> None:
        """Something changed in the kernel: was it us, and if not, what differs now?"""
        changed = self._kernel.shaper.poll_foreign_changes()
        if not changed:
            return
        if self._look_around():
            self._reconcile()
        vifs = [
            vif
            for vif in self.shaped_vifs().values()
            if changed is ALL or {vif.device, vif.ifb} & set(changed)
        ]
        self._compare_vifs(vifs)

    def _world(self) -> World:
        inventory = self.rows.inventory
        return World(
            vms={
                key[0]: KnownVm(guest.uuid, guest.name, guest.presence is Presence.RUNNING)
                for key, guest in inventory.vms.items()
            },
            vifs={
                (key[0], key[1]): KnownVif(
                    facts.mac, facts.number, facts.mtu or None, facts.running
                )
                for key, facts in inventory.vifs.items()
            },
            capabilities=self.facts.capabilities,
            mode=self.mode,
            feasible=self._feasible,
        )

    def _feasible(self, intent: Intent) -> Sequence[Problem]:
        """What of an intent cannot be done here: a dry run against what the kernel has now."""
        rows = Rows(intent, self.rows.inventory)
        wanted = wish(rows, self._device_names())
        target, obstructions = compile_target(rows, wanted, self._cache)
        problems = [_problem(found) for found in obstructions if found.row not in self._obstructed]
        if problems:
            return problems
        scope = scope_of(self._target, target, rows.inventory, self._drift.subjects())
        try:
            self._prepared = (intent, self._kernel.prepare(target, scope), target, wanted)
        except Unavailable as refusal:
            owners = self._owners(wanted, refusal.name, intent)
            return [
                Problem(
                    row.table, row.key, ROW_STATUS, ErrorStatus.resourceUnavailable, str(refusal)
                )
                for row in owners[:1]
            ]
        return []

    def _owners(self, wanted: Wish, subject: str, intent: Intent) -> tuple[RowKey, ...]:
        """The rows to blame for a subject, those first that this intent changes."""
        shaped = self.shaped_vifs().items()
        devices = {name: key for key, vif in shaped for name in (vif.device, vif.ifb) if name}
        found = rows_of_subject(wanted, subject, devices) or _any_row(intent)
        changed = {RowKey(*row) for row in changed_keys(self.state.intent, intent)}
        return tuple(sorted(found, key=lambda row: row not in changed))

    def _carry_out(self, decision: Decision) -> None:
        """Disk, kernel, memory, in this order. Raises `SetRefused`: then nothing has changed."""
        old, new = self.state, decision.state
        if not decision.applies:
            if _worth_saving(old, new):
                self._save_or_refuse(decision)
            self._become(new)
            self._tell(decision.events)
            return
        change, target, wanted = self._planned(decision)
        self._save_or_refuse(decision)
        try:
            self._kernel.carry_out(change)
        except ChangeFailed as failure:
            self._after_failure(failure, decision, wanted)
        now = self._clock().wall
        for table, key in changed_keys(old.intent, new.intent):
            row = RowKey(table, key)
            self._failed.pop(row, None)
            self._applied[row] = now
        self._now_is(target, wanted)
        self._become(new)
        self._tell(decision.events)

    def _planned(self, decision: Decision) -> tuple[Change, Target, Wish]:
        """The plan that the dry run of a decision made, or makes now."""
        intent = decision.state.intent
        if self._prepared is None or self._prepared[0] is not intent:
            self._prepared = None
            problems = self._feasible(intent)
            if problems:
                refusal = problems[0]
                position = decision.position(refusal.table, refusal.key)
                raise SetRefused(refusal.status, position, refusal.message)
        assert self._prepared is not None
        _, change, target, wanted = self._prepared
        self._prepared = None
        return change, target, wanted

    def _now_is(self, target: Target, wanted: Wish) -> None:
        """The kernel has been made like this target."""
        self._target, self._wish = target, wanted
        self._drift.clear()
        self.readings.expire()

    def _after_failure(self, failure: ChangeFailed, decision: Decision, wanted: Wish) -> None:
        """The kernel refused: the old state is the state, also on disk. Raises `SetRefused`."""
        owners = self._owners(wanted, failure.subject, decision.state.intent)
        problems = [
            Problem(row.table, row.key, ROW_STATUS, ErrorStatus.commitFailed, failure.reason)
            for row in owners[:1]
        ]
        kept = transactions.commit_failed(self.state, decision, problems, self._clock())
        self._save(kept.state)
        self._become(kept.state)
        self._tell(kept.events)
        self.readings.expire()
        if not failure.undone:
            self._enter(HostAgentMode.recovering)
            log.error(event("undo-failed", reason=failure.reason))
            for row in owners[:1]:
                self._because("vmibApplyFailed", row, failure.reason)
            raise SetRefused(ErrorStatus.undoFailed, 0, failure.reason)
        touched = [row for row in owners if (row.table, row.key) in decision.positions]
        positions = [decision.position(row.table, row.key) for row in (touched or owners)[:1]]
        position = next(iter(positions), decision.fallback)
        raise SetRefused(ErrorStatus.commitFailed, position, failure.reason)

    def _become(self, new: State) -> None:
        self.state = new
        self.rows = Rows(new.intent, self.rows.inventory)
        self._version += 1

    def _save_or_refuse(self, decision: Decision) -> None:
        try:
            self._file.save(decision.state)
        except OSError as error:
            reason = f"the state cannot be saved: {error.strerror}"
            raise SetRefused(ErrorStatus.resourceUnavailable, decision.fallback, reason) from error

    def _save(self, state: State) -> None:
        try:
            self._file.save(state)
        except OSError as error:
            log.critical(event("state-not-saved", path=self._file.path, error=error.strerror))
            self._enter(HostAgentMode.readOnly)

    def _device_names(self) -> Mapping[int, str]:
        return {device.if_index: name for name, device in self._present.items()}

    def _look_around(self) -> bool:
        """Take the inventory; whether it differs from the last one."""
        try:
            guests = self._hypervisor.guests()
            status = OperStatus.up
        except Unavailable as error:
            if self.hypervisor_status is not OperStatus.down:
                log.error(event("hypervisor-down", error=error))
            self._hypervisor_is(OperStatus.down)
            return False
        self._hypervisor_is(status)
        known = numbering.discovered(self.state, guests)
        self._present = self._devices()
        found = inventories.take(guests, known.indexes, self._present)
        if known is not self.state:
            self.state = known
            self._save(known)
        if found == self.rows.inventory:
            return False
        old = self.rows.inventory
        self.rows = Rows(self.state.intent, found)
        self._version += 1
        ends = {facts.device for facts in found.vifs.values()}
        self.pifs = {pif.ifindex: pif for pif in self._kernel.network.pifs(ends)}
        self._tell_vif_changes(old, found)
        return True

    def _hypervisor_is(self, status: OperStatus) -> None:
        if status is not self.hypervisor_status:
            first = self.hypervisor_status is OperStatus.unknown
            self.hypervisor_status = status
            if not first:
                self._notify("vmibAgentModeChange", ())

    def _reconcile(self, *, everything: bool = False) -> None:
        """Make the kernel agree with the intent outside a SET: at start, when machines come or go.

        What cannot be done is reported row by row; the rest is done.
        """
        wanted = wish(self.rows, self._device_names())
        target, obstructions = compile_target(self.rows, wanted, self._cache)
        self._obstructed = {found.row: found.message for found in obstructions}
        if everything:
            vifs = sorted(target.shaping.keys() | self._stale_vifs())
            guests = tuple(self.rows.inventory.vms.values())
            scope = Scope(tuple(vifs), guests, network=True, rules=True)
        else:
            drifted = self._drift.subjects()
            scope = scope_of(self._target, target, self.rows.inventory, drifted)
        try:
            self._kernel.carry_out(self._kernel.prepare(target, scope))
        except (Unavailable, ChangeFailed) as failure:
            self._reconcile_failed(wanted, failure)
            return
        self._failed.clear()
        now = self._clock().wall
        appeared = self._wish.waiting - wanted.waiting
        for table, rows in self.state.intent.items():
            for key in rows:
                row = RowKey(table, key)
                if (everything or row in appeared) and row not in wanted.waiting:
                    self._applied[row] = now
        self._now_is(target, wanted)

    def _stale_vifs(self) -> frozenset[ShapedVif]:
        """Interfaces that had a number once and may have left an ifb behind."""
        numbers = {
            VifKey(self.state.indexes.vms[uuid], vif)
            for (uuid, _), vif in self.state.indexes.vifs.items()
            if uuid in self.state.indexes.vms
        }
        gone = numbers - self.rows.inventory.vifs.keys()
        return frozenset(ShapedVif("", ifb_name(vif)) for vif in gone)

    def _reconcile_failed(self, wanted: Wish, failure: Unavailable | ChangeFailed) -> None:
        subject = failure.name if isinstance(failure, Unavailable) else failure.subject
        owners = self._owners(wanted, subject, self.state.intent)
        self._wish = wanted
        log.error(event("apply-failed", subject=subject, reason=failure))
        for row in owners:
            self._failed[row] = str(failure)
            self._because("vmibApplyFailed", row, str(failure))
        if isinstance(failure, ChangeFailed) and not failure.undone:
            self._enter(HostAgentMode.recovering)

    def _look_for_drift(self) -> None:
        guests = [*self.rows.inventory.vms.values()]
        first = self._ticks * GUESTS_PER_TICK % max(len(guests), 1)
        chosen = [*guests, *guests][first : first + min(GUESTS_PER_TICK, len(guests))]
        places = {guest.uuid for guest in chosen}
        found = self._kernel.drifted_network(self._target, chosen)
        self._note_drift(self._drift.network(found, places, self._wish))
        if self._ticks % FIREWALL_TICKS == 0:
            differences = self._kernel.drifted_rules(self._target)
            self._note_drift(self._drift.rules(differences, self.state.intent))

    def _compare_vifs(self, vifs: Iterable[ShapedVif]) -> None:
        compared = list(vifs)
        found = self._kernel.drifted_vifs(self._target, compared)
        keys = {vif: key for key, vif in self.shaped_vifs().items()}
        self.readings.expire()
        self._note_drift(self._drift.vifs(found, compared, keys, self._wish))

    def _note_drift(self, changes: Mapping[RowKey, bool]) -> None:
        """Tell of rows that began (True) or ceased (False) to drift."""
        for row, began in changes.items():
            reason = self._drift.of(row) or "in sync again"
            what = f"{row.table} {describe_key(TABLES[row.table], row.key)}"
            log.warning(event("drifted" if began else "restored", row=what, reason=reason))
            if row.table == "vmibShapeTable":
                name = "vmibShapingDrift" if began else "vmibShapingRestored"
                self._notify(name, row.key)
            else:
                self._because("vmibDrift", row, reason, cell="sync")

    def _enter(self, mode: HostAgentMode) -> None:
        if mode is not self.mode:
            self.mode = mode
            self._notify("vmibAgentModeChange", ())

    def _tell(self, events: Iterable[Event]) -> None:
        for found in events:
            self._notify(found.kind.value, (found.transaction.index,))

    def _tell_vif_changes(self, old: Inventory, new: Inventory) -> None:
        for key, facts in new.vifs.items():
            before = old.vifs.get(key)
            if before is not None and (before.up, before.device) != (facts.up, facts.device):
                self._notify("vmibVifStatusChange", key)

    def _notify(self, name: str, key: tuple[object, ...]) -> None:
        state = self.state
        self._notices.about(
            name, key, self.uptime(), state.notify_enable, state.notify_min_interval
        )

    def _because(self, name: str, row: RowKey, reason: str, cell: str = "storage_type") -> None:
        table = TABLES[row.table]
        oid = instance(table, cell, row.key)
        state = self.state
        self._notices.because(
            name, oid, reason, self.uptime(), state.notify_enable, state.notify_min_interval
        )


def _problem(found: Obstruction) -> Problem:
    status = ErrorStatus.resourceUnavailable if found.unavailable else ErrorStatus.inconsistentValue
    return Problem(found.row.table, found.row.key, ROW_STATUS, status, found.message)


def _any_row(intent: Intent) -> tuple[RowKey, ...]:
    return tuple(RowKey(table, key) for table, rows in intent.items() for key in rows)


def _worth_saving(old: State, new: State) -> bool:
    """Whether anything that survives a restart differs: not the lock, not what is staged."""

    def kept(state: State) -> State:
        current = state.current
        if current is not None and current.before is None:
            current = None
        return replace(state, spin_lock=0, current=current)

    return kept(old) != kept(new)
