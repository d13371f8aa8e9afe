"""The paper's evaluation, run where its figures are exact, and the page of its results.

    python -m tests.paper.run [--full] [--only NAME ...] [--places NAME ...]
        [--results DIRECTORY] [--out DIRECTORY]

The embedded default runs in an emulated Debian machine, and a host of Xen is one, both in virtual
time: its clock counts instructions, so that nothing else on this computer is in the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab import machine, virtual_time, xen_host

from . import report
from .experiments import SIZES_ON_XEN

ROOT = Path(__file__).resolve().parents[2]
XEN_RESULTS = "/var/log/paper"
PATIENCE = {False: 3600.0, True: 12 * 3600.0}


def embedded(results: Path, options: Sequence[str], patience: float) -> None:
    """Run the experiments on the embedded default; raises AssertionError where that fails."""
    command = ["python3", "-m", "tests.paper.experiments", "--out", "/results/paper", *options]
    kernel = ["sh", "-c", "uname -r >/results/kernel"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vmib-paper-") as directory:
        place = Path(directory, "machine")
        running = virtual_time.boot(place, {"commands": [kernel, command]}, patience)
        _keep(results / "embedded", place / "paper", running)
        release = (place / "kernel").read_text().strip()
    what = (
        f"hosts and machines are network namespaces in one emulated machine with Linux {release}, "
        f"in virtual time. Emulating it took {_minutes(began)} minutes."
    )
    _describe(results / "embedded", "embedded default", what)


def xen(results: Path, options: Sequence[str], patience: float) -> None:
    """Run the experiments in a host of Xen; raises AssertionError where that fails."""
    job = {"module": "tests.paper.xen_grid", "arguments": ["--out", XEN_RESULTS, *options]}
    began = time.monotonic()
    directory = xen_host.place("paper-xen")
    running = xen_host.boot(directory, job, patience)
    _keep(results / "xen", directory / "paper", running)
    version = re.search(r"\(XEN\) Xen version (\S+)", running.said())
    assert version is not None, running.last_words()
    what = (
        f"five paravirtual guests of one host with Xen {version[1]}, libvirt's `xen:///system` and "
        "the agent in its dom0, in an emulated machine in virtual time. Two such machines do not "
        "share a virtual clock, so that remote machines and all four hosts of the paper are "
        "measured on the embedded default only. To spare time Table 2 is of "
        f"{SIZES_ON_XEN.files} files, beside the paper's time for as many, and Figure 5's file has "
        f"{SIZES_ON_XEN.octets // 1_000_000} MB, or {SIZES_ON_XEN.seconds} s of the rate where "
        "that is more. "
        f"Emulating it took {_minutes(began)} minutes."
    )
    _describe(results / "xen", "Xen", what)


PLACES = {"embedded": (embedded, machine.missing), "xen": (xen, xen_host.missing)}


def _keep(kept: Path, made: Path, running: machine.Running) -> None:
    """Copy the files that experiments have written, if they have done so to their end."""
    found = sorted(made.glob("*.csv"))
    assert found, running.last_words()
    assert "Traceback" not in running.said(), running.last_words()
    kept.mkdir(parents=True, exist_ok=True)
    for file in found:
        shutil.copy(file, kept)


def _describe(place: Path, title: str, what: str) -> None:
    """Note for the report what a place is."""
    facts = {"title": title, "what": what}
    (place / "place.json").write_text(json.dumps(facts, indent=1) + "\n")


def _minutes(began: float) -> int:
    return math.ceil((time.monotonic() - began) / 60)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="The paper's evaluation and its report.")
    parser.add_argument("--full", action="store_true", help="the paper's file sizes: hours")
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "paper")
    parser.add_argument("--out", type=Path, default=report.DOCS, help="directory of the page")
    parser.add_argument("--only", nargs="+", help="some experiments")
    parser.add_argument("--places", nargs="+", choices=PLACES, default=list(PLACES))
    options = parser.parse_args()
    for place in options.places:
        if missing := PLACES[place][1]():
            print(f"paper: {place}: {missing}", file=sys.stderr)
            return 1
    words = ["--full"] if options.full else []
    words += ["--only", *options.only] if options.only else []
    for place in options.places:
        PLACES[place][0](options.results, words, PATIENCE[options.full])
    report.write(options.results, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
