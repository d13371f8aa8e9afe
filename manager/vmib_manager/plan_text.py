"""Plans, findings and results as text for people. Pure.

`Paint` colours words where the reader's terminal shows colours. What agents and files say is
made `visible`: no line has control characters but those of `Paint`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from vmib.rows import HostAgentMode, Sync
from vmib.schema import TABLES

from .apply import ApplyResult, HostResult, Outcome
from .describe import Describer
from .findings import Finding, Severity
from .lab import LabStatus
from .pending import Ended
from .plan import Change, HostPlan, Kind, Plan
from .seen import Scalars
from .status import Deviation, HostStatus
from .transaction import Complaint, describe
from .verification import Verification
from .visible import visible

Paint = Callable[[str, str], str]
"""A text and the name of a style: good, bad, warn, quiet, strong."""

_SIGNS = {Kind.CREATE: "+", Kind.UPDATE: "~", Kind.REPLACE: "±", Kind.DELETE: "-"}
_STYLES = {Kind.CREATE: "good", Kind.UPDATE: "warn", Kind.REPLACE: "warn", Kind.DELETE: "bad"}
_SEVERITIES = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.NOTE: "quiet"}
_OUTCOMES = {
    Outcome.UNCHANGED: "quiet",
    Outcome.CONFIRMED: "good",
    Outcome.AWAITING_CONFIRM: "warn",
    Outcome.ROLLED_BACK: "bad",
    Outcome.UNREACHABLE: "bad",
}
_WIDEST_SUBJECT = 44


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
        yield f"{paint(visible(host.host), 'strong')}  {_counts([host])}"
        if not brief:
            yield from _change_lines(host, paint)
    for host in plan.hosts.values():
        for table, key in host.kept:
            subject = _describer(host).subject(table, key)
            kept = paint("kept", "quiet")
            yield f"{visible(host.host)}: {kept} {subject}: its StorageType forbids removing it"
    yield summary(plan)


def summary(plan: Plan) -> str:
    """A plan in one line."""
    count = len(plan.hosts)
    if not plan.changed:
        return f"No changes: {plural(count, 'host')} {'is' if count == 1 else 'are'} as described."
    return f"Plan: {_counts(plan.changed)}, on {len(plan.changed)} of {plural(count, 'host')}."


def _counts(hosts: Sequence[HostPlan]) -> str:
    """Such as `5 rows to create, 1 to remove`."""

    def count(*kinds: Kind) -> int:
        return sum(host.count(kind) for host in hosts for kind in kinds)

    counts = (
        (count(Kind.CREATE), "to create"),
        (count(Kind.UPDATE, Kind.REPLACE), "to change"),
        (count(Kind.DELETE), "to remove"),
        (sum(len(host.drifted) for host in hosts), "to set right"),
    )
    (first, what), *others = [found for found in counts if found[0]]
    words = [f"{plural(first, 'row')} {what}"]
    return ", ".join(words + [f"{number} {what}" for number, what in others])


def plural(count: int, word: str) -> str:
    """So many of something."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _describer(host: HostPlan) -> Describer:
    return Describer(host.names, host.labels)


def _change_lines(host: HostPlan, paint: Paint) -> Iterator[str]:
    describer = _describer(host)
    lines = [
        (_SIGNS[change.kind], _STYLES[change.kind], *_words(describer, change))
        for change in host.changes
    ]
    for row in host.drifted:
        reason = f": {visible(row.last_error)}" if row.last_error else ""
        lines.append(
            ("!", "warn", describer.subject(TABLES[row.table], row.key), f"drifted{reason}")
        )
    width = min(max((len(subject) for _, _, subject, _ in lines), default=0), _WIDEST_SUBJECT)
    for sign, style, subject, what in lines:
        yield f"  {paint(sign, style)} {subject:{width}}  {what}".rstrip()


def _words(describer: Describer, change: Change) -> tuple[str, str]:
    row = change.before if change.after is None else change.after
    return describer.subject(change.table, change.key, row), describer.what(change)


def finding_lines(findings: Iterable[Finding], paint: Paint = plain) -> Iterator[str]:
    """What checks found, a line each: file, line, severity, what is wrong, the way out."""
    for found in findings:
        severity = paint(found.severity.value, _SEVERITIES[found.severity])
        source, message, way_out = map(visible, (str(found.source), found.message, found.way_out))
        yield f"{source}: {severity}: {message}; {way_out}"


def result_lines(result: ApplyResult, paint: Paint = plain) -> Iterator[str]:
    """What has become of a plan."""
    for host in result.hosts.values():
        if host.outcome is not Outcome.UNCHANGED:
            yield from _host_result(host, paint)
    for name, found in result.unsettled.items():
        for row in found:
            state = paint(row.sync.name, "warn")
            what = visible(f"{name}: {row.name}")
            reason = f": {visible(row.last_error)}" if row.last_error else ""
            yield f"  {what} is {state}, and not because of this plan{reason}"
    times = ", ".join(
        f"{phase.value} {seconds * 1000:.0f} ms" for phase, seconds in result.seconds.items()
    )
    if times:
        yield paint(f"{times} (all hosts at once)", "quiet")


def _host_result(host: HostResult, paint: Paint) -> Iterator[str]:
    outcome = paint(host.outcome.value, _OUTCOMES[host.outcome])
    counts = [plural(host.changes, "row")] if host.changes or not host.drifted else []
    counts += [plural(host.drifted, "drifted row")] if host.drifted else []
    yield f"{visible(host.host)}: {', '.join(counts)} {outcome}"
    if host.message:
        yield f"  {visible(host.message)}"
    yield from complaint_lines(host.complaints)


