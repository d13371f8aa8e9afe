"""The paper's evaluation, run where its figures are exact, and the page of its results.

    python -m tests.paper.run [--full] [--only NAME ...] [--results DIRECTORY] [--out DIRECTORY]

The embedded default runs in an emulated Debian machine in virtual time: its clock counts
instructions, so that nothing else on this computer is in the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab import machine, virtual_time

from . import report

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = {False: 3600.0, True: 12 * 3600.0}


def embedded(results: Path, options: Sequence[str], patience: float) -> None:
    """Run the experiments on the embedded default; raises AssertionError where that fails."""
    command = ["python3", "tests/paper/experiments.py", "--out", "/results/paper", *options]
    kernel = ["sh", "-c", "uname -r >/results/kernel"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vmib-paper-") as directory:
        place = Path(directory, "machine")
        running = virtual_time.boot(place, {"commands": [kernel, command]}, patience)
        found = sorted((place / "paper").glob("*.csv"))
        assert found, running.last_words()
        assert "Traceback" not in running.said(), running.last_words()
        (results / "embedded").mkdir(parents=True, exist_ok=True)
        for file in found:
            shutil.copy(file, results / "embedded")
        release = (place / "kernel").read_text().strip()
    minutes = math.ceil((time.monotonic() - began) / 60)
    what = (
        f"hosts and machines are network namespaces in one emulated machine with Linux {release}, "
        f"in virtual time. Emulating it took {minutes} minutes."
    )
    facts = {"title": "embedded default", "what": what}
    (results / "embedded" / "place.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="The paper's evaluation and its report.")
    parser.add_argument("--full", action="store_true", help="the paper's file sizes: hours")
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "paper")
    parser.add_argument("--out", type=Path, default=report.DOCS, help="directory of the page")
    parser.add_argument("--only", nargs="+", help="some experiments")
    options = parser.parse_args()
    missing = machine.missing()
    if missing:
        print(f"paper: {missing}", file=sys.stderr)
        return 1
    words = ["--full"] if options.full else []
    words += ["--only", *options.only] if options.only else []
    embedded(options.results, words, PATIENCE[options.full])
    report.write(options.results, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
