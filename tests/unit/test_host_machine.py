"""The agent under everything at once: random SETs and transactions, a kernel that refuses, a disk
that is full, a process that is killed at any step, machines that come and go, strangers.

Whatever happened: what was answered is kept, what was not is there whole or not at all, a commit
that nobody confirmed is undone, disk and kernel agree, and no number changes its owner.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vmib.rows import (
    Direction,
    FilterAction,
    InetAddressType,
    RowStatus,
    Sync,
    TxnAction,
)
from vmib_agent import store
from vmib_agent.desired import RowKey
from vmib_agent.qdiscs import EMPTY
from vmib_agent.service import SetRefused, VarBind
from vmib_agent.state import Intent, Now, State
from vmib_agent.statefile import decode, encode
from vmib_agent.transactions import recovered, tick

from .fake_host import FakeAgent, Faults, Killed, vb

UUIDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(1, 4)]
V4 = InetAddressType.ipv4


class Wish(NamedTuple):
    """A change of one row: columns to write, or a row to create, or to destroy if it is there."""

    table: str
    key: tuple[Any, ...]
    columns: Mapping[str, Any]
    toggles: bool = True

    def varbinds(self, intent: Intent) -> list[VarBind]:
        cells = [vb(f"vmib{self.table}{name}", self.key, v) for name, v in self.columns.items()]
        if not self.toggles:
            return cells
        is_there = self.key in intent.get(f"vmib{self.table}Table", {})
        status = RowStatus.destroy if is_there else RowStatus.createAndGo
        return [*([] if is_there else cells), vb(f"vmib{self.table}RowStatus", self.key, status)]


def network(number: int) -> tuple[Any, ...]:
    return V4, IPv4Address(f"10.{number}.0.0"), 16


vifs = st.sampled_from([(1, 1), (1, 2), (2, 1), (1, 1), (1, 2), (2, 1), (3, 1)])
rates = st.sampled_from([0, 100, 200, 300])
small = st.integers(1, 2)
shapes = st.builds(
    lambda vif, way, column, value: Wish("Shape", (*vif, way), {column: value}, False),
    vifs,
    st.sampled_from(Direction),
    st.sampled_from(["Rate", "Rate", "Delay"]),
    rates,
)
links = st.builds(
    lambda vif, n, rate: Wish("Link", (*vif, *network(n)), {"Rate": rate}), vifs, small, rates
)
switches = st.builds(lambda n: Wish("Switch", (n,), {"Name": f"br{n}"}), small)
mtus = st.builds(lambda n, mtu: Wish("Switch", (n,), {"Mtu": 1000 + mtu}, False), small, rates)
ports = st.builds(
    lambda vif, n: Wish("Vif", vif, {"SwitchIndex": n}, False), vifs, st.integers(0, 2)
)
addresses = st.builds(
    lambda vif, n: Wish("Addr", (*vif, V4, IPv4Address(f"10.0.0.{n}")), {"PrefixLength": 24}),
    vifs,
    small,
)
routes = st.builds(
    lambda n: Wish("Route", (0, *network(n), 0), {"NextHop": IPv4Address("192.0.2.1")}), small
)
domains = st.just(Wish("Domain", (1,), {"Name": "red"}))
members = st.builds(lambda vif, n: Wish("Vif", vif, {"Domain": n}, False), vifs, st.integers(0, 1))
filters = st.builds(lambda n: Wish("Filter", (0, n), {"Action": FilterAction.drop}), small)
wishes = st.lists(
    st.one_of(
        shapes, shapes, links, switches, mtus, ports, addresses, routes, domains, members, filters
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda wish: (wish.table, wish.key),
)

nothing = st.just(Faults())
refusals = st.builds(lambda numbers: Faults(refuse_at=numbers), st.frozensets(st.integers(0, 9)))
refusals |= st.builds(lambda number: Faults(refuse_from=number), st.integers(0, 9))
full_disk = st.just(Faults(disk_full=True))
deaths = st.builds(lambda number: Faults(kill_at=number), st.integers(0, 20))
faults = st.one_of(nothing, nothing, refusals, full_disk, deaths, deaths)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.agent = FakeAgent(Path(self.place.name))
        self.vm_owners: dict[int, str] = {}
        self.vif_owners: dict[tuple[str, int], str] = {}
        self.transactions = 0
        self.is_disturbed = False
        self.is_unfinished = False

    def teardown(self) -> None:
        try:
            if self.agent.host.state.indexes.vms:
                self.calm()
        finally:
            self.place.cleanup()

    @property
    def state(self) -> State:
        return self.agent.host.state

    @initialize()
    def two_machines(self) -> None:
        self.agent.hypervisor.start(UUIDS[0], "m0", "02:00:00:00:00:01", "02:00:00:00:00:02")
        self.agent.hypervisor.start(UUIDS[1], "m1", "02:00:00:00:00:03")
        self.agent.start()

    def under(self, wrong: Faults, action: Callable[[], None], *outcomes: State) -> bool:
        """Act with something wrong; whether the agent lived on.

        If it was killed, a new one is where the dead one was, or at one of the outcomes, or where
        a timeout led in the next second.
        """
        soon = Now(*(moment + 1 for moment in self.agent.clock()))
        timeout = tick(self.state, soon)
        known = [self.state, *outcomes, *([timeout.state] if timeout else [])]
        given = self.agent.faults
        given.clear()
        given.kill_at, given.disk_full = wrong.kill_at, wrong.disk_full
        given.refuse_at, given.refuse_from = wrong.refuse_at, wrong.refuse_from
        try:
            action()
        except Killed:
            note(f"killed at step {wrong.kill_at}")
            given.clear()
            self.agent.start()
            self.is_disturbed = self.is_unfinished = False
            self.is_one_of(known)
            return False
        finally:
            given.clear()
        return True

    def is_one_of(self, known: Sequence[State]) -> None:
        """The agent has started from one of these states."""
        after = self.state
        assert after.current is None
        assert self.agent.mode == "normal"
        possible = [recovered(decode(encode(state)), self.agent.clock()).state for state in known]
        assert (after.intent, after.generation, after.history) in [
            (state.intent, state.generation, state.history) for state in possible
        ]

    def decided(self, varbinds: Sequence[VarBind]) -> list[State]:
        """The state that a SET comes to when nothing goes wrong."""
        host = self.agent.host
        try:
            decision = store.decide(self.state, varbinds, "ann", self.agent.clock(), host.world())
        except SetRefused:
            return []
        return [decision.state]

    @rule(wanted=wishes, wrong=faults)
    def configure(self, wanted: list[Wish], wrong: Faults) -> None:
        self.set(self.varbinds(wanted), wrong)

    @rule(wanted=wishes)
    def configure_in_peace(self, wanted: list[Wish]) -> None:
        self.set(self.varbinds(wanted), Faults())

    def varbinds(self, wanted: list[Wish]) -> list[VarBind]:
        current = self.state.current
        staged = None if current is None else current.candidate
        base = self.state.intent if staged is None else staged
        return [found for wish in wanted for found in wish.varbinds(base)]

    @precondition(lambda self: self.state.current is None)
    @rule(wanted=wishes, confirm=st.sampled_from([0, 60, 60]), wrong=faults)
    def commit_at_once(self, wanted: list[Wish], confirm: int, wrong: Faults) -> None:
        self.transactions += 1
        index = (self.transactions,)
        txn = [
            vb("vmibTxnRowStatus", index, RowStatus.createAndGo),
            vb("vmibTxnConfirmTimeout", index, confirm),
            vb("vmibTxnAction", index, TxnAction.commit),
        ]
        self.set([*txn, *self.varbinds(wanted)], wrong)

    @precondition(lambda self: self.state.current is None)
    @rule()
    def open(self) -> None:
        self.transactions += 1
        self.set([vb("vmibTxnRowStatus", (self.transactions,), RowStatus.createAndGo)], Faults())

    @precondition(lambda self: self.state.current is not None)
    @rule(action=st.sampled_from(TxnAction), wrong=faults)
    def act(self, action: TxnAction, wrong: Faults) -> None:
        assert self.state.current is not None
        self.set([vb("vmibTxnAction", (self.state.current.index,), action)], wrong)

    def set(self, varbinds: list[VarBind], wrong: Faults) -> None:
        before, kernel = self.state, self.agent.kernel.snapshot()
        refused: list[SetRefused] = []

        def send() -> None:
            try:
                self.agent.set(*varbinds)
            except SetRefused as refusal:
                refused.append(refusal)

        outcomes = self.decided(varbinds)
        if not self.under(wrong, send, *outcomes):
            return
        for refusal in refused:
            note(str(refusal))
            assert self.state.intent == before.intent
            is_undone = refusal.status.name != "undoFailed"
            assert 1 <= refusal.index <= len(varbinds) if is_undone else refusal.index == 0
            assert (self.agent.mode == "recovering") == (not is_undone)
            if is_undone:
                assert self.agent.kernel.snapshot() == kernel
            else:
                self.under(Faults(), self.agent.wait)
                assert self.agent.mode == "normal"
        if not refused:
            assert [self.state.intent] == [state.intent for state in outcomes]
            if wrong.refuse_at or wrong.refuse_from is not None:
                self.is_disturbed = self.is_disturbed and self.agent.differences() != []
            elif self.state.intent != before.intent:
                self.is_disturbed = False

    @rule(seconds=st.sampled_from([1, 1, 61, 301]), wrong=faults)
    def time_passes(self, seconds: int, wrong: Faults) -> None:
        self.agent.now += seconds
        current, expected = self.state.current, self.state.intent
        is_over = current is not None and self.agent.now + 1 >= (current.deadline or 0)
        if is_over and current is not None and current.before is not None:
            expected = current.before
        if not self.under(wrong, self.agent.wait):
            return
        assert self.state.intent == expected
        assert not is_over or self.state.current is None
        if wrong != Faults():
            self.is_unfinished = True
            self.under(Faults(), self.agent.wait)

    @rule(number=st.integers(0, 2), wrong=faults)
    def a_machine_comes_or_goes(self, number: int, wrong: Faults) -> None:
        hypervisor = self.agent.hypervisor
        if UUIDS[number] in hypervisor.machines:
            hypervisor.stop(UUIDS[number])
        else:
            macs = [f"02:00:00:00:00:0{2 * number + n}" for n in (1, 2)]
            hypervisor.start(UUIDS[number], f"m{number}", *macs[: 1 + (number == 0)])
        if self.under(wrong, self.agent.wait) and wrong != Faults():
            self.is_unfinished = True
            self.under(Faults(), self.agent.wait)

    @rule(number=st.integers(0, 1), wrong=deaths)
    def restart(self, number: int, wrong: Faults) -> None:
        before = self.state
        for given in (wrong, Faults())[number:]:
            self.under(given, self.agent.start)
        self.is_disturbed = self.is_unfinished = False
        self.is_one_of([before])
        assert self.state.indexes == before.indexes

    @rule(number=st.integers(0, 9))
    def a_stranger_takes_queues_away(self, number: int) -> None:
        names = sorted(self.agent.kernel.devices)
        if names:
            name = names[number % len(names)]
            self.agent.kernel.devices[name].tree = EMPTY
            self.agent.kernel.changed.add(name)
            self.under(Faults(), self.agent.wait)
            self.is_disturbed = True

    @rule()
    def calm(self) -> None:
        """After ten looks in peace everything is as it should be, but for what strangers did."""
        for _ in range(11):
            self.under(Faults(), self.agent.wait)
        self.is_unfinished = False
        verdicts = {self.agent.host.sync(found)[0] for found in configured(self.state.intent)}
        assert verdicts <= {Sync.inSync, Sync.waiting, Sync.drifted}
        if not self.is_disturbed:
            assert self.agent.differences() == []
            assert Sync.drifted not in verdicts

    @invariant()
    def rows_disk_and_kernel_agree(self) -> None:
        agent, state = self.agent, self.state
        if not state.indexes.vms:
            return
        disk = agent.on_disk
        assert (disk.intent, disk.generation) == (state.intent, state.generation)
        assert disk.indexes == state.indexes
        awaiting = state.current is not None and state.current.before is not None
        assert (disk.current is not None) == awaiting
        assert agent.mode == "normal"
        if not self.is_unfinished and not self.is_disturbed:
            assert agent.differences() == []

    @invariant()
    def no_number_changes_its_owner(self) -> None:
        for uuid, number in self.state.indexes.vms.items():
            assert self.vm_owners.setdefault(number, uuid) == uuid
        for (uuid, mac), number in self.state.indexes.vifs.items():
            assert self.vif_owners.setdefault((uuid, number), mac) == mac


def configured(intent: Intent) -> list[RowKey]:
    return [RowKey(table, key) for table, rows in intent.items() for key in rows]


TestMachine = Machine.TestCase
