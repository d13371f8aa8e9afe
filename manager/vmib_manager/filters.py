"""The filters of a site's domain on one host.

In the order of priority: the rules of the file; what passes between the site's members on
different hosts; what links, paths and routes open. Everything else meets the domain's default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import product

from vmib.errors import ValueRefused
from vmib.rows import Direction, Filter, FilterAction, InetAddressType

from .connections import Opening, blocks, single
from .model import ANY_PROTOCOL, End, IpNetwork, Model, Rule, Site, Source

RULES = range(1000, 20_000)
SITE = range(20_000, 30_000)
OPENINGS = range(30_000, 65_536)
"""Priorities, by what a filter is for."""

GAP = 10
ICMP, ICMPV6 = 1, 58

_TO_ALL = tuple(ip_network(text) for text in ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8"))
"""Where a member's multicasts and broadcasts go, besides its subnet."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A filter with its priority in the domain."""

    priority: int
    filter: Filter
    source: Source


def _filter(
    direction: Direction, src: IpNetwork | None, dst: IpNetwork | None, action: FilterAction
) -> Filter:
    known = src or dst
    family = InetAddressType.unknown
    if known is not None:
        family = InetAddressType.ipv4 if known.version == 4 else InetAddressType.ipv6
    return Filter(
        direction=direction,
        addr_type=family,
        src=src.network_address if src is not None else None,
        src_prefix=src.prefixlen if src is not None else 0,
        dst=dst.network_address if dst is not None else None,
        dst_prefix=dst.prefixlen if dst is not None else 0,
        action=action,
    )


def networks_of(model: Model, place: End | IpNetwork | None) -> list[IpNetwork | None]:
    """The networks that a place of a rule stands for; [None] for any."""
    if not isinstance(place, End):
        return [place]
    if place.name in model.sites:
        return list(model.sites[place.name].subnets)
    return [
        single(address)
        for attachment in model.attachments.get(place.name, ())
        if place.vif in (None, attachment.member.vif)
        for address in attachment.member.addresses
    ]


def _touches(site: Site, network: IpNetwork | None) -> bool:
    return network is None or any(network.overlaps(subnet) for subnet in site.subnets)


def _of_rule(model: Model, site: Site, rule: Rule) -> Iterator[Filter]:
    swapped = Rule(
        action=rule.action,
        start=rule.stop,
        stop=rule.start,
        protocol=rule.protocol,
        ports=rule.source_ports,
        source_ports=rule.ports,
        priority=rule.priority,
        symmetric=False,
        source=rule.source,
    )
    for way in (rule, swapped) if rule.symmetric else (rule,):
        for src, dst in product(networks_of(model, way.start), networks_of(model, way.stop)):
            families = {network.version for network in (src, dst) if network is not None}
            wrong = {ICMP: 6, ICMPV6: 4}.get(way.protocol)
            if len(families) > 1 or wrong in families:
                continue
            for direction, near in ((Direction.fromVm, src), (Direction.toVm, dst)):
                if _touches(site, near):
                    yield from _with_ports(way, _filter(direction, src, dst, way.action))


def _with_ports(rule: Rule, base: Filter) -> Iterator[Filter]:
    for here, there in product(rule.source_ports, rule.ports):
        yield Filter(
            direction=base.direction,
            addr_type=base.addr_type,
            src=base.src,
            src_prefix=base.src_prefix,
            dst=base.dst,
            dst_prefix=base.dst_prefix,
            protocol=rule.protocol,
            src_port_min=here.low,
            src_port_max=here.high,
            dst_port_min=there.low,
            dst_port_max=there.high,
            action=base.action,
        )


def _inside(site: Site) -> Iterator[Filter]:
    for subnet in site.subnets:
        to_all = [network for network in _TO_ALL if network.version == subnet.version]
        for dst, direction in product([subnet, *to_all], (Direction.fromVm, Direction.toVm)):
            yield _filter(direction, subnet, dst, FilterAction.accept)


def _opened(openings: Iterable[Opening]) -> Iterator[Filter]:
    wanted: dict[Direction, set[tuple[IpNetwork, IpNetwork]]] = {}
    for opening in openings:
        wanted.setdefault(opening.direction, set()).add((opening.src, opening.dst))
    for direction in sorted(wanted):
        for src, dst in blocks(wanted[direction]):
            yield _filter(direction, src, dst, FilterAction.accept)


def _numbered(
    filters: list[tuple[Filter, Source]], priorities: range, site: Site
) -> Iterator[Placed]:
    step = GAP if len(filters) * GAP <= len(priorities) else 1
    if len(filters) > len(priorities):
        allowed = f"at most {len(priorities)}: use sites and networks instead of single machines"
        raise ValueRefused(f"filters of site {site.id}", len(filters), allowed)
    for position, (wanted, source) in enumerate(filters):
        yield Placed(priorities[position * step], wanted, source)


def domain_filters(
    model: Model, site: Site, openings: Iterable[Opening], *, spread: bool
) -> Iterator[Placed]:
    """The filters of a site on one host.

    `openings` are those of the site's members on this host; `spread` says that the site has
    members on other hosts too. Raises `ValueRefused` where priorities do not suffice.
    """
    ruled: dict[Filter, Source] = {}
    for rule in sorted(model.virtual.rules, key=lambda rule: rule.priority):
        for wanted in _of_rule(model, site, rule):
            ruled.setdefault(wanted, rule.source)
    yield from _numbered(list(ruled.items()), RULES, site)
    if not site.strict:
        return
    inside = [(f, site.source) for f in _inside(site)] if spread else []
    yield from _numbered(inside, SITE, site)
    yield from _numbered([(f, site.source) for f in _opened(openings)], OPENINGS, site)


def matches_ping(wanted: Filter) -> bool:
    """Whether a filter can concern ICMP echo."""
    return wanted.protocol in (ANY_PROTOCOL, ICMP, ICMPV6)
