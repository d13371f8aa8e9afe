"""One page and two figures of what the experiments have measured.

    python tests/paper/report.py --results DIRECTORY [--out DIRECTORY]

RESULTS has a directory for each place where they ran (`embedded`, `xen`) with its CSV files and
`place.json`, which says what it is. Nothing here is measured, and nothing is typed in.
"""

from __future__ import annotations

import argparse
import csv
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "vmib"
from matplotlib import pyplot  # noqa: E402

DOCS = Path(__file__).resolve().parents[2] / "packaging" / "docs"
PLACES = ("embedded", "xen")
LOOKS = {
    ("embedded", "local"): ("o", "#3b73b9"),
    ("embedded", "remote"): ("x", "#c26a00"),
    ("xen", "local"): ("s", "#2f8f5b"),
    ("xen", "remote"): ("+", "#8a4fa3"),
}
Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """Where experiments ran, and the rows that each of them wrote."""

    name: str
    facts: dict[str, str]
    rows: dict[str, list[Row]]


def places(results: Path) -> list[Place]:
    """All that have run."""
    found = []
    for name in PLACES:
        directory = results / name
        if (directory / "place.json").is_file():
            rows = {file.stem: _rows(file) for file in sorted(directory.glob("*.csv"))}
            facts = json.loads((directory / "place.json").read_text())
            found.append(Place(name, facts, rows))
    return found


def _rows(file: Path) -> list[Row]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def draw(
    out: Path, number: int, unit: str, scale: float, label: str, all_places: Sequence[Place]
) -> Path:
    """Figure 5 or 6: what is measured over what is configured, and how far it is off."""
    figure, (values, errors) = pyplot.subplots(
        2, 1, figsize=(7.2, 6.4), height_ratios=(3, 1.3), sharex=True, layout="constrained"
    )
    ticks: set[float] = set()
    for place in all_places:
        for way in ("local", "remote"):
            points = [
                (float(row[f"configured_{unit}"]) / scale, float(row[f"measured_{unit}"]) / scale)
                for row in place.rows.get(f"figure{number}", ())
                if row["place"] == way
            ]
            if points:
                _points((values, errors), points, f"{place.facts['title']}, {way}", place.name, way)
                ticks |= {wanted for wanted, _ in points}
    ends = [min(ticks), max(ticks)]
    values.plot(ends, ends, color="#9aa2ad", linewidth=1, label="configured", zorder=0)
    values.set(xscale="log", yscale="log", ylabel=f"measured, {label}")
    values.legend(frameon=False)
    errors.axhline(0, color="#9aa2ad", linewidth=1, zorder=0)
    errors.set(xlabel=f"configured, {label}", ylabel="off by, %")
    for axes in (values, errors):
        axes.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    values.set_yticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    values.minorticks_off()
    path = out / f"paper-figure{number}.svg"
    figure.savefig(path, metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=110)
    pyplot.close(figure)
    return path


def _points(axes: Any, points: list[tuple[float, float]], label: str, place: str, way: str) -> None:
    marker, colour = LOOKS[place, way]
    wanted = [each for each, _ in points]
    dotted = {"marker": marker, "color": colour, "linestyle": ":", "linewidth": 0.8}
    axes[0].plot(wanted, [found for _, found in points], label=label, markersize=7, **dotted)
    off = [100 * (found / each - 1) for each, found in points]
    axes[1].plot(wanted, off, markersize=6, **dotted)


def page(all_places: Sequence[Place]) -> str:
    """The report."""
    parts = [_INTRODUCTION]
    for place in all_places:
        told = f"- **{place.facts['title']}**: {place.facts['what']}"
        parts.append(textwrap.fill(told, 99, subsequent_indent="  "))
    for title, text, make in _SECTIONS:
        tables = [
            f"{place.facts['title']}:\n\n{_table(*make(place))}"
            for place in all_places
            if make(place)[1]
        ]
        if tables:
            parts += [f"## {title}", *(textwrap.fill(each, 99) for each in text), *tables]
    return "\n\n".join(parts) + "\n"


