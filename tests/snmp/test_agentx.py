"""The whole agent as a subagent of a real snmpd: what net-snmp's tools see, on a real kernel."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmib import objects
from vmib.smi import Oid
from vmib.vm_mib import VM_MIB
from vmib_agent import access
from vmib_agent.standard import CAPABILITIES

from ..netns.hosts import PASSPHRASES, ROOT
from .agentx_hosts import (
    DIRECT,
    LOST_ROUTE,
    MASTER_PORT,
    NOT_UNDOABLE,
    RATE,
    RATE2,
    SNMPD,
    UNCOMMITTABLE,
    UNTESTABLE,
    Both,
    Numbers,
    another,
    both,
    dotted,
    eventually,
    put,
    rates,
    set_directly,
)

pytestmark = [
    pytest.mark.snmp,
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("snmpd") is None, reason="needs snmpd (Debian package snmpd)"),
]

VMIB = "." + ".".join(map(str, objects.VMIB_MIB))
LOCATION = ".1.3.6.1.2.1.1.6.0"
TRAP_PORT = 1262
COMMUNITY = "look"
DROP_IN = (ROOT / "packaging" / "snmpd" / "vmib.conf").read_text()
MORE = f"rwcommunity {COMMUNITY} 127.0.0.1\ntrap2sink 127.0.0.1:{TRAP_PORT} ears\n" + "".join(
    line for line in DROP_IN.splitlines(keepends=True) if not line.startswith("agentX")
)
ENTERPRISE = objects.ROOT[:7]
BEFORE: Oid = (*ENTERPRISE, 1)
AFTER: Oid = (*ENTERPRISE, 9000)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(tmp_path_factory.mktemp("both"), more=MORE) as made:
        yield made


@pytest.fixture(autouse=True)
def _as_before(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every test leaves the shared host as it found it."""
    yield
    if "agent" in request.fixturenames:
        made: Both = request.getfixturevalue("agent")
        set_directly(made, RATE, "u", "0", RATE2, "u", "0")


def walk(agent: Both, port: int, program: str = "snmpbulkwalk") -> dict[str, str]:
    """All of VMIB-MIB, by OID."""
    lines = agent.ask(program, VMIB, port=port).splitlines()
    return dict(line.split(" = ", 1) for line in lines if line.startswith(VMIB))


def test_a_walk_through_snmpd_is_the_walk_of_the_agent(agent: Both) -> None:
    set_directly(agent, RATE, "u", "700", RATE2, "u", "800")
    before, through, after = walk(agent, DIRECT), walk(agent, SNMPD), walk(agent, DIRECT)
    assert list(through) == list(before) == list(after)
    assert len(through) > 100
    steady = {oid for oid in before if before[oid] == after[oid]}
    assert len(steady) > len(before) * 0.9
    assert {oid: through[oid] for oid in steady} == {oid: before[oid] for oid in steady}
    assert list(walk(agent, SNMPD, "snmpwalk")) == list(before)


def test_the_capabilities_are_in_the_master_s_table(agent: Both) -> None:
    rows = agent.ask("snmpwalk", ".1.3.6.1.2.1.1.9.1")
    number = re.search(rf"\.9\.1\.2\.(\d+) = OID: \.{'.'.join(map(str, CAPABILITIES.oid))}\n", rows)
    assert number
    assert f'.9.1.3.{number[1]} = STRING: "{CAPABILITIES.description}"' in rows


def test_vm_mib_is_served_below_the_master_and_can_be_read_by_all(agent: Both) -> None:
    root = "." + ".".join(map(str, VM_MIB))
    for user in "vmib-read", "vmib-shape", "vmib-admin":
        assert 'STRING: "m2"' in agent.ask("snmpget", f"{root}.1.4.1.2.2", user=user)
    assert "noAccess" in agent.ask("snmpset", f"{root}.1.9.0", "i", "1", user="vmib-shape")
    assert "notWritable" in agent.ask("snmpset", f"{root}.1.9.0", "i", "1", user="vmib-admin")
    lines = {
        port: agent.ask("snmpwalk", f"{root}.1.4", port=port).splitlines()
        for port in (DIRECT, SNMPD)
    }
    assert len(lines[DIRECT]) == 14
    assert lines[DIRECT] == lines[SNMPD]


