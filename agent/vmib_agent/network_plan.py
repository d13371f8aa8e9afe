"""Operations on the network of a host, and the difference between two states as operations.

Everything is pure. The order is that of dependence: bridges, VLAN devices, ports (with the
uplinks), addresses, routes; what is new comes before what goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TypeAlias

from . import network
from .network import (
    HOST,
    PROTOCOL,
    Address,
    Bridge,
    KnownAddress,
    Link,
    Port,
    Route,
    RouteKind,
    Stack,
    State,
    Vlan,
)


def _ip(place: str) -> str:
    return f"ip -n {place}" if place else "ip"


def link_name(link: Link) -> str:
    """A link in the words of ip(8); a guest's interface is "vif" and its number."""
    return f"vif{link}" if isinstance(link, int) else link


def address_subject(place: str, address: Address) -> str:
    """The `subject` of operations on an address."""
    return f"{place or 'host'} {link_name(address.link)} {address.interface.ip}"


def route_subject(place: str, route: Route) -> str:
    """The `subject` of operations on a route; the metric is the kernel's (`network.route_key`)."""
    destination, metric = network.route_key(route)
    return f"{place or 'host'} {destination} metric {metric}"


def _route_words(route: Route) -> str:
    kind = "" if route.kind is RouteKind.UNICAST else f"{route.kind.value} "
    via = "" if route.via is None else f" via {route.via}"
    dev = "" if route.link is None else f" dev {link_name(route.link)}"
    metric = f" metric {route.metric}" if route.metric else ""
    return f"{kind}{route.destination}{via}{dev}{metric} proto {PROTOCOL}"


@dataclass(frozen=True, slots=True)
class AddBridge:
    """Make a bridge that forwards at once: no STP, no forward delay, no multicast snooping."""

    name: str
    mtu: int

    @property
    def subject(self) -> str:
        return self.name

    def describe(self) -> str:
        return (
            f"ip link add {self.name} mtu {self.mtu} alias vmib type bridge "
            "stp_state 0 forward_delay 0 mcast_snooping 0"
        )


@dataclass(frozen=True, slots=True)
class AddVlan:
    """Make the VLAN device of an uplink."""

    vlan: Vlan

    @property
    def subject(self) -> str:
        return self.vlan.device

    def describe(self) -> str:
        return (
            f"ip link add {self.vlan.device} link {self.vlan.parent} alias vmib "
            f"type vlan id {self.vlan.vlan}"
        )


@dataclass(frozen=True, slots=True)
class DeleteLink:
    """Remove a bridge or VLAN device that vMIB made."""

    device: str

    @property
    def subject(self) -> str:
        return self.device

    def describe(self) -> str:
        return f"ip link del {self.device}"


@dataclass(frozen=True, slots=True)
class SetLink:
    """Set MTU (octets, 0: leave) and state (None: leave) of a link."""

    place: str
    link: Link
    mtu: int = 0
    up: bool | None = None

    @property
    def subject(self) -> str:
        return self.place or link_name(self.link)

    def describe(self) -> str:
        mtu = f" mtu {self.mtu}" if self.mtu else ""
        state = "" if self.up is None else " up" if self.up else " down"
        return f"{_ip(self.place)} link set dev {link_name(self.link)}{mtu}{state}"


@dataclass(frozen=True, slots=True)
class SetPort:
    """Move a port to a bridge ("": out of any; None: leave) with its mark and its isolation.

    `alias` is the alias it has afterwards, None to leave it; `isolated` None leaves it.
    """

    device: str
    bridge: str | None = None
    isolated: bool | None = None
    alias: str | None = None

    @property
    def subject(self) -> str:
        return self.device

    def describe(self) -> str:
        words = []
        if self.bridge is not None:
            words.append(f"master {self.bridge}" if self.bridge else "nomaster")
        if self.alias is not None:
            words.append(f"alias '{self.alias}'")
        if self.isolated is not None:
            words.append(f"type bridge_slave isolated {'on' if self.isolated else 'off'}")
        return f"ip link set dev {self.device} {' '.join(words)}"


