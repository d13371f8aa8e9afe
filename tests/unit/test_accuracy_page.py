"""The tables of the page on accuracy say what was measured, and no more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..lab.accuracy_page import page, read

PAGE = Path(__file__).resolve().parents[2] / "packaging" / "docs" / "accuracy.md"
LINES = [
    ("rate", "link-ab local", "UDP", 1000.0, 1000.2),
    ("rate", "link-ba local", "TCP", 2000.0, 1999.9),
    ("delay", "vif-sends local", "median", 0.02, 0.0200045),
    ("rate", "vif-sends local", "UDP", 1000.0, 1002.0, False),
    ("delay", "peers", "Mininet", 0.02, 0.020001),
    ("rate", "peers", "Mininet", 10e6, 10e6),
    ("mean round trip", "peers", "Mininet", 0.07, 0.8751),
    ("longest round trip", "peers", "Mininet", 0.07, 1.2),
]


@pytest.fixture
def measurements(tmp_path: Path) -> Path:
    names = ("what", "way", "conditions", "configured", "measured", "is_final")
    file = tmp_path / "measurements.jsonl"
    known = {"least": 0.0, "most": 1e9, "is_final": True}
    lines = [known | dict(zip(names, line, strict=False)) for line in LINES]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_page_gets_the_extremes_of_what_was_not_taken_again(
    measurements: Path,
) -> None:
    made = page(PAGE.read_text(), read(measurements))
    assert "| rate | 2 | 1 | ± 0.05 % | -0.0050 % | +0.0200 % |" in made
    assert "| delay beyond the unshaped one | 1 | 0 | ± 25 µs | +4.5 µs | +4.5 µs |" in made
    assert "| Mininet | 20.001 ms | +0.0000 % | 875 ms | 1200 ms |" in made
    assert page(made, read(measurements)) == made


def test_a_page_without_a_place_for_the_tables_is_refused(measurements: Path) -> None:
    with pytest.raises(ValueError, match="the page has not"):
        page("no place", read(measurements))
