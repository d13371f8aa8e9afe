"""The front end as net-snmp's tools see it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import agents
import pytest
from agents import Agent, dotted, shape

from vmib import objects
from vmib.vm_mib import VM_MIB
from vmib_agent.standard import CAPABILITIES, MODULES
from vmib_agent.users import Role

pytestmark = pytest.mark.snmp

V2C = '[v2c]\ncommunity = "look"\nsources = ["127.0.0.0/8"]\n'
RATE = dotted(shape("rate", 1))
DELAY = dotted(shape("delay", 1))
SYS_UP_TIME = ".1.3.6.1.2.1.1.3.0"


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with agents.running(V2C) as started:
        yield started


def sets(agent: Agent) -> int:
    return int(agent.tool("snmpget", dotted(agents.SETS)).split()[-1])


def refusal(output: str) -> tuple[str, str]:
    """The reason and the object that a tool names."""
    reason = re.search(r"Reason: (\w+)", output)
    failed = re.search(r"Failed object: (\S+)", output)
    return (reason[1] if reason else "", failed[1] if failed else "")


def test_what_was_set_can_be_read(agent: Agent) -> None:
    assert agent.tool("snmpset", RATE, "u", "1000").strip() == f"{RATE} = Gauge32: 1000"
    assert agent.tool("snmpget", RATE).strip() == f"{RATE} = Gauge32: 1000"


def test_a_walk_is_in_order_and_ends(agent: Agent) -> None:
    rows = dotted(objects.vmibShapeTable.oid)
    walked = agent.tool("snmpwalk", rows).splitlines()
    bulk = agent.tool("snmpbulkwalk", "-Cr50", rows).splitlines()
    assert len(walked) == 12 * 2 * agents.MACHINES
    assert walked == bulk


def test_the_system_group_says_what_this_is(agent: Agent) -> None:
    walked = agent.tool("snmpwalk", ".1.3.6.1.2.1.1")
    assert f"OID: {dotted(objects.SYS_OBJECT_ID)}" in walked
    assert 'STRING: "vMIB agent ' in walked
    assert re.search(r"\.1\.3\.0 = Timeticks: \(\d+\)", walked)
    for number, module in enumerate(MODULES, 1):
        assert f".1.9.1.2.{number} = OID: {dotted(module.oid)}\n" in walked
        assert f'.1.9.1.3.{number} = STRING: "{module.description}"\n' in walked
        assert f".1.9.1.4.{number} = Timeticks: (0)" in walked
    assert walked.count(".1.3.6.1.2.1.1.9.1.3.") == len(MODULES)
    assert ".1.3.6.1.2.1.1.8.0 = Timeticks: (0)" in walked
    assert {CAPABILITIES.oid, VM_MIB} <= {module.oid for module in MODULES}


def test_the_engine_group_agrees_with_the_messages(agent: Agent) -> None:
    walked = agent.tool("snmpwalk", ".1.3.6.1.6.3.10.2.1")
    assert "Hex-STRING: 80 00 7E D9 05" in walked
    assert ".1.3.6.1.6.3.10.2.1.2.0 = INTEGER: 1" in walked
    assert ".1.3.6.1.6.3.10.2.1.4.0 = INTEGER: 65507" in walked


def test_counters_count_unknown_users_and_wrong_keys(agent: Agent) -> None:
    def counted(instance: str) -> int:
        return int(agent.tool("snmpget", instance).split()[-1])

    unknown, wrong = ".1.3.6.1.6.3.15.1.1.3.0", ".1.3.6.1.6.3.15.1.1.5.0"
    before = counted(unknown), counted(wrong)
    assert "Unknown user name" in agent.tool("snmpget", "-u", "nobody", RATE, expect=1)
    assert "Authentication failure" in agent.tool("snmpget", "-A", "not the phrase", RATE, expect=1)
    assert (counted(unknown), counted(wrong)) == (before[0] + 1, before[1] + 1)


def test_a_message_without_privacy_is_not_served(agent: Agent) -> None:
    for level in "authNoPriv", "noAuthNoPriv":
        said = agent.tool("snmpget", "-l", level, RATE, expect=1)
        assert "Unsupported security level" in said


def test_another_context_is_reported(agent: Agent) -> None:
    assert "Bad context specified" in agent.tool("snmpget", "-n", "other", RATE, expect=1)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (("i", "5"), "wrongType"),
        (("s", "five"), "wrongType"),
        (("a", "192.0.2.1"), "wrongType"),
    ],
)
def test_the_second_of_three_varbinds_is_the_one_named(
    agent: Agent, value: tuple[str, str], reason: str
) -> None:
    other = dotted(shape("rate", 2))
    said = agent.tool("snmpset", RATE, "u", "7", DELAY, *value, other, "u", "7", expect=2)
    assert refusal(said)[0].startswith(reason)
    assert refusal(said)[1] == DELAY
    assert "Gauge32: 7" not in agent.tool("snmpget", RATE, other)


def test_a_fault_of_ours_is_genErr_and_is_logged_with_its_traceback(agent: Agent) -> None:
    said = agent.tool("snmpget", RATE, dotted(agents.FAULTY), expect=2)
    assert "genError" in said or "genErr" in said
    assert refusal(said)[1] == dotted(agents.FAULTY)
    said = agent.tool("snmpset", DELAY, "u", str(agents.FAULTY_DELAY), expect=2)
    assert refusal(said)[1] == DELAY
    assert agent.log.read_text().count("RuntimeError: a fault on purpose") >= 2


def test_undo_failed_has_no_index(agent: Agent) -> None:
    said = agent.tool("snmpset", DELAY, "u", str(agents.REFUSED_DELAY), expect=2)
    assert "undoFailed" in said
    assert "Failed object" not in said


def test_a_reader_reads_and_does_not_write(agent: Agent) -> None:
    assert RATE in agent.tool("snmpget", RATE, user="read")
    said = agent.tool("snmpset", RATE, "u", "9", user="read", expect=2)
    assert refusal(said) == ("noAccess", RATE)


def test_who_may_shape_may_not_add_machines(agent: Agent) -> None:
    name = dotted((*objects.vmibVmName.oid, 1))
    assert "Gauge32: 11" in agent.tool("snmpset", RATE, "u", "11", user="shape")
    lock = dotted((*objects.vmibTxnSpinLock.oid, 0))
    assert "INTEGER: 0" in agent.tool("snmpset", lock, "i", "0", user="shape")
    said = agent.tool("snmpset", RATE, "u", "12", name, "s", "vm", user="shape", expect=2)
    assert refusal(said) == ("noAccess", name)


def test_standard_objects_are_outside_every_write_view(agent: Agent) -> None:
    said = agent.tool("snmpset", ".1.3.6.1.2.1.1.6.0", "s", "here", expect=2)
    assert refusal(said)[0] == "noAccess"


def test_missing_objects_and_instances_are_told_apart(agent: Agent) -> None:
    assert "No Such Instance" in agent.tool("snmpget", dotted(shape("rate", 999)))
    assert "No Such Object" in agent.tool("snmpget", dotted((*objects.VMIB_MIB, 77, 1)))
    assert "No Such Object" in agent.tool("snmpget", ".1.3.6.1.2.1.2.1.0")


def community(agent: Agent, program: str, *arguments: str, name: str = "look") -> str:
    command = [program, "-On", "-v2c", "-c", name, "-r0", "-t1", f"127.0.0.1:{agent.port}"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_a_community_reads_and_never_writes(agent: Agent) -> None:
    assert RATE in community(agent, "snmpget", RATE)
    assert "noAccess" in community(agent, "snmpset", RATE, "u", "13")
    assert "Timeout" in community(agent, "snmpget", RATE, name="private")


def test_version_1_is_not_spoken(agent: Agent) -> None:
    command = ["snmpget", "-v1", "-c", "look", "-r0", "-t1", f"127.0.0.1:{agent.port}", RATE]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Timeout" in done.stderr


def test_without_its_section_no_community_is_answered() -> None:
    with agents.running() as started:
        assert "Timeout" in community(started, "snmpget", SYS_UP_TIME)
        assert "Timeticks" in started.tool("snmpget", SYS_UP_TIME)


@pytest.mark.parametrize("auth", ["SHA-256", "SHA-384", "SHA-512"])
@pytest.mark.parametrize("priv", ["AES-128", "AES-256"])
def test_every_protocol_on_offer_works_with_net_snmp(agent: Agent, auth: str, priv: str) -> None:
    name = f"{auth}.{priv}"
    agents.add_user(agent.directory, name, Role.ADMIN, auth=auth, priv=priv)
    agent.process.send_signal(1)
    assert "Gauge32: 21" in agent.tool("snmpset", RATE, "u", "21", user=name)
    assert "Gauge32: 21" in agent.tool("snmpget", RATE, user=name)


def test_no_secret_and_no_key_is_in_the_log(agent: Agent) -> None:
    agent.tool("snmpget", RATE)
    log = agent.log.read_text()
    kept = (agent.directory / "state" / "users.json").read_text()
    for secret in (*agents.PASSPHRASES, *re.findall(r"[0-9a-f]{64,}", kept)):
        assert secret not in log
    assert "event=serving" in log
