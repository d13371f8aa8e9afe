"""Securing the SNMPv3 messages of which this engine is the authority: responses and traps."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from vmib.snmp import ber, usm
from vmib.snmp.message import AUTH, MAX_DATAGRAM, PRIV, PduType, UsmParameters, V3Message

from .identity import Identity
from .users import User

_SALTS = 2**64


def keys_of(user: User) -> usm.Keys:
    """The keys of a user whose privacy protocol is one of `usm.PRIV_PROTOCOLS`."""
    return usm.Keys(usm.auth_protocol(user.auth), user.auth_key, user.priv_key)


class Sealer:
    """Our engine ID, boots and time, and the salts of RFC 3826 section 3.1.2.1: never one twice."""

    def __init__(self, identity: Identity, uptime: Callable[[], float]) -> None:
        self.engine_id = identity.engine_id
        self._boots = identity.boots
        self._uptime = uptime
        self._salt = secrets.randbelow(_SALTS)

    def in_window(self, message: V3Message) -> bool:
        """Whether a message is in time (RFC 3414 section 3.2, 7a)."""
        given = message.usm
        return usm.in_own_window(self._boots, int(self._uptime()), given.boots, given.time)

    def seal(
        self, msg_id: int, user: bytes, keys: usm.Keys, kind: PduType, contents: bytes
    ) -> bytes:
        """The authPriv message, in the default context, around the contents of a PDU."""
        names = ber.tlv(ber.OCTET_STRING, self.engine_id) + ber.tlv(ber.OCTET_STRING, b"")
        data = ber.tlv(ber.SEQUENCE, names + ber.tlv(kind, contents))
        time = int(self._uptime())
        parameters = UsmParameters(self.engine_id, self._boots, time, user, b"", b"")
        message = V3Message(msg_id, MAX_DATAGRAM, AUTH | PRIV, parameters, data)
        self._salt = (self._salt + 1) % _SALTS
        return usm.seal(message, keys, self._salt.to_bytes(8))
