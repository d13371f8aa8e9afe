"""How `apply` grows with the number of agents: time, datagrams, octets.

Each agent is a process of its own with a hundred interfaces, whose devices do not exist: what is
measured is the manager, SNMP, and what agents do before they come to a kernel. How long kernels
take is told by `shaping` and `growth`, which have real ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import agent_peers
from agent_peers import PASSPHRASES, USER, Peer, machines_of
from traffic import counted

from vmib_manager.credentials import Credentials
from vmib_manager.description import load
from vmib_manager.sync import Manager

AGENTS = (1, 4, 16, 64)
VIFS = 100
KINDS = ("made", "changed", "again", "taken away")

Numbers = dict[str, float]


def real_xml(peers: Sequence[Peer]) -> str:
    """The agents and their machines."""
    lines = ['<real xmlns="urn:vmib:1">']
    for number, peer in enumerate(peers):
        lines.append(f'  <host id="h{number}" hypervisor="netns">')
        lines.append(f'    <agent address="127.0.0.1" port="{peer.port}" user="{USER}"/>')
        for machine in machines_of(VIFS, number * VIFS):
            vifs = "".join(f'<vif number="{v.number}" mac="{v.mac}"/>' for v in machine.vifs)
            lines.append(f'    <machine name="{machine.name}">{vifs}</machine>')
        lines.append("  </host>")
    return "\n".join([*lines, "</real>\n"])


def virtual_xml(agents: int, profile: str) -> str:
    """All interfaces in one site; `profile` has attributes that shape each of them."""
    lines = ['<virtual xmlns="urn:vmib:1">', f'  <profile id="each" {profile}/>']
    lines.append('  <site id="lan" subnet="10.0.0.0/8" profile="each">')
    address = 0
    for machine in machines_of(agents * VIFS):
        for vif in machine.vifs:
            address += 1
            place = f"10.{address >> 16}.{address >> 8 & 255}.{address & 255}"
            member = f'machine="{machine.name}" vif="{vif.number}" address="{place}"'
            lines.append(f"    <member {member}/>")
    return "\n".join([*lines, "  </site>", "</virtual>\n"])


@contextmanager
def fleet(directory: Path, agents: int) -> Iterator[list[Peer]]:
    """So many agents, on all processors."""
    with ExitStack() as stack, ThreadPoolExecutor(4) as starters:

        def start(number: int) -> Peer:
            place = directory / f"fleet-{agents}-{number}"
            everywhere = os.sched_getaffinity(0)
            made = agent_peers.ours(place, VIFS, first=number * VIFS, cpus=everywhere)
            return stack.enter_context(made)

        yield list(starters.map(start, range(agents)))


def applied(manager: Manager, files: tuple[Path, Path], peers: Sequence[Peer]) -> Numbers:
    """Load, plan and apply; the seconds of each step, and of processors."""
    agents, own = sum(peer.cpu() for peer in peers), time.process_time()
    began = time.perf_counter()
    model = load(*files)
    loaded = time.perf_counter()
    plan = manager.plan(model)
    planned = time.perf_counter()
    manager.apply(plan)
    ended = time.perf_counter()
    return {
        "rows": sum(len(changed.changes) for changed in plan.changed),
        "load": loaded - began,
        "plan": planned - loaded,
        "apply": ended - planned,
        "manager's processor": time.process_time() - own,
        "agents' processors": sum(peer.cpu() for peer in peers) - agents,
    }


def grown(directory: Path, agents: int) -> dict[str, Numbers]:
    """The steps of making, changing, applying again and taking away, for so many agents."""
    found: dict[str, Numbers] = {}
    real, virtual = directory / "real.xml", directory / "virtual.xml"
    with fleet(directory, agents) as peers:
        real.write_text(real_xml(peers))
        virtual.write_text(virtual_xml(agents, ""))
        who = Credentials.from_passphrases(USER, *PASSPHRASES)
        credentials = {host.id: who for host in load(real, virtual).real.hosts}
        with counted() as seen, Manager(load(real, virtual).real, credentials) as manager:
            applied(manager, (real, virtual), peers)
            texts = ('rate="10Mbit"', 'rate="20Mbit"', 'rate="20Mbit"', "")
            for kind, profile in zip(KINDS, texts, strict=True):
                virtual.write_text(virtual_xml(agents, profile))
                datagrams, octets = seen.datagrams, seen.octets
                found[kind] = applied(manager, (real, virtual), peers)
                found[kind]["datagrams"] = seen.datagrams - datagrams
                found[kind]["octets"] = seen.octets - octets
    return found


def measured(directory: Path) -> dict[str, Any]:
    """By number of agents."""
    return {str(agents): grown(directory, agents) for agents in AGENTS}