def complaint_lines(complaints: Sequence[Complaint], most: int = 20) -> Iterator[str]:
    """What an agent has against rows, with the lines that ask for them."""
    for complaint in complaints[:most]:
        change = complaint.change
        source = f"{change.source}: " if change is not None and change.source else ""
        yield "  " + visible(f"{source}{complaint.instance}: {complaint.message}")
    if len(complaints) > most:
        yield f"  and {len(complaints) - most} more"


def deviation_lines(
    deviations: Mapping[str, Sequence[Deviation]], paint: Paint = plain
) -> Iterator[str]:
    """Rows that the system does not match."""
    for host, found in deviations.items():
        for deviation in found:
            yield f"{visible(host)}: {_deviation(deviation, paint)}"


def _deviation(found: Deviation, paint: Paint) -> str:
    state = paint(found.sync.name, "bad" if found.is_wrong else "quiet")
    values = ""
    if found.field:
        word = found.field.replace("_", "-")
        values = f" {word} {found.configured}, reads back {found.actual}"
    why = found.reason
    if found.sync is Sync.waiting and not why:
        why = "its machine or interface is not there"
    reason = f": {visible(why)}" if why else ""
    return f"{visible(found.row.name + values)} {state}{reason}"


def unreachable_lines(failed: Mapping[str, object], paint: Paint = plain) -> Iterator[str]:
    """Hosts that could not be asked, and why."""
    for host, error in failed.items():
        yield f"{visible(host)}: {paint('unreachable', 'bad')}: {visible(str(error))}"


def verification_lines(found: Verification, paint: Paint = plain) -> Iterator[str]:
    """The answer of verify."""
    yield from finding_lines(found.plan.findings, paint)
    for host in found.plan.changed:
        if host.changes:
            told = replace(host, drifted=())
            label = paint(visible(host.host), "strong")
            yield f"{label}: not configured as described, {_counts([told])}"
            yield from _change_lines(host, paint)
    yield from deviation_lines(found.deviations, paint)
    if found.plan.ok:
        yield from unreachable_lines(found.unreachable, paint)
    if found.ok:
        count = len(found.plan.hosts)
        yield paint(f"{plural(count, 'host')} verified: as described, and in sync.", "good")
    else:
        yield paint("The network is not as described.", "bad")


def status_lines(hosts: Mapping[str, HostStatus], paint: Paint = plain) -> Iterator[str]:
    """One line for a host, and below it what is open or wrong."""
    width = max((len(visible(name)) for name in hosts), default=0)
    cells = {
        name: _status_cells(host.scalars, host.machines)
        for name, host in hosts.items()
        if host.scalars is not None
    }
    widths = [max(map(len, column)) for column in zip(*cells.values(), strict=True)]
    for name, host in hosts.items():
        label = f"{visible(name):{width}}"
        if host.scalars is None:
            yield f"{label}  {paint('unreachable', 'bad')}  {visible(host.error)}"
            continue
        normal = host.scalars.mode is HostAgentMode.normal
        mode, *others = (f"{cell:{wide}}" for cell, wide in zip(cells[name], widths, strict=True))
        wrong = len({each.row for each in host.deviations if each.is_wrong})
        waiting = len({each.row for each in host.deviations if not each.is_wrong})
        sync = paint("in sync", "good") if not wrong else paint(f"{wrong} not in sync", "bad")
        more = f", {waiting} waiting" if waiting else ""
        painted = paint(mode, "good" if normal else "bad")
        yield "  ".join((label, painted, *others, sync + more))
        indent = " " * width
        if host.transaction is not None:
            yield f"{indent}  {paint(visible(describe(host.transaction)), 'warn')}"
        yield from (f"{indent}  {_deviation(each, paint)}" for each in host.deviations)


def _status_cells(scalars: Scalars, machines: int) -> tuple[str, ...]:
    return (
        scalars.mode.name,
        f"{visible(scalars.hypervisor)} {scalars.hypervisor_status.name}",
        plural(machines, "machine"),
        f"generation {scalars.generation}",
    )


def lab_lines(found: LabStatus, paint: Paint = plain) -> Iterator[str]:
    """How a lab is: a line for each host."""
    width = max((len(host.id) for host in found.hosts), default=0)
    for host in found.hosts:
        mode = host.agent.mode
        good = mode is HostAgentMode.normal
        answer = "not answering" if mode is None else mode.name
        there = sum(machine.present for machine in host.machines)
        machines = f"{there} of {plural(len(host.machines), 'machine')}"
        process = "no process" if host.agent.pid is None else f"process {host.agent.pid}"
        namespace = "" if host.present else "  " + paint("no namespace", "bad")
        yield (
            f"{host.id:{width}}  agent {host.address} port {host.port} "
            f"{paint(answer, 'good' if good else 'bad')} ({process})  {machines}{namespace}"
        )
    state = paint("complete", "good") if found.complete else paint("not complete", "bad")
    yield f"lab {found.name} is {state}, up for {found.uptime:.0f} s"


def ended_lines(hosts: Mapping[str, Ended], paint: Paint = plain) -> Iterator[str]:
    """What was done to the transactions of hosts."""
    for name, ended in hosts.items():
        label = visible(name)
        if ended.error:
            yield f"{label}: {paint('failed', 'bad')}: {visible(ended.error)}"
        elif ended.state is None:
            yield f"{label}: {paint('nothing to do', 'quiet')}"
        else:
            yield f"{label}: transaction {ended.transaction} is {ended.state.name}"
