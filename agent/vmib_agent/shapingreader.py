"""What of traffic control is on the devices, read once and kept right by the kernel's events."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from vmib.errors import Unavailable
from vmib_agent import links, tc, tcrequests
from vmib_agent.netlink import Overrun, Refused, Rtnetlink
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
from vmib_agent.shapingstate import Obstacle, Owner, ShapedVif, VifState

_LINK_EVENTS = {links.RTM_NEWLINK, links.RTM_DELLINK}
_TC_EVENTS = {
    tc.RTM_NEWQDISC,
    tc.RTM_DELQDISC,
    tc.RTM_NEWTCLASS,
    tc.RTM_DELTCLASS,
    tc.RTM_NEWTFILTER,
    tc.RTM_DELTFILTER,
}
_TRIES = 5


class Everything(Enum):
    """Stands for all devices."""

    ALL = "all"


ALL = Everything.ALL


@dataclass(slots=True)
class Reading:
    """All that was read of a device; `redirects` are the devices our ingress filter leads to, and
    whether what goes there are copies."""

    qdiscs: list[tc.Found] = field(default_factory=list)
    classes: list[tc.Found] = field(default_factory=list)
    filters: list[tc.Found] = field(default_factory=list)
    redirects: list[tuple[int, bool]] = field(default_factory=list)

    def counters(self) -> dict[int, tc.Counters]:
        """Counters of qdiscs and classes by handle."""
        return {found.header.handle: found.counters for found in self.qdiscs + self.classes}


def _is_hook(found: tc.Found) -> bool:
    return found.header.parent == INGRESS_PARENT


def _is_noqueue(found: tc.Found) -> bool:
    """Whether it says that there is no queue, as libvirt does of every tap device it makes."""
    return found.kind == "noqueue" and found.header.parent == ROOT


def _obstacles(device: str, reading: Reading) -> tuple[Obstacle, ...]:
    """Foreign qdiscs at the root or below ours; those without a handle are the kernel's own."""
    found: list[Obstacle] = []
    has_stage = any(is_stage(item.header.handle) for item in reading.qdiscs)
    for item in reading.qdiscs:
        handle, parent = item.header.handle, item.header.parent
        is_own = is_stage(handle) or (is_leaf(handle) and has_stage)
        if not handle or _is_hook(item) or is_own or _is_noqueue(item):
            continue
        place = "root" if parent == ROOT else f"parent {handle_text(parent)}"
        what = f"qdisc {item.kind} {handle_text(handle)} on {device} {place}"
        found.append(Obstacle(device, what, f"tc qdisc del dev {device} {place}"))
    return tuple(found)


def tree_of(reading: Reading) -> Tree:
    """What is ours below the root of a device."""
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


def _htb_of(reading: Reading) -> int:
    """The handle of our HTB, or 0."""
    handles = (
        found.header.handle
        for found in reading.qdiscs
        if isinstance(found.item, Qdisc)
        and isinstance(found.item.options, Htb)
        and is_stage(found.header.handle)
    )
    return next(handles, 0)


@dataclass(frozen=True, slots=True)
class _Hook:
    """A device's ingress hook: whose it is, what is in the way, the parent of filters in it."""

    owner: Owner = Owner.NOBODY
    obstacles: tuple[Obstacle, ...] = ()
    parent: int = 0


def _hook(device: str, reading: Reading) -> _Hook:
    found = next((item for item in reading.qdiscs if _is_hook(item)), None)
    if found is None or not isinstance(found.item, Qdisc):
        return _Hook()
    options = found.item.options
    block = options.block if isinstance(options, Ingress) else 0
    if block in tcrequests.OWN_BLOCKS:
        return _Hook(Owner.VMIB, parent=block)
    if not block:
        return _Hook(Owner.FOREIGN, parent=INGRESS_FILTERS)
    what = f"the ingress qdisc on {device} with the shared filter block {block}"
    obstacle = Obstacle(device, what, f"tc qdisc del dev {device} ingress")
    return _Hook(Owner.FOREIGN, (obstacle,))


def judge(
    vif: ShapedVif,
    devices: Mapping[str, links.Device],
    readings: Mapping[int, Reading],
    copying: bool,
) -> VifState:
    """What the readings of its devices mean for an interface whose frames are copied, or not."""
    device, ifb = devices.get(vif.device), devices.get(vif.ifb)
    ifb_reading = readings[ifb.index] if ifb is not None else Reading()
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
    hook = _hook(vif.device, reading)
    is_redirected = ifb is not None and reading.redirects == [(ifb.index, copying)]
    return VifState(
        to_vm=tree_of(reading),
        from_vm=tree_of(ifb_reading) if ifb_owner is Owner.VMIB else EMPTY,
        mtu=device.mtu,
        is_noqueue=any(found.header.handle and _is_noqueue(found) for found in reading.qdiscs),
        hook=hook.owner,
        is_redirected=is_redirected,
        is_misdirected=bool(reading.redirects) and not is_redirected,
        ifb=ifb_owner,
        ifb_is_down=ifb is not None and not ifb.is_up,
        to_vm_obstacles=_obstacles(vif.device, reading),
        from_vm_obstacles=from_vm_obstacles,
        hook_obstacles=hook.obstacles,
    )


