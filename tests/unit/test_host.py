"""The agent's heart over a kernel in memory: what becomes of state, disk and kernel when one of
them refuses, and when machines, strangers or the hypervisor do what they like."""

from __future__ import annotations

import os
from dataclasses import replace
from ipaddress import IPv4Address, ip_interface
from pathlib import Path
from typing import Any

import pytest

from vmib.rows import (
    AddrKey,
    Direction,
    InetAddressType,
    RowStatus,
    ShapeKey,
    StorageType,
    SwitchMode,
    Sync,
    TxnAction,
    TxnState,
    VmAdminState,
)
from vmib_agent.delivery import Delivery, Way
from vmib_agent.desired import RowKey
from vmib_agent.network import Address, Stack
from vmib_agent.notices import REMEMBERED, Notices
from vmib_agent.qdiscs import Tbf
from vmib_agent.service import Missing, VarBind
from vmib_agent.state import NOTIFICATION_KINDS

from .fake_host import FakeAgent, vb

UUIDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(1, 5)]
MACS = [f"02:00:00:00:00:0{n}" for n in range(1, 7)]
TO, FROM = Direction.toVm, Direction.fromVm
V4 = InetAddressType.ipv4
GO = RowStatus.createAndGo


def rate(value: int, vm: int = 1, direction: Direction = TO) -> VarBind:
    return vb("vmibShapeRate", (vm, 1, direction), value)


def trial(value: int, index: int = 7, confirm: int = 60) -> list[VarBind]:
    """Everything of a commit in one PDU: the commit comes third."""
    return [
        vb("vmibTxnRowStatus", (index,), GO),
        vb("vmibTxnConfirmTimeout", (index,), confirm),
        vb("vmibTxnAction", (index,), TxnAction.commit),
        rate(value),
    ]


def act(action: TxnAction, index: int = 7) -> VarBind:
    return vb("vmibTxnAction", (index,), action)


def switch(index: int, name: str, **columns: Any) -> list[VarBind]:
    cells = [vb(f"vmibSwitch{column}", (index,), value) for column, value in columns.items()]
    return [vb("vmibSwitchName", (index,), name), *cells, vb("vmibSwitchRowStatus", (index,), GO)]


@pytest.fixture
def agent(tmp_path: Path) -> FakeAgent:
    """Two machines with one interface each, nothing configured."""
    made = FakeAgent(tmp_path)
    made.hypervisor.start(UUIDS[0], "web", MACS[0])
    made.hypervisor.start(UUIDS[1], "db", MACS[1])
    made.start()
    return made


