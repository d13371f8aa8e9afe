"""GET and GETNEXT over rows, in lexicographic order, whatever OID is asked."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vmib import objects as o
from vmib.rows import (
    Direction,
    InetAddressType,
    Route,
    RouteKey,
    Shape,
    ShapeKey,
    Vif,
    VifKey,
)
from vmib.smi import Column, Oid, Scalar, Table
from vmib_agent.inventory import Inventory, Rows, VifFacts
from vmib_agent.service import Missing, Value
from vmib_agent.view import ABSENT, View

FACTS = VifFacts("u", "02:00:00:00:00:01", 0, "vif1.0", 7, 1500, True, True)
INVENTORY = Inventory({}, {VifKey(3, 1): FACTS, VifKey(12, 1): FACTS})


class Configured:
    """Rows alone, without a kernel: every read-only cell is absent, every scalar 0."""

    version = 1

    def __init__(self) -> None:
        key = ShapeKey(3, 1, Direction.toVm)
        route = RouteKey(3, InetAddressType.ipv4, IPv4Address("10.0.0.0"), 8, 0)
        intent = {"vmibShapeTable": {key: Shape(rate=1000)}, "vmibRouteTable": {route: Route()}}
        self.rows = Rows(intent, INVENTORY)

    def keys(self, table: str) -> Iterable[tuple[Any, ...]]:
        return self.rows.keys(table)

    def cell(self, table: Table, column: Column, key: tuple[Any, ...]) -> Any:
        row = self.rows.row(table.name, key)
        return ABSENT if row is None else getattr(row, column.field, ABSENT)

    def scalar(self, scalar: Scalar) -> Any:
        empty: dict[str, Any] = {"text": "", "bits": frozenset(), "octets": b"", "uuid": ""}
        return empty.get(scalar.syntax.kind.value, 0)


VIEW = View(Configured())
RATE = o.vmibShapeRate.oid


def walk(root: Oid) -> list[Oid]:
    found, oid = [], root
    while (step := VIEW.get_next(oid)) is not None and step.oid[: len(root)] == root:
        found.append(step.oid)
        oid = step.oid
    return found


def test_an_empty_address_is_a_value_and_not_a_missing_one() -> None:
    found = walk(o.vmibRouteNextHop.oid)
    assert found == [(*o.vmibRouteNextHop.oid, 3, 1, 4, 10, 0, 0, 0, 8, 0)]
    assert VIEW.get(found[0]) == Value(0x04, b"")


def test_every_interface_has_a_shape_row_in_each_direction() -> None:
    assert walk(RATE) == [(*RATE, vm, 1, way) for vm in (3, 12) for way in (1, 2)]
    assert VIEW.get((*RATE, 3, 1, 2)) == Value(0x42, 1000)
    assert VIEW.get((*RATE, 12, 1, 2)) == Value(0x42, 0)


def test_a_missing_instance_is_told_from_a_missing_object() -> None:
    assert VIEW.get((*RATE, 4, 1, 2)) == Missing(instance=True)
    assert VIEW.get((*RATE, 3, 1)) == Missing(instance=True)
    assert VIEW.get(o.vmibShapeTable.oid) == Missing(instance=False)
    assert VIEW.get((1, 3, 6, 1, 2, 1, 1, 1, 0)) == Missing(instance=False)
    assert VIEW.get(o.vmibVmNextIndex.oid) == Missing(instance=True)


def test_an_index_is_not_readable() -> None:
    assert VIEW.get((*o.vmibShapeDirection.oid, 3, 1, 2)) == Missing(instance=False)


def test_a_walk_of_everything_is_ordered_and_each_step_can_be_got() -> None:
    oids = walk(o.VMIB_MIB)
    assert len(oids) > 60
    assert oids == sorted(set(oids))
    assert all(isinstance(VIEW.get(oid), Value) for oid in oids)


EVERYTHING = walk((1, 3))


@given(
    st.sampled_from(EVERYTHING),
    st.integers(0, 20),
    st.lists(st.integers(0, 2**32 - 1), max_size=6),
)
def test_what_follows_any_oid_is_the_next_of_the_whole_walk(
    near: Oid, keep: int, tail: list[int]
) -> None:
    asked = (*near[:keep], *tail)
    expected = next((oid for oid in EVERYTHING if oid > asked), None)
    step = VIEW.get_next(asked)
    assert (None if step is None else step.oid) == expected


def test_interfaces_that_go_away_take_their_rows_with_them() -> None:
    source = Configured()
    view = View(source)
    assert view.get_next((*RATE, 12)) is not None
    source.rows = Rows({}, Inventory({}, {VifKey(3, 1): FACTS}))
    source.version = 2
    following = view.get_next((*RATE, 3, 1, 2))
    assert following is not None
    assert following.oid[: len(RATE)] != RATE


def test_a_configured_row_hides_the_default_one() -> None:
    rows = Rows({"vmibVifTable": {VifKey(3, 1): Vif(mac_address="m", mtu=9000)}}, INVENTORY)
    assert rows.row("vmibVifTable", VifKey(3, 1)).mtu == 9000
    assert sorted(rows.keys("vmibVifTable")) == [(3, 1), (12, 1)]
