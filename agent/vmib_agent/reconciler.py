"""Making the kernel as the rows say, and telling where it is not.

A SET is planned before it is taken, and carried out whole or not at all. Outside of a SET (at
start, when machines come or go, after drift) as much is done as can be done: what the kernel
refuses is left as it is, told, and tried again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from vmib.errors import Unavailable
from vmib.needs import ROW_STATUS
from vmib.rows import Sync, VifKey
from vmib.status import ErrorStatus

from .delivery import Delivery, Way, missing
from .desired import RowKey, Wish, guest_stacks
from .inventory import Inventory, Rows
from .kernel import Change, ChangeFailed, HostKernel, Work
from .logs import event, log
from .network import Stack
from .ports import Guest
from .revision import WishCache
from .scope import FIREWALL, Scope, Target, everything, scope_of, without
from .shaper import Everything
from .shapingstate import ShapedVif
from .state import Intent
from .sync import NETWORK_TABLES, RULES_TABLES, SHAPING_TABLES, Drift, rows_of_subject
from .target import Obstruction, TargetCache, compile_target, ifb_name
from .world import Problem, changed_keys

DeviceNames = Mapping[int, str]
"""The host's devices by ifIndex."""


_NOTHING = Stack()


class Infeasible(Exception):
    """What stands in the way of a plan."""

    def __init__(self, problems: list[Problem], reason: str) -> None:
        super().__init__(reason)
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Plan:
    """The way of the kernel from the rows it has to others."""

    rows: Rows
    changed: frozenset[RowKey]
    change: Change
    target: Target
    wish: Wish
    obstructed: Mapping[RowKey, str]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of making the kernel as far as it goes: rows that failed and had not failed in
    this way before, and rows that drift no more."""

    failed: Mapping[RowKey, str]
    restored: Collection[RowKey]


def shaped_vifs(inventory: Inventory) -> Mapping[VifKey, ShapedVif]:
    """The interfaces that exist now, as the shaper knows them."""
    return {key: ShapedVif(facts.device, ifb_name(key)) for key, facts in inventory.vifs.items()}


class Reconciler:
    """The kernel beside the rows: what it was made like, what failed, what drifted.

    `is_complete` tells whether, since the start, all rows have been applied but those that are
    waiting, obstructed or drifted.
    """

    def __init__(self, kernel: HostKernel) -> None:
        self._kernel = kernel
        self._wishes = WishCache()
        self._cache = TargetCache()
        self._rows = Rows({}, Inventory())
        self._target = Target()
        self._wish = Wish()
        self._drift = Drift()
        self._failed: Mapping[RowKey, str] = {}
        self._obstructed: Mapping[RowKey, str] = {}
        self._undelivered: Mapping[RowKey, str] = {}
        self._deliveries: Mapping[str, Delivery] = {}
        self._compared: dict[str, tuple[Stack, Delivery, Mapping[str, str]]] = {}
        self._applied: dict[RowKey, float] = {}
        self._revision = 0
        self.is_complete = False

    def sync(self, row: RowKey) -> tuple[Sync, str]:
        """How a row compares with the system, and the last error about it."""
        if row in self._wish.waiting:
            return Sync.waiting, ""
        for found in (self._failed, self._obstructed):
            if row in found:
                return Sync.failed, found[row][:255]
        if row in self._undelivered:
            return Sync.waiting, self._undelivered[row][:255]
        drift = self._drift.of(row)
        return (Sync.inSync, "") if drift is None else (Sync.drifted, drift[:255])

    def applied(self, row: RowKey) -> float | None:
        """When a row was last applied (wall clock), or None."""
        return self._applied.get(row)

    def revisions(self) -> tuple[object, ...]:
        """Other objects whenever `sync` or `applied` may say something else."""
        return self._revision, self._drift.revision

    def drifted(self) -> set[RowKey]:
        """The rows that drift, and do not fail."""
        return self._drift.rows() - self._failed.keys()

    def plan(self, rows: Rows, names: DeviceNames) -> Plan:
        """How the kernel comes to be as these rows say; raises `Infeasible`.

        What was obstructed before and is not changed does not stand in the way. Where no row is
        changed, everything is compared with the kernel.
        """
        changed = frozenset(RowKey(*row) for row in changed_keys(self._rows.intent, rows.intent))
        wanted = self._wishes.wish(rows, names)
        target, obstructions = compile_target(rows, wanted, self._cache)
        problems = [
            _problem(found)
            for found in obstructions
            if found.row not in self._obstructed or found.row in changed
        ]
        if problems:
            raise Infeasible(problems, problems[0].message)
        scope = scope_of(self._target, target, rows.inventory)
        if not changed:
            scope = everything(target, rows.inventory)
        works: list[Work] = []
        for part in scope.parts():
            works += self._prepared(part, target, wanted, rows, changed)
        obstructed = {found.row: found.message for found in obstructions}
        return Plan(rows, changed, Change(tuple(works)), target, wanted, obstructed)

    def _prepared(
        self, part: Scope, target: Target, wanted: Wish, rows: Rows, changed: frozenset[RowKey]
    ) -> Sequence[Work]:
        """The work on one part of the kernel; raises `Infeasible`.

        What was refused before, too, and has nothing to do with what is changed, is left out.
        """
        before = self._target
        while True:
            try:
                return self._kernel.prepare(target, part).works
            except Unavailable as refusal:
                owners = self._owners(refusal.name, part, rows, wanted, changed)
                thinner, rest = without(target, part, refusal.name)
                is_ours = not rest or not changed or not changed.isdisjoint(owners)
                if is_ours or refusal.name != self._refused(before, part):
                    status, reason = ErrorStatus.resourceUnavailable, str(refusal)
                    raise Infeasible(_laid_to(owners, status, reason), reason) from refusal
                before, _ = without(before, part, refusal.name)
                target, part = thinner, rest

    def _refused(self, target: Target, part: Scope) -> str:
        """The name of what is refused of a target, or ""."""
        try:
            self._kernel.prepare(target, part)
        except Unavailable as refusal:
            return refusal.name
        return ""

    def carry_out(self, plan: Plan, wall: float) -> Collection[RowKey]:
        """Take the steps of a plan, then mend what drifted; the rows that drift no more.

        Raises `ChangeFailed`.
        """
        self._kernel.carry_out(plan.change)
        if not plan.changed:
            self._failed, self.is_complete = {}, True
        self._failed = {row: why for row, why in self._failed.items() if row not in plan.changed}
        there = {row for row in plan.changed if row.key in plan.rows.intent.get(row.table, {})}
        for row in plan.changed - there:
            self._applied.pop(row, None)
        self._applied |= {row: wall for row in there if row not in plan.wish.waiting}
        self._has_become(plan.rows, plan.target, plan.wish)
        self._obstructed = plan.obstructed
        self._revision += 1
        subjects = self._drift.subjects()
        scope = scope_of(plan.target, plan.target, plan.rows.inventory, subjects)
        return self._drift.keep(self._make(scope, plan.target, plan.wish, plan.rows))

    def problems(self, plan: Plan, failure: ChangeFailed) -> list[Problem]:
        """The row of a plan that its failure is laid to, if there is any."""
        part = Scope((), (), network=False, rules=failure.subject == FIREWALL)
        owners = self._owners(failure.subject, part, plan.rows, plan.wish, plan.changed)
        return _laid_to(owners, ErrorStatus.commitFailed, failure.reason)

    def reconcile(
        self,
        rows: Rows,
        names: DeviceNames,
        wall: float,
        renewed: Collection[str] = (),
        stale: Collection[ShapedVif] | None = None,
    ) -> Outcome:
        """Make the kernel as these rows say, as far as it goes.

        Looked at is what differs, what drifted, and what is `renewed` (devices and guests that
        were made anew). With `stale`, interfaces that may have left an ifb behind, everything is.
        """
        wanted = self._wishes.wish(rows, names)
        target, obstructions = compile_target(rows, wanted, self._cache)
        if stale is not None:
            scope = everything(target, rows.inventory, stale)
        else:
            subjects = {*self._drift.subjects(), *renewed}
            scope = scope_of(self._target, target, rows.inventory, subjects)
        failed = self._make(scope, target, wanted, rows)
        new = {row: why for row, why in failed.items() if self._failed.get(row) != why}
        appeared = {row for row in self._wish.waiting if row not in wanted.waiting}
        self._applied |= {
            row: wall
            for row in _configured(rows.intent)
            if (stale is not None or row in appeared)
            and row not in wanted.waiting
            and row not in failed
        }
        self._failed = failed if stale is not None else {**self._failed, **failed}
        self.is_complete = not failed and (stale is not None or self.is_complete)
        self._has_become(rows, target, wanted)
        self._obstructed = {found.row: found.message for found in obstructions}
        self._revision += 1
        return Outcome(new, self._drift.keep(failed))

    def _make(self, scope: Scope, target: Target, wanted: Wish, rows: Rows) -> dict[RowKey, str]:
        """Make what is in the scope like the target, as far as it goes; the rows that failed."""
        failed: dict[RowKey, str] = {}
        for whole in scope.parts():
            part = whole
            while part:
                try:
                    self._kernel.carry_out(self._kernel.prepare(target, part))
                    break
                except (Unavailable, ChangeFailed) as failure:
                    subject = failure.name if isinstance(failure, Unavailable) else failure.subject
                    log.error(event("apply-failed", subject=subject, reason=failure))
                    target, rest = without(target, part, subject)
                    owners = self._owners(subject, part, rows, wanted)
                    lost = owners if rest else [*owners, *_rows_of(part, rows.intent)]
                    failed |= {row: str(failure) for row in lost if row not in failed}
                    part = rest
        return failed

    def _owners(
        self,
        subject: str,
        part: Scope,
        rows: Rows,
        wanted: Wish,
        changed: Collection[RowKey] = (),
    ) -> list[RowKey]:
        """The rows to blame for a subject, those that are changed first."""
        devices = {
            name: key
            for key, vif in shaped_vifs(rows.inventory).items()
            for name in (vif.device, vif.ifb)
            if name
        }
        found: Iterable[RowKey] = (
            rows_of_subject(wanted, subject, devices)
            or rows_of_subject(self._wish, subject, devices)
            or _rows_of(part, {**self._rows.intent, **rows.intent})
            or changed
        )
        tables = _tables(part)
        found = [row for row in found if row.table in tables] or found
        return sorted(found, key=lambda row: row not in changed)

    def _has_become(self, rows: Rows, target: Target, wanted: Wish) -> None:
        self._rows, self._target, self._wish = rows, target, wanted
        self._kernel.network.wish(lambda: guest_stacks(rows, target.network))
        self.look_at_deliveries()

    def look_at_deliveries(self) -> bool:
        """See how far guests have got that are slow to reach; whether anything has changed."""
        deliveries = self._kernel.network.deliveries()
        found: dict[RowKey, str] = {}
        for place, delivery in deliveries.items():
            for subject, reason in self._missing(place, delivery).items():
                for row in rows_of_subject(self._wish, subject):
                    found.setdefault(row, reason)
        before = self._undelivered, self._deliveries
        self._undelivered, self._deliveries = found, deliveries
        is_changed = before != (found, deliveries)
        self._revision += is_changed
        return is_changed

    def _missing(self, place: str, delivery: Delivery) -> Mapping[str, str]:
        """What a guest misses; found once for what is wanted and what it was last seen with."""
        wanted = self._target.network.stacks.get(place, _NOTHING)
        known = self._compared.get(place)
        if known is None or known[0] is not wanted or known[1] is not delivery:
            known = wanted, delivery, missing(place, wanted, delivery)
            self._compared[place] = known
        return known[2]

    def way(self, place: str) -> Way:
        """How a guest, by its UUID, gets its addresses and routes."""
        delivery = self._deliveries.get(place)
        return Way.KERNEL if delivery is None else delivery.way

    def look_at_network(self, guests: Collection[Guest]) -> Mapping[RowKey, bool]:
        """Compare the host's network and some guests; rows that began (True) or ceased to drift."""
        places = {guest.uuid for guest in guests}
        found = self._kernel.drifted_network(self._target, guests)
        return self._news(self._drift.network(found, places, self._wish))

    def look_at_rules(self) -> Mapping[RowKey, bool]:
        """Compare the packet filter; rows that began (True) or ceased to drift."""
        found = self._kernel.drifted_rules(self._target)
        return self._news(self._drift.rules(found, self._rows.intent))

    def look_at_queues(self, devices: Collection[str] | Everything) -> Mapping[RowKey, bool]:
        """Compare the interfaces of these devices; rows that began (True) or ceased to drift."""
        keys = {
            vif: key
            for key, vif in shaped_vifs(self._rows.inventory).items()
            if isinstance(devices, Everything) or {vif.device, vif.ifb} & {*devices}
        }
        found = self._kernel.drifted_vifs(self._target, keys)
        return self._news(self._drift.vifs(found, keys, keys, self._wish))

    def _news(self, changes: Mapping[RowKey, bool]) -> Mapping[RowKey, bool]:
        return {row: began for row, began in changes.items() if row not in self._failed}

    def why(self, row: RowKey) -> str:
        """The difference that makes a row drift, or ""."""
        return self._drift.of(row) or ""


def _configured(intent: Intent) -> Iterable[RowKey]:
    return (RowKey(table, key) for table, found in intent.items() for key in found)


def _tables(part: Scope) -> Collection[str]:
    """The tables that one part of the kernel is compiled from."""
    if part.rules:
        return RULES_TABLES
    if part.vifs:
        return SHAPING_TABLES
    return NETWORK_TABLES if part.network else ()


def _rows_of(part: Scope, intent: Intent) -> list[RowKey]:
    tables = _tables(part)
    return [row for row in _configured(intent) if row.table in tables]


def _problem(found: Obstruction) -> Problem:
    status = ErrorStatus.resourceUnavailable if found.unavailable else ErrorStatus.inconsistentValue
    return Problem(found.row.table, found.row.key, ROW_STATUS, status, found.message)


def _laid_to(owners: Iterable[RowKey], status: ErrorStatus, message: str) -> list[Problem]:
    return [Problem(row.table, row.key, ROW_STATUS, status, message) for row in owners][:1]
