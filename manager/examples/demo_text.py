"""How the demonstration looks on a terminal of 80 columns or more."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from vmib_manager import Model
from vmib_manager.plan_text import Paint

WIDTH = 92

Matrix = Mapping[tuple[str, str], bool]

_CELLS = {
    (True, True): ("■", "good"),
    (False, False): ("·", "quiet"),
    (False, True): ("!", "bad"),
    (True, False): ("?", "bad"),
}
"""What a pair looks like, by what was expected and what was observed."""
_LEGEND = "as expected: ■ answers, · does not;  not as expected: ! answers, ? does not"


def say(text: str = "") -> None:
    """Print a line, now."""
    print(text, flush=True)


def listed(lines: Iterable[str], indent: str = "   ") -> None:
    """Print lines indented, long ones wrapped."""
    for line in lines:
        if len(line) <= WIDTH - len(indent) or "\033" in line:
            say(indent + line)
        else:
            say(
                textwrap.fill(
                    line,
                    WIDTH,
                    initial_indent=indent,
                    subsequent_indent=indent + "  ",
                    break_on_hyphens=False,
                )
            )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print columns aligned at the right."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = (f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        say("   " + "   ".join(cells))


def octets(number: int) -> str:
    """A number with spaces between its thousands."""
    return f"{number:,}".replace(",", " ")


def percent(error: float) -> str:
    """A relative error."""
    return f"{error * 100:+.2f} %"


def matrix(model: Model, wanted: Matrix, found: Matrix, paint: Paint) -> None:
    """Print who reaches whom: from the machine of the line to that of the column, site by site."""
    sites = {name: there[0].site.id for name, there in model.attachments.items()}
    groups = [(site, list(names)) for site, names in groupby(sites, key=sites.__getitem__)]
    width = max(map(len, sites))
    heads = (f"to {site}".ljust(2 * len(names)) for site, names in groups)
    say(f"{'from':{width}} " + "  ".join(heads).rstrip())
    for _, starts in groups:
        for start in starts:
            parts = []
            for _, stops in groups:
                pairs = ((start, stop) for stop in stops)
                parts.append("".join(_cell(pair, wanted, found, paint) for pair in pairs))
            say(f"{start:{width}} " + "  ".join(parts).rstrip())
        say()
    say(_LEGEND)


def _cell(pair: tuple[str, str], wanted: Matrix, found: Matrix, paint: Paint) -> str:
    if pair[0] == pair[1]:
        return "  "
    sign, style = _CELLS[wanted[pair], found[pair]]
    return paint(sign, style) + " "


class Meter:
    """How far something is that takes long, on a terminal; nothing elsewhere."""

    def __init__(self, what: str, total: int) -> None:
        self._what = what
        self._total = total
        self._shown = -1

    def tell(self, done: int) -> None:
        """So much is done."""
        share = 100 * done // self._total
        if sys.stderr.isatty() and share != self._shown:
            self._shown = share
            sys.stderr.write(f"\r   {self._what}: {share} %")
            sys.stderr.flush()

    def clear(self) -> None:
        """Take it away."""
        if self._shown >= 0:
            sys.stderr.write("\r\033[K")
            sys.stderr.flush()
