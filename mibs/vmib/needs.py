"""Which capabilities of a host (vmibHostCapabilities) a row needs: asked by agent and manager."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv6Address
from typing import Any

from .impairment import NETEM_FIELDS, NETEM_MODIFIERS, changed_fields
from .rows import Direction, InetAddressType, SwitchMode, VmAdminState

ROW_STATUS = "row_status"
"""Stands for the row as such, where no single field asks for a capability."""

_ROW_NEEDS: Mapping[str, str] = {
    "vmibAddrTable": "addresses",
    "vmibLinkTable": "links",
    "vmibDomainTable": "filters",
    "vmibSwitchTable": "switches",
    "vmibRouteTable": "routes",
    "vmibFilterTable": "filters",
    "vmibProbeTable": "probes",
}
_DIRECTIONS = {Direction.fromVm: "shapeFromVm", Direction.toVm: "shapeToVm"}


def needs(table: str, key: tuple[Any, ...], row: Any) -> Iterator[tuple[str, str]]:
    """The fields of a row that ask for a capability, each with the name of its bit.

    What stands at its default asks for nothing; `ROW_STATUS` stands for the row as such.
    """
    if table in _ROW_NEEDS:
        yield ROW_STATUS, _ROW_NEEDS[table]
        if any(isinstance(part, IPv6Address) for part in key):
            yield ROW_STATUS, "ipv6"
    match table:
        case "vmibShapeTable" | "vmibLinkTable":
            yield from _impairment_needs(table, key, row)
        case "vmibSwitchTable":
            if row.vlan_id:
                yield "vlan_id", "vlans"
            if row.mode == SwitchMode.nat:
                yield "mode", "nat"
            if row.addr is not None and row.addr.version == 6:
                yield "addr", "ipv6"
        case "vmibFilterTable" if row.addr_type == InetAddressType.ipv6:
            yield "addr_type", "ipv6"
        case "vmibVmTable" if row.admin_state != VmAdminState.unmanaged:
            yield "admin_state", "vmControl"


def _impairment_needs(table: str, key: tuple[Any, ...], row: Any) -> Iterator[tuple[str, str]]:
    for name in changed_fields(row):
        if table == "vmibShapeTable":
            yield name, _DIRECTIONS[key[2]]
        if name in NETEM_FIELDS or name in NETEM_MODIFIERS:
            yield name, "netem"
