"""The results of `agent_speed` for people: tables on a terminal, a page in Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from functools import partial

from agent_targets import IN_C, OURS, Results, targets

Table = list[list[str]]

_INTRODUCTION = """\
# How fast the agent and the manager's client are

Measured by `make bench-agent` (`tests/bench/agent_speed.py`), on {cpu}, Linux {kernel}, Python
{python}, net-snmp {net-snmp}, in {minutes} minutes, at a load average of {load} when it began.
Ratios hold better than times, because agents take turns within a round.

Every agent serves vmibShapeTable, two rows for each interface, on loopback. The agent in C
(`tests/bench/c/agent.c`) is built on net-snmp's library, keeps its rows in memory
(`netsnmp_tdata`) and has no transactions, disk or kernel behind it. vMIB's agent is the whole
process with its default configuration, SNMPv2c allowed; its machines have no devices, so that
nothing is measured but SNMP. What it does every second anyway, looking at machines, is included. A
program in C replays requests for random cells, {window} under way at a time (in "one at a time":
one), and counts what does not come back or comes back with an error: nothing did. The figures are
CPU microseconds of the agent for one request, user and system time together, medians of {rounds}
rounds. SNMPv3 is authPriv with SHA-256 and AES-128. "C / ours" above 1 means that vMIB's agent
needs less than the one in C. A row of "live" reads vmibShapeOperTable, whose cells are read from
the kernel at most twice a second; it is compared with reading configured cells in C.
"""

_SETS = """\
A SET of vMIB's agent is authenticated, checked against the user's view and the MIB, remembered so
that a retransmission is not carried out twice, written to the log, and decided by the same rules
whether it changes a lock or a network; the agent in C stores a number, in memory as well. The lock,
and numbers that are staged in a transaction, take a short way to that: they are noted, and the
state is made of them when somebody looks at it, once a second at least. SNMPv2c may only read, so
it has no SETs. A SET that changes what is committed is
planned, for which only what differs is looked at, and waits for the disk: a line is appended to a
journal, with one fsync, and from time to time the journal is folded into the state file. So it
costs much the same however many interfaces and rows there are. Managers put dozens of rows into
one SET, or stage them in a transaction and wait for the disk once.
"""

_AGENTX = """\
## Below snmpd

CPU microseconds of snmpd and its subagent together for one request, with 1,000 interfaces:
vMIB's agent, and the one in C as a subagent (`agent SOCKET`), over a UNIX socket. snmpd never
sends a GetBulk: a GETBULK becomes a GetNext for each repetition, one after the other. A SET passes
TestSet, CommitSet and CleanupSet.
"""

_TWO_PHASE = """\
What a SET leaves behind whose last part fails when it is committed (TestSet found nothing wrong):
vMIB's agent is told a rate and a route whose next hop the kernel finds unreachable, pyagentx3 two
numbers of which the second raises an error in `commit`. Nothing may be left behind, and the manager
has to be told (RFC 3416 section 4.2.5).
"""

_BLOCKING = """\
How long one SET of many address rows keeps snmpd from answering others: the machine is a network
namespace, so every row is tested, saved and given to the kernel before the SET is answered. Others
ask snmpd for its sysUpTime meanwhile; the longest wait for an answer counts, of the best of three
times.
"""

_KERNEL = """\
## SETs that the kernel follows

A machine with ten interfaces that exist: each SET is checked, planned, saved with an fsync, and
made in the kernel before it is answered, one after the other. CPU microseconds of the agent for one
SET; the C agent has nothing like it.
"""

_FLEETS = """\
## Many agents

`Manager.apply` over agents of 100 interfaces each, processes of their own on the same two CPUs,
all interfaces getting a rate in both directions. Their devices do not exist, so that no kernel is
measured; how long kernels take is on the page of benchmarks. Datagrams and octets are those of
planning and applying, both ways. The agents' processors are those of all agents together.
"""

_CLIENTS = """\
## The manager's client

