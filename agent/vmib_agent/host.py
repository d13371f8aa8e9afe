"""The agent's heart: one state, one disk, one kernel, and the order in which they change.

A change is decided on data (`store`), written to disk, made in the kernel (`reconciler`), and only
then becomes the state. If the disk or the kernel refuses, the state stays what it was, on disk too,
and the kernel is taken back. Everything runs in one thread.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from operator import attrgetter, is_, ne

from vmib.errors import Unavailable
from vmib.rows import HostAgentMode, OperStatus, ProbeKey, Sync, VifKey, VmAdminState, VmKey
from vmib.schema import SCALARS, SYNC, TABLES, describe_key
from vmib.smi import Column, Oid
from vmib.status import ErrorStatus

from . import inventory as inventories
from . import numbering, quickset, store, transactions
from .cells import Cells, HostFacts
from .delivery import Way
from .desired import RowKey
from .inventory import Device, Inventory, Rows
from .kernel import ChangeFailed, HostKernel
from .lifetimes import Lifetimes
from .logs import event, log
from .network_kernel import Pif
from .notices import Notices, Send
from .ports import Guest, Hypervisor, LifeCycle
from .prepared import PreparedChange
from .probing import NoProbes, Probe, Probes, probe_sync
from .quickset import Cell
from .readings import Readings
from .reconciler import Infeasible, Plan, Reconciler, shaped_vifs
from .service import Missing, SetRefused, Value, VarBind
from .shapingstate import ShapedVif
from .staging import Staging
from .state import Intent, Key, Now, State, have_same_keys
from .statefile import StateFile, StateUnreadable
from .target import ifb_name
from .transactions import Decision, Event
from .view import View
from .world import PROBE, Problem, World

GUESTS_PER_TICK = 8
"""Guests whose addresses and routes are compared in one tick."""
RETRY_TICKS = 10
"""Ticks between two attempts at what failed outside a SET."""
MOST_PROBES = 10_000
"""Rows of vmibProbeTable."""
RULES_SHARE = 0.02
"""How much of the time comparing the packet filter, which announces no changes, may take."""


_CAPABILITIES = tuple(SCALARS["vmibHostCapabilities"].syntax.names)

_ENDURING = attrgetter(
    *(field.name for field in fields(State) if field.name not in ("spin_lock", "current"))
)
"""What of a state survives a restart, beside the transaction that awaits confirmation."""


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
        probes: Probes | None = None,
        life_cycle: LifeCycle | None = None,
    ) -> None:
        self._kernel = kernel
        self._hypervisor = hypervisor
        self._devices = devices
        self._file = state_file
        self._clock = clock
        self._probes = NoProbes() if probes is None else probes
        self._life_cycle = life_cycle
        self._lifetimes = Lifetimes()
        self.uptime = uptime
        self._present: Mapping[str, Device] = {}
        self._reconciler = Reconciler(kernel)
        self._plan: Plan | None = None
        self._guests: Sequence[Guest] | None = None
        self._seen: tuple[object, object] = (None, None)
        self._is_blind = False
        self._is_due = True
        self._is_unsaved = False
        self._renewed: set[str] = set()
        self._rules_from = 0.0
        self._ticks = 0
        self._version = 0
        self.epoch = 0
        self._world = World()
        self._known: tuple[object, ...] = ()
        self.state = State(spin_lock=secrets.randbelow(2**31))
        self.rows = Rows({}, Inventory())
        self._shaped: tuple[Inventory, Mapping[VifKey, ShapedVif]] = Inventory(), {}
        self.pifs: Mapping[int, Pif] = {}
        self.mode = HostAgentMode.recovering
        self.hypervisor_status = OperStatus.unknown
        self.vms_changed = 0.0
        self.facts = HostFacts(
            "",
            hypervisor.kind,
            kernel.capabilities()
            | self._probes.capabilities()
            | {"transactions", "confirmedCommit", "notifications"}
            | ({"vmControl"} if life_cycle is not None else set()),
            kernel.shaper.clock_resolution_us(),
        )
        self.readings = Readings(kernel, self.shaped_vifs, self.uptime)
        self._cells = Cells(self)
        self._view = View(self._cells)
        self._notices = Notices(send, self._view.get)

    @property
    def state(self) -> State:
        """What is in force."""
        return self._staging.state()

    @state.setter
    def state(self, state: State) -> None:
        self._staging = Staging(state, self._world)

    @property
    def version(self) -> int:
        """Grows with every change of what rows there are."""
        return self._version

    @property
    def hypervisor_version(self) -> str:
        """The hypervisor's version, "" while it is not known."""
        return self._hypervisor.version

    @property
    def notify_suppressed(self) -> int:
        """vmibNotifySuppressed."""
        return self._notices.suppressed

    @property
    def view(self) -> View[Cells]:
        """What is read of it."""
        return self._view

    def shaped_vifs(self) -> Mapping[VifKey, ShapedVif]:
        """The interfaces that exist now, as the shaper knows them."""
        inventory = self.rows.inventory
        if self._shaped[0] is not inventory:
            there = {key: vif for key, vif in shaped_vifs(inventory).items() if vif.device}
            self._shaped = inventory, there
        return self._shaped[1]

    def get(self, oid: Oid) -> Value | Missing:
        """The value of one instance."""
        return self._view.get(oid)

    def get_next(self, oid: Oid) -> VarBind | None:
        """The first instance after this OID, or None at the end."""
        return self._view.get_next(oid)

    def set(self, varbinds: Sequence[VarBind], principal: str) -> None:
        """All of the varbinds or none; raises `SetRefused`."""
        prepared = PreparedChange(self, varbinds, principal)
        prepared.commit()
        prepared.release()

    def set_quickly(self, cells: Sequence[Cell], principal: str) -> bool:
        """All of the cells, if that takes neither disk nor kernel; else False, and nothing."""
        if not self._staged().take(cells, principal, self._clock()):
            return False
        self._changes()
        return True

    def would_take(self, cells: Sequence[Cell], principal: str) -> bool:
        """Whether `set_quickly` would do it."""
        return self._staged().judge(cells, principal) is not None

    def _staged(self) -> Staging:
        """What has been set the short way, in the world of now."""
        world = self.world()
        if self._staging.world is not world:
            self._staging = Staging(self.state, world)
        return self._staging

    def prepare(self, varbinds: Sequence[VarBind], principal: str) -> PreparedChange:
        """The first half of `set`: everything is tested, nothing changes. Raises `SetRefused`."""
        return PreparedChange(self, varbinds, principal, quickset.cells_of(varbinds))

    def decide(self, varbinds: Sequence[VarBind], principal: str) -> Decision:
        """What a SET comes to, after a dry run; raises `SetRefused`. Nothing changes."""
        self._plan = None
        decision = store.decide(self.state, varbinds, principal, self._clock(), self.world())
        if decision.applies:
            self._planned_or_refused(decision)
        return decision

    def enact(self, decision: Decision) -> None:
        """Make it so; raises `SetRefused`, and then nothing has changed. Announces nothing."""
        if decision.applies:
            self._carry_out(decision)
            return
        if _worth_saving(self.state, decision.state):
            self._save_or_refuse(decision)
        self._become(decision if not decision.events else replace(decision, events=()))

    def take_back(self, before: State, after: State) -> None:
        """Undo the commit that led from one state to the other; raises `SetRefused` (undoFailed).

        Numbers that machines were given since stay theirs. Where disk or kernel refuse, the
        earlier state stands nevertheless, and the host is brought to it by repair.
        """
        if replace(self.state, indexes=after.indexes) != after:
            raise SetRefused(ErrorStatus.undoFailed, 0, "something else has been set since")
        is_last = self.state is after
        earlier = before if is_last else replace(before, indexes=self.state.indexes)
        self._changes()
        if not is_last:
            self._save(earlier)
        elif _worth_saving(after, earlier):
            self._save_again(earlier)
        self._become(Decision(earlier))
        if earlier.intent is after.intent:
            return
        try:
            plan = self._planned(earlier.intent)
            restored = self._reconciler.carry_out(plan, self._clock().wall)
        except (Infeasible, ChangeFailed) as failure:
            log.error(event("undo-failed", reason=failure))
            self._has_to_recover()
            raise SetRefused(ErrorStatus.undoFailed, 0, str(failure)) from failure
        except Exception:
            self._has_to_recover()
            raise
        self._note_drift(dict.fromkeys(restored, False))

    def announce(self, events: Iterable[Event]) -> None:
        """Notify of events."""
        for found in events:
            self._notify(found.kind.value, (found.transaction.index,))

    def sync(self, row: RowKey) -> tuple[Sync, str]:
        """How a row compares with the system, and the last error about it."""
        if row.table == PROBE:
            return probe_sync(self.probe(row.key))
        found, reason = self._reconciler.sync(row)
        if found is Sync.inSync and self.mode is HostAgentMode.recovering:
            return Sync.pending, ""
        return found, reason

    def probe(self, key: Key) -> Probe | None:
        """What is known of a probe."""
        return self._probes.find(key)

    def probe_crossed(self, key: ProbeKey) -> None:
        """Tell that a probe exceeds a threshold, or no more."""
        self._notify("vmibProbeThresholdChange", key)

    def applied(self, row: RowKey) -> float | None:
        """When a row was last applied (wall clock), or None."""
        return self._reconciler.applied(row)

    def standing(self) -> tuple[object, ...]:
        """Other objects whenever rows may stand otherwise (`sync`, `applied`)."""
        return *self._reconciler.revisions(), self.mode

    def out_of_sync(self) -> int:
        """How many rows are not inSync."""
        configured = {
            RowKey(table, key)
            for table, rows in self.state.intent.items()
            if table != "vmibVmTable"
            for key in rows
        }
        rows = configured | self._reconciler.drifted()
        return sum(1 for row in rows if self.sync(row)[0] is not Sync.inSync)

    def switch_facts(self, name: str) -> tuple[int, bool, int]:
        """ifIndex (0 if there is none), whether it is up, and the number of ports of a bridge."""
        device = self._present.get(name)
        if device is None:
            return 0, False, 0
        ports = sum(1 for other in self._present.values() if other.master == device.if_index)
        return device.if_index, device.up, ports

    def parent_of(self, device: str) -> int:
        """ifIndex of the bridge that a device is a port of, or 0."""
        found = self._present.get(device)
        return 0 if found is None else found.master

    def start(self) -> None:
        """Load the state, take back what was not confirmed, and make the kernel agree with it.

        A state that cannot be read is left as it is, and the kernel with it: the agent is
        read-only then, and knows no machines, because it does not know their numbers.
        """
        found = self.facts.capabilities
        lacking = [name for name in _CAPABILITIES if name not in found]
        log.info(event("capabilities", found=" ".join(sorted(found)), lacking=" ".join(lacking)))
        try:
            loaded = self._file.load()
        except StateUnreadable as error:
            log.critical(event("state-unreadable", error=error))
            self._is_blind = True
            self._enter(HostAgentMode.readOnly)
            return
        if loaded is not None:
            self.state = replace(loaded, spin_lock=self.state.spin_lock)
        decision = transactions.recovered(self.state, self._clock())
        self._save(decision.state)
        self._become(decision)
        self._look_around()
        self._reconcile_if_due()

    def tick(self) -> None:
        """Look at machines and deadlines, and at a share of what may have drifted."""
        if self._is_blind:
            return
        self._ticks += 1
        self._changes()
        if self._is_unsaved:
            self._save(self.state)
        else:
            self._tidy()
        decision = transactions.tick(self.state, self._clock())
        if decision is not None:
            self._enforce(decision)
        self._end_probes()
        self._is_due |= not self._reconciler.is_complete and self._ticks % RETRY_TICKS == 0
        is_changed = self._look_around()
        if self._is_due:
            self._reconcile_if_due()
        elif is_changed:
            self._reconcile()
        self._look_for_drift()

    def kernel_event(self) -> None:
        """Something changed in the kernel: was it us, and if not, what differs now?"""
        changed = self._kernel.shaper.poll_foreign_changes()
        if not changed or self._is_blind:
            return
        self._changes()
        if self._look_around() and not self._is_due:
            self._reconcile()
        self.readings.expire()
        self._note_drift(self._reconciler.look_at_queues(changed))

    def hypervisor_event(self) -> None:
        """The hypervisor has told of something new."""
        if self._is_blind:
            return
        self._changes()
        is_changed = self._look_around()
        if self._is_due:
            self._reconcile_if_due()
        elif is_changed:
            self._reconcile()
        if self._reconciler.look_at_deliveries():
            self._version += 1
        self._tell_refused_states()

    def way(self, vm: int) -> Way:
        """How a machine, by its vmibVmIndex, gets addresses and routes; 0 is this host."""
        guest = self.rows.inventory.vms.get(VmKey(vm))
        return Way.KERNEL if guest is None else self._reconciler.way(guest.uuid)

    def world(self) -> World:
        """What SETs are judged by beside the state."""
        inventory = self.rows.inventory
        known = inventory.known_vms, inventory.known_vifs, self.facts.capabilities, self.mode
        if known != self._known:
            self._known = known
            self._world = World(*known, {PROBE: MOST_PROBES}, self._feasible)
        return self._world

    def _feasible(self, intent: Intent) -> Sequence[Problem]:
        """What of an intent cannot be done here: a dry run against what the kernel has now."""
        try:
            self._planned(intent)
        except Infeasible as refusal:
            return refusal.problems
        return []

    def _planned(self, intent: Intent) -> Plan:
        """The plan that the dry run has made, or makes now; raises `Infeasible`."""
        if self._plan is None or self._plan.rows.intent is not intent:
            rows = Rows(intent, self.rows.inventory)
            self._plan = self._reconciler.plan(rows, self._device_names())
        return self._plan

    def _planned_or_refused(self, decision: Decision) -> Plan:
        try:
            return self._planned(decision.state.intent)
        except Infeasible as refusal:
            raise _refused(decision, refusal.problems, str(refusal)) from refusal

    def _changes(self) -> None:
        """What was planned is to be planned anew."""
        self._plan = None
        self.epoch += 1

    def _carry_out(self, decision: Decision) -> None:
        """Disk, kernel, memory, in this order. Raises `SetRefused`: then nothing has changed."""
        plan = self._planned_or_refused(decision)
        self._save_or_refuse(decision)
        try:
            restored = self._reconciler.carry_out(plan, self._clock().wall)
        except ChangeFailed as failure:
            self._after_failure(plan, failure, decision)
        except Exception:
            self._save_again(self.state)
            self._has_to_recover()
            raise
        self._become(replace(decision, events=()))
        self._note_drift(dict.fromkeys(restored, False))

    def _after_failure(self, plan: Plan, failure: ChangeFailed, decision: Decision) -> None:
        """The kernel refused: the old state is the state, also on disk. Raises `SetRefused`."""
        problems = self._reconciler.problems(plan, failure)
        kept = transactions.commit_failed(self.state, decision, problems, self._clock())
        self._save_again(kept.state)
        self._become(kept)
        if failure.undone:
            raise _refused(decision, problems, failure.reason)
        log.error(event("undo-failed", reason=failure.reason))
        self._has_to_recover()
        for problem in problems:
            self._apply_failed(RowKey(problem.table, problem.key), failure.reason)
        raise SetRefused(ErrorStatus.undoFailed, 0, failure.reason)

    def _enforce(self, decision: Decision) -> None:
        """Abort or roll back because of the time: nobody can be told that it failed.

        The earlier intent stands also where disk or kernel refuse; the kernel is brought to it
        as far as it goes, and the disk still has what rolls back after a restart.
        """
        self._save(decision.state)
        if decision.applies:
            try:
                plan = self._planned(decision.state.intent)
                restored = self._reconciler.carry_out(plan, self._clock().wall)
                self._note_drift(dict.fromkeys(restored, False))
            except (Infeasible, ChangeFailed) as failure:
                log.error(event("rollback-failed", reason=failure))
                problems = (
                    failure.problems
                    if isinstance(failure, Infeasible)
                    else self._reconciler.problems(plan, failure)
                )
                decision = transactions.commit_failed(self.state, decision, problems, self._clock())
                self._save(decision.state)
                self._is_due = True
        self._become(decision)

    def _end_probes(self) -> None:
        """Destroy the probes whose time has passed (vmibProbeLifetime)."""
        probes, now = self.state.intent.get(PROBE, {}), self._clock()
        ended = self._lifetimes.ended(probes, now.uptime)
        if ended:
            log.info(event("probes-ended", rows=len(ended)))
            lasting = {key: row for key, row in probes.items() if key not in ended}
            intent = {**self.state.intent, PROBE: lasting}
            after = transactions.with_intent(self.state, intent, now, "")
            self._enforce(Decision(after, applies=True, forced=True))

    def _has_to_recover(self) -> None:
        """Nobody knows what the kernel has: everything is to be looked at."""
        self._is_due = True
        self._enter(HostAgentMode.recovering)

    def _become(self, decision: Decision) -> None:
        if not have_same_keys(self.state, decision.state):
            self._version += 1
        before, self.state = self.state.intent, decision.state
        self.rows = Rows(self.state.intent, self.rows.inventory)
        self._probes.follow(self.rows)
        self._changes()
        self.readings.expire()
        self._ask_for_states(before)
        self.announce(decision.events)

    def _ask_for_states(self, before: Intent) -> None:
        """Have machines brought to the states that are new in the intent."""
        former, now = before.get("vmibVmTable", {}), self.state.intent.get("vmibVmTable", {})
        if self._life_cycle is None or former is now:
            return
        for key, row in now.items():
            old = former.get(key)
            is_new = old is None or old.admin_state != row.admin_state
            if is_new and row.admin_state != VmAdminState.unmanaged:
                self._life_cycle.ask(row.uuid, row.admin_state)

    def _tell_refused_states(self) -> None:
        """Notify of machines that could not be brought to the state that was asked for."""
        for uuid, reason in self._life_cycle.refusals() if self._life_cycle else ():
            number = self.state.indexes.vms.get(uuid)
            if number is not None:
                self._apply_failed(RowKey("vmibVmTable", VmKey(number)), reason)

    def _save_or_refuse(self, decision: Decision) -> None:
        reason = "the state cannot be read"
        if not self._is_blind:
            try:
                self._file.save(decision.state)
                return
            except OSError as error:
                self._is_unsaved = True
                reason = f"the state cannot be saved: {error.strerror}"
        raise SetRefused(ErrorStatus.resourceUnavailable, decision.fallback, reason)

    def _save_again(self, state: State) -> None:
        """Save what stays in force instead of what was saved last, also on a disk that is full."""
        try:
            self._file.restore()
        except OSError as error:
            log.error(event("state-not-restored", path=self._file.path, error=error.strerror))
        self._save(state)

    def _save(self, state: State) -> None:
        """Save what is in force; until that is done the agent is read-only."""
        try:
            self._file.save(state)
        except OSError as error:
            if self.mode is not HostAgentMode.readOnly:
                log.critical(event("state-not-saved", path=self._file.path, error=error.strerror))
            self._is_unsaved = True
            self._enter(HostAgentMode.readOnly)
            return
        self._is_unsaved = False
        if self.mode is HostAgentMode.readOnly:
            self._enter(HostAgentMode.recovering if self._is_due else HostAgentMode.normal)

    def _tidy(self) -> None:
        """Keep what is on disk short."""
        try:
            self._file.tidy()
        except OSError as error:
            log.error(event("journal-not-folded", path=self._file.path, error=error.strerror))

    def _device_names(self) -> Mapping[int, str]:
        return {device.if_index: name for name, device in self._present.items()}

    def _look_around(self) -> bool:
        """Take the inventory; whether it differs from the last one.

        Machines of a hypervisor that cannot be asked are as it last told, on the devices of now.
        """
        try:
            self._guests = self._hypervisor.guests()
        except Unavailable as error:
            if self.hypervisor_status is not OperStatus.down:
                log.error(event("hypervisor-down", error=error))
            self._hypervisor_is(OperStatus.down)
            if self._guests is None:
                return False
        else:
            self._hypervisor_is(OperStatus.up)
        before, self._present = self._present, self._devices()
        seen = self._guests, self.state.indexes
        if all(map(is_, seen, self._seen)) and before == self._present:
            return False
        guests = self._numbered(self._guests)
        found = inventories.take(guests, self.state.indexes, self._present)
        if found == self.rows.inventory:
            return False
        old = self.rows.inventory
        if found.vms.keys() != old.vms.keys():
            self.vms_changed = self._clock().uptime
        self.rows = Rows(self.state.intent, found)
        self._probes.follow(self.rows)
        self._version += 1
        self._renewed |= inventories.renewed(old, found)
        ends = {facts.device for facts in found.vifs.values()}
        self.pifs = {pif.ifindex: pif for pif in self._kernel.network.pifs(ends)}
        self._tell_vif_changes(old, found)
        return True

    def _numbered(self, guests: Sequence[Guest]) -> Sequence[Guest]:
        """The guests with a number; newcomers get theirs, if they can be kept on disk."""
        known = numbering.discovered(self.state, guests)
        self._seen = guests, known.indexes
        if known is not self.state:
            try:
                self._file.save(known)
            except OSError as error:
                log.error(event("numbers-not-saved", path=self._file.path, error=error.strerror))
            else:
                self.state = known
        return numbering.with_numbers(self.state.indexes, guests)

    def _hypervisor_is(self, status: OperStatus) -> None:
        if status is not self.hypervisor_status:
            first = self.hypervisor_status is OperStatus.unknown
            self.hypervisor_status = status
            if not first:
                self._notify("vmibAgentModeChange", ())

    def _reconcile_if_due(self) -> None:
        """Make everything as the rows say, once the hypervisor has told of its machines."""
        if self.hypervisor_status is not OperStatus.up:
            return
        self._reconcile(stale=self._stale_vifs())
        self._is_due = False
        if self.mode is HostAgentMode.recovering:
            self._enter(HostAgentMode.normal)

    def _reconcile(self, stale: Collection[ShapedVif] | None = None) -> None:
        renewed, self._renewed = self._renewed, set()
        wall = self._clock().wall
        names = self._device_names()
        outcome = self._reconciler.reconcile(self.rows, names, wall, renewed, stale)
        self.readings.expire()
        self._note_drift(dict.fromkeys(outcome.restored, False))
        for row, reason in outcome.failed.items():
            self._apply_failed(row, reason)

    def _stale_vifs(self) -> frozenset[ShapedVif]:
        """Interfaces that had a number once and may have left an ifb behind."""
        numbers = {
            VifKey(self.state.indexes.vms[uuid], vif)
            for (uuid, _), vif in self.state.indexes.vifs.items()
            if uuid in self.state.indexes.vms
        }
        gone = numbers - self.rows.inventory.vifs.keys()
        return frozenset(ShapedVif("", ifb_name(vif)) for vif in gone)

    def _look_for_drift(self) -> None:
        guests = [*self.rows.inventory.vms.values()]
        first = self._ticks * GUESTS_PER_TICK % max(len(guests), 1)
        chosen = [*guests, *guests][first : first + min(GUESTS_PER_TICK, len(guests))]
        self._note_drift(self._reconciler.look_at_network(chosen))
        began = self.uptime()
        if began >= self._rules_from:
            self._note_drift(self._reconciler.look_at_rules())
            ended = self.uptime()
            self._rules_from = ended + (ended - began) / RULES_SHARE

    def _note_drift(self, changes: Mapping[RowKey, bool]) -> None:
        """Tell of rows that began (True) or ceased (False) to drift."""
        for row, began in changes.items():
            reason = self._reconciler.why(row) or "in sync again"
            what = f"{row.table} {describe_key(TABLES[row.table], row.key)}"
            log.warning(event("drifted" if began else "restored", row=what, reason=reason))
            if row.table == "vmibShapeTable":
                name = "vmibShapingDrift" if began else "vmibShapingRestored"
                self._notify(name, row.key)
            else:
                self._because("vmibDrift", SYNC[row.table], row, reason)

    def _enter(self, mode: HostAgentMode) -> None:
        if mode is not self.mode:
            self.mode = mode
            self.epoch += 1
            self._notify("vmibAgentModeChange", ())

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

    def _apply_failed(self, row: RowKey, reason: str) -> None:
        column = TABLES[row.table].column("storage_type")
        self._because("vmibApplyFailed", column, row, reason)

    def _because(self, name: str, column: Column, row: RowKey, reason: str) -> None:
        oid = (*column.oid, *TABLES[row.table].encode_index(row.key))
        state = self.state
        self._notices.because(
            name, oid, reason, self.uptime(), state.notify_enable, state.notify_min_interval
        )


def _refused(decision: Decision, problems: Sequence[Problem], reason: str) -> SetRefused:
    """The refusal of a decision because of a row, or of its first varbind where none is known."""
    for problem in problems:
        position = decision.position(problem.table, problem.key)
        return SetRefused(problem.status, position, reason)
    return SetRefused(ErrorStatus.commitFailed, decision.fallback, reason)


def _worth_saving(old: State, new: State) -> bool:
    """Whether anything that survives a restart differs: not the lock, not what is staged."""
    return any(map(ne, _kept(old), _kept(new)))


def _kept(state: State) -> tuple[object, ...]:
    current = state.current
    if current is not None and current.before is None:
        current = None
    return (*_ENDURING(state), current)
