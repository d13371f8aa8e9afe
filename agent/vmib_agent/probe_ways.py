"""Which way a probe takes: the device, and whom it asks. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from vmib.rows import ProbeKey, VifKey, VmKey
from vmib.smi import IpAddress

from .inventory import Rows
from .ports import Presence
from .state import Intent, Key
from .target import ifb_name
from .world import ADDR, LINK

Network = Any


@dataclass(frozen=True, slots=True)
class Way:
    """Where a probe's packets go in and whom they ask.

    `device` is the host end, `ifb` the device that carries what comes from the machine where that
    is shaped; `mac` and `machine` are those of the machine's interface. In the name of `dest` the
    machine is asked; if that is `machine`, it is asked who has it.
    """

    device: str
    ifb: str
    mac: str
    machine: IpAddress
    dest: IpAddress

    @property
    def one_by_one(self) -> bool:
        """Whether answers do not tell which packet they are for."""
        return self.machine == self.dest


class Neighbourhood:
    """What interfaces of these probes have addresses in and links to, by interface."""

    def __init__(self, intent: Intent, probes: Iterable[ProbeKey]) -> None:
        self._addresses: dict[Key, list[tuple[IpAddress, Network]]] = {}
        self._links: dict[Key, list[Network]] = {}
        vifs = {(probe.vm_index, probe.vif_index) for probe in probes}
        if not vifs:
            return
        for key, row in intent.get(ADDR, {}).items():
            if key[:2] in vifs:
                network = ip_network((key[3], row.prefix_length), strict=False)
                self._addresses.setdefault(key[:2], []).append((key[3], network))
        for key in intent.get(LINK, {}):
            if key[:2] in vifs:
                network = ip_network((key[3], key[4]), strict=False)
                self._links.setdefault(key[:2], []).append(network)

    def asked(self, key: ProbeKey) -> IpAddress | str:
        """The address of the machine to ask for a probe, or why there is none."""
        vif, dest = (key.vm_index, key.vif_index), key.dest
        assert dest is not None
        if dest.is_multicast or dest.is_unspecified or dest.is_loopback:
            return f"{dest} is not the address of a host"
        own = [pair for pair in self._addresses.get(vif, ()) if pair[0].version == dest.version]
        if not own or any(address == dest for address, _ in own):
            return dest
        near = [address for address, network in own if dest in network]
        if near or any(dest in network for network in self._links.get(vif, ())):
            return (near or [own[0][0]])[0]
        return (
            f"{dest} is neither an address of the interface (vmibAddrTable), nor in a network "
            "that it has an address in or a link to (vmibLinkTable)"
        )


def ways(rows: Rows, keys: Collection[ProbeKey]) -> Mapping[ProbeKey, Way | str]:
    """The way of each probe, or what it waits for."""
    neighbourhood = Neighbourhood(rows.intent, keys)
    return {key: _way(rows, neighbourhood, key) for key in keys}


def _way(rows: Rows, neighbourhood: Neighbourhood, key: ProbeKey) -> Way | str:
    vif = VifKey(key.vm_index, key.vif_index)
    facts = rows.inventory.vifs.get(vif)
    if facts is None:
        return "the hypervisor does not report this interface"
    if not facts.running:
        guest = rows.inventory.vms.get(VmKey(key.vm_index))
        is_paused = guest is not None and guest.presence is Presence.PAUSED
        return "the machine is paused" if is_paused else "the machine is off"
    if not facts.device:
        return "the host end of the interface does not exist"
    if not facts.up:
        return f"the host end of the interface, {facts.device}, is down"
    asked = neighbourhood.asked(key)
    if isinstance(asked, str):
        return asked
    assert key.dest is not None
    return Way(facts.device, ifb_name(vif), facts.mac, asked, key.dest)