class Reader:
    """Readings of devices, kept until an event says that something changed.

    That is right because the kernel announces every change of a device, qdisc, class or filter,
    whoever makes it, before it answers; a reading is only handed out after all events that have
    come were looked at, and lost events end the life of every reading.
    """

    def __init__(self, netlink: Rtnetlink) -> None:
        self._netlink = netlink
        self._devices: dict[str, links.Device] | None = None
        self._names: dict[int, str] = {}
        self._readings: dict[int, Reading] = {}
        self._changed: set[str] | Everything = set()

    def changes(self) -> set[str] | Everything:
        """The devices others changed since the last call."""
        self._hear()
        changed, self._changed = self._changed, set()
        return changed

    def _hear(self) -> None:
        try:
            events = self._netlink.events()
        except Overrun:
            self._forget()
            self._changed = ALL
            return
        for event in events:
            if event.kind in _LINK_EVENTS:
                name = self._link_event(event.kind, event.body)
            elif event.kind in _TC_EVENTS:
                name = self._tc_event(event.body)
            else:
                continue
            foreign = event.port != self._netlink.port
            if foreign and name and not isinstance(self._changed, Everything):
                self._changed.add(name)

    def _forget(self) -> None:
        self._devices = None
        self._readings.clear()

    def _link_event(self, kind: int, body: bytes) -> str:
        """The name of a device that came, went or changed; "" for changes that do not matter."""
        device = links.decode_device(body)
        if device is None:
            return ""
        is_there = kind == links.RTM_NEWLINK
        if self._devices is not None:
            known = self._devices.get(device.name)
            if is_there and known == device:
                return ""
            self._devices.pop(self._names.get(device.index, ""), None)
            if is_there:
                self._devices[device.name] = device
        self._readings.pop(device.index, None)
        self._names[device.index] = device.name
        return device.name

    def _tc_event(self, body: bytes) -> str:
        header = tc.decode_header(body)
        index = header.device
        if index == tc.BLOCK_DEVICE_INDEX and header.parent in tcrequests.OWN_BLOCKS:
            index = tcrequests.OWN_BLOCKS.index(header.parent)
        self._readings.pop(index, None)
        return self._names.get(index, "")

    def devices(self) -> dict[str, links.Device]:
        """All devices by name, as they are now. Raises `Unavailable` if they cannot be read."""
        self._hear()
        if self._devices is None:
            try:
                found = self._netlink.dump(links.RTM_GETLINK, links.list_devices())
            except Refused as refused:
                raise Unavailable("devices", f"cannot be read: {refused}") from refused
            decoded = (links.decode_device(message.body) for message in found)
            self._devices = {device.name: device for device in decoded if device is not None}
            self._names = {device.index: name for name, device in self._devices.items()}
        return self._devices

    def dump(self, request: int, header: tc.Tcmsg) -> Iterator[tc.Found]:
        """Decoded messages of a dump. Raises `Refused`."""
        for message in self._netlink.dump(request, header.pack()):
            yield tc.decode(message.kind, message.body)

    def _read(self, indexes: Collection[int]) -> dict[int, Reading]:
        readings = {index: Reading() for index in indexes}
        for message in self._netlink.dump(tc.RTM_GETQDISC, tc.Tcmsg(0, 0, 0).pack()):
            if reading := readings.get(tc.decode_header(message.body).device):
                reading.qdiscs.append(tc.decode(message.kind, message.body))
        for index, reading in readings.items():
            if htb := _htb_of(reading):
                reading.classes += (
                    found
                    for found in self.dump(tc.RTM_GETTCLASS, tc.Tcmsg(index, 0, 0))
                    if found.header.handle & 0xFFFF_0000 == htb
                )
                reading.filters += self.dump(tc.RTM_GETTFILTER, tc.Tcmsg(index, 0, htb))
            if parent := _hook("", reading).parent:
                reading.redirects += self._redirects(index, parent)
        return readings

    def _redirects(self, index: int, parent: int) -> Iterator[tuple[int, bool]]:
        device = tc.BLOCK_DEVICE_INDEX if parent in tcrequests.OWN_BLOCKS else index
        for found in self.dump(tc.RTM_GETTFILTER, tc.Tcmsg(device, 0, parent)):
            is_ours = found.header.info >> 16 == tcrequests.REDIRECT_PREFERENCE
            if is_ours and isinstance(found.item, Rule):
                yield found.item.redirect, found.item.copying

    def readings(
        self, vifs: Iterable[ShapedVif], *, fresh: bool = False
    ) -> tuple[dict[str, links.Device], dict[int, Reading]]:
        """All devices, and what is on those that belong to the interfaces.

        `fresh` readings have today's counters. A device that goes away between two dumps makes
        the second fail; then all is read again. Raises `Unavailable` if that does not help.
        """
        names = {name for vif in vifs for name in (vif.device, vif.ifb)}
        for _ in range(_TRIES):
            devices = self.devices()
            indexes = {devices[name].index for name in names & devices.keys()}
            missing = indexes if fresh else indexes - self._readings.keys()
            try:
                if missing:
                    self._readings |= self._read(missing)
            except Refused as refused:
                reason = str(refused)
                continue
            return devices, self._readings
        raise Unavailable("qdiscs", f"cannot be read: {reason}")
