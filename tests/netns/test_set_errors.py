"""Every way in which a SET can be refused, as net-snmp's snmpset sees it from a running agent: the
error-status, and the varbind that the error-index names. What is refused changes nothing."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from vmib import objects
from vmib.rows import (
    Direction,
    FilterAction,
    InetAddressType,
    RouteType,
    RowStatus,
    StorageType,
    SwitchMode,
)
from vmib.schema import COLUMNS, SCALARS, TABLES
from vmib.smi import Column, Tag
from vmib_agent.netlink import in_namespace

from .hosts import PORT, Host, host

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

V4, V6 = InetAddressType.ipv4, InetAddressType.ipv6
TO, FROM = Direction.toVm, Direction.fromVm
GO, DESTROY, ACTIVE = RowStatus.createAndGo, RowStatus.destroy, RowStatus.active
NET, ADDRESS, ADDRESS6 = IPv4Address("10.0.0.0"), IPv4Address("10.0.0.1"), IPv6Address("fd00::1")
LINK = (1, 1, V4, NET, 24)
UUID9, MAC9 = "00000000-0000-4000-8000-000000000099", "02:00:00:00:00:99"

VarBind = tuple[str, str, str]
"""OID, type and value as snmpset takes them; OIDs in numbers, so that no MIB is looked at."""

NUMERIC = ("-On", "-Ir", "-r", "1", "-t", "5")
"""Options with which snmpset prints OIDs in numbers and sends values as they are given."""
LETTERS = {Tag.INTEGER: "i", Tag.UNSIGNED32: "u", Tag.OCTET_STRING: "x"}


def raw(oid: Sequence[int], letter: str, value: Any) -> VarBind:
    """A varbind that no MIB allows."""
    return "." + ".".join(map(str, oid)), letter, str(value)


def cell(name: str, key: Sequence[Any], value: Any) -> VarBind:
    """A cell or, with the key (0,), a scalar, by the names of the MIB and values of Python."""
    syntax = (SCALARS[name] if name in SCALARS else COLUMNS[name][1]).syntax
    encoded = syntax.encode(value)
    text = encoded.hex() if isinstance(encoded, bytes) else str(encoded)
    return wrong(name, key, LETTERS[syntax.tag], text)


def shape(field: str, value: Any, key: Sequence[Any] = (1, 1, TO)) -> VarBind:
    return cell(f"vmibShape{field}", key, value)


def wrong(name: str, key: Sequence[Any], letter: str, value: Any) -> VarBind:
    """A cell or scalar with a value as snmpset takes it, whatever that is."""
    if name in SCALARS:
        return raw((*SCALARS[name].oid, *key), letter, value)
    table, column = COLUMNS[name]
    return raw((*column.oid, *table.encode_index(key)), letter, value)


def create(table: str, key: Sequence[Any], **columns: Any) -> list[VarBind]:
    """Columns first, createAndGo last."""
    cells = [cell(f"vmib{table}{field}", key, value) for field, value in columns.items()]
    return [*cells, cell(f"vmib{table}RowStatus", key, GO)]


def refused(running: Host, varbinds: Sequence[VarBind], user: str = "admin") -> tuple[str, int]:
    """Reason and position of the failed object that snmpset prints; ("", 0) if it has none."""
    arguments = [word for varbind in varbinds for word in varbind]
    said = running.set(*arguments, check=False, user=user, options=NUMERIC)
    reason = re.search(r"Reason: \(?(\w+)", said)
    failed = re.search(r"Failed object: (\S+)", said)
    names = [oid for oid, _, _ in varbinds]
    assert reason or said.count(" = ") == len(varbinds), said
    if failed is None:
        return (reason[1] if reason else "", 0)
    assert names.count(failed[1]) == 1, "the position is not told by the name"
    return (reason[1] if reason else "", names.index(failed[1]) + 1)


PREPARED = [
    *create("Domain", (1,), Name="red"),
    *create("Switch", (1,), Name="br1", Domain=1),
    *create("Switch", (2,), Name="br2"),
    cell("vmibVifSwitchIndex", (2, 1), 1),
    *create("Link", LINK, Rate=100),
    *create("Addr", (1, 1, V4, ADDRESS), PrefixLength=24),
    *create("Filter", (0, 9), Action=FilterAction.drop),
    shape("Rate", 1000),
    shape("StorageType", StorageType.volatile, (2, 1, TO)),
]


def configuration(running: Host) -> str:
    """Everything that a SET of configuration would change."""
    return running.value("vmibTxnDigest.0") + running.value("vmibTxnGeneration.0")


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    with host(2) as made:
        assert refused(made, PREPARED) == ("", 0)
        yield made


SHAPE_RATE = COLUMNS["vmibShapeRate"][1].oid
NEVER: dict[str, tuple[VarBind, str]] = {
    "a column that does not exist": (
        raw((*objects.vmibShapeTable.entry, 99, 1, 1, 2), "u", 1),
        "notWritable",
    ),
    "an object that does not exist": (raw((*objects.VMIB_MIB, 99, 0), "i", 1), "notWritable"),
    "a column that is not accessible": (
        cell("vmibShapeDirection", (1, 1, TO), TO),
        "notWritable",
    ),
    "a column that is read-only": (cell("vmibVmPresence", (1,), 1), "notWritable"),
    "a column of a table that nobody writes": (
        cell("vmibShapeOperRate", (1, 1, TO), 1),
        "notWritable",
    ),
    "a scalar that is read-only": (wrong("vmibTxnGeneration", (0,), "u", 1), "notWritable"),
    "a table": (raw(objects.vmibShapeTable.oid, "i", 1), "notWritable"),
    "an entry": (raw(objects.vmibShapeTable.entry, "i", 1), "notWritable"),
    "a scalar without instance": (
        raw(SCALARS["vmibTxnHistorySize"].oid, "u", 5),
        "notWritable",
    ),
    "a scalar with instance 1": (cell("vmibTxnHistorySize", (1,), 5), "notWritable"),
    "an object beside this MIB": (raw((1, 3, 6, 1, 2, 1, 1, 6, 0), "s", "here"), "noAccess"),
    "an index that is too short": (raw((*SHAPE_RATE, 1, 1), "u", 1), "noCreation"),
    "an index that is too long": (raw((*SHAPE_RATE, 1, 1, 2, 1), "u", 1), "noCreation"),
    "a column without an index": (raw(SHAPE_RATE, "u", 1), "noCreation"),
    "the direction 3": (raw((*SHAPE_RATE, 1, 1, 3), "u", 1), "noCreation"),
    "the machine 0": (raw((*SHAPE_RATE, 0, 1, 2), "u", 1), "noCreation"),
    "an address whose length is not that of its type": (
        cell("vmibLinkRate", (1, 1, V6, NET, 24), 1),
        "noCreation",
    ),
    "a network with host bits": (cell("vmibLinkRate", (1, 1, V4, ADDRESS, 24), 1), "noCreation"),
    "a UUID of 15 octets": (wrong("vmibVmUuid", (3,), "x", "00" * 15), "wrongLength"),
    "a MAC address of 7 octets": (wrong("vmibVifMacAddress", (1, 3), "x", "02" * 7), "wrongLength"),
    "an address of 5 octets": (wrong("vmibSwitchAddr", (1,), "x", "0a" * 5), "wrongLength"),
    "a device name of 16 octets": (wrong("vmibSwitchName", (1,), "s", "x" * 16), "wrongLength"),
    "a bit that has no name": (wrong("vmibNotifyEnable", (0,), "x", "01"), "wrongEncoding"),
    "text that is not UTF-8": (wrong("vmibVmSite", (1,), "x", "ff"), "wrongEncoding"),
    "more than a million parts per million": (shape("Loss", 1_000_001), "wrongValue"),
    "an enumeration's unknown number": (
        wrong("vmibShapeDistribution", (1, 1, TO), "i", 9),
        "wrongValue",
    ),
    "TruthValue 3": (wrong("vmibVifSpoofGuard", (1, 1), "i", 3), "wrongValue"),
    "VLAN 4095": (wrong("vmibSwitchVlanId", (1,), "u", 4095), "wrongValue"),
    "RowStatus notReady": (cell("vmibSwitchRowStatus", (1,), RowStatus.notReady), "wrongValue"),
    "RowStatus notInService": (
        cell("vmibSwitchRowStatus", (1,), RowStatus.notInService),
        "wrongValue",
    ),
    "RowStatus createAndWait": (
        cell("vmibSwitchRowStatus", (9,), RowStatus.createAndWait),
        "wrongValue",
    ),
    "RowStatus 0": (wrong("vmibSwitchRowStatus", (1,), "i", 0), "wrongValue"),
    "StorageType other": (shape("StorageType", StorageType.other), "wrongValue"),
    "StorageType permanent": (shape("StorageType", StorageType.permanent), "wrongValue"),
    "StorageType readOnly": (shape("StorageType", StorageType.readOnly), "wrongValue"),
    "a multicast MAC address": (
        cell("vmibVifMacAddress", (1, 3), "03:00:00:00:00:01"),
        "wrongValue",
    ),
    "a MAC address of zeros": (
        cell("vmibVifMacAddress", (1, 3), "00:00:00:00:00:00"),
        "wrongValue",
    ),
    "a UUID of zeros": (wrong("vmibVmUuid", (3,), "x", "00" * 16), "wrongValue"),
    "a device name with a slash": (cell("vmibSwitchName", (1,), "a/b"), "wrongValue"),
    "a next hop of the other family": (
        cell("vmibRouteNextHop", (1, V4, NET, 24, 0), ADDRESS6),
        "wrongValue",
    ),
    "a history of 0": (wrong("vmibTxnHistorySize", (0,), "u", 0), "wrongValue"),
    "a lock below 0": (wrong("vmibTxnSpinLock", (0,), "i", -1), "wrongValue"),
}
"""What no state of the agent allows."""


@pytest.mark.parametrize("what", NEVER)
def test_what_can_never_be_is_refused_at_its_varbind(running: Host, what: str) -> None:
    before = configuration(running)
    bad, status = NEVER[what]
    assert refused(running, [bad]) == (status, 1)
    assert refused(running, [shape("Rate", 7), shape("Rate", 8, (2, 1, TO)), bad]) == (status, 3)
    assert configuration(running) == before


def test_the_first_bad_varbind_is_named(running: Host) -> None:
    bad = [NEVER["TruthValue 3"][0], NEVER["a table"][0], NEVER["a UUID of 15 octets"][0]]
    assert refused(running, [shape("Rate", 7), *bad]) == ("wrongValue", 2)
    assert refused(running, [shape("Rate", 7), *reversed(bad)]) == ("wrongLength", 2)


TYPES = {
    "i": "1",
    "u": "1",
    "s": "a",
    "x": "0a",
    "a": "10.0.0.1",
    "o": ".1.3.6.1",
    "t": "1",
    "n": "",
    "U": "1",
    "D": "1.5",
}
"""The types that snmpset can send, each with a value."""
KEYS: dict[str, tuple[Any, ...]] = {
    "vmibVmTable": (1,),
    "vmibVifTable": (1, 1),
    "vmibAddrTable": (1, 1, V4, ADDRESS),
    "vmibShapeTable": (1, 1, TO),
    "vmibLinkTable": LINK,
    "vmibDomainTable": (1,),
    "vmibSwitchTable": (1,),
    "vmibRouteTable": (1, V4, NET, 24, 0),
    "vmibFilterTable": (0, 9),
    "vmibProbeTable": (1, 1, V4, ADDRESS),
    "vmibTxnTable": (1,),
}


def wrongly_typed(column: Column, key: Sequence[Any], table: str) -> list[VarBind]:
    """All of a column's wrong types."""
    right = LETTERS[column.syntax.tag]
    letters = [letter for letter in TYPES if letter != right and {letter, right} != {"s", "x"}]
    oid = (*column.oid, *TABLES[table].encode_index(key))
    return [raw(oid, letter, TYPES[letter]) for letter in letters]


