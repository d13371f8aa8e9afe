"""Who shall be able to talk to whom beyond a site: what links, paths and routes imply."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from vmib.rows import Direction, RouteType
from vmib.smi import IpAddress

from .model import Attachment, DefaultRoute, IpNetwork, Model, Route, Site, Source
from .paths import PairPath


@dataclass(frozen=True, slots=True)
class Opening:
    """Traffic that an interface shall be able to send (fromVm) or receive (toVm)."""

    at: Attachment
    direction: Direction
    src: IpNetwork
    dst: IpNetwork


@dataclass(frozen=True, slots=True)
class Owners:
    """Whose an address is."""

    by_address: dict[IpAddress, Attachment] = field(default_factory=dict)

    def of(self, address: IpAddress | None) -> Attachment | None:
        """The interface with this address, if any."""
        return None if address is None else self.by_address.get(address)


def owners(model: Model) -> Owners:
    """The owners of all addresses of members."""
    found = Owners()
    for attachments in model.attachments.values():
        for attachment in attachments:
            for address in attachment.member.addresses:
                found.by_address.setdefault(address, attachment)
    return found


@lru_cache(maxsize=65_536)
def single(address: IpAddress) -> IpNetwork:
    """The network of one address."""
    return ip_network((address, address.max_prefixlen))


def routes(model: Model) -> Iterator[Route]:
    """The routes that the file gives, and the default routes of sites that have them."""
    yield from model.virtual.routes
    for site in model.virtual.sites:
        hops = _default_hops(site)
        for member in site.members:
            if member.gateway and site.default_route is DefaultRoute.GATEWAY:
                continue
            for address in hops:
                if any(own.version == address.version for own in member.addresses):
                    anywhere = ip_network("0.0.0.0/0" if address.version == 4 else "::/0")
                    yield Route(
                        machine=member.machine,
                        to=anywhere,
                        next_hop=address,
                        vif=member.vif,
                        metric=0,
                        type=RouteType.unicast,
                        source=site.source,
                    )


def _default_hops(site: Site) -> tuple[IpAddress, ...]:
    """The next hops of a site's default routes, one of each family."""
    if site.default_route is DefaultRoute.SWITCH and site.switch is not None:
        return () if site.switch.addr is None else (site.switch.addr,)
    gateways = [member for member in site.members if member.gateway]
    if site.default_route is DefaultRoute.GATEWAY and gateways:
        return gateways[0].addresses
    return ()


def way_out(model: Model, route: Route) -> Attachment | None:
    """The interface that a route leads through; None where the description does not tell."""
    attachments = model.attachments.get(route.machine, ())
    for attachment in attachments:
        if route.vif is not None:
            if attachment.member.vif == route.vif:
                return attachment
        elif len(attachments) == 1 or (
            route.next_hop is not None
            and any(route.next_hop in subnet for subnet in attachment.site.subnets)
        ):
            return attachment
    return None


def _sources(model: Model, route: Route) -> set[IpNetwork]:
    """The networks whose traffic takes a route: the machine's own and those it forwards for."""
    networks: set[IpNetwork] = set()
    for attachment in model.attachments.get(route.machine, ()):
        networks.update(single(address) for address in attachment.member.addresses)
        if attachment.member.gateway:
            networks.update(attachment.site.subnets)
    return {network for network in networks if network.version == route.to.version}


def _both_ways(at: Attachment, near: IpNetwork, far: IpNetwork) -> Iterator[Opening]:
    yield Opening(at, Direction.fromVm, near, far)
    yield Opening(at, Direction.toVm, far, near)


def _of_pairs(pairs: Iterable[PairPath]) -> Iterator[Opening]:
    done = set()
    for pair in pairs:
        a, b = pair.a, pair.b
        if a.site is b.site or (b.key, a.key) in done:
            continue
        done.add((a.key, b.key))
        for mine in a.member.addresses:
            for theirs in b.member.addresses:
                if mine.version != theirs.version:
                    continue
                near = single(mine)
                far = single(theirs)
                yield from _both_ways(a, near, far)
                yield from _both_ways(b, far, near)


def _of_routes(model: Model) -> Iterator[Opening]:
    owned = owners(model)
    for route in routes(model):
        here = way_out(model, route)
        if here is None or route.type is not RouteType.unicast:
            continue
        there = owned.of(route.next_hop)
        for near in _sources(model, route):
            yield from _both_ways(here, near, route.to)
            if there is not None:
                yield from _both_ways(there, route.to, near)


def openings(model: Model, pairs: Iterable[PairPath]) -> Iterator[Opening]:
    """Everything that links, paths and routes open.

    A link or path between two machines lets both talk. A route lets the machine, and the sites
    it is a gateway of, talk to the destination through the next hop.
    """
    yield from _of_pairs(pairs)
    yield from _of_routes(model)


def blocks(pairs: Iterable[tuple[IpNetwork, IpNetwork]]) -> list[tuple[IpNetwork, IpNetwork]]:
    """The same set of (source, destination) in fewer networks; exact, in a stable order."""
    destinations: dict[IpNetwork, set[IpNetwork]] = {}
    for src, dst in pairs:
        destinations.setdefault(src, set()).add(dst)
    alike: dict[frozenset[IpNetwork], list[IpNetwork]] = {}
    for src, dsts in destinations.items():
        alike.setdefault(frozenset(dsts), []).append(src)
    found = [
        (src, dst)
        for dsts, srcs in alike.items()
        for src in _collapsed(srcs)
        for dst in _collapsed(dsts)
        if src.version == dst.version
    ]
    return sorted(found, key=lambda block: (_order(block[0]), _order(block[1])))


def _order(network: IpNetwork) -> tuple[int, int, int]:
    return network.version, int(network.network_address), network.prefixlen


def _collapsed(networks: Collection[IpNetwork]) -> Collection[IpNetwork]:
    if len(networks) == 1:
        return networks
    found: list[IpNetwork] = []
    found += collapse_addresses(n for n in networks if isinstance(n, IPv4Network))
    found += collapse_addresses(n for n in networks if isinstance(n, IPv6Network))
    return found


def missing_routes(
    model: Model, pairs: Iterable[PairPath]
) -> Iterator[tuple[Attachment, IpAddress, Source]]:
    """The on-link routes that connected machines need: to addresses outside their subnets."""
    seen = set()
    for pair in pairs:
        for here, there in ((pair.a, pair.b), (pair.b, pair.a)):
            if (here.key, there.key) in seen:
                continue
            seen.add((here.key, there.key))
            if here.site is there.site:
                continue
            for address in here.addresses_towards(there):
                yield here, address, pair.source
