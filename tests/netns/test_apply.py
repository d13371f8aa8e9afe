"""A plan is carried out on all hosts or on none: real agents, a real kernel, and real failures."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from vmib import objects, rows
from vmib_manager import credentials_file, lab, reading
from vmib_manager.apply import ApplyFailed, ApplyResult, Options, Outcome, Phase, Progress
from vmib_manager.client import Agent
from vmib_manager.credentials import Credentials
from vmib_manager.description import load, load_real
from vmib_manager.manager import AsyncManager
from vmib_manager.model import Model
from vmib_manager.reachability import expected
from vmib_manager.reading import read_rows, read_scalars
from vmib_manager.seen import Names
from vmib_manager.staging import locked, varbind
from vmib_manager.verification import Verification

pytestmark = pytest.mark.netns

NAME = "applytest"
REAL = """<real xmlns="urn:vmib:1">
  <host id="h1" hypervisor="netns">
    <agent address="127.22.0.1" port="1161" user="vmib"/>
    <pif name="eth0" speed="1Gbit"/>
    <machine name="a"><vif mac="02:76:6d:22:00:01"/></machine>
    <machine name="b"><vif mac="02:76:6d:22:00:02"/></machine>
  </host>
  <host id="h2" hypervisor="netns">
    <agent address="127.22.0.2" port="1161" user="vmib"/>
    <pif name="eth0" speed="1Gbit"/>
    <machine name="c"><vif mac="02:76:6d:22:00:03"/></machine>
    <machine name="d"><vif mac="02:76:6d:22:00:04"/></machine>
  </host>
  <switch id="sw"/>
  <cable a="h1" b="sw" capacity="1Gbit"/>
  <cable a="h2" b="sw" capacity="1Gbit"/>
</real>
"""
VIRTUAL = """<virtual xmlns="urn:vmib:1">
  <site id="east" subnet="10.1.0.0/24">
    <member machine="a" address="10.1.0.1"><down rate="{rate}"/></member>
    <member machine="c" address="10.1.0.3"><down rate="{rate}"/></member>
  </site>
  <site id="west" subnet="10.2.0.0/24">
    <member machine="b" address="10.2.0.2"/>
    <member machine="d" address="10.2.0.4"/>
  </site>
