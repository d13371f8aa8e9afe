"""Informs (RFC 3416 section 4.2.7) to one receiver, without sockets and clocks.

Datagrams go in and come out; the time is an argument, in seconds of any clock that never jumps. An
inform is sent until it is acknowledged or has been sent often enough; then it is lost.
"""

from __future__ import annotations

import itertools
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from vmib.smi import Oid
from vmib.snmp import ber, usm
from vmib.snmp.message import (
    AUTH,
    MAX_DATAGRAM,
    PRIV,
    REPORTABLE,
    CommunityMessage,
    Pdu,
    PduType,
    ScopedPdu,
    UsmParameters,
    V3Message,
    decode_message,
    decode_scoped,
    encode_scoped,
    encode_v3,
)

from .access import USM_STATS
from .responders import community_message

MAX_WAITING = 1000
"""Informs that wait for their turn; beyond it new ones are lost."""
MAX_UNANSWERED = 16
"""Informs that are sent before the first of them has been acknowledged."""

_IN_STEP = 3
"""How often an inform goes out anew because its receiver told its engine ID or time."""
_SALTS = 2**64
_SHORTEST_ENGINE_ID = 5

_REPORTS = {
    (*USM_STATS, 1): "unsupportedSecLevels",
    (*USM_STATS, 2): "notInTimeWindows",
    (*USM_STATS, 3): "unknownUserNames",
    (*USM_STATS, 4): "unknownEngineIDs",
    (*USM_STATS, 5): "wrongDigests",
    (*USM_STATS, 6): "decryptionErrors",
}


class Heard(NamedTuple):
    """What a datagram of the receiver says of the inform with this request-id.

    It is acknowledged, or, with `is_told`, to be sent again in step with what has been told, or
    cannot be taken, for a `reason` that whoever is on the way may have made up.
    """

    request_id: int
    is_told: bool = False
    reason: str = ""


class Dialect(Protocol):
    """How a receiver is spoken to."""

    def message(self, request_id: int, contents: bytes, now: float) -> bytes:
        """The datagram to send for an inform with these contents of its PDU."""

    def hear(self, datagram: bytes, now: float) -> Heard | None:
        """What a datagram says, if anything. Raises `VmibError` where it says nothing."""

    def forget(self) -> None:
        """The receiver may have become another."""


class ByCommunity:
    """SNMPv2c."""

    def __init__(self, community: bytes) -> None:
        self._community = community

    def message(self, request_id: int, contents: bytes, now: float) -> bytes:
        """The datagram to send for an inform."""
        return community_message(self._community, PduType.INFORM, contents)

    def hear(self, datagram: bytes, now: float) -> Heard | None:
        """What a datagram says, if anything."""
        message = decode_message(datagram)
        if not isinstance(message, CommunityMessage) or message.community != self._community:
            return None
        if message.pdu.type is not PduType.RESPONSE:
            return None
        return Heard(message.pdu.request_id)

    def forget(self) -> None:
        """Nothing is known of it."""


@dataclass(slots=True)
class _Engine:
    """What is known of the receiver's engine.

    `hint` is the clock that it told without authentication: good enough to send with, since only
    an authentic message makes `clock`, which answers are judged by.
    """

    engine_id: bytes
    keys: usm.Keys
    hint: usm.EngineClock
    clock: usm.EngineClock | None = None


class ByUser:
    """SNMPv3 with authentication and privacy; the receiver's engine is the authority (RFC 3414)."""

    def __init__(
        self, own_engine_id: bytes, user: str, make_keys: Callable[[bytes], usm.Keys]
    ) -> None:
        self._own_engine_id = own_engine_id
        self._user = user.encode()
        self._make_keys = make_keys
        self._salts = itertools.count(secrets.randbelow(_SALTS))
        self._engine: _Engine | None = None

    def message(self, request_id: int, contents: bytes, now: float) -> bytes:
        """The inform, or, while the receiver's engine is not known, the question for its ID."""
        engine = self._engine
        if engine is None:
            data = encode_scoped(ScopedPdu(b"", b"", Pdu(PduType.GET, request_id)))
            nobody = UsmParameters(b"", 0, 0, b"", b"", b"")
            return encode_v3(V3Message(request_id, MAX_DATAGRAM, REPORTABLE, nobody, data))[0]
        context = ber.tlv(ber.OCTET_STRING, self._own_engine_id) + ber.tlv(ber.OCTET_STRING, b"")
        data = ber.tlv(ber.SEQUENCE, context + ber.tlv(PduType.INFORM, contents))
        clock = engine.clock or engine.hint
        parameters = UsmParameters(
            engine.engine_id, clock.boots, clock.time_at(now), self._user, b"", b""
        )
        message = V3Message(request_id, MAX_DATAGRAM, AUTH | PRIV | REPORTABLE, parameters, data)
        return usm.seal(message, engine.keys, (next(self._salts) % _SALTS).to_bytes(8))

    def hear(self, datagram: bytes, now: float) -> Heard | None:
        """What a datagram says, if anything; the engine's ID and time are learnt by the way."""
        message = decode_message(datagram)
        if not isinstance(message, V3Message):
            return None
        engine = self._engine
        if not message.flags & AUTH:
            return self._reported(message, decode_scoped(message.data).pdu, now)
        if engine is None or not self._is_authentic(message, datagram, engine, now):
            return None
        pdu = decode_scoped(usm.open_data(message, engine.keys)).pdu
        if pdu.type is PduType.REPORT:
            return Heard(message.msg_id, _counter(pdu) == "notInTimeWindows", _counter(pdu))
        if pdu.type is not PduType.RESPONSE or not message.flags & PRIV:
            return None
        return Heard(pdu.request_id)

    def forget(self) -> None:
        """Its ID is to be asked for again."""
        self._engine = None

    def _reported(self, message: V3Message, pdu: Pdu, now: float) -> Heard | None:
        """A Report that nobody vouches for."""
        if pdu.type is not PduType.REPORT:
            return None
        counter = _counter(pdu)
        told = message.usm
        if counter != "unknownEngineIDs" or len(told.engine_id) < _SHORTEST_ENGINE_ID:
            return Heard(message.msg_id, reason=counter)
        if self._engine is None or self._engine.engine_id != told.engine_id:
            hint = usm.EngineClock(told.boots, told.time, now)
            self._engine = _Engine(told.engine_id, self._make_keys(told.engine_id), hint)
        return Heard(message.msg_id, is_told=True, reason=counter)

    def _is_authentic(
        self, message: V3Message, datagram: bytes, engine: _Engine, now: float
    ) -> bool:
        told = message.usm
        if (told.engine_id, told.user) != (engine.engine_id, self._user):
            return False
        usm.verify(message, datagram, engine.keys)
        engine.clock = usm.learn_clock(engine.clock, told.boots, told.time, now)
        return usm.in_peer_window(engine.clock, told.boots, told.time, now)


