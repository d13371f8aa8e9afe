"""A plan made from the one before it is the plan that would be made anew."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vmib.rows import (
    Addr,
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
    Shape,
    ShapeKey,
    Switch,
    SwitchKey,
    Vif,
    VifKey,
)
from vmib_agent.desired import Wish, wish
from vmib_agent.inventory import Inventory, Rows, VifFacts
from vmib_agent.persistent import GONE, persistent
from vmib_agent.revision import WishCache
from vmib_agent.scope import Scope, Target, scope_of
from vmib_agent.target import Obstruction, TargetCache, compile_target

V4 = InetAddressType.ipv4
FACTS = {
    VifKey(1, 1): VifFacts("u1", "02:00:00:00:00:11", 0, "v1", 11, 1500, True, True),
    VifKey(1, 2): VifFacts("u1", "02:00:00:00:00:12", 1, "", 0, 0, False, True),
    VifKey(2, 1): VifFacts("u2", "02:00:00:00:00:21", 0, "v2", 21, 9000, True, False),
}
HERE = Inventory(vifs=FACTS)
LATER = Inventory(
    vifs={**FACTS, VifKey(2, 1): replace(FACTS[VifKey(2, 1)], running=True, mtu=1500)}
)
NUMBERS = st.integers(1, 2)
VIFS = st.builds(VifKey, NUMBERS, NUMBERS)


def change_of(table: str, keys: st.SearchStrategy[Any], rows: st.SearchStrategy[Any]) -> Any:
    return st.tuples(st.just(table), keys, rows | st.just(GONE))


shapes = change_of(
    "vmibShapeTable",
    st.builds(lambda vif, way: ShapeKey(*vif, way), VIFS, st.sampled_from(Direction)),
    st.builds(Shape, rate=st.sampled_from([0, 100]), burst=st.sampled_from([0, 20, 9000])),
)
links = change_of(
    "vmibLinkTable",
    st.builds(lambda vif, n: LinkKey(*vif, V4, IPv4Address(f"10.{n}.0.0"), 16), VIFS, NUMBERS),
    st.builds(Link, rate=st.sampled_from([0, 100]), delay=st.sampled_from([0, 5])),
)
addresses = change_of(
    "vmibAddrTable",
    st.builds(lambda vif, n: AddrKey(*vif, V4, IPv4Address(f"10.0.0.{n}")), VIFS, NUMBERS),
    st.builds(Addr, prefix_length=st.sampled_from([16, 24])),
)
others = (
    change_of("vmibVifTable", st.just(VifKey(1, 1)), st.just(Vif(mac_address="02:00:00:00:00:11")))
    | change_of("vmibSwitchTable", st.just(SwitchKey(1)), st.just(Switch(name="sw")))
    | change_of("vmibDomainTable", st.just(DomainKey(1)), st.just(Domain(name="d")))
    | change_of(
        "vmibFilterTable", st.just(FilterKey(0, 1)), st.just(Filter(action=FilterAction.drop))
    )
)
changes = st.lists(shapes | links | addresses | others, min_size=1, max_size=5)


def comparable(found: Wish) -> Any:
    """A wish without the order of rows."""
    shaped = {
        place: (one.shape, dict(one.links), one.mtu, frozenset(one.rows))
        for place, one in found.shaped.items()
    }
    owners = {subject: frozenset(rows) for subject, rows in found.owners.items()}
    return shaped, found.network, owners, set(found.waiting)


@given(st.lists(st.tuples(changes, st.sampled_from([HERE, HERE, HERE, LATER])), max_size=6))
def test_it_is_as_if_everything_had_been_looked_at(steps: list[Any]) -> None:
    wishes, cache = WishCache(), TargetCache()
    intent: dict[str, Any] = {}
    before = Target()
    for step, inventory in steps:
        for table, key, row in step:
            rows = persistent(intent.get(table, {})).changed({key: row})
            intent = {**intent, table: rows}
        rows = Rows(intent, inventory)
        found, anew = wishes.wish(rows, {}), wish(rows, {})
        assert comparable(found) == comparable(anew)
        target, in_the_way = compile_target(rows, found, cache)
        other, expected = compile_target(rows, anew, TargetCache())
        assert target == other
        assert {*map(told, in_the_way)} == {*map(told, expected)}
        assert scope_of(before, target, inventory) == naive_scope(before, other, inventory)
        before = target


def told(found: Obstruction) -> Any:
    return found.row, found.message, found.unavailable


def naive_scope(old: Target, new: Target, inventory: Inventory) -> Scope:
    """What differs, found by looking at everything."""
    vifs = {
        vif
        for vif in {**old.shaping, **new.shaping}
        if old.shaping.get(vif) != new.shaping.get(vif)
    }
    places = {
        place
        for place in {**old.network.stacks, **new.network.stacks}
        if old.network.stacks.get(place) != new.network.stacks.get(place)
    }
    guests = tuple(guest for guest in inventory.vms.values() if guest.uuid in places)
    host = "" in places or (old.network.bridges, old.network.ports) != (
        new.network.bridges,
        new.network.ports,
    )
    return Scope(tuple(sorted(vifs)), guests, host or bool(guests), old.rules != new.rules)
