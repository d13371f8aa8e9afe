"""Into guests by the command line of their kernel, which libvirt's definition of them holds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from lxml import etree

from .agent_courier import Connections
from .delivery import Delivery, Way
from .domains import Domain, DomainVif
from .guest_agent import GuestRefused
from .ledger import Ledger, put_of
from .libvirt_api import load
from .neighbours import has_address
from .network import Address, Link, Stack
from .ports import Presence
from .start_up import seen, start_up, with_words, words_in

Answers = Callable[[str, str, Any], bool]
"""Whether the guest behind a device, with a MAC address, has an address."""

Devices = Callable[[Domain], Domain]
"""The domain with the host ends that it has now."""


class StartUpCourier:
    """Implements `couriers.Courier` for machines whose kernel libvirt starts."""

    works_ahead = True

    def __init__(
        self,
        connections: Connections,
        ledger: Ledger,
        with_devices: Devices,
        answers: Answers = has_address,
    ) -> None:
        self._connections = connections
        self._ledger = ledger
        self._with_devices = with_devices
        self._answers = answers
        self._library = load()

    def serves(self, domain: Domain) -> bool:
        """Whether the domain's kernel is started by libvirt."""
        return bool(domain.kernel)

    def bring(self, domain: Domain, wanted: Stack) -> Delivery:
        """Have the machine told at its next start; see what it was told at its last."""
        macs: Mapping[Link, str] = {vif.number: vif.mac for vif in domain.vifs}
        told = start_up(wanted, macs)
        put = put_of(wanted, macs)
        self._ledger.record(domain.uuid, self._ledger.put(domain.uuid) | put)
        try:
            self._define(domain, told.words)
        except self._library.libvirtError as error:
            raise GuestRefused(str(error)) from error
        except ValueError as error:
            raise GuestRefused(f"{domain.name}: {error}") from error
        self._ledger.record(domain.uuid, put)
        if domain.presence is Presence.DEFINED:
            return Delivery(Way.START_UP, wanted)
        have = seen(told, domain.command_line)
        reason = next(iter(told.unsaid.values()), "")
        if have != Stack(frozenset(told.addresses), frozenset(told.routes)):
            return Delivery(Way.START_UP, have, "the machine is told when it starts next")
        silent = silent_addresses(self._with_devices(domain), have.addresses, self._answers)
        if silent:
            reason = f"the machine was told but does not answer for {silent[0].interface.ip}"
        return Delivery(Way.START_UP, replace(have, addresses=have.addresses - {*silent}), reason)

    def _define(self, domain: Domain, words: list[str]) -> None:
        """Write the words into the machine's definition, unless they are there."""
        handle = self._connections.domain(domain.uuid)
        if not handle.isPersistent():
            if not words:
                return
            raise GuestRefused("it has no definition, so it cannot be told at its next start")
        library = self._library
        text = handle.XMLDesc(library.VIR_DOMAIN_XML_INACTIVE | library.VIR_DOMAIN_XML_SECURE)
        root = etree.fromstring(text, etree.XMLParser(resolve_entities=False, no_network=True))
        boot = root.find("os")
        if boot is None:
            raise GuestRefused("its definition says nothing about its start")
        line = boot.find("cmdline")
        if line is None:
            line = etree.SubElement(boot, "cmdline")
        if words_in(line.text or "") == words:
            return
        line.text = with_words(line.text or "", words)
        self._connections.define(etree.tostring(root, encoding="unicode"))


def silent_addresses(
    domain: Domain, addresses: Collection[Address], answers: Answers
) -> list[Address]:
    """Those of the addresses that a machine does not answer for."""
    vifs: Mapping[Link, DomainVif] = {vif.number: vif for vif in domain.vifs if vif.device}
    silent = []
    for address in sorted(addresses, key=str):
        vif = vifs.get(address.link)
        try:
            if vif is None or not answers(vif.device, vif.mac, address.interface.ip):
                silent.append(address)
        except OSError as error:
            raise GuestRefused(f"it cannot be asked: {error.strerror}") from error
    return silent
