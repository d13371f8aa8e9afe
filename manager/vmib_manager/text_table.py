"""Tables of text that fit a width: the least important columns go first. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .plan_text import Paint, plain
from .visible import visible

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Cell:
    """A text and the name of its style; empty for none. Shown without control characters."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """A column, left out where all its cells are empty, unless it has a `least` width.

    `goes` says in which order columns are left out where there is no room (0: never).
    """

    heading: str = ""
    right: bool = False
    goes: int = 0
    least: int = 0


def table(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int, paint: Paint = plain
) -> Iterator[str]:
    """A line of headings, if there are any, and a line for each row, none wider than `width`."""
    texts = [[visible(cell.text) for cell in row] for row in rows]
    widths = [_width(column, [row[n] for row in texts]) for n, column in enumerate(columns)]
    shown = [n for n, wide in enumerate(widths) if wide]
    while _total(shown, widths) > width and any(columns[n].goes for n in shown):
        shown.remove(min((n for n in shown if columns[n].goes), key=lambda n: columns[n].goes))
    if any(columns[n].heading for n in shown):
        headings = [Cell(columns[n].heading, "quiet") for n in shown]
        yield _line(headings, shown, columns, widths, width, paint)
    for row, line in zip(rows, texts, strict=True):
        cells = [Cell(line[n], row[n].style) for n in shown]
        yield _line(cells, shown, columns, widths, width, paint)


def _width(column: Column, texts: Sequence[str]) -> int:
    wide = max(map(len, texts), default=0)
    return max(wide, len(column.heading), column.least) if wide else column.least


def _total(shown: Sequence[int], widths: Sequence[int]) -> int:
    return sum(widths[n] for n in shown) + len(_GAP) * (len(shown) - 1)


def _line(
    cells: Sequence[Cell],
    shown: Sequence[int],
    columns: Sequence[Column],
    widths: Sequence[int],
    width: int,
    paint: Paint,
) -> str:
    parts: list[str] = []
    room = width
    for n, cell in zip(shown, cells, strict=True):
        gap = _GAP if parts else ""
        text = cut(cell.text, room - len(gap))
        padding = " " * (min(widths[n], room - len(gap)) - len(text))
        painted = paint(text, cell.style) if cell.style and text else text
        parts.append(gap + (padding + painted if columns[n].right else painted + padding))
        room -= len(gap) + len(text) + len(padding)
        if room <= len(_GAP):
            break
    return "".join(parts).rstrip()


def cut(text: str, width: int) -> str:
    """The text, or its beginning with an ellipsis where it is wider."""
    if len(text) <= width:
        return text
    return text[: max(width - 1, 0)] + "…" if width > 0 else ""
