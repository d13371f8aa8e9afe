"""The results of `agent_speed` for people: a table on a terminal, a page in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Results = dict[str, Any]
OURS, IN_C = "vMIB", "C agent (net-snmp)"


def rows(results: Results, vifs: str) -> Iterator[Sequence[str]]:
    """Operation; each agent's CPU time; how often ours fits into C's; our requests per second."""
    speed = results["speed"][vifs]
    peers = list(dict.fromkeys(peer for cells in speed.values() for peer in cells))
    yield [
        "operation",
        *(f"{peer}, us" for peer in peers),
        "C / ours",
        "ours, 1/s",
        "ours, 1/s/core",
    ]
    for name, cells in speed.items():
        ours = cells.get(OURS)
        peer = speed.get(results["compared"][name], {}).get(IN_C)
        costs = [f"{cells[found]['cost']:.1f}" if found in cells else "" for found in peers]
        ratio = f"{peer['cost'] / ours['cost']:.2f}" if peer and ours else ""
        rate = f"{ours['rate']:,.0f}" if ours else ""
        per_core = f"{1e6 / ours['cost']:,.0f}" if ours else ""
        yield [name, *costs, ratio, rate, per_core]


def facts(results: Results) -> Iterator[str]:
    """What is not in the tables, a sentence each."""
    for vifs, shares in results.get("idle", {}).items():
        told = ", ".join(f"{peer} {share:.2%}" for peer, share in shares.items())
        yield f"Share of a CPU that nobody's requests cost, {vifs} interfaces: {told}."
    exporter = results.get("exporter")
    if exporter:
        told = ", ".join(
            f"{peer} {time * 1000:.0f} ms" for peer, time in exporter["seconds"].items()
        )
        yield f"prometheus-snmp-exporter walks {exporter['cells']:.0f} cells by SNMPv2c in: {told}."
    grown = results.get("growth")
    if grown:
        yield (
            f"Resident memory with {grown['vifs']:,} interfaces:"
            f" {grown['first_answer_mib']:.0f} MiB at the first answer,"
            f" {grown['all_read_mib']:.0f} MiB when the table has been read,"
            f" {grown['afterwards_mib']:.0f} MiB after {grown['requests']:,.0f} requests more,"
            f" 5,000 of them malformed."
        )
    for what, seconds in results.get("start", {}).items():
        yield f"From exec to the first answer, {what}: {seconds:.2f} s."


def as_text(results: Results) -> str:
    """For a terminal."""
    lines: list[str] = []
    for vifs in results["speed"]:
        table = list(rows(results, vifs))
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines += [f"{int(vifs):,} interfaces; CPU time of the agent for one request, medians"]
        for row in table:
            first, *others = (cell for cell in row)
            cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
            lines.append("  ".join([first.ljust(widths[0]), *cells]).rstrip())
        lines.append("")
    return "\n".join([*lines, *facts(results)])


def as_markdown(results: Results) -> str:
    """The page of the documentation."""
    return as_text(results)
