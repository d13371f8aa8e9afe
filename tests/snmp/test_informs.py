"""Notifications at a real snmptrapd: traps and informs, by SNMPv3 and by SNMPv2c."""

from __future__ import annotations

import re
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import agents
import pytest
from agents import Agent, dotted, shape
from trapd import COMMUNITY, INFORM_USER, TRAP_USER, Trapd, trapd, wait_for

from vmib import objects
from vmib.snmp.message import CommunityMessage, PduType, decode_message
from vmib_agent import identity

pytestmark = pytest.mark.snmp

DELAY = dotted(shape("delay", 1))
WAYS = {
    "a trap by SNMPv2c": f"TRAP2, SNMP v2c, community {COMMUNITY}",
    "a trap by SNMPv3": f"TRAP2, SNMP v3, user {TRAP_USER}",
    "an inform by SNMPv2c": f"INFORM, SNMP v2c, community {COMMUNITY}",
    "an inform by SNMPv3": f"INFORM, SNMP v3, user {INFORM_USER}",
}
BY_V3, BY_V2C = WAYS["an inform by SNMPv3"], WAYS["an inform by SNMPv2c"]


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Trapd]:
    (tmp_path / "state").mkdir(mode=0o700)
    engine_id = identity.load(tmp_path / "state").engine_id
    port = agents.free_port()
    with trapd(tmp_path / "trapd", port, engine_id, agents.PASSPHRASES) as made:
        yield made


@pytest.fixture
def agent(receiver: Trapd, tmp_path: Path) -> Iterator[Agent]:
    with agents.running(receiver.targets, directory=tmp_path) as made:
        yield made


def notify(agent: Agent, delay: int = agents.NOTIFIED_DELAY) -> None:
    assert "Gauge32" in agent.tool("snmpset", DELAY, "u", str(delay))


def test_every_notification_comes_once_by_every_way(agent: Agent, receiver: Trapd) -> None:
    names = {notification.name: dotted(notification.oid) for notification in objects.NOTIFICATIONS}
    assert len(names) == 9
    notify(agent, agents.ALL_NOTIFIED_DELAY)
    for way in WAYS.values():
        assert wait_for(lambda way=way: len(receiver.lines(way)) == 9), receiver.log.read_text()  # type: ignore[misc]
    time.sleep(2.2)  # the informs would come again
    for way in WAYS.values():
        lines = receiver.lines(way)
        assert len(lines) == 9
        for name, oid in names.items():
            assert sum(f"= OID: {oid}\t" in line for line in lines) == 1, name
        for line in lines:
            assert re.search(r"\.1\.3\.6\.1\.2\.1\.1\.3\.0 = Timeticks: \(\d+\)", line)
            assert f"{DELAY} = Gauge32: {agents.ALL_NOTIFIED_DELAY}" in line
    assert "inform" not in agent.log.read_text()


def test_an_inform_comes_again_until_its_receiver_is_there(receiver: Trapd, tmp_path: Path) -> None:
    targets = receiver.targets.replace("timeout = 1,", "timeout = 1, retries = 10,")
    with agents.running(targets, directory=tmp_path) as agent:
        receiver.stop()
        notify(agent)
        time.sleep(1.2)
        receiver.start()
        for way in BY_V2C, BY_V3:
            assert wait_for(lambda way=way: bool(receiver.lines(way))), receiver.log.read_text()  # type: ignore[misc]
        assert not receiver.lines("TRAP2")
        assert "inform-lost" not in agent.log.read_text()


def test_a_receiver_that_was_started_again_is_followed_in_its_time(
    agent: Agent, receiver: Trapd
) -> None:
    notify(agent)
    assert wait_for(lambda: len(receiver.lines(BY_V3)) == 1)
    for number in 2, 3:
        receiver.stop()
        receiver.start()
        notify(agent)
        assert wait_for(lambda n=number: len(receiver.lines(BY_V3)) == n)  # type: ignore[misc]
    assert "inform-lost" not in agent.log.read_text()


def test_a_receiver_that_became_another_engine_is_asked_for_its_id(
    agent: Agent, receiver: Trapd
) -> None:
    notify(agent)
    assert wait_for(lambda: len(receiver.lines(BY_V3)) == 1)
    receiver.stop()
    shutil.rmtree(receiver.directory / "persistent")
    receiver.start()
    notify(agent)
    assert wait_for(lambda: len(receiver.lines(BY_V3)) == 2), agent.log.read_text()


