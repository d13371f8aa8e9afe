"""Transactions as scripts: each test tells what managers do, when, and what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from vmib.rows import (
    Direction,
    HostAgentMode,
    RowStatus,
    StorageType,
    TxnAction,
    TxnErrorStage,
    TxnState,
    Vif,
)
from vmib.schema import COLUMNS, SCALARS, instance_name
from vmib.status import ErrorStatus
from vmib_agent.numbering import discovered
from vmib_agent.ports import Guest, GuestVif, Presence
from vmib_agent.service import SetRefused, Value, VarBind
from vmib_agent.state import Indexes, Intent, Now, State, Transaction
from vmib_agent.statefile import decode, encode
from vmib_agent.store import decide
from vmib_agent.transactions import (
    Decision,
    EventKind,
    commit_failed,
    next_deadline,
    recovered,
    tick,
)
from vmib_agent.world import KnownVif, KnownVm, Problem, World

UUID1, UUID9 = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 9))
MAC1, MAC9 = "02:00:00:00:00:01", "02:00:00:00:00:09"
TO = Direction.toVm
ALL = frozenset(SCALARS["vmibHostCapabilities"].syntax.names)
WORLD = World(
    vms={1: KnownVm(UUID1, "web", running=True)},
    vifs={(1, 1): KnownVif(MAC1, 0, 1500, running=True)},
    capabilities=ALL,
)
START = State(spin_lock=0, indexes=Indexes({UUID1: 1}, {(UUID1, MAC1): 1}, next_vm=2))


def vb(name: str, key: Sequence[Any], value: Any) -> VarBind:
    """A varbind by the names of the MIB and values of Python."""
    table, column = COLUMNS[name]
    syntax = column.syntax
    oid = (*column.oid, *table.encode_index(key))
    return VarBind(oid, Value(syntax.tag, syntax.encode(value)))


def rate(value: int) -> VarBind:
    return vb("vmibShapeRate", (1, 1, TO), value)


def txn(column: str, value: Any, index: int = 7) -> VarBind:
    return vb(f"vmibTxn{column}", (index,), value)


def start(index: int = 7) -> VarBind:
    return txn("RowStatus", RowStatus.createAndGo, index)


def act(action: TxnAction, index: int = 7) -> VarBind:
    return txn("Action", action, index)


def destroy(index: int = 7) -> VarBind:
    return txn("RowStatus", RowStatus.destroy, index)


VALIDATE, COMMIT, CONFIRM, ABORT = map(
    act, (TxnAction.validate, TxnAction.commit, TxnAction.confirm, TxnAction.abort)
)


@dataclass
class Agent:
    """An agent with a clock that the script sets; what it would send is in `events`."""

    state: State = START
    world: World = WORLD
    now: float = 0.0
    applies: list[bool] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    @property
    def time(self) -> Now:
        return Now(wall=1_000_000 + self.now, uptime=self.now)

    def adopt(self, decision: Decision) -> None:
        self.state = decision.state
        self.applies.append(decision.applies)
        self.events += [f"{e.kind.value} {e.transaction.state.name}" for e in decision.events]

    def set(self, *varbinds: VarBind, by: str = "ann") -> None:
        self.adopt(decide(self.state, varbinds, by, self.time, self.world))

    def refuses(self, *varbinds: VarBind, by: str = "ann") -> tuple[str, int]:
        with pytest.raises(SetRefused) as caught:
            decide(self.state, varbinds, by, self.time, self.world)
        return caught.value.status.name, caught.value.index

    def wait(self, seconds: float) -> None:
        self.now += seconds
        decision = tick(self.state, self.time)
        if decision is not None:
            self.adopt(decision)

    def restart(self) -> None:
        """The state goes to the disk and comes back, as after a crash."""
        self.now = 0.0
        self.adopt(recovered(decode(encode(self.state)), self.time))

    @property
    def rate(self) -> int:
        row = self.state.intent.get("vmibShapeTable", {}).get((1, 1, TO))
        return 0 if row is None else row.rate

    @property
    def current(self) -> Transaction:
        assert self.state.current is not None
        return self.state.current

    @property
    def last(self) -> Transaction:
        assert self.state.current is None
        return self.state.history[-1]


@pytest.fixture
def agent() -> Agent:
    return Agent()


def test_a_change_is_staged_committed_and_confirmed(agent: Agent) -> None:
    agent.set(start(), txn("ConfirmTimeout", 60), txn("Description", "faster"))
    assert agent.current.owner == "ann"
    assert agent.current.state is TxnState.open
    agent.set(rate(10))
    agent.set(rate(20), vb("vmibShapeDelay", (1, 1, TO), 5))
    assert (agent.rate, agent.current.changes, agent.state.generation) == (0, 1, 0)
    agent.set(COMMIT)
    assert (agent.rate, agent.state.generation, agent.applies[-1]) == (20, 1, True)
    assert agent.current.state is TxnState.awaitingConfirm
    agent.now = 59
    agent.set(CONFIRM)
    assert (agent.last.state, agent.last.changes) == (TxnState.committed, 1)
    assert (agent.last.description, agent.last.closed) == ("faster", 1_000_059)
    assert (agent.last.candidate, agent.last.before, agent.last.deadline) == (None, None, None)
    assert agent.applies == [False, False, False, True, False]
    assert agent.events == [
        "vmibTxnAwaitingConfirm awaitingConfirm",
        "vmibTxnFinished committed",
    ]
    agent.wait(1000)
    assert agent.rate == 20


def test_one_pdu_may_open_stage_and_commit_in_any_order(agent: Agent) -> None:
    agent.set(COMMIT, rate(20), txn("ConfirmTimeout", 0), start())
    assert (agent.rate, agent.last.state, agent.last.changes) == (20, TxnState.committed, 1)
    assert agent.state.generation == 1
    assert agent.state.last_change_by == "ann"


def test_a_commit_without_changes_makes_the_host_as_its_rows_say(agent: Agent) -> None:
    agent.set(start())
    agent.set(COMMIT)
    assert (agent.current.state, agent.applies[-1]) == (TxnState.awaitingConfirm, True)
    agent.set(CONFIRM)
    assert (agent.last.state, agent.applies[-1]) == (TxnState.committed, False)
    assert (agent.state.generation, agent.state.last_change_by) == (0, "")


def test_without_confirmation_the_commit_is_undone_in_time(agent: Agent) -> None:
    agent.set(rate(10))
    agent.set(start(), txn("ConfirmTimeout", 60), rate(20), COMMIT)
    assert next_deadline(agent.state) == 60
    agent.wait(59.9)
    assert agent.rate == 20
    agent.wait(0.1)
    assert (agent.rate, agent.state.generation) == (10, 3)
    assert (agent.state.last_change, agent.state.last_change_by) == (1_000_060, "")
    assert agent.last.state is TxnState.rolledBack
    assert agent.applies[-1]
    assert agent.events[-1] == "vmibTxnFinished rolledBack"
    assert next_deadline(agent.state) is None


def test_an_abort_while_awaiting_confirmation_rolls_back(agent: Agent) -> None:
    agent.set(start(), rate(20), COMMIT)
    agent.set(ABORT)
    assert (agent.rate, agent.last.state) == (0, TxnState.rolledBack)
    assert agent.state.last_change_by == "ann"


@pytest.mark.parametrize("end", [ABORT, destroy()], ids=["abort", "destroy"])
def test_an_abort_drops_what_was_staged(agent: Agent, end: VarBind) -> None:
    agent.set(start(), rate(20))
    agent.set(end)
    assert (agent.rate, agent.state.generation, agent.last.state) == (0, 0, TxnState.aborted)
    assert not any(agent.applies)


def test_forgotten_transactions_are_aborted(agent: Agent) -> None:
    agent.set(start(), txn("IdleTimeout", 30))
    agent.wait(20)
    agent.set(rate(20))
    agent.wait(29)
    assert agent.current.state is TxnState.open
    agent.wait(1)
    assert (agent.last.state, agent.events) == (TxnState.aborted, ["vmibTxnFinished aborted"])
    assert agent.rate == 0


def test_only_sets_of_the_owner_keep_a_transaction_alive(agent: Agent) -> None:
    agent.set(start(), txn("IdleTimeout", 30))
    agent.now = 20
    oid, syntax = SCALARS["vmibNotifyMinInterval"].oid, SCALARS["vmibNotifyMinInterval"].syntax
    agent.set(VarBind((*oid, 0), Value(syntax.tag, 5)), by="bob")
    assert next_deadline(agent.state) == 30
    agent.set(VarBind((*oid, 0), Value(syntax.tag, 6)), by="ann")
    assert next_deadline(agent.state) == 50


def test_others_neither_configure_nor_act_while_a_transaction_is_open(agent: Agent) -> None:
    agent.set(start(), rate(20))
    assert agent.refuses(rate(1), by="bob") == ("inconsistentValue", 1)
    assert agent.refuses(start(8), by="bob") == ("inconsistentValue", 1)
    for pdu in (COMMIT, ABORT, destroy(), txn("IdleTimeout", 10)):
        assert agent.refuses(pdu, by="bob") == ("inconsistentValue", 1)
    agent.set(ABORT)
    assert agent.refuses(destroy(), by="bob") == ("inconsistentValue", 1)
    agent.set(rate(1), by="bob")
    assert agent.rate == 1


def test_there_is_one_transaction_at_a_time(agent: Agent) -> None:
    agent.set(start())
    assert agent.refuses(start(8)) == ("inconsistentValue", 1)
    assert agent.refuses(start(7)) == ("inconsistentValue", 1)
    agent.set(ABORT)
    assert agent.refuses(start(7)) == ("inconsistentValue", 1)
    agent.set(start(8))
    assert agent.current.index == 8


def test_nothing_is_configured_while_a_commit_awaits_confirmation(agent: Agent) -> None:
    agent.set(start(), rate(20), COMMIT)
    for who in ("ann", "bob"):
        assert agent.refuses(txn("Action", TxnAction.none), rate(1), by=who)[0] == (
            "inconsistentValue"
        )
    assert agent.refuses(rate(1), CONFIRM) == ("inconsistentValue", 1)


ILLEGAL = {
    TxnState.open: (CONFIRM,),
    TxnState.valid: (CONFIRM,),
    TxnState.invalid: (CONFIRM,),
    TxnState.awaitingConfirm: (VALIDATE, COMMIT),
    TxnState.committed: (VALIDATE, COMMIT, CONFIRM, ABORT),
    TxnState.aborted: (VALIDATE, COMMIT, CONFIRM, ABORT),
    TxnState.rolledBack: (VALIDATE, COMMIT, CONFIRM, ABORT),
}


@pytest.mark.parametrize("state", ILLEGAL, ids=lambda state: state.name)
def test_an_action_that_the_state_does_not_allow_is_refused(state: TxnState) -> None:
    known = Transaction(7, "ann", state, 60, 300, "", 0.0, candidate={}, before={})
    finished = state in (TxnState.committed, TxnState.aborted, TxnState.rolledBack)
    if finished:
        agent = Agent(replace(START, history=(known,)))
    else:
        agent = Agent(replace(START, current=known))
    for action in ILLEGAL[state]:
        assert agent.refuses(txn("RowStatus", RowStatus.active), action) == (
            "inconsistentValue",
            2,
        )
    agent.set(txn("Action", TxnAction.none))
    if finished:
        assert agent.refuses(txn("Description", "x")) == ("inconsistentValue", 1)


def test_a_transaction_that_does_not_exist_is_named(agent: Agent) -> None:
    assert agent.refuses(COMMIT) == ("inconsistentName", 1)
    assert agent.refuses(txn("RowStatus", RowStatus.active)) == ("inconsistentValue", 1)
    agent.set(destroy())
    assert agent.state == START


def test_destroy_and_an_action_in_one_pdu_contradict_each_other(agent: Agent) -> None:
    agent.set(start())
    assert agent.refuses(destroy(), COMMIT) == ("inconsistentValue", 2)


def test_validate_names_every_offending_instance_and_is_no_error(agent: Agent) -> None:
    agent.set(
        start(),
        vb("vmibVifSwitchIndex", (1, 1), 9),
        vb("vmibSwitchName", (4,), "br4"),
        vb("vmibSwitchDomain", (4,), 5),
        vb("vmibSwitchRowStatus", (4,), RowStatus.createAndGo),
    )
    agent.set(VALIDATE)
    assert agent.current.state is TxnState.invalid
    assert {instance_name(error.object) for error in agent.current.errors} == {
        "vmibVifSwitchIndex.1.1",
        "vmibSwitchDomain.4",
    }
    assert {error.stage for error in agent.current.errors} == {TxnErrorStage.validate}
    assert all(error.message for error in agent.current.errors)
    agent.set(vb("vmibVifSwitchIndex", (1, 1), 4), vb("vmibSwitchDomain", (4,), 0))
    assert (agent.current.state, agent.current.errors) == (TxnState.open, ())
    agent.set(VALIDATE)
    assert agent.current.state is TxnState.valid
    assert agent.current.changes == 2


def test_a_commit_that_is_invalid_changes_nothing_and_can_be_mended(agent: Agent) -> None:
    agent.set(start(), vb("vmibVifSwitchIndex", (1, 1), 9), COMMIT)
    assert (agent.current.state, agent.state.intent) == (TxnState.invalid, {})
    assert not any(agent.applies)
    agent.set(vb("vmibVifSwitchIndex", (1, 1), 0), COMMIT, txn("ConfirmTimeout", 0))
    assert (agent.last.state, agent.last.changes) == (TxnState.committed, 0)
    assert agent.state.generation == 0


def test_what_the_host_cannot_do_makes_a_candidate_invalid(agent: Agent) -> None:
    def feasible(intent: Intent) -> list[Problem]:
        status = ErrorStatus.resourceUnavailable
        problem = Problem("vmibShapeTable", (1, 1, TO), "row_status", status, "é" * 200)
        return [problem] if intent else []

    agent.world = replace(WORLD, feasible=feasible)
    agent.set(start(), rate(20), COMMIT)
    assert agent.current.state is TxnState.invalid
    (error,) = agent.current.errors
    assert instance_name(error.object) == "vmibShapeRate.1.1.2"
    assert error.message == "é" * 127
    agent.world = replace(WORLD, capabilities=ALL - {"shapeToVm"})
    agent.set(VALIDATE)
    assert "shapeToVm" in agent.current.errors[0].message


def test_within_a_transaction_the_order_of_pdus_does_not_matter(agent: Agent) -> None:
    agent.set(
        vb("vmibSwitchName", (4,), "br4"), vb("vmibSwitchRowStatus", (4,), RowStatus.createAndGo)
    )
    agent.set(vb("vmibVifSwitchIndex", (1, 1), 4))
    agent.set(start(), vb("vmibSwitchRowStatus", (4,), RowStatus.destroy))
    agent.set(VALIDATE)
    assert agent.current.state is TxnState.invalid
    assert instance_name(agent.current.errors[0].object) == "vmibSwitchRowStatus.4"
    agent.set(vb("vmibVifSwitchIndex", (1, 1), 0), COMMIT)
    assert agent.state.intent == {}


def test_a_staged_row_that_is_wrong_by_itself_is_refused_at_once(agent: Agent) -> None:
    agent.set(start(), rate(20))
    assert agent.refuses(rate(1), vb("vmibShapeJitter", (1, 1, TO), 9)) == ("inconsistentValue", 2)
    assert agent.refuses(vb("vmibLinkRate", (1, 1, 1, IPv4Address("10.0.0.0"), 24), 9)) == (
        "inconsistentName",
        1,
    )


def test_the_lock_counts_for_staged_sets_and_is_not_undone_by_abort(agent: Agent) -> None:
    lock = (*SCALARS["vmibTxnSpinLock"].oid, 0)
    agent.set(start(), VarBind(lock, Value(2, 0)))
    agent.set(rate(20), VarBind(lock, Value(2, 1)))
    assert agent.refuses(rate(30), VarBind(lock, Value(2, 1))) == ("inconsistentValue", 2)
    agent.set(ABORT)
    assert agent.state.spin_lock == 2


def test_a_commit_that_changes_nothing_leaves_generation_and_digest(agent: Agent) -> None:
    agent.set(rate(10))
    agent.set(start(), rate(20))
    agent.set(rate(10), COMMIT)
    assert (agent.state.generation, agent.current.changes) == (1, 0)
    agent.wait(600)
    assert (agent.state.generation, agent.last.state) == (1, TxnState.rolledBack)
    assert agent.applies[1:] == [False, True, False]


def test_the_time_to_confirm_can_be_prolonged_but_not_made_endless(agent: Agent) -> None:
    agent.set(start(), txn("ConfirmTimeout", 60), rate(20), COMMIT)
    agent.now = 50
    agent.set(txn("ConfirmTimeout", 100))
    assert next_deadline(agent.state) == 150
    assert agent.refuses(txn("ConfirmTimeout", 0)) == ("inconsistentValue", 1)


def test_the_history_keeps_as_many_as_it_is_told(agent: Agent) -> None:
    size = (*SCALARS["vmibTxnHistorySize"].oid, 0)
    for index in range(1, 6):
        agent.set(start(index))
        agent.set(act(TxnAction.abort, index))
    agent.set(VarBind(size, Value(0x42, 3)))
    assert [old.index for old in agent.state.history] == [3, 4, 5]
    agent.set(destroy(4))
    assert [old.index for old in agent.state.history] == [3, 5]
    agent.set(start(1))
    agent.set(act(TxnAction.abort, 1))
    agent.set(start(2))
    agent.set(act(TxnAction.abort, 2))
    assert [old.index for old in agent.state.history] == [5, 1, 2]


def test_a_restart_aborts_what_is_open(agent: Agent) -> None:
    agent.set(rate(10))
    agent.set(start(), rate(20))
    agent.restart()
    assert agent.state.current is None
    assert (agent.rate, agent.state.generation) == (10, 1)


def test_a_restart_in_memory_also_puts_what_was_open_into_the_history(agent: Agent) -> None:
    agent.set(start(), rate(20))
    agent.adopt(recovered(agent.state, agent.time))
    assert (agent.rate, agent.last.state) == (0, TxnState.aborted)


def test_a_restart_rolls_back_what_was_not_confirmed(agent: Agent) -> None:
    agent.set(rate(10))
    agent.set(start(), rate(20), COMMIT)
    agent.restart()
    assert (agent.rate, agent.last.state) == (10, TxnState.rolledBack)
    assert agent.state.generation == 3
    assert agent.applies[-1]
    assert agent.events[-1] == "vmibTxnFinished rolledBack"


def test_a_restart_drops_volatile_rows_also_from_what_it_rolls_back_to(agent: Agent) -> None:
    volatile = vb("vmibShapeStorageType", (1, 1, TO), StorageType.volatile)
    agent.set(rate(10), volatile)
    agent.restart()
    assert (agent.state.intent, agent.state.generation) == ({}, 2)
    agent.set(rate(10), volatile)
    agent.set(start(), rate(20), COMMIT)
    agent.restart()
    assert agent.state.intent == {}


def refused_by_host() -> list[Problem]:
    status = ErrorStatus.commitFailed
    return [Problem("vmibShapeTable", (1, 1, TO), "rate", status, "tc: no buffer space")]


def test_when_the_host_refuses_a_set_all_stays_as_it_was(agent: Agent) -> None:
    decision = decide(agent.state, [rate(10)], "ann", agent.time, WORLD)
    agent.adopt(commit_failed(agent.state, decision, refused_by_host(), agent.time))
    assert agent.state == START


def test_when_the_host_refuses_a_commit_the_transaction_has_failed(agent: Agent) -> None:
    for pdu in ([start(), rate(20), COMMIT], [start(8), rate(20), act(TxnAction.commit, 8)]):
        decision = decide(agent.state, pdu, "ann", agent.time, WORLD)
        assert decision.position("vmibShapeTable", (1, 1, TO)) == 3
        agent.adopt(commit_failed(agent.state, decision, refused_by_host(), agent.time))
        assert (agent.rate, agent.state.generation) == (0, 0)
        assert agent.last.state is TxnState.failed
        assert [e.stage for e in agent.last.errors] == [TxnErrorStage.apply]
        assert agent.events[-1] == f"{EventKind.FINISHED.value} failed"


def test_when_the_host_refuses_an_abort_the_timeout_tries_again(agent: Agent) -> None:
    agent.set(start(), rate(20), COMMIT)
    decision = decide(agent.state, [ABORT], "ann", agent.time, WORLD)
    agent.adopt(commit_failed(agent.state, decision, refused_by_host(), agent.time))
    assert (agent.rate, agent.current.state) == (20, TxnState.awaitingConfirm)
    assert agent.current.errors[0].stage is TxnErrorStage.undo
    agent.wait(600)
    assert (agent.rate, agent.last.state) == (0, TxnState.rolledBack)


def test_when_the_host_refuses_a_roll_back_the_earlier_intent_stands(agent: Agent) -> None:
    agent.set(start(), rate(20), COMMIT)
    agent.now = 600
    decision = tick(agent.state, agent.time)
    assert decision is not None
    agent.adopt(commit_failed(agent.state, decision, refused_by_host(), agent.time))
    assert (agent.rate, agent.last.state) == (0, TxnState.failed)
    assert agent.last.errors[0].stage is TxnErrorStage.undo
    assert agent.events[-1] == "vmibTxnFinished failed"


def test_machines_made_in_a_transaction_take_the_next_numbers(agent: Agent) -> None:
    def machine(index: int, uuid: str) -> list[VarBind]:
        key = (index,)
        return [
            vb("vmibVmUuid", key, uuid),
            vb("vmibVmName", key, f"m{index}"),
            vb("vmibVmRowStatus", key, RowStatus.createAndGo),
        ]

    agent.set(start(), *machine(2, UUID9))
    assert agent.state.indexes.next_vm == 3
    agent.set(ABORT)
    assert agent.refuses(*machine(2, UUID9))[0] == "inconsistentName"
    agent.set(start(8), *machine(3, UUID9))
    guest = Guest(UUID9, "m", Presence.RUNNING, (GuestVif(0, MAC9, ""),))
    agent.state = discovered(agent.state, [guest])
    agent.set(act(TxnAction.validate, 8))
    assert agent.state.indexes.vms[UUID9] == 4
    assert instance_name(agent.current.errors[0].object) == "vmibVmUuid.3"


def test_a_roll_back_gives_an_interface_its_former_address_and_number(agent: Agent) -> None:
    key, other = (1, 5), "02:00:00:00:00:55"
    agent.world = replace(WORLD, vms={1: KnownVm(UUID1, "web", running=False)})
    agent.set(
        vb("vmibVifMacAddress", key, MAC9), vb("vmibVifRowStatus", key, RowStatus.createAndGo)
    )
    agent.set(start(), vb("vmibVifMacAddress", key, other), COMMIT)
    assert agent.state.indexes.vifs[UUID1, other] == 5
    agent.set(ABORT)
    assert agent.state.intent["vmibVifTable"][key] == Vif(mac_address=MAC9)
    assert agent.state.indexes.vifs[UUID1, MAC9] == 5


def test_an_agent_that_is_recovering_neither_opens_nor_acts(agent: Agent) -> None:
    agent.set(start(), rate(20))
    agent.world = replace(WORLD, mode=HostAgentMode.recovering)
    assert agent.refuses(COMMIT) == ("inconsistentValue", 1)
    assert agent.refuses(start(8)) == ("inconsistentValue", 1)
