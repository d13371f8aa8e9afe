"""Notifications: traps and informs to the configured targets (RFC 3416 sections 4.2.6, 4.2.7)."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterable, Sequence

from vmib import objects
from vmib.smi import Tag
from vmib.snmp import ber, usm
from vmib.snmp.message import PduType

from .config import Target
from .informers import Informers
from .logs import RateLimit, event, log
from .responders import community_message, encode_notification
from .sealing import Sealer
from .service import Value, VarBind
from .standard import SNMP_TRAP_OID, SYS_UP_TIME, ticks
from .users import User

_OIDS = {notification.name: notification.oid for notification in objects.NOTIFICATIONS}


class Notifier:
    """Sends traps by the v3 users (authPriv, AES-128) and v2c communities of the targets; informs
    go to the informers of those that want them."""

    def __init__(
        self,
        sealer: Sealer,
        users: Iterable[User],
        targets: Sequence[Target],
        informers: Informers,
        uptime: Callable[[], float],
    ) -> None:
        self._sealer = sealer
        self._targets = targets
        self._informers = informers
        self._uptime = uptime
        self._complaints = RateLimit()
        self._request_ids = itertools.cycle(range(1, 2**31))
        self._sockets: dict[socket.AddressFamily, socket.socket] = {}
        self.notified = 0
        self.sent = 0
        self.replace_users(users)

    def replace_users(self, users: Iterable[User]) -> None:
        """Make these the users, and no others."""
        self._channels = {
            user.name: self._sealer.channel(user)
            for user in users
            if user.priv in usm.PRIV_PROTOCOLS
        }
        for target in self._targets:
            if target.user and not target.inform and target.user not in self._channels:
                log.warning(event("target-without-user", target=target.address, user=target.user))

    def notify(self, name: str, varbinds: Iterable[VarBind]) -> None:
        """Send the notification of this name to every target; without targets it is counted.

        A target that cannot be reached is logged and does not keep others from being told.
        """
        self.notified += 1
        header = (
            VarBind(SYS_UP_TIME, ticks(self._uptime())),
            VarBind(SNMP_TRAP_OID, Value(Tag.OBJECT_IDENTIFIER, _OIDS[name])),
        )
        body = (*header, *varbinds)
        for target in self._targets:
            try:
                request_id = next(self._request_ids)
                contents = encode_notification(request_id, body)
                if target.inform:
                    self._informers[target].send(name, request_id, contents)
                else:
                    self._send(target, self._message(target, request_id, contents))
                self.sent += 1
            except Exception as error:
                self._complain(target, error)

    def close(self) -> None:
        """Close the sockets; informs that have not been acknowledged are lost."""
        for sender in self._sockets.values():
            sender.close()
        self._sockets.clear()
        self._informers.close()

    def _message(self, target: Target, request_id: int, contents: bytes) -> bytes:
        if target.user:
            channel = self._channels[target.user]
            msg_id = ber.encode_integer(request_id)
            return self._sealer.seal(channel, msg_id, PduType.TRAP, contents)
        return community_message(target.community.encode(), PduType.TRAP, contents)

    def _send(self, target: Target, message: bytes) -> None:
        family = socket.AF_INET6 if ":" in target.address.host else socket.AF_INET
        if family not in self._sockets:
            sender = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            sender.setblocking(False)
            self._sockets[family] = sender
        self._sockets[family].sendto(message, target.address)

    def _complain(self, target: Target, error: Exception) -> None:
        suppressed = self._complaints.suppressed_before(str(target.address))
        if suppressed is not None:
            reason = error.strerror if isinstance(error, OSError) else type(error).__name__
            facts = {"target": target.address, "user": target.user, "reason": reason}
            log.warning(event("cannot-notify", suppressed=suppressed, **facts))
