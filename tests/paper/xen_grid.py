"""The paper's evaluation on Xen, in a dom0: paravirtual guests of one host.

Guests get the description's addresses and routes as they start, and send echoes by ping and files
by nc. Files are timed in dom0, where the clock is finer than that of a guest's shell.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.lab import hypervisors
from tests.lab.host_lab import SETTINGS, HostLab, eventually
from tests.lab.hypervisors import Guest, run
from tests.lab.xen.bench import Tap

from vmib.errors import VmibError
from vmib_manager import Manager, credentials_for, load
from vmib_manager.reachability import primary

from . import experiments
from .experiments import PINGS, SIZES_ON_XEN, Grid

HERE = Path(__file__).parent
REAL, VIRTUAL = HERE / "xen-grid-real.xml", HERE / "xen-grid-virtual.xml"
PLACES = {"local": ("vmgrid101", "vmgrid102")}

_PAUSE = 0.01
_SETTLING = 3
"""Seconds until the agent has looked after what it has changed: there is one processor for all."""
_TOLD = 30.0
_PORT, _BLOCK = 5001, 12_500
"""Files have so many octets, or a multiple of them."""
_HANDSHAKE = 74
"""Octets of a frame that opens a connection; a full one, and what is left of a file, have more."""


@dataclass(frozen=True, slots=True)
class Guests:
    """The guests of a host and their addresses, by name."""

    consoles: Mapping[str, Guest]
    addresses: Mapping[str, str]

    def reached(self) -> Mapping[tuple[str, str], bool]:
        return {
            (source, sink): self.consoles[source].pings(self.addresses[sink], tries=2)
            for source in self.consoles
            for sink in self.consoles
            if source != sink
        }

    def transfer(self, source: str, sink: str, octets: int, timeout: float) -> float:
        """From the first to the last frame of user data, as the sink's interface gets them."""
        file = f"dd if=/dev/zero bs={_BLOCK} count={octets // _BLOCK}"
        self.consoles[source].run(f"nc -l -p {_PORT} -e {file} 2>/dev/null & sleep 0.1")
        command = f"nc {self.addresses[source]} {_PORT} </dev/null | wc -c"
        with Tap(f"vif{self.consoles[sink].domain.ID()}.0", True) as tap:
            arrived = self.consoles[sink].run(command, timeout)
        if int(arrived) != octets:
            raise VmibError(f"file {source} to {sink}: {arrived} of {octets} octets arrived")
        stamps = [stamp for stamp, length in tap.frames if length > _HANDSHAKE]
        return stamps[-1] - stamps[0]

    def round_trips(self, source: str, sink: str, count: int) -> list[float]:
        # The first one waits for ARP, which is no part of a round trip.
        command = f"sleep {_SETTLING}; ping -c {count + 1} -i {_PAUSE} {self.addresses[sink]}"
        said = self.consoles[source].run(command, 120)
        times = [float(found) / 1000 for found in re.findall(r"time=([\d.]+) ms", said)]
        if len(times) != count + 1:
            raise VmibError(f"echo {source} to {sink}: {len(times)} of {count + 1} answers")
        return times[1:]


@contextmanager
def grid_up(full: bool) -> Iterator[Grid]:
    """The guests, started with what the description says of them, and a manager."""
    model = load(REAL, VIRTUAL)
    with tempfile.TemporaryDirectory() as place, hypervisors.hypervisor(Path(place)) as xen:
        lab = HostLab(xen, Path(place), SETTINGS)
        try:
            names = [machine.name for host in model.real.hosts for machine in host.machines]
            consoles = {name: lab.define(number, name=name) for number, name in enumerate(names, 1)}
            lab.start_agent()
            credentials = credentials_for(model.real, lab.directory / "credentials.toml")
            found = ((name, primary(given)) for name, given in model.attachments.items())
            machines = Guests(consoles, {name: str(address) for name, address in found})
            with Manager(model.real, credentials) as manager:
                grid = Grid(manager, REAL, VIRTUAL, machines, PLACES, SIZES_ON_XEN, PINGS[full])
                grid.apply()
                _boot(lab, machines)
                yield grid
        finally:
            lab.close()


def _boot(lab: HostLab, machines: Guests) -> None:
    """Start the guests once they are told their addresses, and wait until these are there."""
    for number, guest in enumerate(machines.consoles.values(), 1):
        eventually(partial(_is_told, guest), "it is told its address", _TOLD)
        lab.start(number)
    for name, guest in machines.consoles.items():
        guest.is_ready()
        assert machines.addresses[name] in guest.run("ip address"), name
    for command in (("xl", "info"), ("xl", "list")):
        print(run(*command), flush=True)


def _is_told(guest: Guest) -> bool:
    return "vmib.begin" in guest.domain.XMLDesc()


def main() -> int:
    """Returns the exit status."""
    options = experiments.options()
    with grid_up(options.full) as grid:
        experiments.run(grid, options.only, options.out)
        print(run("tc", "-s", "qdisc", "show"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
