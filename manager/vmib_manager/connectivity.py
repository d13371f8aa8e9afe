"""Checks of what links and paths make together: who is joined, over what, to which next hops."""

from __future__ import annotations

from collections.abc import Iterator

from vmib.impairment import Impairment
from vmib.rows import RouteType
from vmib.smi import IpAddress
from vmib.units import MAX_UNSIGNED32, format_time

from .findings import Finding, error, note, warning
from .model import End, Model, Route, Source
from .paths import PairPath


def check(model: Model, pairs: tuple[PairPath, ...]) -> Iterator[Finding]:
    """The findings about the pairs that `paths.collapse` found."""
    yield from _paths(model, pairs)
    yield from _next_hops(model, pairs)
    yield from _duplicates(model, pairs)


def _paths(model: Model, pairs: tuple[PairPath, ...]) -> Iterator[Finding]:
    """What adds up too far, families that do not meet, links that lead nowhere or are shared."""
    users: dict[Source, set[frozenset[str]]] = {}
    for pair in pairs:
        names = pair.a.member.machine, pair.b.member.machine
        if not pair.a.addresses_towards(pair.b):
            message = f"{' and '.join(sorted(names))} have no addresses of the same family"
            yield error(pair.source, message, "give both an IPv4 or both an IPv6 address")
        here, there = pair.a.site.switch, pair.b.site.switch
        if here is not None and there is not None and here.name != there.name:
            sites = " and ".join(sorted((pair.a.site.id, pair.b.site.id)))
            message = f"nothing joins the switches of {sites}"
            yield error(pair.source, message, "give both sites one switch")
        if pair.impairment.delay > MAX_UNSIGNED32:
            message = f"the delays to {pair.b.member.machine} add up to more than the MIB can hold"
            yield error(pair.source, message, f"at most {format_time(MAX_UNSIGNED32)}")
        for link in pair.links:
            users.setdefault(link.source, set()).add(frozenset(names))
    for link in model.virtual.links:
        if link.source not in users and not _overridden(model, link.a, link.b):
            message = f"no pair of machines communicates over the link {link}"
            yield warning(link.source, message, "link its routers with machines, or remove it")
    limited = [link for link in model.virtual.links if link.ab.rate or link.ba.rate]
    shared = {link: len(users.get(link.source, ())) for link in limited}
    if any(count > 1 for count in shared.values()):
        most = max(shared, key=lambda link: shared[link])
        number = sum(count > 1 for count in shared.values())
        message = f"paths share {number} links, most of them {most}, which {shared[most]} use"
        way = "each path gets the whole rate for itself; a member's up and down limit the sum"
        yield note(most.source, message, way)


def _overridden(model: Model, a: End, b: End) -> bool:
    return any({path.start, path.stop} == {a, b} for path in model.virtual.paths)


def _next_hops(model: Model, pairs: tuple[PairPath, ...]) -> Iterator[Finding]:
    linked: dict[str, set[IpAddress]] = {}
    for pair in pairs:
        for here, there in ((pair.a, pair.b), (pair.b, pair.a)):
            linked.setdefault(here.member.machine, set()).update(there.member.addresses)
    for route in model.virtual.routes:
        hop = route.next_hop
        if hop is None or hop in linked.get(route.machine, ()):
            continue
        attachments = model.attachments[route.machine]
        near = [net for attachment in attachments for net in attachment.site.subnets]
        near += [r.to for r in model.virtual.routes if _leads_directly(r, route.machine)]
        if not any(hop in net for net in near):
            message = f"{route.machine} cannot reach the next hop {hop}"
            way = "take one in its subnet, link it with the next hop, or add an on-link route"
            yield error(route.source, message, way)


def _leads_directly(route: Route, machine: str) -> bool:
    return route.machine == machine and route.next_hop is None and route.type is RouteType.unicast


def _duplicates(model: Model, pairs: tuple[PairPath, ...]) -> Iterator[Finding]:
    """The kernel has one duplicating netem in a tree, and then no other (sch_netem.c)."""
    sending: dict[tuple[str, int], list[tuple[Impairment, Source]]] = {}
    for attachments in model.attachments.values():
        for attachment in attachments:
            member = attachment.member
            own = sending.setdefault(attachment.key, [])
            own += [(member.up, member.source)] if member.up.needs_netem else []
    for pair in pairs:
        if pair.impairment.needs_netem:
            rows = len(pair.a.addresses_towards(pair.b))
            sending[pair.a.key] += [(pair.impairment, pair.source)] * rows
    for (machine, _), impairments in sending.items():
        duplicating = [source for impairment, source in impairments if impairment.duplicate]
        if duplicating and len(impairments) > 1:
            message = f"what {machine} sends is duplicated and also impaired towards others"
            way = (
                "remove duplicate, or every other delay, loss, duplicate, corrupt and reorder of it"
            )
            yield error(duplicating[0], message, f"{way} (each address of a peer counts)")
