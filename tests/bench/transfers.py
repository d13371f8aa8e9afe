"""Table 2 of the paper: 20 files of 1 MB between two machines, at 1 and at 100 Mbit/s.

Theory: full frames of TCP over IPv4 with time stamps carry 1448 of 1514 octets of layer 2, which
are what a rate counts.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from common import Lab, Results, Table, Target, lab_of, machine, rate_text, virtual_xml

from vmib_manager import measure

FILES, OCTETS = 20, 1_000_000
REPEATS = {1000: 1, 100_000: 5}
TARGET_PERCENT = 1.0


def transfer(host: Lab, kbps: int) -> list[dict[str, Any]]:
    """Both directions of a link of that rate, one after the other."""
    link = f'  <link a="{machine(1)}" b="{machine(2)}" rate="{kbps}kbit"/>\n'
    with host.manager() as manager:
        model = host.model(virtual_xml(2, links=link))
        manager.apply(manager.plan(model))
    ends = measure.endpoints(host.name, model)
    found = []
    for source, sink in ((machine(1), machine(2)), (machine(2), machine(1))):
        theory = measure.theory(FILES * OCTETS, kbps)
        patience = 2 * theory + 30
        times = [
            measure.transfer(ends[source], ends[sink], FILES * OCTETS, timeout=patience).seconds
            for _ in range(REPEATS[kbps])
        ]
        seconds = median(times)
        way = {"from": source, "to": sink, "kbps": kbps, "all": sorted(times)}
        error = 100 * (seconds / theory - 1)
        found.append(way | {"theory": theory, "seconds": seconds, "error_percent": error})
    return found


def run() -> Results:
    """Measure, and say whether every transfer takes as long as it must."""
    with lab_of(2) as host:
        found = [row for kbps in REPEATS for row in transfer(host, kbps)]
    rows = [
        (
            rate_text(row["kbps"]),
            f"{row['from']} to {row['to']}",
            f"{row['theory']:.3f} s",
            f"{row['seconds']:.3f} s",
            f"{row['error_percent']:+.2f} %",
            f"{row['all'][0]:.3f} to {row['all'][-1]:.3f} s, {len(row['all'])} times",
        )
        for row in found
    ]
    title = f"A file of {FILES * OCTETS / 1e6:g} MB over TCP"
    table = Table(title, ("rate", "way", "theory", "median", "error", "all"), rows)
    targets = []
    for kbps in REPEATS:
        worst = max((row["error_percent"] for row in found if row["kbps"] == kbps), key=abs)
        targets.append(
            Target(
                f"{title} at {rate_text(kbps)}: error of the time",
                f"within {TARGET_PERCENT:g} %",
                f"{worst:+.2f} %",
                abs(worst) <= TARGET_PERCENT,
            )
        )
    return Results(found, [table], targets)
