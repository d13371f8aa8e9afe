"""From a plan to varbinds: a row is a group, the lock is first, a new row for an old one
takes two waves."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import chain

from hypothesis import given

from vmib import objects
from vmib.rows import (
    Direction,
    Domain,
    DomainKey,
    Link,
    LinkKey,
    RowStatus,
    Shape,
    ShapeKey,
    Switch,
    SwitchKey,
    TxnAction,
)
from vmib.schema import instance_name, locate
from vmib_manager.plan import Kind, host_plan
from vmib_manager.seen import Tables
from vmib_manager.staging import LOCK_MODULUS, Group, action, locked, opening, varbind, waves

from .tables import V4, reading_of, tables

LINK = LinkKey(1, 1, V4, ip_address("10.0.0.2"), 32)


def staged(wanted: Tables, actual: Tables) -> list[list[Group]]:
    """The groups of a plan, wave by wave."""
    changes = host_plan("h1", wanted, reading_of(actual)).changes
    return [[group for _, group in wave] for wave in waves(changes)]


def words(group: Group) -> list[str]:
    """`vmibDomainRowStatus.1=4` for each varbind."""
    return [f"{instance_name(oid)}={value.value!r}" for oid, value in group]


def test_a_row_is_created_by_one_group_that_begins_with_its_status() -> None:
    ((group,),) = staged({"vmibLinkTable": {LINK: Link(rate=1000, delay=20)}}, {})
    suffix = ".1.1.1.4.10.0.0.2.32"
    assert words(group) == [
        f"vmibLinkRowStatus{suffix}={RowStatus.createAndGo.value}",
        f"vmibLinkRate{suffix}=1000",
        f"vmibLinkDelay{suffix}=20",
    ]


def test_a_row_is_removed_by_its_status_alone() -> None:
    ((group,),) = staged({}, {"vmibDomainTable": {DomainKey(3): Domain(name="lan")}})
    assert words(group) == [f"vmibDomainRowStatus.3={RowStatus.destroy.value}"]


def test_a_row_that_changes_has_its_changed_columns_and_no_status() -> None:
    key = ShapeKey(1, 1, Direction.toVm)
    ((group,),) = staged(
        {"vmibShapeTable": {key: Shape(rate=5, loss=7)}}, {"vmibShapeTable": {key: Shape(rate=5)}}
    )
    assert words(group) == ["vmibShapeLoss.1.1.2=7"]


def test_a_row_that_is_replaced_goes_in_the_first_wave_and_comes_in_the_second() -> None:
    first, second = staged(
        {
            "vmibSwitchTable": {SwitchKey(1): Switch(name="br2")},
            "vmibDomainTable": {DomainKey(1): Domain(name="lan")},
        },
        {"vmibSwitchTable": {SwitchKey(1): Switch(name="br1")}},
    )
    assert [words(group)[0] for group in first] == [
        f"vmibDomainRowStatus.1={RowStatus.createAndGo.value}",
        f"vmibSwitchRowStatus.1={RowStatus.destroy.value}",
    ]
    assert [words(group) for group in second] == [
        [f"vmibSwitchRowStatus.1={RowStatus.createAndGo.value}", "vmibSwitchName.1=b'br2'"]
    ]


@given(tables(), tables())
def test_every_change_is_staged_and_no_instance_twice_in_a_wave(
    wanted: Tables, actual: Tables
) -> None:
    changes = host_plan("h1", wanted, reading_of(actual)).changes
    found = waves(changes)
    assert [change for change, _ in chain(*found[:1])] == list(changes)
    assert [change for change, _ in chain(*found[1:])] == [
        change for change in changes if change.kind is Kind.REPLACE
    ]
    for wave in found:
        oids = [oid for _, group in wave for oid, _ in group]
        assert len(oids) == len(set(oids))
        for change, group in wave:
            suffix = change.table.encode_index(change.key)
            places = [locate(oid) for oid, _ in group]
            assert all(place and place.table is change.table for place in places)
            assert all(place and place.suffix == suffix for place in places)


def test_no_changes_make_no_waves() -> None:
    assert waves(()) == []


def test_a_transaction_is_opened_with_its_timeouts_and_description() -> None:
    assert words(opening(77, 120, 60, "vmib apply")) == [
        f"vmibTxnRowStatus.77={RowStatus.createAndGo.value}",
        "vmibTxnConfirmTimeout.77=120",
        "vmibTxnIdleTimeout.77=60",
        "vmibTxnDescription.77=b'vmib apply'",
    ]
    assert words((action(77, TxnAction.commit),)) == [f"vmibTxnAction.77={TxnAction.commit.value}"]


def test_the_lock_is_the_one_scalar_and_starts_again_after_its_largest_value() -> None:
    assert words((locked(5),)) == ["vmibTxnSpinLock.0=5"]
    assert words((locked(LOCK_MODULUS),)) == ["vmibTxnSpinLock.0=0"]


def test_a_varbind_has_the_type_of_its_object() -> None:
    bound = varbind(objects.vmibShapeRate, (1, 1, 2), 1000)
    assert bound.value.tag == objects.vmibShapeRate.syntax.tag
    assert bound.oid == (*objects.vmibShapeRate.oid, 1, 1, 2)
