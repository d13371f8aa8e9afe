"""One manager's session with one agent: discovery, time, keys, and the request that is answered.

SNMPv3 as RFC 3414 wants it of a non-authoritative engine: the engine ID is discovered once, its
clock is learnt from authentic messages only, and a notInTimeWindow or unknownEngineID Report
(the agent was restarted, or installed anew) makes the request go out again in step with it.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from vmib.snmp import Oid, Pdu, PduType, VarBind, ber, usm
from vmib.snmp.channel import Channel, Outline
from vmib.snmp.message import (
    AUTH,
    MAX_INT,
    PRIV,
    REPORTABLE,
    CommunityMessage,
    ScopedPdu,
    UsmParameters,
    V3Message,
    decode_pdu,
    decode_scoped,
    encode_community,
    encode_pdu,
    encode_scoped,
    encode_v3,
)

from .credentials import Community, Credentials
from .snmp_errors import (
    AgentError,
    AuthenticationFailed,
    BadReply,
    Timeout,
    TooLarge,
    UnknownUser,
    dotted,
    error_of,
)
from .transport import Accept, AcceptSealed, Endpoint, NoReply, Peer

MAX_MESSAGE = {socket.AF_INET: 1472, socket.AF_INET6: 1452}
"""Octets of UDP payload that one Ethernet frame carries, by address family."""

MAX_ASKED_AT_ONCE = 32
"""Requests on their way to one agent: what Linux's default receive buffer of 208 KiB holds."""

_MAX_ENGINE_ID = 32
_ATTEMPTS_IN_STEP = 3


class Shared:
    """What all sessions of a client share: sockets, cached keys, and salts never used twice."""

    def __init__(self, max_in_flight: int, receive_buffer: int) -> None:
        self._max_in_flight = max_in_flight
        self._receive_buffer = receive_buffer
        self._endpoints: dict[int, Endpoint] = {}
        self._keys: dict[tuple[Credentials, bytes], usm.Keys] = {}
        self._salts = itertools.count(secrets.randbits(64))

    def close(self) -> None:
        """Close the sockets."""
        for endpoint in self._endpoints.values():
            endpoint.close()
        self._endpoints.clear()

    @property
    def dropped(self) -> int:
        """Datagrams that answered nothing."""
        return sum(endpoint.dropped for endpoint in self._endpoints.values())

    def endpoint(self, family: int) -> Endpoint:
        """The socket of that address family."""
        if family not in self._endpoints:
            self._endpoints[family] = Endpoint(family, self._max_in_flight, self._receive_buffer)
        return self._endpoints[family]

    def keys(self, credentials: Credentials, engine_id: bytes) -> usm.Keys:
        """The user's keys at an engine, made once."""
        found = self._keys.get((credentials, engine_id))
        if found is None:
            found = self._keys[credentials, engine_id] = credentials.keys(engine_id)
        return found

    def salt(self) -> bytes:
        """Eight octets never given before."""
        return (next(self._salts) & (1 << 64) - 1).to_bytes(8)


@dataclass(slots=True)
class _Engine:
    """What is known of an agent's SNMP engine.

    `hint` is the clock that it told without authentication: good enough to ask with, since only
    an authentic message makes `clock`, which replies are judged by.
    """

    engine_id: bytes
    keys: usm.Keys
    hint: usm.EngineClock
    clock: usm.EngineClock | None = None
    max_size: int = MAX_INT
    channel: Channel | None = None
    """Where messages go that have privacy."""


class _AskAgain:
    """The result of an exchange after which the request has to be made anew."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may take in all, in seconds, and how often it is retransmitted."""

    timeout: float
    retries: int


