"""What had to be reached by the figures of `agent_speed`, and whether it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

Results = dict[str, Any]

OURS, IN_C = "vMIB", "C agent (net-snmp)"
RATIOS = {
    "v2c GET": 1.5,
    "v2c GET, 10 varbinds": 1.5,
    "v2c GETNEXT": 1.5,
    "v2c GETBULK 25": 3.0,
    "v3 GET": 1.0,
    "v3 GET, 10 varbinds": 1.0,
    "v3 GETNEXT": 1.0,
    "v3 GETBULK 25": 1.0,
    "v3 SET, spin lock": 1.0,
    "v3 SET, staged in a transaction": 1.0,
}
"""By operation: how many times ours has to fit into the CPU time of the agent in C."""
PER_CPU = {"v2c GET": 100_000, "v3 GET": 50_000}
"""Requests for each second of a CPU that we aim at."""
AGENTX_RATIO = 1.2
CLIENT_RATIO = 20.0
BLOCKED_SECONDS = 0.1
GROWTH_MIB = 2.0
"""Less than that is no growth, but memory in other pieces."""


class Target(NamedTuple):
    """What it is, what was wanted, what was measured; None where it could not be."""

    what: str
    wanted: str
    measured: str
    is_met: bool | None

    @property
    def verdict(self) -> str:
        """In a word."""
        return {True: "met", False: "MISSED", None: "not possible"}[self.is_met]


def targets(results: Results) -> Iterator[Target]:
    """All of them, of what was measured."""
    yield from _agent(results)
    for name, found in (
        ("agentx", _agentx),
        ("two_phase", _two_phase),
        ("blocking", _blocking),
        ("client", _client),
        ("exporter", _exporter),
        ("growth", _growth),
    ):
        if results.get(name):
            yield from found(results[name])


def _agent(results: Results) -> Iterator[Target]:
    for vifs, speed in results.get("speed", {}).items():
        size = f"{int(vifs):,} interfaces"
        for name, wanted in RATIOS.items():
            other = speed.get(results["compared"].get(name), {}).get(IN_C)
            if name in speed and other:
                ratio = other["cost"] / speed[name][OURS]["cost"]
                said = f"{ratio:.2f} times the agent in C"
                yield Target(f"{name}, {size}", f"{wanted:g} times", said, ratio >= wanted)
        for name, aim in PER_CPU.items():
            if name in speed:
                rate = 1e6 / speed[name][OURS]["cost"]
                what = f"{name}, {size}, a second on one CPU"
                yield Target(what, f"{aim:,} (aim)", f"{rate:,.0f}", rate >= aim)
    if results.get("speed"):
        yield Target("v2c SET", "1.5 times", "SNMPv2c may only read here", None)


def _agentx(found: Results) -> Iterator[Target]:
    for name, cells in found.items():
        ours, other = cells.get("snmpd, vMIB"), cells.get("snmpd, C subagent")
        if not ours or not other:
            continue
        ratio = ours["cost"] / other["cost"]
        most = 1.0 if "GETBULK" in name else AGENTX_RATIO
        said = f"{ratio:.2f} times with the C subagent"
        yield Target(f"{name} below snmpd", f"at most {most:g} times", said, ratio <= most)


def _two_phase(found: Results) -> Iterator[Target]:
    for name, run in found.items():
        if OURS in name:
            left = [value for value in run["values"] if value not in (None, "0")]
            said = f"{run['status']}, {'nothing' if not left else ', '.join(left)} left behind"
            is_met = run["status"] == "commitFailed" and not left
            yield Target("a SET of which a part fails", "commitFailed, nothing", said, is_met)


def _blocking(found: Results) -> Iterator[Target]:
    for rows, run in found.items():
        said = f"{run['longest'] * 1000:.0f} ms"
        wanted = f"at most {BLOCKED_SECONDS * 1000:.0f} ms"
        is_met = run["longest"] <= BLOCKED_SECONDS
        yield Target(f"snmpd waits for a SET of {rows} addresses", wanted, said, is_met)


def _client(found: Results) -> Iterator[Target]:
    for number, by_client in found["a responder for all"].items():
        ratio = by_client["pysnmp"]["microseconds"] / by_client["vmib"]["microseconds"]
        said = f"{ratio:.1f} times pysnmp"
        what = f"the manager's SETs to {number} agents"
        yield Target(what, f"{CLIENT_RATIO:g} times", said, ratio >= CLIENT_RATIO)


def _exporter(found: Results) -> Iterator[Target]:
    ours, other = (found["seconds"][name] * 1000 for name in (OURS, IN_C))
    said = f"{ours:.0f} ms, the agent in C {other:.0f} ms"
    yield Target("snmp_exporter's walk", "not slower than of C", said, ours <= other)


def _growth(found: Results) -> Iterator[Target]:
    more = found["afterwards_mib"] - found["half_way_mib"]
    what = f"memory, the second half of {found['requests']:,.0f} requests"
    yield Target(what, "no growth", f"{more:+.1f} MiB", more < GROWTH_MIB)
