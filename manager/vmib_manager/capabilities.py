"""What rows need of a host, against what its agent can do (vmibHostCapabilities)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vmib.needs import needs

from .compile import HostRows
from .findings import Finding, error
from .model import Source
from .wanted import WantedRow

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
    "nat": "address translation",
    "probes": "probes",
    "vmControl": "starting and stopping machines",
    "ipv6": "IPv6",
}


def needed(wanted: WantedRow) -> set[str]:
    """The names of the capabilities that a row needs."""
    return {capability for _, capability in needs(wanted.table, wanted.key, wanted.row)}


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
            for name in sorted(needed(wanted)):
                if name not in capabilities[host]:
                    missing.setdefault(name, []).append(wanted.source)
        for name, sources in missing.items():
            count = f" ({len(sources)} rows need it)" if len(sources) > 1 else ""
            message = f"{host} has no {name}{count}"
            way_out = f"the host cannot do {_MISSING[name]}"
            findings.append(error(min(sources), message, f"{way_out}; or move the machines"))
    return findings
