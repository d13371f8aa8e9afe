"""A watched network as text: a screen that is drawn anew, or a line for what happens. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vmib import rows, units
from vmib.impairment import Impairment

from .findings import Severity
from .happenings import Happening, What, sentence
from .network_view import NetworkView, rounded_rate, rounded_time
from .observation import LINK, Flow
from .plan_text import Paint, plain
from .text_table import Cell, Column, cut, table
from .topology import impairment_label
from .visible import visible

_SIGNS = {Severity.ERROR: "×", Severity.WARNING: "!", Severity.NOTE: "·"}  # noqa: RUF001
_STYLES = {Severity.ERROR: "bad", Severity.WARNING: "warn", Severity.NOTE: "quiet"}
_SYNC_STYLES = {
    rows.Sync.inSync: "good",
    rows.Sync.drifted: "warn",
    rows.Sync.failed: "bad",
}
_BAR = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEAST = 3
"""Lines of a block that is too long, its heading among them, when there is little room."""


@dataclass(frozen=True, slots=True)
class _Block:
    """A heading and lines, the most important ones first."""

    heading: str
    lines: tuple[str, ...]
    headings: int = 0
    """How many lines at the beginning are headings of columns."""


def screen(
    view: NetworkView, history: Sequence[Happening], width: int, height: int, paint: Paint = plain
) -> list[str]:
    """A screen of at most `height` lines, none wider than `width`."""
    lines = list(_head(view, width, paint))
    blocks = (
        _Block("Needs attention", tuple(_problem_lines(view, width, paint))),
        *_flow_blocks(view, width, paint),
        _Block("Hosts", tuple(_host_lines(view, width, paint))),
        _Block("What happened", tuple(_history_lines(history, width, paint))),
    )
    shown = [block for block in blocks if len(block.lines) > block.headings]
    for block, room in zip(shown, _rooms(shown, height - len(lines)), strict=True):
        lines += _block_lines(block, room, paint)
    return lines[:height]


def _rooms(blocks: Sequence[_Block], height: int) -> list[int]:
    """The lines for each block with its heading and the empty line before: what it wants, or less.

    What is too much is taken from the last blocks first, down to a few lines each.
    """
    rooms = [len(block.lines) + 2 for block in blocks]
    for least in (_LEAST + 2, 0):
        for n in reversed(range(len(blocks))):
            excess = sum(rooms) - height
            if excess > 0:
                rooms[n] = max(min(rooms[n], least), rooms[n] - excess)
    return rooms


def _block_lines(block: _Block, room: int, paint: Paint) -> Iterator[str]:
    """What of a block there is room for, and how much is left out."""
    lines = block.lines
    if room < 3 + block.headings:
        return
    yield ""
    yield paint(block.heading, "strong")
    if len(lines) <= room - 2:
        yield from lines
        return
    kept = room - 3
    yield from lines[:kept]
    yield paint(f"  … {len(lines) - kept} more", "quiet")


def _head(view: NetworkView, width: int, paint: Paint) -> Iterator[str]:
    answering = sum(host.answers for host in view.hosts.values())
    time = view.taken.astimezone().strftime("%H:%M:%S")
    hosts = f"{answering} of {len(view.hosts)} hosts answer"
    title = cut(visible(view.graph.title), max(width - len(time) - len(hosts) - 4, 10))
    yield f"{paint(title, 'strong')}  {hosts}  {paint(time, 'quiet')}"
    yield _summary(view, width, paint)


def _summary(view: NetworkView, width: int, paint: Paint) -> str:
    counts = [
        (sum(each.severity is severity for each in view.problems), word)
        for severity, word in ((Severity.ERROR, "error"), (Severity.WARNING, "warning"))
    ]
    words = [f"{count} {word}{'s' * (count > 1)}" for count, word in counts if count]
    if not words or view.worst is None:
        return paint(cut("✓ as described, and in sync", width), "good")
    return paint(cut(f"{_SIGNS[view.worst]} {', '.join(words)}", width), _STYLES[view.worst])


def _problem_lines(view: NetworkView, width: int, paint: Paint) -> Iterator[str]:
    order = list(Severity)
    found = sorted(view.problems, key=lambda problem: order.index(problem.severity))
    lines = []
    for problem in found:
        left = f", {problem.seconds_left} s left" if problem.seconds_left else ""
        style = _STYLES[problem.severity]
        lines.append(
            (
                Cell(_SIGNS[problem.severity], style),
                Cell(problem.host, "strong"),
                Cell(problem.subject),
                Cell(sentence(problem) + left, style),
            )
        )
    columns = (Column(), Column(), Column(), Column())
    yield from table(columns, lines, width, paint)


_FLOW_COLUMNS = (
    Column(least=1),
    Column(),
    Column("configured"),
    Column("kernel", goes=3),
    Column("now", right=True, least=8),
    Column(goes=4, least=_BAR),
    Column("drops", right=True, goes=2),
    Column("round trip", right=True, goes=1),
    Column("state"),
)


def _flow_blocks(view: NetworkView, width: int, paint: Paint) -> Iterator[_Block]:
    """Links and interfaces, one below the other in the same columns."""
    links = [flow for flow in view.flows if flow.table == LINK]
    interfaces = [flow for flow in view.flows if flow.table != LINK and _is_of_interest(flow)]
    flows = [*_ordered(view, links), *_ordered(view, interfaces)]
    cells = [_cells(view, flow) for flow in flows]
    heading, *lines = table(_FLOW_COLUMNS, cells, width, paint)
    yield _Block("Links", (heading, *lines[: len(links)]), 1)
    yield _Block("Interfaces", (heading, *lines[len(links) :]), 1)


def _is_of_interest(flow: Flow) -> bool:
    """Whether an interface is shaped, or should be, or anything goes through it now."""
    nothing = Impairment()
    return (
        (flow.configured or nothing) != nothing
        or (flow.described or nothing) != nothing
        or (flow.sync or rows.Sync.inSync) is not rows.Sync.inSync
        or (flow.counters is not None and flow.counters.achieved_rate > 0)
    )


def _ordered(view: NetworkView, flows: Sequence[Flow]) -> list[Flow]:
    """What is not as it should be comes first."""
    return sorted(flows, key=lambda flow: state_of(view, flow)[1] in ("", "good"))


def state_of(view: NetworkView, flow: Flow) -> tuple[str, str]:
    """How something that is shaped is, in words and as a style."""
    if not view.hosts[flow.host].answers:
        return "unreachable", "bad"
    if not (flow.as_described or _differs(flow)):
        return "not as described", "warn"
    if flow.sync is None:
        return "", ""
    if flow.sync is rows.Sync.inSync:
        return "in sync", "good"
    return flow.sync.name, _SYNC_STYLES.get(flow.sync, "quiet")


def _cells(view: NetworkView, flow: Flow) -> tuple[Cell, ...]:
    words, style = state_of(view, flow)
    sign = {"bad": "×", "warn": "!", "quiet": "·"}.get(style, "")  # noqa: RUF001
    counters = flow.counters if view.hosts[flow.host].answers else None
    none = "no link" if flow.table == LINK else "unlimited"
    configured = _words(flow.configured, none)
    if not flow.as_described:
        configured += f" (described: {_words(flow.described, none)})"
    rate = None if counters is None else counters.achieved_rate
    return (
        Cell(sign, style),
        Cell(_name(view, flow)),
        Cell(configured, "" if flow.as_described else "warn"),
        Cell(_words(flow.actual, "?"), "warn" if flow.actual and _differs(flow) else ""),
        Cell("?" if rate is None else rounded_rate(rate)),
        Cell(_bar(rate, flow.actual)),
        Cell("" if counters is None or not counters.drops else str(counters.drops)),
        Cell(_round_trip(view, flow)),
        Cell(words, style),
    )


def _name(view: NetworkView, flow: Flow) -> str:
    """Such as `alice:0 → carol 10.2.0.1` or `alice:0 receives`."""
    start = f"{flow.machine}:{flow.vif}"
    if flow.dest is None:
        return f"{start} {'sends' if flow.direction is rows.Direction.fromVm else 'receives'}"
    peer = view.plan.peers.get(flow.dest)
    return f"{start} → {f'{peer} ' if peer else ''}{flow.dest}"


def _words(found: Impairment | None, none: str) -> str:
    return none if found is None else impairment_label(found)


def _differs(flow: Flow) -> bool:
    return flow.sync is rows.Sync.drifted or flow.sync is rows.Sync.failed


def _bar(rate: int | None, limit: Impairment | None) -> str:
    """How much of its rate something uses."""
    if not rate or limit is None or not limit.rate:
        return ""
    eighths = min(round(rate / limit.rate * _BAR * 8), _BAR * 8)
    return (_EIGHTHS[8] * (eighths // 8) + _EIGHTHS[eighths % 8].strip()).ljust(_BAR)


def _round_trip(view: NetworkView, flow: Flow) -> str:
    """What a probe to the same address has measured, and what the files say."""
    for probe in view.hosts[flow.host].probes:
        same = (probe.machine, probe.vif, probe.key.dest) == (flow.machine, flow.vif, flow.dest)
        if same and probe.measured:
            described = view.plan.round_trips.get((flow.machine, flow.vif, probe.key.dest), 0)
            of = f" of {units.format_time(described)}" if described else ""
            loss = f", {units.format_probability(probe.loss)} lost" if probe.loss else ""
            return f"{rounded_time(probe.rtt_avg)}{of}{loss}"
    return ""


def _host_lines(view: NetworkView, width: int, paint: Paint) -> Iterator[str]:
    lines = []
    for name, host in view.hosts.items():
        scalars = host.status.scalars
        if scalars is None:
            lines.append((Cell(name, "strong"), Cell("unreachable", "bad"), *[Cell("")] * 3))
            continue
        normal = scalars.mode is rows.HostAgentMode.normal
        machines = f"{host.status.machines} machine{'s' * (host.status.machines != 1)}"
        changed = f"by {scalars.last_change_by}" if scalars.last_change_by else ""
        lines.append(
            (
                Cell(name, "strong"),
                Cell(scalars.mode.name, "good" if normal else "bad"),
                Cell(f"{scalars.hypervisor} {scalars.hypervisor_status.name}"),
                Cell(machines),
                Cell(f"generation {scalars.generation} {changed}"),
            )
        )
    columns = (Column(), Column(), Column(goes=1), Column(goes=3), Column(goes=2))
    yield from table(columns, lines, width, paint)


def _history_lines(history: Sequence[Happening], width: int, paint: Paint) -> Iterator[str]:
    """The latest first."""
    lines = [_happening_cells(each) for each in reversed(history)]
    yield from table((Column(), Column(), Column(), Column()), lines, width, paint)


def _happening_cells(found: Happening) -> tuple[Cell, ...]:
    style = "good" if found.what is What.ENDS else ""
    if found.severity is not None:
        style = _STYLES[found.severity]
    time = found.at.astimezone().strftime("%H:%M:%S")
    return (
        Cell(time, "quiet"),
        Cell(found.host, "strong"),
        Cell(found.subject),
        Cell(found.text, style),
    )


def happening_line(found: Happening, paint: Paint = plain) -> str:
    """One line for one thing that has happened, with date and time."""
    _, *cells = _happening_cells(found)
    time = found.at.astimezone().isoformat(" ", "seconds")
    parts = [Cell(time, "quiet"), *(cell for cell in cells if cell.text)]
    texts = [(visible(cell.text), cell.style) for cell in parts]
    return "  ".join(paint(text, style) if style else text for text, style in texts)
