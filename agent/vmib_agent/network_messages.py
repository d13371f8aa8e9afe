"""Operations on the network of a host, in rtnetlink messages (rtnetlink(7), linux/if_link.h)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from . import rtnetlink as rt
from .netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request
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
from .network_reading import ROUTE_TYPES
from .tc import attr

DONE_ALREADY: Mapping[type[object], frozenset[int]] = {
    AddAddress: frozenset({errno.EEXIST}),
    DeleteAddress: frozenset({errno.EADDRNOTAVAIL, errno.ENODEV}),
    DeleteRoute: frozenset({errno.ESRCH, errno.ENODEV}),
    DeleteLink: frozenset({errno.ENODEV}),
}
"""Refusals which mean that the operation has nothing left to do."""

IndexOf = Callable[[Link], int]


def _u16(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=H", value))


def _u32(kind: int, value: int) -> bytes:
    return attr(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return attr(kind, value.encode() + b"\0")


def _link(
    kind: int, index: int, attributes: bytes, flags: int = 0, up: bool | None = None
) -> Request:
    state = rt.IFF_UP if up else 0
    change = 0 if up is None else rt.IFF_UP
    return Request(kind, flags, rt.IFINFO.pack(0, 0, index, state, change) + attributes)


def _info(kind: str, data: bytes) -> bytes:
    """The link type `kind` with its data."""
    return attr(rt.IFLA_LINKINFO, _text(rt.IFLA_INFO_KIND, kind) + attr(rt.IFLA_INFO_DATA, data))


def _add_bridge(operation: AddBridge, index: IndexOf) -> Iterable[Request]:
    """Made with another MTU and then changed: only a chosen MTU survives ports that join later."""
    flags = NLM_F_CREATE | NLM_F_EXCL
    data = _u32(rt.IFLA_BR_FORWARD_DELAY, 0) + _u32(rt.IFLA_BR_STP_STATE, 0)
    data += attr(rt.IFLA_BR_MCAST_SNOOPING, b"\0")
    other = operation.mtu + (1 if operation.mtu < 65535 else -1)
    named = _text(rt.IFLA_IFNAME, operation.name) + _u32(rt.IFLA_MTU, other)
    yield _link(rt.RTM_NEWLINK, 0, named + _info("bridge", data), flags)
    chosen = _text(rt.IFLA_IFALIAS, MARK) + _u32(rt.IFLA_MTU, operation.mtu)
    yield _link(rt.RTM_SETLINK, index(operation.name), chosen)


def _add_vlan(operation: AddVlan, index: IndexOf) -> Iterable[Request]:
    vlan = operation.vlan
    named = _text(rt.IFLA_IFNAME, vlan.device) + _u32(rt.IFLA_LINK, index(vlan.parent))
    made = named + _info("vlan", _u16(rt.IFLA_VLAN_ID, vlan.vlan))
    yield _link(rt.RTM_NEWLINK, 0, made, NLM_F_CREATE | NLM_F_EXCL)
    yield _link(rt.RTM_SETLINK, index(vlan.device), _text(rt.IFLA_IFALIAS, MARK))


def _delete_link(operation: DeleteLink, index: IndexOf) -> Iterable[Request]:
    yield _link(rt.RTM_DELLINK, index(operation.device), b"")


def _set_link(operation: SetLink, index: IndexOf) -> Iterable[Request]:
    attributes = _u32(rt.IFLA_MTU, operation.mtu) if operation.mtu else b""
    yield _link(rt.RTM_SETLINK, index(operation.link), attributes, up=operation.up)


def _set_port(operation: SetPort, index: IndexOf) -> Iterable[Request]:
    attributes = b""
    if operation.bridge is not None:
        attributes += _u32(rt.IFLA_MASTER, index(operation.bridge) if operation.bridge else 0)
    if operation.alias is not None:
        attributes += _text(rt.IFLA_IFALIAS, operation.alias)
    if attributes:
        yield _link(rt.RTM_SETLINK, index(operation.device), attributes)
    if operation.isolated is not None:
        data = attr(rt.IFLA_BRPORT_ISOLATED, bytes([operation.isolated]))
        info = _text(rt.IFLA_INFO_SLAVE_KIND, "bridge") + attr(rt.IFLA_INFO_SLAVE_DATA, data)
        yield _link(rt.RTM_NEWLINK, index(operation.device), attr(rt.IFLA_LINKINFO, info))


def _address(kind: int, flags: int, address: Address, index: IndexOf) -> Request:
    interface = address.interface
    length = interface.network.prefixlen
    body = rt.IFADDR.pack(rt.FAMILIES[interface.version], length, 0, 0, index(address.link))
    body += attr(rt.IFA_LOCAL, interface.ip.packed) + attr(rt.IFA_ADDRESS, interface.ip.packed)
    if kind == rt.RTM_NEWADDR:
        body += attr(rt.IFA_PROTO, bytes([PROTOCOL]))
        if interface.version == 6:
            body += _u32(rt.IFA_FLAGS, rt.IFA_F_NODAD)
    return Request(kind, flags, body)


def _add_address(operation: AddAddress, index: IndexOf) -> Iterable[Request]:
    yield _address(rt.RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, operation.address, index)


def _delete_address(operation: DeleteAddress, index: IndexOf) -> Iterable[Request]:
    """Without promote_secondaries the first IPv4 address of a subnet takes the others with it."""
    address = operation.address
    if address.interface.version == 4:
        conf = attr(rt.IFLA_INET_CONF, _u32(rt.IPV4_DEVCONF_PROMOTE_SECONDARIES, 1))
        specific = attr(rt.IFLA_AF_SPEC, attr(rt.FAMILIES[4], conf))
        yield _link(rt.RTM_SETLINK, index(address.link), specific)
    yield _address(rt.RTM_DELADDR, 0, address, index)


def _route(kind: int, flags: int, route: Route, index: IndexOf) -> Request:
    destination = route.destination
    on_link = route.kind is RouteKind.UNICAST and route.via is None
    scope = rt.RT_SCOPE_LINK if on_link else rt.RT_SCOPE_UNIVERSE
    if kind == rt.RTM_DELROUTE:
        scope = rt.RT_SCOPE_NOWHERE
    family, length = rt.FAMILIES[destination.version], destination.prefixlen
    number = ROUTE_TYPES[route.kind]
    body = rt.RTMSG.pack(family, length, 0, 0, rt.RT_TABLE_MAIN, PROTOCOL, scope, number, 0)
    if length:
        body += attr(rt.RTA_DST, destination.network_address.packed)
    if route.via is not None:
        body += attr(rt.RTA_GATEWAY, route.via.packed)
    if route.link is not None:
        body += _u32(rt.RTA_OIF, index(route.link))
    if route.metric:
        body += _u32(rt.RTA_PRIORITY, route.metric)
    return Request(kind, flags, body)


def _put_route(operation: PutRoute, index: IndexOf) -> Iterable[Request]:
    yield _route(rt.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, operation.route, index)


def _delete_route(operation: DeleteRoute, index: IndexOf) -> Iterable[Request]:
    yield _route(rt.RTM_DELROUTE, 0, operation.route, index)


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
