"""The network of this host and of its guests, read from the kernel and changed in it."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_interface, ip_network
from itertools import groupby
from typing import Protocol

from . import rtnetlink as rt
from .delivery import Delivery
from .netlink import Refused, Request, Rtnetlink, in_new_namespace
from .network import (
    HOST,
    LOOPBACK,
    MARK,
    Address,
    Bridge,
    Link,
    Port,
    Route,
    RouteKind,
    Stack,
    State,
    Vlan,
    parse_alias,
)
from .network_messages import DONE_ALREADY, requests
from .network_plan import (
    AddAddress,
    AddBridge,
    AddVlan,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    NetworkOperation,
    PutRoute,
)
from .network_reading import (
    ADDRESSES,
    LINKS,
    ROUTES,
    LinkFacts,
    addresses,
    link_facts,
    routes,
)
from .ports import ApplyError, Guest

_SIOCETHTOOL, _ETHTOOL_GSET = 0x8946, 1
_ARPHRD_ETHER = 1


class GuestNetwork(Protocol):
    """How addresses and routes get into guests; each hypervisor has its own way.

    A guest that is read has its part of a change at once, by `apply`. One that is slow to reach
    is never read: it is told by `wish`, and `deliveries` say how far it has got.
    """

    @property
    def takes_entering(self) -> bool:
        """Whether guests are reached in their namespaces, which takes CAP_SYS_ADMIN."""

    def read(self, guest: Guest) -> Stack | None:
        """What the guest has now, or None while it cannot be asked."""

    def apply(self, place: str, operations: Sequence[NetworkOperation]) -> None:
        """Carry out operations of one guest, `place` being its UUID; raises `ApplyError`."""

    def wish(self, stacks: Callable[[], Mapping[str, Stack]]) -> None:
        """What guests are to have from now on: called, it tells that by UUID."""

    def deliveries(self) -> Mapping[str, Delivery]:
        """How far the guests that are slow to reach have got, by UUID."""


@dataclass(frozen=True, slots=True)
class Pif:
    """A physical interface of the host; `speed_kbps` is 0 if unknown."""

    ifindex: int
    name: str
    speed_kbps: int
    mac: str
    mtu: int
    oper_up: bool


class HostNetwork:
    """The network section of the agent: this host through `kernel`, its guests through `guests`."""

    def __init__(self, kernel: Rtnetlink, guests: GuestNetwork) -> None:
        self._kernel = kernel
        self._guests = guests

    def capabilities(self) -> Collection[str]:
        """Names of vmibHostCapabilities bits, found by trying in a namespace made for it.

        Where none may be made (that takes CAP_SYS_ADMIN), guests' namespaces cannot be entered
        either, and the rest is found with devices made for it.
        """
        found = in_new_namespace(_try_everything)
        if found is not None:
            return found
        return _try_on_own_devices() - ({"addresses"} if self._guests.takes_entering else set())

    def read(self, guests: Iterable[Guest]) -> State:
        """The host's network, and that of those of the guests which can be asked."""
        facts = read_links(self._kernel)
        by_index = {link.index: link for link in facts}
        names: dict[int, Link] = {link.index: link.name for link in facts}
        stacks = {HOST: read_stack(self._kernel, names)}
        for guest in guests:
            stack = self._guests.read(guest)
            if stack is not None:
                stacks[guest.uuid] = stack
        bridges = {link.name: link for link in facts if link.kind == "bridge"}
        candidates = [link for link in facts if _may_be_port(link)]
        ports = {link.name: _port(link, by_index) for link in candidates}
        vlans = frozenset(
            Vlan(link.name, by_index[link.parent].name, link.vlan)
            for link in candidates
            if link.kind == "vlan" and link.alias.startswith(MARK) and link.parent in by_index
        )
        return State(
            bridges={name: _bridge(link, ports, vlans) for name, link in bridges.items()},
            ports=ports,
            vlans=vlans,
            stacks=stacks,
        )

    def apply(self, operations: Sequence[NetworkOperation]) -> None:
        """Carry out the operations in order; raises `ApplyError` at the first refusal."""
        done = 0
        for place, group in groupby(operations, key=lambda o: getattr(o, "place", HOST)):
            some = list(group)
            try:
                if place == HOST:
                    carry_out(self._kernel, some, _index_in(self._kernel))
                else:
                    self._guests.apply(place, some)
            except ApplyError as error:
                raise ApplyError(done + error.index, error.operation, error.reason) from error
            done += len(some)

    def wish(self, stacks: Callable[[], Mapping[str, Stack]]) -> None:
        """What guests are to have from now on, for those that are slow to reach."""
        self._guests.wish(stacks)

    def deliveries(self) -> Mapping[str, Delivery]:
        """How far the guests that are slow to reach have got, by UUID."""
        return self._guests.deliveries()

    def pifs(self, host_ends: Collection[str]) -> list[Pif]:
        """Interfaces that lead out of this host; `host_ends` are the devices of its guests."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            return [
                Pif(
                    link.index,
                    link.name,
                    _speed_kbps(asked, link.name),
                    link.mac,
                    link.mtu,
                    link.running,
                )
                for link in read_links(self._kernel)
                if _may_be_port(link)
                and link.name not in host_ends
                and not link.alias.startswith(f"{MARK} home=")
                and link.kind not in ("vlan", "tun")
            ]


def read_links(kernel: Rtnetlink) -> list[LinkFacts]:
    """All links of a namespace."""
    return [link_facts(message.body) for message in kernel.dump(rt.RTM_GETLINK, LINKS)]


def read_stack(kernel: Rtnetlink, links: dict[int, Link]) -> Stack:
    """Addresses and routes of a namespace, as far as they are of `links` (by ifIndex)."""
    return Stack(
        addresses(kernel.dump(rt.RTM_GETADDR, ADDRESSES), links),
        routes(kernel.dump(rt.RTM_GETROUTE, ROUTES), links),
    )


def carry_out(
    kernel: Rtnetlink, operations: Sequence[NetworkOperation], index: Callable[[Link], int]
) -> None:
    """Carry out the operations of one namespace; raises `ApplyError` at the first refusal.

    `index` gives a link's ifIndex now and raises KeyError when there is none. Addresses and routes
    that follow each other go to the kernel together: those after a refusal have been tried, too.
    """
    start = 0
    while start < len(operations):
        end = start + 1
        if isinstance(operations[start], _IN_A_ROW):
            while end < len(operations) and isinstance(operations[end], _IN_A_ROW):
                end += 1
            _carry_out_row(kernel, operations, range(start, end), index)
        else:
            _carry_out_one(kernel, operations, start, index)
        start = end


_IN_A_ROW = (AddAddress, DeleteAddress, PutRoute, DeleteRoute)
"""Operations that need no link which the one before them makes."""


def _carry_out_one(
    kernel: Rtnetlink,
    operations: Sequence[NetworkOperation],
    position: int,
    index: Callable[[Link], int],
) -> None:
    operation = operations[position]
    done_already = DONE_ALREADY.get(type(operation), frozenset[int]())
    try:
        for request in requests(operation, index):
            kernel.transact([request])
    except Refused as refused:
        if refused.errno not in done_already:
            raise ApplyError(position, operation.describe(), str(refused)) from refused
    except KeyError as missing:
        if errno.ENODEV not in done_already:
            raise _without_device(position, operation, missing) from missing


def _carry_out_row(
    kernel: Rtnetlink,
    operations: Sequence[NetworkOperation],
    positions: Iterable[int],
    index: Callable[[Link], int],
) -> None:
    found: dict[Request, int] = {}
    lacking: ApplyError | None = None
    for position in positions:
        operation = operations[position]
        done_already = DONE_ALREADY.get(type(operation), frozenset[int]())
        try:
            for request in requests(operation, index):
                found.setdefault(replace(request, tolerated=done_already), position)
        except KeyError as missing:
            if errno.ENODEV not in done_already:
                lacking = _without_device(position, operation, missing)
                break
    try:
        kernel.transact(list(found))
    except Refused as refused:
        position = list(found.values())[refused.index]
        text = operations[position].describe()
        raise ApplyError(position, text, str(refused)) from refused
    if lacking is not None:
        raise lacking


def _without_device(position: int, operation: NetworkOperation, missing: KeyError) -> ApplyError:
    reason = f"there is no device {missing.args[0]}"
    return ApplyError(position, operation.describe(), reason)


def _index_in(kernel: Rtnetlink) -> Callable[[Link], int]:
    known: dict[Link, int] = {}

    def index(link: Link) -> int:
        if link not in known:
            known.update((facts.name, facts.index) for facts in read_links(kernel))
        return known[link]

    return index


def _may_be_port(link: LinkFacts) -> bool:
    return link.hardware == _ARPHRD_ETHER and link.kind not in ("bridge", "ifb")


def _port(link: LinkFacts, by_index: dict[int, LinkFacts]) -> Port:
    home, alias, uplink = parse_alias(link.alias)
    master = by_index.get(link.master)
    bridge = master.name if master is not None and master.kind == "bridge" else ""
    return Port(link.name, bridge, link.mtu, link.up, link.isolated, home, alias, uplink)


def _bridge(link: LinkFacts, ports: dict[str, Port], vlans: frozenset[Vlan]) -> Bridge:
    uplink, tag = None, 0
    for port in ports.values():
        if port.bridge == link.name and port.uplink:
            uplink = port.device
    for vlan in vlans:
        if vlan.device == uplink:
            uplink, tag = vlan.parent, vlan.vlan
            break
    return Bridge(link.name, link.mtu, link.up, uplink, tag, link.alias == MARK)


def _speed_kbps(asked: socket.socket, name: str) -> int:
    """The speed that ethtool(8) tells, 0 if the driver knows none."""
    command = ctypes.create_string_buffer(struct.pack("=I", _ETHTOOL_GSET), 44)
    request = struct.pack("16sP16x", name.encode(), ctypes.addressof(command))
    try:
        fcntl.ioctl(asked, _SIOCETHTOOL, request)
    except OSError:
        return 0
    (low,) = struct.unpack_from("=H", command.raw, 12)
    (high,) = struct.unpack_from("=H", command.raw, 28)
    megabits = int(high << 16 | low)
    return 0 if megabits in (0xFFFF, 0xFFFF_FFFF) else megabits * 1000


_TRIAL_BRIDGE = "vmib-trial"
_TRIAL_VLAN = Vlan("vmib-trial.1", _TRIAL_BRIDGE, 1)
_TRIAL_ADDRESS = ip_interface("192.0.2.1/25")
_TRIAL_ADDRESS6 = ip_interface("2001:db8::1/64")


def _try_everything() -> frozenset[str]:
    """What works in a namespace where nobody else is."""
    route = Route(ip_network("192.0.2.128/25"), kind=RouteKind.BLACKHOLE)
    with Rtnetlink() as kernel:
        return _try(
            kernel,
            ("switches", AddBridge(_TRIAL_BRIDGE, 1500)),
            ("vlans", AddVlan(_TRIAL_VLAN)),
            ("addresses", AddAddress(HOST, Address(LOOPBACK, _TRIAL_ADDRESS))),
            ("routes", PutRoute(HOST, route)),
            ("ipv6", AddAddress(HOST, Address(LOOPBACK, _TRIAL_ADDRESS6))),
        )


def _try_on_own_devices() -> frozenset[str]:
    """What works on a bridge that is there for the trial alone.

    Routes are not tried where others have theirs: who may make a bridge may make a route.
    """
    with Rtnetlink() as kernel:
        bridges = _try(kernel, ("switches", AddBridge(_TRIAL_BRIDGE, 1500)))
        if not bridges:
            return bridges
        try:
            trials = (
                ("vlans", AddVlan(_TRIAL_VLAN)),
                ("addresses", AddAddress(HOST, Address(_TRIAL_BRIDGE, _TRIAL_ADDRESS))),
                ("ipv6", AddAddress(HOST, Address(_TRIAL_BRIDGE, _TRIAL_ADDRESS6))),
            )
            return bridges | _try(kernel, *trials) | {"routes"}
        finally:
            carry_out(kernel, [DeleteLink(_TRIAL_BRIDGE)], _index_in(kernel))


def _try(kernel: Rtnetlink, *trials: tuple[str, NetworkOperation]) -> frozenset[str]:
    found = set()
    for name, operation in trials:
        with suppress(ApplyError):
            carry_out(kernel, [operation], _index_in(kernel))
            found.add(name)
    return frozenset(found)
