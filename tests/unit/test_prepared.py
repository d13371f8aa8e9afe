"""A SET in phases, as an AgentX master asks for it: tested, committed, undone, over."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.rows import Direction, HostAgentMode, RowStatus, TxnAction, TxnState
from vmib.schema import SCALARS
from vmib.smi import Tag
from vmib_agent.prepared import PreparedChange
from vmib_agent.service import SetRefused, Value, VarBind
from vmib_agent.state import State

from .fake_host import FakeAgent, Killed, vb

UUIDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(1, 4)]
MACS = [f"02:00:00:00:00:0{n}" for n in range(1, 4)]
TO, FROM = Direction.toVm, Direction.fromVm
BY = "agentx"


def rate(value: int, vm: int = 1, direction: Direction = TO) -> VarBind:
    return vb("vmibShapeRate", (vm, 1, direction), value)


def lock(value: int) -> VarBind:
    return VarBind((*SCALARS["vmibTxnSpinLock"].oid, 0), Value(Tag.INTEGER, value))


@pytest.fixture
def agent(tmp_path: Path) -> FakeAgent:
    """Two machines with one interface each; one of them is shaped."""
    made = FakeAgent(tmp_path)
    made.hypervisor.start(UUIDS[0], "web", MACS[0])
    made.hypervisor.start(UUIDS[1], "db", MACS[1])
    made.start()
    made.set(rate(500))
    made.sent.clear()
    return made


def prepare(agent: FakeAgent, *varbinds: VarBind) -> PreparedChange:
    return agent.host.prepare(varbinds, BY)


def refused(call: object) -> tuple[str, int]:
    with pytest.raises(SetRefused) as caught:
        call()  # type: ignore[operator]
    return caught.value.status.name, caught.value.index


def test_what_is_tested_has_no_effect(agent: FakeAgent) -> None:
    before = agent.kernel.snapshot(), agent.host.state, agent.on_disk
    prepare(agent, rate(700), rate(800, 2, FROM)).release()
    assert (agent.kernel.snapshot(), agent.host.state, agent.on_disk) == before


def test_what_the_host_cannot_do_is_found_by_the_test(agent: FakeAgent) -> None:
    agent.kernel.devices["vif02"].foreign = "pfifo 5:"
    assert refused(lambda: prepare(agent, rate(700), rate(800, 2))) == ("resourceUnavailable", 2)
    missing = rate(700, 9)
    assert refused(lambda: prepare(agent, rate(700), missing)) == ("inconsistentName", 2)


def test_what_was_committed_and_undone_is_back_also_on_disk(agent: FakeAgent) -> None:
    before = agent.kernel.snapshot(), agent.host.state, agent.on_disk
    change = prepare(agent, lock(agent.host.state.spin_lock), rate(700), rate(800, 2, FROM))
    change.commit()
    assert agent.on_disk.intent == agent.host.state.intent != before[2].intent
    change.undo()
    change.release()
    assert (agent.kernel.snapshot(), agent.host.state, agent.on_disk) == before
    assert agent.differences() == []
    assert agent.host.mode is HostAgentMode.normal


def test_scalars_and_what_is_staged_are_undone_too(agent: FakeAgent) -> None:
    agent.set(vb("vmibTxnRowStatus", (7,), RowStatus.createAndGo), by=BY)
    before = agent.host.state, agent.on_disk
    change = prepare(agent, vb("vmibNotifyMinInterval", (), 99), rate(700))
    change.commit()
    assert agent.on_disk.notify_min_interval == 99
    assert agent.host.state.current is not None
    assert agent.host.state.current.changes == 1
    change.undo()
    assert (agent.host.state, agent.on_disk) == before


def test_a_transaction_is_announced_when_its_set_is_over_and_not_when_it_is_undone(
    agent: FakeAgent,
) -> None:
    pdu = [
        vb("vmibTxnRowStatus", (7,), RowStatus.createAndGo),
        vb("vmibTxnConfirmTimeout", (7,), 0),
        vb("vmibTxnAction", (7,), TxnAction.commit),
        rate(700),
    ]
    undone = prepare(agent, *pdu)
    undone.commit()
    undone.undo()
    undone.release()
    assert agent.sent == []
    assert agent.host.state.history == ()
    done = prepare(agent, *pdu)
    done.commit()
    assert agent.sent == []
    done.release()
    assert agent.sent == ["vmibTxnFinished"]
    assert agent.host.state.history[0].state is TxnState.committed


def test_a_commit_that_the_kernel_refuses_leaves_nothing_to_undo(agent: FakeAgent) -> None:
    before = agent.kernel.snapshot(), agent.on_disk
    change = prepare(agent, rate(700), rate(800, 2))
    agent.faults.clear()
    agent.faults.refuse_at = frozenset({1})
    assert refused(change.commit) == ("commitFailed", 2)
    change.undo()
    change.release()
    assert (agent.kernel.snapshot(), agent.on_disk) == before


def test_an_undo_that_the_kernel_refuses_is_told_and_mended_later(agent: FakeAgent) -> None:
    before = agent.host.state
    change = prepare(agent, rate(700))
    change.commit()
    agent.faults.clear()
    agent.faults.refuse_from = 0
    assert refused(change.undo) == ("undoFailed", 0)
    assert agent.host.state == before
    assert agent.on_disk.intent == before.intent
    assert agent.host.mode is HostAgentMode.recovering
    agent.faults.clear()
    agent.wait()
    assert agent.differences() == []
    assert agent.host.mode is HostAgentMode.normal


def test_an_undo_on_a_full_disk_is_an_undo(agent: FakeAgent) -> None:
    before = agent.kernel.snapshot(), agent.host.state.intent
    change = prepare(agent, rate(700))
    change.commit()
    agent.faults.disk_full = True
    with agent.faults.disk():
        change.undo()
    assert (agent.kernel.snapshot(), agent.host.state.intent) == before
    assert agent.on_disk.intent == before[1]


def test_a_full_disk_is_found_by_the_commit(agent: FakeAgent) -> None:
    change = prepare(agent, rate(700))
    agent.faults.disk_full = True
    with agent.faults.disk():
        assert refused(change.commit) == ("resourceUnavailable", 1)
    assert agent.differences() == []


def test_what_changed_in_between_is_decided_anew(agent: FakeAgent) -> None:
    change = prepare(agent, rate(700))
    agent.set(rate(900, 2))
    change.commit()
    change.release()
    assert agent.differences() == []
    assert len(agent.host.state.intent["vmibShapeTable"]) == 2


def test_what_is_no_longer_good_fails_to_commit(agent: FakeAgent) -> None:
    number = agent.host.state.spin_lock
    change = prepare(agent, rate(700), lock(number))
    agent.set(lock(number))
    assert refused(change.commit) == ("commitFailed", 2)
    assert agent.host.state.intent["vmibShapeTable"][1, 1, TO].rate == 500


def test_a_machine_that_went_in_between_fails_the_commit(agent: FakeAgent) -> None:
    change = prepare(agent, rate(700, 2))
    agent.hypervisor.stop(UUIDS[1])
    agent.wait()
    assert refused(change.commit) == ("commitFailed", 1)


def test_a_machine_that_came_in_between_keeps_its_number_through_an_undo(agent: FakeAgent) -> None:
    change = prepare(agent, rate(700))
    change.commit()
    agent.hypervisor.start(UUIDS[2], "cache", MACS[2])
    agent.wait()
    numbers = agent.host.state.indexes
    assert UUIDS[2] in numbers.vms
    change.undo()
    assert agent.host.state.indexes == numbers == agent.on_disk.indexes
    assert agent.host.state.intent["vmibShapeTable"][1, 1, TO].rate == 500
    assert agent.differences() == []


def test_what_somebody_set_since_is_not_undone(agent: FakeAgent) -> None:
    change = prepare(agent, rate(700))
    change.commit()
    agent.set(rate(900, 2))
    after = agent.host.state
    assert refused(change.undo) == ("undoFailed", 0)
    assert agent.host.state is after
    assert agent.differences() == []


def test_two_sets_tested_at_once_are_both_committed(agent: FakeAgent) -> None:
    one, other = prepare(agent, rate(700)), prepare(agent, rate(800, 2))
    one.commit()
    other.commit()
    assert agent.differences() == []
    assert {key[0]: row.rate for key, row in agent.host.state.intent["vmibShapeTable"].items()} == {
        1: 700,
        2: 800,
    }


def test_the_dry_run_of_the_test_is_the_plan_of_the_commit(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = prepare(agent, rate(700))
    monkeypatch.setattr(agent.host._reconciler, "plan", lambda *_: pytest.fail("planned twice"))
    change.commit()


def test_a_kill_between_any_two_steps_of_an_undo_leaves_one_state_or_the_other(
    agent: FakeAgent,
) -> None:
    before = agent.host.state.intent
    outcomes = []
    for step in range(100):
        change = prepare(agent, rate(700), rate(800, 2))
        change.commit()
        after = agent.host.state.intent
        agent.faults.clear()
        agent.faults.kill_at = step
        try:
            with agent.faults.disk():
                change.undo()
        except Killed:
            agent.faults.clear()
            agent.start()
            outcomes.append(agent.host.state.intent)
            assert outcomes[-1] in (before, after)
            assert agent.differences() == []
            agent.set(rate(500), rate(0, 2))
        else:
            break
    assert agent.host.state.intent == before
    assert before in outcomes
    assert after in outcomes


STEPS = ("test", "commit", "undo", "release", "set", "tick")


@given(
    st.lists(st.tuples(st.sampled_from(STEPS), st.integers(1, 2), st.integers(1, 3)), max_size=12)
)
def test_in_whatever_order_phases_come_disk_kernel_and_rows_agree(
    steps: list[tuple[str, int, int]],
) -> None:
    """Two SETs are under way at most, one for each machine, beside those of somebody else."""
    with tempfile.TemporaryDirectory() as place:
        agent = FakeAgent(Path(place))
        agent.hypervisor.start(UUIDS[0], "web", MACS[0])
        agent.hypervisor.start(UUIDS[1], "db", MACS[1])
        agent.start()
        tested: dict[int, PreparedChange] = {}
        committed: dict[int, tuple[PreparedChange, State, State]] = {}
        for step, vm, value in steps:
            before = agent.host.state
            match step:
                case "test":
                    tested[vm] = prepare(agent, rate(value * 100, vm))
                    assert agent.host.state is before
                case "commit" if vm in tested:
                    change = tested.pop(vm)
                    change.commit()
                    committed[vm] = (change, before, agent.host.state)
                case "undo" if vm in committed:
                    change, earlier, later = committed.pop(vm)
                    if agent.host.state is later:
                        change.undo()
                        assert agent.host.state == earlier
                    else:
                        assert refused(change.undo) == ("undoFailed", 0)
                        assert agent.host.state is before
                case "release" if vm in committed:
                    committed.pop(vm)[0].release()
                case "set":
                    agent.set(rate(value * 100, vm))
                case "tick":
                    agent.wait()
            assert agent.differences() == []
            assert agent.on_disk.intent == agent.host.state.intent
