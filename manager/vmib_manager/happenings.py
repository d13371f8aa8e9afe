"""What has happened between two views of a network, in lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from vmib.errors import VmibError

from .describe import Describer
from .findings import Severity
from .network_view import NetworkView, Problem, Trouble
from .observation import HostView
from .plan import Change, Kind, host_plan
from .seen import Reading

MOST_ROWS = 12
"""Rows of a host that are told one by one, when they change at the same time."""

_OVER = {
    Trouble.UNREACHABLE: "answers again",
    Trouble.AGENT: "normal again",
    Trouble.MISSING: "is there",
    Trouble.STOPPED: "runs",
    Trouble.FAILED: "in sync again",
    Trouble.DRIFTED: "in sync again",
    Trouble.WAITING: "waits no more",
    Trouble.TRANSACTION: "is over",
    Trouble.EXCEEDED: "below its threshold again",
}


class What(Enum):
    """What a line is about: the first view, a row that changed, what is wrong and what is over."""

    WATCHING = "watching"
    ROW = "row"
    BEGINS = "begins"
    ENDS = "ends"


@dataclass(frozen=True, slots=True)
class Happening:
    """One line; `severity` is None of what is good or neither good nor bad."""

    at: datetime
    what: What
    host: str
    subject: str
    text: str
    severity: Severity | None = None


def happenings(before: NetworkView | None, after: NetworkView) -> Iterator[Happening]:
    """What has happened since a view; without one, how all is and everything that is wrong."""
    if before is None:
        yield _beginning(after)
    for name, host in after.hosts.items():
        old = None if before is None else before.hosts.get(name)
        if old is not None and host.answers:
            yield from _rows(after.taken, old, host)
    there = () if before is None else before.problems
    yield from _ends(there, after)
    yield from _begins(there, after)
    for name in after.hosts:
        yield from _as_described(name, there, after)


def described(at: datetime, file: str) -> Happening:
    """Files that are compared with from now on."""
    return Happening(at, What.WATCHING, "", file, "is read anew")


def refused(at: datetime, file: str, error: VmibError) -> Happening:
    """Files that have changed and are not compared with."""
    text = f"is not read anew: {error}; what was there before holds"
    return Happening(at, What.WATCHING, "", file, text, Severity.ERROR)


def _beginning(view: NetworkView) -> Happening:
    answering = sum(host.answers for host in view.hosts.values())
    text = "not all is well" if view.worst else "as described, and in sync"
    subject = f"{answering} of {len(view.hosts)} hosts answer"
    return Happening(view.taken, What.WATCHING, "", subject, text, view.worst)


def _rows(at: datetime, before: HostView, after: HostView) -> Iterator[Happening]:
    """Rows that are not what they were; of many only how many."""
    scalars = after.status.scalars
    if scalars is None or (before.status.scalars is None and not before.tables):
        return
    if before.tables is after.tables or before.tables == after.tables:
        return
    reading = Reading(scalars, after.names, before.tables)
    changes = host_plan(after.status.host, after.tables, reading).changes
    by = f" by {scalars.last_change_by}" if scalars.last_change_by else ""
    if len(changes) > MOST_ROWS:
        text = f"{len(changes)} rows changed{by}, generation {scalars.generation}"
        yield Happening(at, What.ROW, after.status.host, "configuration", text)
        return
    describer = after.describer
    for change in changes:
        row = change.before if change.after is None else change.after
        subject = describer.subject(change.table, change.key, row)
        text = f"{_row(describer, change)}{by}"
        yield Happening(at, What.ROW, after.status.host, subject, text)


def _row(describer: Describer, change: Change) -> str:
    what = describer.what(change)
    match change.kind:
        case Kind.CREATE:
            return f"created{', ' if what else ''}{what}"
        case Kind.DELETE:
            return "removed"
        case _:
            return what


def _told(problem: Problem) -> bool:
    """Whether a problem has a line of its own; rows that are not as described are counted."""
    return problem.trouble is not Trouble.DIFFERENT


def _ends(there: tuple[Problem, ...], after: NetworkView) -> Iterator[Happening]:
    now = {(problem.host, problem.subject) for problem in after.problems if _told(problem)}
    over = {
        (problem.host, problem.subject): problem
        for problem in there
        if _told(problem) and (problem.host, problem.subject) not in now
    }
    for problem in over.values():
        host = after.hosts.get(problem.host)
        if host is not None and host.answers:
            text = _OVER[problem.trouble]
            yield Happening(after.taken, What.ENDS, problem.host, problem.subject, text)


def _begins(there: tuple[Problem, ...], after: NetworkView) -> Iterator[Happening]:
    known = frozenset(there)
    for problem in after.problems:
        if _told(problem) and problem not in known:
            text = sentence(problem)
            yield Happening(
                after.taken, What.BEGINS, problem.host, problem.subject, text, problem.severity
            )


def sentence(problem: Problem) -> str:
    """A problem without its subject, such as `drifted: rate 10Mbit, reads back 5Mbit`."""
    if problem.trouble in _SPOKEN:
        return problem.text
    return f"{problem.trouble.value}{': ' if problem.text else ''}{problem.text}"


_SPOKEN = frozenset({Trouble.TRANSACTION, Trouble.DIFFERENT})
"""Troubles whose text is the sentence."""


def _as_described(name: str, there: tuple[Problem, ...], after: NetworkView) -> Iterator[Happening]:
    before, now = _different(name, there), _different(name, after.problems)
    host = after.hosts[name]
    if not host.answers or before == now:
        return
    subject = "configuration"
    if now:
        text = f"{now} row{'s' if now > 1 else ''} not as described"
        yield Happening(after.taken, What.BEGINS, name, subject, text, Severity.WARNING)
    else:
        yield Happening(after.taken, What.ENDS, name, subject, "as described")


def _different(name: str, problems: tuple[Problem, ...]) -> int:
    return sum(each.host == name and each.trouble is Trouble.DIFFERENT for each in problems)
