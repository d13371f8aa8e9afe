"""Shaping in the kernel: read what is there, carry out steps, count, notice strangers' changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType

from vmib.errors import Unavailable
from vmib_agent import links, probe, tc, tcrequests
from vmib_agent.classifier import Network
from vmib_agent.netlink import Overrun, Refused, Request, Rtnetlink
from vmib_agent.operational import Operational, link_operational, shape_operational
from vmib_agent.ports import ApplyError
from vmib_agent.qdiscs import (
    EMPTY,
    INGRESS_FILTERS,
    INGRESS_PARENT,
    ROOT,
    Htb,
    HtbClass,
    Ingress,
    Qdisc,
    Rule,
    Table,
    Tree,
    handle_text,
    is_leaf,
    is_stage,
    make_tree,
)
from vmib_agent.shapingstate import Obstacle, Owner, ShapedVif, State, VifState
from vmib_agent.steps import IfbStep, IngressStep, RedirectStep, Step, TcStep, Verb

_EVENTS = {
    links.RTM_NEWLINK,
    links.RTM_DELLINK,
    tc.RTM_NEWQDISC,
    tc.RTM_DELQDISC,
    tc.RTM_NEWTCLASS,
    tc.RTM_DELTCLASS,
    tc.RTM_NEWTFILTER,
    tc.RTM_DELTFILTER,
}


_READ_TRIES = 5


class Everything(Enum):
    """Stands for all devices."""

    ALL = "all"


ALL = Everything.ALL


@dataclass(frozen=True, slots=True)
class VifStatistics:
    """Counters and values of one interface, per direction; links by destination."""

    to_vm: Operational
    from_vm: Operational
    to_vm_links: Mapping[Network, Operational]
    from_vm_links: Mapping[Network, Operational]


@dataclass(slots=True)
class _Reading:
    """All that was read of a device, before it is judged."""

    qdiscs: list[tc.Found] = field(default_factory=list)
    classes: list[tc.Found] = field(default_factory=list)
    filters: list[tc.Found] = field(default_factory=list)

    def counters(self) -> dict[int, tc.Counters]:
        return {found.header.handle: found.counters for found in self.qdiscs + self.classes}


def _is_hook(found: tc.Found) -> bool:
    return found.header.parent == INGRESS_PARENT


def _obstacles(device: str, reading: _Reading) -> tuple[Obstacle, ...]:
    """Foreign qdiscs at the root or below ours; those without a handle are the kernel's own."""
    found: list[Obstacle] = []
    has_stage = any(is_stage(item.header.handle) for item in reading.qdiscs)
    for item in reading.qdiscs:
        handle, parent = item.header.handle, item.header.parent
        is_own = is_stage(handle) or (is_leaf(handle) and has_stage)
        if not handle or _is_hook(item) or is_own:
            continue
        place = "root" if parent == ROOT else f"parent {handle_text(parent)}"
        what = f"qdisc {item.kind} {handle_text(handle)} on {device} {place}"
        found.append(Obstacle(device, what, f"tc qdisc del dev {device} {place}"))
    return tuple(found)


def _tree(reading: _Reading) -> Tree:
    """What is ours below the root."""
    qdiscs = [
        found.item
        for found in reading.qdiscs
        if isinstance(found.item, Qdisc) and not _is_hook(found)
    ]
    own = [item for item in qdiscs if is_stage(item.handle)]
    if not own:
        return EMPTY
    filters = [found.item for found in reading.filters]
    return make_tree(
        own + [item for item in qdiscs if is_leaf(item.handle)],
        [found.item for found in reading.classes if isinstance(found.item, HtbClass)],
        [item for item in filters if isinstance(item, Table)],
        [item for item in filters if isinstance(item, Rule)],
    )