def test_who_may_write_is_the_master_s_business(agent: Both) -> None:
    assert "noAccess" in agent.ask("snmpset", RATE, "u", "5", user="read")
    assert agent.ask("snmpget", RATE, user="read").endswith("Gauge32: 0\n")
    assert put(agent, RATE, "u", "700") == ("", "")
    assert agent.value("vmibTxnLastChangeBy.0") == '"agentx"'


def test_the_drop_in_has_the_views_of_the_agent_s_own_roles(agent: Both) -> None:
    views = {
        name: {
            tuple(map(int, oid.strip(".").split(".")))
            for oid in re.findall(rf"^view {name} +included (\S+)$", DROP_IN, re.MULTILINE)
        }
        for name in ("vmibShapeWrite", "vmibAdminWrite")
    }
    assert views == {
        "vmibShapeWrite": {*access.SHAPE_WRITE.roots},
        "vmibAdminWrite": {*access.ADMIN_WRITE.roots},
    }
    domain = ("vmibDomainName.5", "s", "a", "vmibDomainRowStatus.5", "i", "4")
    assert "noAccess" in agent.ask("snmpset", RATE, "u", "5", user="vmib-read")
    assert "noAccess" in agent.ask("snmpset", *domain, user="vmib-shape")
    assert "Gauge32: 700" in agent.ask("snmpset", RATE, "u", "700", user="vmib-shape")
    lock = agent.value("vmibTxnSpinLock.0")
    words = ("vmibTxnSpinLock.0", "i", lock)
    assert f"INTEGER: {lock}" in agent.ask("snmpset", *words, user="vmib-shape")
    assert "STRING" in agent.ask("snmpset", *domain, user="vmib-admin")
    assert "Gauge32: 700" in agent.ask("snmpget", RATE, user="vmib-read")
    assert "community" not in re.sub("(?m)^#.*$", "", DROP_IN)
    set_directly(agent, "vmibDomainRowStatus.5", "i", "6")


def test_one_set_shapes_through_snmpd_and_the_kernel_agrees(agent: Both) -> None:
    assert put(agent, RATE, "u", "700") == ("", "")
    assert rates(agent) == ("700", 700)
    assert agent.value("vmibShapeOperRate.1.1.2") == "700"


@pytest.mark.parametrize("position", [0, 1, 2])
def test_what_is_refused_in_the_test_phase_is_named_at_every_position(
    agent: Both, position: int
) -> None:
    words = [(RATE, "u", "700"), (RATE2, "u", "800"), ("vmibShapeRate.1.1.1", "u", "900")]
    words[position] = ("vmibShapeRate.9.1.2", "u", "5")
    refused = put(agent, *(word for triple in words for word in triple))
    assert refused == ("inconsistentName", dotted("vmibShapeRate.9.1.2"))
    assert rates(agent) == ("0", None)


def test_what_the_kernel_refuses_is_commit_failed_and_undone(agent: Both) -> None:
    refused = put(agent, RATE, "u", "700", *LOST_ROUTE)
    assert refused == ("commitFailed", dotted(LOST_ROUTE[3]))
    assert rates(agent) == ("0", None)
    assert "10.9.0.0" not in agent.host.inside("ip", "route")
    assert "vmibRouteTable" not in agent.host.on_disk()


def test_a_set_spans_the_master_s_objects_and_ours(agent: Both) -> None:
    assert put(agent, LOCATION, "s", "here", RATE, "u", "700") == ("", "")
    assert rates(agent) == ("700", 700)
    assert agent.value(LOCATION) == '"here"'


@pytest.mark.parametrize("is_first", [True, False])
def test_a_set_that_either_refuses_changes_nothing_at_the_other(
    agent: Both, is_first: bool
) -> None:
    put(agent, LOCATION, "s", "before")
    good, bad = (LOCATION, "s", "after"), ("vmibShapeRate.9.1.2", "u", "5")
    pair = (*good, *bad) if is_first else (*bad, *good)
    assert put(agent, *pair) == ("inconsistentName", dotted("vmibShapeRate.9.1.2"))
    assert agent.value(LOCATION) == '"before"'
    bad, good = (LOCATION, "i", "5"), (RATE, "u", "700")
    pair = (*good, *bad) if is_first else (*bad, *good)
    assert put(agent, *pair) == ("wrongType", LOCATION)
    assert rates(agent) == ("0", None)


