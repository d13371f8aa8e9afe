"""How the kernel walks chains of iptables rules, for tests that ask what becomes of a packet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vmib_agent.iptables import ANY_PORTS, ANY_PROTOCOL, PORT_PROTOCOLS, Chain, Rule, Ruleset


@dataclass(frozen=True)
class Packet:
    """A packet in FORWARD or INPUT; one that is bridged has a `physdev_out`."""

    src: Any
    dst: Any
    mac: str = ""
    physdev_in: str = ""
    physdev_out: str = ""
    in_device: str = ""
    out_device: str = ""
    protocol: int = 6
    src_port: int = 1024
    dst_port: int = 80
    icmp6_type: int | None = None

    @property
    def family(self) -> int:
        return int(self.src.version)


def _is_device(pattern: str, device: str) -> bool:
    if pattern.endswith("+"):
        return device.startswith(pattern[:-1])
    return pattern in ("", device)


def matches(rule: Rule, packet: Packet) -> bool:
    """Whether all that the rule says is true of the packet."""
    ports = (rule.src_ports, rule.dst_ports) != (ANY_PORTS, ANY_PORTS)
    assert not ports or rule.protocol in PORT_PROTOCOLS
    return (
        (rule.src is None or packet.src in rule.src)
        and (rule.dst is None or packet.dst in rule.dst)
        and _is_device(rule.in_device, packet.in_device)
        and _is_device(rule.out_device, packet.out_device)
        and (not rule.not_out_device or rule.not_out_device != packet.out_device)
        and rule.protocol in (ANY_PROTOCOL, packet.protocol)
        and _is_device(rule.physdev_in, packet.physdev_in)
        and _is_device(rule.physdev_out, packet.physdev_out)
        and rule.bridged in (None, bool(packet.physdev_out))
        and (not rule.not_mac or rule.not_mac != packet.mac)
        and (not ports or rule.src_ports[0] <= packet.src_port <= rule.src_ports[1])
        and (not ports or rule.dst_ports[0] <= packet.dst_port <= rule.dst_ports[1])
        and rule.icmp6_type in (None, packet.icmp6_type)
    )


@dataclass
class Walk:
    """The way of one packet through the chains of a table; remembers the rules it met."""

    chains: Mapping[str, tuple[Any, ...]]
    looked_at: int = 0
    met: list[Rule] = field(default_factory=list)

    def verdict(self, chain: str, packet: Packet) -> str | None:
        """ACCEPT, DROP or REJECT, or None if the packet comes to the end of the chain."""
        for rule in self.chains.get(chain, ()):
            self.looked_at += 1
            if not matches(rule, packet):
                continue
            self.met.append(rule)
            if rule.target in ("ACCEPT", "DROP", "REJECT"):
                return str(rule.target)
            if rule.target == "RETURN":
                return None
            assert rule.target in self.chains, rule
            verdict = self.verdict(rule.target, packet)
            if verdict is not None or rule.goto:
                return verdict
        return None


def walk(ruleset: Ruleset, family: int, table: str = "filter") -> Walk:
    """A walk through the chains of one table."""
    return Walk({c.name: rules for c, rules in ruleset.chains.items() if c[:2] == (family, table)})


def verdict(ruleset: Ruleset, packet: Packet, chain: str = "FORWARD") -> str | None:
    """What becomes of a packet."""
    assert Chain(packet.family, "filter", chain).built_in
    return walk(ruleset, packet.family).verdict(chain, packet)
