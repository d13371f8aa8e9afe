"""All benchmarks in one run: tables on the terminal, numbers as JSON, a page for the documentation.

    run.py [--only NAME ...] [--json FILE] [--markdown FILE]

Times are medians of what this computer did meanwhile, other work included; targets that were
missed are said, and the exit status does not depend on them. Needs root.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import growth
import queue_delay
import shaping
import tbf_accuracy
import transfers
from common import Results

BENCHMARKS: Mapping[str, tuple[str, Callable[[], Results]]] = {
    "shaping": ("Shaping the interfaces of a host", shaping.run),
    "growth": ("Many links", growth.run),
    "rates": ("Exact rates", tbf_accuracy.run_all),
    "queues": ("Honest queues", queue_delay.run),
    "transfers": ("The paper's transfers", transfers.run),
}


def surroundings() -> dict[str, Any]:
    """The computer, and how busy it is."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1] for line in lines if line.startswith("model name")), "")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "processor": model.strip(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0],
    }


def measure(names: Iterable[str]) -> dict[str, Any]:
    """The results of these benchmarks, as JSON has them."""
    found: dict[str, Any] = {"surroundings": surroundings(), "benchmarks": {}}
    for name in names:
        title, run = BENCHMARKS[name]
        print(f"{title} ...", flush=True)
        began, load = time.perf_counter(), os.getloadavg()[0]
        results = asdict(run())
        took = {"seconds": time.perf_counter() - began, "load": [load, os.getloadavg()[0]]}
        found["benchmarks"][name] = {"title": title, **took, **results}
    return found


def in_words(found: dict[str, Any]) -> str:
    """Where and when."""
    about = found["surroundings"]
    return (
        f"{about['date']}, {about['cores']} cores of {about['processor']}, Linux {about['kernel']},"
        f" Python {about['python']}"
    )


def targets(found: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """What was to be reached, what was measured, and whether that is enough."""
    for benchmark in found["benchmarks"].values():
        for target in benchmark["targets"]:
            verdict = "met" if target["met"] else "MISSED"
            yield target["what"], target["wanted"], target["measured"], verdict


TARGET_COLUMNS = ("what", "wanted", "measured", "")


def text(found: dict[str, Any]) -> Iterator[str]:
    """Lines for a terminal."""
    yield in_words(found)
    for benchmark in found["benchmarks"].values():
        for table in benchmark["tables"]:
            yield from ("", table["title"])
            yield from _aligned([table["columns"], *table["rows"]])
            yield from table["notes"]
    yield ""
    yield from _aligned([TARGET_COLUMNS, *targets(found)])


def _aligned(rows: list[Any]) -> Iterator[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = zip(row, widths, strict=True)
        yield "  " + "  ".join(cell.ljust(width) for cell, width in cells).rstrip()


def markdown(found: dict[str, Any]) -> Iterator[str]:
    """Lines of a page for the documentation."""
    made = "<!-- Made by tests/bench/run.py --markdown; do not edit. -->"
    yield from ("# Benchmarks", "", made, "")
    yield f"{in_words(found)}: medians of one run of `make bench`, everything on this one computer,"
    yield "which has other work, too. What was measured worst stands here as well."
    yield from ("", "## Targets", "")
    yield from _piped(TARGET_COLUMNS, targets(found))
    for name, benchmark in found["benchmarks"].items():
        yield from ("", f"## {benchmark['title']}", "", *_documentation(name))
        low, high = sorted(benchmark["load"])
        yield from ("", f"Load average of the computer meanwhile: {low:.1f} to {high:.1f}.")
        for table in benchmark["tables"]:
            yield from ("", f"**{table['title']}**", "", *_piped(table["columns"], table["rows"]))
            for note in table["notes"]:
                yield from ("", note)


def _documentation(name: str) -> Iterator[str]:
    """What a benchmark says of itself, without its first sentence's line."""
    module = __import__(BENCHMARKS[name][1].__module__)
    yield from (module.__doc__ or "").strip().splitlines()


def _piped(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    columns = list(columns)
    yield f"| {' | '.join(columns)} |"
    yield f"|{'--|' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def main() -> None:
    """Measure what is asked for, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS))
    parser.add_argument("--json", type=Path, default=Path("out/bench.json"), metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument(
        "--measured", type=Path, metavar="FILE", help="results of an earlier run; measures nothing"
    )
    arguments = parser.parse_args()
    if arguments.measured:
        found = json.loads(arguments.measured.read_text())
    else:
        found = json.loads(json.dumps(measure(arguments.only)))
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    for line in text(found):
        print(line)
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(markdown(found)) + "\n")


if __name__ == "__main__":
    main()