</virtual>
"""
DEVICES = {"h1": "vif1.0", "h2": "vif1.0"}
"""The host ends of a and c."""
STRANGER = (
    *("tc", "qdisc", "add", "dev", "vif1.0", "root", "handle", "77:"),
    *("tbf", "rate", "1mbit", "burst", "5000", "limit", "50000"),
)
SHORT = Options(confirm_timeout=3, idle_timeout=10)


@dataclass(frozen=True)
class Net:
    """A lab of two hosts, and its files."""

    directory: Path
    credentials: dict[str, Credentials]

    @property
    def real(self) -> Path:
        return self.directory / "real.xml"

    def model(self, rate: str) -> Model:
        path = self.directory / f"{rate}.xml"
        path.write_text(VIRTUAL.format(rate=rate))
        return load(self.real, path)

    def up(self) -> None:
        """Start agents that have ended."""
        lab.up(lab.spec_of(load_real(self.real), NAME))

    def pid(self, host: str) -> int:
        found = next(each for each in lab.status(NAME).hosts if each.id == host)
        assert found.agent.pid is not None
        return found.agent.pid

    def inside(self, member: str, *words: str) -> str:
        return subprocess.run(
            lab.command(NAME, member, words), capture_output=True, text=True, check=True
        ).stdout

    def rate(self, host: str) -> int:
        """kbit/s of the TBF on a host's first machine as tc tells it, 0 without one."""
        device = DEVICES[host]
        qdiscs: list[dict[str, Any]] = json.loads(
            self.inside(host, "tc", "-s", "-j", "qdisc", "show", "dev", device)
        )
        return sum(q["options"]["rate"] * 8 // 1000 for q in qdiscs if q["kind"] == "tbf")

    def rates(self) -> list[int]:
        return [self.rate(host) for host in DEVICES]

    def run(self, work: Callable[[AsyncManager], Any], **options: Any) -> Any:
        """What a coroutine makes of a manager of this network."""

        async def inside() -> Any:
            real = load_real(self.real)
            async with AsyncManager(real, self.credentials, **options) as manager:
                return await work(manager)

        return asyncio.run(inside())

    def apply(
        self,
        rate: str,
        options: Options | None = None,
        tell: Callable[[Progress], None] = lambda _: None,
        **patience: Any,
    ) -> ApplyResult:
        async def work(manager: AsyncManager) -> ApplyResult:
            plan = await manager.plan(self.model(rate))
            assert plan.ok, [str(found) for found in plan.findings]
            return await manager.apply(plan, options, tell)

        found = self.run(work, **patience)
        assert isinstance(found, ApplyResult)
        return found

    def configurations(self) -> dict[str, bytes]:
        """vmibTxnDigest of each host."""

        async def work(manager: AsyncManager) -> dict[str, bytes]:
            return {host: (await read_scalars(a)).digest for host, a in manager.agents.items()}

        found: dict[str, bytes] = self.run(work)
        return found

    def pings(self, machine: str, address: str) -> bool:
        words = ("ping", "-c", "1", "-W", "1", address)
        done = subprocess.run(
            lab.command(NAME, machine, words), capture_output=True, text=True, check=False
        )
        return done.returncode == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    directory = tmp_path_factory.mktemp("apply")
    (directory / "real.xml").write_text(REAL)
    real = load_real(directory / "real.xml")
    try:
        lab.up(lab.spec_of(real, NAME))
        path = credentials_file.default_path(None, lab.serving(real), {})
        yield Net(directory, credentials_file.credentials_for(real, path))
    finally:
        lab.down(NAME)


@pytest.fixture
def net(made: Net) -> Net:
    """The lab with all agents running and 10 Mbit/s towards a and c."""
    made.up()
    made.apply("10Mbit")
    assert made.rates() == [10_000, 10_000]
    return made


def once(phase: Phase, act: Callable[[], None], *, done: int = 0) -> Callable[[Progress], None]:
    """Calls `act` when a host first gets so far in a phase."""
    acted: list[bool] = []

    def tell(progress: Progress) -> None:
        if progress.phase is phase and progress.done >= done and not acted:
            acted.append(True)
            act()

    return tell


def wait_until(condition: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "did not happen in time"
        time.sleep(0.1)


def test_all_hosts_are_as_described_and_sites_are_apart(net: Net) -> None:
    result = net.apply("20Mbit")
    assert result.outcome is Outcome.CONFIRMED
    assert net.rates() == [20_000, 20_000]
    addresses = json.loads(net.inside("a", "ip", "-j", "-4", "addr", "show", "eth0"))
    assert addresses[0]["addr_info"][0]["local"] == "10.1.0.1"
    assert net.pings("a", "10.1.0.3")
    net.inside("a", "ip", "route", "add", "10.2.0.0/24", "dev", "eth0")
    net.inside("b", "ip", "route", "add", "10.1.0.0/24", "dev", "eth0")
    try:
        assert not net.pings("a", "10.2.0.2")
    finally:
        net.inside("a", "ip", "route", "del", "10.2.0.0/24")
        net.inside("b", "ip", "route", "del", "10.1.0.0/24")


def test_a_second_apply_sends_nothing(net: Net) -> None:
    before = net.configurations()
    locks = net.run(lambda manager: _locks(manager))
    result = net.apply("10Mbit")
    assert result.outcome is Outcome.UNCHANGED
    assert net.configurations() == before
    assert net.run(lambda manager: _locks(manager)) == locks


async def _locks(manager: AsyncManager) -> list[int]:
    return [(await read_scalars(agent)).spin_lock for agent in manager.agents.values()]


@pytest.mark.parametrize("phase", [Phase.STAGE, Phase.COMMIT, Phase.VERIFY])
def test_when_an_agent_dies_in_a_phase_every_host_is_as_before(net: Net, phase: Phase) -> None:
    before = net.configurations()
    pid = net.pid("h2")
    tell = once(phase, lambda: os.kill(pid, signal.SIGKILL))
    with pytest.raises(ApplyFailed) as failed:
        net.apply("30Mbit", SHORT, tell, timeout=1.0)
    assert failed.value.phase is phase
    assert failed.value.result.hosts["h1"].outcome is Outcome.ROLLED_BACK
    assert failed.value.result.hosts["h2"].outcome is Outcome.UNREACHABLE
    assert "by itself" in failed.value.result.hosts["h2"].message
    assert net.rate("h1") == 10_000
    net.up()
    assert net.rates() == [10_000, 10_000]
    assert net.configurations() == before


def test_an_agent_lost_while_confirming_has_the_others_taken_back(net: Net) -> None:
    before = net.configurations()
    pid = net.pid("h2")
    tell = once(Phase.CONFIRM, lambda: os.kill(pid, signal.SIGKILL))
    with pytest.raises(ApplyFailed) as failed:
        net.apply("30Mbit", SHORT, tell, timeout=1.0)
    assert failed.value.phase is Phase.CONFIRM
    assert failed.value.result.hosts["h1"].outcome is Outcome.ROLLED_BACK
    assert net.rate("h1") == 10_000
    net.up()
    assert net.configurations() == before


def test_an_agent_that_hangs_takes_back_what_it_committed_by_itself(net: Net) -> None:
    before = net.configurations()
    pid = net.pid("h2")
    tell = once(Phase.VERIFY, lambda: os.kill(pid, signal.SIGSTOP))
    try:
        with pytest.raises(ApplyFailed):
            net.apply("30Mbit", SHORT, tell, timeout=1.0)
        assert net.rate("h1") == 10_000
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: net.rates() == [10_000, 10_000], 8)
    assert net.configurations() == before


@pytest.mark.parametrize("phase", ["STAGE", "COMMIT", "VERIFY"])
def test_when_the_manager_is_killed_hosts_take_back_by_themselves(net: Net, phase: str) -> None:
    before = net.configurations()
    net.model("30Mbit")
    program = textwrap.dedent(f"""
        import asyncio, os, signal, sys
        from vmib_manager import credentials_file, lab
        from vmib_manager.apply import Options, Phase
        from vmib_manager.description import load
        from vmib_manager.manager import AsyncManager

        def tell(progress):
            if progress.phase is Phase.{phase} and progress.done == progress.total:
                os.kill(os.getpid(), signal.SIGKILL)

        async def main():
            model = load(sys.argv[1], sys.argv[2])
            path = credentials_file.default_path(None, lab.serving(model.real), {{}})
            credentials = credentials_file.credentials_for(model.real, path)
            async with AsyncManager(model.real, credentials) as manager:
                plan = await manager.plan(model)
                await manager.apply(plan, Options(confirm_timeout=3, idle_timeout=10), tell)

        asyncio.run(main())
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(net.real), str(net.directory / "30Mbit.xml")],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    wait_until(lambda: net.rates() == [10_000, 10_000], 8)
    wait_until(lambda: not any(net.run(_open_transactions)), 14)
    assert net.configurations() == before


async def _open_transactions(manager: AsyncManager) -> list[int]:
    return [(await read_scalars(agent)).transaction for agent in manager.agents.values()]


@pytest.mark.parametrize(
    ("phase", "done"),
    [
        (Phase.STAGE, 0),
        (Phase.COMMIT, 0),
        (Phase.VERIFY, 0),
        (Phase.CONFIRM, 0),
        (Phase.CONFIRM, 1),
    ],
)
def test_an_apply_that_is_cancelled_is_taken_back(net: Net, phase: Phase, done: int) -> None:
    before = net.configurations()

    async def work(manager: AsyncManager) -> None:
        plan = await manager.plan(net.model("30Mbit"))
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(asyncio.CancelledError):
            await manager.apply(plan, None, once(phase, task.cancel, done=done))

    net.run(work)
    assert net.rates() == [10_000, 10_000]
    assert net.configurations() == before
    assert not any(net.run(_open_transactions))


def test_what_one_host_refuses_happens_on_no_host_and_names_the_line(net: Net) -> None:
    before = net.configurations()
    net.apply("unlimited")
    cleared = net.configurations()
    net.inside("h2", *STRANGER)
    try:
        with pytest.raises(ApplyFailed) as failed:
            net.apply("30Mbit")
        complaints = failed.value.result.hosts["h2"].complaints
        assert [str(found.change.source) for found in complaints if found.change] == [
            f"{net.directory}/30Mbit.xml:4"
        ]
        assert net.rate("h1") == 0
        assert net.configurations() == cleared
    finally:
        net.inside("h2", *["tc", "qdisc", "del", "dev", "vif1.0", "root"])
    net.apply("10Mbit")
    assert net.configurations() == before


def test_a_change_by_somebody_else_after_the_plan_is_not_overwritten(net: Net) -> None:
    async def work(manager: AsyncManager) -> None:
        plan = await manager.plan(net.model("30Mbit"))
        agent = manager.agents["h2"]
        scalars = await read_scalars(agent)
        key = next(c.key for c in plan.hosts["h2"].changes if c.table.name == "vmibShapeTable")
        other = varbind(objects.vmibShapeRate, objects.vmibShapeTable.encode_index(key), 44_000)
        await agent.set([locked(scalars.spin_lock), other])
        with pytest.raises(ApplyFailed, match="plan again"):
            await manager.apply(plan)

    net.run(work)
    assert net.rates() == [10_000, 44_000]


def test_a_change_without_the_lock_is_noticed_too(net: Net) -> None:
    async def work(manager: AsyncManager) -> None:
        plan = await manager.plan(net.model("30Mbit"))
        key = next(c.key for c in plan.hosts["h2"].changes if c.table.name == "vmibShapeTable")
        suffix = objects.vmibShapeTable.encode_index(key)
        await manager.agents["h2"].set([varbind(objects.vmibShapeRate, suffix, 44_000)])
        with pytest.raises(ApplyFailed, match="plan again"):
            await manager.apply(plan)

    net.run(work)
    assert net.rates() == [10_000, 44_000]


def test_a_manager_remembers_what_it_applied_and_sees_what_others_change(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[str] = []

    async def noted(agent: Agent, names: Names) -> Any:
        walked.append(agent.name)
        return await read_rows(agent, names)

    async def work(manager: AsyncManager) -> None:
        await manager.apply(await manager.plan(net.model("20Mbit")))
        walked.clear()
        plan = await manager.plan(net.model("30Mbit"))
        assert walked == []
        (change,) = plan.hosts["h2"].changes
        assert (change.before.rate, change.after.rate) == (20_000, 30_000)
        await manager.apply(plan)
        suffix = objects.vmibShapeTable.encode_index(change.key)
        h2 = manager.agents["h2"]
        await h2.set([varbind(objects.vmibShapeRate, suffix, 44_000)])
        plan = await manager.plan(net.model("30Mbit"))
        assert walked == [h2.name]
        assert plan.hosts["h1"].changes == ()
        (change,) = plan.hosts["h2"].changes
        assert (change.before.rate, change.after.rate) == (44_000, 30_000)

    monkeypatch.setattr(reading, "read_rows", noted)
    net.run(work)


def test_a_transaction_that_somebody_left_open_is_named_and_can_be_aborted(net: Net) -> None:
    left = replace(SHORT, confirm=False, confirm_timeout=600)
    assert net.apply("30Mbit", left).outcome is Outcome.AWAITING_CONFIRM
    with pytest.raises(ApplyFailed, match=r"of vmib .*awaits confirmation.*vmib abort"):
        net.apply("40Mbit")
    assert net.rates() == [30_000, 30_000]
    ended = net.run(lambda manager: manager.abort())
    assert {found.state for found in ended.values()} == {rows.TxnState.rolledBack}
    assert net.rates() == [10_000, 10_000]


def test_a_commit_left_to_be_confirmed_is_confirmed_later(net: Net) -> None:
    net.apply("30Mbit", Options(confirm=False))
    ended = net.run(lambda manager: manager.confirm())
    assert {found.state for found in ended.values()} == {rows.TxnState.committed}
    assert net.rates() == [30_000, 30_000]


ROUTED = """<virtual xmlns="urn:vmib:1">
  <site id="left" subnet="10.5.0.0/24" isolation="none" switch="brl" mode="routed"
        addr="10.5.0.254" default-route="switch"><member machine="a" address="10.5.0.1"/></site>
  <site id="right" subnet="10.6.0.0/24" isolation="none" switch="brr" mode="routed"
        addr="10.6.0.254" default-route="switch"><member machine="b" address="10.6.0.1"/></site>
  <site id="alone" subnet="10.7.0.0/24" switch="bra" mode="isolated"
        ><member machine="c" address="10.7.0.1"/></site>
</virtual>
"""


def test_routed_switches_join_their_machines_through_the_host(net: Net) -> None:
    (net.directory / "routed.xml").write_text(ROUTED)
    model = load(net.real, net.directory / "routed.xml")

    async def work(manager: AsyncManager) -> Verification:
        plan = await manager.plan(model)
        assert plan.ok, [str(found) for found in plan.findings]
        await manager.apply(plan)
        return await manager.verify(model)

    assert net.run(work).ok
    reached = {(start, stop) for (start, stop), found in expected(model).items() if found}
    assert reached == {("a", "b"), ("b", "a")}
    assert net.pings("a", "10.6.0.1")
    assert net.pings("b", "10.5.0.1")
    assert not net.pings("a", "10.7.0.1")


def test_clearing_leaves_nothing_of_ours(net: Net) -> None:
    async def work(manager: AsyncManager) -> ApplyResult:
        return await manager.apply(await manager.plan_to_clear())

    assert net.run(work).outcome is Outcome.CONFIRMED
    assert net.rates() == [0, 0]
    rules = net.inside("h1", "iptables-legacy", "-S")
    assert "VMIB" not in rules
    assert json.loads(net.inside("a", "ip", "-j", "-4", "addr", "show", "eth0")) in ([], [{}])
    with suppress(subprocess.CalledProcessError):
        assert "ingress" not in net.inside("h1", "tc", "qdisc", "show", "dev", "vif1.0")
