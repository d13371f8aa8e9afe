"""Writing the real file from what agents report: hosts, physical interfaces, machines, vifs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lxml import etree

from vmib import objects, units
from vmib.errors import ValueRefused, VmibError

from . import real, xmlload
from .client import Agent
from .model import Agent as AgentAddress
from .model import Cable, Host, PhysicalNode, Real, Source
from .parsers import address as parse_address
from .reading import decoded, read_names, read_scalars
from .real import SNMP_PORT
from .seen import Names
from .visible import visible
from .xmlload import NAMESPACE, DescriptionRefused, Problem

_AGENT = re.compile(
    r"(?P<host>[^=]+)="
    r"(?:(?:\[(?P<bracketed>[^]]+)\]|(?P<plain>[^:[]+))(?::(?P<port>[0-9]{1,5}))?"
    r"|(?P<ipv6>[^[:]*:[^[]*:[^[]*))"
)
_NO_CABLES = " Agents do not know what joins their hosts: add switches and cables. "


class NotDescribable(VmibError):
    """What agents report and no real file can have, such as a name with a space."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        found = "; ".join(f"<{p.element}> {p.attribute}={p.value!r}: {p.allowed}" for p in problems)
        super().__init__(f"agents report what a real file cannot have: {found}")


@dataclass(frozen=True, slots=True)
class FoundVif:
    """An interface as an agent reports it; `device` is its end on the host, or empty."""

    number: int
    mac: str
    device: str


@dataclass(frozen=True, slots=True)
class FoundMachine:
    """A machine as an agent reports it."""

    name: str
    uuid: str
    vifs: tuple[FoundVif, ...]


@dataclass(frozen=True, slots=True)
class FoundHost:
    """A host as its agent reports it."""

    id: str
    agent: AgentAddress
    hypervisor: str
    names: Names
    machines: tuple[FoundMachine, ...]


def parse_agent(text: str, user: str) -> tuple[str, AgentAddress]:
    """Host id and agent from `ID=ADDRESS[:PORT]`; IPv6 addresses stand in brackets with a port."""
    allowed = "a real file, or ID=ADDRESS[:PORT] such as host1=192.0.2.1:161"
    matched = _AGENT.fullmatch(text)
    if matched is None:
        raise ValueRefused("agent", text, allowed)
    place = matched["bracketed"] or matched["plain"] or matched["ipv6"]
    port = int(matched["port"] or SNMP_PORT)
    if not 1 <= port <= 65535:
        raise ValueRefused("agent", text, allowed)
    try:
        return matched["host"], AgentAddress(
            parse_address(place, "agent"), port, user, matched["host"]
        )
    except ValueRefused:
        raise ValueRefused("agent", text, allowed) from None


async def found_host(host: str, address: AgentAddress, agent: Agent) -> FoundHost:
    """What one agent reports."""
    scalars = await read_scalars(agent)
    names = await read_names(agent)
    column = objects.vmibVifHostName
    (walked,) = await agent.walk(column.oid)
    prefix = len(column.oid)
    devices = {oid[prefix:]: decoded(column, value) for oid, value in walked}
    machines = []
    for index, vm in sorted(names.vms.items()):
        vifs = sorted(
            (vif.number, vif.mac, devices.get((*key,), ""))
            for key, vif in names.vifs.items()
            if key.vm_index == index and vif.number >= 0
        )
        if vm.present:
            found = tuple(FoundVif(*vif) for vif in vifs)
            machines.append(FoundMachine(vm.name, vm.uuid, found))
    return FoundHost(host, address, scalars.hypervisor, names, tuple(machines))


def document(hosts: Sequence[FoundHost], known: Real | None = None) -> str:
    """The text of a real file.

    What agents cannot know (switches, routers, cables, bridges of interfaces) is taken from
    `known`, the real file before. Raises NotDescribable where agents report what no real file
    can have.
    """
    root = etree.Element("real")
    root.set("xmlns", NAMESPACE)
    for host in hosts:
        _host(root, host, known)
    for node in () if known is None else known.nodes:
        _node(root, node)
    for cable in () if known is None else known.cables:
        _cable(root, cable)
    if known is None or not known.cables:
        root.append(etree.Comment(_NO_CABLES))
    etree.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    text = head + etree.tostring(root, encoding="unicode") + "\n"
    _check(text)
    return text


def _check(text: str) -> None:
    """Raise NotDescribable unless the text can be read as a real file."""
    try:
        root, reader = xmlload.parse(text.encode(), "real", "real")
    except DescriptionRefused as refused:
        raise NotDescribable(refused.problems) from None
    real.read(root, reader)
    if reader.problems:
        raise NotDescribable(reader.problems)


def _element(parent: etree._Element, name: str, attributes: Mapping[str, str]) -> etree._Element:
    made = etree.SubElement(parent, name)
    for key, value in attributes.items():
        if value:
            # What XML has no characters for cannot be written, but it can be refused by its name.
            made.set(key, visible(value))
    return made


def _host(root: etree._Element, host: FoundHost, known: Real | None) -> None:
    element = _element(root, "host", {"id": host.id, "hypervisor": host.hypervisor})
    agent = host.agent
    _element(
        element,
        "agent",
        {
            "address": str(agent.address),
            "port": str(agent.port),
            "user": agent.user,
            "credential": "" if agent.credential == host.id else agent.credential,
        },
    )
    before = [each for each in (() if known is None else known.hosts) if each.id == host.id]
    bridges = {pif.name: pif.bridge for each in before for pif in each.pifs}
    vif_bridges = {
        (machine.name, vif.number): vif.bridge
        for each in before
        for machine in each.machines
        for vif in machine.vifs
    }
    for _, pif in sorted(host.names.pifs.items()):
        speed = units.format_rate(pif.speed) if pif.speed else ""
        given = {"name": pif.name, "speed": speed, "mac": pif.mac}
        _element(element, "pif", {**given, "bridge": bridges.get(pif.name, "")})
    for machine in host.machines:
        if not machine.vifs:
            name = visible(machine.name).replace("-", "\N{NON-BREAKING HYPHEN}")
            element.append(etree.Comment(f" {name} has no interface and is left out. "))
            continue
        child = _element(element, "machine", {"name": machine.name, "uuid": machine.uuid})
        for vif in machine.vifs:
            bridge = vif_bridges.get((machine.name, vif.number), "")
            given = {"number": str(vif.number), "mac": vif.mac, "device": vif.device}
            _element(child, "vif", {**given, "bridge": bridge})


def _node(root: etree._Element, node: PhysicalNode) -> None:
    capacity = units.format_rate(node.capacity) if node.capacity else ""
    _element(root, node.kind, {"id": node.id, "capacity": capacity})


def _cable(root: etree._Element, cable: Cable) -> None:
    capacity = units.format_rate(cable.capacity) if cable.capacity else ""
    delay = units.format_time(cable.delay) if cable.delay else ""
    _element(root, "cable", {"a": cable.a, "b": cable.b, "capacity": capacity, "delay": delay})


def real_of(agents: Mapping[str, AgentAddress]) -> Real:
    """A real network of which only the agents are known, by host id."""
    hosts = tuple(
        Host(host, "", address, (), (), Source("command line", number))
        for number, (host, address) in enumerate(agents.items(), 1)
    )
    return Real("command line", hosts, (), ())
