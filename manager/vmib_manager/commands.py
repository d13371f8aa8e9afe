"""What the words of `vmib` do: each takes the parsed options and returns an exit status."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmib import mib_files
from vmib.errors import ValueRefused, VmibError

from . import (
    checks,
    credentials_file,
    documents,
    lab,
    lab_spec,
    measure_text,
    measuring,
    plan_text,
    terminal,
    topology,
)
from . import discover as discovering
from .apply import ApplyFailed, ApplyResult, HostResult, Options, Outcome
from .description import load, load_real
from .exit_status import ExitStatus
from .graph import FORMATS, render
from .measurement import Measurement
from .model import Model, Real
from .pending import Ended
from .plan import Plan
from .plan_text import Paint
from .sync import Manager
from .visible import visible

Run = Callable[[argparse.Namespace], ExitStatus]


class Interrupted(VmibError):
    """Somebody pressed Ctrl-C; says what has become of what was being done."""


def _say(options: argparse.Namespace, lines: Iterable[str], document: Mapping[str, Any]) -> None:
    """Print lines for people or, if asked for, the document."""
    terminal.say([documents.text(dict(document))] if options.json else lines)


def _warn(message: str) -> None:
    print(f"vmib: {visible(message)}", file=sys.stderr)


def _paint(options: argparse.Namespace) -> Paint:
    return terminal.painter(options.color, sys.stdout)


@contextmanager
def _manager(options: argparse.Namespace, real: Real) -> Iterator[Manager]:
    path = credentials_file.default_path(options.credentials, lab.serving(real))
    credentials = credentials_file.credentials_for(real, path)
    with Manager(real, credentials, timeout=options.timeout) as manager:
        yield manager


def check(options: argparse.Namespace) -> ExitStatus:
    """The files alone."""
    return say_findings(options, load(options.real, options.virtual))


def say_findings(options: argparse.Namespace, model: Model) -> ExitStatus:
    """Print what checks of the files found."""
    findings = checks.check(model)
    wrong = checks.has_errors(findings)
    lines = list(plan_text.finding_lines(findings, _paint(options)))
    if not wrong:
        lines.append("The description can be applied, as far as the files tell.")
    _say(options, lines, documents.findings(findings, not wrong))
    return ExitStatus.FAILED if wrong else ExitStatus.DONE


def plan(options: argparse.Namespace) -> ExitStatus:
    """What would change."""
    model = load(options.real, options.virtual)
    with _manager(options, model.real) as manager:
        found = manager.plan(model)
    status = _say_plan(options, found)
    if status is ExitStatus.DONE and options.detailed_exitcode and found.changed:
        return ExitStatus.DIFFERENT
    return status


def _say_plan(options: argparse.Namespace, found: Plan) -> ExitStatus:
    lines = plan_text.plan_lines(found, _paint(options), brief=options.brief)
    _say(options, lines, documents.plan(found))
    if found.unreachable:
        return ExitStatus.UNREACHABLE
    return ExitStatus.DONE if found.ok else ExitStatus.FAILED


def apply(options: argparse.Namespace) -> ExitStatus:
    """All hosts or none."""
    model = load(options.real, options.virtual)
    with _manager(options, model.real) as manager:
        return _carry_out(options, manager, manager.plan(model))


def clear(options: argparse.Namespace) -> ExitStatus:
    """No configuration on any host, or no change."""
    real = load_real(options.real)
    with _manager(options, real) as manager:
        return _carry_out(options, manager, manager.plan_to_clear())


def _carry_out(options: argparse.Namespace, manager: Manager, found: Plan) -> ExitStatus:
    if options.dry_run or not found.ok:
        return _say_plan(options, found)
    paint = _paint(options)
    brief = plan_text.plan_lines(found, paint, brief=True)
    if not found.changed:
        hosts = {name: HostResult(name, Outcome.UNCHANGED, 0) for name in found.hosts}
        _say(options, brief, documents.result(ApplyResult(hosts, {})))
        return ExitStatus.DONE
    if not options.json:
        terminal.say(brief)
    wanted = Options(
        confirm=options.confirm,
        confirm_timeout=options.confirm_timeout,
        description=options.description,
    )
    progress = terminal.ProgressLine()
    try:
        result = manager.apply(found, wanted, progress.tell)
    except ApplyFailed as failed:
        progress.clear()
        lines = [paint(visible(str(failed)), "bad"), *plan_text.result_lines(failed.result, paint)]
        _say(options, lines, documents.failure(failed))
        outcomes = {host.outcome for host in failed.result.hosts.values()}
        lost = Outcome.UNREACHABLE in outcomes
        return ExitStatus.UNREACHABLE if lost else ExitStatus.ROLLED_BACK
    except KeyboardInterrupt:
        progress.clear()
        raise Interrupted(_after_interrupt(manager, found, wanted)) from None
    finally:
        progress.clear()
    lines = list(plan_text.result_lines(result, paint))
    if result.outcome is Outcome.AWAITING_CONFIRM:
        seconds = wanted.seconds_to_confirm
        lines.append(f"Within {seconds} s: vmib confirm {options.real}; otherwise all is undone.")
    _say(options, lines, documents.result(result))
    return ExitStatus.DONE


def _after_interrupt(manager: Manager, plan: Plan, wanted: Options) -> str:
    """What has become of the hosts of a plan: they are asked, rather than believed to be well."""
    lost = []
    for name, host in manager.status().items():
        if not plan.hosts[name].changes:
            continue
        if host.scalars is None:
            limit = max(wanted.seconds_to_confirm, wanted.idle_timeout)
            lost.append(f"{name}: {host.error}; it takes back what it did within {limit} s")
        elif host.scalars.digest != plan.hosts[name].before:
            lost.append(f"{name}: has not the configuration from before")
    return f"interrupted; {'; '.join(lost) or 'every host is as before'}"


def verify(options: argparse.Namespace) -> ExitStatus:
    """As described, and doing what they are told?"""
    model = load(options.real, options.virtual)
    if checks.has_errors(checks.check(model)):
        return say_findings(options, model)
    measuring.check_options(options)
    measured: Measurement | None = None
    paint = _paint(options)
    with _manager(options, model.real) as manager:
        found = manager.verify(model)
        lines = list(plan_text.verification_lines(found, paint))
        if options.measure and found.ok:
            if not options.json:
                terminal.say(lines)
                lines = []
            measured = measuring.measure(options, manager, model)
            lines += measure_text.measurement_lines(measured, paint)
        elif options.measure:
            lines.append("Nothing is measured of a network that is not as described.")
    _say(options, lines, documents.verification(found, measured))
    if found.unreachable or found.plan.unreachable:
        return ExitStatus.UNREACHABLE
    is_ok = found.ok and (measured is None or measured.ok)
    return ExitStatus.DONE if is_ok else ExitStatus.DIFFERENT


def status(options: argparse.Namespace) -> ExitStatus:
    """How hosts are."""
    real = load_real(options.real)
    with _manager(options, real) as manager:
        hosts = manager.status()
    _say(options, plan_text.status_lines(hosts, _paint(options)), documents.status(hosts))
    lost = any(host.scalars is None for host in hosts.values())
    return ExitStatus.UNREACHABLE if lost else ExitStatus.DONE


def diff(options: argparse.Namespace) -> ExitStatus:
    """Configured against read back."""
    real = load_real(options.real)
    paint = _paint(options)
    with _manager(options, real) as manager:
        found, failed = manager.diff()
    lines = list(plan_text.deviation_lines(found, paint))
    lines += plan_text.unreachable_lines(failed, paint)
    if not lines:
        lines = ["No differences: all hosts do what they are told."]
    _say(options, lines, documents.deviations(found, failed))
    if failed:
        return ExitStatus.UNREACHABLE
    wrong = any(each.is_wrong for listed in found.values() for each in listed)
    return ExitStatus.DIFFERENT if wrong else ExitStatus.DONE


def confirm(options: argparse.Namespace) -> ExitStatus:
    """Make commits final."""
    return _end(options, Manager.confirm)


def abort(options: argparse.Namespace) -> ExitStatus:
    """Take transactions back."""
    return _end(options, Manager.abort)


def _end(options: argparse.Namespace, step: Callable[[Manager], dict[str, Ended]]) -> ExitStatus:
    real = load_real(options.real)
    with _manager(options, real) as manager:
        hosts = step(manager)
    _say(options, plan_text.ended_lines(hosts, _paint(options)), documents.ended(hosts))
    failed = [each for each in hosts.values() if each.error]
    if any(not each.transaction for each in failed):
        return ExitStatus.UNREACHABLE
    return ExitStatus.FAILED if failed else ExitStatus.DONE


def discover(options: argparse.Namespace) -> ExitStatus:
    """Write the real file anew."""
    known, real = _to_discover(options.agents, options.user)
    with _manager(options, real) as manager:
        found, failed = manager.discover()
    for line in plan_text.unreachable_lines(failed):
        _warn(line)
    if failed:
        return ExitStatus.UNREACHABLE
    _write(options.output, discovering.document(list(found.values()), known))
    return ExitStatus.DONE


def _to_discover(given: list[str], user: str) -> tuple[Real | None, Real]:
    """The real file that is known, if any, and the real network to ask."""
    if len(given) == 1 and "=" not in given[0] and Path(given[0]).exists():
        known = load_real(Path(given[0]))
        return known, known
    agents = {}
    for text in given:
        host, agent = discovering.parse_agent(text, user)
        if host in agents:
            raise ValueRefused("agent", text, "each host once")
        agents[host] = agent
    return None, discovering.real_of(agents)


def graph(options: argparse.Namespace) -> ExitStatus:
    """Draw the network."""
    form = _format(options.format, options.output)
    model = load(options.real, options.virtual)
    if options.offline:
        found = topology.graph(model)
    else:
        with _manager(options, model.real) as manager:
            found = manager.topology(model)
    _write(options.output, render(found, form))
    for line in plan_text.unreachable_lines(found.unreachable):
        _warn(line)
    return ExitStatus.UNREACHABLE if found.unreachable else ExitStatus.DONE


def _format(given: str | None, output: Path | None) -> str:
    """The format of a picture; raises ValueRefused where the output's name means another."""
    ending = "" if output is None else output.suffix.removeprefix(".").lower()
    form = given or ending or FORMATS[0]
    if form not in FORMATS:
        raise ValueRefused(f"format of {output}", form, f"{' or '.join(FORMATS)}, see --format")
    return form


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        path.write_text(text, encoding="utf-8")
        return
    terminal.say([text.removesuffix("\n")])