@pytest.mark.parametrize("table", KEYS)
def test_every_writable_column_takes_its_own_type_alone(running: Host, table: str) -> None:
    before = configuration(running)
    writable = [column for column in TABLES[table].columns if column.access.writable]
    for turn, column in enumerate(writable):
        bad = wrongly_typed(column, KEYS[table], table)
        for step in (0, 1):
            chosen = bad[(turn + step * 4) % len(bad)]
            pdu = [shape("Rate", 7, (2, 1, FROM)), chosen]
            assert refused(running, pdu) == ("wrongType", 2), chosen
    assert configuration(running) == before


NOW: dict[str, tuple[list[VarBind], str, int]] = {
    "jitter above the delay of the same PDU": (
        [shape("Delay", 10), shape("Jitter", 11)],
        "wrongValue",
        2,
    ),
    "jitter above the stored delay": ([shape("Jitter", 11)], "inconsistentValue", 1),
    "reordering beside delay 0 in the same PDU": (
        [shape("Reorder", 1), shape("Delay", 0)],
        "wrongValue",
        1,
    ),
    "reordering without a stored delay": ([shape("Reorder", 1)], "inconsistentValue", 1),
    "a column of a row that does not exist": (
        [shape("Rate", 7), cell("vmibLinkRate", (2, 1, *LINK[2:]), 1)],
        "inconsistentName",
        2,
    ),
    "shaping of an interface that does not exist": (
        [shape("Rate", 7), shape("Rate", 7, (1, 9, TO))],
        "inconsistentName",
        2,
    ),
    "active for a row that does not exist": (
        [cell("vmibSwitchRowStatus", (9,), ACTIVE)],
        "inconsistentValue",
        1,
    ),
    "a row of an unknown machine": (
        create("Vif", (9, 1), MacAddress=MAC9),
        "inconsistentName",
        2,
    ),
    "a row of an unknown interface": (
        create("Link", (1, 9, *LINK[2:]), Rate=1),
        "inconsistentName",
        2,
    ),
    "a machine at another index than vmibVmNextIndex": (
        create("Vm", (7,), Uuid=UUID9, Name="new"),
        "inconsistentName",
        3,
    ),
    "createAndGo for a row that exists": (
        create("Switch", (1,), Name="br9"),
        "inconsistentValue",
        2,
    ),
    "createAndGo for a machine that the hypervisor reports": (
        create("Vm", (1,), Uuid=UUID9, Name="new"),
        "inconsistentValue",
        3,
    ),
    "a row without a column that it needs": (
        [shape("Rate", 7), *create("Switch", (9,), Mtu=1500)],
        "inconsistentValue",
        3,
    ),
    "the end of a switch in use": (
        [shape("Rate", 7), cell("vmibSwitchRowStatus", (1,), DESTROY)],
        "inconsistentValue",
        2,
    ),
    "the end of a domain in use": (
        [cell("vmibDomainRowStatus", (1,), DESTROY)],
        "inconsistentValue",
        1,
    ),
    "the end of a machine that the hypervisor reports": (
        [cell("vmibVmRowStatus", (1,), DESTROY)],
        "inconsistentValue",
        1,
    ),
    "columns beside destroy": (
        [cell("vmibSwitchRowStatus", (2,), DESTROY), cell("vmibSwitchMtu", (2,), 1400)],
        "inconsistentValue",
        2,
    ),
    "a burst below a full frame": (
        [shape("Rate", 7), shape("Burst", 1513)],
        "inconsistentValue",
        2,
    ),
    "a bridge's name in use": (
        create("Switch", (3,), Mtu=1500, Name="br1"),
        "inconsistentValue",
        2,
    ),
    "a MAC address in use": (
        create("Vif", (2, 2), MacAddress="02:00:00:00:00:01"),
        "inconsistentValue",
        1,
    ),
    "the MAC address of a machine that runs": (
        [cell("vmibVifMacAddress", (1, 1), MAC9)],
        "inconsistentValue",
        1,
    ),
    "a switch without a row": ([cell("vmibVifSwitchIndex", (1, 1), 9)], "inconsistentValue", 1),
    "a filter of two families": (
        create("Filter", (0, 1), Action=FilterAction.drop, AddrType=V6, Dst=ADDRESS, DstPrefix=32),
        "wrongValue",
        3,
    ),
    "a prefix length beyond its address": (
        [shape("Rate", 7), *create("Addr", (1, 1, V6, ADDRESS6), PrefixLength=129)],
        "wrongValue",
        2,
    ),
    "a blackhole with a next hop": (
        create("Route", (0, V4, NET, 24, 0), Type=RouteType.blackhole, NextHop=ADDRESS),
        "wrongValue",
        2,
    ),
    "an uplink of a switch that is not bridged": (
        create("Switch", (9,), Name="br9", UplinkIfIndex=1, Mode=SwitchMode.nat),
        "wrongValue",
        2,
    ),
    "a row that outlives one that it needs": (
        [
            *create("Switch", (9,), Name="br9", StorageType=StorageType.volatile),
            cell("vmibVifSwitchIndex", (1, 1), 9),
        ],
        "inconsistentValue",
        4,
    ),
    "the spin lock with another value": (
        [shape("Rate", 7), cell("vmibTxnSpinLock", (0,), 1)],
        "inconsistentValue",
        2,
    ),
    "an action of a transaction that does not exist": (
        [cell("vmibTxnAction", (77,), 3)],
        "inconsistentName",
        1,
    ),
    "machine control that this host lacks": (
        [shape("Rate", 7), cell("vmibVmAdminState", (1,), 3)],
        "resourceUnavailable",
        2,
    ),
    "a next hop that cannot be reached": (
        [
            *create("Switch", (9,), Name="br9"),
            shape("Rate", 7),
            *create("Route", (0, V4, NET, 24, 0), NextHop=IPv4Address("203.0.113.1")),
        ],
        "commitFailed",
        5,
    ),
}
"""What this state of this agent does not allow."""


