"""What a SET means: every class of bad request with its error-status and error-index, rows that
are created, changed and destroyed, and what stays as it was."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from vmib.canonical import digest
from vmib.rows import (
    Addr,
    AddrKey,
    Direction,
    Distribution,
    Domain,
    DomainKey,
    FilterAction,
    HostAgentMode,
    InetAddressType,
    Link,
    LinkKey,
    RouteType,
    RowStatus,
    Shape,
    ShapeKey,
    StorageType,
    Switch,
    SwitchKey,
    SwitchMode,
    Vif,
    VifAdminStatus,
    VifKey,
    Vm,
    VmAdminState,
    VmKey,
)
from vmib.schema import COLUMNS, SCALARS, TABLES
from vmib.smi import Tag
from vmib.status import ErrorStatus
from vmib_agent.numbering import discovered
from vmib_agent.persistent import Persistent
from vmib_agent.ports import Guest, GuestVif, Presence
from vmib_agent.service import SetRefused, Value, VarBind
from vmib_agent.state import Indexes, Now, State
from vmib_agent.store import decide
from vmib_agent.world import KnownVif, KnownVm, Problem, World

UUID1, UUID2, UUID9 = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 9))
MAC1, MAC2, MAC3, MAC9 = (f"02:00:00:00:00:0{n}" for n in (1, 2, 3, 9))
V4, V6 = InetAddressType.ipv4, InetAddressType.ipv6
TO, FROM = Direction.toVm, Direction.fromVm
GO, DESTROY, ACTIVE = RowStatus.createAndGo, RowStatus.destroy, RowStatus.active
NET, HOST, HOST6 = IPv4Address("10.0.0.0"), IPv4Address("10.0.0.1"), IPv6Address("fd00::1")
LINK = (1, 1, V4, NET, 24)
NOW = Now(wall=1000.0, uptime=10.0)
ALL = frozenset(SCALARS["vmibHostCapabilities"].syntax.names)
WORLD = World(
    vms={1: KnownVm(UUID1, "web", running=True), 2: KnownVm(UUID2, "db", running=False)},
    vifs={
        (1, 1): KnownVif(MAC1, 0, 1500, running=True),
        (1, 2): KnownVif(MAC2, 1, None, running=True),
        (2, 1): KnownVif(MAC3, 0, None, running=False),
    },
    capabilities=ALL,
)
INDEXES = Indexes(
    {UUID1: 1, UUID2: 2}, {(UUID1, MAC1): 1, (UUID1, MAC2): 2, (UUID2, MAC3): 1}, next_vm=3
)
EMPTY = State(spin_lock=5, indexes=INDEXES)


def vb(name: str, key: Sequence[Any], value: Any) -> VarBind:
    """A varbind by the names of the MIB and values of Python; a `Value` is taken as it is."""
    if name in SCALARS:
        scalar = SCALARS[name]
        oid = (*scalar.oid, *key)
        syntax = scalar.syntax
    else:
        table, column = COLUMNS[name]
        oid, syntax = (*column.oid, *table.encode_index(key)), column.syntax
    return VarBind(
        oid, value if isinstance(value, Value) else Value(syntax.tag, syntax.encode(value))
    )


def lock(value: int) -> VarBind:
    return vb("vmibTxnSpinLock", (0,), value)


def shape(field: str, value: Any, key: Sequence[Any] = (1, 1, TO)) -> VarBind:
    return vb(f"vmibShape{field}", key, value)


def create(table: str, key: Sequence[Any], **columns: Any) -> list[VarBind]:
    """Columns first, createAndGo last: the order must not matter."""
    cells = [vb(f"vmib{table}{field}", key, value) for field, value in columns.items()]
    return [*cells, vb(f"vmib{table}RowStatus", key, GO)]


def applied(state: State, *varbinds: VarBind, world: World = WORLD, by: str = "ann") -> State:
    return decide(state, varbinds, by, NOW, world).state


def refusal(state: State, *varbinds: VarBind, world: World = WORLD) -> tuple[str, int]:
    with pytest.raises(SetRefused) as caught:
        decide(state, varbinds, "ann", NOW, world)
    assert caught.value.reason
    return caught.value.status.name, caught.value.index


DOMAINS = {"vmibDomainTable": {DomainKey(1): Domain(name="red")}}
STORED = replace(
    EMPTY,
    intent={
        **DOMAINS,
        "vmibSwitchTable": {
            SwitchKey(1): Switch(name="br1", domain=1),
            SwitchKey(2): Switch(name="br2"),
        },
        "vmibVifTable": {VifKey(2, 1): Vif(mac_address=MAC3, switch_index=1)},
        "vmibShapeTable": {ShapeKey(1, 1, TO): Shape(delay=1000, jitter=500)},
        "vmibLinkTable": {LinkKey(*LINK): Link(rate=100)},
        "vmibAddrTable": {AddrKey(1, 1, V4, HOST): Addr(prefix_length=24)},
    },
)

STATIC = {
    "read-only column": (vb("vmibVmPresence", (1,), 1), "notWritable"),
    "read-only scalar": (vb("vmibTxnGeneration", (0,), 1), "notWritable"),
    "not-accessible column": (vb("vmibShapeDirection", (1, 1, TO), TO), "notWritable"),
    "table node": (VarBind(COLUMNS["vmibShapeRate"][0].oid, Value(2, 1)), "notWritable"),
    "entry node": (VarBind(COLUMNS["vmibShapeRate"][0].entry, Value(2, 1)), "notWritable"),
    "unknown object": (
        VarBind((*COLUMNS["vmibShapeRate"][0].entry, 99, 1, 1, 1), Value(2, 1)),
        "notWritable",
    ),
    "object of another MIB": (VarBind((1, 3, 6, 1, 2, 1, 1, 5, 0), Value(4, b"x")), "notWritable"),
    "scalar with another instance": (vb("vmibTxnSpinLock", (1,), 5), "notWritable"),
    "scalar without an instance": (vb("vmibTxnSpinLock", (), 5), "notWritable"),
    "index cut short": (
        VarBind((*COLUMNS["vmibShapeRate"][1].oid, 1, 1), Value(Tag.UNSIGNED32, 1)),
        "noCreation",
    ),
    "index too long": (
        VarBind((*COLUMNS["vmibShapeRate"][1].oid, 1, 1, 1, 1), Value(Tag.UNSIGNED32, 1)),
        "noCreation",
    ),
    "direction 3": (shape("Rate", 1, (1, 1, 3)), "noCreation"),
    "index 0": (shape("Rate", 1, (0, 1, TO)), "noCreation"),
    "address of another length than its type": (
        vb("vmibLinkRate", (1, 1, V6, NET, 24), 1),
        "noCreation",
    ),
    "host bits set": (vb("vmibLinkRate", (1, 1, V4, HOST, 24), 1), "noCreation"),
    "another type of integer": (shape("Rate", Value(Tag.INTEGER, 1)), "wrongType"),
    "an integer for a string": (
        vb("vmibSwitchName", (1,), Value(Tag.INTEGER, 5)),
        "wrongType",
    ),
    "a UUID of 15 octets": (vb("vmibVmUuid", (3,), Value(4, bytes(15))), "wrongLength"),
    "a MAC of 7 octets": (vb("vmibVifMacAddress", (1, 3), Value(4, bytes(7))), "wrongLength"),
    "an address of 5 octets": (vb("vmibSwitchAddr", (1,), Value(4, bytes(5))), "wrongLength"),
    "a name of 16 octets": (vb("vmibSwitchName", (1,), "x" * 16), "wrongLength"),
    "an unknown bit": (vb("vmibNotifyEnable", (0,), Value(4, b"\x01")), "wrongEncoding"),
    "no UTF-8": (vb("vmibVmSite", (1,), Value(4, b"\xff")), "wrongEncoding"),
    "more than a million ppm": (shape("Loss", 1_000_001), "wrongValue"),
    "an enumeration's unknown number": (
        shape("Distribution", Value(Tag.INTEGER, 9)),
        "wrongValue",
    ),
    "a number beyond its range": (vb("vmibSwitchVlanId", (1,), 4095), "wrongValue"),
    "notReady": (vb("vmibSwitchRowStatus", (1,), RowStatus.notReady), "wrongValue"),
    "createAndWait": (vb("vmibSwitchRowStatus", (9,), RowStatus.createAndWait), "wrongValue"),
    "notInService": (vb("vmibSwitchRowStatus", (1,), RowStatus.notInService), "wrongValue"),
    "StorageType other": (shape("StorageType", StorageType.other), "wrongValue"),
    "StorageType permanent": (shape("StorageType", StorageType.permanent), "wrongValue"),
    "StorageType readOnly": (shape("StorageType", StorageType.readOnly), "wrongValue"),
    "a multicast MAC": (vb("vmibVifMacAddress", (1, 3), "03:00:00:00:00:01"), "wrongValue"),
    "a zero MAC": (vb("vmibVifMacAddress", (1, 3), "00:00:00:00:00:00"), "wrongValue"),
    "the nil UUID": (vb("vmibVmUuid", (3,), Value(4, bytes(16))), "wrongValue"),
    "a name with a slash": (vb("vmibSwitchName", (1,), "a/b"), "wrongValue"),
    "the name .": (vb("vmibSwitchName", (1,), "."), "wrongValue"),
    "the name ..": (vb("vmibSwitchName", (1,), ".."), "wrongValue"),
    "a name that ends with a line feed": (vb("vmibSwitchName", (1,), "br0\n"), "wrongValue"),
    "a prefix length beyond its address": (
        vb("vmibAddrPrefixLength", (1, 1, V4, HOST), 33),
        "wrongValue",
    ),
    "a next hop of the other family": (
        vb("vmibRouteNextHop", (1, V4, NET, 24, 0), HOST6),
        "wrongValue",
    ),
    "an address type without addresses": (
        vb("vmibFilterAddrType", (0, 1), InetAddressType.dns),
        "wrongValue",
    ),
    "an interface of the host for a machine's route": (
        vb("vmibRouteIfIndex", (1, V4, NET, 24, 0), 4),
        "wrongValue",
    ),
}


@pytest.mark.parametrize("case", STATIC)
def test_what_no_state_allows_is_refused_at_its_varbind(case: str) -> None:
    bad, status = STATIC[case]
    assert refusal(EMPTY, bad) == (status, 1)
    assert refusal(EMPTY, lock(5), shape("Rate", 10), bad) == (status, 3)


KEYS: dict[str, tuple[Any, ...]] = {
    "vmibVmTable": (1,),
    "vmibVifTable": (1, 1),
    "vmibAddrTable": (1, 1, V4, HOST),
    "vmibShapeTable": (1, 1, TO),
    "vmibLinkTable": LINK,
    "vmibDomainTable": (1,),
    "vmibSwitchTable": (1,),
    "vmibRouteTable": (1, V4, NET, 24, 0),
    "vmibFilterTable": (0, 9),
    "vmibProbeTable": (1, 1, V4, HOST),
    "vmibTxnTable": (1,),
}
CONTENTS: dict[int, int | bytes | tuple[int, ...]] = {
    0x02: 1,
    0x04: b"x",
    0x05: b"",
    0x06: (1, 3),
    0x40: bytes(4),
    0x41: 1,
}
CONTENTS |= {0x42: 1, 0x43: 1, 0x44: b"x", 0x46: 1, 0x47: 1, 0x80: b"", 0x82: b""}
"""Every tag of an SNMP value, and contents for it."""


@pytest.mark.parametrize("table", KEYS)
def test_every_writable_column_takes_its_own_type_alone(table: str) -> None:
    for column in TABLES[table].columns:
        if not column.access.writable:
            continue
        for tag in CONTENTS.keys() - {column.syntax.tag}:
            bad = vb(column.name, KEYS[table], Value(tag, CONTENTS[tag]))
            assert refusal(EMPTY, lock(5), bad) == ("wrongType", 2)


def test_every_writable_scalar_takes_its_own_type_alone() -> None:
    for scalar in SCALARS.values():
        if scalar.access.writable:
            for tag in CONTENTS.keys() - {scalar.syntax.tag}:
                bad = vb(scalar.name, (0,), Value(tag, CONTENTS[tag]))
                assert refusal(EMPTY, shape("Rate", 1), bad) == ("wrongType", 2)


def test_the_lowest_bad_varbind_is_named() -> None:
    long, typed = STATIC["a name of 16 octets"][0], STATIC["another type of integer"][0]
    assert refusal(EMPTY, long, typed) == ("wrongLength", 1)
    assert refusal(EMPTY, typed, long) == ("wrongType", 1)


RULES = {
    "jitter above the delay": (
        [shape("Delay", 10, (1, 2, TO)), shape("Jitter", 11, (1, 2, TO))],
        ("wrongValue", 2),
    ),
    "jitter above the stored delay": ([shape("Jitter", 1001)], ("inconsistentValue", 1)),
    "delay below the stored jitter": (
        [shape("Rate", 1), shape("Delay", 499)],
        ("inconsistentValue", 2),
    ),
    "reordering without delay": (
        [shape("Reorder", 1, (1, 2, TO)), shape("Delay", 0, (1, 2, TO))],
        ("wrongValue", 1),
    ),
    "reordering without stored delay": (
        [shape("Reorder", 1, (1, 2, TO))],
        ("inconsistentValue", 1),
    ),
    "correlation without loss": (
        [shape("LossCorrelation", 1), shape("Loss", 0)],
        ("wrongValue", 1),
    ),
    "correlation without stored loss": ([shape("LossCorrelation", 1)], ("inconsistentValue", 1)),
    "column of a row that does not exist": (
        [vb("vmibLinkRate", (1, 2, *LINK[2:]), 1)],
        ("inconsistentName", 1),
    ),
    "shape of an interface that does not exist": (
        [shape("Rate", 1, (1, 7, TO))],
        ("inconsistentName", 1),
    ),
    "active for a row that does not exist": (
        [vb("vmibSwitchRowStatus", (9,), ACTIVE)],
        ("inconsistentValue", 1),
    ),
    "creation on an unknown interface": (
        create("Link", (1, 7, *LINK[2:])),
        ("inconsistentName", 1),
    ),
    "creation on an unknown machine": (
        create("Vif", (7, 1), MacAddress=MAC9),
        ("inconsistentName", 2),
    ),
    "a route of an unknown machine": (
        create("Route", (7, V4, NET, 24, 0)),
        ("inconsistentName", 1),
    ),
    "a filter of an unknown domain": (
        create("Filter", (7, 1), Action=FilterAction.drop),
        ("inconsistentName", 2),
    ),
    "a machine at another index than the next": (
        create("Vm", (4,), Uuid=UUID9, Name="new"),
        ("inconsistentName", 3),
    ),
    "a machine that has a number": (
        create("Vm", (3,), Name="new", Uuid=UUID2),
        ("inconsistentValue", 2),
    ),
    "an interface with the number of another": (
        create("Vif", (1, 2), MacAddress=MAC9),
        ("inconsistentValue", 2),
    ),
    "a machine's name in use": (
        create("Vm", (3,), Uuid=UUID9, Name="db"),
        ("inconsistentValue", 2),
    ),
    "createAndGo on an existing row": (
        create("Switch", (1,), Name="br9"),
        ("inconsistentValue", 2),
    ),
    "createAndGo on a discovered row": (
        create("Vm", (1,), Uuid=UUID1, Name="web"),
        ("inconsistentValue", 3),
    ),
    "a mandatory column missing": (
        create("Switch", (9,), Mtu=1500),
        ("inconsistentValue", 2),
    ),
    "destroy of a switch in use": (
        [vb("vmibSwitchRowStatus", (1,), DESTROY)],
        ("inconsistentValue", 1),
    ),
    "destroy of a domain in use": (
        [vb("vmibDomainRowStatus", (1,), DESTROY)],
        ("inconsistentValue", 1),
    ),
    "destroy of a discovered machine": (
        [vb("vmibVmRowStatus", (1,), DESTROY)],
        ("inconsistentValue", 1),
    ),
    "destroy of a discovered interface": (
        [vb("vmibVifRowStatus", (2, 1), DESTROY)],
        ("inconsistentValue", 1),
    ),
    "columns beside destroy": (
        [vb("vmibSwitchRowStatus", (2,), DESTROY), vb("vmibSwitchMtu", (2,), 1400)],
        ("inconsistentValue", 2),
    ),
    "burst below a full frame": ([shape("Burst", 1513)], ("inconsistentValue", 1)),
    "burst of a link below a full frame": (
        [vb("vmibLinkBurst", LINK, 100)],
        ("inconsistentValue", 1),
    ),
    "burst below a full frame of the MTU in the same SET": (
        [shape("Burst", 9013), vb("vmibVifMtu", (1, 1), 9000)],
        ("inconsistentValue", 1),
    ),
    "a bridge's name in use": (create("Switch", (3,), Name="br1"), ("inconsistentValue", 1)),
    "a bridge's new name": ([vb("vmibSwitchName", (1,), "br3")], ("inconsistentValue", 1)),
    "a domain's name in use": (create("Domain", (2,), Name="red"), ("inconsistentValue", 1)),
    "a MAC address in use": (create("Vif", (2, 2), MacAddress=MAC1), ("inconsistentValue", 1)),
    "the MAC address of a discovered interface": (
        [vb("vmibVifMacAddress", (2, 1), MAC9)],
        ("inconsistentValue", 1),
    ),
    "the name of a discovered machine": ([vb("vmibVmName", (1,), "www")], ("inconsistentValue", 1)),
    "the UUID of a discovered machine": ([vb("vmibVmUuid", (1,), UUID9)], ("inconsistentValue", 1)),
    "an address on two interfaces of a machine": (
        create("Addr", (1, 2, V4, HOST), PrefixLength=24),
        ("inconsistentValue", 2),
    ),
    "another prefix length of an address": (
        [vb("vmibAddrPrefixLength", (1, 1, V4, HOST), 25)],
        ("inconsistentValue", 1),
    ),
    "an unknown switch": ([vb("vmibVifSwitchIndex", (1, 1), 9)], ("inconsistentValue", 1)),
    "an unknown domain": ([vb("vmibSwitchDomain", (2,), 9)], ("inconsistentValue", 1)),
    "a filter for an unknown machine": (
        create("Filter", (1, 1), Action=FilterAction.drop, VmIndex=9),
        ("inconsistentValue", 2),
    ),
    "a filter for an unknown interface": (
        create("Filter", (1, 1), Action=FilterAction.drop, VmIndex=1, VifIndex=9),
        ("inconsistentValue", 3),
    ),
    "a route through an unknown interface": (
        create("Route", (1, V4, NET, 24, 0), VifIndex=9),
        ("inconsistentValue", 1),
    ),
    "a filter's address of another family": (
        create("Filter", (1, 1), Action=FilterAction.drop, AddrType=V6, Src=HOST, SrcPrefix=32),
        ("wrongValue", 3),
    ),
    "a filter's address without its family": (
        create("Filter", (1, 1), Action=FilterAction.drop, Src=HOST, SrcPrefix=32),
        ("inconsistentValue", 2),
    ),
    "a filter's host bits": (
        create("Filter", (1, 1), Action=FilterAction.drop, AddrType=V4, Dst=HOST, DstPrefix=24),
        ("wrongValue", 3),
    ),
    "ports in the wrong order": (
        create("Filter", (1, 1), Action=FilterAction.drop, Protocol=6, SrcPortMin=9, SrcPortMax=8),
        ("wrongValue", 3),
    ),
    "ports of a protocol without": (
        create("Filter", (1, 1), Action=FilterAction.drop, Protocol=1, DstPortMin=9),
        ("wrongValue", 3),
    ),
    "ports of any protocol": (
        create("Filter", (1, 1), Action=FilterAction.drop, DstPortMax=9),
        ("inconsistentValue", 2),
    ),
    "a blackhole with a next hop": (
        create("Route", (0, V4, NET, 24, 0), Type=RouteType.blackhole, NextHop=HOST),
        ("wrongValue", 2),
    ),
    "a route of the host to nowhere": (
        create("Route", (0, V4, NET, 24, 0)),
        ("inconsistentValue", 1),
    ),
    "an uplink of an isolated switch": (
        [vb("vmibSwitchUplinkIfIndex", (1,), 3)],
        ("inconsistentValue", 1),
    ),
    "a lasting row on a volatile one": (
        [
            *create("Vm", (3,), Uuid=UUID9, Name="new", StorageType=StorageType.volatile),
            *create("Vif", (3, 1), MacAddress=MAC9),
        ],
        ("inconsistentValue", 6),
    ),
    "a row that lasting ones need turned volatile": (
        [vb("vmibSwitchStorageType", (1,), StorageType.volatile)],
        ("inconsistentValue", 1),
    ),
    "the same instance with two values": (
        [shape("Rate", 1), shape("Delay", 2000), shape("Rate", 2)],
        ("inconsistentValue", 3),
    ),
    "another value of the lock": ([shape("Rate", 1), lock(4)], ("inconsistentValue", 2)),
}


@pytest.mark.parametrize("case", RULES)
def test_what_contradicts_the_stored_state_is_refused_at_its_varbind(case: str) -> None:
    varbinds, expected = RULES[case]
    assert refusal(STORED, *varbinds) == expected


def test_the_lock_is_tested_before_anything_that_the_state_decides() -> None:
    assert refusal(STORED, vb("vmibSwitchRowStatus", (1,), DESTROY), lock(6)) == (
        "inconsistentValue",
        2,
    )


def test_a_switch_needs_its_host_address_in_the_family_it_says() -> None:
    switch = {"Name": "br9", "Mode": SwitchMode.nat, "AddrType": V6}
    assert refusal(EMPTY, *create("Switch", (9,), **switch, Addr=HOST)) == ("wrongValue", 4)
    state = applied(
        EMPTY, *create("Switch", (9,), **(switch | {"AddrType": V4}), Addr=HOST, AddrPrefix=24)
    )
    assert state.intent["vmibSwitchTable"][9,].addr == HOST


NEEDED = {
    "netem": [shape("Delay", 10)],
    "shapeToVm": [shape("Rate", 10)],
    "shapeFromVm": [shape("Rate", 10, (1, 1, FROM))],
    "links": create("Link", (1, 2, *LINK[2:])),
    "switches": create("Switch", (9,), Name="br9"),
    "filters": create("Domain", (9,), Name="blue"),
    "routes": create("Route", (1, V4, NET, 24, 0)),
    "addresses": create("Addr", (2, 1, V4, HOST), PrefixLength=24),
    "ipv6": create("Addr", (2, 1, V6, HOST6), PrefixLength=64),
    "probes": create("Probe", (1, 1, V4, HOST)),
    "nat": create("Switch", (9,), Name="br9", Mode=SwitchMode.nat),
    "vlans": create("Switch", (9,), Name="br9", Mode=SwitchMode.bridged, UplinkIfIndex=2, VlanId=7),
    "vmControl": [vb("vmibVmAdminState", (1,), VmAdminState.running)],
    "transactions": create("Txn", (9,), ConfirmTimeout=0),
    "confirmedCommit": create("Txn", (9,)),
}


@pytest.mark.parametrize("capability", NEEDED)
def test_what_the_host_cannot_do_is_refused_by_name(capability: str) -> None:
    without = replace(WORLD, capabilities=ALL - {capability})
    with pytest.raises(SetRefused, match=f"lacks {capability}") as caught:
        decide(EMPTY, NEEDED[capability], "ann", NOW, without)
    assert caught.value.status is ErrorStatus.resourceUnavailable
    assert 1 <= caught.value.index <= len(NEEDED[capability])
    assert decide(EMPTY, NEEDED[capability], "ann", NOW, WORLD).state != EMPTY


def test_what_a_lost_capability_made_can_still_be_cleared() -> None:
    without = replace(WORLD, capabilities=ALL - {"netem", "shapeToVm", "links"})
    state = applied(STORED, shape("Delay", 0), shape("Jitter", 0), world=without)
    state = applied(state, vb("vmibLinkRowStatus", LINK, DESTROY), world=without)
    assert "vmibShapeTable" not in state.intent
    assert "vmibLinkTable" not in state.intent


def test_a_table_that_is_full_takes_no_row() -> None:
    full = replace(WORLD, limits={"vmibSwitchTable": 2})
    assert refusal(STORED, *create("Switch", (3,), Name="br3"), world=full) == (
        "resourceUnavailable",
        2,
    )


def test_what_a_dry_run_finds_is_told_at_the_varbind_of_the_row() -> None:
    def feasible(intent: Any) -> list[Problem]:
        row = intent.get("vmibShapeTable", {}).get((1, 1, TO))
        status = ErrorStatus.resourceUnavailable
        if row is None or row.rate < 50:
            return []
        return [Problem("vmibShapeTable", (1, 1, TO), "rate", status, "no more bands")]

    world = replace(WORLD, feasible=feasible)
    assert refusal(EMPTY, lock(5), shape("Rate", 60), world=world) == ("resourceUnavailable", 2)
    standing = applied(EMPTY, shape("Rate", 60))
    assert applied(standing, shape("Rate", 1, (1, 2, TO)), world=world).generation == 2


@pytest.mark.parametrize("storage", [StorageType.readOnly, StorageType.permanent])
def test_rows_of_the_agents_configuration_are_not_writable(storage: StorageType) -> None:
    switches = {SwitchKey(1): Switch(name="br1", storage_type=storage)}
    state = replace(EMPTY, intent={"vmibSwitchTable": switches})
    assert refusal(state, lock(5), vb("vmibSwitchRowStatus", (1,), DESTROY)) == ("notWritable", 2)
    kept = vb("vmibSwitchStorageType", (1,), StorageType.nonVolatile)
    assert refusal(state, lock(5), kept) == ("notWritable", 2)
    mtu = vb("vmibSwitchMtu", (1,), 1400)
    if storage is StorageType.readOnly:
        assert refusal(state, lock(5), mtu) == ("notWritable", 2)
    else:
        assert applied(state, mtu).intent["vmibSwitchTable"][1,].mtu == 1400


def test_an_agent_that_is_read_only_refuses_configuration_but_not_its_own_settings() -> None:
    world = replace(WORLD, mode=HostAgentMode.readOnly)
    assert refusal(EMPTY, lock(5), shape("Rate", 1), world=world) == ("notWritable", 2)
    assert refusal(EMPTY, *create("Txn", (9,)), world=world) == ("notWritable", 1)
    assert applied(EMPTY, vb("vmibTxnHistorySize", (0,), 7), world=world).history_size == 7


def test_an_agent_that_is_recovering_refuses_configuration_for_now() -> None:
    world = replace(WORLD, mode=HostAgentMode.recovering)
    assert refusal(EMPTY, lock(5), shape("Rate", 1), shape("Burst", 9999), world=world) == (
        "inconsistentValue",
        2,
    )


def test_the_lock_counts_up_once_for_each_set_and_around_the_end() -> None:
    assert applied(EMPTY, lock(5), lock(5)).spin_lock == 6
    assert applied(replace(EMPTY, spin_lock=2**31 - 1), lock(2**31 - 1)).spin_lock == 0
    assert applied(EMPTY, lock(5)).generation == 0


def test_scalars_are_written() -> None:
    state = applied(
        EMPTY,
        vb("vmibNotifyEnable", (0,), {"drift"}),
        vb("vmibNotifyMinInterval", (0,), 30),
        vb("vmibTxnHistorySize", (0,), 2),
    )
    assert (state.notify_enable, state.notify_min_interval) == (frozenset({"drift"}), 30)
    assert state.history_size == 2


def test_one_varbind_shapes_an_interface_and_writing_the_default_clears_it() -> None:
    decision = decide(EMPTY, [lock(5), shape("Rate", 1000)], "ann", NOW, WORLD)
    state = decision.state
    assert decision.applies
    assert state.intent == {"vmibShapeTable": {(1, 1, TO): Shape(rate=1000)}}
    assert (state.generation, state.last_change, state.last_change_by) == (1, 1000.0, "ann")
    assert decision.position("vmibShapeTable", (1, 1, TO)) == 2
    assert applied(state, shape("Rate", 0)).intent == {}


def test_a_set_that_changes_nothing_leaves_the_generation() -> None:
    state = applied(EMPTY, shape("Rate", 7))
    decision = decide(state, [shape("Rate", 7), lock(5)], "bob", Now(2000.0, 20.0), WORLD)
    assert not decision.applies
    assert decision.state == replace(state, spin_lock=6)


@pytest.mark.parametrize("turn", range(5))
def test_the_order_of_varbinds_does_not_matter(turn: int) -> None:
    pdu = [
        *create("Switch", (5,), Name="br5", Domain=5),
        *create("Domain", (5,), Name="blue"),
        vb("vmibVifSwitchIndex", (1, 1), 5),
        *create("Vm", (3,), Uuid=UUID9, Name="new"),
        *create("Vif", (3, 4), MacAddress=MAC9, SwitchIndex=5),
        shape("Rate", 10, (3, 4, TO)),
        *create("Link", (3, 4, *LINK[2:]), Delay=5, Jitter=5),
    ]
    straight = applied(EMPTY, *pdu)
    turned = applied(EMPTY, *pdu[turn * 3 :], *pdu[: turn * 3])
    assert straight == turned
    assert straight.intent["vmibLinkTable"][3, 4, V4, NET, 24].jitter == 5


def test_a_created_row_has_its_defaults() -> None:
    state = applied(EMPTY, *create("Switch", (5,), Name="br5"))
    assert state.intent["vmibSwitchTable"][5,] == Switch(name="br5")
    assert applied(state, vb("vmibSwitchRowStatus", (5,), ACTIVE)) == state


def test_destroy_of_a_row_that_does_not_exist_is_no_error() -> None:
    assert applied(EMPTY, vb("vmibSwitchRowStatus", (9,), DESTROY)) == EMPTY


def test_what_is_destroyed_together_with_all_that_needs_it_goes() -> None:
    state = applied(
        STORED,
        vb("vmibDomainRowStatus", (1,), DESTROY),
        vb("vmibSwitchRowStatus", (1,), DESTROY),
        vb("vmibVifSwitchIndex", (2, 1), 0),
    )
    assert "vmibDomainTable" not in state.intent
    assert "vmibVifTable" not in state.intent


DEPENDANTS = {
    "an address": create("Addr", (3, 1, V4, HOST), PrefixLength=24),
    "a link": create("Link", (3, 1, *LINK[2:])),
    "a probe": create("Probe", (3, 1, V4, HOST)),
    "shaping": [shape("Rate", 1, (3, 1, TO))],
    "a route": create("Route", (3, V4, NET, 24, 0), VifIndex=1),
    "a filter": create("Filter", (0, 1), Action=FilterAction.drop, VmIndex=3, VifIndex=1),
}


@pytest.mark.parametrize("dependant", DEPENDANTS)
def test_a_created_interface_stays_while_something_needs_it(dependant: str) -> None:
    machine = create("Vm", (3,), Uuid=UUID9, Name="new")
    state = applied(EMPTY, *machine, *create("Vif", (3, 1), MacAddress=MAC9))
    needed = applied(state, *DEPENDANTS[dependant])
    destroy = vb("vmibVifRowStatus", (3, 1), DESTROY)
    assert refusal(needed, destroy) == ("inconsistentValue", 1)
    assert "vmibVifTable" not in applied(state, destroy).intent
    assert refusal(state, vb("vmibVmRowStatus", (3,), DESTROY)) == ("inconsistentValue", 1)


def test_a_discovered_row_is_stored_only_while_it_differs() -> None:
    state = applied(EMPTY, vb("vmibVmSite", (1,), "north"), vb("vmibVifSpoofGuard", (1, 1), False))
    assert state.intent["vmibVmTable"] == {(1,): Vm(uuid=UUID1, name="web", site="north")}
    state = applied(state, vb("vmibVmSite", (1,), ""), vb("vmibVmName", (1,), "web"))
    state = applied(state, vb("vmibVifSpoofGuard", (1, 1), True))
    assert state.intent == {}
    assert state.generation == 3


def test_a_created_interface_keeps_its_number_when_its_mac_address_changes() -> None:
    state = applied(EMPTY, *create("Vif", (2, 4), MacAddress=MAC9))
    assert state.indexes.vifs[UUID2, MAC9] == 4
    changed = applied(state, vb("vmibVifMacAddress", (2, 4), "02:00:00:00:00:99"))
    assert changed.indexes.vifs[UUID2, "02:00:00:00:00:99"] == 4
    assert (UUID2, MAC9) not in changed.indexes.vifs
    running = replace(WORLD, vms={**WORLD.vms, 2: KnownVm(UUID2, "db", running=True)})
    assert refusal(state, vb("vmibVifMacAddress", (2, 4), "02:00:00:00:00:99"), world=running) == (
        "inconsistentValue",
        1,
    )


def test_numbers_are_never_given_to_another() -> None:
    state = applied(EMPTY, *create("Vif", (2, 4), MacAddress=MAC9))
    state = applied(state, vb("vmibVifRowStatus", (2, 4), DESTROY))
    other = create("Vif", (2, 4), MacAddress="02:00:00:00:00:99")
    assert refusal(state, *other) == ("inconsistentName", 2)
    assert applied(state, *create("Vif", (2, 4), MacAddress=MAC9)).indexes == state.indexes
    guests = [
        Guest(UUID2, "db", Presence.RUNNING, (GuestVif(0, MAC3, ""), GuestVif(1, MAC9, ""))),
        Guest(UUID9, "new", Presence.DEFINED, (GuestVif(0, MAC1, ""),)),
    ]
    seen = discovered(state, guests)
    assert seen.indexes.vms == {UUID1: 1, UUID2: 2, UUID9: 3}
    assert seen.indexes.vifs[UUID2, MAC9] == 4
    assert seen.indexes.vifs[UUID9, MAC1] == 1
    assert seen.indexes.next_vm == 4
    assert discovered(seen, guests[:1]) is seen


def test_a_machine_made_again_gets_its_own_number() -> None:
    state = applied(EMPTY, *create("Vm", (3,), Uuid=UUID9, Name="new"))
    state = applied(state, vb("vmibVmRowStatus", (3,), DESTROY))
    assert state.indexes.next_vm == 4
    assert refusal(state, *create("Vm", (4,), Uuid=UUID9, Name="new")) == ("inconsistentValue", 1)
    again = applied(state, *create("Vm", (3,), Uuid=UUID9, Name="new"))
    assert again.intent["vmibVmTable"] == {VmKey(3): Vm(uuid=UUID9, name="new")}


def test_rows_of_a_machine_that_has_gone_can_be_changed_and_cleared() -> None:
    gone = replace(WORLD, vms={}, vifs={})
    state = applied(STORED, shape("Delay", 2000), world=gone)
    assert state.intent["vmibShapeTable"][1, 1, TO].delay == 2000
    state = applied(state, shape("Delay", 0), shape("Jitter", 0), world=gone)
    assert "vmibShapeTable" not in state.intent
    assert refusal(state, shape("Rate", 1), world=gone) == ("inconsistentName", 1)


def test_an_mtu_that_a_stored_burst_cannot_pass_is_refused() -> None:
    state = applied(EMPTY, shape("Burst", 1514))
    assert refusal(state, lock(5), vb("vmibVifMtu", (1, 1), 9000)) == ("inconsistentValue", 2)
    assert applied(state, vb("vmibVifMtu", (1, 1), 9000), shape("Burst", 9014)).generation == 2


def test_two_machines_may_have_the_same_address() -> None:
    state = applied(STORED, *create("Addr", (2, 1, V4, HOST), PrefixLength=24))
    assert len(state.intent["vmibAddrTable"]) == 2


def test_a_refused_set_leaves_the_state_as_it_was() -> None:
    before = digest(STORED.intent, {})
    refusal(STORED, lock(5), shape("Rate", 1), vb("vmibSwitchRowStatus", (1,), DESTROY))
    assert digest(STORED.intent, {}) == before
    assert STORED.spin_lock == 5


def test_values_are_stored_as_the_rows_declare_them() -> None:
    state = applied(
        EMPTY,
        shape("Distribution", Distribution.pareto),
        vb("vmibVifAdminStatus", (1, 1), VifAdminStatus.down),
    )
    assert state.intent["vmibShapeTable"][1, 1, TO].distribution is Distribution.pareto
    assert state.intent["vmibVifTable"][1, 1].admin_status is VifAdminStatus.down


def test_64_varbinds_are_quick_beside_ten_thousand_links() -> None:
    links = {
        LinkKey(1, 1, V4, IPv4Address(0x0A000000 + n), 32): Link(rate=n) for n in range(10_000)
    }
    state = replace(EMPTY, intent={"vmibLinkTable": Persistent(links)})
    pdu = [
        vb(f"vmibLink{field}", (1, 1, V4, IPv4Address(0x0A000000 + n), 32), 5000)
        for n in range(16)
        for field in ("Rate", "Delay", "Jitter", "QueueLimit")
    ]
    took = []
    for _ in range(5):
        start = time.perf_counter()
        decide(state, pdu, "ann", NOW, WORLD)
        took.append(time.perf_counter() - start)
    assert min(took) < 0.0064
