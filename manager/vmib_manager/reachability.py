"""Which machines shall reach which, worked out from the rows as the MIB defines their effect.

Reaching means that a ping to the peer's primary address (the first of its first interface) is
answered: routes and filters must let the request and the reply pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from vmib.rows import Direction, DomainDefaultAction, FilterAction, RouteType
from vmib.smi import IpAddress

from .compile import compile_rows, domain_indexes
from .connections import Owners, owners
from .filters import matches_ping
from .model import Attachment, IpNetwork, Model
from .wanted import VmRef, WantedRow

MAX_HOPS = 16


@dataclass(frozen=True, slots=True)
class _Entry:
    """A filter, its networks as (version, value, mask) to compare quickly."""

    direction: Direction
    src: tuple[int, int, int] | None
    dst: tuple[int, int, int] | None
    accept: bool


@dataclass(frozen=True, slots=True)
class _Network:
    model: Model
    owners: Owners
    domains: dict[str, int]
    filters: dict[tuple[str, int], list[_Entry]]
    defaults: dict[tuple[str, int], bool]
    routes: dict[str, list[tuple[IpNetwork, int, Any]]]


def _span(address: IpAddress | None, prefix: int) -> tuple[int, int, int] | None:
    if address is None:
        return None
    mask = int(ip_network((address, prefix)).netmask)
    return address.version, int(address), mask


def _within(address: IpAddress, span: tuple[int, int, int] | None) -> bool:
    if span is None:
        return True
    version, value, mask = span
    return address.version == version and int(address) & mask == value


def _network(model: Model) -> _Network:
    network = _Network(model, owners(model), domain_indexes(model), {}, {}, {})
    for host, rows in compile_rows(model).items():
        for wanted in sorted(_of(rows, "vmibFilterTable"), key=lambda wanted: wanted.key):
            row = wanted.row
            if matches_ping(row):
                entry = _Entry(
                    row.direction,
                    _span(row.src, row.src_prefix),
                    _span(row.dst, row.dst_prefix),
                    row.action is FilterAction.accept,
                )
                network.filters.setdefault((host, wanted.key[0]), []).append(entry)
        for wanted in _of(rows, "vmibDomainTable"):
            accept = wanted.row.default_action is DomainDefaultAction.accept
            network.defaults[host, wanted.key[0]] = accept
        for wanted in _of(rows, "vmibRouteTable"):
            machine, _, to, prefix, metric = wanted.key
            assert isinstance(machine, VmRef)
            entry_of = (ip_network((to, prefix)), metric, wanted.row)
            network.routes.setdefault(machine.machine, []).append(entry_of)
    for entries in network.routes.values():
        entries.sort(key=lambda entry: (-entry[0].prefixlen, entry[1]))
    return network


def _of(rows: Iterable[WantedRow], table: str) -> Iterator[WantedRow]:
    return (wanted for wanted in rows if wanted.table == table)


def _passes(
    network: _Network, here: Attachment, there: Attachment, src: IpAddress, dst: IpAddress
) -> bool:
    inside = here.site is there.site and here.machine.host == there.machine.host
    for attachment, direction in ((here, Direction.fromVm), (there, Direction.toVm)):
        place = attachment.machine.host, network.domains[attachment.site.id]
        verdict = inside or network.defaults[place]
        for entry in network.filters.get(place, ()):
            if entry.direction is direction and _within(src, entry.src) and _within(dst, entry.dst):
                verdict = entry.accept
                break
        if not verdict:
            return False
    return True


def _step(network: _Network, machine: str, dst: IpAddress) -> tuple[Attachment, Attachment] | None:
    """The interfaces that a packet leaves by and arrives at next; None where it does neither."""
    attachments = network.model.attachments.get(machine, ())
    for attachment in attachments:
        if any(dst in subnet for subnet in attachment.site.subnets):
            owner = network.owners.of(dst)
            return (attachment, owner) if owner and owner.site is attachment.site else None
    for to, _, row in network.routes.get(machine, ()):
        if dst not in to:
            continue
        owner = network.owners.of(row.next_hop or dst)
        owner = owner or _behind_host(network, attachments, row, dst)
        if row.type is not RouteType.unicast or owner is None:
            return None
        near = [a for a in attachments if owner.site is a.site] or list(attachments)
        return near[0], owner
    return None


def _behind_host(
    network: _Network, attachments: Iterable[Attachment], row: Any, dst: IpAddress
) -> Attachment | None:
    """The interface that the host itself forwards to, if the next hop is its own address."""
    owner = network.owners.of(dst)
    for here in attachments:
        switch = here.site.switch
        if switch is None or switch.addr is None or switch.addr != row.next_hop:
            continue
        there = None if owner is None else owner.site.switch
        near = owner is not None and owner.machine.host == here.machine.host
        return owner if near and there is not None and there.through_host else None
    return None


def _delivered(network: _Network, start: str, src: IpAddress, dst: IpAddress) -> bool:
    machine = start
    for _ in range(MAX_HOPS):
        step = _step(network, machine, dst)
        if step is None or not _passes(network, *step, src, dst):
            return False
        arrived = step[1]
        if dst in arrived.member.addresses:
            return True
        machine = arrived.member.machine
        if not any(a.member.gateway for a in network.model.attachments[machine]):
            return False
    return False


def _answered(network: _Network, start: str, stop: str, dst: IpAddress) -> bool:
    step = _step(network, start, dst)
    if step is None:
        return False
    source = next((a for a in step[0].member.addresses if a.version == dst.version), None)
    if source is None:
        return False
    return _delivered(network, start, source, dst) and _delivered(network, stop, dst, source)


def primary(attachments: Iterable[Attachment]) -> IpAddress | None:
    """The first address of the lowest-numbered interface that has one."""
    ordered = sorted(attachments, key=lambda attachment: attachment.member.vif)
    return next((a.member.addresses[0] for a in ordered if a.member.addresses), None)


def expected(model: Model) -> dict[tuple[str, str], bool]:
    """For each ordered pair of machines that are members of sites: whether the first reaches it."""
    network = _network(model)
    addresses = {name: primary(found) for name, found in model.attachments.items()}
    return {
        (start, stop): dst is not None and _answered(network, start, stop, dst)
        for start in addresses
        for stop, dst in addresses.items()
        if start != stop
    }
