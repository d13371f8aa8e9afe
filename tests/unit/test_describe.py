"""Rows and changes as people read them."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from vmib import objects, rows
from vmib.rows import (
    AddrKey,
    Direction,
    Domain,
    DomainKey,
    Filter,
    FilterAction,
    FilterKey,
    InetAddressType,
    Link,
    LinkKey,
    Route,
    RouteKey,
    RouteType,
    Shape,
    ShapeKey,
    Switch,
    SwitchKey,
    Vif,
    VifKey,
    Vm,
    VmKey,
)
from vmib.schema import CONFIGURATION, TABLES
from vmib_manager.describe import Describer
from vmib_manager.plan import host_plan
from vmib_manager.seen import SeenVm, Tables, labels_of

from .tables import KEYS, NAMES, V4, reading_of, some_rows

FROM = Direction.fromVm
TEN = ip_address("10.0.0.0")
LABELS = labels_of(
    {
        "vmibDomainTable": {DomainKey(1): Domain(name="lan"), DomainKey(2): Domain(name="wan")},
        "vmibSwitchTable": {SwitchKey(1): Switch(name="br-lan")},
    }
)
DESCRIBER = Describer(NAMES, LABELS)


@pytest.mark.parametrize(
    ("table", "key", "row", "text"),
    [
        ("vmibVmTable", VmKey(1), None, "machine alice"),
        ("vmibVmTable", VmKey(9), None, "machine #9"),
        ("vmibVmTable", VmKey(9), Vm(uuid="", name="later"), "machine later"),
        ("vmibVifTable", VifKey(9, 1), None, "vif #9:vif 1"),
        ("vmibVifTable", VifKey(1, 2), None, "vif alice:1"),
        ("vmibVifTable", VifKey(3, 1), None, "vif gone:vif 1"),
        (
            "vmibAddrTable",
            AddrKey(2, 1, V4, ip_address("10.0.0.1")),
            rows.Addr(prefix_length=24),
            "address bob:0 10.0.0.1/24",
        ),
        ("vmibShapeTable", ShapeKey(1, 1, FROM), None, "shape alice:0 sends"),
        ("vmibShapeTable", ShapeKey(1, 1, Direction.toVm), None, "shape alice:0 receives"),
        ("vmibLinkTable", LinkKey(1, 1, V4, TEN, 8), None, "link alice:0 to 10.0.0.0/8"),
        (
            "vmibLinkTable",
            LinkKey(1, 1, InetAddressType.ipv6, ip_address("fd00::1"), 128),
            None,
            "link alice:0 to fd00::1",
        ),
        ("vmibDomainTable", DomainKey(2), None, "domain wan"),
        ("vmibDomainTable", DomainKey(7), None, "domain 7"),
        ("vmibSwitchTable", SwitchKey(1), None, "switch br-lan"),
        ("vmibRouteTable", RouteKey(0, V4, TEN, 8, 0), None, "route host to 10.0.0.0/8"),
        ("vmibRouteTable", RouteKey(2, V4, TEN, 8, 5), None, "route bob to 10.0.0.0/8 metric 5"),
        ("vmibFilterTable", FilterKey(1, 20), None, "filter lan 20"),
    ],
)
def test_a_row_is_called_by_what_it_is_about(table: str, key: Any, row: Any, text: str) -> None:
    assert DESCRIBER.subject(TABLES[table], key, row) == text


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("vmibShapeRate", 0, "unlimited"),
        ("vmibShapeRate", 1500, "1.5Mbit"),
        ("vmibShapeDelay", 20_000, "20ms"),
        ("vmibShapeLoss", 5000, "0.5%"),
        ("vmibShapeBurst", 0, "auto"),
        ("vmibShapeQueueLimit", 15_000, "15kB"),
        ("vmibVifDomain", 1, "lan"),
        ("vmibVifDomain", 0, "none"),
        ("vmibVifSwitchIndex", 1, "br-lan"),
        ("vmibVifSwitchIndex", 0, "none"),
        ("vmibVmSite", "", "none"),
        ("vmibVifSpoofGuard", False, "false"),
        ("vmibRouteIfIndex", 2, "eth0"),
        ("vmibRouteIfIndex", 3, "#3"),
        ("vmibRouteNextHop", None, "none"),
    ],
)
def test_a_value_has_its_unit_or_its_name(field: str, value: Any, text: str) -> None:
    assert DESCRIBER.value(getattr(objects, field), value) == text


def what(wanted: Tables, actual: Tables) -> str:
    """What the one change of a plan does."""
    (change,) = host_plan("h1", wanted, reading_of(actual)).changes
    return DESCRIBER.what(change)


def test_a_change_tells_the_old_value_and_the_new() -> None:
    key = ShapeKey(1, 1, FROM)
    before = {"vmibShapeTable": {key: Shape(rate=1000)}}
    after = {"vmibShapeTable": {key: Shape(rate=2000, queue_limit=15_000)}}
    assert what(after, before) == "rate 1Mbit → 2Mbit, queue-limit auto → 15kB"
    assert what({}, before) == "rate 1Mbit → unlimited"


def test_a_new_row_tells_what_it_is_given() -> None:
    link = LinkKey(1, 1, V4, TEN, 8)
    assert what({"vmibLinkTable": {link: Link(rate=1000, delay=500)}}, {}) == (
        "rate 1Mbit, delay 500us"
    )
    assert what({}, {"vmibLinkTable": {link: Link(rate=1000)}}) == ""
    assert what({"vmibDomainTable": {DomainKey(1): Domain(name="lan")}}, {}) == ""


def test_a_new_row_in_place_of_another_tells_what_differs() -> None:
    before = {"vmibSwitchTable": {SwitchKey(1): Switch(name="br1", mtu=9000, vlan_id=5)}}
    after = {"vmibSwitchTable": {SwitchKey(1): Switch(name="br2", mtu=9000)}}
    assert what(after, before) == "name br1 → br2, vlan-id 5 → 0"


def test_interfaces_in_rows_have_the_names_of_their_machines() -> None:
    key = RouteKey(1, V4, TEN, 8, 0)
    route = Route(next_hop=ip_address("10.1.0.1"), vif_index=2)
    assert what({"vmibRouteTable": {key: route}}, {}) == "next-hop 10.1.0.1, through alice:1"
    onto = replace(route, vif_index=1, type=RouteType.blackhole, next_hop=None)
    assert what({"vmibRouteTable": {key: onto}}, {"vmibRouteTable": {key: route}}) == (
        "next-hop 10.1.0.1 → none, vif alice:1 → alice:0, type unicast → blackhole"
    )
    vif = {"vmibVifTable": {VifKey(1, 1): Vif(mac_address="", switch_index=1, domain=2)}}
    assert what(vif, {}) == "switch none → br-lan, domain none → wan"


def test_a_filter_is_a_sentence() -> None:
    def sentence(**columns: Any) -> str:
        return what({"vmibFilterTable": {FilterKey(1, 10): Filter(**columns)}}, {})

    assert sentence(action=FilterAction.drop) == "drop leaving from any to any"
    assert (
        sentence(
            action=FilterAction.accept,
            direction=Direction.toVm,
            addr_type=V4,
            src=TEN,
            src_prefix=8,
            dst=ip_address("10.0.0.1"),
            dst_prefix=32,
            protocol=6,
            dst_port_min=80,
            dst_port_max=80,
            src_port_min=1024,
        )
        == "accept entering from 10.0.0.0/8 to 10.0.0.1 tcp from ports 1024-65535 to port 80"
    )
    assert sentence(action=FilterAction.reject, vm_index=1, vif_index=2, protocol=47) == (
        "reject leaving alice:1 from any to any protocol 47"
    )
    assert sentence(action=FilterAction.drop, vm_index=2) == "drop leaving bob from any to any"


@pytest.mark.parametrize("table", CONFIGURATION, ids=lambda table: table.name)
def test_there_are_words_for_every_change_of_every_table(table: Any) -> None:
    key = rows.KEYS[table.name](*KEYS[table.name][0])
    found = [{table.name: {key: row}} for row in some_rows(table.name, ())]
    for after in ({}, *found):
        for before in ({}, found[-1]):
            for change in host_plan("h1", after, reading_of(before)).changes:
                assert DESCRIBER.subject(table, key, change.after or change.before).isprintable()
                assert DESCRIBER.what(change).isprintable()


def test_what_an_agent_calls_things_is_shown_and_not_obeyed() -> None:
    names = replace(NAMES, vms={1: SeenVm("", "a\x1b]0;b\x07\n", True)})
    labels = {"vmibDomainTable": {1: "l\x9bn"}, "vmibSwitchTable": {}}
    describer = Describer(names, labels)
    assert describer.subject(TABLES["vmibVifTable"], VifKey(1, 1)) == r"vif a\x1b]0;b\x07\n:0"
    assert describer.subject(TABLES["vmibDomainTable"], DomainKey(1)) == r"domain l\x9bn"
    assert describer.value(objects.vmibVmSite, "x\ty") == r"x\ty"
    change = host_plan(
        "h1",
        {"vmibVmTable": {VmKey(1): Vm(uuid="", name="", site="\x1bc")}},
        reading_of({}),
    ).changes[0]
    assert describer.what(change) == r"site none → \x1bc"
