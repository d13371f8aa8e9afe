"""The virtual file: profiles, sites, links, paths, routes and rules.

An impairment is put together from, in this order of precedence: the child for the direction
(`up`, `down`, `ab`, `ba`), the element's own attributes, and its profile. A member without a
profile of its own has its site's. `up` and `ab` are the way out, `down` and `ba` the way back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from ipaddress import ip_network
from typing import Any

from lxml import etree

from vmib import units
from vmib.errors import ValueRefused
from vmib.impairment import Impairment
from vmib.rows import Distribution, FilterAction, RouteType, SwitchMode

from . import parsers
from .model import (
    ALL_PORTS,
    ANY_PROTOCOL,
    DefaultRoute,
    End,
    IpNetwork,
    Link,
    Member,
    Path,
    Route,
    Router,
    Rule,
    Site,
    SiteSwitch,
    Virtual,
)
from .xmlload import Reader, children

Given = Mapping[str, Any]
"""The fields of an impairment that somebody wrote."""

DEFAULT_PRIORITY = 100

_IMPAIRMENT: Mapping[str, Callable[[str, str], Any]] = {
    "rate": units.parse_rate,
    "burst": units.parse_size,
    "queue-limit": units.parse_size,
    "delay": units.parse_time,
    "jitter": units.parse_time,
    "distribution": parsers.one_of(Distribution),
    "loss": units.parse_probability,
    "loss-correlation": units.parse_probability,
    "duplicate": units.parse_probability,
    "corrupt": units.parse_probability,
    "reorder": units.parse_probability,
}
_ANYWHERE = ip_network("0.0.0.0/0")
_ANYWHERE6 = ip_network("::/0")


def read(root: etree._Element, reader: Reader) -> Virtual:
    """The wanted network of a validated document; what is refused is noted in the reader."""
    profiles = _profiles(root, reader)
    return Virtual(
        file=reader.file,
        sites=tuple(_site(child, reader, profiles) for child in children(root, "site")),
        routers=tuple(
            Router(reader.read(child, "id", parsers.text, ""), reader.source(child))
            for child in children(root, "router")
        ),
        links=tuple(_link(child, reader, profiles) for child in children(root, "link")),
        paths=tuple(_path(child, reader, profiles) for child in children(root, "path")),
        routes=tuple(_route(child, reader) for child in children(root, "route")),
        rules=tuple(_rule(child, reader) for child in children(root, "rule")),
    )


Profile = tuple[Given, Given]
"""What a profile gives for the way out and the way back."""

NO_PROFILE: Profile = ({}, {})


def _given(element: etree._Element, reader: Reader) -> dict[str, Any]:
    given = {}
    for attribute, parse in _IMPAIRMENT.items():
        if attribute in element.attrib:
            given[attribute.replace("-", "_")] = reader.read(element, attribute, parse, None)
    return {name: value for name, value in given.items() if value is not None}


def _directions(
    element: etree._Element, reader: Reader, profile: Profile, out: str, back: str
) -> Profile:
    common = _given(element, reader)
    given = {"": common, out: {}, back: {}}
    for child, name in ((c, n) for n in (out, back) for c in children(element, n)):
        given[name] = _given(child, reader)
    return ({**profile[0], **common, **given[out]}, {**profile[1], **common, **given[back]})


def _profiles(root: etree._Element, reader: Reader) -> dict[str, Profile]:
    profiles: dict[str, Profile] = {}
    for child in children(root, "profile"):
        name = child.get("id", "")
        if name in profiles:
            reader.refuse(child, "id", name, "a name that no other profile has")
        profiles.setdefault(name, _directions(child, reader, NO_PROFILE, "up", "down"))
    return profiles


def _profile(
    element: etree._Element,
    reader: Reader,
    profiles: Mapping[str, Profile],
    otherwise: Profile = NO_PROFILE,
) -> Profile:
    def known(value: str, name: str) -> Profile:
        if value not in profiles:
            listed = ", ".join(sorted(profiles)) or "none, there is no <profile>"
            raise ValueRefused(name, value, f"the id of a profile: {listed}")
        return profiles[value]

    return reader.read(element, "profile", known, otherwise)


def _site(element: etree._Element, reader: Reader, profiles: Mapping[str, Profile]) -> Site:
    profile = _profile(element, reader, profiles)
    return Site(
        id=reader.read(element, "id", parsers.text, ""),
        subnets=reader.read(element, "subnet", parsers.networks, ()),
        strict=element.get("isolation", "strict") == "strict",
        default_route=DefaultRoute(element.get("default-route", "none")),
        domain=reader.read(element, "domain", parsers.number, 0),
        switch=_switch(element, reader),
        members=tuple(
            _member(child, reader, profiles, profile) for child in children(element, "member")
        ),
        source=reader.source(element),
    )


def _switch(element: etree._Element, reader: Reader) -> SiteSwitch | None:
    if element.get("switch") is None:
        for attribute in ("mode", "uplink", "vlan", "addr"):
            if value := element.get(attribute):
                reader.refuse(element, attribute, value, "only together with the attribute switch")
        return None
    return SiteSwitch(
        name=reader.read(element, "switch", parsers.text, ""),
        mode=reader.read(element, "mode", parsers.one_of(SwitchMode), SwitchMode.bridged),
        uplink=reader.read(element, "uplink", parsers.text, ""),
        vlan=reader.read(element, "vlan", parsers.number, 0),
        addr=reader.read(element, "addr", parsers.address, None),
    )


def _member(
    element: etree._Element, reader: Reader, profiles: Mapping[str, Profile], inherited: Profile
) -> Member:
    profile = _profile(element, reader, profiles, inherited)
    up, down = _directions(element, reader, profile, "up", "down")
    return Member(
        machine=reader.read(element, "machine", parsers.text, ""),
        vif=reader.read(element, "vif", parsers.number, 0),
        addresses=reader.read(element, "address", parsers.addresses, ()),
        gateway=element.get("role") == "gateway",
        up=Impairment(**up),
        down=Impairment(**down),
        source=reader.source(element),
    )


def _thousandths(value: str, _name: str) -> int:
    return round(Decimal(value) * 1000)


def _link(element: etree._Element, reader: Reader, profiles: Mapping[str, Profile]) -> Link:
    profile = _profile(element, reader, profiles)
    ab, ba = _directions(element, reader, profile, "ab", "ba")
    return Link(
        id=reader.read(element, "id", parsers.text, ""),
        a=reader.read(element, "a", parsers.end, End("")),
        b=reader.read(element, "b", parsers.end, End("")),
        ab=Impairment(**ab),
        ba=Impairment(**ba),
        weight=reader.read(element, "weight", _thousandths, None),
        source=reader.source(element),
    )


def _path(element: etree._Element, reader: Reader, profiles: Mapping[str, Profile]) -> Path:
    profile = _profile(element, reader, profiles)
    given = _given(element, reader)
    symmetric = reader.read(element, "symmetric", parsers.flag, True)
    return Path(
        start=reader.read(element, "from", parsers.end, End("")),
        stop=reader.read(element, "to", parsers.end, End("")),
        forth=Impairment(**{**profile[0], **given}),
        back=Impairment(**{**profile[1], **given}) if symmetric else None,
        source=reader.source(element),
    )


def _route(element: etree._Element, reader: Reader) -> Route:
    via = reader.read(element, "via", parsers.address, None)
    kind = reader.read(element, "type", parsers.one_of(RouteType), RouteType.unicast)
    on_link = reader.read(element, "on-link", parsers.flag, False)
    if kind is RouteType.unicast and ("via" in element.attrib) == on_link:
        value = element.get("via") or ""
        reader.refuse(element, "via", value, "an address, or else on-link='true', and not both")
    if kind is not RouteType.unicast and ("via" in element.attrib or on_link):
        reader.refuse(element, "type", kind.name, "no via and no on-link with this type")

    def destination(value: str, name: str) -> IpNetwork:
        if value != "default":
            return parsers.network(value, name)
        if via is None:
            raise ValueRefused(name, value, "0.0.0.0/0 or ::/0 where there is no via")
        return _ANYWHERE if via.version == 4 else _ANYWHERE6

    to = reader.read(element, "to", destination, _ANYWHERE)
    if via is not None and via.version != to.version:
        reader.refuse(element, "via", str(via), f"an IPv{to.version} address, as in '{to}'")
    return Route(
        machine=reader.read(element, "on", parsers.text, ""),
        to=to,
        next_hop=via,
        vif=reader.read(element, "vif", parsers.number, None),
        metric=reader.read(element, "metric", parsers.number, 0),
        type=kind,
        source=reader.source(element),
    )


def _rule(element: etree._Element, reader: Reader) -> Rule:
    protocol = reader.read(element, "protocol", parsers.protocol, ANY_PROTOCOL)
    for attribute in ("ports", "source-ports"):
        if attribute in element.attrib and protocol not in parsers.WITH_PORTS:
            value = element.get(attribute) or ""
            reader.refuse(element, attribute, value, "only with protocol tcp, udp or sctp")
    start = reader.read(element, "from", parsers.place, None)
    stop = reader.read(element, "to", parsers.place, None)
    return Rule(
        action=reader.read(element, "action", parsers.one_of(FilterAction), FilterAction.drop),
        start=start,
        stop=stop,
        protocol=protocol,
        ports=reader.read(element, "ports", parsers.ports, ()) or (ALL_PORTS,),
        source_ports=reader.read(element, "source-ports", parsers.ports, ()) or (ALL_PORTS,),
        priority=reader.read(element, "priority", parsers.number, DEFAULT_PRIORITY),
        symmetric=reader.read(element, "symmetric", parsers.flag, True),
        source=reader.source(element),
    )