def test_an_inform_that_nobody_takes_is_sent_so_often_and_told_and_counted(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.settimeout(5)
        target = (
            "[[notifications.targets]]\ninform = true\ntimeout = 1\nretries = 2\n"
            f'address = "127.0.0.1:{silent.getsockname()[1]}"\ncommunity = "{COMMUNITY}"\n'
        )
        with agents.running(target, directory=tmp_path) as agent:
            notify(agent)
            began = time.monotonic()
            came = [silent.recv(65535) for _ in range(3)]
            assert 1.8 < time.monotonic() - began < 4
            assert len(set(came)) == 1
            message = decode_message(came[0])
            assert isinstance(message, CommunityMessage)
            assert message.pdu.type is PduType.INFORM
            assert wait_for(lambda: "event=inform-lost" in agent.log.read_text())
            notify(agent, agents.NOTIFIED_DELAY)
            assert wait_for(lambda: "lost=2 " in agent.log.read_text())
            silent.settimeout(1.5)
            assert len([silent.recv(65535) for _ in range(3)]) == 3
            with pytest.raises(TimeoutError):
                silent.recv(65535)
            told = [line for line in agent.log.read_text().splitlines() if "inform-lost" in line]
            assert len(told) == 2
            assert "notification=vmibDrift" in told[0]
            assert 'reason="no answer" lost=1 acknowledged=0' in told[0]
            assert "Timeticks" in agent.tool("snmpget", ".1.3.6.1.2.1.1.3.0")


def test_a_paused_receiver_does_not_keep_the_agent_from_answering(
    agent: Agent, receiver: Trapd
) -> None:
    assert receiver.process is not None
    receiver.process.send_signal(signal.SIGSTOP)
    for _ in range(5):
        notify(agent)
    receiver.process.send_signal(signal.SIGCONT)
    for way in BY_V2C, BY_V3:
        assert wait_for(lambda way=way: len(receiver.lines(way)) >= 5), agent.log.read_text()  # type: ignore[misc]


def test_a_wrong_pass_phrase_is_told_as_such(receiver: Trapd, tmp_path: Path) -> None:
    (receiver.directory / "passphrases").write_text("not the right one\nnor that one\n")
    targets = receiver.targets.replace("timeout = 1,", "timeout = 1, retries = 0,")
    with agents.running(targets, directory=tmp_path) as agent:
        notify(agent)
        assert wait_for(lambda: "reason=wrongDigests" in agent.log.read_text())
        assert not receiver.lines(BY_V3)
        assert len(receiver.lines(BY_V2C)) == 1
        assert "right one" not in agent.log.read_text()


def test_pass_phrases_that_everybody_can_read_keep_the_agent_from_starting(
    receiver: Trapd, tmp_path: Path
) -> None:
    (receiver.directory / "passphrases").chmod(0o644)
    with (
        pytest.raises(AssertionError, match="everybody can read it; chmod 0600"),
        agents.running(receiver.targets, directory=tmp_path),
    ):
        pass


def test_the_targets_are_told_as_they_are_configured(agent: Agent) -> None:
    walked = agent.tool("snmpbulkwalk", ".1.3.6.1.6.3.12.1.2") + agent.tool(
        "snmpbulkwalk", ".1.3.6.1.6.3.12.1.3"
    )
    assert walked.count("\n") == 4 * (8 + 6)
    for column, name, value in (
        ("2.1.2", "target1", "OID: .1.3.6.1.6.1.1"),
        ("2.1.4", "target1", "INTEGER: 0"),
        ("2.1.4", "target4", "INTEGER: 100"),
        ("2.1.5", "target4", "INTEGER: 3"),
        ("2.1.6", "target2", 'STRING: "trap"'),
        ("2.1.6", "target3", 'STRING: "inform"'),
        ("2.1.7", "target3", 'STRING: "target3"'),
        ("2.1.8", "target3", "INTEGER: 5"),
        ("2.1.9", "target3", "INTEGER: 1"),
        ("3.1.2", "target1", "INTEGER: 1"),
        ("3.1.2", "target4", "INTEGER: 3"),
        ("3.1.3", "target1", "INTEGER: 2"),
        ("3.1.4", "target1", 'STRING: "v2c"'),
        ("3.1.4", "target4", f'STRING: "{INFORM_USER}"'),
        ("3.1.5", "target1", "INTEGER: 1"),
        ("3.1.5", "target4", "INTEGER: 3"),
    ):
        oid = f".1.3.6.1.6.3.12.1.{column}." + ".".join(map(str, name.encode()))
        assert f"{oid} = {value}\n" in walked
    assert COMMUNITY not in agent.tool("snmpbulkwalk", ".1.3.6.1.6")
    kinds = agent.tool("snmpbulkwalk", ".1.3.6.1.6.3.13.1")
    assert re.findall(r"\.13\.1\.1\.1\.3(\.[\d.]+) = INTEGER: (\d)", kinds) == [
        ("." + ".".join(map(str, b"inform")), "2"),
        ("." + ".".join(map(str, b"trap")), "1"),
    ]
    refused = agent.tool("snmpset", f"{oid}", "i", "1", expect=2)
    assert "noAccess" in refused
    missing = agent.tool("snmpget", ".1.3.6.1.6.3.12.1.2.1.2.120")
    assert "No Such Instance" in missing
