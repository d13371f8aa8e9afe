"""What a lab consists of: from a real file to a spec, what a spec may be, what follows from it."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from vmib.errors import ValueRefused
from vmib_manager import lab, lab_spec
from vmib_manager.description import load_real
from vmib_manager.lab import NotForLab
from vmib_manager.lab_errors import NotRoot
from vmib_manager.lab_spec import HostSpec, LabSpec, MachineSpec, PifSpec, VifSpec

from .real_files import described, host

EXAMPLES = Path(__file__).resolve().parents[2] / "manager" / "examples"
SMALL = LabSpec(
    "lab",
    (
        HostSpec("h1", "127.0.0.2", (MachineSpec("a"), MachineSpec("b", (VifSpec(0), VifSpec(1))))),
        HostSpec("h2", "127.0.0.3", (MachineSpec("c"),)),
    ),
)


def with_host(**changes: object) -> LabSpec:
    """The small lab, its first host changed."""
    first, second = SMALL.hosts
    return replace(SMALL, hosts=(replace(first, **changes), second))  # type: ignore[arg-type]


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*-real.xml")), ids=lambda path: path.name)
def test_every_example_makes_a_lab(file: Path) -> None:
    described = load_real(file)
    spec = lab.spec_of(described)
    assert [one.id for one in spec.hosts] == [one.id for one in described.hosts]
    assert spec.name == "lab"


def test_what_the_real_file_says_is_in_the_spec() -> None:
    spec = lab.spec_of(
        described(
            '<host id="h" hypervisor="netns">'
            '<agent address="127.9.0.1" port="1161" user="ann" credential="key"/>'
            '<pif name="up0" mac="02:00:00:00:00:99" bridge="br7"/>'
            '<machine name="m" uuid="6BA7B810-9DAD-41D1-80B4-00C04FD430C8">'
            '<vif number="3" mac="02:00:00:00:00:01" device="tap0" bridge="br8"/></machine></host>'
        ),
        "mine",
    )
    uuid = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
    machine = MachineSpec("m", (VifSpec(3, "02:00:00:00:00:01", "tap0", "br8"),), uuid)
    pif = PifSpec("up0", "02:00:00:00:00:99", "br7")
    assert spec == LabSpec(
        "mine", (HostSpec("h", "127.9.0.1", (machine,), 1161, (pif,), "key"),), "ann"
    )
    made = lab_spec.machine("mine", spec.hosts[0], 0)
    assert (made.uuid, made.namespace) == (uuid, "/run/netns/vmib-mine-m")
    assert (made.vifs[0].host_device, made.vifs[0].guest_device) == ("tap0", "eth3")
    assert lab_spec.bridges(spec.hosts[0]) == ("br7", "br8")


def test_a_host_without_a_pif_has_an_uplink_all_the_same() -> None:
    spec = lab.spec_of(described(host("h", 2)))
    assert spec.hosts[0].pifs == (PifSpec(),)


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        (host("a", 2) + "\n" + host("b", 3, kind="xen"), "real.xml:3: host b: hypervisor 'xen'"),
        (host("a", 2) + "\n" + host("b", 3, user="eve"), "real.xml:3: agent of host b: user 'eve'"),
        (host("a", 2) + "\n" + host("b", 2), "real.xml: lab: '127.0.0.2:161'"),
        (host("switch", 2), "real.xml: lab: 'switch'"),
        (
            host("a", 2, '<pif name="eth0" bridge="b"/><pif name="eth1" bridge="b"/>'),
            "two would make a loop",
        ),
        (
            '<host id="a" hypervisor="netns"><agent address="192.0.2.1" user="u"/></host>',
            "real.xml:2: host a: agent address 192.0.2.1 is not allowed; allowed: of loopback",
        ),
        (
            host(
                "a", 2, '<machine name="m"><vif number="1000" mac="02:00:00:00:00:01"/></machine>'
            ),
            "real.xml: machine m: vifs[0]: number: 1000 is not allowed; allowed: 0 to 999",
        ),
    ],
)
def test_what_no_lab_can_be_is_refused_with_its_place(hosts: str, message: str) -> None:
    with pytest.raises(NotForLab) as refused:
        lab.spec_of(described(hosts))
    assert message in str(refused.value)


@pytest.mark.parametrize("name", ["", "Lab", "a-b", "../x", "1st", "a" * 17, "lab\n"])
def test_a_bad_name_of_a_lab_is_refused(name: str) -> None:
    with pytest.raises(ValueRefused, match="lab name"):
        lab_spec.directory(name)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (replace(SMALL, hosts=()), "at least one host"),
        (with_host(id="../h"), "name of a host or machine"),
        (with_host(id="c"), "each name once in a lab"),
        (with_host(address="10.0.0.1"), "an address of loopback"),
        (with_host(address="localhost"), "an address of loopback"),
        (with_host(port=0), "1 to 65535"),
        (with_host(pifs=()), "at least one"),
        (with_host(pifs=(PifSpec("a/b"),)), "device of h1"),
        (with_host(pifs=(PifSpec("lo"),)), "each device once on h1"),
        (with_host(pifs=(PifSpec("vif1.0"),)), "each device once on h1"),
        (with_host(machines=(MachineSpec("m", ()), MachineSpec("m", ()))), "each name once"),
        (with_host(machines=(MachineSpec("m", (VifSpec(0), VifSpec(0))),)), "each value once"),
        (with_host(machines=(MachineSpec("m", (VifSpec(mac="ff:ff:ff:ff:ff:ff"),)),)), "unicast"),
        (with_host(machines=(MachineSpec("m", uuid="x"),)), "UUID"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(spec: LabSpec, message: str) -> None:
    lab_spec.check(SMALL)
    with pytest.raises(ValueRefused) as refused:
        lab_spec.check(spec)
    assert message in str(refused.value)


def test_what_the_lab_chooses_is_always_the_same_and_never_twice() -> None:
    chosen = [
        lab_spec.machine("lab", one, position)
        for one in SMALL.hosts
        for position in range(len(one.machines))
    ]
    assert chosen[0] == lab_spec.machine("lab", SMALL.hosts[0], 0)
    assert len({machine.uuid for machine in chosen}) == len(chosen)
    macs = [vif.mac for machine in chosen for vif in machine.vifs]
    macs += [lab_spec.uplink_mac("lab", one, 0) for one in SMALL.hosts]
    assert len(set(macs)) == len(macs)
    assert all(mac.startswith("02:") for mac in macs)
    other = lab_spec.machine("other", SMALL.hosts[0], 0)
    assert (other.uuid, other.vifs[0].mac) != (chosen[0].uuid, chosen[0].vifs[0].mac)


def test_a_spec_survives_being_recorded() -> None:
    spec = lab.spec_of(load_real(EXAMPLES / "grid-real.xml"))
    assert lab_spec.loads(lab_spec.dumps(spec)) == spec
    assert lab_spec.loads(lab_spec.dumps(SMALL)) == SMALL


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": "x", "hosts": [{"id": "h"}]}'])
def test_a_record_of_something_else_is_no_spec(text: str) -> None:
    with pytest.raises(ValueError, match=r"no spec|Expecting"):
        lab_spec.loads(text)


def test_no_lab_s_namespaces_begin_like_another_s() -> None:
    assert not lab_spec.namespace("lab2", "a").startswith(lab_spec.prefix("lab"))


def test_only_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for attempt in (
        lambda: lab.up(SMALL),
        lambda: lab.down("lab"),
        lambda: lab.status("lab"),
        lambda: lab.names(),
        lambda: lab.command("lab", "a", ["true"]),
    ):
        with pytest.raises(NotRoot, match="sudo"):
            attempt()
    assert lab.serving(load_real(EXAMPLES / "grid-real.xml")) is None
