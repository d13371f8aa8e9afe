"""VM-MIB: its objects have the numbers of RFC 7666, its cells say what the hypervisor says."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from vmib import vm_mib
from vmib.rows import OperStatus, VifKey, VmKey
from vmib.schema import LEAVES, locate
from vmib_agent.inventory import Inventory, Rows, VifFacts
from vmib_agent.ports import Guest, Presence
from vmib_agent.standard_vms import StandardVms

OBJECTS = {
    "vmHvSoftware": "1.1.1",
    "vmHvVersion": "1.1.2",
    "vmHvUpTime": "1.1.4",
    "vmNumber": "1.2",
    "vmTableLastChange": "1.3",
    "vmIndex": "1.4.1.1",
    "vmName": "1.4.1.2",
    "vmUUID": "1.4.1.3",
    "vmOSType": "1.4.1.4",
    "vmAdminState": "1.4.1.5",
    "vmOperState": "1.4.1.6",
    "vmAutoStart": "1.4.1.7",
    "vmPersistent": "1.4.1.8",
    "vmNetworkIndex": "1.8.1.1",
    "vmNetworkIfIndex": "1.8.1.2",
    "vmNetworkParent": "1.8.1.3",
    "vmNetworkModel": "1.8.1.4",
    "vmNetworkPhysAddress": "1.8.1.5",
    "vmPerVMNotificationsEnabled": "1.9",
    "vmBulkNotificationsEnabled": "1.10",
}
UUID = "00000000-0000-4000-8000-000000000001"
UNKNOWN, RUNNING, PAUSED, SHUTDOWN = 1, 4, 8, 11


@dataclass
class Known:
    """A host with one machine and its interface."""

    rows: Rows
    hypervisor_status: OperStatus = OperStatus.up
    vms_changed: float = 12.345
    hypervisor_version: str = "4.17.0"

    def parent_of(self, device: str) -> int:
        return {"vif1.0": 3}.get(device, 0)


def known(presence: Presence = Presence.RUNNING, device: str = "vif1.0") -> Known:
    facts = VifFacts(UUID, "02:00:00:00:00:01", 0, device, 7 if device else 0, 1500, True, True)
    vms = {VmKey(3): Guest(UUID, "web", presence, ())}
    return Known(Rows({}, Inventory(vms, {VifKey(3, 1): facts})))


def test_the_objects_have_the_numbers_of_the_rfc() -> None:
    found = {
        leaf.name: ".".join(map(str, leaf.oid[len(vm_mib.VM_MIB) :]))
        for oid, _, leaf in LEAVES
        if oid[: len(vm_mib.VM_MIB)] == vm_mib.VM_MIB
    }
    assert vm_mib.VM_MIB == (1, 3, 6, 1, 2, 1, 236)
    assert found == OBJECTS


def test_none_of_them_can_be_written() -> None:
    for oid, _, _ in LEAVES:
        place = locate((*oid, 0))
        assert place is not None
        if oid < (1, 3, 6, 1, 4):
            assert not place.object.access.writable


@pytest.mark.parametrize(
    ("presence", "admin", "oper"),
    [
        (Presence.RUNNING, 1, RUNNING),
        (Presence.PAUSED, 3, PAUSED),
        (Presence.DEFINED, 4, SHUTDOWN),
        (Presence.ABSENT, 4, UNKNOWN),
    ],
)
def test_the_states_are_those_of_the_hypervisor(presence: Presence, admin: int, oper: int) -> None:
    row = StandardVms(known(presence), "netns").tables["vmTable"]((3,))
    assert row is not None
    assert (row["name"], row["uuid"], row["os_type"]) == ("web", UUID, "")
    assert (row["admin_state"], row["oper_state"]) == (admin, oper)


def test_the_state_is_unknown_while_the_hypervisor_cannot_be_asked() -> None:
    host = known()
    host.hypervisor_status = OperStatus.down
    row = StandardVms(host, "netns").tables["vmTable"]((3,))
    assert row is not None
    assert row["oper_state"] == UNKNOWN


@pytest.mark.parametrize(("device", "if_index", "parent"), [("vif1.0", 7, 3), ("", 0, 0)])
def test_an_interface_without_a_host_end_has_no_parent(
    device: str, if_index: int, parent: int
) -> None:
    row = StandardVms(known(device=device), "netns").tables["vmNetworkTable"]((3, 1))
    assert row == {
        "if_index": if_index,
        "parent": parent,
        "model": "",
        "phys_address": "02:00:00:00:00:01",
    }


@pytest.mark.parametrize(
    ("is_persistent", "autostart", "persistent", "auto_start"),
    [(True, None, 2, 1), (True, True, 2, 2), (True, False, 2, 3), (False, False, 3, 3)],
)
def test_whether_a_machine_stays_and_starts_by_itself_is_told(
    is_persistent: bool, autostart: bool | None, persistent: int, auto_start: int
) -> None:
    guest = Guest(UUID, "web", Presence.RUNNING, (), is_persistent, autostart)
    host = Known(Rows({}, Inventory({VmKey(3): guest}, {})))
    row = StandardVms(host, "xen").tables["vmTable"]((3,))
    assert row is not None
    assert (row["persistent"], row["auto_start"]) == (persistent, auto_start)


def test_the_hypervisor_is_told_with_its_version() -> None:
    scalars = StandardVms(known(), "xen").scalars
    assert (scalars["vmHvSoftware"](), scalars["vmHvVersion"]()) == ("xen", "4.17.0")


def test_what_is_not_there_has_no_row() -> None:
    tables = StandardVms(known(), "netns").tables
    assert tables["vmTable"]((4,)) is None
    assert tables["vmNetworkTable"]((3, 2)) is None


def test_the_number_is_that_of_the_rows() -> None:
    standard = StandardVms(known(), "netns")
    assert standard.scalars["vmNumber"]() == len(list(standard.keys("vmTable"))) == 1
    assert list(standard.keys("vmNetworkTable")) == [(3, 1)]
    assert standard.scalars["vmTableLastChange"]() == 1234
    assert standard.scalars.keys() == {scalar.name for scalar in vm_mib.SCALARS}
    assert standard.tables.keys() == {table.name for table in vm_mib.TABLES}
