"""A guest's addresses and routes as lines for dnsmasq(8): reservations and options.

Pure. `hosts` is for a file in its --dhcp-hostsdir, `options` for one in its --dhcp-optsdir. Routes
are those of RFC 3442 (classless static routes), which clients take in place of a default router.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .network import Address, Link, Route, RouteKind, Stack


@dataclass(frozen=True, slots=True)
class Reservations:
    """What dnsmasq is to be told of one guest.

    `addresses` and `routes` (with the interface that each comes by) are what that says, `unsaid`
    what it cannot say, with the reason.
    """

    hosts: str
    options: str
    addresses: frozenset[Address]
    routes: Mapping[Route, Link]
    unsaid: Mapping[Address | Route, str]


def reservations(wanted: Stack, macs: Mapping[Link, str]) -> Reservations:
    """The lines for a guest; `macs` are the MAC addresses of its interfaces."""
    unsaid: dict[Address | Route, str] = {}
    reserved: dict[tuple[Link, int], Address] = {}
    for address in sorted(wanted.addresses, key=str):
        if address.link not in macs:
            continue
        place = address.link, address.interface.version
        if place in reserved:
            first = reserved[place].interface.ip
            unsaid[address] = f"an interface gets one address of a family by DHCP; it has {first}"
        else:
            reserved[place] = address
    routes: dict[Route, Link] = {}
    for route in sorted(wanted.routes, key=str):
        link = _interface(route, reserved.values(), macs)
        if reason := _unsayable(route, link):
            unsaid[route] = reason
        elif link is not None:
            routes[route] = link
    hosts = [_host(link, mac, reserved) for link, mac in macs.items()]
    leased = {address.link for address in reserved.values()} | {*routes.values()}
    options = [_routes(link, mac, routes) for link, mac in macs.items() if link in leased]
    return Reservations(
        "".join(hosts), "".join(options), frozenset(reserved.values()), routes, unsaid
    )


def _interface(route: Route, addresses: Iterable[Address], macs: Mapping[Link, str]) -> Link | None:
    """The interface whose lease brings a route."""
    if route.link is not None:
        return route.link
    for address in addresses:
        if route.via is not None and route.via in address.interface.network:
            return address.link
    return next(iter(macs)) if len(macs) == 1 else None


def _unsayable(route: Route, link: Link | None) -> str:
    if route.kind is not RouteKind.UNICAST:
        return f"DHCP knows no routes of type {route.kind.value}"
    if route.metric:
        return "DHCP knows no metrics of routes"
    if route.destination.version == 6:
        return "DHCPv6 knows no routes"
    return "" if link is not None else "no interface has an address in the next hop's network"


def _tag(mac: str) -> str:
    return f"vmib-{mac.replace(':', '')}"


def _host(link: Link, mac: str, reserved: Mapping[tuple[Link, int], Address]) -> str:
    words = [
        f"[{found.interface.ip}]" if version == 6 else str(found.interface.ip)
        for version in (4, 6)
        if (found := reserved.get((link, version))) is not None
    ]
    return f"{','.join([mac, f'set:{_tag(mac)}', *words])}\n" if words else ""


def _routes(link: Link, mac: str, routes: Mapping[Route, Link]) -> str:
    words = [
        f"{route.destination},{route.via or '0.0.0.0'}"  # noqa: S104 - on-link (RFC 3442)
        for route, by in routes.items()
        if by == link
    ]
    # Without a value the option is not sent: dnsmasq forgets no option, but the last one counts.
    return f"{','.join([f'tag:{_tag(mac)}', 'option:classless-static-route', *words])}\n"
