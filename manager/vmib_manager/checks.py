"""What must hold across elements and files; each check is a function from the model to findings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations

from vmib.errors import ValueRefused
from vmib.impairment import Impairment
from vmib.rows import RouteType, SwitchMode
from vmib.smi import IpAddress
from vmib.units import format_time

from . import connectivity, feasibility
from .compile import HostRows, compile_rows
from .connections import owners, way_out
from .findings import Finding, Severity, error, warning
from .model import (
    Attachment,
    DefaultRoute,
    End,
    IpNetwork,
    Model,
    Route,
    Site,
    SiteSwitch,
    Source,
)
from .paths import collapse

Check = Callable[[Model], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Examined:
    """What checks found, in the order of the files, and the rows; None where they cannot be."""

    findings: tuple[Finding, ...]
    rows: HostRows | None


def check(model: Model) -> list[Finding]:
    """Everything that is wrong or doubtful, in the order of the files.

    A model without errors (`has_errors`) can be compiled.
    """
    return list(examine(model).findings)


def examine(model: Model) -> Examined:
    """The findings of `check` together with what `compile.compile_rows` makes of the model."""
    found = [finding for each in CHECKS for finding in each(model)]
    rows = None
    if not has_errors(found):
        pairs = collapse(model)
        found += connectivity.check(model, pairs)
        found += feasibility.check(model, pairs)
        if not has_errors(found):
            try:
                rows = compile_rows(model, pairs)
            except ValueRefused as refused:
                start = Source(model.virtual.file, 1)
                found.append(error(start, f"{refused.name}: {refused.value}", refused.allowed))
    ordered = sorted(dict.fromkeys(found), key=lambda finding: finding.source)
    return Examined(tuple(ordered), rows)


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether one of the findings is an error."""
    return any(finding.severity is Severity.ERROR for finding in findings)


def _duplicates(
    what: str, named: Iterable[tuple[Hashable, Source]], way_out: str
) -> Iterator[Finding]:
    first: dict[Hashable, Source] = {}
    for name, source in named:
        if name in first:
            yield error(source, f"{what} {name} is already used at {first[name]}", way_out)
        else:
            first[name] = source


def _real_names(model: Model) -> Iterator[Finding]:
    real = model.real
    nodes = [(host.id, host.source) for host in real.hosts]
    nodes += [(node.id, node.source) for node in real.nodes]
    yield from _duplicates("the id", nodes, "give each host, switch and router its own id")
    machines = [machine for host in real.hosts for machine in host.machines]
    yield from _duplicates(
        "the machine", ((m.name, m.source) for m in machines), "give each machine its own name"
    )
    yield from _duplicates(
        "the UUID", ((m.uuid, m.source) for m in machines if m.uuid), "each machine has its own"
    )
    macs = [(vif.mac, vif.source) for machine in machines for vif in machine.vifs]
    macs += [(pif.mac, pif.source) for host in real.hosts for pif in host.pifs if pif.mac]
    yield from _duplicates("the MAC address", macs, "give each interface its own")
    agents = (((str(h.agent.address), h.agent.port), h.source) for h in real.hosts)
    yield from _duplicates("the agent's address", agents, "each host has an agent of its own")
    for host in real.hosts:
        pifs = ((pif.name, pif.source) for pif in host.pifs)
        yield from _duplicates("the interface", pifs, "name each physical interface once")
    for machine in machines:
        vifs = ((vif.number, vif.source) for vif in machine.vifs)
        yield from _duplicates(f"{machine.name}'s vif", vifs, "number its interfaces 0, 1, ...")


def _cables(model: Model) -> Iterator[Finding]:
    known = {host.id for host in model.real.hosts} | {node.id for node in model.real.nodes}
    for cable in model.real.cables:
        for end in (cable.a, cable.b):
            if end not in known:
                listed = _near(end, known)
                yield error(cable.source, f"there is no host, switch or router {end}", listed)
        if cable.a == cable.b:
            yield error(cable.source, f"the cable joins {cable.a} to itself", "name two ends")


def _near(name: str, known: Iterable[str]) -> str:
    """A way out for an unknown name."""
    close = get_close_matches(name, list(known), 3)
    return f"did you mean {' or '.join(close)}?" if close else "define it or correct the name"