@dataclass(frozen=True, slots=True)
class AddAddress:
    """Add an address, marked and usable at once (no duplicate address detection)."""

    place: str
    address: Address

    @property
    def subject(self) -> str:
        return address_subject(self.place, self.address)

    def describe(self) -> str:
        at = f"{self.address.interface} dev {link_name(self.address.link)}"
        nodad = " nodad" if self.address.interface.version == 6 else ""
        return f"{_ip(self.place)} addr add {at}{nodad} proto {PROTOCOL}"


@dataclass(frozen=True, slots=True)
class DeleteAddress:
    """Remove an address; others of its subnet stay (promote_secondaries of ip-sysctl)."""

    place: str
    address: Address

    @property
    def subject(self) -> str:
        return address_subject(self.place, self.address)

    def describe(self) -> str:
        at = f"{self.address.interface} dev {link_name(self.address.link)}"
        return f"{_ip(self.place)} addr del {at}"


@dataclass(frozen=True, slots=True)
class PutRoute:
    """Add a route or replace the one of ours with the same destination and metric."""

    place: str
    route: Route

    @property
    def subject(self) -> str:
        return route_subject(self.place, self.route)

    def describe(self) -> str:
        return f"{_ip(self.place)} route replace {_route_words(self.route)}"


@dataclass(frozen=True, slots=True)
class DeleteRoute:
    """Remove a route of ours; another with the same destination stays."""

    place: str
    route: Route

    @property
    def subject(self) -> str:
        return route_subject(self.place, self.route)

    def describe(self) -> str:
        return f"{_ip(self.place)} route del {_route_words(self.route)}"


NetworkOperation: TypeAlias = (
    AddBridge
    | AddVlan
    | DeleteLink
    | SetLink
    | SetPort
    | AddAddress
    | DeleteAddress
    | PutRoute
    | DeleteRoute
)


def diff(
    desired: State, actual: State, known: AbstractSet[KnownAddress] = frozenset()
) -> list[NetworkOperation]:
    """The operations that turn `actual` into `desired`, and touch nothing that is not ours.

    `known` are addresses the caller recorded as ours, for kernels that keep no protocol with
    them. Raises the first of `network.refusals`.
    """
    for refusal in network.refusals(desired, actual):
        raise refusal
    vlans = _wanted_vlans(desired)
    operations: list[NetworkOperation] = []
    operations += _new_bridges(desired, actual)
    operations += (AddVlan(v) for v in sorted(vlans - actual.vlans, key=lambda v: v.device))
    operations += _ports(desired, actual, vlans)
    gone: list[NetworkOperation] = []
    for place in sorted(actual.stacks):
        have, want = actual.stacks[place], desired.stacks.get(place, Stack())
        if place in desired.stacks:
            operations += _links(place, want, have)
        new, old = _stack(place, want, have, known)
        operations += new
        gone += old
    operations += gone
    operations += map(DeleteLink, network.unwanted_bridges(desired, actual))
    operations += (
        DeleteLink(v.device) for v in sorted(actual.vlans - vlans, key=lambda v: v.device)
    )
    return operations


def _wanted_vlans(desired: State) -> set[Vlan]:
    return {
        Vlan(network.vlan_device(bridge.uplink, bridge.vlan), bridge.uplink, bridge.vlan)
        for bridge in desired.bridges.values()
        if bridge.uplink and bridge.vlan
    }


def _new_bridges(desired: State, actual: State) -> Iterator[NetworkOperation]:
    for name, bridge in sorted(desired.bridges.items()):
        have = actual.bridges.get(name)
        if have is None:
            if not bridge.ours:
                continue
            yield AddBridge(name, bridge.mtu)
            have = Bridge(name, bridge.mtu, up=False)
        if have.ours and (have.mtu, have.up) != (bridge.mtu, bridge.up):
            yield SetLink(
                HOST,
                name,
                bridge.mtu if have.mtu != bridge.mtu else 0,
                bridge.up if have.up != bridge.up else None,
            )