def _htb_of(reading: _Reading) -> int:
    """The handle of our HTB, or 0."""
    handles = (
        found.header.handle
        for found in reading.qdiscs
        if isinstance(found.item, Qdisc)
        and isinstance(found.item.options, Htb)
        and is_stage(found.header.handle)
    )
    return next(handles, 0)


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
    """The shaping of one network namespace; a `Section` of the agent's host."""

    def __init__(self, namespace: Path | None = None) -> None:
        self._netlink = Rtnetlink(namespace)
        self._devices: dict[str, links.Device] | None = None
        self._states: tuple[tuple[ShapedVif, ...], State] | None = None
        self._changed: set[str] | Everything = set()

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
        self._hear()
        changed, self._changed = self._changed, set()
        return changed

    def _hear(self) -> None:
        """Take in the events: what anybody changes ends the life of what was read before."""
        try:
            events = self._netlink.events()
        except Overrun:
            self._devices = self._states = None
            self._changed = ALL
            return
        events = [event for event in events if event.kind in _EVENTS]
        if not events:
            return
        self._states = None
        names = {device.index: name for name, device in (self._devices or {}).items()}
        for event in events:
            is_link = event.kind in (links.RTM_NEWLINK, links.RTM_DELLINK)
            if is_link:
                self._devices = None
                device = links.decode_device(event.body)
                names[device.index] = device.name
            if event.port == self._netlink.port or isinstance(self._changed, Everything):
                continue
            name = device.name if is_link else self._device_of(event.body, names)
            if name:
                self._changed.add(name)

    @staticmethod
    def _device_of(body: bytes, names: Mapping[int, str]) -> str:
        header = tc.decode_header(body)
        if header.device != tc.BLOCK_DEVICE_INDEX:
            return names.get(header.device, "")
        if header.parent not in tcrequests.OWN_BLOCKS:
            return ""
        return names.get(tcrequests.OWN_BLOCKS.index(header.parent), "")

    def _known_devices(self) -> dict[str, links.Device]:
        self._hear()
        if self._devices is None:
            found = self._netlink.dump(links.RTM_GETLINK, links.list_devices())
            devices = (links.decode_device(message.body) for message in found)
            self._devices = {device.name: device for device in devices}
        return self._devices

    def _dump(self, request: int, header: tc.Tcmsg) -> Iterator[tc.Found]:
        for message in self._netlink.dump(request, header.pack()):
            yield tc.decode(message.kind, message.body)

    def _readings(self, indexes: Collection[int]) -> dict[int, _Reading]:
        readings = {index: _Reading() for index in indexes}
        for found in self._dump(tc.RTM_GETQDISC, tc.Tcmsg(0, 0, 0)):
            if reading := readings.get(found.header.device):
                reading.qdiscs.append(found)
        for index, reading in readings.items():
            if htb := _htb_of(reading):
                reading.classes += (
                    found
                    for found in self._dump(tc.RTM_GETTCLASS, tc.Tcmsg(index, 0, 0))
                    if found.header.handle & 0xFFFF_0000 == htb
                )
                reading.filters += self._dump(tc.RTM_GETTFILTER, tc.Tcmsg(index, 0, htb))
        return readings

    def _readings_of(
        self, vifs: Iterable[ShapedVif]
    ) -> tuple[dict[str, links.Device], dict[int, _Reading]]:
        """The devices, and what is on those that belong to the interfaces.

        A device that goes away between two dumps makes the second fail; then all is read again.
        """
        names = {name for vif in vifs for name in (vif.device, vif.ifb)}
        for _ in range(_READ_TRIES):
            devices = self._known_devices()
            indexes = {device.index for name, device in devices.items() if name in names}
            try:
                return devices, self._readings(indexes)
            except Refused as refused:
                reason = str(refused)
        raise Unavailable("qdiscs", f"cannot be read: {reason}")

    def read(self, vifs: Iterable[ShapedVif]) -> State:
        """What is there now. A device that does not exist is in the state, as not present.

        Nothing is read twice as long as no event says that something changed: the kernel
        announces every change of a qdisc, class, filter or device, ours and others', before it
        answers who made it.
        """
        wanted = tuple(vifs)
        self._hear()
        if self._states is not None and self._states[0] == wanted:
            return self._states[1]
        devices, readings = self._readings_of(wanted)
        state = {vif: self._judge(vif, devices, readings) for vif in wanted}
        self._states = wanted, state
        return state

    def _judge(
        self,
        vif: ShapedVif,
        devices: Mapping[str, links.Device],
        readings: Mapping[int, _Reading],
    ) -> VifState:
        device, ifb = devices.get(vif.device), devices.get(vif.ifb)
        ifb_reading = readings[ifb.index] if ifb is not None else _Reading()
        ifb_owner = Owner.NOBODY
        from_vm_obstacles = _obstacles(vif.ifb, ifb_reading)
        if ifb is not None:
            ifb_owner = Owner.VMIB if ifb.is_ours else Owner.FOREIGN
            if not ifb.is_ours:
                what, removal = f"device {vif.ifb}", f"ip link del {vif.ifb}"
                from_vm_obstacles = (Obstacle(vif.device, what, removal),)
        if device is None:
            return VifState(is_present=False, ifb=ifb_owner)
        reading = readings[device.index]
        hook, hook_obstacles, parent = self._hook(vif.device, reading)
        is_redirected = bool(parent) and self._redirects(device.index, parent, ifb)
        return VifState(
            to_vm=_tree(reading),
            from_vm=_tree(ifb_reading) if ifb_owner is Owner.VMIB else EMPTY,
            mtu=device.mtu,
            hook=hook,
            is_redirected=is_redirected,
            ifb=ifb_owner,
            to_vm_obstacles=_obstacles(vif.device, reading),
            from_vm_obstacles=from_vm_obstacles,
            hook_obstacles=hook_obstacles,
        )

    @staticmethod
    def _hook(device: str, reading: _Reading) -> tuple[Owner, tuple[Obstacle, ...], int]:
        """Owner of the ingress hook, what is in the way, and the parent of filters in it."""
        found = next((item for item in reading.qdiscs if _is_hook(item)), None)
        if found is None or not isinstance(found.item, Qdisc):
            return Owner.NOBODY, (), 0
        options = found.item.options
        block = options.block if isinstance(options, Ingress) else 0
        if block in tcrequests.OWN_BLOCKS:
            return Owner.VMIB, (), block
        if not block:
            return Owner.FOREIGN, (), INGRESS_FILTERS
        what = f"the ingress qdisc on {device} with the shared filter block {block}"
        obstacle = Obstacle(device, what, f"tc qdisc del dev {device} ingress")
        return Owner.FOREIGN, (obstacle,), 0

    def _redirects(self, index: int, parent: int, ifb: links.Device | None) -> bool:
        """Whether our filter is in the hook, if there still is one, and leads to the ifb."""
        if ifb is None:
            return False
        in_block = parent in tcrequests.OWN_BLOCKS
        header = tc.Tcmsg(tc.BLOCK_DEVICE_INDEX if in_block else index, 0, parent)
        with suppress(Refused):
            return any(
                isinstance(found.item, Rule)
                and found.header.info >> 16 == tcrequests.REDIRECT_PREFERENCE
                and found.item.redirect == ifb.index
                for found in self._dump(tc.RTM_GETTFILTER, header)
            )
        return False

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
        devices = self._known_devices()
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
        finally:
            self._states = None
        if impossible:
            raise ApplyError(index, operations[index].describe(), impossible)

    @staticmethod
    def _requests(
        step: Step,
        devices: Mapping[str, links.Device],
        roots: Mapping[str, tcrequests.Roots],
    ) -> list[Request]:
        match step:
            case IfbStep(device, verb, ifb):
                if verb is Verb.ADD:
                    return links.make_ifb(ifb, device)
                return [links.remove_device(_own_index(devices, ifb))]
            case TcStep(device):
                index = _index(devices, device)
                return [tcrequests.tc_request(step, index, roots.get(device, {}))]
            case IngressStep(device):
                return [tcrequests.ingress_request(step, _index(devices, device))]
            case RedirectStep(device, verb, ifb):
                target = _own_index(devices, ifb) if verb is not Verb.DELETE else 0
                return [tcrequests.redirect_request(step, _index(devices, device), target)]

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
                    for found in self._dump(tc.RTM_GETTFILTER, header)
                    if isinstance(found.item, Rule) and not found.item.table
                }
        return roots

    def statistics(self, vifs: Iterable[ShapedVif]) -> dict[ShapedVif, VifStatistics]:
        """Counters and values of the interfaces that exist, as of now."""
        wanted = tuple(vifs)
        devices, readings = self._readings_of(wanted)
        trees = {
            name: (_tree(readings[device.index]), readings[device.index].counters())
            for name, device in devices.items()
            if device.index in readings
        }
        nothing: tuple[Tree, dict[int, tc.Counters]] = (EMPTY, {})
        found: dict[ShapedVif, VifStatistics] = {}
        for vif in wanted:
            if vif.device in trees:
                to_vm, from_vm = trees[vif.device], trees.get(vif.ifb, nothing)
                found[vif] = VifStatistics(
                    shape_operational(*to_vm),
                    shape_operational(*from_vm),
                    link_operational(*to_vm),
                    link_operational(*from_vm),
                )
        return found

    def capabilities(self) -> Collection[str]:
        """The names among shapeToVm, shapeFromVm, links, ipv6 and netem that work here."""
        return probe.capabilities(Shaper)

    def clock_resolution_us(self) -> int:
        """The least time the packet scheduler can wait, in microseconds."""
        return probe.clock_resolution_us()
