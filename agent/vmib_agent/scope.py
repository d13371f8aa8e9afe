"""What the kernel is to be, and how far a change from one such target to another reaches."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from . import network
from .inventory import Inventory
from .iptables import Ruleset
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


def scope_of(
    old: Target, new: Target, inventory: Inventory, drifted: Collection[str] = ()
) -> Scope:
    """What differs between two targets, and what has drifted."""
    vifs = [
        vif
        for vif in sorted(old.shaping.keys() | new.shaping.keys())
        if old.shaping.get(vif) != new.shaping.get(vif)
        or vif.device in drifted
        or vif.ifb in drifted
    ]
    places = {
        place
        for place in old.network.stacks.keys() | new.network.stacks.keys()
        if old.network.stacks.get(place) != new.network.stacks.get(place) or place in drifted
    }
    guests = tuple(guest for guest in inventory.vms.values() if guest.uuid in places)
    devices = old.network.ports.keys() | new.network.ports.keys() | {network.HOST}
    devices |= old.network.bridges.keys() | new.network.bridges.keys()
    host_level = (
        network.HOST in places
        or old.network.bridges != new.network.bridges
        or old.network.ports != new.network.ports
        or not devices.isdisjoint(drifted)
    )
    rules = old.rules != new.rules or FIREWALL in drifted
    return Scope(tuple(vifs), guests, host_level or bool(guests), rules)
