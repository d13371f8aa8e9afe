"""Isolation domains, packet filters, spoof guard and address translation as iptables rules.

Pure: members, domains and filters in, a `Ruleset` for IPv4 and IPv6 out. What a forwarded packet
meets, in this order:

1. *closed bridges*: nothing is routed into or out of them;
2. *filters of domain 0*, by priority; here accept is final;
3. *spoof guard*: what comes from a guarded vif with another source MAC than its own is dropped
   and, if the vif has addresses at all, so is every other source address of either family. Free
   are DHCP requests from 0.0.0.0, IPv6 link-local addresses and, for ICMPv6, `::`. The guard also
   stands in INPUT, for what a vif sends to the host itself;
4. *leaving*: a packet from a member of domain D meets D's fromVm filters by priority, passes if it
   goes to a member of D, and else meets D's default action;
5. *entering*: a packet to a member of domain E meets E's toVm filters, passes if it comes from a
   member of E, and else meets E's default action.

Accept in 4 means "may leave" and still has to pass 5; accept in 5 means that vMIB has nothing
against the packet: rules of others in FORWARD still see it.

Limits, all of them iptables':

- There is no connection state: answers need a filter of their own, as in the paper.
- ARP is not IP and always passes, as does every other protocol of Ethernet. Neighbour discovery
  is to IPv6 what ARP is to IPv4, so where the default is drop it passes too, and only that:
  solicitations (router, neighbour) and neighbour advertisements may leave, advertisements
  (router, neighbour) and neighbour solicitations may enter. A machine can thus not announce
  itself as a router beyond its domain.
- Routed packets do not yet have an outgoing bridge port. They count as going to a vif if they go
  to one of its addresses or, for the domain, if they leave by a bridge that has ports of this
  domain only and no uplink (`Routed`, `Nat`). A toVm filter for one vif therefore needs an
  address of it on such bridges and is refused without one.
- What the host itself sends to its machines does not meet filters or domains.
- Packets behind one VLAN tag or a PPPoE header meet the rules, too; behind two tags they do not.
- REJECT answers as the host, so the host needs a route to the sender; without one the packet is
  dropped without an answer.
- Protocol 0 (IPv6 hop-by-hop) cannot be told from "any" and is refused; ports exist for TCP, UDP,
  UDP-Lite, SCTP and DCCP only. Later fragments have no ports and match no filter with ports.

The dispatch by device is a tree of name prefixes, so that a packet walks tens of rules, not
hundreds, on a host with 256 vifs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Literal, TypeAlias

from vmib.errors import Unavailable, ValueRefused

from .device_tree import device_tree
from .iptables import (
    ANY_PORTS,
    ANY_PROTOCOL,
    BRIDGE_SYSCTLS,
    COMMANDS,
    FORWARDING_SYSCTLS,
    ICMPV6,
    JUMP_COMMENT,
    PORT_PROTOCOLS,
    PREFIX,
    TAG_SYSCTLS,
    TCP,
    UDP,
    Chain,
    Network,
    Ports,
    Rule,
    Ruleset,
    comment_of,
)

Address: TypeAlias = IPv4Address | IPv6Address
Action: TypeAlias = Literal["accept", "drop", "reject"]
Direction: TypeAlias = Literal["fromVm", "toVm"]

_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")

_LEAVING_DISCOVERY = (133, 135, 136)
_ENTERING_DISCOVERY = (134, 135, 136)
"""ICMPv6 types (RFC 4861): router solicitation 133 and advertisement 134, neighbour 135 and 136."""


@dataclass(frozen=True, slots=True)
class Member:
    """A vif on the host.

    `device` is the host end, `mac` and `addresses` are the guest's, `domain` is 0 for none,
    `bridge` is the device of the switch the vif is a port of, or "".
    """

    device: str
    mac: str
    addresses: tuple[Address, ...]
    spoof_guard: bool
    domain: int
    vm: int
    vif: int
    bridge: str = ""

    def column(self, name: str) -> str:
        """The instance of a column of this row, as messages name it."""
        return f"vmibVif{name}.{self.vm}.{self.vif}"


@dataclass(frozen=True, slots=True)
class Domain:
    """A row of vmibDomainTable."""

    index: int
    name: str
    default_action: Literal["accept", "drop"]


@dataclass(frozen=True, slots=True)
class Filter:
    """A row of vmibFilterTable; `family` is 4, 6 or 0 for any, `vm` and `vif` are 0 for any."""

    domain: int
    priority: int
    direction: Direction
    action: Action
    vm: int = 0
    vif: int = 0
    family: int = 0
    src: Network | None = None
    dst: Network | None = None
    protocol: int = ANY_PROTOCOL
    src_ports: Ports = ANY_PORTS
    dst_ports: Ports = ANY_PORTS

    def column(self, name: str) -> str:
        """The instance of a column of this row, as messages name it."""
        return f"vmibFilter{name}.{self.domain}.{self.priority}"


@dataclass(frozen=True, slots=True)
class Nat:
    """A switch in nat mode: what leaves `network` by another device gets the host's address."""

    bridge: str
    network: Network


