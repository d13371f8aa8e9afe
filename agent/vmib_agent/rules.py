"""What a row may say by itself, as tables: values, columns together, and what the host must be
able to do for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from vmib.rows import InetAddressType, RouteType, SwitchMode
from vmib.smi import IpAddress

from .state import Key
from .world import FILTER, LINK, ROUTE, SHAPE, SWITCH


@dataclass(frozen=True, slots=True)
class ValueRule:
    """What a column may hold beyond its SYNTAX: a test of key and value, and it in words."""

    allows: Callable[[Key, Any], bool]
    allowed: str


@dataclass(frozen=True, slots=True)
class RowRule:
    """What columns of one row must have in common; the field to blame comes first."""

    fields: tuple[str, ...]
    holds: Callable[[Key, Any], bool]
    reason: str


_DEVICE_NAME = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9_.-]{1,15}")
_FAMILIES = (InetAddressType.unknown, InetAddressType.ipv4, InetAddressType.ipv6)
_PORT_PROTOCOLS = (6, 17, 33, 132)


def _unicast_mac(_: Key, mac: str) -> bool:
    return not int(mac[:2], 16) & 1 and mac != "00:00:00:00:00:00"


def _host_address(_: Key, address: Any) -> bool:
    return address is None or not (address.is_multicast or address.is_unspecified)


def _next_hop(key: Key, address: Any) -> bool:
    return address is None or (address.version == key[2].version and _host_address(key, address))


_FAMILY_RULE = ValueRule(lambda _, family: family in _FAMILIES, "unknown(0), ipv4(1), ipv6(2)")
_PREFIX_RULE = ValueRule(lambda _, prefix: prefix <= 128, "0 to 128")

VALUE_RULES: Mapping[str, ValueRule] = {
    "vmibVmUuid": ValueRule(lambda _, uuid: uuid.strip("0-") != "", "a UUID that is not nil"),
    "vmibVifMacAddress": ValueRule(_unicast_mac, "a unicast address that is not zero"),
    "vmibSwitchName": ValueRule(
        lambda _, name: _DEVICE_NAME.fullmatch(name) is not None,
        "1 to 15 letters, digits, '_', '.', '-'; not '.' or '..'",
    ),
    "vmibSwitchAddrType": _FAMILY_RULE,
    "vmibSwitchAddr": ValueRule(_host_address, "the address of a host, or empty"),
    "vmibSwitchAddrPrefix": _PREFIX_RULE,
    "vmibFilterAddrType": _FAMILY_RULE,
    "vmibFilterSrcPrefix": _PREFIX_RULE,
    "vmibFilterDstPrefix": _PREFIX_RULE,
    "vmibAddrPrefixLength": ValueRule(
        lambda key, prefix: prefix <= key[3].max_prefixlen, "0 to the bits of the address"
    ),
    "vmibRouteNextHop": ValueRule(
        _next_hop, "the address of a host, of type vmibRouteDestType, or empty"
    ),
    "vmibRouteVifIndex": ValueRule(
        lambda key, index: index == 0 or key[0] != 0, "0 for a route of the host"
    ),
    "vmibRouteIfIndex": ValueRule(
        lambda key, index: index == 0 or key[0] == 0, "0 for a route of a machine"
    ),
}
"""By the name of the column."""


def _of_family(address: IpAddress, family: InetAddressType) -> bool:
    return address.version == {InetAddressType.ipv4: 4, InetAddressType.ipv6: 6}.get(family)


def _is_network(address: Any, prefix: int) -> bool:
    if address is None:
        return prefix == 0
    if prefix > address.max_prefixlen:
        return False
    return bool(ip_network((address, prefix), strict=False).network_address == address)


def _port_rules(end: str) -> tuple[RowRule, ...]:
    low, high = f"{end}_port_min", f"{end}_port_max"
    needs = "ports need vmibFilterProtocol 6, 17, 33 or 132"
    return (
        RowRule(
            (low, "protocol"),
            lambda _, row: getattr(row, low) == 0 or row.protocol in _PORT_PROTOCOLS,
            needs,
        ),
        RowRule(
            (high, "protocol"),
            lambda _, row: getattr(row, high) == 65535 or row.protocol in _PORT_PROTOCOLS,
            needs,
        ),
        RowRule(
            (low, high),
            lambda _, row: getattr(row, low) <= getattr(row, high),
            "the lowest port is above the highest",
        ),
    )


def _network_rules(end: str) -> tuple[RowRule, ...]:
    prefix = f"{end}_prefix"
    return (
        RowRule(
            (end, "addr_type"),
            lambda _, row: (
                getattr(row, end) is None or _of_family(getattr(row, end), row.addr_type)
            ),
            "an address is of the family that vmibFilterAddrType says",
        ),
        RowRule(
            (end, prefix),
            lambda _, row: _is_network(getattr(row, end), getattr(row, prefix)),
            "a network's bits beyond the prefix length are zero",
        ),
    )


_IMPAIRMENT_RULES = (
    RowRule(
        ("jitter", "delay"),
        lambda _, row: row.jitter <= row.delay,
        "the jitter must not exceed the delay",
    ),
    RowRule(
        ("reorder", "delay"),
        lambda _, row: row.reorder == 0 or row.delay > 0,
        "reordering needs a delay above 0",
    ),
    RowRule(
        ("loss_correlation", "loss"),
        lambda _, row: row.loss_correlation == 0 or row.loss > 0,
        "a correlation of losses needs a loss above 0",
    ),
)

_THROUGH_HOST = (SwitchMode.routed, SwitchMode.nat)

ROW_RULES: Mapping[str, tuple[RowRule, ...]] = {
    SHAPE: _IMPAIRMENT_RULES,
    LINK: _IMPAIRMENT_RULES,
    SWITCH: (
        RowRule(
            ("addr", "addr_type"),
            lambda _, row: (
                row.addr_type == InetAddressType.unknown
                if row.addr is None
                else _of_family(row.addr, row.addr_type)
            ),
            "the address is of the family that vmibSwitchAddrType says, empty for unknown",
        ),
        RowRule(
            ("addr_prefix", "addr"),
            lambda _, row: row.addr_prefix <= (0 if row.addr is None else row.addr.max_prefixlen),
            "the prefix length is one of the address",
        ),
        RowRule(
            ("addr", "mode"),
            lambda _, row: row.addr is None or row.mode in _THROUGH_HOST,
            "the host has an address on a switch only in the modes routed and nat",
        ),
        RowRule(
            ("uplink_if_index", "mode"),
            lambda _, row: row.uplink_if_index == 0 or row.mode == SwitchMode.bridged,
            "an uplink needs the mode bridged",
        ),
        RowRule(
            ("vlan_id", "uplink_if_index"),
            lambda _, row: row.vlan_id == 0 or row.uplink_if_index != 0,
            "a VLAN needs an uplink",
        ),
    ),
    FILTER: (
        *_network_rules("src"),
        *_network_rules("dst"),
        *_port_rules("src"),
        *_port_rules("dst"),
        RowRule(
            ("vif_index", "vm_index"),
            lambda _, row: row.vif_index == 0 or row.vm_index != 0,
            "an interface needs the machine it belongs to",
        ),
    ),
    ROUTE: (
        RowRule(
            ("next_hop", "type"),
            lambda _, row: row.next_hop is None or row.type == RouteType.unicast,
            "only a unicast route has a next hop",
        ),
        RowRule(
            ("vif_index", "type"),
            lambda _, row: row.vif_index == 0 or row.type == RouteType.unicast,
            "only a unicast route has an interface",
        ),
        RowRule(
            ("if_index", "type"),
            lambda _, row: row.if_index == 0 or row.type == RouteType.unicast,
            "only a unicast route has an interface",
        ),
        RowRule(
            ("next_hop", "if_index"),
            lambda key, row: (
                key[0] != 0
                or row.type != RouteType.unicast
                or row.next_hop is not None
                or row.if_index != 0
            ),
            "a unicast route of the host needs a next hop or an interface",
        ),
    ),
}
"""By the name of the table."""
