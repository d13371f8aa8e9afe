"""From rows to the host they describe: queues, network and, with `isolation`, packet filters.

Pure: the same rows, machines and devices always make the same wish. What cannot be there now
(a machine that is off, a device that does not exist) is left out of the wish and listed as
waiting; it joins when it appears.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_interface, ip_network
from typing import Any, NamedTuple

from vmib.impairment import Impairment, impairment_of
from vmib.rows import (
    Addr,
    Direction,
    Route,
    RouteType,
    ShapeKey,
    Switch,
    SwitchAdminStatus,
    SwitchMode,
    Vif,
    VifAdminStatus,
    VifKey,
)
from vmib.smi import IpAddress

from . import network
from .inventory import Rows, VifFacts
from .persistent import Persistent
from .ports import Presence
from .state import Key


class RowKey(NamedTuple):
    """One row: its table's name and its key."""

    table: str
    key: Key


@dataclass(frozen=True, slots=True)
class Shaped:
    """One direction of one interface: its own impairment and those of its links."""

    shape: Impairment
    links: Mapping[Any, Impairment]
    mtu: int
    rows: tuple[RowKey, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """The host as the rows describe it, as far as it can be there now."""

    shaped: Mapping[tuple[VifKey, Direction], Shaped] = field(default_factory=dict)
    network: network.State = field(default_factory=network.State)
    owners: Mapping[str, tuple[RowKey, ...]] = field(default_factory=dict)
    """Subject of the network (a device, a bridge, a guest's UUID, "" for the host) -> rows."""
    waiting: Mapping[RowKey, None] = field(default_factory=dict)


@lru_cache(maxsize=65_536)
def _interface(address: IpAddress, prefix: int) -> network.Interface:
    return ip_interface((address, prefix))


def wish(rows: Rows, device_names: Mapping[int, str]) -> Wish:
    """The host that rows describe. `device_names` are the host's devices by ifIndex."""
    waiting: set[RowKey] = set()
    shaped = dict(_shaped(rows, waiting))
    state, owners = _Network(rows, device_names, waiting).build()
    return Wish(
        Persistent(shaped),
        replace(state, stacks=Persistent(state.stacks)),
        Persistent(owners),
        Persistent(dict.fromkeys(waiting)),
    )


def facts_of(rows: Rows, vif: VifKey) -> VifFacts | None:
    """The interface's facts while its host end exists, else None."""
    facts = rows.inventory.vifs.get(vif)
    return facts if facts is not None and facts.device else None


def guest_stacks(rows: Rows, wanted: network.State) -> dict[str, network.Stack]:
    """What guests are to have, by UUID: those that run now, others once they do."""
    running = {place: s for place, s in wanted.stacks.items() if place != network.HOST}
    return {**_ahead(rows), **running}


def _ahead(rows: Rows) -> dict[str, network.Stack]:
    """What machines that do not run are to have once they do, by UUID."""
    off = {
        key[0]: guest.uuid
        for key, guest in rows.inventory.vms.items()
        if guest.presence is not Presence.RUNNING
    }
    if not off:
        return {}
    addresses: dict[str, set[network.Address]] = {uuid: set() for uuid in off.values()}
    routes: dict[str, set[network.Route]] = {uuid: set() for uuid in off.values()}
    for key, row in rows.intent.get("vmibAddrTable", {}).items():
        facts = rows.inventory.vifs.get(VifKey(key[0], key[1]))
        if key[0] in off and facts is not None:
            addresses[off[key[0]]].add(address_of(facts, key, row))
    for key, row in rows.intent.get("vmibRouteTable", {}).items():
        facts = rows.inventory.vifs.get(VifKey(key[0], row.vif_index))
        if key[0] in off and (facts is not None or not row.vif_index):
            link = facts.number if facts is not None else None
            routes[off[key[0]]].add(_route(key, row, link))
    return {
        uuid: network.Stack(frozenset(addresses[uuid]), frozenset(routes[uuid]))
        for uuid in off.values()
    }


def address_of(facts: VifFacts, key: Key, row: Addr) -> network.Address:
    """The address that a row of vmibAddrTable gives an interface."""
    return network.Address(facts.number, _interface(key[3], row.prefix_length))


def _route(key: Key, row: Route, link: network.Link | None) -> network.Route:
    return network.Route(
        destination=ip_network((key[2], key[3])),
        metric=key[4],
        kind=network.RouteKind[RouteType(row.type).name.upper()],
        via=row.next_hop,
        link=link,
    )


def _shaped(rows: Rows, waiting: set[RowKey]) -> Iterator[tuple[tuple[VifKey, Direction], Shaped]]:
    links: dict[VifKey, dict[Any, Impairment]] = {}
    owners: dict[tuple[VifKey, Direction], list[RowKey]] = {}
    shapes: dict[tuple[VifKey, Direction], Impairment] = {}
    for key, row in rows.intent.get("vmibShapeTable", {}).items():
        shape_key = ShapeKey(*key)
        place = (VifKey(key[0], key[1]), shape_key.direction)
        shapes[place] = impairment_of(row)
        owners.setdefault(place, []).append(RowKey("vmibShapeTable", key))
    for key, row in rows.intent.get("vmibLinkTable", {}).items():
        vif = VifKey(key[0], key[1])
        links.setdefault(vif, {})[ip_network((key[3], key[4]))] = impairment_of(row)
        owners.setdefault((vif, Direction.fromVm), []).append(RowKey("vmibLinkTable", key))
    for place, found in owners.items():
        vif, direction = place
        facts = facts_of(rows, vif)
        if facts is None:
            waiting.update(found)
            continue
        of_links = links.get(vif, {}) if direction is Direction.fromVm else {}
        yield place, Shaped(shapes.get(place, Impairment()), of_links, facts.mtu, tuple(found))


class _Network:
    """Collects the network part of a wish."""

    def __init__(self, rows: Rows, device_names: Mapping[int, str], waiting: set[RowKey]) -> None:
        self.rows = rows
        self.device_names = device_names
        self.waiting = waiting
        self.owners: dict[str, list[RowKey]] = {}
        self.addresses: dict[str, set[network.Address]] = {network.HOST: set()}
        self.routes: dict[str, set[network.Route]] = {network.HOST: set()}

    def build(self) -> tuple[network.State, dict[str, tuple[RowKey, ...]]]:
        bridges = dict(self._bridges())
        ports = dict(self._ports())
        self._guest_addresses()
        self._all_routes()
        stacks = {
            place: network.Stack(
                frozenset(self.addresses.get(place, ())), frozenset(self.routes.get(place, ()))
            )
            for place in {*self.addresses, *self.routes, *self._running()}
        }
        state = network.State(bridges=bridges, ports=ports, stacks=stacks)
        return state, {subject: tuple(rows) for subject, rows in self.owners.items()}

    def _owned(self, subject: str, table: str, key: Key) -> None:
        self.owners.setdefault(subject, []).append(RowKey(table, key))

    def _running(self) -> set[str]:
        return {facts.uuid for facts in self.rows.inventory.vifs.values() if facts.running}

    def _bridges(self) -> Iterator[tuple[str, network.Bridge]]:
        for key, row in self.rows.intent.get("vmibSwitchTable", {}).items():
            switch: Switch = row
            self._owned(switch.name, "vmibSwitchTable", key)
            bridged = switch.mode is SwitchMode.bridged and switch.uplink_if_index
            uplink = None
            if bridged:
                number = switch.uplink_if_index
                uplink = self.device_names.get(number, f"ifIndex {number}")
            up = switch.admin_status is SwitchAdminStatus.up
            yield (
                switch.name,
                network.Bridge(switch.name, switch.mtu, up, uplink, switch.vlan_id),
            )
            if switch.addr is not None and switch.mode in (SwitchMode.routed, SwitchMode.nat):
                interface = ip_interface((switch.addr, switch.addr_prefix))
                address = network.Address(switch.name, interface)
                self.addresses[network.HOST].add(address)

    def _ports(self) -> Iterator[tuple[str, network.Port]]:
        switches = self.rows.intent.get("vmibSwitchTable", {})
        for key in self.rows.keys("vmibVifTable"):
            facts = facts_of(self.rows, VifKey(*key))
            if facts is None:
                if key in self.rows.intent.get("vmibVifTable", {}):
                    self.waiting.add(RowKey("vmibVifTable", key))
                continue
            row: Vif = self.rows.row("vmibVifTable", key)
            self._owned(facts.device, "vmibVifTable", key)
            switch: Switch | None = switches.get((row.switch_index,))
            yield (
                facts.device,
                network.Port(
                    facts.device,
                    bridge=None if switch is None else switch.name,
                    mtu=row.mtu,
                    up=row.admin_status is VifAdminStatus.up,
                    isolated=switch is not None and switch.port_isolation,
                ),
            )

    def _guest_addresses(self) -> None:
        for key, row in self.rows.intent.get("vmibAddrTable", {}).items():
            addr: Addr = row
            facts = facts_of(self.rows, VifKey(key[0], key[1]))
            if facts is None or not facts.running:
                self.waiting.add(RowKey("vmibAddrTable", key))
                continue
            self._owned(facts.uuid, "vmibAddrTable", key)
            found = self.addresses.setdefault(facts.uuid, set())
            found.add(address_of(facts, key, addr))

    def _all_routes(self) -> None:
        guests = {key[0]: guest for key, guest in self.rows.inventory.vms.items()}
        running = self._running()
        for key, row in self.rows.intent.get("vmibRouteTable", {}).items():
            route: Route = row
            place: str = network.HOST
            link: network.Link | None = None
            if key[0] == 0:
                if route.if_index:
                    number = route.if_index
                    link = self.device_names.get(number, f"ifIndex {number}")
            else:
                guest = guests.get(key[0])
                facts = self.rows.inventory.vifs.get(VifKey(key[0], route.vif_index))
                missing = bool(route.vif_index) and facts is None
                if guest is None or guest.uuid not in running or missing:
                    self.waiting.add(RowKey("vmibRouteTable", key))
                    continue
                place = guest.uuid
                link = facts.number if facts is not None else None
            self._owned(place, "vmibRouteTable", key)
            self.routes.setdefault(place, set()).add(_route(key, route, link))
