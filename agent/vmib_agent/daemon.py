"""The agent as a process: sockets, signals, the service manager, and the end of it all."""

from __future__ import annotations

import asyncio
import gc
import platform
import signal
import socket
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from vmib import __version__
from vmib.snmp.message import MAX_DATAGRAM

from . import agentx_link, identity, systemd, users
from .agentx_link import Subagent
from .config import Config
from .durable import StateUnusable
from .frontend import FrontEnd
from .informers import Informers
from .logs import configure, event, log
from .notifier import Notifier
from .pages import PagedSource
from .quickset import QuickService
from .sealing import Sealer
from .service import MibService, VarBind
from .standard import SystemFacts
from .transport import Listeners, bind
from .view import View

Notify = Callable[[str, Iterable[VarBind]], None]


class Running(Protocol):
    """The agent behind its front end, started."""

    @property
    def service(self) -> MibService:
        """What answers requests."""

    @property
    def view(self) -> View[PagedSource] | None:
        """What the short way of answering reads; None where there is only the long one."""

    @property
    def quick(self) -> QuickService | None:
        """The short way for SETs; None where there is only the long one."""

    def close(self) -> None:
        """Stop, and leave the network as it is."""


Uptime = Callable[[], float]
MakeService = Callable[[Config, asyncio.AbstractEventLoop, Notify, Uptime], Running]


def make_service(
    config: Config, loop: asyncio.AbstractEventLoop, notify: Notify, uptime: Uptime
) -> Running:
    """Start the part that owns the kernel.

    Loaded here, because users and configuration are handled on hosts without its libraries too.
    """
    from . import assembly

    return assembly.start(config, loop, notify, uptime)


def clean_up(config: Config) -> list[str]:
    """Remove from this host what the agent made there, and nothing else; says what it did."""
    from . import assembly

    return assembly.clean_up(config)


def run(config: Config, make: MakeService = make_service) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the users again.

    The engine's boots are on the disk before a socket is read. Raises `VmibError` when the agent
    cannot start.
    """
    configure(config.log_level)
    started = time.clock_gettime(time.CLOCK_BOOTTIME)

    def uptime() -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started

    who = identity.start(config.state_directory)
    sealer = Sealer(who, uptime)
    known = users.load_users(config.state_directory)
    sockets = systemd.inherited_sockets() or [bind(endpoint) for endpoint in config.listen]
    loop = asyncio.new_event_loop()
    informers = Informers(loop, config.notifications, who.engine_id)
    notifier = Notifier(sealer, known, config.notifications, informers, uptime)
    subagent: Subagent | None = None
    if config.agentx.enabled:
        subagent = Subagent(loop, config.agentx, agentx_link.role(config.agentx))

    def notify(name: str, varbinds: Iterable[VarBind]) -> None:
        told = tuple(varbinds)
        notifier.notify(name, told)
        if subagent is not None:
            subagent.notify(name, told)

    running = make(config, loop, notify, uptime)
    front_end = FrontEnd(
        running.service,
        who,
        known,
        system_facts(config, who),
        config.limits,
        config.v2c,
        sealer,
        uptime,
        running.view,
        running.quick,
    )
    listeners = Listeners(loop, sockets, front_end.handle)

    def reload() -> None:
        nonlocal known
        with systemd.reloading():
            try:
                known = users.load_users(config.state_directory)
            except StateUnusable as refused:
                log.error(event("users-not-read", reason=refused))
                return
            front_end.replace_users(known)
            notifier.replace_users(known)
            announce()

    def announce() -> None:
        _announce(config, known, sockets, subagent)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, loop.stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    _keep_the_watchdog(loop)
    announce()
    if subagent is not None:
        limit = config.limits.max_varbinds_per_set
        subagent.serve(running.service, limit, announce, running.view)
    gc.collect()
    gc.freeze()  # what there is now stays; the collector need not look at it again and again
    systemd.notify("READY=1")
    try:
        loop.run_forever()
    finally:
        systemd.notify("STOPPING=1")
        listeners.close()
        if subagent is not None:
            loop.run_until_complete(subagent.close())
        notifier.close()
        running.close()
        loop.close()
        log.info(event("stopped", network="left as it is"))


def system_facts(config: Config, who: identity.Identity) -> SystemFacts:
    """What the system group says about this host."""
    machine = platform.uname()
    return SystemFacts(
        f"vMIB agent {__version__}, {machine.system} {machine.release} {machine.machine}",
        config.system.contact,
        config.system.name or machine.node,
        config.system.location,
        who.engine_id,
        who.boots,
        MAX_DATAGRAM,
        config.notifications,
    )


def _announce(
    config: Config,
    known: Iterable[users.User],
    sockets: Iterable[socket.socket],
    subagent: Subagent | None,
) -> None:
    names = [user.name for user in known]
    where = ", ".join(f"{host} port {port}" for host, port, *_ in map(_local, sockets))
    status = f"{len(names)} users, listening on {where}" if where else "not listening"
    if where and not names and config.v2c is None:
        status = "no users, so nobody is answered; add one with: vmib-agent user add"
    if subagent is not None:
        state = "connected" if subagent.is_connected else "not connected"
        status += f"; AgentX master {config.agentx.address}: {state}"
    systemd.notify(f"STATUS={status}")
    log.info(event("serving", version=__version__, users=len(names), status=status))


def _local(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return host, port


def _keep_the_watchdog(loop: asyncio.AbstractEventLoop) -> None:
    """Tell that this loop, which answers requests, goes round."""
    period = systemd.watchdog_seconds()
    if period is None:
        return

    def tell() -> None:
        systemd.notify("WATCHDOG=1")
        loop.call_later(period, tell)

    tell()
