"""A subagent's session with an AgentX master (RFC 2741 section 7), without sockets and clocks.

Octets of a connection go in and come out; the time is an argument, in seconds of any clock that
never jumps. Connections come and go; notifications wait here until a master has taken them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from vmib.errors import VmibError
from vmib.smi import Oid, Tag
from vmib.snmp.ber import DecodeError
from vmib.status import ErrorStatus

from .agentx import (
    AddAgentCaps,
    AgentxError,
    Body,
    Close,
    CloseReason,
    Header,
    Notify,
    Open,
    Pdu,
    PduType,
    Ping,
    Register,
    Response,
)
from .agentx_codec import decode, decode_header, encode
from .agentx_fields import HEADER_OCTETS
from .logs import event, log
from .service import Value, VarBind
from .standard import SNMP_TRAP_OID, SYS_UP_TIME

PING_SECONDS = 15.0
"""After so much silence the master is asked whether it is there."""
MAX_WAITING = 1000
"""Notifications that wait for a master; beyond it the oldest go."""
MAX_UNANSWERED = 16
"""Notifications that are sent before the first of them has been answered."""

_TICKS = 2**32


class SessionEnded(VmibError):
    """The connection is of no more use; `parting` are the last octets to send."""

    def __init__(self, reason: str, parting: bytes = b"") -> None:
        super().__init__(reason)
        self.parting = parting


class Answers(Protocol):
    """What the requests of a master go to."""

    def answer(self, pdu: Pdu) -> Response | None:
        """The answer to a request, if it has one."""

    def quickly(self, octets: bytes, header: Header) -> bytes | None:
        """The answer as octets to a whole PDU of this session, where there is a short way to it."""

    def abandon(self) -> None:
        """The session is over; nothing of what is under way will be gone on with."""


class Role(NamedTuple):
    """What a subagent is and serves. `timeout` in seconds: how long the master waits for its
    answers and it for the master's. `priority`: the lower one of two wins a subtree. Without its
    own `subtree` it is of no use; of the subtrees in `others` a master may refuse some."""

    id: Oid
    description: str
    subtree: Oid
    capabilities: Oid
    capabilities_description: str
    timeout: int = 5
    priority: int = 127
    others: tuple[Oid, ...] = ()


class State(Enum):
    """How far a session is."""

    CLOSED = "closed"
    OPENING = "opening"
    REGISTERING = "registering"
    UP = "up"


class _Notice(NamedTuple):
    """A notification without its sysUpTime.0, and when it happened."""

    varbinds: tuple[VarBind, ...]
    since: float


class _Asked(NamedTuple):
    """What the master has been asked at a time and has not answered."""

    body: Body
    since: float
    notice: _Notice | None = None


class Session:
    """One subagent. `connected` begins a session, `disconnected` ends it."""

    def __init__(self, role: Role) -> None:
        self._role = role
        self._answers: Answers | None = None
        self._waiting: deque[_Notice] = deque()
        self.lost = 0
        """Notifications that no master has taken."""
        self._begin(0)

    def _begin(self, now: float) -> None:
        self.state = State.CLOSED
        self.session_id = 0
        self._octets = b""
        self._asked: dict[int, _Asked] = {}
        self._packet_id = 0
        self._heard = now
        self._uptime: tuple[int, float] | None = None

    def connected(self, answers: Answers, now: float) -> bytes:
        """There is a connection: what to send first. Requests that come go to `answers`."""
        self._begin(now)
        self._answers = answers
        self.state = State.OPENING
        role = self._role
        return self._ask(Open(role.timeout, role.id, role.description.encode()), now)

    def disconnected(self) -> None:
        """The connection is gone. What was under way is abandoned; notifications that the master
        has not answered wait for the next one."""
        unanswered = [asked.notice for asked in self._asked.values() if asked.notice]
        self._waiting.extendleft(reversed(unanswered))
        self._begin(0)
        if self._answers is not None:
            self._answers.abandon()

    def received(self, octets: bytes, now: float) -> bytes:
        """Octets from the master: what to send back. Raises `SessionEnded`."""
        self._heard = now
        self._octets += octets
        out = []
        while len(self._octets) >= HEADER_OCTETS:
            try:
                header = decode_header(self._octets)
            except DecodeError as error:
                raise self._ended(f"malformed: {error}", CloseReason.parseError) from None
            size = HEADER_OCTETS + header.length
            if len(self._octets) < size:
                break
            whole, self._octets = self._octets[:size], self._octets[size:]
            quick = self._quickly(whole, header)
            out.append(self._handle(whole, header, now) if quick is None else quick)
        return b"".join(out)

    def tick(self, now: float) -> bytes:
        """The time has come: what to send. Raises `SessionEnded` where the master is silent."""
        if self.state is State.CLOSED:
            return b""
        oldest = min((asked.since for asked in self._asked.values()), default=now)
        if now - oldest >= self._role.timeout:
            raise self._ended("the master does not answer", CloseReason.timeouts)
        if now - self._heard >= PING_SECONDS and not self._asked and self.state is State.UP:
            return self._ask(Ping(), now)
        return b""

    def next_tick(self) -> float | None:
        """When `tick` has something to do, or None."""
        if self.state is State.CLOSED:
            return None
        if self._asked:
            return min(asked.since for asked in self._asked.values()) + self._role.timeout
        return self._heard + PING_SECONDS

    def notify(self, notification: Oid, varbinds: Sequence[VarBind], now: float) -> bytes:
        """Tell the master of a notification as soon as there is one: what to send."""
        trap = VarBind(SNMP_TRAP_OID, Value(Tag.OBJECT_IDENTIFIER, notification))
        self._waiting.append(_Notice((trap, *varbinds), now))
        if len(self._waiting) > MAX_WAITING:
            self._waiting.popleft()
            self.lost += 1
        return self._send_notices(now)

    def parting(self) -> bytes:
        """What to send before this side ends the connection in order."""
        return b"" if self.state is State.CLOSED else self._close(CloseReason.shutdown)

    def _quickly(self, octets: bytes, header: Header) -> bytes | None:
        if header.session_id != self.session_id or self._answers is None:
            return None
        if self.state not in (State.UP, State.REGISTERING):
            return None
        return self._answers.quickly(octets, header)

    def _handle(self, octets: bytes, header: Header, now: float) -> bytes:
        try:
            pdu = decode(octets)
        except DecodeError as error:
            log.warning(event("agentx-malformed", reason=error))
            if header.type == PduType.RESPONSE:
                raise self._ended(f"malformed: {error}", CloseReason.parseError) from None
            return self._respond(header, Response(error=AgentxError.parseError))
        if isinstance(pdu.body, Response):
            return self._answered(pdu, pdu.body, now)
        if isinstance(pdu.body, Close):
            raise SessionEnded(f"the master closed it: {_name(CloseReason, pdu.body.reason)}")
        if pdu.session_id != self.session_id or self.state in (State.CLOSED, State.OPENING):
            return self._respond(header, Response(error=AgentxError.notOpen))
        assert self._answers is not None
        answer = self._answers.answer(pdu)
        return b"" if answer is None else self._respond(header, answer)

    def _respond(self, header: Header, answer: Response) -> bytes:
        """A response to the PDU with this header; none to what is never answered."""
        if header.type in (PduType.CLEANUP_SET, PduType.CLOSE):
            return b""
        ids = header.session_id, header.transaction_id, header.packet_id
        try:
            return encode(Pdu(answer, *ids))
        except VmibError as error:
            log.error(event("agentx-answer-too-big", reason=error))
            return encode(Pdu(Response(error=ErrorStatus.tooBig, index=1), *ids))

    def _answered(self, pdu: Pdu, answer: Response, now: float) -> bytes:
        """The master answered something that it was asked."""
        asked = self._asked.pop(pdu.packet_id, None)
        if asked is None:
            return b""
        if answer.error == AgentxError.notOpen:
            raise SessionEnded("the master does not know the session")
        if not isinstance(asked.body, Open) or answer.error == 0:
            self._uptime = (answer.sys_up_time, now)
        match asked.body:
            case Open():
                return self._opened(pdu.session_id, answer, now)
            case Register(subtree) if answer.error:
                dotted = ".".join(map(str, subtree))
                why = f"the master refuses to register {dotted}: {_error(answer.error)}"
                if subtree == self._role.subtree:
                    raise self._ended(why, CloseReason.other)
                log.warning(event("agentx-refused", what=dotted, error=_error(answer.error)))
            case AddAgentCaps() | Notify() if answer.error:
                what = type(asked.body).__name__
                log.warning(event("agentx-refused", what=what, error=_error(answer.error)))
        if self.state is State.REGISTERING and not self._asked:
            self.state = State.UP
        return self._send_notices(now)

    def _opened(self, session_id: int, answer: Response, now: float) -> bytes:
        if answer.error:
            raise SessionEnded(f"the master refuses a session: {_error(answer.error)}")
        self.session_id = session_id
        self.state = State.REGISTERING
        role = self._role
        text = role.capabilities_description.encode()
        wanted: list[Body] = [
            Register(subtree, role.timeout, role.priority)
            for subtree in (role.subtree, *role.others)
        ]
        wanted.append(AddAgentCaps(role.capabilities, text))
        return b"".join(self._ask(body, now) for body in wanted)

    def _send_notices(self, now: float) -> bytes:
        out = []
        while self._waiting and self.state is State.UP and len(self._asked) < MAX_UNANSWERED:
            notice = self._waiting.popleft()
            uptime = self._uptime_at(notice.since)
            out.append(self._ask(Notify((*uptime, *notice.varbinds)), now, notice))
        return b"".join(out)

    def _uptime_at(self, moment: float) -> tuple[VarBind, ...]:
        """The master's sysUpTime at a moment, which it fills in itself where we cannot know it:
        for what happened before it started (section 6.2.10)."""
        if self._uptime is None:
            return ()
        ticks, heard = self._uptime
        at = ticks + int((moment - heard) * 100)
        return (VarBind(SYS_UP_TIME, Value(Tag.TIMETICKS, at % _TICKS)),) if at >= 0 else ()

    def _ask(self, body: Body, now: float, notice: _Notice | None = None) -> bytes:
        self._packet_id = self._packet_id % (_TICKS - 1) + 1
        self._asked[self._packet_id] = _Asked(body, now, notice)
        return encode(Pdu(body, self.session_id, 0, self._packet_id))

    def _close(self, reason: CloseReason) -> bytes:
        if not self.session_id:
            return b""
        return encode(Pdu(Close(reason), self.session_id, 0, self._packet_id + 1))

    def _ended(self, why: str, reason: CloseReason) -> SessionEnded:
        return SessionEnded(why, self._close(reason))


def _name(names: type[Enum], number: int) -> str:
    known = {member.value: member.name for member in names}
    return known.get(number, str(number))


def _error(number: int) -> str:
    names = AgentxError if number >= AgentxError.openFailed else ErrorStatus
    return _name(names, number)
