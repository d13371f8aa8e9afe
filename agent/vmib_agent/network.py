"""The network of a host as data, and the difference between two of them.

A `State` is what is wanted of the kernel or what was read from it; both have the same form, so
that the way back from a change is the difference to the state read before it. Everything here
is pure; `network_kernel` reads and applies.

What vMIB makes is marked, and only what is marked is ever removed:

- bridges, VLAN devices: their alias (ip-link(8)) is "vmib";
- ports moved to another bridge: their alias is "vmib home=BRIDGE", the bridge they came from;
- addresses and routes: their protocol is 118, which rt_protos leaves free. Kernels before 5.18
  keep no protocol with an address; there `diff` is told which addresses the caller added.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TypeAlias

from vmib.errors import Unavailable

PROTOCOL = 118
"""Route and address protocol of what vMIB adds (see rtnetlink(7), /etc/iproute2/rt_protos)."""

HOST = ""
"""The place that is the host itself; every other place is a guest's UUID."""

LOOPBACK = "lo"

MARK = "vmib"
"""Begins the alias of every device that vMIB made or moved."""

_PORT_ALIAS = re.compile(
    rf"{MARK} (?P<uplink>uplink )?home=(?P<home>[^ ]*)(?: alias=(?P<alias>.*))?", re.DOTALL
)

Link: TypeAlias = str | int
"""A device of the host by name, or an interface of a guest by number (or its `LOOPBACK`)."""

Interface: TypeAlias = IPv4Interface | IPv6Interface
IpAddress: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


class RouteKind(Enum):
    """What happens to packets of a route, in the words of ip-route(8)."""

    UNICAST = "unicast"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"


@dataclass(frozen=True, slots=True)
class Bridge:
    """A switch. `ours` is false for one that somebody else made: it is used, never changed.

    `uplink` is the physical device that is a port of it, `vlan` that device's VLAN (0: untagged).
    """

    name: str
    mtu: int = 1500
    up: bool = True
    uplink: str | None = None
    vlan: int = 0
    ours: bool = True


@dataclass(frozen=True, slots=True)
class Port:
    """A device of the host that is or may be a port.

    As a wish, None and 0 leave things alone: `bridge` None leaves the port where the hypervisor
    put it, or returns it there; "" is no bridge. `isolated` ports reach only ports that are not.
    `home` (the bridge it was moved from, None if never moved), `alias` (its own alias, kept while
    it is moved) and `uplink` (it was moved as an uplink) are read, never wished.
    """

    device: str
    bridge: str | None = None
    mtu: int = 0
    up: bool | None = None
    isolated: bool = False
    home: str | None = None
    alias: str = ""
    uplink: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a link; two are the same when link and interface are."""

    link: Link
    interface: Interface
    ours: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table.

    Without `via` it is on-link. `link` None follows the next hop; a guest's on-link route may
    leave it out when the guest has one interface only.
    """

    destination: Network
    metric: int = 0
    kind: RouteKind = RouteKind.UNICAST
    via: IpAddress | None = None
    link: Link | None = None
    ours: bool = field(default=True, compare=False)


