"""Attribute values that are no quantities: addresses, networks, ends, ports, protocols, names."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import IntEnum
from ipaddress import ip_address, ip_network
from typing import TypeVar

from vmib.errors import ValueRefused
from vmib.smi import IpAddress

from .model import ANY_PROTOCOL, End, IpNetwork, Ports

EnumT = TypeVar("EnumT", bound=IntEnum)

PROTOCOLS = {"any": ANY_PROTOCOL, "icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}
WITH_PORTS = frozenset({6, 17, 132})
"""Protocols that have ports: TCP, UDP and SCTP (IANA protocol numbers)."""

_PLACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}(:[0-9]{1,4})?")


def text(value: str, _name: str) -> str:
    """The text as it is."""
    return value


def lower(value: str, _name: str) -> str:
    """The text in lower case, the form in which MAC addresses and UUIDs are compared."""
    return value.lower()


def mac(value: str, name: str) -> str:
    """A unicast MAC address in lower case."""
    if int(value[:2], 16) & 1 or value.replace(":", "") == "0" * 12:
        raise ValueRefused(name, value, "a unicast MAC address, its first octet even")
    return value.lower()


def number(value: str, _name: str) -> int:
    """A whole number."""
    return int(value)


def positive(value: str, name: str) -> int:
    """A whole number above 0."""
    if int(value) == 0:
        raise ValueRefused(name, value, "a number above 0")
    return int(value)


def flag(value: str, _name: str) -> bool:
    """An XML Schema boolean."""
    return value in ("true", "1")


def one_of(kind: type[EnumT]) -> Callable[[str, str], EnumT]:
    """A parser of the names of an enumeration."""

    def parse(value: str, name: str) -> EnumT:
        try:
            return kind[value]
        except KeyError:
            raise ValueRefused(name, value, ", ".join(kind.__members__)) from None

    return parse


def address(value: str, name: str) -> IpAddress:
    """A unicast IPv4 or IPv6 address without zone."""
    try:
        parsed = ip_address(value)
    except ValueError:
        raise ValueRefused(name, value, "an IPv4 or IPv6 address") from None
    if parsed.is_multicast or parsed.is_unspecified:
        raise ValueRefused(name, value, "a unicast address")
    return parsed


def addresses(value: str, name: str) -> tuple[IpAddress, ...]:
    """Addresses separated by spaces."""
    return tuple(address(part, name) for part in value.split())


def network(value: str, name: str) -> IpNetwork:
    """A network with zero host bits."""
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        meant = ip_network(value, strict=False)
    except ValueError:
        raise ValueRefused(name, value, "a network such as 10.1.0.0/24 or fd00:1::/64") from None
    raise ValueRefused(name, value, f"a network with host bits zero: {meant}")


def networks(value: str, name: str) -> tuple[IpNetwork, ...]:
    """Networks separated by spaces."""
    return tuple(network(part, name) for part in value.split())


def end(value: str, _name: str) -> End:
    """A machine or virtual router, or `machine:vif`."""
    before, colon, after = value.partition(":")
    return End(before, int(after)) if colon else End(value)


def place(value: str, name: str) -> End | IpNetwork | None:
    """What a rule may name: a network, a machine, a machine's interface, a site, or any."""
    if value == "any":
        return None
    if "/" in value:
        return network(value, name)
    if _PLACE.fullmatch(value) is None:
        allowed = "any, a site, a machine, machine:vif or a network such as 10.1.0.0/24"
        raise ValueRefused(name, value, allowed)
    return end(value, name)


def protocol(value: str, name: str) -> int:
    """An IP protocol number; 256 for any."""
    if value in PROTOCOLS:
        return PROTOCOLS[value]
    if not 1 <= int(value) <= 255:
        raise ValueRefused(name, value, f"{', '.join(PROTOCOLS)} or a number from 1 to 255")
    return int(value)


def ports(value: str, name: str) -> tuple[Ports, ...]:
    """Ports and ranges separated by spaces."""
    parsed = []
    for part in value.split():
        low, _, high = part.partition("-")
        span = Ports(int(low), int(high or low))
        if not 0 <= span.low <= span.high <= 65535:
            raise ValueRefused(name, part, "ports of 0 to 65535, the lower end of a range first")
        parsed.append(span)
    return tuple(parsed)