SETs of one varbind with SNMPv3 (SHA-256, AES-128): CPU microseconds of the client for one SET,
and SETs per second. For many agents one process stands for all of them, with a socket and an SNMP
engine for each (`tests/bench/responder.py`, on vMIB's codec); the agents in C and vMIB's are real
processes, the latter staging each SET in a transaction. Agents and client share two CPUs, so the
rates are bounded by the agents as well. ezsnmp is asked from 16 threads; snmpset is started for
every SET, one after the other.
"""


def speed_table(results: Results, vifs: str) -> Table:
    """Operation; each agent's CPU time; how often ours fits into C's; our requests per second."""
    speed = results["speed"][vifs]
    peers = list(dict.fromkeys(peer for cells in speed.values() for peer in cells))
    table = [["operation", *peers, "C / ours", "ours, 1/s", "ours, 1/s of a CPU"]]
    for name, cells in speed.items():
        ours = cells.get(OURS)
        peer = speed.get(results["compared"][name], {}).get(IN_C)
        costs = [_number(cells[found]["cost"]) if found in cells else "" for found in peers]
        ratio = f"{peer['cost'] / ours['cost']:.2f}" if peer and ours else ""
        rate = f"{ours['rate']:,.0f}" if ours else ""
        per_cpu = f"{1e6 / ours['cost']:,.0f}" if ours else ""
        table.append([name, *costs, ratio, rate, per_cpu])
    return table


def client_table(results: Results) -> Table:
    """Agents; each client's CPU time and rate; how often ours fits into pysnmp's."""
    found = results["client"]
    clients = ["vmib", "pysnmp", "ezsnmp", "snmpset"]
    heads = [f"{client}, {unit}" for client in clients for unit in ("us", "1/s")]
    table = [["agents", *heads, "pysnmp / ours"]]
    for kind, sizes in found.items():
        for number, by_client in sizes.items():
            row = [f"{number}, {kind}"]
            for client in clients:
                figures = by_client.get(client)
                row += (
                    [_number(figures["microseconds"]), f"{figures['per_second']:,.0f}"]
                    if figures
                    else ["", ""]
                )
            ratio = by_client["pysnmp"]["microseconds"] / by_client["vmib"]["microseconds"]
            table.append([*row, f"{ratio:.1f}"])
    return table


def agentx_table(results: Results) -> Table:
    """Operation; the CPU time of snmpd and each subagent; how often C's fits into ours."""
    found = results["agentx"]
    ours, in_c = "snmpd, vMIB", "snmpd, C subagent"
    table = [["operation", ours, in_c, "ours / C", "ours, 1/s"]]
    for name, cells in found.items():
        mine, other = cells.get(ours), cells.get(in_c)
        costs = [_number(cell["cost"]) if cell else "" for cell in (mine, other)]
        ratio = f"{mine['cost'] / other['cost']:.2f}" if mine and other else ""
        table.append([name, *costs, ratio, f"{mine['rate']:,.0f}" if mine else ""])
    return table


def kernel_table(results: Results) -> Table:
    """Varbinds of a SET; what it costs, and how many are answered."""
    table = [["varbinds in one SET", "vMIB", "1/s"]]
    for varbinds, run in results["kernel"].items():
        table.append([varbinds, _number(run["cost"]), f"{run['rate']:,.0f}"])
    return table


def target_table(results: Results) -> Table:
    """What was wanted, what was measured, and whether that is enough."""
    table = [["what", "wanted", "measured", ""]]
    for target in targets(results):
        table.append([target.what, target.wanted, target.measured, target.verdict])
    return table


def two_phase_table(results: Results) -> Table:
    """Subagent; what snmpd answered; what stands in the two instances afterwards."""
    table = [["subagent", "answer", "the first afterwards", "the second afterwards"]]
    for name, found in results["two_phase"].items():
        where = f" at varbind {found['index']}" if found["index"] else ""
        values = ["not there" if value is None else value for value in found["values"]]
        table.append([name, found["status"] + where, *values])
    return table


def blocking_table(results: Results) -> Table:
    """Rows; how long the SET took, how long others waited, what processors did."""
    table = [["addresses in one SET", "answered after", "others waited", "processors"]]
    for rows, run in results["blocking"].items():
        times = (run[name] for name in ("set", "longest", "processors"))
        table.append([rows, *(f"{seconds * 1000:.1f} ms" for seconds in times)])
    return table


def fleet_table(results: Results) -> Table:
    """Agents and what is done; times; traffic."""
    table = [["agents", "rates which are", *_FLEET]]
    for agents, kinds in results["fleet"].items():
        for kind, run in kinds.items():
            times = [f"{run[name]:.2f} s" for name in _FLEET[1:5]]
            counts = [f"{run['datagrams']:,}", f"{run['octets']:,}"]
            table.append([agents, kind, f"{run['rows']:,}", *times, *counts])
    return table


_FLEET = (
    *("rows", "plan", "apply", "manager's processor", "agents' processors"),
    *("datagrams", "octets"),
)


def facts(results: Results) -> Iterator[str]:
    """What is not in the tables, a sentence each."""
    for vifs, shares in results.get("idle", {}).items():
        told = ", ".join(f"{peer} {share:.2%}" for peer, share in shares.items())
        yield f"Share of a CPU taken when nobody asks, {int(vifs):,} interfaces: {told}."
    exporter = results.get("exporter")
    if exporter:
        times = exporter["seconds"].items()
        told = ", ".join(f"{peer} {seconds * 1000:.0f} ms" for peer, seconds in times)
        cells = exporter["cells"]
        yield f"Debian's prometheus-snmp-exporter walks {cells:,.0f} cells (SNMPv2c) in: {told}."
        first = exporter["first_seconds"][OURS] * 1000
        yield f"Its first walk of vMIB's agent, which has nothing encoded yet: {first:.0f} ms."
    grown = results.get("growth")
    if grown:
        yield (
            f"Resident memory with {grown['vifs']:,} interfaces: {grown['first_answer_mib']:.0f}"
            f" MiB at the first answer, {grown['all_read_mib']:.0f} MiB when the table has been"
            f" read, {grown['half_way_mib']:.0f} MiB after half a million requests more, 5,000 of"
            f" them malformed, {grown['afterwards_mib']:.0f} MiB after {grown['requests']:,.0f}."
        )
    for what, seconds in results.get("start", {}).items():
        yield f"From exec to the first answer, {what}: {seconds:.2f} s."


def as_text(results: Results) -> str:
    """For a terminal."""
    lines: list[str] = []
    for vifs in results.get("speed", {}):
        lines += [f"{int(vifs):,} interfaces; CPU microseconds of the agent for one request"]
        lines += [*_aligned(speed_table(results, vifs)), ""]
    if "client" in results:
        lines += ["SETs of the client, SNMPv3", *_aligned(client_table(results)), ""]
    for name, table in _PLAIN.items():
        if name in results:
            lines += [*_aligned(table(results)), ""]
    return "\n".join([*lines, *facts(results), "", *_aligned(target_table(results))])


def as_markdown(results: Results) -> str:
    """The page of the documentation."""
    told = {**results["machine"], "window": results["window"], "rounds": results["rounds"]}
    told["minutes"] = f"{results['minutes']:.0f}"
    parts = [_INTRODUCTION.format(**told), "## Targets\n", _table(target_table(results))]
    for vifs in results.get("speed", {}):
        parts += [f"## {int(vifs):,} interfaces\n", _table(speed_table(results, vifs))]
    parts.append(_SETS)
    if results.get("speed"):
        parts.append(_slowest(results["speed"]))
    told_facts = list(facts(results))
    if told_facts:
        parts += ["## Memory, start, and a real reader\n"]
        parts += ["\n".join(f"- {fact}" for fact in told_facts) + "\n"]
    return "\n".join(map(_filled, [*parts, *_more(results)]))


def _slowest(speed: Results) -> str:
    """The worst of our own figures."""
    vifs, operations = max(speed.items(), key=lambda item: int(item[0]))
    name, cells = max(operations.items(), key=lambda item: item[1].get(OURS, {}).get("cost", 0))
    return (
        f"The slowest of vMIB's own figures: {name} with {int(vifs):,} interfaces,"
        f" {cells[OURS]['cost']:,.0f} microseconds of CPU, {cells[OURS]['rate']:,.0f} a second.\n"
    )


def _more(results: Results) -> Iterator[str]:
    """The parts of the page that are not about every request."""
    if "kernel" in results:
        yield from (_KERNEL, _table(kernel_table(results)))
    if "agentx" in results:
        yield from (_AGENTX, _table(agentx_table(results)))
    if "two_phase" in results:
        yield from (_TWO_PHASE, _table(two_phase_table(results)))
    if "blocking" in results:
        yield from (_BLOCKING, _table(blocking_table(results)))
    if "fleet" in results:
        yield from (_FLEETS, _table(fleet_table(results)))
    if "client" in results:
        yield from (_CLIENTS, _table(client_table(results)))


def _filled(part: str) -> str:
    """A part of a page whose lines fit; tables and headings are left alone."""
    paragraphs = part.split("\n\n")
    return "\n\n".join(
        text if text.startswith(("#", "|")) else _filled_paragraph(text) for text in paragraphs
    )


def _filled_paragraph(text: str) -> str:
    lines = text.splitlines() if text.startswith("- ") else [" ".join(text.split())]
    indent = "  " if text.startswith("- ") else ""
    wrap = partial(textwrap.fill, width=100, break_on_hyphens=False, break_long_words=False)
    filled = "\n".join(wrap(line, subsequent_indent=indent) for line in lines)
    return filled + ("\n" if text.endswith("\n") else "")


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 1000 else f"{value:,.0f}"


_PLAIN = {
    "kernel": kernel_table,
    "agentx": agentx_table,
    "two_phase": two_phase_table,
    "blocking": blocking_table,
    "fleet": fleet_table,
}
"""Tables by what they are made of."""


def _aligned(table: Table) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]


def _table(table: Table) -> str:
    head, *rows = (f"| {' | '.join(row)} |" for row in table)
    rule = "|---|" + "---:|" * (len(table[0]) - 1)
    return "\n".join([head, rule, *rows]) + "\n"
