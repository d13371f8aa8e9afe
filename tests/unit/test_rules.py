"""An intent by itself: what `check_intent` finds in rows that no SET has looked at."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from vmib.rows import (
    Addr,
    AddrKey,
    Direction,
    InetAddressType,
    Link,
    LinkKey,
    Shape,
    ShapeKey,
    StorageType,
    Switch,
    SwitchKey,
    Vif,
    VifKey,
    Vm,
    VmKey,
)
from vmib.schema import COLUMNS, FIXED, SCALARS, TABLES
from vmib_agent.checks import REFERENCES, UNIQUE, check_intent
from vmib_agent.rules import ROW_RULES, VALUE_RULES
from vmib_agent.state import Indexes, Intent
from vmib_agent.world import KnownVif, KnownVm, World

UUID = "00000000-0000-4000-8000-000000000001"
MAC = "02:00:00:00:00:01"
SHAPE = ShapeKey(1, 1, Direction.toVm)
V4 = InetAddressType.ipv4
WORLD = World(
    vms={1: KnownVm(UUID, "web", running=True)},
    vifs={(1, 1): KnownVif(MAC, 0, 1500, running=True)},
    capabilities=frozenset(SCALARS["vmibHostCapabilities"].syntax.names),
)
NUMBERS = Indexes({UUID: 1}, {(UUID, MAC): 1}, 2)

WRONG: dict[str, tuple[Intent, str]] = {
    "a value": (
        {"vmibSwitchTable": {SwitchKey(1): Switch(name="a/b")}},
        "name",
    ),
    "columns that contradict each other": (
        {"vmibShapeTable": {SHAPE: Shape(jitter=5)}},
        "jitter",
    ),
    "a dangling reference in a column": (
        {"vmibVifTable": {VifKey(1, 1): Vif(mac_address=MAC, switch_index=4)}},
        "switch_index",
    ),
    "a dangling reference in an index": (
        {"vmibLinkTable": {LinkKey(5, 1, V4, IPv4Address("10.0.0.0"), 24): Link()}},
        "row_status",
    ),
    "a burst": ({"vmibShapeTable": {SHAPE: Shape(burst=100)}}, "burst"),
    "a lasting row on a volatile one": (
        {
            "vmibVmTable": {
                VmKey(7): Vm(uuid=UUID[:-1] + "7", name="x", storage_type=StorageType.volatile)
            },
            "vmibVifTable": {VifKey(7, 1): Vif(mac_address="02:00:00:00:00:07")},
        },
        "row_status",
    ),
    "a number of another machine": (
        {"vmibVmTable": {VmKey(7): Vm(uuid=UUID, name="x")}},
        "uuid",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_intent_that_is_wrong_is_found_out(case: str) -> None:
    intent, field = WRONG[case]
    assert field in {problem.field for problem in check_intent(intent, WORLD, NUMBERS)}


def test_two_rows_with_one_name_are_both_named() -> None:
    switches = {SwitchKey(1): Switch(name="br"), SwitchKey(2): Switch(name="br")}
    problems = check_intent({"vmibSwitchTable": switches}, WORLD)
    assert {problem.key for problem in problems} == {(1,), (2,)}


def test_rows_of_a_machine_that_is_not_there_now_are_in_order() -> None:
    addr = {AddrKey(1, 1, V4, IPv4Address("10.0.0.1")): Addr(prefix_length=24)}
    intent: Intent = {
        "vmibShapeTable": {SHAPE: Shape(rate=5, burst=1514)},
        "vmibAddrTable": addr,
        "vmibVifTable": {VifKey(1, 1): Vif(mac_address=MAC, mtu=1400)},
    }
    empty = World(capabilities=WORLD.capabilities)
    assert check_intent(intent, empty, NUMBERS) == []
    assert check_intent(intent, WORLD, NUMBERS) == []
    assert check_intent(intent, empty)


def test_what_the_host_cannot_do_is_found() -> None:
    problems = check_intent({"vmibShapeTable": {SHAPE: Shape(delay=5)}}, World(), NUMBERS)
    assert {p.message.split()[3] for p in problems} == {"shapeToVm", "netem"}


def test_the_rules_name_objects_that_exist() -> None:
    assert set(VALUE_RULES) <= set(COLUMNS)
    for table, rules in ROW_RULES.items():
        for rule in rules:
            assert all(TABLES[table].column(field) for field in rule.fields)
    for table, fields in FIXED.items():
        assert all(TABLES[table].column(field).access.writable for field in fields)
    for reference in REFERENCES:
        assert reference.target in TABLES
        assert all(TABLES[reference.source].column(field) for field in reference.fields)
    for table, columns in UNIQUE.items():
        assert all(TABLES[table].column(field) for field, _ in columns)
