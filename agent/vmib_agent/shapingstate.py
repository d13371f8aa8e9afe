"""What shaping is there, or ought to be, per interface, and the steps from one to the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from vmib.errors import Unavailable
from vmib_agent.qdiscs import EMPTY, ROOT, Qdisc, Tree
from vmib_agent.steps import IfbStep, IngressStep, RedirectStep, Step, TcStep, Verb
from vmib_agent.treediff import diff_trees


@dataclass(frozen=True, slots=True, order=True)
class ShapedVif:
    """A host end of an interface, and the name its ifb has or would have."""

    device: str
    ifb: str


class Owner(Enum):
    """Whose a thing is."""

    NOBODY = "nobody"
    VMIB = "vmib"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A qdisc that is not vMIB's, where one of vMIB's would stand."""

    device: str
    what: str
    removal: str

    def refusal(self) -> Unavailable:
        """The error that names it and the command that removes it."""
        reason = f"{self.what} is not vMIB's and in the way; remove it with: {self.removal}"
        return Unavailable(self.device, reason)


@dataclass(frozen=True, slots=True)
class VifState:
    """The shaping of one interface.

    `to_vm` stands at the root of the device, `from_vm` at that of the ifb. `hook` is the owner of
    the device's ingress qdisc; our filter in it, or in a foreign one, sends everything to the ifb,
    or, misdirected, to another device or none, as happens when somebody removes the ifb. An ifb
    that is down drops what comes. A device that `is_noqueue` was told by somebody to have no
    queue: nothing is lost where one of vMIB's takes that place.
    """

    to_vm: Tree = EMPTY
    from_vm: Tree = EMPTY
    is_present: bool = True
    mtu: int = 0
    is_noqueue: bool = False
    hook: Owner = Owner.NOBODY
    is_redirected: bool = False
    is_misdirected: bool = False
    ifb: Owner = Owner.NOBODY
    ifb_is_down: bool = False
    to_vm_obstacles: tuple[Obstacle, ...] = ()
    from_vm_obstacles: tuple[Obstacle, ...] = ()
    hook_obstacles: tuple[Obstacle, ...] = ()

    @property
    def has_ours(self) -> bool:
        """Whether anything of vMIB is there."""
        filters = self.is_redirected or self.is_misdirected
        return bool(self.to_vm or filters) or Owner.VMIB in (self.ifb, self.hook)


State = Mapping[ShapedVif, VifState]


def _refuse(obstacles: tuple[Obstacle, ...]) -> None:
    if obstacles:
        raise obstacles[0].refusal()


def _to_vm(vif: ShapedVif, wanted: VifState, actual: VifState) -> Iterator[TcStep]:
    if wanted.to_vm or actual.to_vm:
        _refuse(actual.to_vm_obstacles)
    for step in diff_trees(vif.device, wanted.to_vm, actual.to_vm):
        takes_root = isinstance(step.item, Qdisc) and step.item.parent == ROOT
        if actual.is_noqueue and takes_root and step.verb is Verb.ADD:
            yield replace(step, verb=Verb.REPLACE)
        else:
            yield step


class _Plan:
    """Steps by phase: devices are made first and removed last."""

    def __init__(self) -> None:
        self.makes: list[Step] = []
        self.changes: list[Step] = []
        self.removals: list[Step] = []

    def from_vm(self, vif: ShapedVif, wanted: VifState, actual: VifState) -> None:
        device, ifb = vif.device, vif.ifb
        if not wanted.from_vm:
            self._stop(vif, actual)
            return
        _refuse(actual.from_vm_obstacles + actual.hook_obstacles)
        if actual.ifb is Owner.NOBODY:
            self.makes.append(IfbStep(device, Verb.ADD, ifb))
        elif actual.ifb_is_down:
            self.makes.append(IfbStep(device, Verb.CHANGE, ifb))
        self.changes += diff_trees(ifb, wanted.from_vm, actual.from_vm)
        if actual.hook is Owner.NOBODY:
            self.changes.append(IngressStep(device, Verb.ADD))
        shared = actual.hook is Owner.FOREIGN
        if actual.is_misdirected:
            self.changes.append(RedirectStep(device, Verb.DELETE, ifb, shared))
        if not actual.is_redirected:
            self.changes.append(RedirectStep(device, Verb.ADD, ifb, shared))

    def _stop(self, vif: ShapedVif, actual: VifState) -> None:
        if actual.hook is Owner.VMIB:
            self.changes.append(IngressStep(vif.device, Verb.DELETE))
        elif actual.is_redirected or actual.is_misdirected:
            self.changes.append(RedirectStep(vif.device, Verb.DELETE, vif.ifb, shared=True))
        if actual.ifb is Owner.VMIB:
            self.removals.append(IfbStep(vif.device, Verb.DELETE, vif.ifb))


def diff(desired: State, actual: State) -> list[Step]:
    """The steps from `actual` to `desired`; of `desired` only the two trees count.

    Interfaces that only `actual` knows are cleared. An undo is the difference to what was read
    before. Raises `Unavailable` for an interface that does not exist and for a foreign qdisc in
    the way.
    """
    plan = _Plan()
    for vif in sorted(desired.keys() | actual.keys()):
        wanted = desired.get(vif, VifState())
        there = actual.get(vif, VifState(is_present=False))
        if not there.is_present and (wanted.to_vm or wanted.from_vm):
            raise Unavailable(vif.device, "there is no such device")
        plan.changes += _to_vm(vif, wanted, there)
        plan.from_vm(vif, wanted, there)
    return [*plan.makes, *plan.changes, *plan.removals]