@dataclass(frozen=True, slots=True)
class Routed:
    """A switch in routed mode: the host forwards between `network` and other networks."""

    bridge: str
    network: Network


def compile_rules(
    members: Iterable[Member],
    domains: Iterable[Domain] = (),
    filters: Iterable[Filter] = (),
    nats: Collection[Nat] = (),
    routed: Collection[Routed] = (),
    closed: Collection[str] = (),
) -> Ruleset:
    """The rules that make all this so, and the sysctls they need.

    `closed` are the bridges of isolated switches. Raises `ValueRefused` for values that no rule
    can have or that contradict each other, `Unavailable` for what iptables cannot tell apart.
    """
    switches: tuple[Nat | Routed, ...] = (*nats, *routed)
    host = _Host(
        tuple(sorted(members, key=lambda member: member.device)),
        tuple(sorted(domains, key=lambda domain: domain.index)),
        tuple(sorted(filters, key=lambda row: (row.domain, row.priority))),
        frozenset(switch.bridge for switch in switches),
    )
    _check(host)
    chains: dict[Chain, tuple[Rule, ...]] = {}
    sysctls: dict[str, int] = {}
    for family in COMMANDS:
        found = _Compiler(host, family).chains(closed)
        if any(rule.physdev_in or rule.physdev_out for rules in found.values() for rule in rules):
            sysctls |= dict.fromkeys((BRIDGE_SYSCTLS[family], *TAG_SYSCTLS), 1)
        chains |= {Chain(family, "filter", name): rules for name, rules in found.items()}
        chains |= {Chain(family, "nat", name): rules for name, rules in _nat(nats, family).items()}
        if any(switch.network.version == family for switch in switches):
            sysctls[FORWARDING_SYSCTLS[family]] = 1
    return Ruleset(chains, sysctls)


@dataclass(frozen=True, slots=True)
class _Host:
    members: tuple[Member, ...]
    domains: tuple[Domain, ...]
    filters: tuple[Filter, ...]
    without_uplink: frozenset[str]

    def of_domain(self, index: int) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.domain == index)

    def of_filter(self, row: Filter) -> tuple[Member, ...]:
        return tuple(
            member
            for member in self.members
            if row.vm in (0, member.vm)
            and row.vif in (0, member.vif)
            and row.domain in (0, member.domain)
        )


def _check(host: _Host) -> None:
    known = {0, *(domain.index for domain in host.domains)}
    devices: set[str] = set()
    for member in host.members:
        if not _DEVICE.fullmatch(member.device) or member.device in devices:
            allowed = "a device of its own, 1 to 15 letters, digits, '_', '.' or '-'"
            raise ValueRefused(member.column("HostName"), member.device, allowed)
        devices.add(member.device)
        if not _MAC.fullmatch(member.mac):
            allowed = "aa:bb:cc:dd:ee:ff, lower case"
            raise ValueRefused(member.column("MacAddress"), member.mac, allowed)
        if member.domain not in known:
            allowed = "an existing domain, or 0"
            raise ValueRefused(member.column("Domain"), member.domain, allowed)
    for row in host.filters:
        if row.domain not in known:
            raise ValueRefused(row.column("Domain"), row.domain, "an existing domain, or 0")
        _check_filter(row, host)


def _check_filter(row: Filter, host: _Host) -> None:
    families = {network.version for network in (row.src, row.dst) if network is not None}
    if len(families | ({row.family} if row.family else set())) > 1:
        given = f"{row.src or 'any'} to {row.dst or 'any'}"
        raise ValueRefused(row.column("AddrType"), given, "addresses of one family")
    if row.protocol == 0:
        raise Unavailable(row.column("Protocol"), "iptables takes protocol 0 for any; use 256")
    for name, (low, high) in (("SrcPortMin", row.src_ports), ("DstPortMin", row.dst_ports)):
        if low > high:
            raise ValueRefused(row.column(name), low, f"0 to {high}, the highest port")
        if (low, high) != ANY_PORTS and row.protocol not in PORT_PROTOCOLS:
            allowed = "6 (tcp), 17 (udp), 33 (dccp), 132 (sctp) or 136 (udplite), to have ports"
            raise ValueRefused(row.column("Protocol"), row.protocol, allowed)
    if row.direction == "toVm" and (row.vm or row.vif):
        for member in host.of_filter(row):
            if member.bridge in host.without_uplink and not member.addresses:
                reason = "routed packets to this interface cannot be told without its address"
                raise Unavailable(row.column("VifIndex"), reason)


