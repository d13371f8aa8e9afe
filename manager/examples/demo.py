"""The evaluation of a paper, again: a grid of 32 machines on 4 hosts, made, measured and removed.

The grid is that of Storch, Calheiros and De Rose, "Virtual Machines Networking for Distributed
Systems Emulation": three isolated sites whose proxies reach each other at a limited rate. Hosts
and machines are network namespaces of this computer; kernel, agents, SNMPv3 and traffic are real.

    demo.py [--out DIRECTORY]

Exits with 1 where anything is not as it has to be, and says what.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import demo_plot
from demo_text import Meter, listed, matrix, octets, percent, say, table

from vmib_manager import (
    ApplyProgress,
    ApplyResult,
    Manager,
    Model,
    VmibError,
    credentials_for,
    expected,
    lab,
    lab_spec,
    load,
    measure,
    pings,
    plan_text,
    render,
)
from vmib_manager.terminal import painter

HERE = Path(__file__).resolve().parent
REAL, SLOW, FAST = "grid-real.xml", "grid-virtual.xml", "grid-virtual-100M.xml"
LAB = "demo"
TOLERANCE = 0.01
"""How far from theory a measured time or rate may be."""
ATTEMPTS = 3
"""A busy computer is a slow network: what is off is measured again. Every attempt is shown."""
FILES = ((SLOW, 1_000, 1_000_000), (FAST, 100_000, 40_000_000))
"""Table 2 in miniature: description, its rate in kbit/s, octets of the file."""
SWEEP = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
SWEEP_SECONDS = 0.8
SENDER, RECEIVER, OTHER = "vmgridpeer1", "vmgridpeer2", "vmgridpeer3"

paint = painter("auto", sys.stdout)


@dataclass
class Demo:
    """What the steps of the demonstration share; `wrong` is what is not as it has to be."""

    out: Path
    manager: Manager
    model: Model
    machines: dict[str, measure.Endpoint]
    results: dict[str, Any] = field(default_factory=lambda: {"schema": "vmib.demo/1"})
    wrong: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        """Take note of what has to hold and does not."""
        if not holds:
            self.wrong.append(what)
            say(paint(f"   not as expected: {what}", "bad"))


def title(text: str) -> None:
    """Begin a part."""
    say()
    say(paint(text, "strong"))


@contextmanager
def laboratory(model: Model) -> Iterator[None]:
    """The lab, from its making to its removal, whatever happens between."""
    machines = sum(len(host.machines) for host in model.real.hosts)
    listed([f"{len(model.real.hosts)} hosts, each with its own agent; {machines} machines ..."])
    began = time.monotonic()
    lab.up(lab.spec_of(model.real, LAB), lambda line: listed([line]))
    listed([f"up in {time.monotonic() - began:.1f} s"])
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        lab.down(LAB)
    say()
    say(f"The lab is removed: namespaces, agents, files in {lab_spec.directory(LAB)}.")


def apply(demo: Demo, model: Model) -> ApplyResult:
    """Plan and apply, and say what has become of it."""
    plan = demo.manager.plan(model)
    messages: dict[str, int] = {}

    def tell(progress: ApplyProgress) -> None:
        if progress.phase.value == "stage":
            messages[progress.host] = max(messages.get(progress.host, 0), progress.total)

    result = demo.manager.apply(plan, tell=tell)
    listed(plan_text.result_lines(result, paint))
    rows = sum(host.changes for host in result.hosts.values())
    listed([f"{rows} rows in {sum(messages.values())} SET messages"])
    return result


def show_plan(demo: Demo) -> None:
    """What apply would do."""
    title(f"Plan: what has to change (vmib plan {REAL} {SLOW})")
    plan = demo.manager.plan(demo.model)
    demo.expect(plan.ok, "the plan has errors")
    listed(plan_text.plan_lines(plan, paint, brief=True))
    say(f"   For example on host3, for {SENDER}:")
    one = replace(plan, hosts={"host3": plan.hosts["host3"]}, findings=())
    listed((line for line in plan_text.plan_lines(one, paint) if SENDER in line), "   ")
    demo.results["plan"] = {name: len(host.changes) for name, host in plan.hosts.items()}


def show_apply(demo: Demo) -> None:
    """All hosts or none; and a second time, when there is nothing left to do."""
    title("Apply: all hosts, or none")
    result = apply(demo, demo.model)
    demo.results["apply"] = {phase.value: spent for phase, spent in result.seconds.items()}
    title("Apply again: the digests of all hosts are the wanted ones, so no SET is sent")
    again = demo.manager.plan(demo.model)
    listed([plan_text.summary(again)])
    demo.expect(again.ok and not again.changed, "a second apply would change something")
    title("Verify: rows are as described, and the kernel reads back what the rows say")
    verification = demo.manager.verify(demo.model)
    told_before = () if verification.ok else verification.plan.findings
    found = replace(verification, plan=replace(verification.plan, findings=told_before))
    listed(plan_text.verification_lines(found, paint))
    demo.expect(verification.ok, "hosts are not as described")


def show_reachability(demo: Demo) -> None:
    """Every machine pings every other one."""
    title("Reachability: every machine pings every other one, 32 times 31 pings")
    wanted = expected(demo.model)
    began = time.monotonic()
    found = pings.ping_all(list(demo.machines.values()))
    seconds = time.monotonic() - began
    say()
    matrix(demo.model, wanted, found, paint)
    disagreements = [pair for pair in wanted if wanted[pair] != found[pair]]
    say()
    listed(
        [
            f"{len(wanted) - len(disagreements)} of {len(wanted)} pairs as the rules say: "
            f"{sum(found.values())} reach each other, {len(found) - sum(found.values())} do not "
            f"({seconds:.1f} s)"
        ]
    )
    for start, stop in disagreements:
        what = "reaches" if found[start, stop] else "does not reach"
        demo.expect(False, f"{start} {what} {stop}")
    demo.results["reachability"] = {
        "pairs": len(wanted),
        "reached": sum(found.values()),
        "disagreements": disagreements,
    }


def show_files(demo: Demo) -> list[demo_plot.Measured]:
    """A file between two sites, at the rate of each of two descriptions."""
    title(f"A file from {SENDER} (site1, host3) to {RECEIVER} (site2, host1), over TCP")
    rows = []
    measured = []
    demo.results["transfers"] = []
    for file, rate, size in FILES:
        model = load(REAL, file)
        if demo.manager.plan(model).changed:
            say(f"   The other description, as vmib apply {REAL} {file} does:")
            apply(demo, model)
        theory = measure.theory(size, rate)
        for _ in range(ATTEMPTS):
            meter = Meter(f"{octets(size)} octets at {rate // 1000} Mbit/s", size)
            done = measure.transfer(
                demo.machines[SENDER], demo.machines[RECEIVER], size, timeout=60, tell=meter.tell
            )
            meter.clear()
            error = done.seconds / theory - 1
            columns = (f"{rate // 1000} Mbit/s", octets(size), octets(measure.wire_octets(size)))
            times = (f"{theory:.3f} s", f"{done.seconds:.3f} s", percent(error))
            rows.append((*columns, *times))
            demo.results["transfers"].append(
                {"rate": rate, "octets": size, "theory": theory, "seconds": done.seconds}
            )
            if abs(error) <= TOLERANCE:
                break
        demo.expect(abs(error) <= TOLERANCE, f"the file at {rate // 1000} Mbit/s: {percent(error)}")
        measured.append((rate, measure.wire_octets(size) * 8 / done.seconds / 1000))
    say()
    table(
        ("configured", "file, octets", "on the wire", "theory", "measured", "error of time"), rows
    )
    say()
    listed(
        [
            "Rates are of layer 2, as the kernel's tc counts them: full frames of "
            f"{measure.TCP_PAYLOAD + measure.TCP_HEADERS} octets carry {measure.TCP_PAYLOAD} of "
            "the file (Ethernet 14, IPv4 20, TCP 32 octets of headers; MTU 1500). Not in the "
            "theory: a full bucket at the start, and pauses that TCP makes."
        ]
    )
    return measured


def show_sweep(demo: Demo) -> list[demo_plot.Measured]:
    """Other rates: each is a description of its own, applied as the two files were."""
    title(f"Other rates, {SENDER} to {OTHER}: UDP frames of 1514 octets, counted on arrival")
    attempts: list[demo_plot.Measured] = []
    text = Path(SLOW).read_text()
    meter = Meter("rates", len(SWEEP))
    with tempfile.TemporaryDirectory() as directory:
        for position, rate in enumerate(SWEEP):
            meter.tell(position)
            file = Path(directory) / f"grid-virtual-{rate}.xml"
            file.write_text(text.replace('rate="1Mbit"', f'rate="{rate}kbit"'))
            demo.manager.apply(demo.manager.plan(load(REAL, file)))
            source, sink = demo.machines[SENDER], demo.machines[OTHER]
            for _ in range(ATTEMPTS):
                attempts.append((rate, measure.flow(source, sink, rate, SWEEP_SECONDS)))
                if abs(attempts[-1][1] / rate - 1) <= TOLERANCE:
                    break
    meter.clear()
    table(
        ("configured", "measured", "error"),
        [
            (f"{rate / 1000:g} Mbit/s", f"{found / 1000:.3f} Mbit/s", percent(found / rate - 1))
            for rate, found in attempts
        ],
    )
    measured = list(dict(attempts).items())
    for rate, found in measured:
        error = found / rate - 1
        demo.expect(abs(error) <= TOLERANCE, f"UDP at {rate // 1000} Mbit/s: {percent(error)}")
    demo.results["rates"] = [{"configured": rate, "measured": found} for rate, found in attempts]
    return measured


def show_walk(demo: Demo) -> None:
    """What any SNMP manager sees."""
    host = next(host for host in demo.model.real.hosts if host.id == "host3")
    agent = f"{host.agent.address}:{host.agent.port}"
    title(f"Any SNMP manager can read it: snmpwalk {agent} vmibLinkOperTable (excerpt)")
    environment = os.environ | {"SNMPCONFPATH": str(lab_spec.paths(LAB).snmp)}
    command = ["snmpwalk", agent, "vmibLinkOperTable"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    address = demo.machines[RECEIVER].address
    columns = "|".join(("Sync", "Mechanism", "Rate", "Burst", "QueueLimit", "Octets", "Drops"))
    excerpt = re.compile(rf'VMIB-MIB::vmibLinkOper({columns})\..*"{re.escape(address)}".*')
    found = [line for line in done.stdout.splitlines() if excerpt.fullmatch(line)]
    listed(found)
    in_sync = any("Sync" in line and line.endswith("inSync(1)") for line in found)
    demo.expect(in_sync, f"snmpwalk: {done.stderr.strip() or 'the link is not in sync'}")


def draw(demo: Demo, flows: list[demo_plot.Measured], files: list[demo_plot.Measured]) -> None:
    """Pictures and results for later."""
    graph = demo.manager.topology(demo.model)
    written = []
    for form in ("svg", "dot"):
        written.append(demo.out / f"topology.{form}")
        written[-1].write_text(render(graph, form))
    plots = demo_plot.draw(demo.out, flows, files)
    if not plots:
        say("No plot: matplotlib is not installed.")
    written += plots
    demo.results["wrong"] = demo.wrong
    written.append(demo.out / "demo.json")
    written[-1].write_text(json.dumps(demo.results, indent=1) + "\n")
    title("Written:")
    listed(map(str, written))


def run(out: Path) -> list[str]:
    """The demonstration; returns what is not as it has to be."""
    model = load(REAL, SLOW)
    title(f"Lab: the hosts and machines of {REAL}, made of network namespaces")
    with laboratory(model):
        credentials = credentials_for(model.real, lab_spec.paths(LAB).credentials)
        with Manager(model.real, credentials) as manager:
            demo = Demo(out, manager, model, measure.endpoints(LAB, model))
            show_plan(demo)
            show_apply(demo)
            show_reachability(demo)
            files = show_files(demo)
            show_walk(demo)
            flows = show_sweep(demo)
            manager.apply(manager.plan(model))
            draw(demo, flows, files)
    return demo.wrong


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="The evaluation grid, made, measured, removed.")
    default = HERE.parents[1] / "out"
    parser.add_argument("--out", type=Path, default=default, help=f"default: {default}")
    out = parser.parse_args().out.absolute()
    if os.geteuid() != 0:
        print("demo: network namespaces are for root alone; run: sudo make demo", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    os.chdir(HERE)
    say("vMIB: 32 virtual machines on 4 hosts become 3 isolated sites, 1 Mbit/s apart.")
    began = time.monotonic()
    try:
        if LAB in lab.names():
            say(
                f"A lab named {LAB} is there; remove it first: .venv/bin/vmib lab down --name {LAB}"
            )
            return 1
        out.mkdir(parents=True, exist_ok=True)
        wrong = run(out)
    except VmibError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read has seen enough; nothing is left to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    say()
    for what in wrong:
        say(paint(f"Not as expected: {what}", "bad"))
    if wrong:
        load_average = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
        say(f"The load of this computer is {load_average}; a busy one is a slow network.")
    else:
        say(paint(f"Everything as expected, in {time.monotonic() - began:.0f} s.", "good"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
