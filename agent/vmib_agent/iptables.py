"""Rules of iptables(8) as data that prints itself as `iptables-legacy -S` prints it.

Only what vMIB's own rules use can be said here; a rule in one of vMIB's chains that says anything
else is kept as `Unknown`, so that a difference sees it and an undo can bring it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import NamedTuple, TypeAlias

PREFIX = "VMIB-"
"""Begins the name of every chain that vMIB makes."""

MARK = "vmib:"
"""Begins the comment of every rule with an owner, and of every jump from a built-in chain."""

JUMP_COMMENT = f"{MARK}jump"

ANY_PROTOCOL = 256
"""As in vmibFilterProtocol: every IP protocol."""

ANY_PORTS = (0, 65535)

BUILT_IN = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
}

COMMANDS = {4: "iptables", 6: "ip6tables"}

BRIDGE_SYSCTLS = {
    4: "net.bridge.bridge-nf-call-iptables",
    6: "net.bridge.bridge-nf-call-ip6tables",
}
"""Whether bridged packets of a family meet its rules; br_netfilter has these settings."""

TAG_SYSCTLS = (
    "net.bridge.bridge-nf-filter-vlan-tagged",
    "net.bridge.bridge-nf-filter-pppoe-tagged",
)
"""Whether they do so behind a VLAN tag or a PPPoE header that a guest put before them."""

FORWARDING_SYSCTLS = {4: "net.ipv4.ip_forward", 6: "net.ipv6.conf.all.forwarding"}

TCP, UDP, ICMPV6, SCTP = 6, 17, 58, 132

PORT_PROTOCOLS = {TCP: "tcp", UDP: "udp", 33: "dccp", SCTP: "sctp", 136: "udplite"}
"""Protocols whose ports xt_tcpudp and xt_multiport can match."""

_PROTOCOL_NAMES = PORT_PROTOCOLS | {
    1: "icmp", 2: "igmp", 3: "ggp", 4: "ipencap", 5: "st", 8: "egp", 9: "igp", 12: "pup",
    20: "hmp", 22: "xns-idp", 27: "rdp", 29: "iso-tp4", 36: "xtp", 37: "ddp", 38: "idpr-cmtp",
    41: "ipv6", 43: "ipv6-route", 44: "ipv6-frag", 45: "idrp", 46: "rsvp", 47: "gre", 50: "esp",
    51: "ah", 57: "skip", ICMPV6: "ipv6-icmp", 59: "ipv6-nonxt", 60: "ipv6-opts", 73: "rspf",
    81: "vmtp", 88: "eigrp", 89: "ospf", 93: "ax.25", 94: "ipip", 97: "etherip", 98: "encap",
    103: "pim", 108: "ipcomp", 112: "vrrp", 115: "l2tp", 124: "isis", 133: "fc",
    135: "mobility-header", 137: "mpls-in-ip", 138: "manet", 139: "hip", 140: "shim6",
    141: "wesp", 142: "rohc", 143: "ethernet",
}  # fmt: skip
"""As in the /etc/protocols of Debian, which iptables(8) looks into."""

Network: TypeAlias = IPv4Network | IPv6Network
Ports: TypeAlias = tuple[int, int]
Owner: TypeAlias = tuple[str | int, ...]

_OWNERS = {
    "filter": re.compile(rf"{MARK}f(\d+)\.(\d+)"),
    "vif": re.compile(rf"{MARK}v(\d+)\.(\d+)"),
    "domain": re.compile(rf"{MARK}d(\d+)"),
}


def comment_of(owner: Owner) -> str:
    """The comment that marks an owner's rules: ("filter", 1, 100) is "vmib:f1.100"."""
    kind, *numbers = owner
    return f"{MARK}{str(kind)[0]}{'.'.join(map(str, numbers))}"


