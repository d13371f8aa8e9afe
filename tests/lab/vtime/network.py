"""A network of two hosts whose every way can be shaped: real agents, told by the real manager.

alice sends through her shape, dave receives through his; two links lie between bob and others.
erin is alone on the second host, all others are on the first.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vmib_manager import Manager, credentials_file, lab, lab_spec, load, measure, processes
from vmib_manager.apply import Outcome
from vmib_manager.measure import Endpoint
from vmib_manager.model import Real

NAME = "fidelity"
HOSTS = {"host1": ("alice", "bob", "carol", "dave"), "host2": ("erin",)}
LINKED = ("carol", "erin")
"""To whom bob has a link."""
MACHINES = [machine for machines in HOSTS.values() for machine in machines]

_LAST_OCTETS = (0x03, 0x05, 0x06, 0x09, 0x0A)
"""Of MAC addresses, any two of which differ by two bits: a frame with one bit damaged must not
tell bridges that one machine is where another one is."""


@dataclass(frozen=True, slots=True)
class Way:
    """From whom to whom frames go, and what of their way is shaped."""

    place: str
    source: str
    sink: str

    @property
    def is_remote(self) -> bool:
        return "erin" in (self.source, self.sink)

    def __str__(self) -> str:
        return f"{self.place} {'remote' if self.is_remote else 'local'}"


WAYS = (
    Way("vif-sends", "alice", "bob"),
    Way("vif-sends", "alice", "erin"),
    Way("vif-receives", "carol", "dave"),
    Way("vif-receives", "erin", "dave"),
    Way("link-ab", "bob", "carol"),
    Way("link-ab", "bob", "erin"),
    Way("link-ba", "carol", "bob"),
    Way("link-ba", "erin", "bob"),
)
LINK, REMOTE_LINK = WAYS[4], WAYS[5]


def _real() -> str:
    lines = ['<real xmlns="urn:vmib:1">']
    for number, (host, machines) in enumerate(HOSTS.items(), 1):
        lines.append(f'<host id="{host}" hypervisor="netns">')
        lines.append(f'<agent address="127.33.0.{number}" port="1161" user="vmib"/>')
        for machine in machines:
            mac = f"02:66:00:00:00:{_LAST_OCTETS[MACHINES.index(machine)]:02x}"
            lines.append(f'<machine name="{machine}"><vif mac="{mac}"/></machine>')
        lines.append("</host>")
    return "\n".join([*lines, "</real>"])


def _virtual(
    up: Mapping[str, str], down: Mapping[str, str], link: str, linked: Iterable[str]
) -> str:
    lines = ['<virtual xmlns="urn:vmib:1"><site id="lan" subnet="10.0.0.0/24">']
    for place, machine in enumerate(MACHINES, 1):
        lines.append(f'<member machine="{machine}" address="10.0.0.{place}">')
        lines += [f"<up {up[machine]}/>"] if machine in up else []
        lines += [f"<down {down[machine]}/>"] if machine in down else []
        lines.append("</member>")
    lines.append("</site>")
    lines += [f'<link a="bob" b="{other}" {link}/>' for other in linked]
    return "\n".join([*lines, "</virtual>"])


@dataclass
class Network:
    """The network, as it was told to be last."""

    directory: Path
    real: Real
    manager: Manager
    machines: dict[str, Endpoint] = field(default_factory=dict)
    wanted: str = ""

    def shape(self, impairments: str = "", linked: Iterable[str] = LINKED) -> None:
        """Shape all ways by attributes of the virtual file, as `delay="1ms"`; of links some."""
        self.combine({"alice": impairments}, {"dave": impairments}, impairments, linked)

    def clear(self) -> None:
        """Shape nothing."""
        self.combine({}, {}, "", ())

    def combine(
        self,
        up: Mapping[str, str],
        down: Mapping[str, str],
        link: str = "",
        linked: Iterable[str] = LINKED,
    ) -> None:
        """Shape what machines send and receive, and bob's links, each in a way of its own."""
        self.tell(_virtual(up, down, link, linked if link else ()))

    def tell(self, virtual: str) -> None:
        """Have the manager make the hosts as a virtual file says."""
        if virtual == self.wanted:
            return
        (self.directory / "virtual.xml").write_text(virtual)
        model = load(self.directory / "real.xml", self.directory / "virtual.xml")
        result = self.manager.apply(self.manager.plan(model))
        assert result.outcome in (Outcome.CONFIRMED, Outcome.UNCHANGED), result
        if not self.machines:
            self.machines = measure.endpoints(NAME, model)
            self._introduce()
        self.wanted = virtual

    def _introduce(self) -> None:
        """Tell each machine the others' addresses, and have no one send anything on their own.

        No frame is to wait for ARP, and none that IPv6 sends to find routers is to share a rate.
        """
        for member in (*HOSTS, *MACHINES):
            self.inside(member, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        addresses = {name: self.link_of(name)["address"] for name in MACHINES}
        for name in MACHINES:
            for other, address in addresses.items():
                if other != name:
                    to = self.machines[other].address
                    command = ("neigh", "replace", to, "lladdr", address, "dev", "eth0")
                    self.inside(name, "ip", *command)

    def link_of(self, machine: str) -> dict[str, Any]:
        """The interface of a machine as ip tells it."""
        (found,) = json.loads(self.inside(machine, "ip", "-j", "link", "show", "dev", "eth0"))
        assert isinstance(found, dict)
        return found

    def ends(self, way: Way) -> tuple[Endpoint, Endpoint]:
        """Both ends of a way."""
        return self.machines[way.source], self.machines[way.sink]

    def device_of(self, machine: str) -> tuple[str, str]:
        """The host of a machine, and the device that is the machine's end there."""
        for host in lab.spec_of(self.real, NAME).hosts:
            for position, made in enumerate(host.machines):
                if made.name == machine:
                    return host.id, lab_spec.machine(NAME, host, position).vifs[0].host_device
        raise KeyError(machine)

    def inside(self, member: str, *command: str) -> str:
        """What a command prints in a machine or host."""
        return run("ip", "netns", "exec", lab_spec.namespace(NAME, member), *command)

    @contextmanager
    def without_offload(self, machine: str) -> Iterator[None]:
        """A machine that hands over single frames: its kernel segments before it sends."""
        features = ("tso", "gso", "tx-udp-segmentation")
        switch = ("ethtool", "-K", "eth0")
        self.inside(machine, *switch, *(word for name in features for word in (name, "off")))
        try:
            yield
        finally:
            self.inside(machine, *switch, *(word for name in features for word in (name, "on")))


def run(*command: str) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout


def _put_agents_last() -> None:
    """Let agents run only while nobody else does: there is one processor, and it has to send."""
    for host in HOSTS:
        agent = processes.recorded(lab_spec.host_paths(NAME, host).pid)
        assert agent is not None
        for thread in Path(f"/proc/{agent.pid}/task").iterdir():
            os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))


@contextmanager
def network_in(directory: Path) -> Iterator[Network]:
    """The network, unshaped, gone afterwards."""
    (directory / "real.xml").write_text(_real())
    (directory / "virtual.xml").write_text(_virtual({}, {}, "", ()))
    real = load(directory / "real.xml", directory / "virtual.xml").real
    lab.up(lab.spec_of(real, NAME))
    try:
        _put_agents_last()
        path = credentials_file.default_path(None, NAME)
        with Manager(real, credentials_file.credentials_for(real, path)) as manager:
            made = Network(directory, real, manager)
            made.clear()
            yield made
    finally:
        lab.down(NAME)
