"""The plot of what is configured against what arrives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Measured = tuple[int, float]
"""A configured rate and the measured one, in kbit/s."""


def draw(directory: Path, flows: Sequence[Measured], transfers: Sequence[Measured]) -> list[Path]:
    """Write transfer.svg and transfer.png; nothing where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return []
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "vmib"
    from matplotlib import pyplot

    figure, (rates, errors) = pyplot.subplots(
        2, 1, figsize=(7.2, 6.4), height_ratios=(3, 1.3), sharex=True, layout="constrained"
    )
    ends = [min(wanted for wanted, _ in flows) / 1000, max(wanted for wanted, _ in flows) / 1000]
    rates.plot(ends, ends, color="#9aa2ad", linewidth=1, label="configured")
    _points(rates, errors, flows, "o", "#3b73b9", "frames of UDP, counted where they arrive")
    _points(rates, errors, transfers, "x", "#c26a00", "a file over TCP, from connect to last octet")
    rates.set(xscale="log", yscale="log", ylabel="measured, Mbit/s")
    rates.set_title("Rates between two sites: configured and measured (layer 2)", fontsize=11)
    rates.legend(frameon=False)
    errors.axhline(0, color="#9aa2ad", linewidth=1)
    errors.set(xlabel="configured, Mbit/s", ylabel="error of rate, %", ylim=(-1.1, 1.1))
    ticks = [wanted / 1000 for wanted, _ in flows]
    for axes in (rates, errors):
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    rates.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    rates.minorticks_off()
    written = [directory / "transfer.svg", directory / "transfer.png"]
    figure.savefig(written[0], metadata={"Date": None})
    figure.savefig(written[1], dpi=150)
    pyplot.close(figure)
    return written


def _points(
    rates: Any, errors: Any, measured: Sequence[Measured], marker: str, colour: str, label: str
) -> None:
    wanted = [rate / 1000 for rate, _ in measured]
    rates.plot(
        wanted, [found / 1000 for _, found in measured], marker, color=colour, label=label, ms=7
    )
    errors.plot(
        wanted, [100 * (found / rate - 1) for rate, found in measured], marker, color=colour, ms=6
    )
