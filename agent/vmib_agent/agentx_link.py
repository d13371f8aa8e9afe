"""A subagent's connection on an asyncio loop: made, kept, and made again for ever."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vmib import __version__, objects
from vmib.vm_mib import VM_MIB

from .agentx_quick import Quick
from .agentx_requests import Requests
from .agentx_session import Role, Session, SessionEnded, State
from .config import AgentxConfig
from .logs import RateLimit, event, log
from .pages import PagedSource
from .service import MibService, VarBind
from .standard import CAPABILITIES
from .view import View

FIRST_DELAY = 0.25
LAST_DELAY = 15.0
CONNECT_SECONDS = 5.0
_RECEIVED_AT_ONCE = 1 << 16

_OIDS = {notification.name: notification.oid for notification in objects.NOTIFICATIONS}


def delays(jitter: Callable[[], float] = random.random) -> Iterator[float]:
    """Seconds to wait between attempts: each twice the one before, up to `LAST_DELAY`.

    `jitter` (0 to 1) shortens each by up to a half, so that many agents do not come at once.
    """
    longest = FIRST_DELAY
    while True:
        yield longest * (1 - jitter() / 2)
        longest = min(2 * longest, LAST_DELAY)


def role(config: AgentxConfig) -> Role:
    """What the agent is to a master: VMIB-MIB, VM-MIB, nothing that the master serves itself."""
    return Role(
        id=objects.SYS_OBJECT_ID,
        description=f"vMIB agent {__version__}",
        subtree=objects.VMIB_MIB,
        capabilities=CAPABILITIES.oid,
        capabilities_description=CAPABILITIES.description,
        timeout=config.timeout,
        priority=config.priority,
        others=(VM_MIB,),
    )


class Subagent:
    """Keeps a session with a master, once it serves; notifications wait until then."""

    def __init__(self, loop: asyncio.AbstractEventLoop, config: AgentxConfig, role: Role) -> None:
        self._loop = loop
        self._address = config.address
        self._session = Session(role)
        self._complaints = RateLimit()
        self._link: _Link | None = None
        self._task: asyncio.Task[None] | None = None
        self._on_change: Callable[[], None] = lambda: None
        self.is_connected = False

    def serve(
        self,
        service: MibService,
        max_varbinds_per_set: int,
        on_change: Callable[[], None] = lambda: None,
        view: View[PagedSource] | None = None,
    ) -> None:
        """Serve a MIB from now on; tell `on_change` when a session begins or ends.

        With `view`, plain requests take a short way.
        """
        self._on_change = on_change
        quick = None if view is None else Quick(view)
        requests = Requests(service, max_varbinds_per_set, quick)
        self._task = self._loop.create_task(self._keep(requests))

    def notify(self, name: str, varbinds: Iterable[VarBind]) -> None:
        """Tell the master of a notification of VMIB-MIB, now or when there is one."""
        octets = self._session.notify(_OIDS[name], tuple(varbinds), self._loop.time())
        if self._link is not None:
            self._link.send(octets)

    async def close(self) -> None:
        """Take leave of the master."""
        if self._link is not None:
            self._link.send(self._session.parting())
            self._link.close("the agent stops")
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep(self, requests: Requests) -> None:
        pauses = delays()
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    link = await self._connect(requests)
            except (OSError, TimeoutError) as error:
                self._complain(getattr(error, "strerror", None) or type(error).__name__)
            else:
                if await self._live(link):
                    pauses = delays()
            await asyncio.sleep(next(pauses))

    async def _connect(self, requests: Requests) -> _Link:
        def make() -> _Link:
            return _Link(self._loop, self._session, requests, self._changed)

        if isinstance(self._address, Path):
            _, link = await self._loop.create_unix_connection(make, str(self._address))
        else:
            _, link = await self._loop.create_connection(make, *self._address)
        return link

    async def _live(self, link: _Link) -> bool:
        """Wait until the connection ends; whether there was a session."""
        self._link = link
        try:
            reason = await link.ended
        finally:
            self._link = None
            link.close("the agent stops")
            self._session.disconnected()
        was_up = self.is_connected
        self._changed()
        if was_up:
            log.warning(event("agentx-disconnected", address=self._address, reason=reason))
        else:
            self._complain(reason)
        return was_up

    def _changed(self) -> None:
        is_up = self._session.state is State.UP
        if is_up == self.is_connected:
            return
        self.is_connected = is_up
        if is_up:
            number = self._session.session_id
            log.info(event("agentx-connected", address=self._address, session=number))
        self._on_change()

    def _complain(self, reason: str) -> None:
        suppressed = self._complaints.suppressed_before(reason)
        if suppressed is not None:
            facts = {"address": self._address, "reason": reason, "suppressed": suppressed}
            log.warning(event("agentx-unavailable", **facts))


class _Link(asyncio.BufferedProtocol):
    """One connection: octets between the socket and the session, and the session's timer."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        session: Session,
        requests: Requests,
        changed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._session = session
        self._requests = requests
        self._changed = changed
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._room = memoryview(bytearray(_RECEIVED_AT_ONCE))
        self.ended: asyncio.Future[str] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.send(self._session.connected(self._requests, self._loop.time()))
        self._set_timer()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        octets = bytes(self._room[:nbytes])
        self._drive(lambda now: self._session.received(octets, now))

    def connection_lost(self, exc: Exception | None) -> None:
        self.close("the connection is gone" if exc is None else str(exc))

    def pause_writing(self) -> None:
        """The master does not read: nor do we, so that answers do not pile up."""
        assert self._transport is not None
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        assert self._transport is not None
        self._transport.resume_reading()

    def send(self, octets: bytes) -> None:
        """Send octets, if the connection still is."""
        if octets and self._transport is not None:
            self._transport.write(octets)

    def close(self, reason: str) -> None:
        """End the connection; the first reason counts."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        if not self.ended.done():
            self.ended.set_result(reason)

    def _drive(self, step: Callable[[float], bytes]) -> None:
        """One step of the session; a fault of ours ends the connection, not the agent."""
        if self._transport is None:
            return
        try:
            self.send(step(self._loop.time()))
        except SessionEnded as ended:
            self.send(ended.parting)
            self.close(str(ended))
        except Exception as error:
            log.error(event("fault", at="agentx", error=type(error).__name__), exc_info=error)
            self.close("a fault of the agent")
        else:
            self._changed()
            self._set_timer()

    def _set_timer(self) -> None:
        """See that the session ticks when it has to; a timer that is early is left as it is."""
        due = self._session.next_tick()
        if due is None or (self._timer is not None and self._timer.when() <= due):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(due, self._time_is_up)

    def _time_is_up(self) -> None:
        self._timer = None
        self._drive(self._session.tick)