def mib_path(options: argparse.Namespace) -> ExitStatus:
    """Where the MIB modules are."""
    terminal.say([str(mib_files.directory())])
    return ExitStatus.DONE


def lab_up(options: argparse.Namespace) -> ExitStatus:
    """Make a lab."""
    spec = lab.spec_of(load_real(options.real), options.name)
    if lab.up(spec, _progress):
        host = spec.hosts[0]
        snmp = lab_spec.paths(spec.name).snmp
        _progress(f"next: vmib plan {options.real} VIRTUAL")
        _progress(f"  or: SNMPCONFPATH={snmp} snmpwalk {host.address}:{host.port} vmib")
    return ExitStatus.DONE


def lab_down(options: argparse.Namespace) -> ExitStatus:
    """Remove a lab."""
    lab.down(options.name, _progress)
    return ExitStatus.DONE


def _progress(line: str) -> None:
    terminal.say([visible(line)])


def lab_status(options: argparse.Namespace) -> ExitStatus:
    """How a lab is."""
    found = lab.status(options.name)
    _say(options, plan_text.lab_lines(found, _paint(options)), documents.lab(found))
    return ExitStatus.DONE if found.complete else ExitStatus.DIFFERENT


def lab_list(options: argparse.Namespace) -> ExitStatus:
    """Names of labs."""
    names = lab.names()
    _say(options, names, documents.labs(names))
    return ExitStatus.DONE


def lab_exec(options: argparse.Namespace) -> ExitStatus:
    """Become a command in a lab."""
    lab.exec_(options.name, options.member, options.words)
