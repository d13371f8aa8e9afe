"""Plans, findings and results as text for people. Pure.

`Paint` colours words where the reader's terminal shows colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from .apply import ApplyResult, HostResult, Outcome
from .describe import Describer
from .findings import Finding, Severity
from .lab import LabStatus
from .pending import Ended
from .plan import Change, HostPlan, Kind, Plan
from .status import Deviation, HostStatus
from .transaction import Complaint
from .verification import Verification

Paint = Callable[[str, str], str]
"""A text and the name of a style: good, bad, warn, quiet, strong."""

_SIGNS = {Kind.CREATE: "+", Kind.UPDATE: "~", Kind.REPLACE: "±", Kind.DELETE: "-"}
_STYLES = {Kind.CREATE: "good", Kind.UPDATE: "warn", Kind.REPLACE: "warn", Kind.DELETE: "bad"}
_SEVERITIES = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.NOTE: "quiet"}
_OUTCOMES = {
    Outcome.CONFIRMED: "good",
    Outcome.AWAITING_CONFIRM: "warn",
    Outcome.ROLLED_BACK: "bad",
    Outcome.UNREACHABLE: "bad",
}


def plain(text: str, style: str) -> str:
    """No colours."""
    return text


def plan_lines(plan: Plan, paint: Paint = plain, *, brief: bool = False) -> Iterator[str]:
    """A plan, host by host and row by row; `brief` gives one line for a host."""
    yield from finding_lines(plan.findings, paint)
    if not plan.ok:
        yield paint("Nothing is planned: correct the errors first.", "bad")
        return
    for host in plan.changed:
        yield paint(host.host, "strong") + f"  {_counts(host)}"
        if not brief:
            yield from _change_lines(host, paint)
        for table, key in host.kept:
            subject = _describer(host).subject(table, key)
            yield f"    {paint('kept', 'quiet')} {subject}: its StorageType forbids removing it"
    yield summary(plan)


def summary(plan: Plan) -> str:
    """A plan in one line."""
    if not plan.changed:
        count = len(plan.hosts)
        return f"No changes: {_plural(count, 'host')} {'is' if count == 1 else 'are'} as described."
    hosts = len(plan.changed)
    return f"Plan: {_counts(plan)} on {_plural(hosts, 'host')} of {len(plan.hosts)}."


def _counts(plan: Plan | HostPlan) -> str:
    words = ((Kind.CREATE, "to create"), (Kind.DELETE, "to remove"))
    changed = plan.count(Kind.UPDATE) + plan.count(Kind.REPLACE)
    create, remove = (plan.count(kind) for kind, _ in words)
    return f"{create} rows to create, {changed} to change, {remove} to remove"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _describer(host: HostPlan) -> Describer:
    return Describer(host.names, host.labels)


def _change_lines(host: HostPlan, paint: Paint) -> Iterator[str]:
    describer = _describer(host)
    lines = [(change, *_words(describer, change)) for change in host.changes]
    width = min(max((len(subject) for _, subject, _ in lines), default=0), 44)
    for change, subject, what in lines:
        sign = paint(_SIGNS[change.kind], _STYLES[change.kind])
        yield f"  {sign} {subject:{width}}  {what}".rstrip()


def _words(describer: Describer, change: Change) -> tuple[str, str]:
    row = change.before if change.after is None else change.after
    return describer.subject(change.table, change.key, row), describer.what(change)


def finding_lines(findings: Iterable[Finding], paint: Paint = plain) -> Iterator[str]:
    """What checks found, a line each: file, line, severity, what is wrong, the way out."""
    for found in findings:
        severity = paint(found.severity.value, _SEVERITIES[found.severity])
        yield f"{found.source}: {severity}: {found.message}; {found.way_out}"


def result_lines(result: ApplyResult, paint: Paint = plain) -> Iterator[str]:
    """What has become of a plan."""
    for host in result.hosts.values():
        if host.outcome is Outcome.UNCHANGED:
            continue
        yield from _host_result(host, paint)
    for name, found in result.unsettled.items():
        for row in found:
            state = paint(row.sync.name, "warn")
            yield f"  {name}: {row.name} is {state} and not of this plan: {row.last_error}"
    times = ", ".join(
        f"{phase.value} {seconds * 1000:.0f} ms" for phase, seconds in result.seconds.items()
    )
    if times:
        yield paint(f"{times} (all hosts at once)", "quiet")


def _host_result(host: HostResult, paint: Paint) -> Iterator[str]:
    outcome = paint(host.outcome.value, _OUTCOMES[host.outcome])
    yield f"{host.host}: {_plural(host.changes, 'row')} {outcome}"
    if host.message:
        yield f"  {host.message}"
    yield from complaint_lines(host.complaints)


def complaint_lines(complaints: Sequence[Complaint], most: int = 20) -> Iterator[str]:
    """What an agent has against rows, with the lines that ask for them."""
    for complaint in complaints[:most]:
        change = complaint.change
        source = f"{change.source}: " if change is not None and change.source else ""
        yield f"  {source}{complaint.instance}: {complaint.message}"
    if len(complaints) > most:
        yield f"  and {len(complaints) - most} more"


def deviation_lines(
    deviations: Mapping[str, Sequence[Deviation]], paint: Paint = plain
) -> Iterator[str]:
    """Rows that the system does not match."""
    for host, found in deviations.items():
        for deviation in found:
            state = paint(deviation.sync.name, "bad" if deviation.is_wrong else "quiet")
            what = f" {deviation.field} {deviation.configured}, reads back {deviation.actual}"
            reason = f": {deviation.reason}" if deviation.reason else ""
            yield (f"{host}: {deviation.row.name}{what if deviation.field else ''} {state}{reason}")


def verification_lines(found: Verification, paint: Paint = plain) -> Iterator[str]:
    """The answer of verify."""
    yield from finding_lines(found.plan.findings, paint)
    for host in found.plan.changed:
        yield paint(host.host, "strong") + ": is not told everything"
        yield from _change_lines(host, paint)
    yield from deviation_lines(found.deviations, paint)
    if found.ok:
        count = len(found.plan.hosts)
        yield paint(f"{_plural(count, 'host')} verified: as described, and in sync.", "good")
    else:
        yield paint("The network is not as described.", "bad")


def status_lines(hosts: Mapping[str, HostStatus], paint: Paint = plain) -> Iterator[str]:
    """One line for a host, and below it what is open or wrong."""
    width = max((len(name) for name in hosts), default=0)
    for name, host in hosts.items():
        if host.scalars is None:
            yield f"{name:{width}}  {paint('unreachable', 'bad')}  {host.error}"
            continue
        scalars = host.scalars
        mode = paint(scalars.mode.name, "good" if scalars.mode.name == "normal" else "bad")
        wrong = sum(deviation.is_wrong for deviation in host.deviations)
        waiting = len(host.deviations) - wrong
        sync = paint("in sync", "good") if not wrong else paint(f"{wrong} not in sync", "bad")
        more = f", {waiting} waiting" if waiting else ""
        yield (
            f"{name:{width}}  {mode}  {scalars.hypervisor} {scalars.hypervisor_status.name}  "
            f"{_plural(host.machines, 'machine')}  generation {scalars.generation}  {sync}{more}"
        )
        if host.transaction is not None:
            txn = host.transaction
            left = f", {txn.time_left} s left" if txn.time_left else ""
            what = paint(f"transaction {txn.index} {txn.state.name}", "warn")
            yield f"{'':{width}}  {what} of {txn.owner}{left}"
        yield from (
            f"{'':{width}}  {line}" for line in deviation_lines({name: host.deviations}, paint)
        )


def lab_lines(found: LabStatus, paint: Paint = plain) -> Iterator[str]:
    """How a lab is: a line for each host."""
    for host in found.hosts:
        mode = host.agent.mode
        answer = paint("not answering", "bad") if mode is None else paint(mode.name, "good")
        there = sum(machine.present for machine in host.machines)
        machines = f"{there} of {_plural(len(host.machines), 'machine')}"
        process = "no process" if host.agent.pid is None else f"pid {host.agent.pid}"
        yield f"{host.id}  agent {host.address}:{host.port} {answer} ({process})  {machines}"
    state = paint("complete", "good") if found.complete else paint("not complete", "bad")
    yield f"lab {found.name} is {state}, up for {found.uptime:.0f} s"


def ended_lines(hosts: Mapping[str, Ended], paint: Paint = plain) -> Iterator[str]:
    """What was done to the transactions of hosts."""
    for name, ended in hosts.items():
        if ended.error:
            yield f"{name}: {paint('failed', 'bad')}: {ended.error}"
        elif ended.state is None:
            yield f"{name}: {paint('nothing to do', 'quiet')}"
        else:
            yield f"{name}: transaction {ended.transaction} is {ended.state.name}"
