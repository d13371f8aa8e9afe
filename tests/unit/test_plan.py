"""The planner: the least that makes a host have the rows that are wanted, and the way back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from hypothesis import given

from vmib import canonical
from vmib.rows import (
    Addr,
    AddrKey,
    Direction,
    Domain,
    DomainKey,
    Shape,
    ShapeKey,
    StorageType,
    Switch,
    SwitchKey,
    Sync,
    Vif,
    VifKey,
    Vm,
    VmKey,
)
from vmib.schema import FIXED, describe_key
from vmib_manager.findings import error, note
from vmib_manager.model import Source
from vmib_manager.plan import HostPlan, Kind, Plan, host_plan, wanted_digest
from vmib_manager.seen import OutOfSync, Reading, Tables

from .tables import ALL_STORED, NAMES, V4, carried_out, reading_of, scalars_of, tables, told

ALICE = Vm(uuid=NAMES.vms[1].uuid, name="alice")
TO, FROM = Direction.toVm, Direction.fromVm
LAN = {"vmibDomainTable": {DomainKey(1): Domain(name="lan")}}


def planned(wanted: Tables, actual: Tables) -> HostPlan:
    return host_plan("h1", wanted, reading_of(actual))


def words(plan: HostPlan) -> list[str]:
    """`create vmibDomainTable 1: name` for each change."""
    return [
        f"{change.kind.value} {change.table.name} {describe_key(change.table, change.key)}: "
        f"{' '.join(change.fields)}".strip()
        for change in plan.changes
    ]


@given(tables(), tables())
def test_carrying_a_plan_out_gives_what_is_wanted(wanted: Tables, actual: Tables) -> None:
    plan = planned(wanted, actual)
    after = carried_out(actual, plan.changes)
    assert told(after) == told(wanted)
    assert plan.digest == canonical.digest(after, NAMES.discovered)
    assert plan.digest == wanted_digest(wanted, NAMES)
    assert plan.before == canonical.digest(actual, NAMES.discovered)
    assert not plan.kept


@given(tables(), tables())
def test_a_second_plan_is_empty(wanted: Tables, actual: Tables) -> None:
    after = carried_out(actual, planned(wanted, actual).changes)
    again = planned(wanted, after)
    assert again.changes == ()
    assert again.before == again.digest


@given(tables(), tables())
def test_backwards_gives_what_was_there(wanted: Tables, actual: Tables) -> None:
    plan = planned(wanted, actual)
    after = carried_out(actual, plan.changes)
    back = plan.backwards(generation=6, spin_lock=9)
    assert told(carried_out(after, back.changes)) == told(actual)
    assert (back.before, back.digest) == (plan.digest, plan.before)
    assert (back.generation, back.spin_lock) == (6, 9)


@given(tables(), tables(storage=ALL_STORED))
def test_rows_that_their_storage_type_protects_are_kept(wanted: Tables, actual: Tables) -> None:
    """What must not change does not; permanent rows that are wanted otherwise may still change."""
    asked = {
        name: {
            key: row
            for key, row in found.items()
            if actual[name].get(key) is None
            or actual[name][key].storage_type not in (StorageType.readOnly, StorageType.permanent)
        }
        for name, found in wanted.items()
    }
    plan = planned(asked, actual)
    after = carried_out(actual, plan.changes)
    assert plan.digest == canonical.digest(after, NAMES.discovered)
    for table, key in plan.kept:
        assert after[table.name][key] == actual[table.name][key]
    protected = {
        (name, key)
        for name, found in actual.items()
        for key, row in found.items()
        if row.storage_type is StorageType.readOnly
    }
    assert protected <= {(table.name, key) for table, key in plan.kept}
    assert planned(asked, after).changes == ()


def test_what_is_there_and_not_wanted_goes_and_the_rest_is_left_alone() -> None:
    other = {"vmibDomainTable": {DomainKey(1): Domain(name="lan"), DomainKey(2): Domain(name="x")}}
    assert words(planned(LAN, {})) == ["create vmibDomainTable 1: name"]
    assert words(planned(LAN, LAN)) == []
    assert words(planned(LAN, other)) == ["delete vmibDomainTable 2:"]
    assert words(planned({}, other)) == [
        "delete vmibDomainTable 1:",
        "delete vmibDomainTable 2:",
    ]


def test_only_what_differs_is_written() -> None:
    before = {"vmibShapeTable": {ShapeKey(1, 1, TO): Shape(rate=1000, delay=5)}}
    after = {"vmibShapeTable": {ShapeKey(1, 1, TO): Shape(rate=2000, delay=5)}}
    assert words(planned(after, before)) == ["update vmibShapeTable 1.1.toVm: rate"]
    assert words(planned(after, {})) == ["update vmibShapeTable 1.1.toVm: rate delay"]
    assert words(planned({}, after)) == ["update vmibShapeTable 1.1.toVm: rate delay"]


def test_what_the_hypervisor_determines_is_never_written() -> None:
    wanted = {
        "vmibVmTable": {VmKey(1): Vm(uuid="", name="", site="lan")},
        "vmibVifTable": {VifKey(1, 1): Vif(mac_address="", domain=1)},
    }
    plan = planned(wanted, {"vmibVmTable": {VmKey(1): replace(ALICE, site="old")}})
    assert words(plan) == ["update vmibVmTable 1: site", "update vmibVifTable 1.1: domain"]


def test_a_machine_ahead_of_its_discovery_is_created_and_removed() -> None:
    ahead = {
        "vmibVmTable": {VmKey(9): Vm(uuid="00000000-0000-4000-8000-000000000009", name="later")}
    }
    plan = planned(ahead, {})
    assert words(plan) == ["create vmibVmTable 9: uuid name"]
    assert plan.digest != plan.before
    assert words(planned({}, ahead)) == ["delete vmibVmTable 9:"]


def test_the_shape_of_an_interface_that_is_gone_is_reset_and_then_is_none() -> None:
    left = {"vmibShapeTable": {ShapeKey(3, 1, FROM): Shape(rate=1000)}}
    plan = planned({}, left)
    assert words(plan) == ["update vmibShapeTable 3.1.fromVm: rate"]
    assert plan.digest == canonical.digest({}, NAMES.discovered)


def test_a_column_that_never_changes_makes_a_new_row() -> None:
    assert FIXED["vmibSwitchTable"] == {"name"}
    before = {"vmibSwitchTable": {SwitchKey(1): Switch(name="br1", mtu=9000, vlan_id=5)}}
    after = {"vmibSwitchTable": {SwitchKey(1): Switch(name="br2", mtu=9000)}}
    plan = planned(after, before)
    assert words(plan) == ["replace vmibSwitchTable 1: name mtu"]
    assert words(plan.backwards(0, 0)) == ["replace vmibSwitchTable 1: name vlan_id mtu"]


def test_a_permanent_row_stays_permanent_and_may_be_wanted_as_it_is() -> None:
    def stored(kind: StorageType, name: str) -> Tables:
        return {"vmibDomainTable": {DomainKey(1): Domain(name=name, storage_type=kind)}}

    assert words(planned(LAN, stored(StorageType.permanent, "lan"))) == []
    assert words(planned(LAN, stored(StorageType.readOnly, "lan"))) == []
    assert words(planned(LAN, stored(StorageType.volatile, "lan"))) == [
        "update vmibDomainTable 1: storage_type"
    ]
    plan = planned(LAN, stored(StorageType.permanent, "wan"))
    assert words(plan) == ["update vmibDomainTable 1: name"]
    assert plan.changes[0].after.storage_type is StorageType.permanent


def test_an_unwanted_permanent_row_is_kept_and_listed() -> None:
    key = DomainKey(1)
    row = Domain(name="lan", storage_type=StorageType.permanent)
    plan = planned({}, {"vmibDomainTable": {key: row}})
    assert plan.changes == ()
    assert [(table.name, kept) for table, kept in plan.kept] == [("vmibDomainTable", key)]
    assert plan.digest == plan.before


def test_changes_are_in_the_order_of_the_tables_and_of_their_instances() -> None:
    addresses = {
        AddrKey(1, 1, V4, ip_address(f"10.0.0.{n}")): Addr(prefix_length=24) for n in (20, 3, 100)
    }
    wanted = {**LAN, "vmibAddrTable": addresses}
    changes = planned(wanted, {}).changes
    assert [str(change.key[-1]) for change in changes[:3]] == [
        "10.0.0.3",
        "10.0.0.20",
        "10.0.0.100",
    ]
    assert changes[3].table.name == "vmibDomainTable"


def test_a_change_knows_the_line_that_asks_for_it() -> None:
    source = Source("virtual.xml", 7)
    sources: dict[tuple[str, Any], Source] = {("vmibDomainTable", DomainKey(1)): source}
    plan = host_plan("h1", LAN, reading_of({}), sources)
    assert [change.source for change in plan.changes] == [source]


def test_nothing_changes_where_the_digest_said_enough() -> None:
    plan = host_plan("h1", LAN, Reading(scalars_of(LAN), NAMES, None))
    assert plan.changes == ()
    assert plan.digest == plan.before
    assert plan.labels["vmibDomainTable"] == {1: "lan"}


def test_drifted_rows_take_a_transaction_without_changes() -> None:
    row = OutOfSync("vmibShapeTable", ShapeKey(1, 1, TO), Sync.drifted, "somebody")
    plan = host_plan("h1", LAN, reading_of(LAN, drifted=(row,)))
    quiet = planned(LAN, LAN)
    assert (plan.changes, plan.drifted, plan.touched) == ((), (row,), True)
    assert plan.backwards(0, 0).drifted == ()
    assert not quiet.touched
    assert Plan({"h1": plan, "h2": quiet}).changed == (plan,)


def test_a_plan_counts_its_changes_and_is_good_unless_an_error_was_found() -> None:
    source = Source("virtual.xml", 7)
    one, two = planned(LAN, {}), planned({}, LAN)
    plan = Plan({"h1": one, "h2": two}, (note(source, "so", "be it"),))
    assert (plan.count(Kind.CREATE), plan.count(Kind.DELETE), plan.count(Kind.UPDATE)) == (1, 1, 0)
    assert plan.ok
    assert not replace(plan, findings=(error(source, "no", "change it"),)).ok
