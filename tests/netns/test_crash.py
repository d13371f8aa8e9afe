"""The agent is killed at random moments while managers write without a pause.

After every restart: what was answered is there, what was not is there whole or not at all, the
kernel is as the tables say, a commit that nobody confirmed is undone, and what others made on the
host is as they made it.
"""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from .hosts import Host, host

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

MACHINES = 3
IMPATIENT = ("-OQsU", "-r", "0", "-t", "0.5")
Values = dict[str, str]
"""Instances of columns and their values; of a row that does not exist, the empty text."""


class Writer(threading.Thread):
    """A manager that changes the rows of one machine, PDU after PDU, until it gets no answer.

    `known` is what the agent has acknowledged, `tried` what the last PDU was to make of it.
    """

    def __init__(self, running: Host, vm: int, known: Values, seed: int) -> None:
        super().__init__()
        self._running = running
        self._vm = vm
        self._chance = random.Random(seed)
        self.known = {name: known[name] for name in known if is_of(name, vm)}
        self.tried: Values = {}
        self.answers = 0
        self.said = ""

    def run(self) -> None:
        while True:
            triples = self._pdu()
            self.said = self._running.set(*triples, check=False, options=IMPATIENT)
            if not self.said.startswith("vmib"):
                return
            self.known |= self.tried
            self.answers += 1

    def _pdu(self) -> list[str]:
        chance, vm = self._chance, self._vm
        rate = str(chance.randrange(1000, 2000))
        shape = f"vmibShapeRate.{vm}.1.{chance.choice(['toVm', 'fromVm'])}"
        self.tried = {shape: rate}
        triples = [shape, "u", rate]
        link = f"{vm}.1.ipv4.4.10.{chance.randrange(2)}.0.0.16"
        if chance.random() < 0.6:
            triples += self._row("vmibLinkRate", link, rate)
        if chance.random() < 0.6:
            triples += self._row("vmibFilterProtocol", f"0.{vm}", str(chance.randrange(200, 250)))
        return triples

    def _row(self, column: str, row: str, value: str) -> list[str]:
        """Create the row, or change it, or destroy it."""
        instance = f"{column}.{row}"
        table = "vmibLink" if column == "vmibLinkRate" else "vmibFilter"
        is_there = self.known.get(instance, "") != ""
        if is_there and self._chance.random() < 0.4:
            self.tried[instance] = ""
            return [f"{table}RowStatus.{row}", "i", "destroy"]
        self.tried[instance] = value
        change = [instance, "u", value]
        if is_there:
            return change
        action = [f"vmibFilterAction.{row}", "i", "drop"] if table == "vmibFilter" else []
        return [*change, *action, f"{table}RowStatus.{row}", "i", "createAndGo"]


def is_of(instance: str, vm: int) -> bool:
    """Whether an instance is of a row that one writer writes."""
    return bool(re.match(rf"vmib(Shape|Link)Rate\.{vm}\.|vmibFilterProtocol\.0\.{vm}$", instance))


def in_tables(running: Host) -> Values:
    """What is configured, as snmpwalk tells it."""
    found: Values = {}
    for column in ("vmibShapeRate", "vmibLinkRate", "vmibFilterProtocol"):
        walked = running.snmp("snmpwalk", column)
        for instance, value in re.findall(r"^(vmib\S+) = (\S+)$", walked, re.MULTILINE):
            found[re.sub(r'ipv4\."([\d.]+)"', r"ipv4.4.\1", instance)] = value
    return {instance: value for instance, value in found.items() if value != "0"}


def in_kernel(running: Host) -> Values:
    """The same, as tc and iptables tell it."""
    found: Values = {}
    qdiscs: list[dict[str, Any]] = json.loads(running.inside("tc", "-j", "qdisc"))
    for qdisc in qdiscs:
        place = re.fullmatch(r"(vif|vmib)(\d)\.\d", qdisc["dev"])
        if place is None or qdisc["kind"] != "tbf" or qdisc["options"]["rate"] > 10**9:
            continue
        direction = "toVm" if place[1] == "vif" else "fromVm"
        kbps = qdisc["options"]["rate"] * 8 // 1000
        found[f"vmibShapeRate.{place[2]}.1.{direction}"] = str(kbps)
    for vm in range(1, MACHINES + 1):
        device = f"vmib{vm}.1"
        classes = running.inside("tc", "class", "show", "dev", device, check=False)
        rates = dict(re.findall(r"class htb (\S+) .* rate (\d+)Kbit", classes))
        for htb in {classid.split(":")[0] for classid in rates}:
            parent = ("dev", device, "parent", f"{htb}:")
            filters = running.inside("tc", "-p", "filter", "show", *parent)
            links = re.findall(r"flowid (\S+).*\n\s+match IP dst ([\d.]+)/16", filters)
            for classid, net in links:
                found[f"vmibLinkRate.{vm}.1.ipv4.4.{net}.16"] = rates[classid]
    for protocol, priority in re.findall(r"-p (\d+) .*vmib:f0\.(\d)", running.rules()):
        found[f"vmibFilterProtocol.0.{priority}"] = protocol
    return found