@dataclass(frozen=True, slots=True)
class Stack:
    """Addresses and routes of one place, and for a guest its links.

    `down` holds the links that are down, `mtus` octets by link; a wish need not name all.
    """

    addresses: frozenset[Address] = frozenset()
    routes: frozenset[Route] = frozenset()
    down: frozenset[Link] = frozenset()
    mtus: Mapping[Link, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Vlan:
    """A VLAN device that vMIB made for an uplink."""

    device: str
    parent: str
    vlan: int


@dataclass(frozen=True, slots=True)
class State:
    """Bridges and ports by name, VLAN devices of ours, and stacks by place.

    Read: every bridge of the host, and every device that could be a port. A guest that is not
    in a state that was read has no namespace now, and nothing is done about it.
    """

    bridges: Mapping[str, Bridge] = field(default_factory=dict)
    ports: Mapping[str, Port] = field(default_factory=dict)
    vlans: frozenset[Vlan] = frozenset()
    stacks: Mapping[str, Stack] = field(default_factory=dict)


KnownAddress: TypeAlias = tuple[str, Link, Interface]
"""Place, link and interface of an address that the caller recorded as added by vMIB."""


def vlan_device(uplink: str, vlan: int) -> str:
    """The name of an uplink's VLAN device: eth0.10, cut to the 15 characters of a device name."""
    suffix = f".{vlan}"
    return uplink[: 15 - len(suffix)] + suffix


def uplink_port(bridge: Bridge) -> str | None:
    """The device that joins a bridge for its uplink, or None."""
    if bridge.uplink is None:
        return None
    return vlan_device(bridge.uplink, bridge.vlan) if bridge.vlan else bridge.uplink


def port_alias(port: Port) -> str:
    """The alias of a port: its mark if it was moved, and whatever alias it had of its own."""
    if port.home is None:
        return port.alias
    role = f"{MARK} uplink home=" if port.uplink else f"{MARK} home="
    return f"{role}{port.home}" + (f" alias={port.alias}" if port.alias else "")


def parse_alias(text: str) -> tuple[str | None, str, bool]:
    """`home`, `alias` and `uplink` of a port from its alias."""
    found = _PORT_ALIAS.fullmatch(text)
    if found is None:
        return None, text, False
    return found["home"], found["alias"] or "", bool(found["uplink"])


def route_key(route: Route) -> tuple[Network, int]:
    """What is one route to the kernel; an IPv6 metric of 0 is 1024 there (ip-route(8))."""
    metric = route.metric or (1024 if route.destination.version == 6 else 0)
    return route.destination, metric


def resolved(route: Route, stack: Stack) -> Route:
    """The route with the link that a guest of one interface need not name."""
    guest_links = [link for link in stack.mtus if link != LOOPBACK]
    on_link = route.kind is RouteKind.UNICAST and route.via is None and route.link is None
    if on_link and len(guest_links) == 1:
        return Route(route.destination, route.metric, route.kind, None, guest_links[0], route.ours)
    return route


def satisfies(route: Route, wanted: Route) -> bool:
    """Whether packets fare under `route` as `wanted` says; both have the same key."""
    if wanted.kind is not RouteKind.UNICAST or route.kind is not RouteKind.UNICAST:
        return route.kind is wanted.kind
    return route.via == wanted.via and wanted.link in (None, route.link)


def refusals(desired: State, actual: State) -> list[Unavailable]:
    """What of `desired` this host cannot have while things are as in `actual`, one error each."""
    return [
        *_port_refusals(desired, actual),
        *_uplink_refusals(desired, actual),
        *_removal_refusals(desired, actual),
        *_route_refusals(desired, actual),
    ]


def _port_refusals(desired: State, actual: State) -> Iterator[Unavailable]:
    for port in sorted(desired.ports.values(), key=lambda p: p.device):
        if port.bridge and port.bridge not in actual.bridges.keys() | desired.bridges.keys():
            yield Unavailable(
                f"{port.device} as port of {port.bridge}", "this host has no bridge of that name"
            )


def _uplink_refusals(desired: State, actual: State) -> Iterator[Unavailable]:
    addresses = actual.stacks.get(HOST, Stack()).addresses
    taken: dict[str, str] = {}
    for bridge in sorted(desired.bridges.values(), key=lambda b: b.name):
        device = uplink_port(bridge)
        if device is None or bridge.uplink is None:
            continue
        name = f"{device} as uplink of {bridge.name}"
        if device in taken:
            yield Unavailable(name, f"it is the uplink of {taken[device]}")
        taken[device] = bridge.name
        if bridge.uplink not in actual.ports:
            yield Unavailable(name, f"this host has no device {bridge.uplink} that can be a port")
        have = actual.ports.get(device)
        if have is not None and have.bridge == bridge.name:
            continue
        own = sorted(
            str(address.interface)
            for address in addresses
            if address.link == device and not address.interface.ip.is_link_local
        )
        if own:
            yield Unavailable(
                name,
                f"it has the address {', '.join(own)}, which a port loses; move the address to "
                "the bridge or choose another uplink",
            )


def _removal_refusals(desired: State, actual: State) -> Iterator[Unavailable]:
    vlan_devices = {vlan.device for vlan in actual.vlans}
    for name in unwanted_bridges(desired, actual):
        for port in sorted(actual.ports.values(), key=lambda p: p.device):
            wanted = desired.ports.get(port.device)
            moves = port.home not in (None, name) or (wanted and wanted.bridge is not None)
            if port.bridge == name and not moves and port.device not in vlan_devices:
                yield Unavailable(
                    f"removal of the bridge {name}",
                    f"{port.device} was attached to it by somebody else; detach it first",
                )


def _route_refusals(desired: State, actual: State) -> Iterator[Unavailable]:
    for place, stack, have in _stacks(desired, actual):
        existing = routes_by_key(have)
        for wish in sorted(stack.routes, key=str):
            route = resolved(wish, have)
            name = f"route {route.destination} of {place or 'the host'}"
            unicast = route.kind is RouteKind.UNICAST
            if unicast and route.via is None and route.link is None:
                yield Unavailable(name, "an on-link route needs an interface; name one")
            others = existing.get(route_key(route), [])
            foreign = any(not other.ours for other in others)
            if route.ours and foreign and not any(satisfies(r, route) for r in others):
                yield Unavailable(
                    name,
                    "there is another route with this metric that vMIB did not make; "
                    "remove it or choose another metric",
                )


def unwanted_bridges(desired: State, actual: State) -> list[str]:
    """Names of the bridges that vMIB made and that are not wished for any more."""
    ours = (bridge.name for bridge in actual.bridges.values() if bridge.ours)
    return sorted(name for name in ours if name not in desired.bridges)


def _stacks(desired: State, actual: State) -> Iterator[tuple[str, Stack, Stack]]:
    for place in sorted(actual.stacks):
        yield place, desired.stacks.get(place, Stack()), actual.stacks[place]


def routes_by_key(stack: Stack) -> dict[tuple[Network, int], list[Route]]:
    """A stack's routes by what is one route to the kernel; several only if foreign multipath."""
    found: dict[tuple[Network, int], list[Route]] = {}
    for route in stack.routes:
        found.setdefault(route_key(route), []).append(route)
    return found
