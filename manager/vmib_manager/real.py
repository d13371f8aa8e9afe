"""The real file: hosts with agents and machines, and the cables between them."""

from __future__ import annotations

from ipaddress import IPv4Address

from lxml import etree

from vmib import units

from . import parsers
from .model import Agent, Cable, Host, Machine, PhysicalNode, Pif, Real, Vif
from .xmlload import Reader, children, local

SNMP_PORT = 161
_NOWHERE = IPv4Address(0)


def read(root: etree._Element, reader: Reader) -> Real:
    """The real network of a validated document; what is refused is noted in the reader."""
    return Real(
        file=reader.file,
        hosts=tuple(_host(element, reader) for element in children(root, "host")),
        nodes=tuple(_node(element, reader) for element in children(root, "switch", "router")),
        cables=tuple(_cable(element, reader) for element in children(root, "cable")),
    )


def _host(element: etree._Element, reader: Reader) -> Host:
    name = reader.read(element, "id", parsers.text, "")
    return Host(
        id=name,
        hypervisor=reader.read(element, "hypervisor", parsers.text, ""),
        agent=_agent(next(children(element, "agent")), reader, name),
        pifs=tuple(_pif(child, reader) for child in children(element, "pif")),
        machines=tuple(_machine(child, reader, name) for child in children(element, "machine")),
        source=reader.source(element),
    )


def _agent(element: etree._Element, reader: Reader, host: str) -> Agent:
    return Agent(
        address=reader.read(element, "address", parsers.address, _NOWHERE),
        port=reader.read(element, "port", parsers.positive, SNMP_PORT),
        user=reader.read(element, "user", parsers.text, ""),
        credential=reader.read(element, "credential", parsers.text, host),
    )


def _pif(element: etree._Element, reader: Reader) -> Pif:
    return Pif(
        name=reader.read(element, "name", parsers.text, ""),
        speed=reader.read(element, "speed", units.parse_rate, 0),
        mac=reader.read(element, "mac", parsers.mac, ""),
        bridge=reader.read(element, "bridge", parsers.text, ""),
        source=reader.source(element),
    )


def _machine(element: etree._Element, reader: Reader, host: str) -> Machine:
    return Machine(
        name=reader.read(element, "name", parsers.text, ""),
        uuid=reader.read(element, "uuid", parsers.lower, ""),
        host=host,
        vifs=tuple(
            Vif(
                number=reader.read(child, "number", parsers.number, position),
                mac=reader.read(child, "mac", parsers.mac, ""),
                device=reader.read(child, "device", parsers.text, ""),
                bridge=reader.read(child, "bridge", parsers.text, ""),
                source=reader.source(child),
            )
            for position, child in enumerate(children(element, "vif"))
        ),
        source=reader.source(element),
    )


def _node(element: etree._Element, reader: Reader) -> PhysicalNode:
    return PhysicalNode(
        id=reader.read(element, "id", parsers.text, ""),
        kind=local(element),
        capacity=reader.read(element, "capacity", units.parse_rate, 0),
        source=reader.source(element),
    )


def _cable(element: etree._Element, reader: Reader) -> Cable:
    return Cable(
        a=reader.read(element, "a", parsers.text, ""),
        b=reader.read(element, "b", parsers.text, ""),
        capacity=reader.read(element, "capacity", units.parse_rate, 0),
        delay=reader.read(element, "delay", units.parse_time, 0),
        source=reader.source(element),
    )
