"""Writing the real file: what agents report is written so that it loads back as it was."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from vmib.errors import ValueRefused
from vmib_manager import discover, xmlload
from vmib_manager.description import load_real
from vmib_manager.discover import FoundHost, FoundMachine, FoundVif, NotDescribable
from vmib_manager.model import Agent, Real
from vmib_manager.seen import Names, SeenPif

UUID = "00000000-0000-4000-8000-00000000000{}"
ALICE = FoundMachine(
    "alice",
    UUID.format(1),
    (FoundVif(0, "02:00:00:00:00:01", "vif1.0"), FoundVif(3, "02:00:00:00:00:02", "")),
)
BOB = FoundMachine("bob", UUID.format(2), (FoundVif(0, "02:00:00:00:00:03", "vif2.0"),))
PIFS = {2: SeenPif("eth0", 10_000_000, "02:00:00:00:00:0a"), 3: SeenPif("eth1", 0, "")}
AGENT = Agent(ip_address("192.0.2.1"), 161, "vmib", "h1")

KNOWN = """<real xmlns="urn:vmib:1">
  <host id="h1" hypervisor="netns">
    <agent address="192.0.2.1" user="vmib" credential="all"/>
    <pif name="eth1" bridge="xenbr1"/>
    <machine name="alice"><vif mac="02:00:00:00:00:01" bridge="xenbr1"/></machine>
  </host>
  <switch id="sw" capacity="10Gbit"/>
  <router id="core"/>
  <cable a="h1" b="sw" capacity="1Gbit" delay="1ms"/>
  <cable a="sw" b="core"/>
</real>
"""


def host(
    machines: Sequence[FoundMachine] = (ALICE, BOB), hypervisor: str = "netns", agent: Agent = AGENT
) -> FoundHost:
    return FoundHost("h1", agent, hypervisor, Names(pifs=PIFS), tuple(machines))


def loaded(text: str, directory: Path) -> Real:
    path = directory / "real.xml"
    path.write_text(text)
    return load_real(path)


def test_what_is_written_loads_back_to_what_was_found(tmp_path: Path) -> None:
    real = loaded(discover.document([host()]), tmp_path)
    (found,) = real.hosts
    assert (found.id, found.hypervisor, found.agent) == ("h1", "netns", AGENT)
    assert [(pif.name, pif.speed, pif.mac) for pif in found.pifs] == [
        ("eth0", 10_000_000, "02:00:00:00:00:0a"),
        ("eth1", 0, ""),
    ]
    machines = [
        FoundMachine(m.name, m.uuid, tuple(FoundVif(v.number, v.mac, v.device) for v in m.vifs))
        for m in found.machines
    ]
    assert machines == [ALICE, BOB]


NAME = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,20}", fullmatch=True)
MACS = st.integers(0, 2**32 - 1).map(lambda n: "02:00:" + n.to_bytes(4, "big").hex(":"))
VIFS = st.lists(st.tuples(st.integers(0, 9999), MACS), min_size=1, max_size=3).map(
    lambda found: tuple(FoundVif(number, mac, "") for number, mac in found)
)
MACHINES = st.lists(
    st.builds(FoundMachine, NAME, st.uuids().map(str), VIFS),
    max_size=4,
    unique_by=lambda machine: machine.name,
)


@given(MACHINES)
def test_machines_come_back_whatever_they_are_called(machines: list[FoundMachine]) -> None:
    text = discover.document([host(machines)])
    root, _ = xmlload.parse(text.encode(), "real.xml", "real")
    found = [
        (machine.get("name"), machine.get("uuid"), [vif.get("mac") for vif in machine])
        for machine in root.iter("{*}machine")
    ]
    assert found == [(m.name, m.uuid, [vif.mac for vif in m.vifs]) for m in machines]


def test_what_agents_cannot_know_is_taken_from_the_file_before(tmp_path: Path) -> None:
    known = loaded(KNOWN, tmp_path)
    agent = known.hosts[0].agent
    real = loaded(discover.document([host(agent=agent)], known), tmp_path)
    assert (real.nodes, real.cables) == (known.nodes, known.cables)
    (found,) = real.hosts
    assert found.agent.credential == "all"
    assert [(pif.name, pif.bridge) for pif in found.pifs] == [("eth0", ""), ("eth1", "xenbr1")]
    assert [(vif.number, vif.bridge) for vif in found.machines[0].vifs] == [
        (0, "xenbr1"),
        (3, ""),
    ]


def test_without_cables_the_file_says_what_is_missing(tmp_path: Path) -> None:
    assert "add switches and cables" in discover.document([host()])
    assert "add switches" not in discover.document([host()], loaded(KNOWN, tmp_path))


def test_a_machine_without_interfaces_is_left_out_and_that_is_written(tmp_path: Path) -> None:
    text = discover.document([host([BOB, FoundMachine("no--vif", UUID.format(3), ())])])
    real = loaded(text, tmp_path)
    assert [machine.name for machine in real.hosts[0].machines] == ["bob"]
    (comment, _) = etree.fromstring(text.encode()).xpath("//comment()")
    assert "no interface and is left out" in comment.text


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        (FoundMachine("two words", UUID.format(1), BOB.vifs), "name='two words': allowed: a name"),
        (FoundMachine("a\x1b[2J", UUID.format(1), BOB.vifs), r"name='a\\x1b[2J': allowed: a name"),
        (FoundMachine("<&>", UUID.format(1), BOB.vifs), "name='<&>': allowed: a name"),
        (FoundMachine("m", "none", BOB.vifs), "uuid='none': allowed: a UUID"),
        (
            FoundMachine("m", UUID.format(1), (FoundVif(0, "00:00:00:00:00:00", ""),)),
            "<vif> mac='00:00:00:00:00:00': allowed: a unicast MAC address",
        ),
    ],
)
def test_what_no_real_file_can_have_is_refused(machine: FoundMachine, message: str) -> None:
    with pytest.raises(NotDescribable) as refused:
        discover.document([host([machine])])
    assert message in str(refused.value)
    assert str(refused.value).isprintable()


def test_an_unknown_hypervisor_is_refused() -> None:
    with pytest.raises(NotDescribable, match="<host> hypervisor='vax': allowed: xen, qemu, netns"):
        discover.document([host(hypervisor="vax")])


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("h1=192.0.2.1", "192.0.2.1", 161),
        ("h1=192.0.2.1:1161", "192.0.2.1", 1161),
        ("h1=2001:db8::1", "2001:db8::1", 161),
        ("h1=::1", "::1", 161),
        ("h1=[2001:db8::1]", "2001:db8::1", 161),
        ("h1=[2001:db8::1]:1161", "2001:db8::1", 1161),
    ],
)
def test_an_agent_is_given_by_id_and_address(text: str, address: str, port: int) -> None:
    assert discover.parse_agent(text, "ann") == (
        "h1",
        Agent(ip_address(address), port, "ann", "h1"),
    )


@pytest.mark.parametrize(
    "text",
    ["", "h1", "h1=", "=192.0.2.1", "h1=name", "h1=192.0.2.1:", "h1=192.0.2.1:0", "h1=[::1",
     "h1=192.0.2.1:65536", "h1=192.0.2.1:x", "h1=224.0.0.1", "h1=[::1]161", "h1=192.0.2.1:²",
     "h1=[::1]:", "h1=[192.0.2.1", "h1=::g"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueRefused, match=r"such as host1=192\.0\.2\.1:161") as refused:
        discover.parse_agent(text, "ann")
    assert refused.value.value == text
