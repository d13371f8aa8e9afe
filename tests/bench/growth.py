"""How `apply` grows with the links of one agent.

Machines are linked to one virtual router, so each has a link to every other: N machines have
N x (N - 1) rows of vmibLinkTable, with an HTB class each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import Lab, Results, Table, lab_of, machine, milliseconds, virtual_xml
from shaping import applied
from traffic import counted

MACHINES = (10, 32, 100)
KINDS = ("made", "changed", "again", "taken away")


def star(machines: int, rate: str) -> str:
    """A virtual file with links of all machines to one router."""
    links = "".join(
        f'  <link a="{machine(n)}" b="core" rate="{rate}"/>\n' for n in range(1, machines + 1)
    )
    return virtual_xml(machines, links=f'  <router id="core"/>\n{links}')


def grown(host: Lab, machines: int) -> dict[str, Any]:
    """The steps of applying, and the memory of the agent then."""
    texts = (star(machines, "10Mbit"), star(machines, "20Mbit"), star(machines, "20Mbit"))
    steps = []
    with counted() as seen, host.manager() as manager:
        applied(host, manager, virtual_xml(machines))
        for text in (*texts, virtual_xml(machines)):
            datagrams, octets = seen.datagrams, seen.octets
            step = dict(applied(host, manager, text))
            step["datagrams"], step["octets"] = seen.datagrams - datagrams, seen.octets - octets
            steps.append(step)
    (agent,) = host.agents()
    lines = Path("/proc", str(agent.pid), "status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    runs = dict(zip(KINDS, steps, strict=True))
    return {"links": machines * (machines - 1), "runs": runs, "agent_peak_kib": peak}


def run() -> Results:
    """Measure one size after the other."""
    found = []
    for machines in MACHINES:
        with lab_of(machines) as host:
            found.append(grown(host, machines))
    rows = []
    for size in found:
        for kind, run in size["runs"].items():
            per_link = f"{run['apply'] / run['rows'] * 1e6:.0f} us" if run["rows"] else ""
            steps = (run[name] for name in ("plan", "to last commit", "apply"))
            traffic = (f"{run[name]:,}" for name in ("datagrams", "octets"))
            rows.append((f"{size['links']:,}", kind, *map(milliseconds, steps), per_link, *traffic))
    peaks = ", ".join(f"{size['agent_peak_kib'] / 1024:.0f} MiB" for size in found)
    table = Table(
        "Links of one agent",
        (
            *("links", "which are", "plan", "to the last commit", "apply", "apply, for each row"),
            *("datagrams", "octets"),
        ),
        rows,
        (f"Most memory of the agent: {peaks}.",),
    )
    return Results(found, [table])
