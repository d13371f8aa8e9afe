"""Watching a network: every host is asked again and again, once for all who look.

Each host is asked on its own, so that one that does not answer holds up no other.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NoReturn

from vmib.errors import VmibError

from .client import Agent
from .compile import HostRows
from .happenings import Happening, described, happenings, refused
from .manager import AsyncManager
from .model import Model
from .network_view import NetworkView, Viewer, network_plan
from .observation import FlowKey, HostView
from .observe import observe
from .seen import Tables
from .status import HostStatus

HISTORY = 1000
"""Happenings that are kept."""

TREND = 90
"""Readings of which the rates are kept."""

_TOGETHER = 0.2
"""Seconds in which hosts that answer get into one view, at most; a part of a short interval."""

_LEAST_PAUSE = 0.1
"""Seconds between two readings of a host that is slower than the interval."""


def _now() -> datetime:
    return datetime.now(UTC)


class Watcher:
    """Watches the hosts of a model, which shall have these rows; `interval` is in seconds.

    `run` does it until it is cancelled. Everybody may wait for views with `after`.
    """

    def __init__(
        self,
        manager: AsyncManager,
        model: Model,
        wanted: HostRows,
        interval: float,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self.interval = interval
        self._manager = manager
        self._model = model
        self._wanted = wanted
        self._clock = clock
        self._viewer = Viewer(network_plan(model))
        self._hosts: dict[str, HostView] = {}
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self._view: NetworkView | None = None
        self._history: deque[Happening] = deque(maxlen=HISTORY)
        self._told = 0
        self._trends: dict[FlowKey, deque[int | None]] = {}

    @property
    def agents(self) -> Collection[str]:
        """The hosts that are watched."""
        return self._manager.agents.keys()

    @property
    def view(self) -> NetworkView | None:
        """The latest view; None until all hosts have been asked once."""
        return self._view

    @property
    def history(self) -> Sequence[Happening]:
        """What has happened, the oldest first."""
        return tuple(self._history)

    def happened(self, since: int) -> tuple[Sequence[Happening], int]:
        """What has happened after the first `since` things, and how many there are by now."""
        news = min(self._told - since, len(self._history))
        return self.history[len(self._history) - news :], self._told

    def describe(self, model: Model, wanted: HostRows) -> None:
        """Go on with another description of the same hosts."""
        self._model, self._wanted = model, wanted
        self._viewer.follow(network_plan(model))
        self._tell(described(self._clock(), model.virtual.file))

    def refuse(self, error: VmibError) -> None:
        """Go on with the description that there is, since another one cannot be read."""
        self._tell(refused(self._clock(), self._model.virtual.file, error))

    def _tell(self, *found: Happening) -> None:
        self._history.extend(found)
        self._told += len(found)

    @property
    def trends(self) -> Mapping[FlowKey, Sequence[int | None]]:
        """The rates (kbit/s) at the last readings of each host; None where it did not answer."""
        return {key: tuple(rates) for key, rates in self._trends.items()}

    async def after(self, number: int) -> NetworkView:
        """The latest view, when there is one with a higher number than this (0 for any)."""
        while self._view is None or self._view.number <= number:
            await self._news.wait()
        return self._view

    async def run(self) -> NoReturn:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for name, agent in self._manager.agents.items():
                tasks.create_task(self._watch(name, agent))
            await self._publish()
        raise AssertionError("tasks that never end")

    async def _watch(self, name: str, agent: Agent) -> NoReturn:
        known: Mapping[bytes, Tables] = {}
        loop = asyncio.get_running_loop()
        for reading in itertools.count(1):
            began = loop.time()
            try:
                machines = self._model.machines_of(name)
                view = await observe(name, agent, machines, self._wanted[name], known)
            except VmibError as error:
                before = self._hosts.get(name, HostView(HostStatus(name)))
                view = replace(before, status=HostStatus(name, error=str(error)))
            else:
                assert view.status.scalars is not None
                known = {view.status.scalars.digest: view.tables}
            self._hosts[name] = replace(view, reading=reading)
            self._remember(view)
            self._changed.set()
            await asyncio.sleep(max(_LEAST_PAUSE, began + self.interval - loop.time()))
        raise AssertionError("a count that ends")

    def _remember(self, view: HostView) -> None:
        for flow in view.flows:
            trend = self._trends.setdefault(
                (flow.host, flow.table, flow.index), deque(maxlen=TREND)
            )
            counters = flow.counters if view.answers else None
            trend.append(None if counters is None else counters.achieved_rate)

    async def _publish(self) -> NoReturn:
        """Make views of what the hosts answer; the first one when all have been asked."""
        number = 0
        while True:
            await self._changed.wait()
            await asyncio.sleep(min(_TOGETHER, self.interval / 4))
            self._changed.clear()
            if len(self._hosts) < len(self._manager.agents):
                continue
            number += 1
            hosts = {name: self._hosts[name] for name in self._manager.agents}
            before, self._view = self._view, self._viewer.view(number, self._clock(), hosts)
            self._tell(*happenings(before, self._view))
            news, self._news = self._news, asyncio.Event()
            news.set()