class Chain(NamedTuple):
    """A chain of one table of one family (4 or 6)."""

    family: int
    table: str
    name: str

    @property
    def built_in(self) -> bool:
        return self.name in BUILT_IN[self.table]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; fields that say nothing match everything.

    `physdev_in` and `physdev_out` may end in "+" for every device that begins so; `bridged` is
    --physdev-is-bridged or its negation; `not_mac` matches every other source address. `reject`
    is what REJECT answers. Ports need a protocol of `PORT_PROTOCOLS`.
    """

    target: str
    goto: bool = False
    src: Network | None = None
    dst: Network | None = None
    in_device: str = ""
    out_device: str = ""
    not_out_device: str = ""
    protocol: int = ANY_PROTOCOL
    physdev_in: str = ""
    physdev_out: str = ""
    bridged: bool | None = None
    not_mac: str = ""
    src_ports: Ports = ANY_PORTS
    dst_ports: Ports = ANY_PORTS
    icmp6_type: int | None = None
    comment: str = ""
    reject: str = ""

    @property
    def owner(self) -> Owner | None:
        """Whose rule it is: ("filter", domain, priority), ("vif", vm, vif), ("domain", index)."""
        for kind, pattern in _OWNERS.items():
            if found := pattern.fullmatch(self.comment):
                return (kind, *map(int, found.groups()))
        return None

    @property
    def ours(self) -> bool:
        """Whether it is a jump that vMIB put into a built-in chain."""
        return self.comment == JUMP_COMMENT and self.target.startswith(PREFIX)

    def __str__(self) -> str:
        """The rule behind `-A CHAIN`, character by character as `iptables-legacy -S` has it."""
        return " ".join([*_header_words(self), *_match_words(self), *_target_words(self)])


@dataclass(frozen=True, slots=True)
class Unknown:
    """A rule that vMIB did not write, as the kernel's octets."""

    raw: bytes

    def __str__(self) -> str:
        return f"<foreign rule of {len(self.raw)} octets>"


Entry: TypeAlias = Rule | Unknown


@dataclass(frozen=True, slots=True)
class Ruleset:
    """What vMIB has, or wants, of the packet filter of a network namespace.

    `chains` holds vMIB's own chains and, of built-in chains, vMIB's jumps alone. A built-in
    chain of `overruled` has a foreign rule before vMIB's jump. `sysctls` are network settings
    by name; those that are not named are as they are. `missing` says, by family and table, why
    the host cannot have rules there.
    """

    chains: Mapping[Chain, tuple[Entry, ...]] = field(default_factory=dict)
    sysctls: Mapping[str, int] = field(default_factory=dict)
    overruled: frozenset[Chain] = frozenset()
    missing: Mapping[tuple[int, str], str] = field(default_factory=dict)

    def lines(self, family: int, table: str) -> Iterator[str]:
        """The table as `iptables-legacy -S` prints it, without policies and foreign rules."""
        own = sorted(name for f, t, name in self.chains if (f, t) == (family, table))
        own = [name for name in own if name not in BUILT_IN[table]]
        yield from (f"-N {name}" for name in own)
        for name in (*BUILT_IN[table], *own):
            chain = Chain(family, table, name)
            yield from (f"-A {name} {entry}" for entry in self.chains.get(chain, ()))


def _header_words(rule: Rule) -> Iterator[str]:
    for option, network in (("-s", rule.src), ("-d", rule.dst)):
        if network is not None:
            yield f"{option} {network}"
    if rule.in_device:
        yield f"-i {rule.in_device}"
    if rule.out_device:
        yield f"-o {rule.out_device}"
    if rule.not_out_device:
        yield f"! -o {rule.not_out_device}"
    if rule.protocol != ANY_PROTOCOL:
        yield f"-p {_PROTOCOL_NAMES.get(rule.protocol, rule.protocol)}"


def _match_words(rule: Rule) -> Iterator[str]:
    if rule.physdev_in or rule.physdev_out or rule.bridged is not None:
        yield "-m physdev"
        if rule.physdev_in:
            yield f"--physdev-in {rule.physdev_in}"
        if rule.physdev_out:
            yield f"--physdev-out {rule.physdev_out}"
        if rule.bridged is not None:
            yield "--physdev-is-bridged" if rule.bridged else "! --physdev-is-bridged"
    if rule.not_mac:
        yield f"-m mac ! --mac-source {rule.not_mac.lower()}"
    yield from _port_words(rule)
    if rule.icmp6_type is not None:
        yield f"-m icmp6 --icmpv6-type {rule.icmp6_type}"
    if rule.comment:
        yield f'-m comment --comment "{rule.comment}"'


def _port_words(rule: Rule) -> Iterator[str]:
    given = [
        (option, str(low) if low == high else f"{low}:{high}")
        for option, (low, high) in (("sport", rule.src_ports), ("dport", rule.dst_ports))
        if (low, high) != ANY_PORTS
    ]
    if not given:
        return
    if rule.protocol in (TCP, UDP):
        yield f"-m {PORT_PROTOCOLS[rule.protocol]}"
        yield from (f"--{option} {ports}" for option, ports in given)
    else:
        yield from (f"-m multiport --{option}s {ports}" for option, ports in given)


def _target_words(rule: Rule) -> Iterator[str]:
    yield f"{'-g' if rule.goto else '-j'} {rule.target}"
    if rule.reject:
        yield f"--reject-with {rule.reject}"
