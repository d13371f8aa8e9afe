"""The objects that the two files describe: one frozen dataclass per kind of component.

Numbers are those of the MIB (kbit/s, octets, microseconds, parts per million). Every object
knows the line it came from, for messages; lines do not take part in comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network

from vmib.impairment import Impairment
from vmib.rows import FilterAction, RouteType, SwitchMode
from vmib.smi import IpAddress

IpNetwork = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """Where an object is written."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Agent:
    """How to reach a host's agent; `credential` names an entry of the credentials file."""

    address: IpAddress
    port: int
    user: str
    credential: str


@dataclass(frozen=True, slots=True)
class Pif:
    """A physical interface of a host; `speed` 0 is unknown, `mac` and `bridge` may be empty."""

    name: str
    speed: int
    mac: str
    bridge: str
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Vif:
    """An interface of a machine; `device` is the host end's name and `bridge` its bridge."""

    number: int
    mac: str
    device: str
    bridge: str
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Machine:
    """A virtual machine on `host`; `uuid` is empty where the real file does not give it."""

    name: str
    uuid: str
    host: str
    vifs: tuple[Vif, ...]
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Host:
    """A host with its agent, its interfaces and the machines on it."""

    id: str
    hypervisor: str
    agent: Agent
    pifs: tuple[Pif, ...]
    machines: tuple[Machine, ...]
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class PhysicalNode:
    """A physical switch or router; `capacity` 0 is unlimited."""

    id: str
    kind: str
    capacity: int
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Cable:
    """A physical connection of two hosts, switches or routers; `capacity` 0 is unknown."""

    a: str
    b: str
    capacity: int
    delay: int
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Real:
    """The real network."""

    file: str
    hosts: tuple[Host, ...]
    nodes: tuple[PhysicalNode, ...]
    cables: tuple[Cable, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """A machine's interface in a site. `up` is what the machine sends, `down` what it receives."""

    machine: str
    vif: int
    addresses: tuple[IpAddress, ...]
    gateway: bool
    up: Impairment
    down: Impairment
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class SiteSwitch:
    """The switch that a site's interfaces are attached to on every host.

    `addr` is the host's own address on it, in the modes routed and nat.
    """

    name: str
    mode: SwitchMode
    uplink: str
    vlan: int
    addr: IpAddress | None

    @property
    def through_host(self) -> bool:
        """Whether the host itself forwards between this switch and other networks."""
        return self.mode in (SwitchMode.routed, SwitchMode.nat)


class DefaultRoute(Enum):
    """Where the members of a site send what is for no other route."""

    NONE = "none"
    GATEWAY = "gateway"
    SWITCH = "switch"


@dataclass(frozen=True, slots=True)
class Site:
    """A virtual site: subnets, members, and whether it is closed to others.

    `domain` is the vmibDomainIndex asked for, or 0; `switch` is None where the interfaces stay
    as the hypervisor attached them.
    """

    id: str
    subnets: tuple[IpNetwork, ...]
    strict: bool
    default_route: DefaultRoute
    domain: int
    switch: SiteSwitch | None
    members: tuple[Member, ...]
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Router:
    """A virtual router: a point where links meet; nothing runs there."""

    id: str
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class End:
    """The end of a link: a machine or a virtual router; `vif` None leaves the interface open."""

    name: str
    vif: int | None = None

    def __str__(self) -> str:
        return self.name if self.vif is None else f"{self.name}:{self.vif}"


@dataclass(frozen=True, slots=True)
class Link:
    """A virtual link. `weight` is its cost in thousandths, or None for its delay in us."""

    id: str
    a: End
    b: End
    ab: Impairment
    ba: Impairment
    weight: int | None
    source: Source = field(compare=False)

    def __str__(self) -> str:
        return self.id or f"{self.a}-{self.b}"


@dataclass(frozen=True, slots=True)
class Path:
    """What lies between two machines, whatever the links say; `back` None leaves the way back."""

    start: End
    stop: End
    forth: Impairment
    back: Impairment | None
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Route:
    """A route of a machine; `next_hop` None is on-link, or of no use to `type`."""

    machine: str
    to: IpNetwork
    next_hop: IpAddress | None
    vif: int | None
    metric: int
    type: RouteType
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Ports:
    """An inclusive range of ports."""

    low: int = 0
    high: int = 65535


ALL_PORTS = Ports()
ANY_PROTOCOL = 256


@dataclass(frozen=True, slots=True)
class Rule:
    """A traffic rule. `start` and `stop` are a name (machine or site), a network, or None: any.

    `symmetric` means that the opposite direction, ports swapped, is treated alike.
    """

    action: FilterAction
    start: End | IpNetwork | None
    stop: End | IpNetwork | None
    protocol: int
    ports: tuple[Ports, ...]
    source_ports: tuple[Ports, ...]
    priority: int
    symmetric: bool
    source: Source = field(compare=False)


@dataclass(frozen=True, slots=True)
class Virtual:
    """The wanted virtual network."""

    file: str
    sites: tuple[Site, ...]
    routers: tuple[Router, ...]
    links: tuple[Link, ...]
    paths: tuple[Path, ...]
    routes: tuple[Route, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Attachment:
    """A member with its site, its machine and the host it is on."""

    site: Site
    member: Member
    machine: Machine

    @property
    def key(self) -> tuple[str, int]:
        """Machine and interface."""
        return self.member.machine, self.member.vif

    def addresses_towards(self, peer: Attachment) -> tuple[IpAddress, ...]:
        """The addresses of the peer that this member can send to: of a family it has itself."""
        mine, theirs = self.member.addresses, peer.member.addresses
        return tuple(a for a in theirs if any(a.version == own.version for own in mine))


@dataclass(frozen=True, slots=True)
class Model:
    """Both descriptions, and what one finds in the other.

    Where a name is used twice the first counts; `checks.check` reports such files.
    """

    real: Real
    virtual: Virtual
    machines: Mapping[str, Machine] = field(compare=False)
    attachments: Mapping[str, tuple[Attachment, ...]] = field(compare=False)
    sites: Mapping[str, Site] = field(compare=False)

    def machines_of(self, host: str) -> list[str]:
        """The names of the machines on a host."""
        return [m.name for each in self.real.hosts if each.id == host for m in each.machines]

    def attached(self, end: End) -> Attachment | None:
        """The interface an end stands for; None where there is none, or more than one."""
        found = [
            attachment
            for attachment in self.attachments.get(end.name, ())
            if end.vif is None or attachment.member.vif == end.vif
        ]
        return found[0] if len(found) == 1 else None


def merge(real: Real, virtual: Virtual) -> Model:
    """The model of both descriptions."""
    machines: dict[str, Machine] = {}
    for host in real.hosts:
        for machine in host.machines:
            machines.setdefault(machine.name, machine)
    attachments: dict[str, tuple[Attachment, ...]] = {}
    taken: set[tuple[str, int]] = set()
    for site in virtual.sites:
        for member in site.members:
            found = machines.get(member.machine)
            key = (member.machine, member.vif)
            if found is None or key in taken or not _has_vif(found, member.vif):
                continue
            taken.add(key)
            before = attachments.get(member.machine, ())
            attachments[member.machine] = (*before, Attachment(site, member, found))
    sites: dict[str, Site] = {}
    for site in virtual.sites:
        sites.setdefault(site.id, site)
    return Model(real, virtual, machines, attachments, sites)


def _has_vif(machine: Machine, number: int) -> bool:
    return any(vif.number == number for vif in machine.vifs)
