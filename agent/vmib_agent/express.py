"""The short way for SNMPv3: well-formed authPriv requests of known users, with vMIB's own codec.

Everything else (discovery, Reports, other contexts, AES-256, whatever is wrong in any way) is left
to pysnmp, at twenty times the cost. Both ways lead to the same `Responder`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from vmib.snmp import ber, usm
from vmib.snmp.channel import Channel, NotPlain, outline
from vmib.snmp.message import MAX_DATAGRAM, PduType, decode_pdu

from .engine import Answer
from .responders import ANSWERED, Origin, request_of
from .sealing import Sealer
from .users import User

_SET = int(PduType.SET)
_SLACK = 26
"""How much longer than in the request the parts around the PDU can be in the response."""

AnswerPlain = Callable[[bytes, int, str, int], bytes]
"""Octets, where the PDU in them starts, securityName and the most octets of the PDU -> contents of
the Response-PDU; raises `NotPlain`."""

SetPlain = Callable[[bytes, int, str, Origin, int], bytes]
"""The same of a SET, which came in the message of an origin."""


class Express:
    """Answers the plain SNMPv3 messages."""

    def __init__(
        self, sealer: Sealer, answer_plain: AnswerPlain, set_plain: SetPlain, answer: Answer
    ) -> None:
        self._sealer = sealer
        self._answer_plain = answer_plain
        self._set_plain = set_plain
        self._answer = answer
        self._users: dict[bytes, tuple[str, Channel]] = {}

    def replace_users(self, users: Iterable[User]) -> None:
        """Make these the users, and no others."""
        self._users = {
            user.name.encode(): (user.name, self._sealer.channel(user))
            for user in users
            if user.priv in usm.PRIV_PROTOCOLS
        }

    def receive(self, datagram: bytes, source: tuple[str, int]) -> bytes | None:
        """The answer to a message, None for silence; raises `NotPlain`."""
        found = outline(datagram)
        name, channel = self._users.get(found.user(datagram), ("", None))
        if channel is None:
            raise NotPlain
        boots, time, scoped, at = channel.open(datagram, found)
        if not self._sealer.in_window(boots, time):
            raise NotPlain
        # Around the PDU is what is in front of the data, and the engine ID once more in them.
        room = min(found.max_size, MAX_DATAGRAM) - found.body - len(channel.engine_id) - _SLACK
        try:
            if scoped[at] == _SET:
                origin = Origin(source, datagram)
                contents: bytes | None = self._set_plain(scoped, at, name, origin, room)
            else:
                contents = self._answer_plain(scoped, at, name, room)
        except NotPlain:
            contents = self._long_way(scoped, at, name, Origin(source, datagram), room)
        if contents is None:
            return None
        return self._sealer.seal(channel, found.msg_id, PduType.RESPONSE, contents)

    def _long_way(
        self, scoped: bytes, at: int, name: str, origin: Origin, room: int
    ) -> bytes | None:
        try:
            pdu = decode_pdu(scoped, at, len(scoped))
        except ber.DecodeError:
            raise NotPlain from None
        if pdu.type not in ANSWERED:
            raise NotPlain
        return self._answer(request_of(pdu), name, origin, room)