def _virtual_names(model: Model) -> Iterator[Finding]:
    virtual = model.virtual
    places = [(site.id, site.source) for site in virtual.sites]
    places += [(router.id, router.source) for router in virtual.routers]
    yield from _duplicates("the id", places, "give each site and router its own id")
    links = ((link.id, link.source) for link in virtual.links if link.id)
    yield from _duplicates("the link id", links, "give each link its own id")
    for name, source in places:
        if name in model.machines:
            yield error(source, f"{name} is also the name of a machine", "choose another id")
    domains = ((site.domain, site.source) for site in virtual.sites if site.domain)
    yield from _duplicates("the domain", domains, "choose another number, or none")


def _members(model: Model) -> Iterator[Finding]:
    taken: list[tuple[Hashable, Source]] = []
    for site in model.virtual.sites:
        for member in site.members:
            machine = model.machines.get(member.machine)
            if machine is None:
                listed = _near(member.machine, model.machines)
                yield error(member.source, f"there is no machine {member.machine}", listed)
            elif all(vif.number != member.vif for vif in machine.vifs):
                numbers = ", ".join(str(vif.number) for vif in machine.vifs)
                message = f"{member.machine} has no vif {member.vif}"
                yield error(member.source, message, f"it has {numbers}")
            else:
                taken.append((f"{member.machine}:{member.vif}", member.source))
    yield from _duplicates("the interface", taken, "an interface belongs to one site")


def _addresses(model: Model) -> Iterator[Finding]:
    given = []
    for site in model.virtual.sites:
        for member in site.members:
            for address in member.addresses:
                given.append((address, member.source))
                yield from _address_in(site, address, member.source)
    yield from _duplicates("the address", given, "give each interface its own")


def _address_in(site: Site, address: IpAddress, source: Source) -> Iterator[Finding]:
    subnet = next((net for net in site.subnets if address in net), None)
    listed = ", ".join(str(net) for net in site.subnets)
    if subnet is None:
        yield error(source, f"{address} is outside {site.id}", f"take one of {listed}")
    elif address.version == 4 and subnet.prefixlen < 31:
        if address == subnet.network_address:
            yield error(source, f"{address} is the network address", f"take another of {listed}")
        if address == subnet.broadcast_address:
            yield error(source, f"{address} is the broadcast address", f"take another of {listed}")


def _subnets(model: Model) -> Iterator[Finding]:
    spans: list[tuple[int, int, int, IpNetwork, Site]] = []
    for site in model.virtual.sites:
        for one, other in combinations(site.subnets, 2):
            if one.version == other.version:
                message = f"{site.id} has two IPv{one.version} subnets, {one} and {other}"
                yield error(site.source, message, "make it two sites")
        for net in site.subnets:
            low, high = int(net[0]), int(net[-1])
            spans.append((net.version, low, high, net, site))
    spans.sort(key=lambda span: span[:3])
    widest: tuple[int, int, int, IpNetwork, Site] | None = None
    for span in spans:
        if widest and widest[0] == span[0] and span[1] <= widest[2] and widest[4] is not span[4]:
            later, earlier = (
                max(span[4].source, widest[4].source),
                min(span[4].source, widest[4].source),
            )
            message = f"the subnets {widest[3]} and {span[3]} overlap ({earlier})"
            yield error(later, message, "give each site its own range")
        if widest is None or widest[0] != span[0] or span[2] > widest[2]:
            widest = span


def _gateways(model: Model) -> Iterator[Finding]:
    for site in model.virtual.sites:
        gateways = [member for member in site.members if member.gateway]
        if site.default_route is not DefaultRoute.GATEWAY:
            continue
        if not gateways:
            message = f"{site.id} wants default routes but has no gateway"
            yield error(site.source, message, "give one member role='gateway'")
        elif len(gateways) > 1:
            names = ", ".join(member.machine for member in gateways)
            message = f"{site.id} wants default routes but has the gateways {names}"
            yield error(site.source, message, "leave one gateway, or write routes")
        elif not gateways[0].addresses:
            message = f"the gateway of {site.id} has no address"
            yield error(gateways[0].source, message, "give it an address")


