"""The machines of this host by their persistent numbers, and the rows that exist through them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from vmib.rows import Direction, Shape, ShapeKey, Vif, VifKey, Vm, VmKey

from .ports import Guest, Presence
from .state import Indexes, Intent, Key
from .world import KnownVif, KnownVm


@dataclass(frozen=True, slots=True)
class VifFacts:
    """An interface as the hypervisor and the kernel report it.

    `device` is "" and `if_index`, `mtu` are 0 while the host end does not exist.
    """

    uuid: str
    mac: str
    number: int
    device: str
    if_index: int
    mtu: int
    up: bool
    running: bool
    model: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """A network device of the host; `master` is the ifIndex of the bridge it is a port of, or 0."""

    if_index: int
    mtu: int
    up: bool
    master: int = 0


@dataclass(frozen=True)  # no slots: what follows from the fields is found once
class Inventory:
    """What is there now, by vmibVmIndex and by (vmibVmIndex, vmibVifIndex)."""

    vms: Mapping[VmKey, Guest] = field(default_factory=dict)
    vifs: Mapping[VifKey, VifFacts] = field(default_factory=dict)

    @property
    def discovered(self) -> Mapping[str, Iterable[Key]]:
        """Keys of the rows that exist because of the hypervisor, as `vmib.canonical` wants them."""
        return {
            "vmibVmTable": self.vms.keys(),
            "vmibVifTable": self.vifs.keys(),
            "vmibShapeTable": [
                ShapeKey(*vif, direction) for vif in self.vifs for direction in Direction
            ],
        }

    @cached_property
    def known_vms(self) -> Mapping[int, KnownVm]:
        """The machines as SETs are judged by (`world.World`)."""
        return {
            key[0]: KnownVm(guest.uuid, guest.name, guest.presence is Presence.RUNNING)
            for key, guest in self.vms.items()
        }

    @cached_property
    def known_vifs(self) -> Mapping[tuple[int, int], KnownVif]:
        """The interfaces as SETs are judged by (`world.World`)."""
        return {
            (key[0], key[1]): KnownVif(facts.mac, facts.number, facts.mtu or None, facts.running)
            for key, facts in self.vifs.items()
        }

    def by_device(self) -> Mapping[str, VifKey]:
        """The interface behind each host-end device."""
        return {facts.device: key for key, facts in self.vifs.items() if facts.device}


def take(guests: Sequence[Guest], indexes: Indexes, devices: Mapping[str, Device]) -> Inventory:
    """The inventory of guests whose numbers have been given out.

    `devices` are the host's devices by name. Raises KeyError for a guest without numbers.
    """
    vms: dict[VmKey, Guest] = {}
    vifs: dict[VifKey, VifFacts] = {}
    for guest in guests:
        vm = indexes.vms[guest.uuid]
        vms[VmKey(vm)] = guest
        for vif in guest.vifs:
            device = devices.get(vif.device)
            vifs[VifKey(vm, indexes.vifs[guest.uuid, vif.mac])] = VifFacts(
                uuid=guest.uuid,
                mac=vif.mac,
                number=vif.number,
                device=vif.device if device else "",
                if_index=device.if_index if device else 0,
                mtu=device.mtu if device else 0,
                up=device.up if device else False,
                running=guest.presence is Presence.RUNNING,
                model=vif.model,
            )
    return Inventory(vms, vifs)


def renewed(old: Inventory, new: Inventory) -> set[str]:
    """Devices whose names now stand for others, and the UUIDs of the guests that have them."""
    return {
        name
        for key, facts in new.vifs.items()
        if (before := old.vifs.get(key)) is not None and before.if_index != facts.if_index
        for name in (facts.device, facts.uuid)
        if facts.device
    }


_UNSHAPED = Shape()


class Rows:
    """Configured and discovered rows together: what a manager reads."""

    def __init__(self, intent: Intent, inventory: Inventory) -> None:
        self.intent = intent
        self.inventory = inventory

    def keys(self, table: str) -> Iterator[Key]:
        """The keys of all rows of a table, in no order."""
        rows = self.intent.get(table, {})
        yield from rows
        if table == "vmibVmTable":
            yield from (key for key in self.inventory.vms if key not in rows)
        elif table == "vmibVifTable":
            yield from (key for key in self.inventory.vifs if key not in rows)
        elif table == "vmibShapeTable":
            for vif in self.keys("vmibVifTable"):
                for direction in Direction:
                    key = ShapeKey(vif[0], vif[1], direction)
                    if key not in rows:
                        yield key

    def row(self, table: str, key: Key) -> Any:
        """The row with this key, or None."""
        configured = self.intent.get(table, {}).get(key)
        if configured is not None:
            return configured
        if table == "vmibVmTable":
            guest = self.inventory.vms.get(VmKey(*key))
            return None if guest is None else Vm(uuid=guest.uuid, name=guest.name)
        if table == "vmibVifTable":
            facts = self.inventory.vifs.get(VifKey(*key))
            return None if facts is None else Vif(mac_address=facts.mac)
        if table == "vmibShapeTable" and self._has_vif(key[:2]):
            return _UNSHAPED
        return None

    def _has_vif(self, key: Key) -> bool:
        return key in self.inventory.vifs or key in self.intent.get("vmibVifTable", {})
