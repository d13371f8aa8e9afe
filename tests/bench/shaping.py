"""How long it takes to shape the interfaces of a host, from two XML files to its kernel.

Every interface gets a rate in both directions: a TBF at the host's end for what the machine
receives, and one at an ifb, to which the ingress qdisc redirects, for what it sends. The network
stands already. vMIB does it through SNMPv3 and the agent's transaction; beside it, in the same
run: `tc -batch` with the same qdiscs, an `snmpset` process for every row, and Mininet's TCLink.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import peers
from common import Lab, Results, Table, Target, lab_of, milliseconds, virtual_xml
from traffic import counted

from vmib_manager.apply import Phase
from vmib_manager.sync import Manager

REPEATS = {32: 11, 256: 7}
WANTED_SECONDS = {32: 0.1, 256: 0.5}
TIMES_MININET = 10
SHAPED, CHANGED = 'rate="10Mbit"', 'rate="20Mbit"'
KINDS = {
    "first": "all of the description, on a host that nobody has configured",
    "shape": "rates for interfaces that have none",
    "change": "other rates",
    "again": "the same once more: nothing to do",
    "clear": "no rates any more",
}

Numbers = dict[str, float]


def applied(host: Lab, manager: Manager, text: str) -> Numbers:
    """Load, plan and apply a virtual file: the seconds of each step, and of processors."""
    agents, own = host.agents_seconds(), time.process_time()
    began = time.perf_counter()
    model = host.model(text)
    loaded = time.perf_counter()
    plan = manager.plan(model)
    planned = time.perf_counter()
    result = manager.apply(plan)
    ended = time.perf_counter()
    phases = {phase.value: result.seconds.get(phase, 0.0) for phase in Phase}
    return {
        "rows": sum(len(changed.changes) for changed in plan.changed),
        "load": loaded - began,
        "plan": planned - loaded,
        "to last commit": phases["stage"] + phases["commit"],
        "verify and confirm": phases["verify"] + phases["confirm"],
        "apply": ended - planned,
        "agents' processor": host.agents_seconds() - agents,
        "manager's processor": time.process_time() - own,
    }


def vmib(host: Lab, machines: int, repeats: int) -> dict[str, Any]:
    """The first apply of all, and the medians of the others."""
    plain, shaped, changed = (virtual_xml(machines, each) for each in ("", SHAPED, CHANGED))
    found: dict[str, list[Numbers]] = {kind: [] for kind in KINDS}
    with host.manager() as manager:
        found["first"].append(applied(host, manager, shaped))
        applied(host, manager, plain)
        for _ in range(repeats):
            for kind, text in zip(list(KINDS)[1:], (shaped, changed, changed, plain), strict=True):
                found[kind].append(applied(host, manager, text))
    spread = sorted(run["to last commit"] for run in found["shape"])
    return {
        "runs": {kind: _medians(runs) for kind, runs in found.items()},
        "shape, to last commit": {"fastest": spread[0], "slowest": spread[-1], "runs": repeats},
        "plan anew": median(_planned_anew(host, shaped) for _ in range(3)),
        "traffic": {"shape": _traffic(host, shaped), "again": _traffic(host, shaped)},
        "command": _commands(host, plain, shaped, changed),
    }


def _medians(runs: list[Numbers]) -> Numbers:
    return {name: median(run[name] for run in runs) for name in runs[0]}


def _planned_anew(host: Lab, text: str) -> float:
    """How long a manager plans that knows nothing of the host yet."""
    model = host.model(text)
    with host.manager() as manager:
        return _seconds(lambda: manager.plan(model))


def _traffic(host: Lab, text: str) -> dict[str, int]:
    """Datagrams and octets of planning and applying, discovery of the agents' engines included."""
    with counted() as seen, host.manager() as manager:
        plan = manager.plan(host.model(text))
        of_plan = seen.datagrams
        manager.apply(plan)
    apply_datagrams = seen.datagrams - of_plan
    return {"plan": of_plan, "apply": apply_datagrams, "octets": seen.octets}