def _switches(model: Model) -> Iterator[Finding]:
    first: dict[str, Site] = {}
    for site in model.virtual.sites:
        if site.switch is None:
            if site.default_route is DefaultRoute.SWITCH:
                message = f"{site.id} wants default routes to a switch and has none"
                yield error(site.source, message, "give it switch=, mode='routed' or 'nat', addr=")
            continue
        other = first.setdefault(site.switch.name, site)
        if other.switch != site.switch:
            message = f"the switch {site.switch.name} is described differently at {other.source}"
            yield error(site.source, message, "give both the same mode, uplink, vlan and addr")
        hosts = {
            model.machines[member.machine].host
            for member in site.members
            if member.machine in model.machines
        }
        mode = site.switch.mode
        if mode is not SwitchMode.bridged and len(hosts) > 1:
            message = f"{site.id} is spread over {len(hosts)} hosts, and no {mode.name} switch is"
            yield error(site.source, message, "use mode='bridged', or keep it on one host")
        if mode is not SwitchMode.bridged and site.switch.uplink:
            message = f"a switch of mode {mode.name} has no uplink"
            yield error(site.source, message, "use mode='bridged'")
        yield from _switch_address(model, site, site.switch)
        for host in model.real.hosts:
            pifs = [pif.name for pif in host.pifs]
            if host.id in hosts and site.switch.uplink and site.switch.uplink not in pifs:
                message = f"{host.id} has no interface {site.switch.uplink}"
                yield error(site.source, message, f"add a <pif> to {host.id}: {host.source}")


def _switch_address(model: Model, site: Site, switch: SiteSwitch) -> Iterator[Finding]:
    addr, mode = switch.addr, switch.mode.name
    if not switch.through_host:
        if addr is not None:
            message = f"a switch of mode {mode} has no address of the host"
            yield error(site.source, message, "leave addr out, or use mode='routed' or 'nat'")
        if site.default_route is DefaultRoute.SWITCH:
            message = f"{site.id} wants default routes to a switch of mode {mode}"
            yield error(site.source, message, "use mode='routed' or 'nat'")
    elif addr is None:
        message = f"the switch {switch.name} of mode {mode} needs the host's address"
        yield error(site.source, message, "give it addr=, in the subnet of the site")
    else:
        yield from _address_in(site, addr, site.source)
        owner = owners(model).of(addr)
        if owner is not None:
            message = f"{addr} is the address of {owner.member.machine}"
            yield error(site.source, message, "give the switch another")


def _end(model: Model, end: End, source: Source, routers: Iterable[str]) -> Iterator[Finding]:
    attachments = model.attachments.get(end.name, ())
    if end.name in routers and end.vif is None:
        return
    if end.name in model.sites:
        message = f"{end.name} is a site"
        yield error(source, message, "name machines: each would get the whole rate for itself")
    elif end.name not in model.machines:
        listed = _near(end.name, [*model.machines, *routers])
        yield error(source, f"there is no machine or virtual router {end.name}", listed)
    elif not attachments:
        yield error(source, f"{end.name} is a member of no site", "add it to a site")
    elif model.attached(end) is None:
        choices = " or ".join(f"{end.name}:{a.member.vif}" for a in attachments)
        yield error(source, f"{end} does not say which interface", f"write {choices}")


def _ends(model: Model) -> Iterator[Finding]:
    routers = {router.id: router.source for router in model.virtual.routers}
    used: set[str] = set()
    for link in model.virtual.links:
        used |= {link.a.name, link.b.name}
        yield from _end(model, link.a, link.source, routers)
        yield from _end(model, link.b, link.source, routers)
        if link.a.name == link.b.name:
            yield error(link.source, f"the link joins {link.a} to itself", "name two ends")
    for path in model.virtual.paths:
        yield from _end(model, path.start, path.source, ())
        yield from _end(model, path.stop, path.source, ())
        if path.start.name == path.stop.name:
            yield error(path.source, f"the path leads from {path.start} to itself", "name two ends")
    ways = [(f"{path.start} to {path.stop}", path.source) for path in model.virtual.paths]
    both = [path for path in model.virtual.paths if path.back is not None]
    ways += [(f"{path.stop} to {path.start}", path.source) for path in both]
    ways.sort(key=lambda way: way[1])
    yield from _duplicates("the path", ways, "keep one, or make both symmetric='false'")
    for name, source in routers.items():
        if name not in used:
            yield warning(source, f"no link ends at the router {name}", "add links or remove it")


