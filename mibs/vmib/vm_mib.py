"""The objects of VM-MIB (RFC 7666, mib-2 236) that an agent for networks can answer, as data.

Written by hand from the RFC, and read-only as its vmReadOnlyCompliances allows. Machines and their
interfaces have the numbers that they have in VMIB-MIB. What is not known of a machine (processors,
memory, storage) is not here: its objects do not exist.
"""

from __future__ import annotations

from .smi import Access, Column, Kind, Oid, Scalar, Syntax, Table, Tag

VM_MIB: Oid = (1, 3, 6, 1, 2, 1, 236)

_OBJECTS: Oid = (*VM_MIB, 1)
_HYPERVISOR: Oid = (*_OBJECTS, 1)
_VM: Oid = (*_OBJECTS, 4)
_NETWORK: Oid = (*_OBJECTS, 8)

_NUMBER = ((1, 2**31 - 1),)
_NUMBER_OR_ZERO = ((0, 2**31 - 1),)
_TEXT = Syntax(Tag.OCTET_STRING, Kind.TEXT, "SnmpAdminString", ((0, 255),))
_TICKS = Syntax(Tag.TIMETICKS, Kind.INT, "TimeTicks")
_TRUTH = Syntax(Tag.INTEGER, Kind.BOOL, "TruthValue", (), {"true": 1, "false": 2})
_COUNT = Syntax(Tag.INTEGER, Kind.INT, "Integer32", _NUMBER_OR_ZERO)
_INTERFACE = Syntax(Tag.INTEGER, Kind.INT, "InterfaceIndexOrZero", _NUMBER_OR_ZERO)

ADMIN_STATES = {"running": 1, "suspended": 2, "paused": 3, "shutdown": 4}
"""VirtualMachineAdminState."""

OPER_STATES = {
    "unknown": 1,
    "other": 2,
    "preparing": 3,
    "running": 4,
    "suspending": 5,
    "suspended": 6,
    "resuming": 7,
    "paused": 8,
    "migrating": 9,
    "shuttingdown": 10,
    "shutdown": 11,
    "crashed": 12,
}
"""VirtualMachineOperState."""

AUTO_START = {"unknown": 1, "enabled": 2, "disabled": 3}
"""VirtualMachineAutoStart."""

PERSISTENT = {"unknown": 1, "persistent": 2, "transient": 3}
"""VirtualMachinePersistent."""


def _named(convention: str, names: dict[str, int]) -> Syntax:
    return Syntax(Tag.INTEGER, Kind.NAMED, convention, (), names)


def _index(name: str, field: str, oid: Oid, convention: str) -> Column:
    syntax = Syntax(Tag.INTEGER, Kind.INT, convention, _NUMBER)
    return Column(name, field, oid, syntax, Access.NOT_ACCESSIBLE)


def _column(name: str, field: str, oid: Oid, syntax: Syntax) -> Column:
    return Column(name, field, oid, syntax, Access.READ_ONLY)


def _scalar(name: str, field: str, oid: Oid, syntax: Syntax) -> Scalar:
    return Scalar(name, field, oid, syntax, Access.READ_ONLY)


vmHvSoftware = _scalar("vmHvSoftware", "software", (*_HYPERVISOR, 1), _TEXT)
vmHvVersion = _scalar("vmHvVersion", "version", (*_HYPERVISOR, 2), _TEXT)
vmHvUpTime = _scalar("vmHvUpTime", "up_time", (*_HYPERVISOR, 4), _TICKS)
vmNumber = _scalar("vmNumber", "number", (*_OBJECTS, 2), _COUNT)
vmTableLastChange = _scalar("vmTableLastChange", "table_last_change", (*_OBJECTS, 3), _TICKS)
vmPerVMNotificationsEnabled = _scalar(
    "vmPerVMNotificationsEnabled", "per_vm_notifications_enabled", (*_OBJECTS, 9), _TRUTH
)
vmBulkNotificationsEnabled = _scalar(
    "vmBulkNotificationsEnabled", "bulk_notifications_enabled", (*_OBJECTS, 10), _TRUTH
)

vmIndex = _index("vmIndex", "vm_index", (*_VM, 1, 1), "VirtualMachineIndex")
vmName = _column("vmName", "name", (*_VM, 1, 2), _TEXT)
vmUUID = _column(
    "vmUUID",
    "uuid",
    (*_VM, 1, 3),
    Syntax(Tag.OCTET_STRING, Kind.UUID, "UUIDorZero", ((0, 0), (16, 16))),
)
vmOSType = _column("vmOSType", "os_type", (*_VM, 1, 4), _TEXT)
vmAdminState = _column(
    "vmAdminState", "admin_state", (*_VM, 1, 5), _named("VirtualMachineAdminState", ADMIN_STATES)
)
vmOperState = _column(
    "vmOperState", "oper_state", (*_VM, 1, 6), _named("VirtualMachineOperState", OPER_STATES)
)
vmAutoStart = _column(
    "vmAutoStart", "auto_start", (*_VM, 1, 7), _named("VirtualMachineAutoStart", AUTO_START)
)
vmPersistent = _column(
    "vmPersistent", "persistent", (*_VM, 1, 8), _named("VirtualMachinePersistent", PERSISTENT)
)

vmNetworkIndex = _index(
    "vmNetworkIndex", "network_index", (*_NETWORK, 1, 1), "VirtualMachineNetworkIndex"
)
vmNetworkIfIndex = _column("vmNetworkIfIndex", "if_index", (*_NETWORK, 1, 2), _INTERFACE)
vmNetworkParent = _column("vmNetworkParent", "parent", (*_NETWORK, 1, 3), _INTERFACE)
vmNetworkModel = _column("vmNetworkModel", "model", (*_NETWORK, 1, 4), _TEXT)
vmNetworkPhysAddress = _column(
    "vmNetworkPhysAddress",
    "phys_address",
    (*_NETWORK, 1, 5),
    Syntax(Tag.OCTET_STRING, Kind.MAC, "PhysAddress"),
)

vmTable = Table(
    "vmTable",
    _VM,
    (vmIndex,),
    (
        vmIndex,
        vmName,
        vmUUID,
        vmOSType,
        vmAdminState,
        vmOperState,
        vmAutoStart,
        vmPersistent,
    ),
)
vmNetworkTable = Table(
    "vmNetworkTable",
    _NETWORK,
    (vmIndex, vmNetworkIndex),
    (vmNetworkIndex, vmNetworkIfIndex, vmNetworkParent, vmNetworkModel, vmNetworkPhysAddress),
)

TABLES: tuple[Table, ...] = (vmTable, vmNetworkTable)
SCALARS: tuple[Scalar, ...] = (
    vmHvSoftware,
    vmHvVersion,
    vmHvUpTime,
    vmNumber,
    vmTableLastChange,
    vmPerVMNotificationsEnabled,
    vmBulkNotificationsEnabled,
)
