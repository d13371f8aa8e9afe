"""What the words of `vmib` do: each takes the parsed options and returns an exit status."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vmib import mib_files
from vmib.errors import VmibError

from . import checks, credentials_file, documents, lab, plan_text, topology
from . import discover as discovering
from .apply import ApplyFailed, Options, Outcome
from .description import load, load_real
from .exit_status import ExitStatus
from .graph import render
from .model import Real
from .pending import Ended
from .plan import Plan
from .plan_text import Paint
from .sync import Manager
from .terminal import ProgressLine, painter, visible
from .xmlload import DescriptionRefused

Run = Callable[[argparse.Namespace], ExitStatus]


def complain(options: argparse.Namespace, refused: VmibError) -> None:
    """Say on standard error why a command was refused; with --json as a document on stdout."""
    if options.json:
        lines = str(refused).splitlines()
        document = {"schema": "vmib.error/1", "error": type(refused).__name__, "messages": lines}
        print(json.dumps(document, indent=2))
        return
    if isinstance(refused, DescriptionRefused):
        print(visible(str(refused)), file=sys.stderr)
    else:
        print(f"vmib: {visible(str(refused))}", file=sys.stderr)


def _say(options: argparse.Namespace, lines: Iterable[str], document: Mapping[str, Any]) -> None:
    """Print lines for people or, if asked for, the document."""
    if options.json:
        print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for line in lines:
        print(line)


def _paint(options: argparse.Namespace) -> Paint:
    return painter(options.color, sys.stdout)


@contextmanager
def _manager(options: argparse.Namespace, real: Real) -> Iterator[Manager]:
    path = credentials_file.default_path(options.credentials, lab.serving(real))
    credentials = credentials_file.credentials_for(real, path)
    with Manager(real, credentials, timeout=options.timeout) as manager:
        yield manager


def check(options: argparse.Namespace) -> ExitStatus:
    """The files alone."""
    findings = checks.check(load(options.real, options.virtual))
    lines = list(plan_text.finding_lines(findings, _paint(options)))
    if not checks.has_errors(findings):
        lines.append("The description can be applied, as far as the files tell.")
    _say(options, lines, documents.findings(findings))
    return ExitStatus.FAILED if checks.has_errors(findings) else ExitStatus.DONE


def plan(options: argparse.Namespace) -> ExitStatus:
    """What would change."""
    model = load(options.real, options.virtual)
    with _manager(options, model.real) as manager:
        found = manager.plan(model)
    _say_plan(options, found)
    if found.unreachable:
        return ExitStatus.UNREACHABLE
    if not found.ok:
        return ExitStatus.FAILED
    different = options.detailed_exitcode and found.changed
    return ExitStatus.DIFFERENT if different else ExitStatus.DONE


def _say_plan(options: argparse.Namespace, found: Plan) -> None:
    lines = plan_text.plan_lines(found, _paint(options), brief=options.brief)
    _say(options, lines, documents.plan(found))


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
    if options.dry_run or not found.ok or not found.changed:
        _say_plan(options, found)
        if found.unreachable:
            return ExitStatus.UNREACHABLE
        return ExitStatus.DONE if found.ok else ExitStatus.FAILED
    paint = _paint(options)
    if not options.json:
        for line in plan_text.plan_lines(found, paint, brief=True):
            print(line)
        sys.stdout.flush()
    progress = ProgressLine()
    wanted = Options(
        confirm=options.confirm,
        confirm_timeout=options.confirm_timeout,
        description=options.description,
    )
    try:
        result = manager.apply(found, wanted, progress.tell)
    except ApplyFailed as failed:
        progress.clear()
        lines = [paint(str(failed), "bad"), *plan_text.result_lines(failed.result, paint)]
        _say(options, lines, documents.failure(failed))
        outcomes = {host.outcome for host in failed.result.hosts.values()}
        lost = Outcome.UNREACHABLE in outcomes
        return ExitStatus.UNREACHABLE if lost else ExitStatus.ROLLED_BACK
    finally:
        progress.clear()
    lines = list(plan_text.result_lines(result, paint))
    if result.outcome is Outcome.AWAITING_CONFIRM:
        seconds = wanted.seconds_to_confirm
        lines.append(f"Within {seconds} s: vmib confirm {options.real}; otherwise all is undone.")
    _say(options, lines, documents.result(result))
    return ExitStatus.DONE


def verify(options: argparse.Namespace) -> ExitStatus:
    """As described, and doing what they are told?"""
    model = load(options.real, options.virtual)
    with _manager(options, model.real) as manager:
        found = manager.verify(model)
    lines = plan_text.verification_lines(found, _paint(options))
    _say(options, lines, documents.verification(found))
    if found.unreachable:
        return ExitStatus.UNREACHABLE
    return ExitStatus.DONE if found.ok else ExitStatus.DIFFERENT


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
    with _manager(options, real) as manager:
        found, failed = manager.diff()
    lines = list(plan_text.deviation_lines(found, _paint(options)))
    lines += [f"{host}: {error}" for host, error in failed.items()]
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
    return ExitStatus.FAILED if any(each.error for each in hosts.values()) else ExitStatus.DONE


def discover(options: argparse.Namespace) -> ExitStatus:
    """Write the real file anew."""
    known: Real | None = None
    if len(options.agents) == 1 and "=" not in options.agents[0]:
        known = real = load_real(Path(options.agents[0]))
    else:
        agents = dict(discovering.parse_agent(text, options.user) for text in options.agents)
        real = discovering.real_of(agents)
    with _manager(options, real) as manager:
        found, failed = manager.discover()
    for error in failed.values():
        complain(options, error)
    if failed:
        return ExitStatus.UNREACHABLE
    _write(options.output, discovering.document(list(found.values()), known))
    return ExitStatus.DONE


def graph(options: argparse.Namespace) -> ExitStatus:
    """Draw the network."""
    model = load(options.real, options.virtual)
    if options.offline:
        found = topology.graph(model)
    else:
        with _manager(options, model.real) as manager:
            found = manager.topology(model)
    ending = "" if options.output is None else options.output.suffix.removeprefix(".")
    _write(options.output, render(found, options.format or ending or "svg"))
    return ExitStatus.DONE


def _write(path: Path | None, text: str) -> None:
    if path is None:
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")


def mib_path(options: argparse.Namespace) -> ExitStatus:
    """Where the MIB modules are."""
    print(mib_files.directory())
    return ExitStatus.DONE


def lab_up(options: argparse.Namespace) -> ExitStatus:
    """Make a lab."""
    spec = lab.spec_of(load_real(options.real), options.name)
    lab.up(spec, lambda line: print(line, flush=True))
    return ExitStatus.DONE


def lab_down(options: argparse.Namespace) -> ExitStatus:
    """Remove a lab."""
    lab.down(options.name, lambda line: print(line, flush=True))
    return ExitStatus.DONE


def lab_status(options: argparse.Namespace) -> ExitStatus:
    """How a lab is."""
    found = lab.status(options.name)
    _say(options, plan_text.lab_lines(found, _paint(options)), documents.lab(found))
    return ExitStatus.DONE if found.complete else ExitStatus.DIFFERENT


def lab_list(options: argparse.Namespace) -> ExitStatus:
    """Names of labs."""
    names = lab.names()
    _say(options, names, {"schema": "vmib.labs/1", "labs": list(names)})
    return ExitStatus.DONE


def lab_exec(options: argparse.Namespace) -> ExitStatus:
    """Become a command in a lab."""
    words = options.words[1:] if options.words[:1] == ["--"] else options.words
    lab.exec_(options.name, options.member, words)