Table = tuple[Sequence[str], list[Sequence[str]]]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["--"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _table_1(place: Place) -> Table:
    rows = place.rows.get("table1", [])
    hosts = sorted({row["host"] for row in rows})
    sites = sorted({row["site"] for row in rows})
    lines = []
    for host in hosts:
        inside = [row for row in rows if row["host"] == host]
        cells = [
            ", ".join(row["machine"] for row in inside if row["site"] == site) for site in sites
        ]
        right = sum(row["as_described"] == "True" for row in inside)
        lines.append([host, *cells, f"{right} of {len(inside)}"])
    return (["host", *sites, "reach whom they should, and nobody else"], lines)


def _table_2(place: Place) -> Table:
    head = (
        "rate",
        "bucket",
        "way",
        "paper",
        "at the rate",
        "measured",
        "off the rate's",
        "off the paper's",
    )
    lines = []
    for row in place.rows.get("table2", ()):
        measured, burst = float(row["measured_seconds"]), int(row["burst_octets"])
        others = (float(row["least_seconds"]), float(row["paper_seconds"]))
        lines.append(
            [
                f"{int(row['rate_kbps']) // 1000} Mbit/s",
                f"{burst:,} octets" if burst else "vMIB's own",
                row["way"],
                f"{others[1]:.1f} s",
                f"{others[0]:.1f} s",
                f"{measured:.1f} s",
                *(f"{100 * (measured / other - 1):+.1f} %" for other in others),
            ]
        )
    return (head, lines)


def _figure(number: int, unit: str, scale: float, name: str) -> Any:
    def table(place: Place) -> Table:
        ways = {"local": {}, "remote": {}}  # type: dict[str, dict[float, float]]
        for row in place.rows.get(f"figure{number}", ()):
            wanted, found = float(row[f"configured_{unit}"]), float(row[f"measured_{unit}"])
            ways[row["place"]][wanted] = found
        head = ("configured", "local", "off by", "remote", "off by")
        lines = []
        for wanted in sorted(ways["local"] | ways["remote"]):
            cells = [f"{wanted / scale:g} {name}"]
            for way in ways.values():
                found = way.get(wanted)
                cells += ["", ""] if found is None else _found(found, wanted, scale, name)
            lines.append(cells)
        return (head, lines)

    return table


def _found(found: float, wanted: float, scale: float, name: str) -> list[str]:
    return [f"{found / scale:.3f} {name}", f"{100 * (found / wanted - 1):+.2f} %"]


_INTRODUCTION = """\
# The paper, measured again

vMIB implements the approach of Storch, Calheiros and De Rose, "Virtual Machines Networking for
Distributed Systems Emulation". `make paper` runs its evaluation again and writes this page, its
figures and the CSV files that they are made of. Where it ran:"""

_SECTIONS = (
    (
        "Table 1: machines on hosts, and sites that are apart",
        (
            "As the agents report them. Every machine pings every other one: the machines of its "
            "site and, of proxies, the other proxies have to answer, all others not.",
        ),
        _table_1,
    ),
    (
        "Table 2: 20 files of 1 MB there and back, between two proxies",
        (
            "The column *at the rate* says how long the octets of 20 files of 1 MB need, with the "
            "headers of full frames. At 1 Mbit/s the paper's 136 s and 113 s are less, so its link "
            "let more than 1 Mbit/s pass. A token bucket does: it lets a burst pass at once, and "
            "here fills again while the file comes back.",
            "vMIB's own buckets hold 4 ms of the rate and 5000 octets at least: 40 ms of each file "
            "at 1 Mbit/s. The rows below have buckets of the size that the paper's times ask for, "
            "one for each way, as one does not explain both; and they take the paper's times. They "
            "show that an oversized burst is enough to explain the table, not that there was one. "
            "At 100 Mbit/s the paper's files took longer than that rate needs, so that something "
            "else was their limit.",
            "A bucket that was just made larger is not full yet: the first file after that goes at "
            "the rate. On Xen there are fewer files, and some end later by a third of a second: a "
            "full queue lost their last frame, and TCP waited until it sent it again.",
        ),
        _table_2,
    ),
    (
        "Figure 5: a file, at different rates",
        (
            "![Measured over configured rate](paper-figure5.svg)",
            "The paper sent a file of 300 MB between two machines of one host (local) and of two "
            "hosts (remote) whose link has a rate. Here it has 2 MB, or 2 s of the rate where that "
            "is more; with `make paper FULL=1` 300 MB. The rate is that of layer 2, from connect "
            "to the last octet; on Xen from the first frame of the file to its last one. A file is "
            "a little faster than its rate by the bucket that is full when it begins, the more so "
            "the shorter it is, and slower where its last frame is lost (see Table 2).",
        ),
        _figure(5, "kbps", 1000, "Mbit/s"),
    ),
    (
        "Figure 6: round trips, at different delays of one way",
        (
            "![Measured over configured delay](paper-figure6.svg)",
            "As in the paper the delay is of one way, so that a round trip has it once. What it "
            "has besides is what it has without a delay.",
        ),
        _figure(6, "ms", 1, "ms"),
    ),
)


def write(results: Path, out: Path) -> None:
    """Write the page and its figures; raises SystemExit where there are no results."""
    found = places(results)
    if not found:
        raise SystemExit(f"{results}: no results of {' or '.join(PLACES)}")
    out.mkdir(parents=True, exist_ok=True)
    for number, unit, scale, label in ((5, "kbps", 1000, "Mbit/s"), (6, "ms", 1, "ms")):
        if any(place.rows.get(f"figure{number}") for place in found):
            print(draw(out, number, unit, scale, label, found))
    (out / "paper.md").write_text(page(found))
    print(out / "paper.md")


def main() -> None:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description="A page of what experiments measured.")
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DOCS)
    options = parser.parse_args()
    write(options.results, options.out)


if __name__ == "__main__":
    main()