def _commands(host: Lab, plain: str, shaped: str, changed: str) -> Numbers:
    """Medians of `vmib apply` as a process, from its start to its end."""
    program = str(Path(sys.executable).with_name("vmib"))

    def run(text: str) -> float:
        files = str(host.real_file), str(host.virtual_file(text))
        return _seconds(lambda: _quietly([program, "apply", *files]))

    run(plain)
    times: dict[str, list[float]] = {"shape": [], "change": [], "again": [], "clear": []}
    for _ in range(3):
        for kind, text in zip(times, (shaped, changed, changed, plain), strict=True):
            times[kind].append(run(text))
    times["vmib --version"] = [_seconds(lambda: _quietly([program, "--version"])) for _ in range(5)]
    return {kind: median(found) for kind, found in times.items()}


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def measure(machines: int) -> dict[str, Any]:
    """vMIB and its peers for that many interfaces of one host."""
    repeats = REPEATS[machines]
    with lab_of(machines) as host:
        own = vmib(host, machines, repeats)
        with host.manager() as manager:
            manager.apply(manager.plan(host.model(virtual_xml(machines))))
            snmpset = peers.snmpset(host, manager, virtual_xml(machines, SHAPED))
            manager.apply(manager.plan(host.model(virtual_xml(machines, SHAPED))))
            shaped = peers.queues(host)
            manager.apply(manager.plan(host.model(virtual_xml(machines))))
        host.stop_agents()
        batch = peers.tc_batch(host, machines, repeats, shaped)
    return {"vmib": own, "tc -batch": batch, "snmpset": snmpset, "mininet": peers.mininet(machines)}


def run() -> Results:
    """Measure, compare, and say whether that is enough."""
    data = {str(machines): measure(machines) for machines in REPEATS}
    tables, targets = [], []
    for size, found in data.items():
        machines, runs = int(size), found["vmib"]["runs"]
        tables += [_comparison(machines, found), _steps(machines, found["vmib"])]
        last_commit = runs["shape"]["to last commit"]
        targets.append(
            Target(
                f"{size} interfaces shaped, from `apply` to the last commit",
                f"below {milliseconds(WANTED_SECONDS[machines])}",
                milliseconds(last_commit),
                last_commit < WANTED_SECONDS[machines],
            )
        )
        if found["mininet"] is not None:
            times = found["mininet"]["shape"] / runs["shape"]["apply"]
            targets.append(
                Target(
                    f"{size} interfaces shaped, beside Mininet",
                    f"{TIMES_MININET} times as fast",
                    f"{times:.1f} times",
                    times >= TIMES_MININET,
                )
            )
        targets.append(
            Target(
                f"{size} interfaces, applied a second time",
                "no SET",
                f"{int(runs['again']['rows'])} rows to set",
                runs["again"]["rows"] == 0,
            )
        )
    return Results(data, tables, targets)


def _comparison(machines: int, found: dict[str, Any]) -> Table:
    runs, own = found["vmib"]["runs"], found["vmib"]
    unit, anew = runs["shape"]["apply"], own["plan anew"]
    ways: list[tuple[str, float]] = [
        ("vmib: Manager.apply to the last commit", runs["shape"]["to last commit"]),
        ("vmib: Manager.apply, verified and confirmed", unit),
        ("vmib: files and host read, planned, applied", unit + runs["shape"]["load"] + anew),
        ("vmib apply, a process", own["command"]["shape"]),
        ("tc -batch and ip -batch, the same qdiscs", found["tc -batch"]["seconds"]),
        ("snmpset, one process for each row", found["snmpset"]),
    ]
    notes = []
    if found["mininet"] is None:
        notes.append("Mininet is not installed.")
    else:
        ways.append(("Mininet, TCLink (shaping only)", found["mininet"]["shape"]))
        ways.append(("Mininet, with building its network", sum(found["mininet"].values())))
    spread = own["shape, to last commit"]
    notes.append(
        f"To the last commit, {spread['runs']} runs: {milliseconds(spread['fastest'])} to "
        f"{milliseconds(spread['slowest'])}."
    )
    notes.append(
        f"The plan takes {milliseconds(anew)} where the rows of the host have to be read first, "
        f"{milliseconds(runs['shape']['plan'])} in a manager that applied the last ones."
    )
    rows = [(name, milliseconds(seconds), f"{seconds / unit:.2f}") for name, seconds in ways]
    title = f"{machines} interfaces of one host, {2 * machines} rates"
    return Table(title, ("way", "median", "ratio to Manager.apply"), rows, notes)


def _steps(machines: int, own: dict[str, Any]) -> Table:
    names = [name for name in own["runs"]["shape"] if name != "rows"]
    rows = []
    for kind, numbers in own["runs"].items():
        traffic = own["traffic"].get(kind)
        datagrams = "" if traffic is None else f"{traffic['plan']} + {traffic['apply']}"
        octets = "" if traffic is None else f"{traffic['octets']:,}"
        times = [milliseconds(numbers[name]) for name in names]
        rows.append((KINDS[kind], f"{numbers['rows']:.0f}", *times, datagrams, octets))
    columns = ("apply", "rows", *names, "datagrams to plan + apply", "octets")
    return Table(f"Steps of vMIB with {machines} interfaces", columns, rows)