def test_a_commit_that_fails_takes_back_what_the_master_set(agent: Both) -> None:
    put(agent, LOCATION, "s", "before")
    refused = put(agent, LOCATION, "s", "after", *LOST_ROUTE)
    assert refused == ("commitFailed", dotted(LOST_ROUTE[3]))
    assert agent.value(LOCATION) == '"before"'


@pytest.mark.parametrize("root", [BEFORE, AFTER], ids=["before", "after"])
def test_another_subagent_beside_ours_fails_or_succeeds_with_it(agent: Both, root: Oid) -> None:
    numbers, generation = Numbers(root), "vmibTxnGeneration.0"
    place = "." + ".".join(map(str, (*root, 1)))
    with another(agent.master, numbers, root):
        assert agent.value(place) == "100"
        assert put(agent, RATE, "u", "600", place, "i", "7") == ("", "")
        assert (rates(agent), numbers.values[*root, 1]) == (("600", 600), 7)
        before = agent.value(generation), agent.value("vmibTxnDigest.0")
        assert put(agent, RATE, "u", "700", place, "i", str(UNTESTABLE)) == ("wrongValue", place)
        assert put(agent, RATE, "u", "700", place, "i", str(UNCOMMITTABLE)) == (
            "commitFailed",
            place,
        )
        assert rates(agent) == ("600", 600)
        assert (agent.value(generation), agent.value("vmibTxnDigest.0")) == before
        state = agent.host.on_disk()
        assert '"rate":600' in state
        assert '"rate":700' not in state
        refused = put(agent, *LOST_ROUTE, place, "i", "8")
        assert refused == ("commitFailed", dotted(LOST_ROUTE[3]))
        assert numbers.values[*root, 1] == 7
    assert "undone: another agent failed" in agent.agent_log
    assert "No Such Object" in agent.ask("snmpget", place)


def test_an_undo_that_fails_is_told(agent: Both) -> None:
    place = "." + ".".join(map(str, (*BEFORE, 1)))
    with another(agent.master, Numbers(BEFORE), BEFORE):
        said = agent.ask("snmpset", place, "i", str(NOT_UNDOABLE), *LOST_ROUTE)
    assert "undoFailed" in said


def test_another_subagent_may_serve_a_part_of_our_subtree(agent: Both) -> None:
    root = (*objects.vmibTxnSpinLock.oid[:-1], 77)
    place = "." + ".".join(map(str, (*root, 1)))
    interval = "vmibNotifyMinInterval.0"
    with another(agent.master, Numbers(root), root):
        assert agent.value(place) == "100"
        assert put(agent, RATE, "u", "700", interval, "u", "11", place, "i", "5") == ("", "")
        assert rates(agent) == ("700", 700)
        assert agent.value(interval) == "11"
        refused = put(agent, RATE, "u", "900", interval, "u", "4000000")
        assert refused == ("wrongValue", dotted(interval))
        assert put(agent, RATE, "u", "0", interval, "u", "10") == ("", "")
    assert rates(agent) == ("0", None)


def test_a_transaction_is_staged_committed_and_taken_back_through_snmpd(agent: Both) -> None:
    def txn(column: str) -> str:
        return agent.value(f"vmibTxn{column}.5")

    created = ("vmibTxnRowStatus.5", "i", "4", "vmibTxnConfirmTimeout.5", "u", "60")
    assert put(agent, *created, RATE, "u", "700") == ("", "")
    assert rates(agent) == ("0", None)
    assert (txn("State"), txn("Owner"), txn("Changes")) == ("1", '"agentx"', "1")
    refused = agent.ask("snmpset", RATE, "u", "1", port=DIRECT)
    assert "inconsistentValue" in refused
    assert put(agent, "vmibTxnAction.5", "i", "3") == ("", "")
    assert rates(agent) == ("700", 700)
    assert put(agent, "vmibTxnAction.5", "i", "4") == ("", "")
    assert rates(agent) == ("700", 700)
    words = ("vmibTxnRowStatus.6", "i", "4", "vmibTxnConfirmTimeout.6", "u", "1")
    assert put(agent, *words, RATE, "u", "900", "vmibTxnAction.6", "i", "3") == ("", "")
    assert rates(agent) == ("900", 900)
    assert eventually(lambda: agent.value(RATE) == "700")
    assert rates(agent) == ("700", 700)