@pytest.mark.parametrize("what", NOW)
def test_what_cannot_be_now_is_refused_at_its_varbind(running: Host, what: str) -> None:
    before = configuration(running)
    varbinds, status, index = NOW[what]
    assert refused(running, varbinds) == (status, index)
    assert configuration(running) == before
    assert running.rate("vif1.0") == 1000
    assert "br9" not in running.inside("ip", "link")


def test_the_end_of_a_row_that_does_not_exist_is_no_error(running: Host) -> None:
    before = configuration(running)
    gone = [cell("vmibSwitchRowStatus", (9,), DESTROY), cell("vmibTxnRowStatus", (9,), DESTROY)]
    assert refused(running, gone) == ("", 0)
    assert configuration(running) == before


def test_an_instance_may_stand_twice_in_a_pdu_with_the_same_value_alone(running: Host) -> None:
    before = configuration(running)
    twice = [shape("Rate", 1000), shape("Burst", 0), shape("Rate", 1000)]
    assert refused(running, twice) == ("", 0)
    assert configuration(running) == before
    arguments = [word for varbind in (*twice[:2], shape("Rate", 7)) for word in varbind]
    said = running.set(*arguments, check=False, options=NUMERIC)
    assert "Reason: inconsistentValue" in said
    assert f"Failed object: {twice[0][0]}\n" in said
    assert configuration(running) == before


