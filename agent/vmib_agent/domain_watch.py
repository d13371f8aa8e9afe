"""What libvirt's domains are now: a picture that a thread of its own keeps.

The agent never waits for libvirtd: it reads the last picture. Events say what has to be looked
at again; a lost connection is opened anew, at first at once, then less and less often.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .domains import Domain, parse_domain
from .libvirt_api import with_events
from .logs import event, log

RESYNC, SOON = 30.0, 1.0
"""Seconds after which everything is looked at again, event or not; `SOON` where a domain could
not be looked at."""
FIRST_RETRY, LAST_RETRY = 0.25, 10.0
"""Seconds before the first and between later attempts to connect; each doubles the one before."""
KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 5, 3
"""A libvirtd that answers none of so many calls, so many seconds apart, is lost."""

Open = Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class Sight:
    """The domains by UUID as last seen; `fault` says why they are not seen now, or is ""."""

    domains: Mapping[str, Domain] = field(default_factory=dict)
    fault: str = "not connected yet"


class DomainWatch:
    """Keeps a `Sight`. `changed` is called in the watch's thread whenever it differs."""

    def __init__(self, uri: str, changed: Callable[[], None], opener: Open) -> None:
        self._uri = uri
        self._changed = changed
        self._library = with_events()
        self._open = opener
        self._condition = threading.Condition()
        self._dirty: set[str] = set()
        self._everything = False
        self._lost = ""
        self._is_troubled = False
        self._trouble = ""
        self._stopping = False
        self._sight = Sight()
        self._followed: Any = None
        self._version = ""
        self._thread = threading.Thread(target=self._run, name="vmib-libvirt", daemon=True)

    @property
    def sight(self) -> Sight:
        """The last picture."""
        return self._sight

    @property
    def version(self) -> str:
        """The hypervisor's version, "" while it is not known."""
        return self._version

    def start(self, patience: float) -> None:
        """Begin; waits until there is a picture or an error, but no longer than `patience`."""
        self._thread.start()
        with self._condition:
            self._condition.wait_for(lambda: self._sight != Sight(), patience)

    def close(self) -> None:
        """Stop, waiting a moment for a call that is under way."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def look_again(self) -> None:
        """Look at everything, soon."""
        with self._condition:
            self._everything = True
            self._condition.notify_all()

    def _run(self) -> None:
        pause = FIRST_RETRY
        while not self._stopping:
            try:
                connection = self._open(self._uri)
            except self._library.libvirtError as error:
                self._see(Sight(self._sight.domains, str(error)))
                self._sleep(pause)
                pause = min(2 * pause, LAST_RETRY)
                continue
            pause = FIRST_RETRY
            self._lost = ""
            try:
                self._follow(connection)
            except self._library.libvirtError as error:
                self._lost = self._lost or str(error)
            _close(connection)
            if not self._stopping:
                self._see(Sight(self._sight.domains, self._lost))
                self._sleep(pause)

    def _sleep(self, seconds: float) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._stopping, seconds)

    def _follow(self, connection: Any) -> None:
        """Keep the picture up to date; returns or raises libvirtError when there is an end."""
        self._followed = connection
        self._listen(connection)
        self._see(Sight(self._all(connection), ""))
        log.info(event("hypervisor-connected", uri=self._uri))
        # The first time libvirtd may have to ask QEMU, which takes minutes on a slow computer.
        name = "vmib-libvirt-version"
        threading.Thread(
            target=self._learn_version, args=(connection,), name=name, daemon=True
        ).start()
        while True:
            with self._condition:
                self._condition.wait_for(self._has_work, SOON if self._is_troubled else RESYNC)
                if self._stopping or self._lost:
                    return
                everything = self._everything or self._is_troubled or not self._dirty
                dirty, self._dirty, self._everything = self._dirty, set(), False
                self._is_troubled = False
            domains = (
                self._all(connection)
                if everything
                else self._some(connection, self._sight.domains, dirty)
            )
            self._see(Sight(domains, ""))

    def _learn_version(self, connection: Any) -> None:
        try:
            self._version = _dotted(connection.getVersion())
        except self._library.libvirtError as error:
            log.debug(event("hypervisor-version-unknown", error=error))

    def _has_work(self) -> bool:
        return bool(self._stopping or self._lost or self._everything or self._dirty)

    def _listen(self, connection: Any) -> None:
        library = self._library
        connection.registerCloseCallback(self._closed, connection)
        try:
            connection.setKeepAlive(KEEPALIVE_INTERVAL, KEEPALIVE_COUNT)
        except library.libvirtError as error:
            if error.get_error_code() != library.VIR_ERR_NO_SUPPORT:
                raise
        for name in (
            "LIFECYCLE",
            "REBOOT",
            "DEVICE_ADDED",
            "DEVICE_REMOVED",
            "AGENT_LIFECYCLE",
        ):
            number = getattr(library, f"VIR_DOMAIN_EVENT_ID_{name}")
            connection.domainEventRegisterAny(None, number, self._happened, None)

    def _happened(self, _: Any, domain: Any, *__: Any) -> None:
        uuid = domain.UUIDString()
        with self._condition:
            self._dirty.add(uuid)
            self._condition.notify_all()

    def _closed(self, _: Any, __: int, connection: Any) -> None:
        with self._condition:
            if connection is not self._followed:  # an earlier one
                return
            self._lost = "libvirtd closed the connection"
            self._condition.notify_all()

    def _all(self, connection: Any) -> dict[str, Domain]:
        found = (self._domain(connection, domain) for domain in connection.listAllDomains())
        return {domain.uuid: domain for domain in found if domain is not None}

    def _some(
        self, connection: Any, known: Mapping[str, Domain], uuids: set[str]
    ) -> dict[str, Domain]:
        domains = dict(known)
        for uuid in uuids:
            domains.pop(uuid, None)
            try:
                found = self._domain(connection, connection.lookupByUUIDString(uuid))
            except self._library.libvirtError as error:
                if error.get_error_code() != self._library.VIR_ERR_NO_DOMAIN:
                    raise
                continue
            if found is not None:
                domains[uuid] = found
        return domains

    def _domain(self, connection: Any, domain: Any) -> Domain | None:
        """A domain, None when it has gone meanwhile, or as last seen when it cannot be looked at.

        Raises libvirtError when the connection is lost.
        """
        library = self._library
        try:
            state, _ = domain.state()
            found = parse_domain(domain.XMLDesc(0), state)
            is_persistent = bool(domain.isPersistent())
            return replace(
                found,
                is_persistent=is_persistent,
                autostart=is_persistent and self._starts_itself(domain),
            )
        except (library.libvirtError, ValueError) as error:
            if _code(error) == library.VIR_ERR_NO_DOMAIN:
                return None
            if not connection.isAlive():
                raise
            self._is_troubled = True
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.warning(event("machine-not-seen", name=domain.name(), error=error))
            return self._sight.domains.get(domain.UUIDString())

    def _starts_itself(self, domain: Any) -> bool | None:
        try:
            return bool(domain.autostart())
        except self._library.libvirtError as error:
            if _code(error) != self._library.VIR_ERR_NO_SUPPORT:
                raise
            return None

    def _see(self, sight: Sight) -> None:
        with self._condition:
            is_new, self._sight = sight != self._sight, sight
            self._condition.notify_all()
        if is_new:
            self._changed()


def _code(error: Exception) -> int:
    """The number of libvirt's error, 0 for what is none."""
    code = getattr(error, "get_error_code", None)
    return 0 if code is None else int(code())


def _close(connection: Any) -> None:
    try:
        connection.close()
    except Exception as error:  # what is lost need not be closed well
        log.debug(event("hypervisor-not-closed", error=error))


def _dotted(number: int) -> str:
    """A version as libvirt encodes it (virConnectGetVersion): 4017000 is 4.17.0."""
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
