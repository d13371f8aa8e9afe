"""An agent and its snmpd that die, fall silent or ask again in the middle of a SET."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator

import pytest

from vmib_agent.agentx import PduType

from .agentx_hosts import (
    DIRECT,
    RATE,
    RATE2,
    Both,
    Relay,
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


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Both, Relay]]:
    """As `agent`, but every PDU goes through a relay, and nobody waits longer than a second."""
    place = tmp_path_factory.mktemp("relayed")
    relay = Relay(place / "relay", place / "master" / "agentx")
    with both(place, timeout=1, through=place / "relay") as made:
        yield made, relay
    relay.close()


@pytest.fixture
def _rule_passes_again(relayed: tuple[Both, Relay]) -> Iterator[None]:
    yield
    relayed[1].rule = lambda _, __: True
    relayed[1].heard.clear()


@pytest.mark.parametrize("sender", ["master", "agent"])
@pytest.mark.parametrize("phase", [PduType.TEST_SET, PduType.COMMIT_SET])
@pytest.mark.usefixtures("_rule_passes_again")
def test_snmpd_killed_in_a_phase_of_a_set_leaves_nothing_half_done(
    relayed: tuple[Both, Relay], phase: PduType, sender: str
) -> None:
    """It is killed before the agent hears of the phase, or before it hears the answer."""
    agent, relay = relayed
    set_directly(agent, RATE, "u", "500")
    digest = agent.value("vmibTxnDigest.0", DIRECT)
    phases: list[PduType] = []

    def rule(who: str, what: PduType) -> bool:
        if who == "master":
            phases.append(what)
        deadly = phases[-1:] == [phase] and who == sender
        if deadly and (who == "master" or what is PduType.RESPONSE):
            agent.master.end()
            return False
        return True

    relay.rule = rule
    assert "Timeout" in agent.ask("snmpset", RATE, "u", "700", RATE2, "u", "800", seconds=1)
    relay.rule = lambda _, __: True
    assert eventually(lambda: agent.value(RATE, DIRECT) == "500")
    assert agent.host.rate("vif1.0") == 500
    assert agent.host.rate("vif2.0") is None
    assert agent.value("vmibTxnDigest.0", DIRECT) == digest
    assert '"rate":700' not in agent.host.on_disk()
    agent.start()
    assert put(agent, RATE, "u", "700", RATE2, "u", "800") == ("", "")
    assert rates(agent) == ("700", 700)
    set_directly(agent, RATE, "u", "0", RATE2, "u", "0")


@pytest.mark.parametrize("phase", [PduType.TEST_SET, PduType.COMMIT_SET])
@pytest.mark.usefixtures("_rule_passes_again")
def test_a_phase_that_snmpd_asks_for_again_is_done_once(
    relayed: tuple[Both, Relay], phase: PduType
) -> None:
    agent, relay = relayed
    generation = int(agent.value("vmibTxnGeneration.0"))
    last: list[PduType] = []
    dropped: list[PduType] = []

    def rule(who: str, what: PduType) -> bool:
        if who == "master":
            last.append(what)
        elif last[-1] is phase and not dropped:
            dropped.append(what)
            return False
        return True

    relay.rule = rule
    assert put(agent, RATE, "u", "700") == ("", "")
    assert dropped == [PduType.RESPONSE]
    again = [packet for who, what, packet in relay.heard if (who, what) == ("master", phase)]
    assert len(again) == 2
    assert again[0] == again[1]
    assert "event=set-repeated" in agent.agent_log
    assert int(agent.value("vmibTxnGeneration.0")) == generation + 1
    assert rates(agent) == ("700", 700)
    set_directly(agent, RATE, "u", "0")


@pytest.mark.usefixtures("_rule_passes_again")
def test_a_set_that_changed_hands_between_test_and_commit_fails_to_commit(
    relayed: tuple[Both, Relay],
) -> None:
    agent, relay = relayed
    lock = agent.value("vmibTxnSpinLock.0")

    def rule(who: str, what: PduType) -> bool:
        if what is PduType.COMMIT_SET:
            set_directly(agent, "vmibTxnSpinLock.0", "i", lock)
        return True

    relay.rule = rule
    refused = put(agent, RATE, "u", "700", "vmibTxnSpinLock.0", "i", lock)
    assert refused == ("commitFailed", dotted("vmibTxnSpinLock.0"))
    assert rates(agent) == ("0", None)


@pytest.mark.usefixtures("_rule_passes_again")
def test_a_master_that_falls_silent_is_left_and_found_again(relayed: tuple[Both, Relay]) -> None:
    agent, relay = relayed
    relay.rule = lambda who, what: not (who == "master" and what is PduType.RESPONSE)
    agent.host.inside("tc", "qdisc", "show")
    agent.master.end()
    agent.master.start()
    assert eventually(lambda: "the master does not answer" in agent.agent_log)
    relay.rule = lambda _, __: True
    assert agent.is_registered()


def test_an_agent_killed_after_its_commit_has_the_set_whole(relayed: tuple[Both, Relay]) -> None:
    agent, relay = relayed
    killed = threading.Event()

    def rule(who: str, what: PduType) -> bool:
        if what is PduType.CLEANUP_SET:
            agent.host.kill()
            killed.set()
        return True

    relay.rule = rule
    put(agent, RATE, "u", "700", RATE2, "u", "800")
    assert killed.wait(10)
    relay.rule = lambda _, __: True
    agent.host.start()
    assert agent.is_registered()
    assert (rates(agent), agent.value(RATE2)) == (("700", 700), "800")
    set_directly(agent, RATE, "u", "0", RATE2, "u", "0")