def test_who_may_not_write_is_told_at_the_first_varbind_outside_the_view(running: Host) -> None:
    pdu = [shape("Rate", 7), cell("vmibDomainName", (1,), "blue"), shape("Burst", 0)]
    assert refused(running, pdu, user="read") == ("noAccess", 1)
    assert refused(running, pdu, user="shape") == ("noAccess", 2)


def test_what_the_kernel_lacks_is_named(running: Host) -> None:
    if "netem" in running.value("vmibHostCapabilities.0"):
        pytest.skip("this kernel has sch_netem: nothing is lacking")
    pdu = [shape("Rate", 7, (2, 1, TO)), shape("Delay", 1000)]
    assert refused(running, pdu) == ("resourceUnavailable", 2)


def test_a_foreign_qdisc_is_named_by_the_row_that_it_keeps_out(running: Host) -> None:
    running.inside("tc", "qdisc", "add", "dev", "vif2.0", "root", "handle", "5:", "pfifo")
    try:
        pdu = [shape("Rate", 7), shape("Rate", 8, (2, 1, TO))]
        assert refused(running, pdu) == ("resourceUnavailable", 2)
        assert running.rate("vif1.0") == 1000
    finally:
        running.inside("tc", "qdisc", "del", "dev", "vif2.0", "root")