def _counter(pdu: Pdu) -> str:
    counter: Oid = pdu.varbinds[0].oid[:-1] if pdu.varbinds else ()
    return _REPORTS.get(counter, "an unknown report")


@dataclass(slots=True)
class _Inform:
    name: str
    contents: bytes
    attempts: int
    due: float = 0.0
    steps: int = _IN_STEP
    reason: str = "no answer"


class Informs:
    """The informs to one receiver. `lose` is called with the name of each one that is lost, and
    the reason."""

    def __init__(
        self,
        dialect: Dialect,
        timeout: float,
        retries: int,
        lose: Callable[[str, str], None],
    ) -> None:
        self._dialect = dialect
        self._timeout = timeout
        self._attempts = retries + 1
        self._lose = lose
        self._waiting: deque[tuple[int, _Inform]] = deque()
        self._sent: dict[int, _Inform] = {}
        self.acknowledged = 0
        self.lost = 0

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sent)

    def add(self, name: str, request_id: int, contents: bytes, now: float) -> list[bytes]:
        """A new inform, with the contents of its PDU: what to send."""
        inform = _Inform(name, contents, self._attempts)
        if len(self._waiting) >= MAX_WAITING:
            self._is_lost(inform, f"{MAX_WAITING} others wait")
            return []
        self._waiting.append((request_id, inform))
        return self._next(now)

    def received(self, datagram: bytes, now: float) -> list[bytes]:
        """A datagram of the receiver: what to send. Raises `VmibError` where it is not sound."""
        heard = self._dialect.hear(datagram, now)
        inform = None if heard is None else self._sent.get(heard.request_id)
        if heard is None or inform is None:
            return []
        if heard.is_told:
            if inform.steps == 0:
                return []
            inform.steps -= 1
            inform.due = now + self._timeout
            return [self._dialect.message(heard.request_id, inform.contents, now)]
        if heard.reason:
            inform.reason = heard.reason
            return []
        del self._sent[heard.request_id]
        self.acknowledged += 1
        return self._next(now)

    def tick(self, now: float) -> list[bytes]:
        """The time has come: what to send."""
        out = []
        for request_id, inform in list(self._sent.items()):
            if inform.due > now:
                continue
            if inform.attempts == 0:
                del self._sent[request_id]
                self._dialect.forget()
                self._is_lost(inform, inform.reason)
            else:
                out.append(self._attempt(request_id, inform, now))
        return out + self._next(now)

    def next_tick(self) -> float | None:
        """When `tick` has something to do, or None."""
        return min((inform.due for inform in self._sent.values()), default=None)

    def give_up(self) -> None:
        """Nothing more is sent: what has not been acknowledged is lost."""
        for inform in (*self._sent.values(), *(inform for _, inform in self._waiting)):
            self._is_lost(inform, "the agent stops")
        self._sent.clear()
        self._waiting.clear()

    def _next(self, now: float) -> list[bytes]:
        out = []
        while self._waiting and len(self._sent) < MAX_UNANSWERED:
            request_id, inform = self._waiting.popleft()
            self._sent[request_id] = inform
            out.append(self._attempt(request_id, inform, now))
        return out

    def _attempt(self, request_id: int, inform: _Inform, now: float) -> bytes:
        inform.attempts -= 1
        inform.due = now + self._timeout
        return self._dialect.message(request_id, inform.contents, now)

    def _is_lost(self, inform: _Inform, reason: str) -> None:
        self.lost += 1
        self._lose(inform.name, reason)
