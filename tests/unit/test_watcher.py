"""Hosts are watched each on its own, and whoever looks sees the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from vmib.errors import VmibError
from vmib_manager import checks, watcher
from vmib_manager.client import AgentError
from vmib_manager.observation import HostView
from vmib_manager.watcher import TREND, Watcher

from .watched import B_RECEIVES, FAST, MODEL, NOON, WELL, answers, seen

Test = Callable[[Watcher], Awaitable[None]]


class Agents:
    """What each host answers: a view, an error, or nothing at all; and how often it was asked."""

    def __init__(self) -> None:
        self.agents = dict.fromkeys(WELL)
        self.answers: dict[str, HostView | VmibError | None] = dict(WELL)
        self.asked = dict.fromkeys(WELL, 0)

    async def observe(self, host: str, agent: object, *_: object) -> HostView:
        self.asked[host] += 1
        answer = self.answers[host]
        if answer is None:
            await asyncio.Future()
        if isinstance(answer, VmibError):
            raise answer
        assert isinstance(answer, HostView)
        return answer


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> Agents:
    found = Agents()
    monkeypatch.setattr(watcher, "observe", found.observe)
    monkeypatch.setattr(watcher, "_LEAST_PAUSE", 0.001)
    return found


def watched(agents: Any, test: Test) -> None:
    """Run a test beside a watcher."""
    wanted = checks.examine(MODEL).rows
    assert wanted is not None

    async def run() -> None:
        found = Watcher(agents, MODEL, wanted, 0.01, lambda: NOON)
        watching = asyncio.create_task(found.run())
        try:
            await asyncio.wait_for(test(found), 20)
        finally:
            watching.cancel()

    asyncio.run(run())


def test_the_first_view_has_all_hosts(agents: Agents) -> None:
    agents.answers["host2"] = None

    async def test(found: Watcher) -> None:
        while agents.asked["host1"] < 3:
            await asyncio.sleep(0.01)
        assert found.view is None

    watched(agents, test)


def test_a_host_that_hangs_holds_up_no_other(agents: Agents) -> None:
    async def test(found: Watcher) -> None:
        await found.after(0)
        agents.answers["host2"] = None
        asked = agents.asked["host1"]
        while agents.asked["host1"] < asked + 5:
            await asyncio.sleep(0.01)
        assert found.view is not None
        assert set(found.view.hosts) == {"host1", "host2"}

    watched(agents, test)


def test_a_host_that_cannot_be_asked_keeps_its_rows(agents: Agents) -> None:
    async def test(found: Watcher) -> None:
        first = await found.after(0)
        agents.answers["host2"] = AgentError("192.0.2.2:161", "no answer")
        view = first
        while view.hosts["host2"].answers:
            view = await found.after(view.number)
        assert view.hosts["host2"].flows == first.hosts["host2"].flows
        assert view.hosts["host2"].status.error == "agent 192.0.2.2:161: no answer"
        assert view.hosts["host1"].answers

    watched(agents, test)


def test_a_trend_has_a_rate_for_each_reading_and_a_gap_where_there_is_none(agents: Agents) -> None:
    agents.answers["host1"] = seen("host1", answers("host1", passing={B_RECEIVES: 700}))

    async def test(found: Watcher) -> None:
        view = await found.after(0)
        flow = next(each for each in view.flows if each.key == B_RECEIVES)
        agents.answers["host1"] = AgentError("192.0.2.1:161", "no answer")
        while view.hosts["host1"].answers:
            view = await found.after(view.number)
        trend = found.trends[flow.host, flow.table, flow.index]
        assert trend[0] == 700
        assert trend[-1] is None
        assert len(trend) <= min(agents.asked["host1"], TREND)

    watched(agents, test)


def test_what_happened_is_told_to_each_reader_once(agents: Agents) -> None:
    async def test(found: Watcher) -> None:
        view = await found.after(0)
        first, told = found.happened(0)
        assert [each.subject for each in first] == ["2 of 2 hosts answer"]
        assert found.happened(told) == ((), told)
        agents.answers["host2"] = AgentError("192.0.2.2:161", "no answer")
        while view.hosts["host2"].answers:
            view = await found.after(view.number)
        (lost,), told = found.happened(told)
        assert lost.text == "unreachable: agent 192.0.2.2:161: no answer"
        assert len(found.happened(0)[0]) == told == 2

    watched(agents, test)


def test_more_than_is_kept_is_not_told_twice(
    agents: Agents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher, "HISTORY", 3)

    async def test(found: Watcher) -> None:
        await found.after(0)
        for _ in range(5):
            found.refuse(VmibError("wrong"))
        news, told = found.happened(1)
        assert (len(news), told) == (3, 6)
        assert found.happened(told)[0] == ()

    watched(agents, test)


def test_another_description_is_compared_with_from_then_on(agents: Agents) -> None:
    wanted = checks.examine(FAST).rows
    assert wanted is not None

    async def test(found: Watcher) -> None:
        await found.after(0)
        found.describe(FAST, wanted)
        agents.answers["host1"] = seen("host1", answers("host1"), FAST)
        view = await found.after(0)
        while not view.problems:
            view = await found.after(view.number)
        assert view.problems[0].text.startswith("apply would change rate 20Mbit → 30Mbit")
        assert view.plan.model is FAST

    watched(agents, test)