class Session:
    """What is known of one agent, and how to ask it."""

    def __init__(
        self,
        shared: Shared,
        address: str,
        port: int,
        credentials: Credentials | Community,
        patience: Patience,
        max_message: int | None,
        context: str,
    ) -> None:
        self.name = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self.credentials = credentials
        self._shared = shared
        self._address = address
        self._port = port
        self._patience = patience
        self._max_message = max_message
        self._context = context.encode()
        self._family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._peer: Peer | None = None
        self._engine: _Engine | None = None
        self._discovery: asyncio.Task[_Engine] | None = None
        self._slots = asyncio.Semaphore(MAX_ASKED_AT_ONCE)

    @property
    def _own_max(self) -> int:
        return self._max_message or MAX_MESSAGE[self._family]

    @property
    def max_size(self) -> int:
        """The octets of the largest message to this agent, as far as known now."""
        known = MAX_INT if self._engine is None else self._engine.max_size
        return min(self._own_max, known)

    def encoded_size(self, varbinds: Iterable[VarBind]) -> int:
        """The octets of a SET of these varbinds at most, whatever its numbers turn out to be."""
        pdu = Pdu(PduType.SET, MAX_INT, tuple(varbinds), MAX_INT, MAX_INT)
        credentials = self.credentials
        if isinstance(credentials, Community):
            return len(encode_community(CommunityMessage(credentials.name, pdu)))
        engine_id = bytes(_MAX_ENGINE_ID) if self._engine is None else self._engine.engine_id
        digest, salt = bytes(credentials.auth_protocol.digest_size), bytes(8)
        parameters = UsmParameters(
            engine_id, MAX_INT, MAX_INT, credentials.user.encode(), digest, salt
        )
        scoped = encode_scoped(ScopedPdu(engine_id, self._context, pdu))
        return len(encode_v3(V3Message(MAX_INT, MAX_INT, AUTH | PRIV, parameters, scoped))[0])

    async def request(
        self,
        kind: PduType,
        varbinds: tuple[VarBind, ...],
        error_status: int = 0,
        error_index: int = 0,
        longer: float = 0.0,
    ) -> Pdu:
        """The answer to a request, for which `longer` seconds more than usual are waited."""
        patience = self._patience
        if longer:
            patience = replace(patience, timeout=patience.timeout + longer)
        endpoint, _ = await self._reach()
        pdu = Pdu(kind, endpoint.next_id(), varbinds, error_status, error_index)
        if isinstance(self.credentials, Community):
            reply = await self._ask_v2c(self.credentials, pdu, patience)
        else:
            reply = await self._ask_v3(self.credentials, pdu, patience)
        if reply.error_status:
            index = reply.error_index
            oid = varbinds[index - 1].oid if 1 <= index <= len(varbinds) else None
            raise error_of(self.name, reply.error_status, index, oid)
        return reply

    async def _reach(self) -> tuple[Endpoint, Peer]:
        if self._peer is None:
            loop = asyncio.get_running_loop()
            try:
                found = await loop.getaddrinfo(self._address, self._port, type=socket.SOCK_DGRAM)
            except OSError as error:
                raise AgentError(self.name, f"cannot be resolved: {error.strerror}") from None
            self._family, _, _, _, self._peer = found[0]
        return self._shared.endpoint(self._family), self._peer

    async def _exchange(
        self,
        build: Callable[[int], bytes],
        accept: Accept,
        way_out: str,
        patience: Patience,
        accept_sealed: AcceptSealed | None = None,
    ) -> object:
        endpoint, peer = await self._reach()
        attempts = patience.retries + 1
        try:
            async with self._slots:
                return await endpoint.request(
                    self.name, peer, build, accept, patience.timeout, attempts, accept_sealed
                )
        except NoReply:
            raise Timeout(self.name, attempts, patience.timeout, way_out) from None

    def _checked_size(self, datagram: bytes) -> bytes:
        if len(datagram) > self.max_size:
            raise TooLarge("the request", len(datagram), self.max_size, "octets")
        return datagram

    async def _ask_v2c(self, community: Community, pdu: Pdu, patience: Patience) -> Pdu:
        def build(number: int) -> bytes:
            numbered = replace(pdu, request_id=number)
            return self._checked_size(encode_community(CommunityMessage(community.name, numbered)))

        def accept(message: CommunityMessage | V3Message, datagram: bytes) -> Pdu | None:
            if isinstance(message, V3Message) or message.community != community.name:
                return None
            return message.pdu if message.pdu.type is PduType.RESPONSE else None

        reply = await self._exchange(
            build,
            accept,
            "check the address, the community and that the agent allows SNMPv2c",
            patience,
        )
        assert isinstance(reply, Pdu)
        return reply

    async def _ask_v3(self, credentials: Credentials, pdu: Pdu, patience: Patience) -> Pdu:
        for _ in range(_ATTEMPTS_IN_STEP):
            engine = await self._discovered(credentials)
            reply = await self._ask_engine(credentials, engine, pdu, patience)
            if isinstance(reply, Pdu):
                return reply
        raise AuthenticationFailed(
            self.name, "keeps refusing the time or engine ID that it tells", "restart the agent"
        )

    async def _ask_engine(
        self, credentials: Credentials, engine: _Engine, pdu: Pdu, patience: Patience
    ) -> object:
        octets = encode_pdu(pdu)
        level = AUTH if credentials.priv is None else AUTH | PRIV
        user = credentials.user.encode()
        channel = engine.channel

        def build(number: int) -> bytes:
            clock = engine.clock or engine.hint
            now = clock.time_at(time.monotonic())
            if channel is not None:
                msg_id, salt = ber.encode_integer(number), self._shared.salt()
                return self._checked_size(channel.seal(msg_id, clock.boots, now, salt, octets))
            parameters = UsmParameters(engine.engine_id, clock.boots, now, user, b"", b"")
            scoped = encode_scoped(ScopedPdu(engine.engine_id, self._context, pdu))
            message = V3Message(number, self._own_max, level | REPORTABLE, parameters, scoped)
            return self._checked_size(usm.seal(message, engine.keys))

        def judge(answer: Pdu, flags: int, max_size: int) -> object | None:
            if answer.type is PduType.REPORT:
                return self._after_report(answer, bool(flags & AUTH), engine)
            if answer.type is not PduType.RESPONSE or answer.request_id != pdu.request_id:
                return None
            if flags & level != level:
                return None
            engine.max_size = max_size
            return answer

        def accept(message: CommunityMessage | V3Message, datagram: bytes) -> object | None:
            if not isinstance(message, V3Message):
                return None
            if message.flags & AUTH and not _is_authentic(message, datagram, engine, user):
                return None
            answer = decode_scoped(usm.open_data(message, engine.keys)).pdu
            return judge(answer, message.flags, message.max_size)

        def accept_sealed(found: Outline, datagram: bytes) -> object | None:
            assert channel is not None
            boots, told, scoped, at = channel.open(datagram, found)
            if not _is_recent(boots, told, engine):
                return None
            if scoped[at] == PduType.RESPONSE and scoped[at + 1 :] == octets[1:]:
                answer = Pdu(PduType.RESPONSE, pdu.request_id, pdu.varbinds)  # done as was told
            else:
                answer = decode_pdu(scoped, at, len(scoped))
            return judge(answer, AUTH | PRIV, found.max_size)

        return await self._exchange(
            build,
            accept,
            "its engine answers, so it is overloaded, has stopped, or has another privacy"
            " pass phrase for this user",
            patience,
            None if channel is None else accept_sealed,
        )

    def _after_report(self, report: Pdu, authentic: bool, engine: _Engine) -> _AskAgain | None:
        """Whether to ask again after a Report; raises the AgentError that it means."""
        counter = report.varbinds[0].oid[:-1] if report.varbinds else ()
        if counter == _NOT_IN_TIME_WINDOWS:
            return _AskAgain() if authentic else None
        if counter == _UNKNOWN_ENGINE_IDS:
            if self._engine is engine:
                self._engine = None
            return _AskAgain()
        error, problem, way_out = _REPORTS.get(
            counter, (BadReply, f"reported {dotted(counter) or 'nothing'}", "")
        )
        raise error(self.name, problem, way_out)

    async def _discovered(self, credentials: Credentials) -> _Engine:
        if self._engine is not None:
            return self._engine
        if self._discovery is None or self._discovery.done():
            self._discovery = asyncio.create_task(self._discover(credentials))
            # Whoever waits gets the error too; if nobody does any more, it matters to nobody.
            self._discovery.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._discovery)

    async def _discover(self, credentials: Credentials) -> _Engine:
        """Ask nobody's question, which any engine answers with its ID (RFC 3414 section 4)."""
        scoped = encode_scoped(ScopedPdu(b"", b"", Pdu(PduType.GET, 0)))

        def build(number: int) -> bytes:
            parameters = UsmParameters(b"", 0, 0, b"", b"", b"")
            return encode_v3(V3Message(number, self._own_max, REPORTABLE, parameters, scoped))[0]

        def accept(message: CommunityMessage | V3Message, datagram: bytes) -> UsmParameters | None:
            if not isinstance(message, V3Message) or message.flags & AUTH:
                return None
            report = decode_scoped(message.data).pdu.type is PduType.REPORT
            return message.usm if report and len(message.usm.engine_id) >= 5 else None

        told = await self._exchange(
            build,
            accept,
            "check the address, that an SNMPv3 agent listens there and that UDP gets through",
            self._patience,
        )
        assert isinstance(told, UsmParameters)
        keys = self._shared.keys(credentials, told.engine_id)
        channel: Channel | None = None
        if credentials.priv is not None:
            user, flags = credentials.user.encode(), AUTH | PRIV | REPORTABLE
            channel = Channel(told.engine_id, user, keys, self._own_max, flags, self._context)
        clock = usm.EngineClock(told.boots, told.time, time.monotonic())
        self._engine = _Engine(told.engine_id, keys, clock, channel=channel)
        return self._engine


