"""Configured targets as rows of SNMP-TARGET-MIB and SNMP-NOTIFICATION-MIB."""

from __future__ import annotations

from pathlib import Path

from vmib_agent.access import READ, TARGET
from vmib_agent.config import Endpoint, Target
from vmib_agent.service import Value
from vmib_agent.target_mib import COLUMNS, instances

TEN = [Target(Endpoint("192.0.2.9", 162), community="ears")] * 9 + [
    Target(Endpoint("2001:db8::9", 65535), "eve", inform=True, passphrase_file=Path("/x"))
]


def test_without_targets_there_are_no_rows() -> None:
    assert instances([]) == {}


def test_every_instance_lies_in_a_column_that_everybody_may_read() -> None:
    found = instances(TEN)
    assert len(found) == 10 * (8 + 6) + 2 * 4
    for oid in found:
        assert READ.includes(oid)
        assert sum(oid[: len(column)] == column for column in COLUMNS) == 1


def test_targets_are_in_the_order_of_the_configuration() -> None:
    ports = (*TARGET, 2, 1, 3)
    rows = sorted(oid for oid in instances(TEN) if oid[: len(ports)] == ports)
    assert [bytes(oid[len(ports) :]).decode() for oid in rows] == [
        f"target{number:02}" for number in range(1, 11)
    ]


def test_an_ipv4_target_has_the_address_of_its_domain() -> None:
    found = instances(TEN[:1])
    name = tuple(b"target1")
    assert found[(*TARGET, 2, 1, 2, *name)] == Value(6, (1, 3, 6, 1, 6, 1, 1))
    assert found[(*TARGET, 2, 1, 3, *name)] == Value(4, b"\xc0\0\2\x09\0\xa2")


def test_an_ipv6_target_has_the_address_of_its_domain() -> None:
    found = instances(TEN[-1:])
    name = tuple(b"target1")
    assert found[(*TARGET, 2, 1, 2, *name)] == Value(6, (1, 3, 6, 1, 2, 1, 100, 1, 2))
    address = bytes.fromhex("20010db8000000000000000000000009ffff")
    assert found[(*TARGET, 2, 1, 3, *name)] == Value(4, address)


def test_a_community_is_in_no_value() -> None:
    assert all(value.raw != b"ears" for value in instances(TEN).values())
