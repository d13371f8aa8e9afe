"""The screen of `vmib watch`: everything of importance, whatever the size of the terminal."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib import rows
from vmib_manager.findings import Severity
from vmib_manager.happenings import Happening, What, happenings
from vmib_manager.seen import OutOfSync
from vmib_manager.text_table import Cell, Column, cut, table
from vmib_manager.watch_text import happening_line, screen

from .watched import (
    A_TO_C,
    B_RECEIVES,
    NOON,
    WELL,
    answers,
    seen,
    silent,
    view_of,
    with_rate,
)

DRIFTED = OutOfSync("vmibShapeTable", B_RECEIVES, rows.Sync.drifted, "changed")
ILL = view_of(
    host1=seen(
        "host1",
        answers(
            "host1",
            with_rate(B_RECEIVES, 5_000),
            unsynced=(DRIFTED,),
            kernel={B_RECEIVES: {"rate": 3_000}, A_TO_C: {"achieved_rate": 1_500, "drops": 12}},
        ),
    ),
    host2=silent(WELL["host2"]),
)
HISTORY = tuple(happenings(None, ILL))


def lines_with(lines: list[str], text: str) -> list[str]:
    return [line for line in lines if text in line]


def test_all_is_well_in_one_line() -> None:
    lines = screen(view_of(), (), 100, 50)
    assert lines[0].startswith("virtual.xml on real.xml  2 of 2 hosts answer  ")
    assert lines[1] == "✓ as described, and in sync"
    assert "Needs attention" not in lines


def test_links_and_interfaces_are_there_with_their_values() -> None:
    lines = screen(ILL, HISTORY, 120, 60)
    (link,) = lines_with(lines, "a:0 → c 10.2.0.1")
    assert re.search(r" 2Mbit 8ms +2Mbit 8ms +1.5Mbit  ███████▌ +12  ", link)
    assert link.endswith("in sync")
    (shape,) = lines_with(lines, "(described: 20Mbit)")
    assert re.search(r"!  b:0 receives +5Mbit \(described: 20Mbit\) +3Mbit ", shape)
    assert shape.endswith("drifted")
    (lost,) = lines_with(lines, "c:0 → a 10.1.0.1")
    assert re.search(r" \? .*unreachable$", lost)


def test_a_row_that_somebody_set_is_told_from_one_that_drifted() -> None:
    by_hand = view_of(host1=seen("host1", answers("host1", with_rate(B_RECEIVES, 5_000))))
    (shape,) = lines_with(screen(by_hand, (), 120, 60), "(described: 20Mbit)")
    assert shape.endswith("not as described")


def test_what_is_wrong_comes_first_the_worst_before_the_rest() -> None:
    lines = screen(ILL, HISTORY, 140, 60)
    assert lines[1] == "× 1 error, 2 warnings"  # noqa: RUF001
    assert lines[3] == "Needs attention"
    assert lines[4].startswith("×  host2")  # noqa: RUF001
    assert "unreachable" in lines[4]
    assert "drifted: rate 5Mbit, reads back 3Mbit: changed" in "\n".join(lines[5:7])
    assert "apply would change rate 5Mbit → 20Mbit" in "\n".join(lines[5:7])


def test_what_happened_is_there_the_latest_first() -> None:
    later = Happening(NOON + timedelta(minutes=1), What.ENDS, "host1", "x", "in sync again")
    lines = screen(ILL, (*HISTORY, later), 100, 60)
    start = lines.index("What happened")
    assert lines[start + 1].endswith("host1  x                    in sync again")


@given(st.integers(1, 200), st.integers(1, 60))
def test_a_screen_fits_every_terminal(width: int, height: int) -> None:
    lines = screen(ILL, HISTORY, width, height)
    assert len(lines) <= height
    if width > 45:
        assert max(map(len, lines)) <= width


def test_a_small_terminal_shows_what_matters_and_how_much_is_left_out() -> None:
    lines = screen(ILL, HISTORY, 80, 24)
    assert lines[3] == "Needs attention"
    assert any(re.fullmatch(r"  … \d+ more", line) for line in lines)


def test_colours_are_only_those_of_the_terminal() -> None:
    painted = screen(ILL, HISTORY, 100, 60, lambda text, style: f"<{style}>{text}</>")
    assert "<bad>× 1 error, 2 warnings</>" in painted  # noqa: RUF001
    assert [re.sub(r"<\w*>|</>", "", line) for line in painted] == screen(ILL, HISTORY, 100, 60)


@pytest.mark.parametrize(
    ("severity", "what", "style"),
    [
        (Severity.ERROR, What.BEGINS, "bad"),
        (Severity.WARNING, What.BEGINS, "warn"),
        (None, What.ENDS, "good"),
    ],
)
def test_a_happening_is_one_line(severity: Severity | None, what: What, style: str) -> None:
    found = Happening(NOON, what, "host1", "shape a:0 sends", "told\nso", severity)
    line = happening_line(found)
    assert re.fullmatch(
        r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d  host1  shape a:0 sends  told\\nso", line
    )
    painted = happening_line(found, lambda text, style: f"<{style}>{text}</>")
    assert painted.endswith(f"<{style}>told\\nso</>")


COLUMNS = (Column("name"), Column("kernel", goes=1), Column("now", right=True), Column())
ROWS = ((Cell("alice"), Cell("20Mbit"), Cell("1"), Cell("")), *[(Cell("b"),) * 4] * 2)


def test_a_table_is_aligned() -> None:
    assert list(table(COLUMNS, ROWS, 80)) == [
        "name   kernel  now",
        "alice  20Mbit    1",
        "b      b         b  b",
        "b      b         b  b",
    ]


def test_a_table_leaves_out_what_matters_least_and_then_cuts() -> None:
    assert list(table(COLUMNS, ROWS, 15))[1] == "alice    1"
    assert list(table(COLUMNS, ROWS, 4))[1] == "ali…"


def test_columns_without_a_text_are_left_out_unless_they_have_a_width() -> None:
    cells = [(Cell("a"), Cell(""), Cell("b"))]
    assert list(table((Column(), Column("none"), Column()), cells, 80)) == ["a  b"]
    assert list(table((Column(), Column(least=3), Column()), cells, 80)) == ["a       b"]


@given(st.text(max_size=10), st.integers(0, 12))
def test_a_text_that_is_cut_has_an_end_that_says_so(text: str, width: int) -> None:
    shown = cut(text, width)
    assert len(shown) <= width
    assert shown == text or shown == "" or shown.endswith("…")
