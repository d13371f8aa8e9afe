"""Bringing addresses and routes into libvirt's guests, in threads of their own.

What guests are to have is told by `wish` and brought as soon as a guest can be reached; it is
looked at again from time to time, and brought again when it is gone. The agent never waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from vmib.errors import VmibError

from .delivery import Delivery, Way, missing
from .domains import AgentChannel, Domain
from .ledger import Ledger
from .logs import event, log
from .network import Stack
from .network_plan import NetworkOperation
from .ports import ApplyError, Guest, Presence

THREADS = 4
"""Guests that are reached at the same time; libvirtd serves five requests of one client."""
FIRST_RETRY, LAST_RETRY = 0.25, 5.0
"""Seconds until an attempt is repeated; each doubles the one before."""
RECHECK = 10.0
"""Seconds until a guest that has everything is looked at again."""

_NO_WAY = (
    "it has no channel for a guest agent, and nothing else is configured by which it could be told"
)


class Courier(Protocol):
    """One way into guests; one that `works_ahead` tells machines something before they run."""

    @property
    def works_ahead(self) -> bool:
        """Whether a machine that does not run is served, too."""

    def serves(self, domain: Domain) -> bool:
        """Whether this way leads into a domain."""

    def bring(self, domain: Domain, wanted: Stack) -> Delivery:
        """Bring what is wanted, and see what is there; may take some seconds.

        Raises `VmibError` when the guest cannot be reached.
        """


@dataclass(slots=True)
class _Task:
    """A guest to be served: not before `due`, after `failures` attempts that were not enough."""

    due: float = 0.0
    failures: int = 0
    is_busy: bool = False
    is_stale: bool = False


class Couriers:
    """Implements `network_kernel.GuestNetwork` over several ways, the first that serves is taken.

    `domains` gives libvirt's domains as last seen; `changed` is called, in any thread, when a
    delivery got on.
    """

    def __init__(
        self,
        ways: Sequence[tuple[Way, Courier]],
        domains: Callable[[], Mapping[str, Domain]],
        ledger: Ledger,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ways = ways
        self._domains = domains
        self._ledger = ledger
        self._changed = changed
        self._clock = clock
        self._condition = threading.Condition()
        self._stopping = False
        self._wishes: Mapping[str, Stack] = {}
        self._seen: Mapping[str, Domain] = {}
        self._tasks: dict[str, _Task] = {}
        self._deliveries: dict[str, Delivery] = {}

    @property
    def takes_entering(self) -> bool:
        """No: guests are machines with kernels of their own."""
        return False

    def read(self, guest: Guest) -> Stack | None:
        """None: guests are not read while the agent waits."""

    def apply(self, place: str, operations: Sequence[NetworkOperation]) -> None:
        """Refused, as guests are not read either."""
        raise ApplyError(0, operations[0].describe(), f"the guest {place} is slow to reach")

    def wish(self, stacks: Callable[[], Mapping[str, Stack]]) -> None:
        """What guests are to have from now on: called, it tells that by UUID."""
        wanted = stacks()
        with self._condition:
            before, self._wishes = self._wishes, wanted
            for uuid in before.keys() | wanted.keys():
                if before.get(uuid) != wanted.get(uuid):
                    self._serve(uuid)
            self._condition.notify_all()

    def deliveries(self) -> Mapping[str, Delivery]:
        """How far the guests have got, by UUID."""
        with self._condition:
            return dict(self._deliveries)

    def domains_changed(self) -> None:
        """See to the domains that are not as before."""
        now = self._domains()
        with self._condition:
            before, self._seen = self._seen, now
            for uuid in before.keys() | now.keys():
                old, new = before.get(uuid), now.get(uuid)
                if old != new:
                    if _is_another(old, new):
                        self._deliveries.pop(uuid, None)
                    self._serve(uuid)
            self._condition.notify_all()

    def start(self) -> None:
        """Begin."""
        for number in range(THREADS):
            name = f"vmib-guests-{number}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def close(self) -> None:
        """Begin nothing more."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def _serve(self, uuid: str) -> None:
        """Have a guest served soon, if there is anything to bring or to take away."""
        domain = self._domains().get(uuid)
        way, courier = self._way(domain)
        is_running = domain is not None and domain.presence is Presence.RUNNING
        is_ahead = domain is not None and courier is not None and courier.works_ahead
        has_work = _is_something(self._wishes.get(uuid)) or self._ledger.put(uuid)
        if has_work and (is_running or is_ahead):
            task = self._tasks.setdefault(uuid, _Task())
            task.due, task.failures, task.is_stale = self._clock(), 0, True
            self._deliveries.setdefault(uuid, Delivery(way))
        else:
            self._tasks.pop(uuid, None)
            self._deliveries.pop(uuid, None)

    def _way(self, domain: Domain | None) -> tuple[Way, Courier | None]:
        for way, courier in self._ways:
            if domain is not None and courier.serves(domain):
                return way, courier
        return Way.ITSELF, None

    def _run(self) -> None:
        while True:
            with self._condition:
                uuid = self._next()
                while uuid is None and not self._stopping:
                    self._condition.wait(self._pause())
                    uuid = self._next()
                if uuid is None or self._stopping:
                    return
                task, wanted = self._tasks[uuid], self._wishes.get(uuid, Stack())
                domain = self._domains().get(uuid)
                task.is_busy, task.is_stale = True, False
            delivery = self._brought(domain, wanted) if domain is not None else None
            with self._condition:
                is_new = self._done(uuid, task, wanted, delivery)
            if is_new:
                self._changed()

    def _next(self) -> str | None:
        now = self._clock()
        due = [(t.due, uuid) for uuid, t in self._tasks.items() if t.due <= now and not t.is_busy]
        return min(due)[1] if due else None

    def _pause(self) -> float | None:
        times = [task.due for task in self._tasks.values() if not task.is_busy]
        return max(min(times) - self._clock(), 0.0) if times else None

    def _brought(self, domain: Domain, wanted: Stack) -> Delivery:
        way, courier = self._way(domain)
        if courier is None:
            return Delivery(way, None, _NO_WAY)
        try:
            return courier.bring(domain, wanted)
        except VmibError as error:
            return Delivery(way, None, str(error))
        except Exception as error:  # a guest's answer must not end the thread
            log.exception(event("guest-not-served", machine=domain.name))
            return Delivery(way, None, f"{type(error).__name__}: {error}")

    def _done(self, uuid: str, task: _Task, wanted: Stack, delivery: Delivery | None) -> bool:
        """Note what came of an attempt; whether that is news."""
        task.is_busy = False
        self._condition.notify_all()
        is_current = self._tasks.get(uuid) is task and not task.is_stale
        if not is_current or delivery is None:
            return False
        is_done = not missing(uuid, wanted, delivery)
        task.failures = 0 if is_done else task.failures + 1
        pause = min(FIRST_RETRY * 2 ** min(task.failures - 1, 10), LAST_RETRY)
        task.due = self._clock() + (RECHECK if is_done else pause)
        if is_done and not _is_something(wanted):
            del self._tasks[uuid]
        is_new = self._deliveries.get(uuid) != delivery
        self._deliveries[uuid] = delivery
        return is_new


def _is_another(old: Domain | None, new: Domain | None) -> bool:
    """Whether a machine has started anew, or its guest agent has gone."""
    if old is None or new is None or old.number != new.number:
        return True
    if old.presence is not new.presence:
        return True
    return new.agent is AgentChannel.SILENT


def _is_something(stack: Stack | None) -> bool:
    return stack is not None and bool(stack.addresses or stack.routes)
