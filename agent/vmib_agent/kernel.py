"""The host's kernel as one thing: queues, network and packet filter, changed together.

A change is planned for what differs between two targets and for what has drifted, and nothing
else is read or touched. When a step is refused, the way back is the difference to what was read
before the first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from vmib.errors import Unavailable

from . import network_plan, shapingstate
from .firewall import Firewall
from .firewall import diff as firewall_diff
from .iptables import Owner
from .network_kernel import HostNetwork
from .ports import ApplyError, Guest, Operation
from .scope import Scope, Target
from .shaper import Shaper
from .shapingstate import ShapedVif, VifState


class ChangeFailed(Exception):
    """A step that the kernel refused; `undone` tells whether the host is as before."""

    def __init__(self, subject: str, reason: str, undone: bool) -> None:
        super().__init__(reason)
        self.subject = subject
        self.reason = reason
        self.undone = undone


@dataclass(frozen=True, slots=True)
class Work:
    """One section's part of a change: its operations, how to apply them and how to go back."""

    operations: Sequence[Any]
    apply: Callable[[Any], None]
    way_back: Callable[[], Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """A planned change; good as long as nothing else changes the host."""

    works: tuple[Work, ...]

    @property
    def operations(self) -> list[Operation]:
        """All steps, in order."""
        return [step for work in self.works for step in work.operations]


class HostKernel:
    """The three adapters together."""

    def __init__(self, shaper: Shaper, host_network: HostNetwork, firewall: Firewall) -> None:
        self.shaper = shaper
        self.network = host_network
        self.firewall = firewall

    def capabilities(self) -> frozenset[str]:
        """Names of vmibHostCapabilities bits, found by trying."""
        parts = (self.shaper, self.network, self.firewall)
        return frozenset(name for part in parts for name in part.capabilities())

    def prepare(self, target: Target, scope: Scope) -> Change:
        """Read the scope and plan the change; raises `Unavailable` for what the host cannot do."""
        works = []
        if scope.rules:
            works.append(self._rules_work(target))
        if scope.vifs:
            works.append(self._shaping_work(target, scope.vifs))
        if scope.network:
            works.append(self._network_work(target, scope.guests))
        return Change(tuple(work for work in works if work.operations))

    def carry_out(self, change: Change) -> None:
        """Take the steps of a change; raises `ChangeFailed`, after undoing what had been done."""
        for position, work in enumerate(change.works):
            try:
                work.apply(work.operations)
            except ApplyError as error:
                subject = work.operations[error.index].subject
                undone = self._undo(change.works[: position + 1])
                raise ChangeFailed(subject, str(error), undone) from error

    def _undo(self, works: Sequence[Work]) -> bool:
        for work in reversed(works):
            try:
                work.apply(work.way_back())
            except (ApplyError, Unavailable):
                return False
        return True

    def _rules_work(self, target: Target) -> Work:
        before = self.firewall.read()
        return Work(
            firewall_diff(target.rules, before),
            self.firewall.apply,
            lambda: firewall_diff(before, self.firewall.read()),
        )

    def _shaping_work(self, target: Target, vifs: tuple[ShapedVif, ...]) -> Work:
        before = self.shaper.read(vifs)
        wanted = {vif: target.shaping.get(vif, VifState()) for vif in vifs}
        return Work(
            shapingstate.diff(wanted, before),
            self.shaper.apply,
            lambda: shapingstate.diff(before, self.shaper.read(vifs)),
        )

    def _network_work(self, target: Target, guests: tuple[Guest, ...]) -> Work:
        before = self.network.read(guests)
        return Work(
            network_plan.diff(target.network, before),
            self.network.apply,
            lambda: network_plan.diff(before, self.network.read(guests)),
        )

    def drifted_vifs(
        self, target: Target, vifs: Iterable[ShapedVif]
    ) -> dict[tuple[ShapedVif, str], str]:
        """What differs from the target: (interface, "toVm" or "fromVm") -> the first difference."""
        wanted_vifs = tuple(vifs)
        actual = self.shaper.read(wanted_vifs)
        found: dict[tuple[ShapedVif, str], str] = {}
        for vif in wanted_vifs:
            wanted, there = target.shaping.get(vif, VifState()), actual[vif]
            if not there.is_present:
                continue
            halves = {
                "toVm": (VifState(to_vm=wanted.to_vm, from_vm=there.from_vm), there),
                "fromVm": (VifState(to_vm=there.to_vm, from_vm=wanted.from_vm), there),
            }
            if there.to_vm_obstacles:
                found[vif, "toVm"] = f"{there.to_vm_obstacles[0].what} is not vMIB's"
                del halves["toVm"]
            for direction, (half, now) in halves.items():
                difference = _first_difference(vif, half, now)
                if difference:
                    found[vif, direction] = difference
        return found

    def drifted_network(self, target: Target, guests: Iterable[Guest]) -> dict[str, str]:
        """What differs from the target: the subject of a step -> the first difference."""
        actual = self.network.read(tuple(guests))
        try:
            steps = network_plan.diff(target.network, actual)
        except Unavailable as refusal:
            return {refusal.name: refusal.reason}
        found: dict[str, str] = {}
        for step in steps:
            found.setdefault(step.subject, f"missing: {step.describe()}")
        return found

    def drifted_rules(self, target: Target) -> dict[Owner | None, str]:
        """What differs from the target: the owner of a rule, or None -> the first difference."""
        try:
            steps = firewall_diff(target.rules, self.firewall.read())
        except Unavailable as refusal:
            return {None: str(refusal)}
        found: dict[Owner | None, str] = {}
        for step in steps:
            found.setdefault(step.owner, f"missing: {step.describe()}")
        return found


def _first_difference(vif: ShapedVif, wanted: VifState, actual: VifState) -> str:
    try:
        steps = shapingstate.diff({vif: wanted}, {vif: actual})
    except Unavailable as refusal:
        return str(refusal)
    return f"missing: {steps[0].describe()}" if steps else ""
