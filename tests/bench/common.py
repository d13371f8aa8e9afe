"""What the benchmarks share: labs of a given size, their two files, and how results are kept."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vmib_manager import credentials_file, lab, lab_spec, processes
from vmib_manager.description import load, load_real
from vmib_manager.model import Model, Real
from vmib_manager.processes import Process
from vmib_manager.sync import Manager


@dataclass(frozen=True, slots=True)
class Table:
    """Results as people read them."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """What had to be reached, what was measured, and whether that is enough."""

    what: str
    wanted: str
    measured: str
    met: bool


@dataclass(frozen=True, slots=True)
class Results:
    """What one benchmark found; `data` are its numbers as they were measured."""

    data: Any
    tables: Sequence[Table] = ()
    targets: Sequence[Target] = field(default_factory=tuple)


def milliseconds(seconds: float) -> str:
    """Seconds, as milliseconds of three digits or so."""
    value = seconds * 1000
    return f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def rate_text(kbps: int) -> str:
    """A rate as people write it."""
    for unit, factor in (("Gbit/s", 1_000_000), ("Mbit/s", 1000)):
        if kbps >= factor:
            return f"{kbps / factor:g} {unit}"
    return f"{kbps} kbit/s"


def machine(number: int) -> str:
    """The name of the machine of that number, from 1."""
    return f"m{number}"


def address(number: int) -> str:
    """Its address, in 10.0.0.0/8."""
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def _mac(number: int) -> str:
    return f"02:62:00:00:{number >> 8:02x}:{number & 255:02x}"


def real_xml(machines: int, hosts: int = 1) -> str:
    """A real file: hosts with agents at addresses of this process, whose machines have one
    interface each."""
    net = f"127.{128 + os.getpid() // 256 % 64}.{os.getpid() % 256}"
    lines = ['<real xmlns="urn:vmib:1">']
    for host in range(1, hosts + 1):
        lines.append(f'  <host id="host{host}" hypervisor="netns">')
        lines.append(f'    <agent address="{net}.{host}" port="1161" user="vmib"/>')
        for n in range(host, machines + 1, hosts):
            lines.append(f'    <machine name="{machine(n)}"><vif mac="{_mac(n)}"/></machine>')
        lines.append("  </host>")
    return "\n".join([*lines, "</real>"]) + "\n"


def virtual_xml(machines: int, profile: str = "", links: str = "") -> str:
    """A virtual file: all machines in one site; `profile` has attributes that shape each vif."""
    lines = ['<virtual xmlns="urn:vmib:1">', f'  <profile id="each" {profile}/>']
    lines.append('  <site id="lan" subnet="10.0.0.0/8" profile="each">')
    for n in range(1, machines + 1):
        lines.append(f'    <member machine="{machine(n)}" address="{address(n)}"/>')
    return "\n".join([*lines, "  </site>", f"{links}</virtual>"]) + "\n"


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab that is up: its name, and a directory with its real file."""

    name: str
    directory: Path
    real: Real

    @property
    def real_file(self) -> Path:
        """The real file."""
        return self.directory / "real.xml"

    def virtual_file(self, text: str) -> Path:
        """A virtual file of this text."""
        path = self.directory / "virtual.xml"
        path.write_text(text)
        return path

    def model(self, text: str) -> Model:
        """The model of the real file and this virtual file."""
        return load(self.real_file, self.virtual_file(text))

    def inside(self, *command: str) -> str:
        """What a command prints in the namespace of the first host."""
        name = lab_spec.namespace(self.name, "host1")
        done = subprocess.run(
            ["ip", "netns", "exec", name, *command], check=True, capture_output=True, text=True
        )
        return done.stdout

    @contextmanager
    def manager(self) -> Iterator[Manager]:
        """A manager of its agents."""
        path = credentials_file.default_path(None, self.name)
        with Manager(self.real, credentials_file.credentials_for(self.real, path)) as manager:
            yield manager

    def agents(self) -> list[Process]:
        """The processes of its agents."""
        notes = (lab_spec.host_paths(self.name, host.id).pid for host in self.real.hosts)
        return [agent for note in notes if (agent := processes.recorded(note)) is not None]

    def agents_seconds(self) -> float:
        """The time that its agents have spent on a processor."""
        files = (Path("/proc", str(agent.pid), "schedstat") for agent in self.agents())
        return sum(int(file.read_text().split()[0]) for file in files) / 1e9

    def stop_agents(self) -> None:
        """End its agents, and leave its network as it is."""
        processes.stop(self.agents(), patience=5.0)


@contextmanager
def lab_of(machines: int, hosts: int = 1) -> Iterator[Lab]:
    """A lab of this process with that many machines on that many hosts, gone afterwards."""
    name = f"bench{os.getpid()}"
    with TemporaryDirectory(prefix="vmib-bench-") as directory:
        path = Path(directory, "real.xml")
        path.write_text(real_xml(machines, hosts))
        real = load_real(path)
        lab.down(name)
        try:
            lab.up(lab.spec_of(real, name))
            yield Lab(name, Path(directory), real)
        finally:
            lab.down(name)
