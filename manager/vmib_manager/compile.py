"""From the model to the rows that each host shall have. Pure; the model must have passed checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any
from zlib import crc32

from vmib.impairment import Impairment
from vmib.rows import (
    Addr,
    Direction,
    Domain,
    DomainDefaultAction,
    InetAddressType,
    Link,
    Route,
    Shape,
    Switch,
    Vif,
    Vm,
)
from vmib.smi import IpAddress

from .connections import Opening, missing_routes, openings, routes, way_out
from .filters import domain_filters
from .model import Attachment, IpNetwork, Model, Site
from .paths import PairPath, collapse
from .wanted import PifRef, Ref, VifRef, VmRef, WantedRow

LAST_HASHED = 60_000

HostRows = dict[str, tuple[WantedRow, ...]]


def indexes(names: Iterable[str], chosen: Mapping[str, int]) -> dict[str, int]:
    """A number for each name: the one chosen, or else one that follows from the name alone.

    Where two names would get the same, the later one in the file moves on, so that what is added
    at the end of a file renumbers nothing.
    """
    taken = set(chosen.values())
    numbers = dict(chosen)
    for name in names:
        if name in numbers:
            continue
        number = crc32(name.encode()) % LAST_HASHED + 1
        while number in taken:
            number = number % LAST_HASHED + 1
        taken.add(number)
        numbers[name] = number
    return numbers


def domain_indexes(model: Model) -> dict[str, int]:
    """vmibDomainIndex of each site, the same on every host."""
    chosen = {site.id: site.domain for site in model.virtual.sites if site.domain}
    return indexes((site.id for site in model.virtual.sites), chosen)


def switch_indexes(model: Model) -> dict[str, int]:
    """vmibSwitchIndex of each switch that sites name, the same on every host."""
    named = (site.switch.name for site in model.virtual.sites if site.switch is not None)
    return indexes(named, {})


def family(value: IpAddress | IpNetwork) -> InetAddressType:
    """The InetAddressType of an address or network."""
    return InetAddressType.ipv4 if value.version == 4 else InetAddressType.ipv6


def compile_rows(model: Model, pairs: tuple[PairPath, ...] | None = None) -> HostRows:
    """The rows of every host of the real file, also of those that get none.

    `pairs` saves work where the caller has called `paths.collapse` before. Raises `ValueRefused`
    where the MIB cannot hold what is described.
    """
    if pairs is None:
        pairs = collapse(model)
    rows: dict[str, list[WantedRow]] = {host.id: [] for host in model.real.hosts}
    domains, switches = domain_indexes(model), switch_indexes(model)
    for host, found in _site_rows(model, pairs, domains, switches):
        rows[host].append(found)
    for attachments in model.attachments.values():
        rows[attachments[0].machine.host] += _machine_rows(attachments, domains, switches)
    for pair in pairs:
        rows[pair.a.machine.host] += _link_rows(pair)
    for host, found in _route_rows(model, pairs):
        rows[host].append(found)
    return {host: tuple(found) for host, found in rows.items()}


def _site_rows(
    model: Model,
    pairs: tuple[PairPath, ...],
    domains: Mapping[str, int],
    switches: Mapping[str, int],
) -> Iterator[tuple[str, WantedRow]]:
    present: dict[str, dict[str, None]] = {}
    for attachments in model.attachments.values():
        for attachment in attachments:
            present.setdefault(attachment.site.id, {})[attachment.machine.host] = None
    opened: dict[tuple[str, str], list[Opening]] = {}
    for opening in openings(model, pairs):
        place = opening.at.site.id, opening.at.machine.host
        opened.setdefault(place, []).append(opening)
    made = set()
    for site in model.virtual.sites:
        hosts = present.get(site.id, {})
        for host in hosts:
            default = DomainDefaultAction.drop if site.strict else DomainDefaultAction.accept
            domain = Domain(name=site.id, default_action=default)
            yield host, WantedRow("vmibDomainTable", (domains[site.id],), domain, site.source)
            if site.switch is not None and (host, site.switch.name) not in made:
                made.add((host, site.switch.name))
                yield host, _switch_row(site, switches)
            here = opened.get((site.id, host), [])
            for placed in domain_filters(model, site, here, spread=len(hosts) > 1):
                key = (domains[site.id], placed.priority)
                yield host, WantedRow("vmibFilterTable", key, placed.filter, placed.source)


def _switch_row(site: Site, switches: Mapping[str, int]) -> WantedRow:
    assert site.switch is not None
    addr = site.switch.addr
    within = [net.prefixlen for net in site.subnets if addr is not None and addr in net]
    switch = Switch(
        name=site.switch.name,
        mode=site.switch.mode,
        vlan_id=site.switch.vlan,
        addr_type=InetAddressType.unknown if addr is None else family(addr),
        addr=addr,
        addr_prefix=within[0] if within else 0,
    )
    uplink: tuple[tuple[str, Ref], ...] = ()
    if site.switch.uplink:
        uplink = (("uplink_if_index", PifRef(site.switch.uplink)),)
    key = (switches[site.switch.name],)
    return WantedRow("vmibSwitchTable", key, switch, site.source, uplink)


def _machine_rows(
    attachments: tuple[Attachment, ...], domains: Mapping[str, int], switches: Mapping[str, int]
) -> Iterator[WantedRow]:
    machine = attachments[0].machine
    vm = VmRef(machine.name)
    first = min(attachments, key=lambda attachment: attachment.member.vif)
    row = Vm(uuid=machine.uuid, name=machine.name, site=first.site.id)
    yield WantedRow("vmibVmTable", (vm,), row, first.member.source)
    for attachment in attachments:
        yield from _vif_rows(attachment, domains, switches)


def _vif_rows(
    attachment: Attachment, domains: Mapping[str, int], switches: Mapping[str, int]
) -> Iterator[WantedRow]:
    site, member = attachment.site, attachment.member
    key = (VmRef(member.machine), VifRef(member.machine, member.vif))
    mac = next(vif.mac for vif in attachment.machine.vifs if vif.number == member.vif)
    vif = Vif(
        mac_address=mac,
        switch_index=switches[site.switch.name] if site.switch is not None else 0,
        domain=domains[site.id],
        spoof_guard=not member.gateway,
    )
    yield WantedRow("vmibVifTable", key, vif, member.source)
    for address in member.addresses:
        prefix = next((net.prefixlen for net in site.subnets if address in net), None)
        addr = Addr(prefix_length=address.max_prefixlen if prefix is None else prefix)
        where = (*key, family(address), address)
        yield WantedRow("vmibAddrTable", where, addr, member.source)
    for direction, impairment in ((Direction.fromVm, member.up), (Direction.toVm, member.down)):
        yield WantedRow("vmibShapeTable", (*key, direction), _shape(impairment), member.source)


def _columns(impairment: Impairment) -> dict[str, Any]:
    return {name: getattr(impairment, name) for name in Impairment.__slots__}


@lru_cache(maxsize=4096)
def _shape(impairment: Impairment) -> Shape:
    return Shape(**_columns(impairment))


@lru_cache(maxsize=4096)
def _link(impairment: Impairment, peer: str) -> Link:
    return Link(**_columns(impairment), dest_vm_uuid=peer)


def _link_rows(pair: PairPath) -> Iterator[WantedRow]:
    start, peer = pair.a.member, pair.b
    link = _link(pair.impairment, peer.machine.uuid)
    vm, vif = VmRef(start.machine), VifRef(start.machine, start.vif)
    for address in pair.a.addresses_towards(peer):
        key = (vm, vif, family(address), address, address.max_prefixlen)
        yield WantedRow("vmibLinkTable", key, link, pair.source)


def _route_rows(model: Model, pairs: tuple[PairPath, ...]) -> Iterator[tuple[str, WantedRow]]:
    given = set()
    for route in routes(model):
        machine = model.machines[route.machine]
        network, prefix = route.to.network_address, route.to.prefixlen
        key = (VmRef(machine.name), family(route.to), network, prefix, route.metric)
        given.add((machine.name, network, prefix))
        through = way_out(model, route)
        references: tuple[tuple[str, Ref], ...] = ()
        if through is not None and (route.vif is not None or route.next_hop is None):
            references = (("vif_index", VifRef(machine.name, through.member.vif)),)
        row = Route(next_hop=route.next_hop, type=route.type)
        yield machine.host, WantedRow("vmibRouteTable", key, row, route.source, references)
    for here, address, source in missing_routes(model, pairs):
        machine = here.machine
        prefix = address.max_prefixlen
        if (machine.name, address, prefix) in given:
            continue
        key = (VmRef(machine.name), family(address), address, prefix, 0)
        reference: Ref = VifRef(machine.name, here.member.vif)
        found = WantedRow("vmibRouteTable", key, Route(), source, (("vif_index", reference),))
        yield machine.host, found