def _is_authentic(message: V3Message, datagram: bytes, engine: _Engine, user: bytes) -> bool:
    """Whether the message is its engine's and recent; then its clock is learnt from it."""
    told = message.usm
    if told.engine_id != engine.engine_id or told.user != user:
        return False
    try:
        usm.verify(message, datagram, engine.keys)
    except usm.WrongDigest:
        return False
    return _is_recent(told.boots, told.time, engine)


def _is_recent(boots: int, engine_time: int, engine: _Engine) -> bool:
    """Whether an authentic message is recent; its engine's clock is learnt from it first."""
    now = time.monotonic()
    engine.clock = usm.learn_clock(engine.clock, boots, engine_time, now)
    return usm.in_peer_window(engine.clock, boots, engine_time, now)


_USM_STATS = (1, 3, 6, 1, 6, 3, 15, 1, 1)
_NOT_IN_TIME_WINDOWS = (*_USM_STATS, 2)
_UNKNOWN_ENGINE_IDS = (*_USM_STATS, 4)

_CREDENTIALS = "correct its entry in the credentials file, or the user on the agent"

_REPORTS: dict[Oid, tuple[type[AgentError], str, str]] = {
    (*_USM_STATS, 1): (
        AuthenticationFailed,
        "does not offer this security level to the user",
        "give it authentication and privacy",
    ),
    (*_USM_STATS, 3): (
        UnknownUser,
        "has no such user",
        "add it on the agent (vmib-agent user add), or correct the user",
    ),
    (*_USM_STATS, 5): (
        AuthenticationFailed,
        "has another authentication pass phrase or protocol for this user",
        _CREDENTIALS,
    ),
    (*_USM_STATS, 6): (
        AuthenticationFailed,
        "has another privacy pass phrase for this user",
        _CREDENTIALS,
    ),
    (1, 3, 6, 1, 6, 3, 12, 1, 4): (BadReply, "the context is not available", ""),
    (1, 3, 6, 1, 6, 3, 12, 1, 5): (BadReply, "has no such context", ""),
}