def _nat(nats: Collection[Nat], family: int) -> dict[str, tuple[Rule, ...]]:
    rules = tuple(
        Rule("MASQUERADE", src=nat.network, not_out_device=nat.bridge)
        for nat in sorted(nats, key=lambda nat: (nat.bridge, str(nat.network)))
        if nat.network.version == family
    )
    if not rules:
        return {}
    name = f"{PREFIX}POSTROUTING"
    return {"POSTROUTING": (Rule(name, comment=JUMP_COMMENT),), name: rules}


class _Compiler:
    """The filter table of one family."""

    def __init__(self, host: _Host, family: int) -> None:
        self.host = host
        self.family = family
        self.made: dict[str, tuple[Rule, ...]] = {}

    def chains(self, closed: Collection[str]) -> dict[str, tuple[Rule, ...]]:
        """All chains by name; of built-in chains, the jumps to ours."""
        forward = [
            Rule("DROP", bridged=False, **{side: bridge})  # type: ignore[arg-type]
            for bridge in sorted(closed)
            for side in ("in_device", "out_device")
        ]
        guarded = self._spoof_guard()
        stages = (self._before_all_domains(), guarded, self._leaving(), self._entering())
        forward += [Rule(name) for name in stages if name]
        if forward:
            top = self._chain("FORWARD", forward)
            self.made["FORWARD"] = (Rule(top, comment=JUMP_COMMENT),)
        if guarded:
            self.made["INPUT"] = (Rule(guarded, comment=JUMP_COMMENT),)
        return self.made

    def _chain(self, name: str, rules: Iterable[Rule]) -> str:
        name = f"{PREFIX}{name}"
        self.made[name] = tuple(rules)
        return name

    def _from(
        self, name: str, members: Iterable[Member], hit: Callable[[Member], Rule], miss: Rule | None
    ) -> list[Rule]:
        """Rules of chain `name`: `hit` for packets from these members, `miss` for all others."""
        hits = {member.device: hit(member) for member in members}
        root, below = device_tree(f"{PREFIX}{name}", "physdev_in", hits, miss)
        self.made |= below
        return root

    def _to(
        self, name: str, members: Sequence[Member], hit: Callable[[Member], Rule], miss: Rule | None
    ) -> list[Rule]:
        """The same for packets to these members, bridged or routed."""
        hits = {member.device: hit(member) for member in members}
        root, below = device_tree(f"{PREFIX}{name}", "physdev_out", hits, miss)
        self.made |= below
        routed = list(self._routed_to(members, hit))
        if not routed:
            return root
        last = [] if miss is None else [miss]
        chain = self._chain(f"{name}.R", [*routed, *last])
        return [Rule(chain, goto=True, bridged=False), *root]

    def _routed_to(
        self, members: Sequence[Member], hit: Callable[[Member], Rule]
    ) -> Iterator[Rule]:
        by_bridge: dict[str, set[Rule]] = {}
        for member in self.host.members:
            if member.bridge in self.host.without_uplink:
                found = hit(member) if member in members else None
                by_bridge.setdefault(member.bridge, set()).add(found or Rule(""))
        whole = {
            bridge: rules.copy().pop()
            for bridge, rules in by_bridge.items()
            if len(rules) == 1 and Rule("") not in rules
        }
        yield from (replace(rule, out_device=bridge) for bridge, rule in sorted(whole.items()))
        for member in members:
            if member.bridge not in whole:
                yield from (replace(hit(member), dst=net) for net in self._networks(member))

    def _networks(self, member: Member) -> Iterator[Network]:
        own = (address for address in member.addresses if address.version == self.family)
        yield from (ip_network(address) for address in sorted(own, key=int))

    def _before_all_domains(self) -> str | None:
        rows = [row for row in self.host.filters if row.domain == 0]
        sending = self._filters([row for row in rows if row.direction == "fromVm"], "ACCEPT")
        receiving = self._filters([row for row in rows if row.direction == "toVm"], "ACCEPT")
        if not (sending or receiving):
            return None
        members = self.host.members
        if not receiving:
            only = Rule(self._chain("0.FROM", sending), goto=True)
            return self._chain("0", self._from("0", members, lambda _: only, None))
        to = Rule(self._chain("0.TO", receiving), goto=True)
        if not sending:
            return self._chain("0", self._to("0", members, lambda _: to, None))
        only = Rule(self._chain("0.FROM", sending), goto=True)
        both = Rule(self._chain("0.BOTH", self._filters(rows, "ACCEPT")), goto=True)
        entering = Rule(
            self._chain("0.OUT", self._to("0.OUT", members, lambda _: to, None)), goto=True
        )
        leaving = Rule(
            self._chain("0.IN", self._to("0.IN", members, lambda _: both, only)), goto=True
        )
        return self._chain("0", self._from("0", members, lambda _: leaving, entering))

    def _filters(self, rows: Iterable[Filter], accept: str) -> list[Rule]:
        return [rule for row in rows for rule in self._filter(row, accept)]

    def _filter(self, row: Filter, accept: str) -> Iterator[Rule]:
        named = next((network for network in (row.src, row.dst) if network is not None), None)
        family = row.family if named is None else named.version
        if family not in (0, self.family):
            return
        reject = "icmp-port-unreachable" if self.family == 4 else "icmp6-port-unreachable"
        answer = "tcp-reset" if row.protocol == TCP else reject
        rule = Rule(
            {"accept": accept, "drop": "DROP", "reject": "REJECT"}[row.action],
            src=_unless_any(row.src),
            dst=_unless_any(row.dst),
            protocol=row.protocol,
            src_ports=row.src_ports,
            dst_ports=row.dst_ports,
            reject=answer if row.action == "reject" else "",
            comment=comment_of(("filter", row.domain, row.priority)),
        )
        if not (row.vm or row.vif):
            yield rule
            return
        for member in self.host.of_filter(row):
            if row.direction == "fromVm":
                yield replace(rule, physdev_in=member.device)
                continue
            yield replace(rule, physdev_out=member.device)
            for address in self._networks(member):
                if rule.dst is None or address.subnet_of(rule.dst):  # type: ignore[arg-type]
                    yield replace(rule, bridged=False, dst=address)

    def _spoof_guard(self) -> str | None:
        guarded = [member for member in self.host.members if member.spoof_guard]
        if not guarded:
            return None
        to = {member: Rule(self._guard(member), goto=True) for member in guarded}
        return self._chain("GUARD", self._from("GUARD", guarded, to.__getitem__, None))

    def _guard(self, member: Member) -> str:
        comment = comment_of(("vif", member.vm, member.vif))
        rules = [Rule("DROP", not_mac=member.mac, comment=comment)]
        if member.addresses:
            rules += [Rule("RETURN", src=network) for network in self._networks(member)]
            rules += _UNNUMBERED[self.family]
            rules.append(Rule("DROP", comment=comment))
        return self._chain(f"G{member.vm}.{member.vif}", rules)

    def _leaving(self) -> str | None:
        chains = {
            domain.index: Rule(name, goto=True)
            for domain in self.host.domains
            if (name := self._domain(domain, "fromVm"))
        }
        return self._dispatch("FROM", self._from, chains)

    def _entering(self) -> str | None:
        chains = {
            domain.index: Rule(name, goto=True)
            for domain in self.host.domains
            if (name := self._domain(domain, "toVm"))
        }
        return self._dispatch("TO", self._to, chains)

    def _dispatch(
        self,
        name: str,
        tree: Callable[[str, list[Member], Callable[[Member], Rule], None], list[Rule]],
        chains: dict[int, Rule],
    ) -> str | None:
        members = [member for member in self.host.members if member.domain in chains]
        if not members:
            return None
        return self._chain(name, tree(name, members, lambda member: chains[member.domain], None))

    def _domain(self, domain: Domain, direction: Direction) -> str | None:
        """The chain of one direction, or None if all its packets pass."""
        members = self.host.of_domain(domain.index)
        if not members:
            return None
        name = f"{'L' if direction == 'fromVm' else 'E'}{domain.index}"
        rows = [row for row in self.host.filters if row.domain == domain.index]
        rules = self._filters([row for row in rows if row.direction == direction], "RETURN")
        if domain.default_action == "drop":
            comment = comment_of(("domain", domain.index))
            inside, drop = Rule("RETURN"), Rule("DROP", comment=comment)
            leaving = direction == "fromVm"
            if self.family == 6:
                types = _LEAVING_DISCOVERY if leaving else _ENTERING_DISCOVERY
                rules += [Rule("RETURN", protocol=ICMPV6, icmp6_type=kind) for kind in types]
            other_side = self._to if leaving else self._from
            rules += other_side(name, members, lambda _: inside, drop)
        return self._chain(name, rules) if rules else None


_UNNUMBERED = {
    4: [
        Rule(
            "RETURN",
            src=IPv4Network("0.0.0.0/32"),
            protocol=UDP,
            src_ports=(68, 68),
            dst_ports=(67, 67),
        )
    ],
    6: [
        Rule("RETURN", src=IPv6Network("fe80::/10")),
        Rule("RETURN", src=IPv6Network("::/128"), protocol=ICMPV6),
    ],
}


def _unless_any(network: Network | None) -> Network | None:
    return None if network is None or network.prefixlen == 0 else network
