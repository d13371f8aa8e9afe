"""Libvirt's domains as data: what their XML (https://libvirt.org/formatdomain.html) says.

Pure. The XML is that of the running domain where there is one: it names the host ends.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from lxml import etree

from .ports import Guest, GuestVif, Presence

GUEST_AGENT_CHANNEL = "org.qemu.guest_agent.0"
DOMAIN_0 = "00000000-0000-0000-0000-000000000000"
"""The UUID of Xen's control domain, which is the host itself."""

_PAUSED = 3  # VIR_DOMAIN_PAUSED
_EMULATED = "-emu"


class AgentChannel(Enum):
    """What is known of the channel to a guest's QEMU guest agent."""

    NONE = "none"
    SILENT = "silent"
    CONNECTED = "connected"


@dataclass(frozen=True, slots=True)
class DomainVif:
    """An interface of a domain; `network` is libvirt's network that it is on, or ""."""

    number: int
    mac: str
    device: str = ""
    network: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain of libvirt; `number` is its id while it is active, else -1.

    `kernel` and `command_line` are those of direct kernel boot, "" without.
    """

    uuid: str
    name: str
    presence: Presence
    number: int = -1
    vifs: tuple[DomainVif, ...] = ()
    agent: AgentChannel = AgentChannel.NONE
    kernel: str = ""
    command_line: str = ""
    is_persistent: bool = True
    autostart: bool | None = None

    @property
    def is_active(self) -> bool:
        """Whether the hypervisor has it, running or not."""
        return self.number >= 0


def parse_domain(text: str, state: int = 0) -> Domain:
    """A domain from its XML and the number of its state (virDomainState).

    Raises ValueError for XML that is no domain.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"the XML of a domain: {error}") from error
    uuid, name = root.findtext("uuid"), root.findtext("name")
    if root.tag != "domain" or not uuid or not name:
        raise ValueError(f"no domain with a name and a uuid, but <{root.tag}>")
    number = int(root.get("id", "-1"))
    return Domain(
        uuid=uuid.lower(),
        name=name,
        presence=_presence(number >= 0, state),
        number=number,
        vifs=tuple(_vifs(root, number >= 0)),
        agent=_agent(root),
        kernel=root.findtext("os/kernel") or "",
        command_line=root.findtext("os/cmdline") or "",
    )


def _presence(is_active: bool, state: int) -> Presence:
    if not is_active:
        return Presence.DEFINED
    return Presence.PAUSED if state == _PAUSED else Presence.RUNNING


def _vifs(root: etree._Element, is_active: bool) -> Iterator[DomainVif]:
    known: set[str] = set()
    for interface in root.iterfind("devices/interface"):
        mac = _attribute(interface, "mac", "address").lower()
        if not mac or mac in known:  # an address that is used twice names the first
            continue
        device = _attribute(interface, "target", "dev") if is_active else ""
        network = _attribute(interface, "source", "network")
        model = _attribute(interface, "model", "type")
        yield DomainVif(len(known), mac, device.removesuffix(_EMULATED), network, model)
        known.add(mac)


def _attribute(element: etree._Element, child: str, name: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(name, "")


def _agent(root: etree._Element) -> AgentChannel:
    for target in root.iterfind("devices/channel/target"):
        if target.get("name") == GUEST_AGENT_CHANNEL:
            is_connected = target.get("state") == "connected"
            return AgentChannel.CONNECTED if is_connected else AgentChannel.SILENT
    return AgentChannel.NONE


def with_xen_devices(domain: Domain, devices: Collection[str]) -> Domain:
    """The domain with host ends that libvirt does not tell of, found by their names.

    Xen calls the host end of the Nth interface of domain D vifD.N. Libvirt tells so for the
    interfaces that a domain started with, but not for all that were plugged in later.
    """
    prefix = f"vif{domain.number}."
    taken = {vif.device for vif in domain.vifs}
    numbers = sorted(
        int(name.removeprefix(prefix))
        for name in devices
        if name.startswith(prefix) and name.removeprefix(prefix).isdecimal() and name not in taken
    )
    free = iter(numbers)
    vifs = tuple(
        vif
        if vif.device
        else replace(vif, device=f"{prefix}{n}" if (n := next(free, -1)) >= 0 else "")
        for vif in domain.vifs
    )
    return replace(domain, vifs=vifs)


def guest_of(domain: Domain) -> Guest:
    """The domain as the agent's core knows machines."""
    return Guest(
        uuid=domain.uuid,
        name=domain.name,
        presence=domain.presence,
        vifs=tuple(GuestVif(vif.number, vif.mac, vif.device, vif.model) for vif in domain.vifs),
        is_persistent=domain.is_persistent,
        autostart=domain.autostart,
    )


def machines(kind: str, domains: Mapping[str, Domain], devices: Collection[str]) -> list[Guest]:
    """The guests among a hypervisor's domains, by name; `devices` are those of this host."""
    found = [domain for domain in domains.values() if domain.uuid != DOMAIN_0]
    if kind == "xen":
        found = [
            with_xen_devices(domain, devices) if domain.is_active else domain for domain in found
        ]
    return [guest_of(domain) for domain in sorted(found, key=lambda domain: domain.name)]
