"""VM-MIB (RFC 7666) beside VMIB-MIB: the same machines by the same numbers, for other managers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmib.vm_mib import VM_MIB

from .hosts import Host, add_machine, host, run

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

ROOT = "." + ".".join(map(str, VM_MIB))
VM, NETWORK = f"{ROOT}.1.4.1", f"{ROOT}.1.8.1"
NAME, UUID, OS_TYPE, ADMIN, OPER, AUTO_START, PERSISTENT = (f"{VM}.{n}" for n in range(2, 9))
IF_INDEX, PARENT, MODEL, PHYS_ADDRESS = (f"{NETWORK}.{n}" for n in range(2, 6))
NUMBER, LAST_CHANGE, UP_TIME = f"{ROOT}.1.2.0", f"{ROOT}.1.3.0", f"{ROOT}.1.1.4.0"
NUMERIC = ("-OnqUet", "-r", "1", "-t", "5")


def eventually(check: Callable[[], bool], seconds: float = 6.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return False


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    with host(3) as made:
        yield made


def walk(asked: Host, root: str, tool: str = "snmpbulkwalk") -> dict[str, str]:
    """OID -> value of everything below a root, in the order of the answers."""
    printed = asked.snmp(tool, root, options=NUMERIC)
    return dict(re.findall(r"^(\.[\d.]+) (.*?)$", printed, re.MULTILINE))


def at(asked: Host, oid: str) -> str:
    return walk(asked, oid, "snmpget").get(oid, "")


def test_the_machines_are_those_of_vmib_mib_with_the_same_numbers(running: Host) -> None:
    names = walk(running, NAME)
    assert names == {f"{NAME}.{n}": f'"m{n}"' for n in (1, 2, 3)}
    for n in 1, 2, 3:
        assert running.value(f"vmibVmName.{n}") == f"m{n}"
        text = f"00000000-0000-4000-8000-{n:012d}"
        assert running.value(f"vmibVmLookupIndex.'{text}'") == str(n)
        assert at(running, f"{UUID}.{n}").replace(" ", "").strip('"') == text.replace("-", "")
        assert at(running, f"{OS_TYPE}.{n}") == '""'
    assert at(running, NUMBER) == "3"


def test_the_interfaces_are_those_of_vmib_mib_and_of_the_kernel(running: Host) -> None:
    for number in 1, 2, 3:
        device = f"vif{number}.0"
        kernel = running.inside("cat", f"/sys/class/net/{device}/ifindex").strip()
        bridge = running.inside("cat", "/sys/class/net/br0/ifindex").strip()
        assert at(running, f"{IF_INDEX}.{number}.1") == kernel
        assert running.value(f"vmibVifIfIndex.{number}.1") == kernel
        assert at(running, f"{PARENT}.{number}.1") == bridge
        assert at(running, f"{MODEL}.{number}.1") == '""'
        mac = at(running, f"{PHYS_ADDRESS}.{number}.1")
        assert mac == f'"02 00 00 00 00 {number:02x} "'


def test_the_hypervisor_is_the_kernel(running: Host) -> None:
    assert at(running, f"{ROOT}.1.1.1.0") == '"netns"'
    assert at(running, f"{ROOT}.1.1.2.0").strip('"') == run("uname", "-r").strip()
    up_time = int(at(running, UP_TIME)) / 100
    assert abs(float(Path("/proc/uptime").read_text().split()[0]) - up_time) < 5
    assert 0 < int(at(running, LAST_CHANGE)) <= int(at(running, UP_TIME))


def test_notifications_of_vm_mib_are_said_to_be_off(running: Host) -> None:
    assert at(running, f"{ROOT}.1.9.0") == at(running, f"{ROOT}.1.10.0") == "2"


@pytest.mark.parametrize(
    "oid",
    [f"{ROOT}.1.1.3.0", *(f"{VM}.{n}.1" for n in range(9, 18)), f"{ROOT}.1.5.1.2.1.1", ROOT],
)
def test_what_is_not_known_does_not_exist(running: Host, oid: str) -> None:
    assert "No Such Object" in running.snmp("snmpget", oid, options=NUMERIC)


def test_a_machine_that_is_not_there_has_no_instance(running: Host) -> None:
    for oid in f"{NAME}.9", f"{IF_INDEX}.1.2", f"{IF_INDEX}.1", f"{NUMBER[:-1]}1":
        assert "No Such Instance" in running.snmp("snmpget", oid, options=NUMERIC)
    assert "No Such Object" in running.snmp("snmpget", f"{VM}.1.1", options=NUMERIC)


def test_nothing_of_it_can_be_written(running: Host) -> None:
    for words in (f"{NAME}.1", "s", "x"), (f"{ADMIN}.1", "i", "4"), (f"{ROOT}.1.9.0", "i", "1"):
        assert "notWritable" in running.set(*words, check=False)
        assert "noAccess" in running.set(*words, user="read", check=False)


@pytest.mark.parametrize("tool", ["snmpwalk", "snmpbulkwalk"])
def test_a_walk_of_everything_is_in_order_and_has_both(running: Host, tool: str) -> None:
    found = walk(running, ".1.3", tool)
    oids = [tuple(map(int, oid[1:].split("."))) for oid in found]
    assert oids == sorted(oids)
    assert list(walk(running, ROOT, tool)) == [oid for oid in found if oid.startswith(f"{ROOT}.")]
    assert len(walk(running, ROOT, tool)) == 7 + 3 * 7 + 3 * 4
    assert walk(running, ROOT, tool).keys() < found.keys()
    assert [oid for oid in oids if oid > VM_MIB][-1][:7] == (1, 3, 6, 1, 6, 3, 15)
    assert oids[0][:7] == (1, 3, 6, 1, 2, 1, 1)


def test_every_role_reads_it(running: Host) -> None:
    for user in "read", "shape", "admin":
        assert '"m1"' in running.snmp("snmpget", f"{NAME}.1", user=user, options=NUMERIC)


def test_a_machine_that_stops_is_shut_down_and_comes_back_with_its_number(running: Host) -> None:
    assert (at(running, f"{ADMIN}.2"), at(running, f"{OPER}.2")) == ("1", "4")
    before = at(running, LAST_CHANGE)
    run("ip", "netns", "del", running.machine_names[1])
    assert eventually(lambda: at(running, f"{OPER}.2") == "11")
    assert at(running, f"{ADMIN}.2") == "4"
    assert at(running, f"{IF_INDEX}.2.1") == at(running, f"{PARENT}.2.1") == "0"
    assert (at(running, f"{AUTO_START}.2"), at(running, f"{PERSISTENT}.2")) == ("1", "2")
    assert at(running, NUMBER) == "3"
    assert at(running, LAST_CHANGE) == before
    add_machine(running, 2)
    assert eventually(lambda: at(running, f"{OPER}.2") == "4")
    assert eventually(lambda: at(running, f"{IF_INDEX}.2.1") != "0")


def test_numbers_survive_a_restart_and_are_not_given_twice(running: Host) -> None:
    definition = running.directory / "machines" / "m1.json"
    text = definition.read_text()
    before = at(running, LAST_CHANGE)
    definition.unlink()
    assert eventually(lambda: list(walk(running, NAME).values()) == ['"m2"', '"m3"'])
    assert at(running, NUMBER) == "2"
    assert int(at(running, LAST_CHANGE)) > int(before)
    running.kill()
    running.start()
    assert list(walk(running, NAME)) == [f"{NAME}.2", f"{NAME}.3"]
    definition.write_text(text)
    assert eventually(lambda: at(running, f"{NAME}.1") == '"m1"')


def test_machines_of_a_hypervisor_that_cannot_be_asked_are_in_an_unknown_state(
    running: Host,
) -> None:
    assert at(running, f"{OPER}.3") == "4"
    wrong = running.directory / "machines" / "m9.json"
    wrong.write_text("{")
    assert eventually(lambda: at(running, f"{OPER}.3") == "1")
    wrong.unlink()
    assert eventually(lambda: at(running, f"{OPER}.3") == "4")
