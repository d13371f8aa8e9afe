"""What rows need of a host, against what its agent can do (vmibHostCapabilities)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from vmib.rows import Direction, InetAddressType

from .compile import HostRows
from .findings import Finding, error
from .model import Source
from .wanted import WantedRow

_NETEM = ("delay", "jitter", "loss", "duplicate", "corrupt", "reorder")
_IMPAIRED = (*_NETEM, "rate", "burst", "queue_limit")
_OF_TABLE = {
    "vmibAddrTable": "addresses",
    "vmibLinkTable": "links",
    "vmibRouteTable": "routes",
    "vmibDomainTable": "filters",
    "vmibFilterTable": "filters",
    "vmibSwitchTable": "switches",
}
_MISSING = {
    "netem": "delay, jitter, loss, duplication, corruption and reordering: load sch_netem there",
    "shapeToVm": "shaping what machines receive",
    "shapeFromVm": "shaping what machines send",
    "links": "links",
    "routes": "routes in machines",
    "filters": "isolation and rules",
    "addresses": "setting addresses in machines",
    "switches": "switches",
    "vlans": "VLANs",
    "ipv6": "IPv6",
}


def needs(wanted: WantedRow) -> Iterator[str]:
    """The names of the capabilities that a row needs."""
    if capability := _OF_TABLE.get(wanted.table):
        yield capability
    row = wanted.row
    if wanted.table == "vmibShapeTable" and any(getattr(row, name) for name in _IMPAIRED):
        yield "shapeToVm" if wanted.key[-1] is Direction.toVm else "shapeFromVm"
    if wanted.table in ("vmibShapeTable", "vmibLinkTable") and any(
        getattr(row, name) for name in _NETEM
    ):
        yield "netem"
    if wanted.table == "vmibSwitchTable" and row.vlan_id:
        yield "vlans"
    if InetAddressType.ipv6 in (*wanted.key, getattr(row, "addr_type", None)):
        yield "ipv6"


def check_capabilities(
    rows: HostRows | Mapping[str, Iterable[WantedRow]],
    capabilities: Mapping[str, frozenset[str]],
) -> list[Finding]:
    """An error for each host and capability that is needed there and missing.

    `capabilities` gives the names of the bits of vmibHostCapabilities of the hosts that answered;
    hosts that are not in it are left out.
    """
    findings = []
    for host, wanted_rows in rows.items():
        if host not in capabilities:
            continue
        missing: dict[str, list[Source]] = {}
        for wanted in wanted_rows:
            for name in needs(wanted):
                if name not in capabilities[host]:
                    missing.setdefault(name, []).append(wanted.source)
        for name, sources in missing.items():
            count = f" ({len(sources)} rows need it)" if len(sources) > 1 else ""
            message = f"{host} has no {name}{count}"
            way_out = f"the host cannot do {_MISSING[name]}"
            findings.append(error(min(sources), message, f"{way_out}; or move the machines"))
    return findings