def _ports(desired: State, actual: State, vlans: set[Vlan]) -> Iterator[NetworkOperation]:
    """Where every device that could be a port goes, stays, or returns to."""
    unwanted = network.unwanted_bridges(desired, actual)
    bridges = (actual.bridges.keys() | desired.bridges.keys()) - set(unwanted)
    uplinks = {port: b.name for b in desired.bridges.values() if (port := network.uplink_port(b))}
    going = {vlan.device for vlan in actual.vlans - vlans}
    here = dict(actual.ports) | {
        vlan.device: Port(vlan.device, "", up=False, home="")
        for vlan in vlans
        if vlan.device not in actual.ports
    }
    for device, have in sorted(here.items()):
        if device in going:
            continue
        want = desired.ports.get(device, Port(device))
        if device in uplinks:
            want = replace(want, bridge=uplinks[device], up=True, isolated=False)
        yield from _port(want, have, bridges, is_uplink=device in uplinks)


def _port(
    want: Port, have: Port, bridges: AbstractSet[str], *, is_uplink: bool
) -> Iterator[NetworkOperation]:
    home = have.bridge if have.home is None else have.home
    home = home if home in bridges else ""
    target = home if want.bridge is None else want.bridge
    moved = target != have.bridge
    mark = replace(have, home=None if target == home else home, uplink=is_uplink)
    before, after = network.port_alias(have), network.port_alias(mark)
    isolated = have.isolated and not moved
    isolate = target != "" and want.bridge is not None and want.isolated != isolated
    if moved or before != after or isolate:
        yield SetPort(
            have.device,
            target if moved else None,
            want.isolated if isolate else None,
            after if before != after else None,
        )
    mtu = want.mtu if want.mtu not in (0, have.mtu) else 0
    up = want.up if want.up != have.up else None
    if mtu or up is not None:
        yield SetLink(HOST, have.device, mtu, up)


def _links(place: str, want: Stack, have: Stack) -> Iterator[NetworkOperation]:
    """Links of a wished guest are up unless its wish says down; MTUs as far as wished."""
    for link in sorted(have.mtus, key=str):
        mtu = want.mtus.get(link, 0)
        mtu = mtu if mtu != have.mtus[link] else 0
        down = link in want.down
        changed = down != (link in have.down)
        if mtu or changed:
            yield SetLink(place, link, mtu, not down if changed else None)


def _stack(
    place: str, want: Stack, have: Stack, known: AbstractSet[KnownAddress]
) -> tuple[list[NetworkOperation], list[NetworkOperation]]:
    """What is new, then what goes, in one place."""
    new_addresses = sorted((a for a in want.addresses - have.addresses if a.ours), key=str)
    gone = [
        address
        for address in sorted(have.addresses - want.addresses, key=str)
        if address.ours or (place, address.link, address.interface) in known
    ]
    in_the_way = [
        address
        for address in gone
        if address.interface.version == 6
        and any(_same_ip(address, other) for other in new_addresses)
    ]
    new: list[NetworkOperation] = [DeleteAddress(place, address) for address in in_the_way]
    new += (AddAddress(place, address) for address in new_addresses)
    wanted = {network.route_key(route): network.resolved(route, have) for route in want.routes}
    existing = network.routes_by_key(have)
    put: list[Route] = []
    kept: list[Route] = []
    for key, route in wanted.items():
        if any(network.satisfies(other, route) for other in existing.get(key, ())):
            kept += [route] if any(other.ours for other in existing[key]) else []
        elif route.ours:
            put.append(route)
    new += (PutRoute(place, route) for route in sorted(put, key=str))
    unwanted = [
        route
        for key, routes in existing.items()
        if key not in wanted
        for route in routes
        if route.ours
    ]
    old: list[NetworkOperation] = [DeleteRoute(place, route) for route in sorted(unwanted, key=str)]
    old += (DeleteAddress(place, address) for address in gone if address not in in_the_way)
    if gone:
        old += (PutRoute(place, route) for route in sorted(kept, key=str))
    return new, old


def _same_ip(one: Address, other: Address) -> bool:
    return one.link == other.link and one.interface.ip == other.interface.ip