def test_others_wait_for_the_end_of_a_transaction(running: Host) -> None:
    opened = cell("vmibTxnRowStatus", (5,), GO)
    lock = cell("vmibTxnSpinLock", (0,), int(running.value("vmibTxnSpinLock.0")))
    assert refused(running, [opened]) == ("", 0)
    try:
        pdu = [shape("Rate", 8), shape("Rate", 7)]
        assert refused(running, [lock, *pdu[:1]], user="shape") == ("inconsistentValue", 2)
        assert refused(running, [cell("vmibTxnRowStatus", (6,), GO)], user="shape") == (
            "inconsistentValue",
            1,
        )
        assert refused(running, [cell("vmibTxnAction", (5,), 5)], user="shape") == (
            "inconsistentValue",
            1,
        )
        assert refused(running, [shape("Rate", 1001), cell("vmibTxnAction", (5,), 3)]) == ("", 0)
        assert running.value("vmibTxnState.5") == "awaitingConfirm"
        for user in ("admin", "shape"):
            locked = cell("vmibTxnSpinLock", (0,), int(running.value("vmibTxnSpinLock.0")))
            assert refused(running, [locked, shape("Rate", 8)], user=user) == (
                "inconsistentValue",
                2,
            )
    finally:
        assert refused(running, [cell("vmibTxnAction", (5,), 5)]) == ("", 0)
    assert running.rate("vif1.0") == 1000