def rate_of(agent: FakeAgent, device: str = "vif01") -> int:
    """The rate in kbit/s that the kernel has for what goes to a machine."""
    tree = agent.kernel.devices[device].tree
    options = [item.options for item in tree.qdiscs]
    return sum(option.rate // 125 for option in options if isinstance(option, Tbf))


def test_a_set_is_on_disk_and_in_the_kernel_when_it_is_answered(agent: FakeAgent) -> None:
    agent.set(rate(700), rate(800, 2, FROM), *switch(1, "br1"))
    assert agent.on_disk.intent == agent.host.state.intent
    assert agent.differences() == []
    assert rate_of(agent) == 700
    assert agent.mode == "normal"


def test_what_the_kernel_refuses_is_undone_and_named_by_its_varbind(agent: FakeAgent) -> None:
    agent.set(rate(500))
    before = agent.kernel.snapshot()
    for position in range(8):
        agent.faults.clear()
        agent.faults.refuse_at = frozenset({position})
        refused = agent.refuses(*switch(1, "br1"), rate(800, 2, FROM), rate(700))
        assert refused[0] == "commitFailed"
        assert agent.kernel.snapshot() == before
        assert agent.on_disk.intent == agent.host.state.intent
        assert agent.mode == "normal"
    agent.faults.clear()
    assert rate_of(agent) == 500


@pytest.mark.parametrize("turn", [0, 1])
def test_of_several_interfaces_the_one_that_the_kernel_refuses_is_named(
    agent: FakeAgent, turn: int
) -> None:
    pdu = [rate(700), rate(800, 2)]
    agent.faults.refuse_at = frozenset({1})
    assert agent.refuses(*(pdu if turn == 0 else pdu[::-1])) == ("commitFailed", 2 - turn)


def test_of_both_directions_the_one_that_the_kernel_refuses_is_named(agent: FakeAgent) -> None:
    agent.set(rate(100), rate(100, 1, FROM))
    agent.faults.clear()
    agent.faults.refuse_at = frozenset({1})
    assert agent.refuses(rate(200, 1, FROM), rate(200)) == ("commitFailed", 1)


def test_a_foreign_qdisc_is_laid_to_the_row_that_it_keeps_out(agent: FakeAgent) -> None:
    agent.kernel.devices["vif02"].foreign = "pfifo 5:"
    assert agent.refuses(rate(700), rate(800, 2)) == ("resourceUnavailable", 2)
    assert rate_of(agent) == 0


def route(number: int, metric: int = 0) -> list[VarBind]:
    key = (0, V4, IPv4Address(f"10.{number}.0.0"), 16, metric)
    return [
        vb("vmibRouteNextHop", key, IPv4Address("192.0.2.1")),
        vb("vmibRouteRowStatus", key, GO),
    ]


def test_of_several_routes_the_one_that_the_kernel_refuses_is_named(agent: FakeAgent) -> None:
    agent.faults.refuse_at = frozenset({1})
    assert agent.refuses(*route(1), *route(2), *route(3)) == ("commitFailed", 4)


def test_when_the_undo_fails_too_the_agent_recovers_by_itself(agent: FakeAgent) -> None:
    agent.set(rate(500), rate(500, 2))
    agent.faults.clear()
    agent.faults.refuse_from = 1
    assert agent.refuses(rate(700), rate(700, 2)) == ("undoFailed", 0)
    assert agent.mode == "recovering"
    assert agent.refuses(rate(1)) == ("inconsistentValue", 1)
    assert agent.on_disk.intent == agent.host.state.intent
    agent.faults.clear()
    agent.wait()
    assert agent.differences() == []
    assert rate_of(agent) == 500
    assert agent.mode == "normal"
    agent.set(rate(700))


def test_a_fault_of_ours_in_the_kernel_s_part_leaves_the_old_state(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.set(rate(500), rate(500, 2))

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    with monkeypatch.context() as patched:
        patched.setattr(agent.kernel, "_set_port", fail)
        with pytest.raises(RuntimeError):
            agent.set(rate(700), *switch(1, "br1"), vb("vmibVifSwitchIndex", (1, 1), 1))
    assert agent.on_disk.intent == agent.host.state.intent
    agent.wait()
    assert agent.differences() == []
    assert rate_of(agent) == 500
    assert agent.mode == "normal"


def test_a_full_disk_refuses_a_set_and_changes_nothing(agent: FakeAgent) -> None:
    agent.set(rate(500))
    agent.faults.disk_full = True
    assert agent.refuses(rate(500, 2), rate(700)) == ("resourceUnavailable", 1)
    assert rate_of(agent) == 500
    assert agent.on_disk.intent == agent.host.state.intent
    agent.faults.clear()
    agent.set(rate(700))


def test_a_disk_that_fails_after_it_took_a_change_still_has_the_state_in_force(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.set(rate(500))
    before = agent.host.state.intent

    def fail(handle: int, data: bytes) -> None:
        os.write(handle, data)
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("vmib_agent.statefile._write", fail)
        assert agent.refuses(rate(700)) == ("resourceUnavailable", 1)
    assert agent.host.state.intent == before
    assert agent.on_disk.intent == before
    assert rate_of(agent) == 500


def test_a_commit_refused_by_the_kernel_on_a_disk_that_is_full_by_then_is_not_on_it(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.set(rate(500))
    take = agent.kernel.shape

    def fill(operations: Any) -> None:
        agent.faults.disk_full = True
        take(operations)

    monkeypatch.setattr(agent.host._kernel.shaper, "apply", fill)
    agent.faults.clear()
    agent.faults.refuse_at = frozenset({0})
    assert agent.refuses(rate(700))[0] == "commitFailed"
    agent.start()
    assert rate_of(agent) == 500


def test_numbers_that_cannot_be_saved_are_not_given(agent: FakeAgent) -> None:
    agent.faults.disk_full = True
    agent.hypervisor.start(UUIDS[2], "new", MACS[2])
    agent.wait()
    assert set(agent.host.rows.keys("vmibVmTable")) == {(1,), (2,)}
    agent.set(vb("vmibTxnSpinLock", (), agent.host.state.spin_lock))
    agent.faults.clear()
    agent.hypervisor.stop(UUIDS[2])
    agent.hypervisor.start(UUIDS[3], "other", MACS[3])
    agent.hypervisor.start(UUIDS[2], "new", MACS[2])
    agent.wait()
    assert agent.host.state.indexes.vms[UUIDS[3]] == 3
    assert agent.on_disk.indexes == agent.host.state.indexes


def test_a_commit_without_confirmation_is_undone_in_time(agent: FakeAgent) -> None:
    agent.set(rate(500))
    agent.set(*trial(700))
    assert rate_of(agent) == 700
    agent.wait(59)
    assert rate_of(agent) == 700
    agent.wait(1)
    assert rate_of(agent) == 500
    assert agent.host.state.history[-1].state is TxnState.rolledBack
    assert agent.on_disk.current is None
    assert agent.sent[-1] == "vmibTxnFinished"


def test_a_roll_back_does_not_wait_for_a_disk_that_is_full(agent: FakeAgent) -> None:
    agent.set(rate(500))
    agent.set(*trial(700))
    agent.faults.disk_full = True
    agent.wait(60)
    assert rate_of(agent) == 500
    assert agent.mode == "readOnly"
    assert agent.refuses(rate(1)) == ("notWritable", 1)
    agent.faults.clear()
    agent.wait()
    assert agent.mode == "normal"
    assert agent.on_disk.intent == agent.host.state.intent
    agent.set(rate(600))


def test_a_roll_back_that_the_kernel_refuses_stands_and_is_repaired(agent: FakeAgent) -> None:
    agent.set(rate(500), rate(500, 2))
    agent.set(*trial(700), rate(800, 2))
    agent.faults.clear()
    agent.faults.refuse_at = frozenset({0, 1})
    agent.wait(60)
    assert agent.host.state.history[-1].state is TxnState.failed
    assert agent.host.state.intent == agent.on_disk.intent
    for _ in range(10):
        agent.wait()
    assert (rate_of(agent), rate_of(agent, "vif02")) == (500, 500)
    assert agent.host.out_of_sync() == 0


def test_a_roll_back_past_a_foreign_qdisc_does_the_rest(agent: FakeAgent) -> None:
    agent.set(rate(500), rate(500, 2))
    agent.set(*trial(700), rate(800, 2))
    agent.kernel.devices["vif02"].tree = agent.kernel.devices["vif02"].tree.__class__()
    agent.kernel.devices["vif02"].foreign = "pfifo 5:"
    agent.wait(60)
    assert agent.host.state.current is None
    assert rate_of(agent) == 500
    assert agent.sync("vmibShapeTable", 2, 1, TO) == "failed"
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "inSync"


def test_a_restart_rolls_back_what_was_not_confirmed(agent: FakeAgent) -> None:
    agent.set(rate(500))
    agent.set(*trial(700))
    agent.start()
    assert rate_of(agent) == 500
    assert agent.host.state.history[-1].state is TxnState.rolledBack
    assert agent.on_disk.current is None


def test_a_restart_that_drops_volatile_rows_is_a_change_of_generation(agent: FakeAgent) -> None:
    volatile = vb("vmibShapeStorageType", (1, 1, TO), StorageType.volatile)
    agent.set(rate(500), volatile, rate(600, 2))
    generation = agent.host.state.generation
    agent.start()
    assert (rate_of(agent), rate_of(agent, "vif02")) == (0, 600)
    assert agent.host.state.generation == generation + 1


def test_a_restart_mends_what_others_changed_meanwhile(agent: FakeAgent) -> None:
    agent.set(rate(500), rate(600, 1, FROM), *switch(1, "br1"))
    agent.set(vb("vmibVifSwitchIndex", (1, 1), 1))
    agent.kernel.devices["vif01"].tree = agent.kernel.devices["vif02"].tree
    agent.kernel.ifbs.clear()
    del agent.kernel.bridges["br1"]
    agent.start()
    assert agent.differences() == []


def test_an_obstacle_at_the_start_keeps_only_its_own_row_from_being_made(
    agent: FakeAgent,
) -> None:
    agent.set(rate(500), rate(600, 2), *switch(1, "br1"), *route(1))
    agent.kernel.remove_device("vif01")
    agent.kernel.add_device("vif01")
    agent.kernel.remove_device("vif02")
    agent.kernel.add_device("vif02")
    del agent.kernel.bridges["br1"]
    agent.kernel.devices["vif01"].foreign = "pfifo 5:"
    agent.sent.clear()
    agent.start()
    assert rate_of(agent, "vif02") == 600
    assert "br1" in agent.kernel.bridges
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "failed"
    assert agent.sync("vmibShapeTable", 2, 1, TO) == "inSync"
    assert agent.host.out_of_sync() == 1
    assert agent.sent.count("vmibApplyFailed") == 1
    assert agent.mode == "normal"
    agent.set(rate(700, 2))
    assert rate_of(agent, "vif02") == 700
    assert agent.refuses(rate(100, 2), rate(501)) == ("resourceUnavailable", 2)
    agent.kernel.devices["vif01"].foreign = ""
    for _ in range(10):
        agent.wait()
    assert rate_of(agent) == 500
    assert agent.host.out_of_sync() == 0


def test_an_ifb_that_cannot_be_removed_keeps_no_other_from_being_removed(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.set(rate(500, 1, FROM), rate(500, 2, FROM))
    for uuid in UUIDS[:2]:
        agent.hypervisor.stop(uuid)
    shape = agent.kernel._shape

    def not_the_first(step: Any) -> None:
        assert step.describe() != "ip link del vmib1.1"
        shape(step)

    with monkeypatch.context() as patched:
        patched.setattr(agent.kernel, "_shape", not_the_first)
        agent.start()
    assert list(agent.kernel.ifbs) == ["vmib1.1"]
    for _ in range(10):
        agent.wait()
    assert not agent.kernel.ifbs


def test_a_route_that_is_refused_at_the_start_keeps_nothing_else_out(agent: FakeAgent) -> None:
    agent.set(*switch(1, "br1"), *route(1), *route(2), rate(500))
    agent.kernel.bridges.pop("br1")
    agent.kernel.stacks[""] = type(agent.kernel.stacks[""])()
    wire = agent.kernel._wire

    def without_gateway(step: Any) -> None:
        assert "10.1.0.0" not in step.describe(), "Network is unreachable"
        wire(step)

    agent.kernel._wire = without_gateway  # type: ignore[method-assign]
    agent.start()
    assert "br1" in agent.kernel.bridges
    assert len(agent.kernel.stacks[""].routes) == 1
    first, second = ((0, V4, IPv4Address(f"10.{n}.0.0"), 16, 0) for n in (1, 2))
    assert agent.sync("vmibRouteTable", *first) == "failed"
    assert agent.sync("vmibRouteTable", *second) == "inSync"
    agent.kernel._wire = wire  # type: ignore[method-assign]
    for _ in range(10):
        agent.wait()
    assert agent.differences() == []


def test_what_a_stranger_put_in_the_way_of_one_row_does_not_keep_others_from_changing(
    agent: FakeAgent,
) -> None:
    agent.set(rate(500), rate(600, 2))
    agent.kernel.devices["vif01"].tree = type(agent.kernel.devices["vif01"].tree)()
    agent.kernel.devices["vif01"].foreign = "pfifo 5:"
    agent.kernel.changed.add("vif01")
    agent.wait()
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "drifted"
    agent.set(rate(700, 2))
    assert rate_of(agent, "vif02") == 700
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "drifted"


def test_a_route_of_a_stranger_keeps_only_our_own_route_from_changing(agent: FakeAgent) -> None:
    agent.set(*route(1), *route(2))
    stack = agent.kernel.stacks[""]
    theirs = {replace(r, via=IPv4Address("192.0.2.9"), ours=False) for r in stack.routes}
    first = {r for r in theirs if str(r.destination) == "10.1.0.0/16"}
    kept = {r for r in stack.routes if str(r.destination) != "10.1.0.0/16"}
    agent.kernel.stacks[""] = replace(stack, routes=frozenset(first | kept))
    agent.wait()
    conflict = (0, V4, IPv4Address("10.1.0.0"), 16, 0)
    assert agent.sync("vmibRouteTable", *conflict) == "drifted"
    agent.set(*route(3), *switch(1, "br1"))
    assert "br1" in agent.kernel.bridges
    assert len(agent.kernel.stacks[""].routes) == 3
    assert agent.sync("vmibRouteTable", *conflict) == "drifted"
    metric = vb("vmibRouteNextHop", conflict, IPv4Address("192.0.2.2"))
    assert agent.refuses(rate(500), metric) == ("resourceUnavailable", 2)
    agent.set(vb("vmibRouteRowStatus", conflict, RowStatus.destroy))
    assert first <= agent.kernel.stacks[""].routes


def test_an_uplink_in_use_is_not_taken_from_its_bridge(agent: FakeAgent) -> None:
    agent.kernel.add_device("eth0")
    agent.kernel.ports["eth0"] = replace(agent.kernel.ports["eth0"], bridge="")
    number = agent.kernel.devices["eth0"].index
    uplink = {"Mode": SwitchMode.bridged, "UplinkIfIndex": number}
    agent.wait()
    agent.set(*switch(2, "br2", **uplink))
    before = agent.kernel.snapshot()
    assert agent.refuses(*switch(1, "br1", **uplink))[0] == "resourceUnavailable"
    assert agent.kernel.snapshot() == before


def strangers_change(agent: FakeAgent) -> None:
    agent.kernel.devices["vif01"].tree = agent.kernel.devices["vif02"].tree
    agent.kernel.changed.add("vif01")
    agent.wait()


def test_drift_is_told_and_so_is_its_end(agent: FakeAgent) -> None:
    agent.set(rate(500), rate(600, 2))
    agent.sent.clear()
    right = agent.kernel.devices["vif01"].tree
    strangers_change(agent)
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "drifted"
    agent.kernel.devices["vif01"].tree = right
    agent.kernel.changed.add("vif01")
    agent.wait(20)
    assert agent.sent == ["vmibShapingDrift", "vmibShapingRestored"]
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "inSync"


def test_drift_that_a_set_mends_is_told_to_have_ended(agent: FakeAgent) -> None:
    agent.set(rate(500), rate(600, 2))
    agent.sent.clear()
    strangers_change(agent)
    agent.now += 20
    agent.set(rate(601, 2))
    assert agent.sent == ["vmibShapingDrift", "vmibShapingRestored"]
    assert rate_of(agent) == 500


def test_drift_of_a_link_is_told_and_mended_by_a_transaction_without_changes(
    agent: FakeAgent,
) -> None:
    key = (1, 1, V4, IPv4Address("10.2.0.1"), 32)
    agent.set(vb("vmibLinkRate", key, 500), vb("vmibLinkRowStatus", key, GO))
    agent.sent.clear()
    agent.kernel.ifbs["vmib1.1"] = type(agent.kernel.ifbs["vmib1.1"])()
    agent.kernel.changed.add("vmib1.1")
    agent.wait()
    assert "vmibDrift" in agent.sent
    agent.now += 20
    agent.set(vb("vmibTxnRowStatus", (7,), GO), act(TxnAction.commit))
    assert agent.differences() == []
    assert agent.host.out_of_sync() == 0


def test_rules_are_compared_at_every_look_as_long_as_that_is_quick(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, seconds = agent.kernel.read_rules, 0.01
    looked = []

    def slow_read() -> Any:
        looked.append(agent.now)
        agent.now += seconds
        return read()

    monkeypatch.setattr(agent.host._kernel.firewall, "read", slow_read)
    for _ in range(10):
        agent.wait()
    assert len(looked) == 10
    seconds = 0.1
    looked.clear()
    for _ in range(21):
        agent.wait()
    assert 3 <= len(looked) <= 5


def test_a_host_route_that_a_stranger_removed_is_mended_by_the_next_set(agent: FakeAgent) -> None:
    agent.set(*route(1))
    agent.kernel.stacks[""] = type(agent.kernel.stacks[""])()
    agent.wait()
    assert agent.host.out_of_sync() == 1
    agent.set(rate(500))
    assert agent.differences() == []
    assert agent.host.out_of_sync() == 0


def test_a_state_that_cannot_be_read_is_left_alone_and_so_is_the_kernel(agent: FakeAgent) -> None:
    agent.set(rate(500), rate(600, 1, FROM), *switch(1, "br1"))
    agent.start()
    path = agent.directory / "state.json"
    path.write_bytes(path.read_bytes()[:-40])
    damaged, kernel = path.read_bytes(), agent.kernel.snapshot()
    agent.start()
    assert agent.mode == "readOnly"
    agent.hypervisor.start(UUIDS[2], "new", MACS[2])
    for _ in range(12):
        agent.wait()
    assert agent.refuses(rate(1)) == ("notWritable", 1)
    assert agent.refuses(vb("vmibTxnHistorySize", (), 7)) == ("resourceUnavailable", 1)
    assert path.read_bytes() == damaged
    agent.hypervisor.stop(UUIDS[2])
    assert agent.kernel.snapshot() == kernel
    agent.wait()
    assert agent.kernel.snapshot() == kernel
    path.write_bytes((agent.directory / "state.previous.json").read_bytes())
    agent.start()
    assert agent.mode == "normal"
    assert rate_of(agent) == 500


def test_a_hypervisor_that_is_down_at_the_start_takes_nothing_from_its_machines(
    agent: FakeAgent,
) -> None:
    agent.set(rate(500), rate(600, 1, FROM), *switch(1, "br1"))
    agent.set(vb("vmibVifSwitchIndex", (1, 1), 1))
    kernel = agent.kernel.snapshot()
    agent.hypervisor.is_down = True
    agent.start()
    agent.wait()
    assert agent.kernel.snapshot() == kernel
    assert agent.mode == "recovering"
    agent.kernel.bridges["br1"] = agent.kernel.bridges["br0"]
    agent.kernel.ifbs.clear()
    agent.hypervisor.is_down = False
    agent.wait()
    assert agent.mode == "normal"
    assert agent.differences() == []


def test_machines_of_a_hypervisor_that_has_died_stay_and_are_shaped(agent: FakeAgent) -> None:
    agent.set(rate(500))
    kernel = agent.kernel.snapshot()
    agent.hypervisor.is_down = True
    agent.wait()
    assert agent.kernel.snapshot() == kernel
    assert agent.host.hypervisor_status.name == "down"
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "inSync"
    assert "vmibAgentModeChange" in agent.sent
    agent.set(rate(600))
    agent.hypervisor.is_down = False
    assert agent.differences() == []
    agent.wait()
    assert agent.host.hypervisor_status.name == "up"


def test_a_host_end_that_goes_while_the_hypervisor_is_dead_is_waited_for(agent: FakeAgent) -> None:
    agent.set(rate(500))
    agent.hypervisor.is_down = True
    agent.kernel.remove_device(f"vif{MACS[0][-2:]}")
    agent.wait()
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "waiting"


def test_an_address_that_is_slow_to_reach_its_machine_is_waited_for(agent: FakeAgent) -> None:
    address = IPv4Address("192.0.2.1")
    key = (1, 1, V4, address)
    columns = [vb("vmibAddrPrefixLength", key, 24), vb("vmibAddrRowStatus", key, GO)]
    agent.kernel.slow[UUIDS[0]] = Delivery(Way.GUEST_AGENT, None, "it is not running")
    agent.set(*columns)
    row = RowKey("vmibAddrTable", AddrKey(*key))
    assert agent.host.sync(row) == (Sync.waiting, "guest agent: it is not running")
    assert agent.kernel.stacks[UUIDS[0]].addresses == frozenset()
    arrived = Stack(frozenset({Address(0, ip_interface("192.0.2.1/24"))}), mtus={0: 1500})
    agent.kernel.slow[UUIDS[0]] = Delivery(Way.GUEST_AGENT, arrived)
    agent.host.hypervisor_event()
    assert agent.host.sync(row) == (Sync.inSync, "")
    assert agent.host.way(1) is Way.GUEST_AGENT
    agent.kernel.slow[UUIDS[0]] = Delivery(Way.GUEST_AGENT, Stack(mtus={0: 1500}))
    agent.host.hypervisor_event()
    missing = "guest agent: missing: ip -n"
    assert agent.host.sync(row)[1].startswith(missing)


def test_a_state_of_a_machine_is_asked_for_once_when_it_is_set(agent: FakeAgent) -> None:
    class Cycle:
        def __init__(self) -> None:
            self.asked: list[tuple[str, str]] = []
            self.refused: list[tuple[str, str]] = []

        def ask(self, uuid: str, state: VmAdminState) -> None:
            self.asked.append((uuid, state.name))

        def refusals(self) -> list[tuple[str, str]]:
            return [self.refused.pop()] if self.refused else []

    wanted = vb("vmibVmAdminState", (1,), VmAdminState.shutdown)
    assert agent.refuses(wanted) == ("resourceUnavailable", 1)
    cycle = Cycle()
    agent.life_cycle = cycle
    agent.start()
    assert cycle.asked == []
    agent.set(wanted)
    agent.set(rate(500))
    agent.set(vb("vmibVmAdminState", (1,), VmAdminState.unmanaged))
    assert cycle.asked == [(UUIDS[0], "shutdown")]
    cycle.refused.append((UUIDS[0], "shutdown: the machine is busy"))
    agent.sent.clear()
    agent.host.hypervisor_event()
    assert agent.sent == ["vmibApplyFailed"]


def test_a_host_end_made_anew_within_a_moment_is_shaped_again(agent: FakeAgent) -> None:
    agent.set(rate(500), rate(600, 1, FROM), *switch(1, "br1"))
    agent.set(vb("vmibVifSwitchIndex", (1, 1), 1))
    agent.hypervisor.stop(UUIDS[0])
    agent.hypervisor.start(UUIDS[0], "web", MACS[0])
    agent.wait()
    assert agent.differences() == []
    assert agent.host.out_of_sync() == 0


def test_a_machine_made_anew_within_a_moment_has_its_addresses_again(agent: FakeAgent) -> None:
    key = (1, 1, V4, IPv4Address("10.0.0.1"))
    agent.set(vb("vmibAddrPrefixLength", key, 24), vb("vmibAddrRowStatus", key, GO))
    agent.hypervisor.stop(UUIDS[0])
    agent.hypervisor.start(UUIDS[0], "web", MACS[0])
    agent.wait()
    assert agent.differences() == []


@pytest.mark.parametrize("column", ["Burst", "QueueLimit"])
def test_a_row_mended_by_a_set_is_no_longer_failed(agent: FakeAgent, column: str) -> None:
    agent.set(rate(500), vb(f"vmibShape{column}", (1, 1, TO), 1600))
    agent.kernel.devices["vif01"].mtu = 9000
    agent.wait()
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "failed"
    agent.set(rate(600, 2))
    assert agent.refuses(vb(f"vmibShape{column}", (1, 1, TO), 1700)) == ("inconsistentValue", 1)
    agent.set(vb(f"vmibShape{column}", (1, 1, TO), 0))
    assert agent.sync("vmibShapeTable", 1, 1, TO) == "inSync"


def test_settings_are_on_disk_and_the_lock_is_new_with_each_start(agent: FakeAgent) -> None:
    agent.set(vb("vmibTxnHistorySize", (), 7), vb("vmibNotifyMinInterval", (), 0))
    assert agent.on_disk.history_size == 7
    lock = agent.host.state.spin_lock
    agent.set(vb("vmibTxnSpinLock", (), lock))
    assert agent.host.state.spin_lock == lock + 1
    agent.start()
    assert agent.host.state.history_size == 7
    assert agent.host.state.spin_lock != lock + 1


def test_when_a_row_was_applied_is_known_of_rows_that_are_there(agent: FakeAgent) -> None:
    def applied(vm: int) -> float | None:
        return agent.host.applied(RowKey("vmibShapeTable", ShapeKey(vm, 1, TO)))

    began = agent.clock().wall
    agent.set(rate(500), rate(600, 2))
    agent.hypervisor.stop(UUIDS[1])
    agent.wait(5)
    agent.set(rate(501), rate(700, 2))
    assert (applied(1), applied(2)) == (began + 5, began)
    agent.hypervisor.start(UUIDS[1], "db", MACS[1])
    agent.wait(5)
    assert (applied(1), applied(2)) == (began + 5, began + 10)
    agent.set(rate(0))
    assert applied(1) is None


def test_notices_of_long_ago_are_forgotten() -> None:
    sent: list[str] = []
    notices = Notices(lambda name, _: sent.append(name), lambda _: Missing(instance=True))
    for index in range(3 * REMEMBERED):
        notices.about("vmibTxnFinished", (index,), index, NOTIFICATION_KINDS, 10)
    assert len(sent) == 3 * REMEMBERED
    assert len(notices._last) <= REMEMBERED
    notices.about("vmibTxnFinished", (index,), index + 9, NOTIFICATION_KINDS, 10)
    assert notices.suppressed == 1
