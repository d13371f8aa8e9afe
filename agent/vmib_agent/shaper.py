"""Shaping in the kernel: read what is there, carry out steps, count, notice strangers' changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vmib_agent import links, probe, tc, tcrequests
from vmib_agent.classifier import Network
from vmib_agent.netlink import Refused, Request, Rtnetlink
from vmib_agent.operational import Operational, link_operational, shape_operational
from vmib_agent.ports import ApplyError
from vmib_agent.qdiscs import EMPTY, Rule, Tree
from vmib_agent.shapingreader import ALL, Everything, Reader, judge, tree_of
from vmib_agent.shapingstate import ShapedVif, State
from vmib_agent.steps import IfbStep, IngressStep, RedirectStep, Step, TcStep, Verb

__all__ = ["ALL", "Everything", "Shaper", "VifStatistics"]


@dataclass(frozen=True, slots=True)
class VifStatistics:
    """Counters and values of one interface, per direction; links by destination."""

    to_vm: Operational
    from_vm: Operational
    to_vm_links: Mapping[Network, Operational]
    from_vm_links: Mapping[Network, Operational]


class _ImpossibleError(Exception):
    """A step that cannot even be asked for; the text says why."""


def _index(devices: Mapping[str, links.Device], name: str) -> int:
    if name not in devices:
        raise _ImpossibleError(f"there is no device {name}")
    return devices[name].index


def _own_index(devices: Mapping[str, links.Device], name: str) -> int:
    index = _index(devices, name)
    if not devices[name].is_ours:
        raise _ImpossibleError(f"the device {name} is not vMIB's")
    return index


def _joint_removals(
    operations: Sequence[Step], start: int, end: int, devices: Mapping[str, links.Device]
) -> dict[int, list[Request]]:
    """Requests that remove several ifbs at once, by step; none where that is not safe.

    Every step moves its ifb to a group of its own, the last removes the group: not if anything is
    in that group already, and not if one of the ifbs is not ours.
    """
    removed: dict[int, str] = {}
    for index in range(start, end):
        step = operations[index]
        if isinstance(step, IfbStep) and step.verb is Verb.DELETE:
            removed[index] = step.ifb
    is_free = all(device.group != links.LEAVING_GROUP for device in devices.values())
    are_ours = all(name in devices and devices[name].is_ours for name in removed.values())
    if len(removed) < 2 or not (is_free and are_ours):
        return {}
    requests = {index: [links.leave(devices[name].index)] for index, name in removed.items()}
    requests[max(requests)].append(links.remove_leaving())
    return requests


class Shaper:
    """The shaping of one network namespace; a `Section` of the agent's host.

    With `copying` what comes from machines is copied before it waits. A paravirtual guest of Xen
    lends its pages to the host until a frame has left: its sockets would take what waits here for
    unsent, never lose anything, and send less than the rate (TCP small queues).
    """

    def __init__(self, namespace: Path | None = None, copying: bool = False) -> None:
        self._copying = copying
        self._netlink = Rtnetlink(namespace)
        self._reader = Reader(self._netlink)

    def __enter__(self) -> Shaper:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._netlink.close()

    def fileno(self) -> int:
        """Readable when `poll_foreign_changes` has something to look at."""
        return self._netlink.fileno()

    def poll_foreign_changes(self) -> set[str] | Everything:
        """The devices on which others changed something since the last call; `ALL` if unknown.

        An ifb of ours counts as a device of its own.
        """
        return self._reader.changes()

    def read(self, vifs: Iterable[ShapedVif]) -> State:
        """What is there now. A device that does not exist is in the state, as not present.

        Nothing is read twice as long as no event says that it changed, see
        `vmib_agent.shapingreader.Reader`. Raises `Unavailable` if the kernel cannot be read.
        """
        wanted = tuple(vifs)
        devices, readings = self._reader.readings(wanted)
        return {vif: judge(vif, devices, readings, self._copying) for vif in wanted}

    def apply(self, operations: Sequence[Step]) -> None:
        """Carry out the steps in order, those on tc in as few system calls as possible.

        Raises `ApplyError` at the first refusal. Steps after it that went to the kernel in the
        same buffer have been tried too; read again before planning on.
        """
        start = 0
        while start < len(operations):
            end = start + 1
            makes = isinstance(operations[start], IfbStep)
            while end < len(operations) and isinstance(operations[end], IfbStep) is makes:
                end += 1
            self._apply_some(operations, start, end)
            start = end

    def _apply_some(self, operations: Sequence[Step], start: int, end: int) -> None:
        devices = self._reader.devices()
        roots = self._roots(operations[start:end], devices)
        requests: list[Request] = []
        owners: list[int] = []
        impossible = ""
        removals = _joint_removals(operations, start, end, devices)
        for index in range(start, end):
            try:
                new = self._requests(operations[index], devices, roots)
            except _ImpossibleError as error:
                impossible = str(error)
                break
            if index in removals:
                new = removals[index]
            requests += new
            owners += [index] * len(new)
        try:
            self._netlink.transact(requests)
        except Refused as refused:
            refused_step = owners[refused.index]
            text = operations[refused_step].describe()
            raise ApplyError(refused_step, text, str(refused)) from refused
        if impossible:
            raise ApplyError(index, operations[index].describe(), impossible)

    def _requests(
        self,
        step: Step,
        devices: Mapping[str, links.Device],
        roots: Mapping[str, tcrequests.Roots],
    ) -> list[Request]:
        match step:
            case IfbStep(device, verb, ifb):
                if verb is Verb.ADD:
                    return links.make_ifb(ifb, device)
                index = _own_index(devices, ifb)
                change = verb is Verb.CHANGE
                return [links.set_up(index) if change else links.remove_device(index)]
            case TcStep(device):
                index = _index(devices, device)
                return [tcrequests.tc_request(step, index, roots.get(device, {}))]
            case IngressStep(device):
                return [tcrequests.ingress_request(step, _index(devices, device))]
            case RedirectStep(device, verb, ifb):
                target = _own_index(devices, ifb) if verb is not Verb.DELETE else 0
                index = _index(devices, device)
                return [tcrequests.redirect_request(step, index, target, self._copying)]

    def _roots(
        self, steps: Iterable[Step], devices: Mapping[str, links.Device]
    ) -> dict[str, dict[int, int]]:
        """The root tables of the devices on which rules are deleted from them."""
        wanted = {
            (step.device, step.parent)
            for step in steps
            if isinstance(step, TcStep)
            and step.verb is Verb.DELETE
            and isinstance(step.item, Rule)
            and not step.item.table
            and step.device in devices
        }
        roots: dict[str, dict[int, int]] = {}
        for name, htb in wanted:
            header = tc.Tcmsg(devices[name].index, 0, htb)
            with suppress(Refused):
                roots[name] = {
                    found.item.protocol: found.header.handle >> 20
                    for found in self._reader.dump(tc.RTM_GETTFILTER, header)
                    if isinstance(found.item, Rule) and not found.item.table
                }
        return roots

    def statistics(self, vifs: Iterable[ShapedVif]) -> dict[ShapedVif, VifStatistics]:
        """Counters and values of the interfaces that exist, as of now."""
        wanted = tuple(vifs)
        devices, readings = self._reader.readings(wanted, fresh=True)
        names = {name for vif in wanted for name in (vif.device, vif.ifb)} & devices.keys()
        found = {name: readings[devices[name].index] for name in names}
        trees = {name: (tree_of(reading), reading.counters()) for name, reading in found.items()}
        nothing: tuple[Tree, dict[int, tc.Counters]] = (EMPTY, {})
        statistics: dict[ShapedVif, VifStatistics] = {}
        for vif in wanted:
            if vif.device in names:
                to_vm, from_vm = trees[vif.device], trees.get(vif.ifb, nothing)
                statistics[vif] = VifStatistics(
                    shape_operational(*to_vm),
                    shape_operational(*from_vm),
                    link_operational(*to_vm),
                    link_operational(*from_vm),
                )
        return statistics

    def capabilities(self) -> Collection[str]:
        """The names among shapeToVm, shapeFromVm, links, ipv6 and netem that work here."""
        return probe.capabilities(Shaper)

    def clock_resolution_us(self) -> int:
        """The least time the packet scheduler can wait, in microseconds."""
        return probe.clock_resolution_us()
