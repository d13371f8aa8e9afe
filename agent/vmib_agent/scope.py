"""What the kernel is to be, and how far a change from one such target to another reaches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from . import network, network_plan
from .inventory import Inventory
from .iptables import Ruleset
from .persistent import differing
from .ports import Guest
from .shapingstate import ShapedVif, VifState

FIREWALL = "firewall"
"""The subject of everything in the packet filter."""


@dataclass(frozen=True, slots=True)
class Target:
    """What the kernel is to be: compiled from rows, or nothing of ours."""

    shaping: Mapping[ShapedVif, VifState] = field(default_factory=dict)
    network: network.State = field(default_factory=network.State)
    rules: Ruleset = field(default_factory=Ruleset)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a change concerns."""

    vifs: tuple[ShapedVif, ...]
    guests: tuple[Guest, ...]
    network: bool
    rules: bool

    def __bool__(self) -> bool:
        return bool(self.vifs or self.guests or self.network or self.rules)

    def parts(self) -> list[Scope]:
        """Packet filter, queues and network by themselves, in the order of a change."""
        nothing = Scope((), (), network=False, rules=False)
        rules = replace(nothing, rules=self.rules)
        queues = replace(nothing, vifs=self.vifs)
        rest = replace(nothing, guests=self.guests, network=self.network)
        return [part for part in (rules, queues, rest) if part]


def everything(target: Target, inventory: Inventory, stale: Iterable[ShapedVif] = ()) -> Scope:
    """All that a target concerns, and interfaces that may have left an ifb behind."""
    vifs = tuple(sorted(target.shaping.keys() | {*stale}))
    return Scope(vifs, tuple(inventory.vms.values()), network=True, rules=True)


def scope_of(
    old: Target, new: Target, inventory: Inventory, drifted: Collection[str] = ()
) -> Scope:
    """What differs between two targets, and what has drifted."""
    vifs = {*differing(old.shaping, new.shaping)}
    places = {*differing(old.network.stacks, new.network.stacks)}
    host_level = network.HOST in places or _differ(old, new)
    if drifted:
        shaped = old.shaping.keys() | new.shaping.keys()
        vifs |= {vif for vif in shaped if vif.device in drifted or vif.ifb in drifted}
        places |= {*drifted} & (old.network.stacks.keys() | new.network.stacks.keys())
        devices = old.network.ports.keys() | new.network.ports.keys() | {network.HOST}
        devices |= old.network.bridges.keys() | new.network.bridges.keys()
        host_level = host_level or not devices.isdisjoint(drifted)
    guests: tuple[Guest, ...] = ()
    if places:
        guests = tuple(guest for guest in inventory.vms.values() if guest.uuid in places)
    rules = FIREWALL in drifted or (old.rules is not new.rules and old.rules != new.rules)
    return Scope(tuple(sorted(vifs)), guests, host_level or bool(guests), rules)


def _differ(old: Target, new: Target) -> bool:
    """Whether bridges or ports differ."""
    if old.network is new.network:
        return False
    return any(
        one is not other and one != other
        for one, other in (
            (old.network.bridges, new.network.bridges),
            (old.network.ports, new.network.ports),
        )
    )


def without(target: Target, part: Scope, subject: str) -> tuple[Target, Scope]:
    """Target and scope without what a failure names: what is left to be done without it.

    That is a device with queues, a route, an address, an uplink, a port or a guest. The scope is
    empty if it is none of these.
    """
    words = subject.split()
    thinner = _thinner(target.network, subject, words)
    if part.network and thinner != target.network:
        return replace(target, network=thinner), part
    vifs = tuple(vif for vif in part.vifs if subject not in (vif.device, vif.ifb))
    guests = tuple(guest for guest in part.guests if guest.uuid not in words)
    if (vifs, guests) == (part.vifs, part.guests):
        return target, Scope((), (), network=False, rules=False)
    return target, replace(part, vifs=vifs, guests=guests)


def _thinner(wanted: network.State, subject: str, words: Collection[str]) -> network.State:
    """A wish without the route, the address, the uplink or the move of a port that is named."""
    return replace(
        wanted,
        stacks={
            place: _thinner_stack(place, stack, subject, words)
            for place, stack in wanted.stacks.items()
        },
        bridges={
            name: replace(bridge, uplink=None, vlan=0)
            if name in words and "uplink" in words
            else bridge
            for name, bridge in wanted.bridges.items()
        },
        ports={
            name: replace(port, bridge=None) if name in words and "port" in words else port
            for name, port in wanted.ports.items()
        },
    )


def _thinner_stack(
    place: str, stack: network.Stack, subject: str, words: Collection[str]
) -> network.Stack:
    here = place in words if place else "host" in words
    return replace(
        stack,
        addresses=frozenset(
            address
            for address in stack.addresses
            if network_plan.address_subject(place, address) != subject
        ),
        routes=frozenset(
            route
            for route in stack.routes
            if network_plan.route_subject(place, route) != subject
            and not (here and "route" in words and str(route.destination) in words)
        ),
    )
