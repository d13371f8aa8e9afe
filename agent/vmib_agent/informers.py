"""The receivers of informs: a socket for each, its timer, and the pass phrases of its user."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from pathlib import Path

from vmib.errors import VmibError
from vmib.snmp import usm
from vmib.snmp.message import MAX_DATAGRAM

from .config import ConfigRefused, Target, file_is_for_all
from .informs import ByCommunity, ByUser, Dialect, Informs
from .logs import RateLimit, event, log

_DATAGRAMS_IN_A_ROW = 32


class Informers:
    """One informer for each target that wants informs. Raises `ConfigRefused`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, targets: Iterable[Target], engine_id: bytes
    ) -> None:
        self._informers = {
            target: Informer(loop, target, dialect(target, engine_id))
            for target in targets
            if target.inform
        }

    def __getitem__(self, target: Target) -> Informer:
        return self._informers[target]

    def close(self) -> None:
        """Send no more."""
        for informer in self._informers.values():
            informer.close()


class Informer:
    """Sends informs to one target; never raises because of what is beyond the socket."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: Target, dialect: Dialect) -> None:
        self._loop = loop
        self._target = target
        self._complaints = RateLimit()
        self._informs = Informs(dialect, target.timeout, target.retries, self._lost)
        self._timer: asyncio.TimerHandle | None = None
        family = socket.AF_INET6 if ":" in target.address.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        loop.add_reader(self._socket, self._receive)

    @property
    def acknowledged(self) -> int:
        """Informs that the receiver has acknowledged."""
        return self._informs.acknowledged

    @property
    def lost(self) -> int:
        """Informs that it has not, and that are sent no more."""
        return self._informs.lost

    def send(self, name: str, request_id: int, contents: bytes) -> None:
        """Send an inform, as soon as it is its turn."""
        self._send(self._informs.add(name, request_id, contents, self._loop.time()))

    def close(self) -> None:
        """Send no more; what has not been acknowledged is lost."""
        if self._timer is not None:
            self._timer.cancel()
        self._informs.give_up()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    def _receive(self) -> None:
        for _ in range(_DATAGRAMS_IN_A_ROW):
            try:
                datagram, source = self._socket.recvfrom(MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as error:
                self._complain(error.strerror or type(error).__name__)
                return
            if source[:2] != tuple(self._target.address):
                continue
            try:
                self._send(self._informs.received(datagram, self._loop.time()))
            except VmibError as error:
                self._complain(str(error)[:200])

    def _tick(self) -> None:
        self._timer = None
        self._send(self._informs.tick(self._loop.time()))

    def _send(self, datagrams: Iterable[bytes]) -> None:
        for datagram in datagrams:
            try:
                self._socket.sendto(datagram, self._target.address)
            except OSError as error:
                self._complain(error.strerror or type(error).__name__)
        if self._timer is not None:
            self._timer.cancel()
        due = self._informs.next_tick()
        self._timer = None if due is None else self._loop.call_at(due, self._tick)

    def _lost(self, name: str, reason: str) -> None:
        suppressed = self._complaints.suppressed_before("lost")
        if suppressed is not None:
            facts = {"target": self._target.address, "notification": name, "reason": reason}
            numbers = {"lost": self.lost, "acknowledged": self.acknowledged}
            log.warning(event("inform-lost", **facts, **numbers, suppressed=suppressed))

    def _complain(self, reason: str) -> None:
        suppressed = self._complaints.suppressed_before(reason)
        if suppressed is not None:
            facts = {"target": self._target.address, "reason": reason, "suppressed": suppressed}
            log.warning(event("cannot-inform", **facts))


def dialect(target: Target, engine_id: bytes) -> Dialect:
    """How a target is spoken to by the engine with this ID; reads the pass phrases of its user.

    Raises `ConfigRefused`.
    """
    if target.passphrase_file is None:
        return ByCommunity(target.community.encode())
    protocol = usm.auth_protocol(target.auth)
    try:
        auth, priv = (
            usm.password_to_key(protocol, phrase.encode())
            for phrase in _passphrases(target.passphrase_file)
        )
    except VmibError as error:
        raise ConfigRefused(f"{target.passphrase_file}: {error}") from None

    def make_keys(engine: bytes) -> usm.Keys:
        return usm.Keys(
            protocol, usm.localise(protocol, auth, engine), usm.localise(protocol, priv, engine)
        )

    return ByUser(engine_id, target.user, make_keys)


def _passphrases(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            is_for_all = file_is_for_all(file.fileno())
            lines = file.read().decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigRefused(f"{path}: {error}") from None
    if is_for_all:
        raise ConfigRefused(f"{path}: holds pass phrases but everybody can read it; chmod 0600")
    if len(lines) != 2:
        raise ConfigRefused(f"{path}: {len(lines)} lines; two belong there: auth, priv")
    return lines
