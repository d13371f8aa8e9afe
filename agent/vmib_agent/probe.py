"""What this kernel can do, found by doing it where nobody is disturbed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from ipaddress import ip_network
from math import ceil
from pathlib import Path
from typing import Protocol

from vmib.impairment import Impairment
from vmib_agent.classifier import Network
from vmib_agent.netlink import Refused, in_new_namespace
from vmib_agent.ports import ApplyError
from vmib_agent.shaping import compile_tree
from vmib_agent.shapingstate import ShapedVif, State, VifState, diff
from vmib_agent.steps import IfbStep, Step, Verb

_PSCHED = Path("/proc/net/psched")
_MTU = 1500

_RATE = Impairment(rate=1000)
_ANY4: Mapping[Network, Impairment] = {ip_network("192.0.2.0/24"): _RATE}
_ANY6: Mapping[Network, Impairment] = {ip_network("2001:db8::/32"): _RATE}
_TRIALS: dict[str, VifState] = {
    "shapeToVm": VifState(to_vm=compile_tree(_RATE, {}, _MTU)),
    "shapeFromVm": VifState(from_vm=compile_tree(_RATE, {}, _MTU)),
    "links": VifState(to_vm=compile_tree(_RATE, _ANY4, _MTU)),
    "ipv6": VifState(to_vm=compile_tree(_RATE, _ANY6, _MTU)),
    "netem": VifState(to_vm=compile_tree(Impairment(delay=1000), {}, _MTU)),
}


class Tried(Protocol):
    """The part of a shaper that is tried."""

    def read(self, vifs: Iterable[ShapedVif]) -> State: ...

    def apply(self, operations: Sequence[Step]) -> None: ...


Opener = Callable[[], AbstractContextManager[Tried]]


def _works(shaper: Tried, vif: ShapedVif, wanted: VifState) -> bool:
    """Whether the kernel takes the state and then shows it."""
    try:
        shaper.apply(diff({vif: wanted}, shaper.read([vif])))
        there = shaper.read([vif])[vif]
        return (there.to_vm, there.from_vm) == (wanted.to_vm, wanted.from_vm)
    except (ApplyError, Refused):
        return False
    finally:
        with suppress(ApplyError, Refused):
            shaper.apply(diff({}, shaper.read([vif])))


def _try_all(shaper: Tried, vif: ShapedVif) -> frozenset[str]:
    return frozenset(name for name, wanted in _TRIALS.items() if _works(shaper, vif, wanted))


def _on_loopback(opener: Opener) -> frozenset[str]:
    with opener() as shaper:
        return _try_all(shaper, ShapedVif("lo", "vmib-probe1"))


def _on_own_device(opener: Opener) -> frozenset[str]:
    """The trials on an ifb made for them, of which nobody else knows."""
    vif, owner = ShapedVif("vmib-probe0", "vmib-probe1"), ShapedVif("vmib-probe", "vmib-probe0")
    with opener() as shaper:
        try:
            shaper.apply([IfbStep(owner.device, Verb.ADD, owner.ifb)])
        except ApplyError:
            return frozenset()
        try:
            return _try_all(shaper, vif)
        finally:
            shaper.apply([IfbStep(owner.device, Verb.DELETE, owner.ifb)])


def capabilities(opener: Opener) -> frozenset[str]:
    """The names among shapeToVm, shapeFromVm, links, ipv6 and netem that work on this kernel.

    `opener` opens a shaper of the namespace it is called in. Tried in a network namespace of their
    own, or, where none may be made (that takes CAP_SYS_ADMIN), on a device of their own.
    """
    found = in_new_namespace(lambda: _on_loopback(opener))
    return found if found is not None else _on_own_device(opener)


def clock_resolution_us() -> int:
    """The least time the packet scheduler can wait, in microseconds, rounded up.

    The fourth number of /proc/net/psched is the timer's resolution in events per second.
    """
    per_second = int(_PSCHED.read_text().split()[3], 16)
    return ceil(1_000_000 / per_second)
