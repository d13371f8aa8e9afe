"""Rows of hosts: everything the two files say, in the MIB's terms and only there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from ipaddress import ip_address, ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.canonical import DETERMINED
from vmib.errors import ValueRefused
from vmib.rows import (
    Direction,
    DomainDefaultAction,
    FilterAction,
    InetAddressType,
    Link,
    Route,
    RouteType,
    Shape,
    SwitchMode,
)
from vmib.schema import TABLES
from vmib_manager import filters
from vmib_manager.checks import check, has_errors
from vmib_manager.compile import compile_rows, domain_indexes
from vmib_manager.connections import blocks
from vmib_manager.description import load
from vmib_manager.model import Model
from vmib_manager.reachability import expected
from vmib_manager.wanted import VifRef, VmRef, WantedRow, resolve

from .descriptions import described, model_of, real_xml

EXAMPLES = Path(__file__).parents[2] / "manager" / "examples"
PAIRS = [
    ("grid-real", "grid-virtual"),
    ("grid-real", "grid-virtual-100M"),
    ("two-machines-real", "two-machines-virtual"),
    ("two-machines-real", "satellite-virtual"),
]


def example(real: str, virtual: str) -> Model:
    return load(EXAMPLES / f"{real}.xml", EXAMPLES / f"{virtual}.xml")


@dataclass(frozen=True)
class Numbers:
    """A host whose machines have the numbers of their order of asking."""

    seen: dict[str, int]

    def vm_index(self, machine: str) -> int:
        return self.seen.setdefault(machine, len(self.seen) + 1)

    def vif_index(self, machine: str, number: int) -> int:
        return 100 * self.vm_index(machine) + number

    def if_index(self, pif: str) -> int:
        return 1000 + len(pif)


def table(rows: Iterable[WantedRow], name: str) -> dict[tuple[Any, ...], Any]:
    return {wanted.key: wanted.row for wanted in rows if wanted.table == f"vmib{name}Table"}


@pytest.mark.parametrize(("real", "virtual"), PAIRS)
def test_the_examples_are_free_of_errors_and_warnings(real: str, virtual: str) -> None:
    assert {finding.severity.value for finding in check(example(real, virtual))} <= {"note"}


@pytest.mark.parametrize(("real", "virtual"), PAIRS)
def test_every_row_is_one_that_the_mib_can_hold(real: str, virtual: str) -> None:
    for rows in compile_rows(example(real, virtual)).values():
        keys = [(wanted.table, wanted.key) for wanted in rows]
        assert len(keys) == len(set(keys))
        for name, found in resolve(rows, Numbers({})).items():
            mib = TABLES[name]
            for key, row in found.items():
                assert mib.decode_index(mib.encode_index(key)) == key
                assert {f.name for f in fields(row)} == {c.field for c in mib.writable}
                for column in mib.writable:
                    if column.name in DETERMINED:
                        continue
                    value = getattr(row, column.field)
                    column.syntax.check(column.name, column.syntax.encode(value))


def test_the_grid_has_324_of_992_connections() -> None:
    model = example("grid-real", "grid-virtual")
    reach = expected(model)
    site = {name: found[0].site.id for name, found in model.attachments.items()}
    proxies = {f"vmgridpeer{n}" for n in (1, 2, 3)}
    assert len(reach) == 992
    assert sum(reach.values()) == 324
    for (start, stop), reached in reach.items():
        assert reached == (site[start] == site[stop] or {start, stop} <= proxies)


def test_the_grid_is_placed_as_in_the_table_of_the_paper() -> None:
    model = example("grid-real", "grid-virtual")
    placed = {
        host.id: sorted(machine.name.removeprefix("vmgrid") for machine in host.machines)
        for host in model.real.hosts
    }
    assert placed == {
        "host1": ["108", "109", "201", "202", "203", "204", "205", "peer2"],
        "host2": ["206", "207", "208", "209", "210", "211", "212", "308"],
        "host3": ["101", "102", "103", "104", "105", "106", "107", "peer1"],
        "host4": ["301", "302", "303", "304", "305", "306", "307", "peer3"],
    }
    sizes = {site.id: len(site.members) for site in model.virtual.sites}
    assert sizes == {"site1": 10, "site2": 13, "site3": 9}


def test_the_proxies_of_the_grid_have_1_mbit_towards_each_other_only() -> None:
    rows = compile_rows(example("grid-real", "grid-virtual"))
    links = {key: row for found in rows.values() for key, row in table(found, "Link").items()}
    assert {(key[0].machine, str(key[3]), key[4]) for key in links} == {
        ("vmgridpeer1", "10.2.0.100", 32),
        ("vmgridpeer1", "10.3.0.100", 32),
        ("vmgridpeer2", "10.1.0.100", 32),
        ("vmgridpeer2", "10.3.0.100", 32),
        ("vmgridpeer3", "10.1.0.100", 32),
        ("vmgridpeer3", "10.2.0.100", 32),
    }
    assert set(links.values()) == {Link(rate=1000)}
    assert len(table(rows["host3"], "Link")) == 2
    shapes = [row for found in rows.values() for row in table(found, "Shape").values()]
    assert len(shapes) == 64
    assert set(shapes) == {Shape()}


def test_a_link_is_a_row_of_each_end_and_a_route_where_subnets_differ() -> None:
    model = model_of("a b@2", '<link a="a" b="b" rate="1Mbit"><ba delay="5ms"/></link>')
    rows = compile_rows(model)
    vm, vif = VmRef("a"), VifRef("a", 0)
    uuid = "00000000-0000-0000-0000-000000000002"
    v4, v6 = InetAddressType.ipv4, InetAddressType.ipv6
    assert table(rows["host1"], "Link") == {
        (vm, vif, v4, ip_address("10.1.0.1"), 32): Link(rate=1000, dest_vm_uuid=uuid),
        (vm, vif, v6, ip_address("fd00:1::1"), 128): Link(rate=1000, dest_vm_uuid=uuid),
    }
    assert [row.delay for row in table(rows["host2"], "Link").values()] == [5000, 5000]
    routes = [wanted for wanted in rows["host1"] if wanted.table == "vmibRouteTable"]
    assert [wanted.key for wanted in routes] == [
        (vm, v4, ip_address("10.1.0.1"), 32, 0),
        (vm, v6, ip_address("fd00:1::1"), 128, 0),
    ]
    assert {wanted.references for wanted in routes} == {(("vif_index", vif),)}
    assert expected(model) == {("a", "b"): True, ("b", "a"): True}


def test_a_link_inside_a_site_needs_no_route_and_no_filter() -> None:
    rows = compile_rows(example("two-machines-real", "two-machines-virtual"))["host1"]
    assert [row.rate for row in table(rows, "Link").values()] == [10_000, 10_000]
    assert table(rows, "Route") == table(rows, "Filter") == {}


def test_references_become_the_numbers_of_the_host() -> None:
    model = model_of("a b", '<link a="a" b="b"/>')
    tables = resolve(compile_rows(model)["host1"], Numbers({"b": 7, "a": 9}))
    assert {key.vm_index for key in tables["vmibVmTable"]} == {7, 9}
    assert {(key.vm_index, key.vif_index) for key in tables["vmibVifTable"]} == {(7, 700), (9, 900)}
    routes = tables["vmibRouteTable"]
    assert {(key[0], row.vif_index) for key, row in routes.items()} == {(7, 700), (9, 900)}


def test_a_switch_finds_its_uplink_on_each_host() -> None:
    body = """<site id="x" subnet="10.0.0.0/24" switch="br5" uplink="eth0" vlan="5">
    <member machine="a"/><member machine="b"/></site>"""
    rows = compile_rows(described(real_xml("a b@2", hosts=2), body))
    for host in ("host1", "host2"):
        tables = resolve(rows[host], Numbers({}))
        ((key, switch),) = tables["vmibSwitchTable"].items()
        assert (switch.name, switch.uplink_if_index, switch.vlan_id) == ("br5", 1004, 5)
        assert [vif.switch_index for vif in tables["vmibVifTable"].values()] == [key[0]]


def test_a_switch_in_nat_mode_has_the_hosts_address_and_the_default_routes() -> None:
    body = """<site id="x" subnet="10.0.0.0/22" switch="br5" mode="nat" addr="10.0.0.254"
    default-route="switch"><member machine="a" address="10.0.0.1"/></site>"""
    rows = compile_rows(described(real_xml("a"), body))["host1"]
    ((_, switch),) = table(rows, "Switch").items()
    assert (switch.mode, str(switch.addr), switch.addr_prefix) == (SwitchMode.nat, "10.0.0.254", 22)
    ((key, route),) = table(rows, "Route").items()
    assert (str(key[2]), key[3], str(route.next_hop)) == ("0.0.0.0", 0, "10.0.0.254")


def test_a_member_has_its_profile_its_addresses_and_its_guard() -> None:
    body = """<profile id="p" rate="1Mbit"><down rate="8Mbit" delay="3ms"/></profile>
    <site id="x" subnet="10.0.0.0/22 fd00::/64" profile="p">
      <member machine="a" address="10.0.0.1 fd00::1"><up loss="1%"/></member>
      <member machine="b" role="gateway"/></site>"""
    rows = compile_rows(described(real_xml("a b"), body))["host1"]
    a = (VmRef("a"), VifRef("a", 0))
    shapes = table(rows, "Shape")
    assert shapes[*a, Direction.fromVm] == Shape(rate=1000, loss=10_000)
    assert shapes[*a, Direction.toVm] == Shape(rate=8000, delay=3000)
    prefixes = {str(key[3]): row.prefix_length for key, row in table(rows, "Addr").items()}
    assert prefixes == {"10.0.0.1": 22, "fd00::1": 64}
    vifs = {key[0].machine: vif for key, vif in table(rows, "Vif").items()}
    assert (vifs["a"].spoof_guard, vifs["b"].spoof_guard) == (True, False)
    assert vifs["a"].domain == vifs["b"].domain == next(iter(table(rows, "Domain")))[0]
    assert {row.site for row in table(rows, "Vm").values()} == {"x"}


def test_adding_a_site_renumbers_no_domain() -> None:
    before = domain_indexes(model_of("a b c", ""))
    after = domain_indexes(model_of("a b c", '<site id="n" subnet="10.9.0.0/24"/>'))
    assert {name: after[name] for name in before} == before
    assert len(set(after.values())) == 4
    chosen = '<site id="n" subnet="10.9.0.0/24" domain="12"/>'
    assert domain_indexes(model_of("a", chosen))["n"] == 12


def test_a_site_on_one_host_gets_no_filters_and_a_spread_one_gets_those_of_its_subnet() -> None:
    site = '<site id="x" subnet="10.0.0.0/24"><member machine="a"/><member machine="b"/></site>'
    assert table(compile_rows(described(real_xml("a b"), site))["host1"], "Filter") == {}
    spread = compile_rows(described(real_xml("a b@2", hosts=2), site))
    for host in ("host1", "host2"):
        found = table(spread[host], "Filter")
        passing = {(r.direction, str(r.src), r.src_prefix, str(r.dst)) for r in found.values()}
        assert passing == {
            (direction, "10.0.0.0", 24, dst)
            for direction in Direction
            for dst in ("10.0.0.0", "224.0.0.0", "255.255.255.255")
        }
        assert {row.action for row in found.values()} == {FilterAction.accept}


def test_a_site_without_isolation_accepts_but_the_strict_ones_stay_closed() -> None:
    body = """<site id="x" subnet="10.0.0.0/24" isolation="none">
      <member machine="a" address="10.0.0.1"/></site>
    <site id="y" subnet="10.1.0.0/24"><member machine="b" address="10.1.0.1"/></site>
    <site id="z" subnet="10.2.0.0/24" isolation="none">
      <member machine="c" address="10.2.0.1"/></site>
    <route on="a" to="10.1.0.0/16" on-link="true"/><route on="a" to="10.2.0.0/16" on-link="true"/>
    <route on="b" to="10.0.0.0/16" on-link="true"/><route on="c" to="10.0.0.0/16" on-link="true"/>
    """
    model = described(real_xml("a b c"), body)
    defaults = {
        row.name: row.default_action
        for row in table(compile_rows(model)["host1"], "Domain").values()
    }
    accept, drop = DomainDefaultAction.accept, DomainDefaultAction.drop
    assert defaults == {"x": accept, "y": drop, "z": accept}
    reach = expected(model)
    assert reach["a", "c"]
    assert reach["c", "a"]


def test_two_sites_meet_through_their_gateways() -> None:
    body = """<site id="x" subnet="10.0.0.0/24" default-route="gateway">
      <member machine="a" address="10.0.0.2"/>
      <member machine="g" address="10.0.0.1" role="gateway"/></site>
    <site id="y" subnet="10.1.0.0/24" default-route="gateway">
      <member machine="b" address="10.1.0.2"/>
      <member machine="h" address="10.1.0.1" role="gateway"/></site>
    <site id="z" subnet="10.2.0.0/24"><member machine="c" address="10.2.0.2"/></site>
    <link a="g" b="h" rate="1Mbit"/>
    <route on="g" to="10.1.0.0/24" via="10.1.0.1"/>
    <route on="h" to="10.0.0.0/24" via="10.0.0.1"/>"""
    model = described(real_xml("a@1 g@2 b@3 h@4 c@1", hosts=4), body)
    assert not has_errors(check(model))
    reach = expected(model)
    assert {pair for pair, reached in reach.items() if reached} == {
        (start, stop) for start in "aghb" for stop in "aghb" if start != stop
    }
    routes = table(compile_rows(model)["host1"], "Route")
    v4 = InetAddressType.ipv4
    assert routes == {
        (VmRef("a"), v4, ip_address("0.0.0.0"), 0, 0): Route(next_hop=ip_address("10.0.0.1"))
    }


def test_without_routes_gateways_pass_nothing_on() -> None:
    body = """<site id="x" subnet="10.0.0.0/24"><member machine="a" address="10.0.0.2"/>
      <member machine="g" address="10.0.0.1" role="gateway"/></site>
    <site id="y" subnet="10.1.0.0/24"><member machine="b" address="10.1.0.2"/></site>
    <link a="g" b="b"/>"""
    reach = expected(described(real_xml("a g b"), body))
    assert {pair for pair, reached in reach.items() if reached} == {
        ("a", "g"),
        ("g", "a"),
        ("g", "b"),
        ("b", "g"),
    }


def test_an_explicit_route_takes_the_place_of_the_implied_one() -> None:
    body = """<link a="a" b="b"/><route on="a" to="10.1.0.1/32" type="blackhole"/>"""
    model = model_of("a b", body)
    kinds = {
        str(key[2]): row.type
        for key, row in table(compile_rows(model)["host1"], "Route").items()
        if key[0] == VmRef("a")
    }
    assert kinds == {"10.1.0.1": RouteType.blackhole, "fd00:1::1": RouteType.unicast}
    assert not expected(model)["a", "b"]


def rule_rows(body: str, machines: str = "a b") -> list[tuple[int, Any]]:
    rows = table(compile_rows(model_of(machines, body))["host1"], "Filter")
    domain = domain_indexes(model_of(machines, body))["s0"]
    found = [(key[1], row) for key, row in rows.items() if key[0] == domain]
    return [(number, row) for number, row in sorted(found) if number in filters.RULES]


def test_rules_come_before_what_links_open() -> None:
    model = model_of("a b", '<link a="a" b="b"/><rule action="drop" from="a" to="b"/>')
    assert not any(expected(model).values())
    tcp = '<link a="a" b="b"/><rule action="drop" from="a" to="b" protocol="tcp"/>'
    assert all(expected(model_of("a b", tcp)).values())


def test_rules_keep_the_order_of_priority_and_file_with_gaps() -> None:
    body = """<rule action="drop" from="10.1.0.0/24" to="s0" symmetric="false"/>
    <rule action="accept" from="10.1.0.0/25" to="s0" priority="5" symmetric="false"/>
    <rule action="reject" from="10.1.0.0/26" to="s0" symmetric="false"/>"""
    found = rule_rows(body)
    assert [row.action.name for _, row in found] == ["accept", "drop", "reject"]
    assert [number for number, _ in found] == [1000, 1010, 1020]
    assert {row.direction for _, row in found} == {Direction.toVm}


def test_a_symmetric_rule_lets_answers_pass_by_source_port() -> None:
    body = '<rule action="accept" from="s1" to="a" protocol="tcp" ports="80 8000-8080"/>'
    found = {
        (r.direction.name, r.src_port_min, r.src_port_max, r.dst_port_min, r.dst_port_max)
        for _, r in rule_rows(body)
    }
    assert found == {
        ("toVm", 0, 65535, 80, 80),
        ("toVm", 0, 65535, 8000, 8080),
        ("fromVm", 80, 80, 0, 65535),
        ("fromVm", 8000, 8080, 0, 65535),
    }


def test_icmp_is_of_ipv4_and_icmpv6_of_ipv6() -> None:
    for protocol, family in (("icmp", InetAddressType.ipv4), ("icmpv6", InetAddressType.ipv6)):
        body = f'<rule action="accept" from="s1" to="s0" protocol="{protocol}"/>'
        assert {row.addr_type for _, row in rule_rows(body)} == {family}


def test_too_many_rules_for_the_priorities_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "RULES", range(1000, 1003))
    body = '<rule action="accept" from="s1" to="s0"/>'
    with pytest.raises(ValueRefused, match="filters of site s0"):
        compile_rows(model_of("a b", body))
    assert any("filters of site" in finding.message for finding in check(model_of("a b", body)))


NETWORKS = st.builds(
    lambda value, length: ip_network((value >> (4 - length) << (4 - length) << 24, length + 4)),
    st.integers(0, 15),
    st.integers(2, 4),
)


@given(st.lists(st.tuples(NETWORKS, NETWORKS), max_size=12))
def test_blocks_cover_what_they_were_made_of_and_nothing_else(pairs: list[Any]) -> None:
    def points(found: Iterable[tuple[Any, Any]]) -> set[tuple[Any, Any]]:
        return {
            (one, other)
            for src, dst in found
            for one in src.subnets(new_prefix=8)
            for other in dst.subnets(new_prefix=8)
        }

    found = blocks(pairs)
    assert points(found) == points(pairs)
    assert blocks(reversed(pairs)) == found
    assert all(one != other for one, other in pairwise(found))


def test_a_real_host_without_members_gets_no_rows() -> None:
    rows = compile_rows(described(real_xml("a", hosts=2), ""))
    assert rows == {"host1": (), "host2": ()}