def _impairments(model: Model) -> Iterator[Finding]:
    for site in model.virtual.sites:
        for member in site.members:
            yield from _impairment(member.up, f"{member.machine} up", member.source)
            yield from _impairment(member.down, f"{member.machine} down", member.source)
    for link in model.virtual.links:
        yield from _impairment(link.ab, f"link {link} from a to b", link.source)
        yield from _impairment(link.ba, f"link {link} from b to a", link.source)
    for path in model.virtual.paths:
        for way in (path.forth, path.back):
            if way is not None:
                name = f"path {path.start} to {path.stop}"
                yield from _impairment(way, name, path.source)


def _impairment(given: Impairment, where: str, source: Source) -> Iterator[Finding]:
    if given.jitter > given.delay:
        message = f"{where}: jitter {format_time(given.jitter)} exceeds delay"
        yield error(source, message, f"at most {format_time(given.delay)}")
    if given.reorder and not given.delay:
        yield error(source, f"{where}: reorder needs a delay", "add a delay, or remove reorder")
    if given.loss_correlation and not given.loss:
        message = f"{where}: loss-correlation needs a loss"
        yield error(source, message, "add a loss, or remove loss-correlation")
    if given.burst and not given.rate:
        yield error(source, f"{where}: burst needs a rate", "add a rate, or remove burst")
    for name, octets in (("burst", given.burst), ("queue-limit", given.queue_limit)):
        if 0 < octets < FRAME:
            message = f"{where}: a {name} of {octets} octets lets no full frame pass"
            yield error(source, message, f"at least {FRAME}B, or auto")


FRAME = 1514
"""An Ethernet frame of 1500 octets with its header: what exceeds bucket or queue never passes."""


def _routes(model: Model) -> Iterator[Finding]:
    keys: list[tuple[Hashable, Source]] = []
    owned = owners(model)
    for route in model.virtual.routes:
        attachments = model.attachments.get(route.machine, ())
        key = f"{route.machine} to {route.to} metric {route.metric}"
        keys.append((key, route.source))
        if route.machine not in model.machines:
            listed = _near(route.machine, model.machines)
            yield error(route.source, f"there is no machine {route.machine}", listed)
        elif not attachments:
            message = f"{route.machine} is a member of no site"
            yield error(route.source, message, "add it to a site")
        elif route.type is RouteType.unicast:
            yield from _way(model, route, attachments)
        if route.next_hop is not None and owned.of(route.next_hop) is None:
            message = f"no member has the next hop {route.next_hop}"
            yield warning(route.source, message, "correct it, unless a real router has it")
    yield from _duplicates("the route of", keys, "keep one, or give another metric")


def _way(model: Model, route: Route, attachments: tuple[Attachment, ...]) -> Iterator[Finding]:
    numbers = ", ".join(str(attachment.member.vif) for attachment in attachments)
    if route.vif is not None and way_out(model, route) is None:
        message = f"vif {route.vif} of {route.machine} is in no site"
        yield error(route.source, message, f"{numbers} is")
    elif route.next_hop is None and way_out(model, route) is None:
        message = f"an on-link route of {route.machine}, which has several interfaces"
        yield error(route.source, message, f"say vif=, one of {numbers}")


def _rules(model: Model) -> Iterator[Finding]:
    for rule in model.virtual.rules:
        for place in (rule.start, rule.stop):
            if not isinstance(place, End):
                continue
            if place.name in model.sites and place.vif is None:
                continue
            if place.name not in model.machines:
                listed = _near(place.name, [*model.sites, *model.machines])
                yield error(rule.source, f"there is no site or machine {place}", listed)
            elif not _has_addresses(model, place):
                message = f"{place} has no address in any site"
                yield error(rule.source, message, "give it one, or name a network")


def _has_addresses(model: Model, place: End) -> bool:
    return any(
        attachment.member.addresses
        for attachment in model.attachments.get(place.name, ())
        if place.vif in (None, attachment.member.vif)
    )


CHECKS: tuple[Check, ...] = (
    _real_names,
    _cables,
    _virtual_names,
    _members,
    _addresses,
    _subnets,
    _gateways,
    _switches,
    _ends,
    _impairments,
    _routes,
    _rules,
)
"""The checks of single objects and references; those of paths follow when these found no error."""
