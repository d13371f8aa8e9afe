"""Links, addresses and routes as rtnetlink tells them (rtnetlink(7), linux/if_link.h)."""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from . import rtnetlink as rt
from .netlink import Message
from .network import PROTOCOL, Address, Link, Route, RouteKind
from .tc import attr, attributes

ROUTE_TYPES = {
    RouteKind.UNICAST: 1,
    RouteKind.BLACKHOLE: 6,
    RouteKind.UNREACHABLE: 7,
    RouteKind.PROHIBIT: 8,
}
_ROUTE_KINDS = {number: kind for kind, number in ROUTE_TYPES.items()}

LINKS = rt.IFINFO.pack(0, 0, 0, 0, 0) + attr(
    rt.IFLA_EXT_MASK, struct.pack("=I", rt.RTEXT_FILTER_SKIP_STATS)
)
"""The body of RTM_GETLINK for a dump of all links without statistics."""

ADDRESSES = bytes(rt.IFADDR.size)
"""The body of RTM_GETADDR for a dump of all addresses."""

ROUTES = rt.RTMSG.pack(0, 0, 0, 0, rt.RT_TABLE_MAIN, 0, 0, 0, 0)
"""The body of RTM_GETROUTE for a dump of the main tables of all families."""


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


def _found(body: bytes, header: struct.Struct) -> dict[int, bytes]:
    return dict(attributes(memoryview(body)[header.size :]))


def _int(payload: bytes) -> int:
    return int.from_bytes(payload, sys.byteorder)


def _text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode("utf-8", "replace")


@lru_cache(maxsize=4096)
def link_facts(body: bytes) -> LinkFacts:
    """Decode the body of one RTM_NEWLINK. Most of a dump is as it was in the one before."""
    _, hardware, index, flags, _ = rt.IFINFO.unpack_from(body)
    found = _found(body, rt.IFINFO)
    info = dict(attributes(found.get(rt.IFLA_LINKINFO, b"")))
    kind = _text(info.get(rt.IFLA_INFO_KIND, b""))
    vlan = dict(attributes(info.get(rt.IFLA_INFO_DATA, b""))) if kind == "vlan" else {}
    slave = _text(info.get(rt.IFLA_INFO_SLAVE_KIND, b""))
    port = dict(attributes(info.get(rt.IFLA_INFO_SLAVE_DATA, b""))) if slave == "bridge" else {}
    return LinkFacts(
        index=index,
        name=_text(found[rt.IFLA_IFNAME]),
        kind=kind,
        alias=_text(found.get(rt.IFLA_IFALIAS, b"")),
        mtu=_int(found[rt.IFLA_MTU]),
        up=bool(flags & rt.IFF_UP),
        running=bool(flags & rt.IFF_RUNNING),
        master=_int(found.get(rt.IFLA_MASTER, b"")),
        parent=_int(found.get(rt.IFLA_LINK, b"")),
        vlan=_int(vlan.get(rt.IFLA_VLAN_ID, b"")),
        isolated=bool(_int(port.get(rt.IFLA_BRPORT_ISOLATED, b""))),
        mac=found.get(rt.IFLA_ADDRESS, b"").hex(":"),
        hardware=hardware,
    )


def addresses(messages: Iterable[Message], links: Mapping[int, Link]) -> frozenset[Address]:
    """Decode RTM_NEWADDRs; addresses of links that `links` (by ifIndex) lacks are left out."""
    read = set()
    for message in messages:
        family, length, _, _, index = rt.IFADDR.unpack_from(message.body)
        if index not in links:
            continue
        found = _found(message.body, rt.IFADDR)
        octets = found.get(rt.IFA_LOCAL) or found[rt.IFA_ADDRESS]
        interface = (IPv4Interface if family == rt.FAMILIES[4] else IPv6Interface)((octets, length))
        is_ours = _int(found.get(rt.IFA_PROTO, b"")) == PROTOCOL
        read.add(Address(links[index], interface, is_ours))
    return frozenset(read)


def routes(messages: Iterable[Message], links: Mapping[int, Link]) -> frozenset[Route]:
    """Decode RTM_NEWROUTEs of the four kinds in the main table.

    A multipath route reads as one without next hop and link, which equals no wish.
    """
    read = set()
    for message in messages:
        family, length, _, _, _, protocol, _, number, _ = rt.RTMSG.unpack_from(message.body)
        kind = _ROUTE_KINDS.get(number)
        if kind is None:
            continue
        found = _found(message.body, rt.RTMSG)
        if _int(found[rt.RTA_TABLE]) != rt.RT_TABLE_MAIN:
            continue
        is_v4 = family == rt.FAMILIES[4]
        default = bytes(4 if is_v4 else 16)
        destination = (found.get(rt.RTA_DST, default), length)
        via = found.get(rt.RTA_GATEWAY) if kind is RouteKind.UNICAST else None
        oif = found.get(rt.RTA_OIF) if kind is RouteKind.UNICAST else None
        read.add(
            Route(
                IPv4Network(destination) if is_v4 else IPv6Network(destination),
                _int(found.get(rt.RTA_PRIORITY, b"")),
                kind,
                None if via is None else IPv4Address(via) if is_v4 else IPv6Address(via),
                None if oif is None else links.get(_int(oif)),
                protocol == PROTOCOL,
            )
        )
    return frozenset(read)