def test_a_transaction_with_a_commit_that_another_agent_fails_is_still_open(agent: Both) -> None:
    place = "." + ".".join(map(str, (*AFTER, 1)))
    put(agent, "vmibTxnRowStatus.8", "i", "4", "vmibTxnConfirmTimeout.8", "u", "0")
    put(agent, RATE, "u", "700")
    with another(agent.master, Numbers(AFTER), AFTER):
        commit = ("vmibTxnAction.8", "i", "3")
        assert put(agent, *commit, place, "i", str(UNCOMMITTABLE)) == ("commitFailed", place)
    assert agent.value("vmibTxnState.8") == "1"
    assert rates(agent) == ("0", None)
    assert put(agent, *commit) == ("", "")
    assert rates(agent) == ("700", 700)


VIRTUAL = """\
<virtual xmlns="urn:vmib:1">
  <site id="a" subnet="10.1.0.0/24"><member machine="m1" address="10.1.0.1"/></site>
  <site id="b" subnet="10.2.0.0/24"><member machine="m2" address="10.2.0.1"/></site>
</virtual>
"""


def test_the_manager_does_all_its_work_through_snmpd(agent: Both, tmp_path: Path) -> None:
    credentials, real, virtual = (
        tmp_path / name for name in ("credentials.toml", "real.xml", "virtual.xml")
    )
    credentials.touch(mode=0o600)
    auth, priv = PASSPHRASES
    entry = f'auth = "{auth}"\npriv = "{priv}"\n'
    credentials.write_text(f"[h1]\n{entry}[admin]\n{entry}")
    virtual.write_text(VIRTUAL)

    def vmib(*words: str) -> str:
        program = str(Path(sys.executable).with_name("vmib"))
        return agent.host.inside(program, *words, "--credentials", str(credentials))

    vmib("discover", f"h1=127.0.0.1:{MASTER_PORT}", "--user", "admin", "-o", str(real))
    assert "rows confirmed" in vmib("apply", str(real), str(virtual))
    assert "10.2.0.1/24" in agent.host.in_machine(2, "ip", "address")
    assert "VMIB-" in agent.host.rules()
    assert "1 host verified" in vmib("verify", str(real), str(virtual))
    assert "rows confirmed" in vmib("clear", str(real))
    assert "VMIB-" not in agent.host.rules()


@contextmanager
def trap_daemon(agent: Both) -> Iterator[Path]:
    """A real snmptrapd beside snmpd; the file that it writes to."""
    with tempfile.TemporaryDirectory() as place:
        conf, heard = Path(place) / "trapd.conf", Path(place) / "heard"
        conf.write_text("disableAuthorization yes\n")
        command = ["ip", "netns", "exec", agent.host.name, "snmptrapd", "-f", "-C", "-c", str(conf)]
        command += ["-On", "-Oq", "-Lf", str(heard), f"udp:127.0.0.1:{TRAP_PORT}"]
        environment = os.environ | {"MIBS": "", "SNMP_PERSISTENT_DIR": place}
        process = subprocess.Popen(command, env=environment)
        try:
            assert eventually(lambda: heard.exists() and "NET-SNMP version" in heard.read_text())
            yield heard
        finally:
            process.terminate()
            process.wait(10)


def test_notifications_go_out_through_the_master(agent: Both) -> None:
    with trap_daemon(agent) as heard:
        set_directly(agent, RATE, "u", "700")
        handle = agent.host.qdiscs("vif1.0")[0]["handle"]
        stranger = ["tc", "qdisc", "change", "dev", "vif1.0", "root", "handle", handle]
        agent.host.inside(*stranger, "tbf", "rate", "5mbit", "burst", "5000", "limit", "20000")
        drift = ".".join(map(str, _notification("vmibShapingDrift")))
        assert eventually(lambda: f".{drift}" in heard.read_text())
        text = heard.read_text()
        line = next(line for line in text.splitlines() if drift in line)
        uptime, trap, *objects_told = line.split("\t")
        assert re.fullmatch(r"\.1\.3\.6\.1\.2\.1\.1\.3\.0 \d+:\d+:\d+:\d+\.\d+", uptime)
        assert trap == f".1.3.6.1.6.3.1.1.4.1.0 .{drift}"
        assert any(told.startswith(dotted("vmibShapeOperRate.1.1.2")) for told in objects_told)
        told = _seconds(uptime.split()[1])
        now = _seconds(agent.ask("snmpget", ".1.3.6.1.2.1.1.3.0", options=("-Oqv",)).strip())
        assert 0 <= now - told < 10


