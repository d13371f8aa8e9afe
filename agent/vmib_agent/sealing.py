"""Securing the SNMPv3 messages of which this engine is the authority: responses and traps."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from vmib.snmp import ber, usm
from vmib.snmp.channel import Channel
from vmib.snmp.message import AUTH, MAX_DATAGRAM, PRIV, PduType

from .identity import Identity
from .users import User

_SALTS = 2**64


class Sealer:
    """Our engine ID, boots and time, and the salts of RFC 3826 section 3.1.2.1: never one twice."""

    def __init__(self, identity: Identity, uptime: Callable[[], float]) -> None:
        self._engine_id = identity.engine_id
        self._boots = identity.boots
        self._uptime = uptime
        self._salt = secrets.randbelow(_SALTS)

    def channel(self, user: User) -> Channel:
        """Messages of a user whose privacy protocol is one of `usm.PRIV_PROTOCOLS`."""
        keys = usm.Keys(usm.auth_protocol(user.auth), user.auth_key, user.priv_key)
        return Channel(self._engine_id, user.name.encode(), keys, MAX_DATAGRAM, AUTH | PRIV)

    def in_window(self, boots: int, time: int) -> bool:
        """Whether a message of that time is in time (RFC 3414 section 3.2, 7a)."""
        return usm.in_own_window(self._boots, int(self._uptime()), boots, time)

    def seal(self, channel: Channel, msg_id: bytes, kind: PduType, contents: bytes) -> bytes:
        """The authPriv message around the contents of a PDU; `msg_id` is an encoded integer."""
        self._salt = (self._salt + 1) % _SALTS
        salt = self._salt.to_bytes(8)
        pdu = ber.tlv(kind, contents)
        return channel.seal(msg_id, self._boots, int(self._uptime()), salt, pdu)