def datagrams() -> socket.socket:
    """A UDP socket of the namespace in which it is made."""
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


class Relay(threading.Thread):
    """Stands between a manager and the agent and keeps copies of what the manager sends."""

    def __init__(self, running: Host) -> None:
        super().__init__(daemon=True)
        self.copies: list[bytes] = []
        place = Path("/run/netns", running.name)
        self.near, self.far = in_namespace(place, lambda: (datagrams(), datagrams()))
        self.near.bind(("127.0.0.1", PORT + 9))
        self.far.connect(("127.0.0.1", PORT))
        self.far.settimeout(5)

    def run(self) -> None:
        while True:
            message, manager = self.near.recvfrom(65535)
            self.copies.append(message)
            self.near.sendto(self.answer(message), manager)

    def answer(self, message: bytes) -> bytes:
        """What the agent answers to a message."""
        self.far.send(message)
        return self.far.recv(65535)


def test_a_set_that_somebody_copied_does_not_happen_again(running: Host) -> None:
    relay = Relay(running)
    relay.start()
    lock = int(running.value("vmibTxnSpinLock.0"))
    pdu = [cell("vmibTxnSpinLock", (0,), lock), shape("Rate", 1500)]
    arguments = [word for varbind in pdu for word in varbind]
    command = ["ip", "netns", "exec", running.name, "snmpset", "-On", f"127.0.0.1:{PORT + 9}"]
    environment = os.environ | {"SNMPCONFPATH": str(running.directory / "admin"), "MIBS": ""}
    subprocess.run([*command, *arguments], env=environment, check=True, capture_output=True)
    assert running.rate("vif1.0") == 1500
    assert refused(running, [shape("Rate", 1000)]) == ("", 0)
    assert relay.answer(relay.copies[-1])
    assert running.rate("vif1.0") == 1000
    assert running.value("vmibTxnSpinLock.0") == str(lock + 1)
    assert refused(running, pdu) == ("inconsistentValue", 1)
    assert running.rate("vif1.0") == 1000


def test_a_read_only_agent_refuses_configuration_and_what_it_cannot_keep(running: Host) -> None:
    running.kill(signal.SIGTERM)
    path = running.directory / "state" / "state.json"
    good = path.read_bytes()
    path.write_bytes(good[:-50])
    running.start()
    try:
        assert running.value("vmibHostAgentMode.0") == "readOnly"
        size = cell("vmibTxnHistorySize", (0,), 50)
        assert refused(running, [size, shape("Rate", 7)]) == ("notWritable", 2)
        assert refused(running, [size, cell("vmibTxnRowStatus", (8,), GO)]) == ("notWritable", 2)
        assert refused(running, [size]) == ("resourceUnavailable", 1)
        assert path.read_bytes() == good[:-50]
        assert running.rate("vif1.0") == 1000
    finally:
        running.kill()
        path.write_bytes(good)
        running.start()
    assert running.value("vmibShapeRate.1.1.toVm") == "1000"


def test_of_routes_that_go_to_the_kernel_together_none_stays_when_it_refuses_one(
    running: Host,
) -> None:
    def route(number: int) -> tuple[Any, ...]:
        return (0, V4, IPv4Address(f"10.{number}.0.0"), 16, 0)

    def hole(number: int) -> list[VarBind]:
        kind = cell("vmibRouteType", route(number), RouteType.blackhole)
        return [kind, cell("vmibRouteRowStatus", route(number), GO)]

    before = running.inside("ip", "route", "show", "table", "all")
    lost = cell("vmibRouteNextHop", route(71), IPv4Address("192.0.2.1"))
    pdu = [*hole(70), lost, cell("vmibRouteRowStatus", route(71), GO), *hole(72)]
    assert refused(running, pdu) == ("commitFailed", 4)
    assert running.inside("ip", "route", "show", "table", "all") == before
    assert refused(running, [*hole(70), *hole(72)]) == ("", 0)
    assert "blackhole 10.72.0.0/16" in running.inside("ip", "route")
    gone = [cell("vmibRouteRowStatus", route(number), DESTROY) for number in (70, 72)]
    assert refused(running, gone) == ("", 0)
    assert running.inside("ip", "route", "show", "table", "all") == before
