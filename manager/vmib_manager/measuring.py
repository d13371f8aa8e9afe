"""What `vmib verify --measure` does beyond verifying."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vmib.errors import ValueRefused

from . import lab, measure_text, probe_traffic, terminal
from . import measure as traffic
from .measurement import Measurement
from .model import Model
from .probe_plan import PACKETS
from .probe_verdict import Allowed
from .sync import Manager


def check_options(options: argparse.Namespace) -> None:
    """Refuse how to measure where nothing is measured; raises `ValueRefused`."""
    for name in ("packets", "tolerance", "slack", "traffic"):
        given = getattr(options, name)
        if given is not None and given is not False and not options.measure:
            raise ValueRefused(f"--{name}", "given", "together with --measure")


def measure(options: argparse.Namespace, manager: Manager, model: Model) -> Measurement:
    """Measure every interface and link, and say before how long it takes."""
    found = manager.plan_measurement(model, options.packets or PACKETS)
    paths: Sequence[probe_traffic.Stretch] = ()
    if options.traffic:
        name = lab.serving(model.real)
        if name is None:
            raise ValueRefused("--traffic", "given", "for a lab of this computer, by root")
        paths = probe_traffic.stretches(found, traffic.endpoints(name, model))
    if not options.json:
        seconds = found.seconds + probe_traffic.seconds(paths)
        terminal.say([measure_text.announcement(found, len(paths), seconds)])
    progress = terminal.ProgressLine()
    done: dict[str, int] = {}

    def tell(host: str, rows: int) -> None:
        done[host] = rows
        progress.show(f"measured: {sum(done.values())} of {len(found.subjects)} rows")

    try:
        filled = probe_traffic.fill(
            paths, lambda number: progress.show(f"filled: {number} of {len(paths)} paths")
        )
        given = {name: getattr(options, name) for name in Allowed._fields}
        chosen = {name: value for name, value in given.items() if value is not None}
        return manager.measure(found, allowed=Allowed(**chosen), traffic=filled, tell=tell)
    finally:
        progress.clear()
