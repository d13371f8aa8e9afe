"""Machines of network namespaces, as the files in a directory define them."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from vmib import machines
from vmib.errors import Unavailable
from vmib.machines import Machine, MachineVif
from vmib_agent.netns import NetnsHypervisor
from vmib_agent.ports import Presence


def machine(number: int, namespace: str = "/nonexistent/ns") -> Machine:
    vif = MachineVif(0, f"02:00:00:00:00:{number:02x}", "lo", "eth0")
    return Machine(str(UUID(int=number)), f"m{number}", namespace, (vif,))


def test_guests_are_the_same_object_until_something_differs(tmp_path: Path) -> None:
    machines.save(tmp_path, machine(1))
    hypervisor = NetnsHypervisor(tmp_path)
    first = hypervisor.guests()
    assert [guest.name for guest in first] == ["m1"]
    assert hypervisor.guests() is first
    machines.save(tmp_path, machine(2, "/proc/self/ns/net"))
    second = hypervisor.guests()
    assert [(guest.name, guest.presence) for guest in second] == [
        ("m1", Presence.DEFINED),
        ("m2", Presence.RUNNING),
    ]
    assert second[1].vifs[0].device == "lo"
    (tmp_path / "m1.json").unlink()
    assert [guest.name for guest in hypervisor.guests()] == ["m2"]
    assert not hypervisor.changed()


def test_a_machine_whose_namespace_is_made_runs(tmp_path: Path) -> None:
    place = tmp_path / "ns"
    machines.save(tmp_path, machine(1, str(place)))
    hypervisor = NetnsHypervisor(tmp_path)
    assert hypervisor.guests()[0].presence is Presence.DEFINED
    place.touch()
    assert hypervisor.guests()[0].presence is Presence.DEFINED
    place.unlink()
    place.symlink_to("/proc/self/ns/net")
    assert hypervisor.changed()
    assert hypervisor.guests()[0].presence is Presence.RUNNING


def test_what_is_no_machine_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / ".hidden.json").write_text("{")
    (tmp_path / "other").write_text("{")
    hypervisor = NetnsHypervisor(tmp_path)
    with pytest.raises(Unavailable, match=r"bad\.json"):
        hypervisor.guests()
    (tmp_path / "bad.json").unlink()
    assert not hypervisor.guests()
    with pytest.raises(Unavailable, match="cannot be read"):
        NetnsHypervisor(tmp_path / "nowhere").guests()


def test_two_machines_of_one_uuid_are_refused(tmp_path: Path) -> None:
    one, other = machine(1), machine(2)
    machines.save(tmp_path, one)
    machines.save(tmp_path, Machine(one.uuid, other.name, other.namespace, other.vifs))
    with pytest.raises(Unavailable, match="m1"):
        NetnsHypervisor(tmp_path).guests()
