"""The short way for SNMPv3: well-formed authPriv requests of known users, with vMIB's own codec.

Everything else (discovery, Reports, other contexts, AES-256, whatever is wrong in any way) is left
to pysnmp, at ten times the cost. Both ways lead to the same `Responder`.
"""

from __future__ import annotations

from collections.abc import Iterable

from vmib.snmp import ber, usm
from vmib.snmp.message import (
    MAX_DATAGRAM,
    PRIV,
    PduType,
    V3Message,
    decode_message,
    decode_scoped,
)

from .engine import Answer
from .responders import ANSWERED, Origin, request_of
from .sealing import Sealer, keys_of
from .users import User

_SLACK = 26
"""How much longer than in the request the parts around the PDU can be in the response."""


class NotPlain(Exception):
    """A message that is for pysnmp to answer."""


class Express:
    """Answers the plain SNMPv3 requests."""

    def __init__(self, sealer: Sealer, answer: Answer) -> None:
        self._sealer = sealer
        self._answer = answer
        self._keys: dict[bytes, tuple[str, usm.Keys]] = {}

    def replace_users(self, users: Iterable[User]) -> None:
        """Make these the users, and no others."""
        self._keys = {
            user.name.encode(): (user.name, keys_of(user))
            for user in users
            if user.priv in usm.PRIV_PROTOCOLS
        }

    def receive(self, origin: Origin) -> bytes | None:
        """The answer to a message, None for silence; raises `NotPlain`."""
        engine_id = self._sealer.engine_id
        try:
            message = decode_message(origin.message)
            if not isinstance(message, V3Message) or not message.flags & PRIV:
                raise NotPlain
            name, keys = self._keys[message.usm.user]
            if message.usm.engine_id != engine_id:
                raise NotPlain
            usm.verify(message, origin.message, keys)
            if not self._sealer.in_window(message):
                raise NotPlain
            scoped = decode_scoped(usm.open_data(message, keys))
        except (ber.DecodeError, KeyError, usm.WrongDigest, usm.DecryptionError):
            raise NotPlain from None
        if scoped.engine_id != engine_id or scoped.context:
            raise NotPlain
        if scoped.pdu.type not in ANSWERED:
            raise NotPlain
        around = len(origin.message) - len(message.data) + len(scoped.engine_id) + _SLACK
        room = min(message.max_size, MAX_DATAGRAM) - around
        contents = self._answer(request_of(scoped.pdu), name, origin, room)
        if contents is None:
            return None
        return self._sealer.seal(message.msg_id, message.usm.user, keys, PduType.RESPONSE, contents)