OTHERS = """
ip link add other0 type veth peer name other1
ip link add otherbr type bridge
ip link set other0 master otherbr up
ip addr add 198.51.100.1/24 dev otherbr
ip link set otherbr up
ip route add 203.0.113.0/24 via 198.51.100.2
tc qdisc add dev other0 root handle 5: htb default 7
tc class add dev other0 parent 5: classid 5:7 htb rate 1mbit
iptables-legacy -A FORWARD -s 203.0.113.1/32 -j DROP
iptables-legacy -N OTHERS
iptables-legacy -A OTHERS -j RETURN
"""


def of_others(running: Host) -> list[str]:
    """What others made on this host, as the tools print it."""
    return [
        running.inside("tc", "qdisc", "show", "dev", "other0"),
        running.inside("tc", "class", "show", "dev", "other0"),
        running.inside("ip", "-br", "link", "show", "master", "otherbr"),
        running.inside("ip", "-br", "addr", "show", "dev", "otherbr"),
        running.inside("ip", "route"),
        *(line for line in running.rules().splitlines() if "VMIB" not in line),
    ]


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    with host(MACHINES) as made:
        for command in OTHERS.strip().splitlines():
            made.inside(*command.split())
        yield made


def test_after_kills_at_any_moment_the_kernel_is_as_the_tables_say(running: Host) -> None:
    chance = random.Random(20260)
    others, known, answers = of_others(running), in_tables(running), 0
    for turn in range(8):
        seeds = [chance.randrange(10**9) for _ in range(MACHINES)]
        writers = [Writer(running, vm, known, seed) for vm, seed in enumerate(seeds, 1)]
        for writer in writers:
            writer.start()
        time.sleep(chance.uniform(0.1, 0.6))
        running.kill()
        for writer in writers:
            writer.join()
            assert "Timeout" in writer.said, writer.said
        running.start()
        known = in_tables(running)
        assert in_kernel(running) == known
        for vm, writer in enumerate(writers, 1):
            possible = [
                {name: value for name, value in values.items() if value}
                for values in (writer.known, writer.known | writer.tried)
            ]
            assert {n: v for n, v in known.items() if is_of(n, vm)} in possible, f"turn {turn}"
            answers += writer.answers
        assert running.value("vmibHostRowsOutOfSync.0") == "0"
        assert of_others(running) == others
    assert answers > 8


def test_a_commit_that_nobody_confirmed_is_undone_after_a_kill_at_any_moment(
    running: Host,
) -> None:
    chance = random.Random(20261)
    running.set("vmibShapeRate.1.1.toVm", "u", "3000", "vmibShapeRate.2.1.fromVm", "u", "0")
    others, before = of_others(running), in_tables(running)
    committed = 0
    for index in range(1, 5):
        pdu = [
            f"vmibTxnRowStatus.{index}", "i", "createAndGo",
            f"vmibTxnAction.{index}", "i", "commit",
            "vmibShapeRate.1.1.toVm", "u", str(4000 + index),
            "vmibShapeRate.2.1.fromVm", "u", str(4000 + index),
            "vmibFilterAction.0.9", "i", "drop",
            "vmibFilterProtocol.0.9", "u", "222",
            "vmibFilterRowStatus.0.9", "i", "createAndGo",
        ]  # fmt: skip
        said: list[str] = []

        def send(pdu: list[str] = pdu, said: list[str] = said) -> None:
            said.append(running.set(*pdu, check=False, options=IMPATIENT))

        manager = threading.Thread(target=send)
        manager.start()
        if index == 1:
            manager.join()
            assert in_kernel(running)["vmibShapeRate.1.1.toVm"] == "4001"
        time.sleep(chance.uniform(0.01, 0.06))
        running.kill()
        manager.join()
        running.start()
        assert in_tables(running) == in_kernel(running) == before
        state = running.value(f"vmibTxnState.{index}")
        assert state == "rolledBack" or "Timeout" in said[0]
        committed += state == "rolledBack"
        assert of_others(running) == others
    assert committed >= 1


def test_no_kill_made_a_fault(running: Host) -> None:
    log = (running.directory / "agent.log").read_text()
    assert log.count("event=serving") == 13
    assert "Traceback" not in log
