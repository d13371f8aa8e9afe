"""The network of a host in rtnetlink messages: operations encoded, what is read decoded.

The message classes are pyroute2's; sockets are `netlink`'s, because pyroute2's own cannot be
used from inside a running event loop and cost 5 ms for every namespace.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any

from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from .netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message, Request
from .network import MARK, PROTOCOL, Address, Link, Route, RouteKind
from .network_plan import (
    AddAddress,
    AddBridge,
    AddVlan,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    NetworkOperation,
    PutRoute,
    SetLink,
    SetPort,
)

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26

_IFF_UP = 1
_IFA_F_NODAD = 0x02
_RT_TABLE_MAIN = 254
_SCOPE_UNIVERSE, _SCOPE_LINK, _SCOPE_NOWHERE = 0, 253, 255
_RTEXT_FILTER_SKIP_STATS = 8
_IPV4_DEVCONF_PROMOTE_SECONDARIES = 20
_FAMILIES = {4: 2, 6: 10}
_UNSPECIFIED = {2: str(IPv4Address(0)), 10: str(IPv6Address(0))}
_ROUTE_TYPES = {
    RouteKind.UNICAST: 1,
    RouteKind.BLACKHOLE: 6,
    RouteKind.UNREACHABLE: 7,
    RouteKind.PROHIBIT: 8,
}
_ROUTE_KINDS = {number: kind for kind, number in _ROUTE_TYPES.items()}

DONE_ALREADY: Mapping[type[object], frozenset[int]] = {
    AddAddress: frozenset({errno.EEXIST}),
    DeleteAddress: frozenset({errno.EADDRNOTAVAIL, errno.ENODEV}),
    DeleteRoute: frozenset({errno.ESRCH, errno.ENODEV}),
    DeleteLink: frozenset({errno.ENODEV}),
}
"""Refusals which mean that the operation has nothing left to do."""

LINKS = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + struct.pack("=HHI", 8, 29, _RTEXT_FILTER_SKIP_STATS)
"""The body of RTM_GETLINK for a dump of all links without statistics (IFLA_EXT_MASK 29)."""

ADDRESSES = bytes(8)
"""The body of RTM_GETADDR for a dump of all addresses."""

ROUTES = struct.pack("=BBBBBBBBI", 0, 0, 0, 0, _RT_TABLE_MAIN, 0, 0, 0, 0)
"""The body of RTM_GETROUTE for a dump of the main tables of all families."""

IndexOf = Callable[[Link], int]


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """A link as the kernel describes it.

    `master` and `parent` are ifIndexes or 0, `kind` the type of ip-link(8), "" for hardware;
    `hardware` is the ARPHRD number.
    """

    index: int
    name: str
    kind: str
    alias: str
    mtu: int
    up: bool
    running: bool
    master: int
    parent: int
    vlan: int
    isolated: bool
    mac: str
    hardware: int


def _parse(kind: Any, message: Message) -> Any:
    header = struct.pack(
        "=IHHII", 16 + len(message.body), message.kind, message.flags, message.sequence, 0
    )
    parsed = kind(header + message.body)
    parsed.decode()
    return parsed


def _nested(message: Any, *names: str) -> Any:
    for name in names:
        if message is None:
            return None
        message = message.get_attr(name)
    return message


def link_facts(message: Message) -> LinkFacts:
    """Decode one RTM_NEWLINK."""
    link = _parse(ifinfmsg, message)
    kind = _nested(link, "IFLA_LINKINFO", "IFLA_INFO_KIND") or ""
    vlan = _nested(link, "IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_VLAN_ID") if kind == "vlan" else 0
    slave = _nested(link, "IFLA_LINKINFO", "IFLA_INFO_SLAVE_KIND")
    port = _nested(link, "IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA") if slave == "bridge" else None
    return LinkFacts(
        index=link["index"],
        name=link.get_attr("IFLA_IFNAME"),
        kind=kind,
        alias=link.get_attr("IFLA_IFALIAS") or "",
        mtu=link.get_attr("IFLA_MTU"),
        up=bool(link["flags"] & _IFF_UP),
        running=link.get_attr("IFLA_OPERSTATE") == "UP",
        master=link.get_attr("IFLA_MASTER") or 0,
        parent=link.get_attr("IFLA_LINK") or 0,
        vlan=vlan or 0,
        isolated=bool(_nested(port, "IFLA_BRPORT_ISOLATED")),
        mac=link.get_attr("IFLA_ADDRESS") or "",
        hardware=link["ifi_type"],
    )


def addresses(messages: Iterable[Message], links: Mapping[int, Link]) -> frozenset[Address]:
    """Decode RTM_NEWADDRs; addresses of links that `links` (by ifIndex) lacks are left out."""
    found = set()
    for message in messages:
        address = _parse(ifaddrmsg, message)
        if address["index"] in links:
            ip = address.get_attr("IFA_LOCAL") or address.get_attr("IFA_ADDRESS")
            found.add(
                Address(
                    links[address["index"]],
                    ip_interface(f"{ip}/{address['prefixlen']}"),
                    address.get_attr("IFA_PROTO") == PROTOCOL,
                )
            )
    return frozenset(found)


def routes(messages: Iterable[Message], links: Mapping[int, Link]) -> frozenset[Route]:
    """Decode RTM_NEWROUTEs of the four kinds in the main table.

    A multipath route reads as one without next hop and link, which equals no wish.
    """
    found = set()
    for message in messages:
        route = _parse(rtmsg, message)
        kind = _ROUTE_KINDS.get(route["type"])
        if kind is None or route.get_attr("RTA_TABLE") != _RT_TABLE_MAIN:
            continue
        default = _UNSPECIFIED[route["family"]]
        via, oif = route.get_attr("RTA_GATEWAY"), route.get_attr("RTA_OIF")
        unicast = kind is RouteKind.UNICAST
        found.add(
            Route(
                ip_network(f"{route.get_attr('RTA_DST') or default}/{route['dst_len']}"),
                route.get_attr("RTA_PRIORITY") or 0,
                kind,
                ip_address(via) if via and unicast else None,
                links.get(oif) if unicast else None,
                route["proto"] == PROTOCOL,
            )
        )
    return frozenset(found)


def _request(kind: int, flags: int, message: Any, attributes: list[tuple[str, Any]]) -> Request:
    message["attrs"] = attributes
    message.encode()
    return Request(kind, flags, bytes(message.data[16:]))


def _link(
    kind: int, index: int, attributes: list[tuple[str, Any]], flags: int = 0, up: bool | None = None
) -> Request:
    message = ifinfmsg()
    message["index"] = index
    if up is not None:
        message["flags"], message["change"] = (_IFF_UP if up else 0), _IFF_UP
    return _request(kind, flags, message, attributes)


def _info(kind: str, **data: int) -> tuple[str, Any]:
    """The link type `kind` with its data, attributes named without their prefix."""
    prefix = {"bridge": "IFLA_BR_", "vlan": "IFLA_VLAN_"}[kind]
    attributes: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    values = [(prefix + name.upper(), value) for name, value in data.items()]
    attributes.append(("IFLA_INFO_DATA", {"attrs": values}))
    return "IFLA_LINKINFO", {"attrs": attributes}


def _add_bridge(operation: AddBridge, index: IndexOf) -> Iterable[Request]:
    """Made with another MTU and then changed: only a chosen MTU survives ports that join later."""
    flags = NLM_F_CREATE | NLM_F_EXCL
    data = _info("bridge", stp_state=0, forward_delay=0, mcast_snooping=0)
    other = operation.mtu + (1 if operation.mtu < 65535 else -1)
    yield _link(RTM_NEWLINK, 0, [("IFLA_IFNAME", operation.name), ("IFLA_MTU", other), data], flags)
    made = index(operation.name)
    yield _link(RTM_SETLINK, made, [("IFLA_IFALIAS", MARK), ("IFLA_MTU", operation.mtu)])


def _add_vlan(operation: AddVlan, index: IndexOf) -> Iterable[Request]:
    vlan = operation.vlan
    parent = index(vlan.parent)
    attributes = [("IFLA_IFNAME", vlan.device), ("IFLA_LINK", parent), _info("vlan", id=vlan.vlan)]
    yield _link(RTM_NEWLINK, 0, attributes, NLM_F_CREATE | NLM_F_EXCL)
    yield _link(RTM_SETLINK, index(vlan.device), [("IFLA_IFALIAS", MARK)])


def _delete_link(operation: DeleteLink, index: IndexOf) -> Iterable[Request]:
    yield _link(RTM_DELLINK, index(operation.device), [])


def _set_link(operation: SetLink, index: IndexOf) -> Iterable[Request]:
    attributes = [("IFLA_MTU", operation.mtu)] if operation.mtu else []
    yield _link(RTM_SETLINK, index(operation.link), attributes, up=operation.up)


def _set_port(operation: SetPort, index: IndexOf) -> Iterable[Request]:
    attributes: list[tuple[str, Any]] = []
    if operation.bridge is not None:
        attributes.append(("IFLA_MASTER", index(operation.bridge) if operation.bridge else 0))
    if operation.alias is not None:
        attributes.append(("IFLA_IFALIAS", operation.alias))
    if attributes:
        yield _link(RTM_SETLINK, index(operation.device), attributes)
    if operation.isolated is not None:
        data = {"attrs": [("IFLA_BRPORT_ISOLATED", int(operation.isolated))]}
        info = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", data)]}
        yield _link(RTM_NEWLINK, index(operation.device), [("IFLA_LINKINFO", info)])


def _address(kind: int, flags: int, address: Address, index: IndexOf) -> Request:
    message = ifaddrmsg()
    message["family"] = _FAMILIES[address.interface.version]
    message["prefixlen"] = address.interface.network.prefixlen
    message["index"] = index(address.link)
    ip = str(address.interface.ip)
    attributes: list[tuple[str, Any]] = [("IFA_LOCAL", ip), ("IFA_ADDRESS", ip)]
    if kind == RTM_NEWADDR:
        attributes.append(("IFA_PROTO", PROTOCOL))
        if address.interface.version == 6:
            attributes.append(("IFA_FLAGS", _IFA_F_NODAD))
    return _request(kind, flags, message, attributes)


def _add_address(operation: AddAddress, index: IndexOf) -> Iterable[Request]:
    yield _address(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, operation.address, index)


def _delete_address(operation: DeleteAddress, index: IndexOf) -> Iterable[Request]:
    """Without promote_secondaries the first IPv4 address of a subnet takes the others with it."""
    address = operation.address
    if address.interface.version == 4:
        value = struct.pack("=HHI", 8, _IPV4_DEVCONF_PROMOTE_SECONDARIES, 1)
        conf = struct.pack("=HH", 4 + len(value), 1) + value
        family = struct.pack("=HH", 4 + len(conf), _FAMILIES[4]) + conf
        specific = struct.pack("=HH", 4 + len(family), 26) + family
        body = struct.pack("=BxHiII", 0, 0, index(address.link), 0, 0) + specific
        yield Request(RTM_SETLINK, 0, body)
    yield _address(RTM_DELADDR, 0, address, index)


def _route(kind: int, flags: int, route: Route, index: IndexOf) -> Request:
    message = rtmsg()
    message["family"] = _FAMILIES[route.destination.version]
    message["dst_len"] = route.destination.prefixlen
    message["table"] = _RT_TABLE_MAIN
    message["proto"] = PROTOCOL
    message["type"] = _ROUTE_TYPES[route.kind]
    on_link = route.kind is RouteKind.UNICAST and route.via is None
    message["scope"] = _SCOPE_LINK if on_link else _SCOPE_UNIVERSE
    if kind == RTM_DELROUTE:
        message["scope"] = _SCOPE_NOWHERE
    attributes: list[tuple[str, Any]] = []
    if route.destination.prefixlen:
        attributes.append(("RTA_DST", str(route.destination.network_address)))
    if route.via is not None:
        attributes.append(("RTA_GATEWAY", str(route.via)))
    if route.link is not None:
        attributes.append(("RTA_OIF", index(route.link)))
    if route.metric:
        attributes.append(("RTA_PRIORITY", route.metric))
    return _request(kind, flags, message, attributes)


def _put_route(operation: PutRoute, index: IndexOf) -> Iterable[Request]:
    yield _route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, operation.route, index)


def _delete_route(operation: DeleteRoute, index: IndexOf) -> Iterable[Request]:
    yield _route(RTM_DELROUTE, 0, operation.route, index)


_ENCODERS: Mapping[type[object], Callable[[Any, IndexOf], Iterable[Request]]] = {
    AddBridge: _add_bridge,
    AddVlan: _add_vlan,
    DeleteLink: _delete_link,
    SetLink: _set_link,
    SetPort: _set_port,
    AddAddress: _add_address,
    DeleteAddress: _delete_address,
    PutRoute: _put_route,
    DeleteRoute: _delete_route,
}


def requests(operation: NetworkOperation, index: IndexOf) -> Iterable[Request]:
    """The requests of an operation, each to be sent when those before it have taken effect.

    `index` gives a link's ifIndex and raises KeyError when there is none.
    """
    return _ENCODERS[type(operation)](operation, index)