def _notification(name: str) -> Oid:
    return next(found.oid for found in objects.NOTIFICATIONS if found.name == name)


def _seconds(text: str) -> float:
    days, hours, minutes, seconds = text.split(":")
    return ((int(days) * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(seconds)


def test_what_happens_while_there_is_no_master_is_told_to_the_next(agent: Both) -> None:
    with trap_daemon(agent) as heard:
        agent.master.end()
        words = ("vmibTxnRowStatus.9", "i", "4", "vmibTxnConfirmTimeout.9", "u", "0")
        set_directly(agent, *words, RATE, "u", "600", "vmibTxnAction.9", "i", "3")
        agent.start()
        finished = ".".join(map(str, _notification("vmibTxnFinished")))
        assert eventually(lambda: f".{finished}" in heard.read_text())


def test_snmpd_may_come_and_go_and_the_agent_says_so(agent: Both) -> None:
    def events() -> list[str]:
        return re.findall(r"event=agentx-((?:dis)?connected) ", agent.agent_log)

    def last_status() -> str:
        return re.findall(r'event=serving .*status="(.*)"', agent.agent_log)[-1]

    for number in (signal.SIGKILL, signal.SIGTERM):
        assert last_status().endswith(f"AgentX master {agent.master.socket}: connected")
        agent.master.end(number)
        assert eventually(lambda: events()[-1] == "disconnected")
        assert last_status().endswith(f"AgentX master {agent.master.socket}: not connected")
        assert agent.value("vmibHostAgentMode.0", DIRECT) == "1"
        agent.start()
        assert eventually(lambda: events()[-1] == "connected")
        assert put(agent, RATE, "u", "700") == ("", "")
        assert rates(agent) == ("700", 700)


def stopwatch(agent: Both, *words: str, lines: str = "") -> dict[str, float]:
    """What the program `stopwatch.py` says that runs beside snmpd."""
    program = str(Path(__file__).with_name("stopwatch.py"))
    command = ["ip", "netns", "exec", agent.host.name, sys.executable, program]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "mibs")}
    done = subprocess.run(
        [*command, str(MASTER_PORT), COMMUNITY, *words],
        env=environment,
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def address_rows(count: int, *, create: bool) -> str:
    """Varbinds that create or destroy addresses of two machines."""
    lines = []
    for number in range(count):
        key = f"{number % 2 + 1}.1.1.4.10.7.{number // 200}.{number % 200 + 1}"
        if create:
            lines.append(f"{dotted(f'vmibAddrPrefixLength.{key}')} 66 24")
        lines.append(f"{dotted(f'vmibAddrRowStatus.{key}')} 2 {4 if create else 6}")
    return "\n".join(lines)


def test_a_big_set_does_not_keep_snmpd_from_others_for_long(agent: Both) -> None:
    for rows in (60, 400):
        watched: list[dict[str, float]] = []
        watching = threading.Thread(
            target=lambda watched=watched: watched.append(stopwatch(agent, "watch", "2"))
        )
        watching.start()
        time.sleep(0.5)
        sets = [
            stopwatch(agent, "set", lines=address_rows(rows, create=create))
            for create in (True, False)
        ]
        watching.join()
        assert [done["status"] for done in sets] == [0, 0]
        longest = watched[0]["max_ms"]
        sizes = " and ".join(f"{done['varbinds']:.0f} ({done['ms']:.0f} ms)" for done in sets)
        print(f"\nGET of sysUpTime during SETs of {sizes} varbinds: at most {longest:.0f} ms")
        assert watched[0]["asked"] > 100
        assert longest < (300 if rows == 60 else 2000)
