"""GET, GETNEXT, GETBULK and SET (RFC 3416 section 4.2) over a `MibService`, whatever carried them.

A request is answered whole: exactly one Response-PDU, which fits into the room its carrier
names, or none where the RFC wants silence. What the service raises beyond `SetRefused` is a fault
of ours: genErr for the requester, a traceback in the log.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple

from vmib.schema import instance_name
from vmib.smi import Oid
from vmib.snmp import ber
from vmib.snmp.channel import NotPlain
from vmib.snmp.message import V2C, Pdu, PduType
from vmib.status import ErrorStatus

from . import quickset
from .access import Principal
from .logs import RateLimit, event, info, log, shown
from .quickset import QuickService
from .recent import Recent
from .service import MibService, Missing, SetRefused, Value, VarBind

MAX_BULK_VARBINDS = 2048
"""The most varbinds of one GETBULK response; a bound on its cost (RFC 3416 section 4.2.3)."""

LONGEST_HEADER = 6
"""The most octets that tag and length take in front of contents."""

BULK_OVERHEAD = 20
"""At most what a PDU takes around its varbinds: two headers and three numbers."""

RETRANSMISSION_SECONDS = 30
REPLAY_SECONDS = 300
"""Twice the time window of RFC 3414: for so long a copied message can still be in time."""

_END_OF_MIB_VIEW = Value(ber.END_OF_MIB_VIEW, b"")
_NO_SUCH_OBJECT = Value(ber.NO_SUCH_OBJECT, b"")
_NO_SUCH_INSTANCE = Value(ber.NO_SUCH_INSTANCE, b"")
_WITHOUT_CONTENT = {ber.NULL, ber.NO_SUCH_OBJECT, ber.NO_SUCH_INSTANCE, ber.END_OF_MIB_VIEW}


ANSWERED = frozenset({PduType.GET, PduType.GET_NEXT, PduType.SET, PduType.GET_BULK})
"""The PDUs that an agent answers."""


class Request(NamedTuple):
    """A PDU. The two numbers are non-repeaters and max-repetitions of a GETBULK."""

    kind: PduType
    request_id: int
    non_repeaters: int
    max_repetitions: int
    varbinds: Sequence[VarBind]


def request_of(pdu: Pdu) -> Request:
    """The request in a PDU of one of the kinds `ANSWERED`."""
    varbinds = [
        VarBind(oid, Value(value.tag, b"" if value.value is None else value.value))
        for oid, value in pdu.varbinds
    ]
    return Request(pdu.type, pdu.request_id, pdu.error_status, pdu.error_index, varbinds)


class Origin(NamedTuple):
    """Where a request came from, and the message as it came."""

    source: tuple[str, int]
    message: bytes


class _Outcome(NamedTuple):
    status: ErrorStatus
    position: int


class _TooLong(Exception):
    """The answer does not fit."""


class _Failed(Exception):
    """The service raised what it must not; `index` counts the request's varbinds from 1."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


_DONE = _Outcome(ErrorStatus.noError, 0)
_TOO_BIG = _Outcome(ErrorStatus.tooBig, 0)


class Responder:
    """Answers requests; remembers the outcome of recent SETs so that none is carried out twice."""

    def __init__(
        self,
        service: MibService,
        max_varbinds_per_set: int,
        clock: Callable[[], float] = time.monotonic,
        quick: QuickService | None = None,
    ) -> None:
        self._service = service
        self._quick = quick
        self._max_varbinds_per_set = max_varbinds_per_set
        self._retransmitted: Recent[_Outcome] = Recent(RETRANSMISSION_SECONDS, clock)
        self._replayed: Recent[_Outcome] = Recent(REPLAY_SECONDS, clock)
        self._faults = RateLimit(clock=clock)

    def respond(
        self, request: Request, principal: Principal, origin: Origin, room: int
    ) -> bytes | None:
        """The contents of the Response-PDU, or None when not even tooBig fits into the room.

        `room` is the most octets that the PDU with its tag may take.
        """
        try:
            if request.kind is PduType.SET:
                return self._set(request, principal, origin, room)
            if request.kind is PduType.GET_BULK:
                rows = self._bulk(request, principal, room)
                return _fitting(_contents(request, _DONE, rows), room)
            answer = self._get if request.kind is PduType.GET else self._get_next
            found = [
                self._guarded(answer, position, varbind.oid, principal)[1]
                for position, varbind in enumerate(request.varbinds, 1)
            ]
            return _fitting(_contents(request, _DONE, found), room)
        except _Failed as failed:
            outcome = _Outcome(ErrorStatus.genErr, failed.index)
            return self._refusal(request, outcome, room)
        except _TooLong:
            return self._refusal(request, _TOO_BIG, room)

    def _refusal(self, request: Request, outcome: _Outcome, room: int) -> bytes | None:
        if outcome != _TOO_BIG:
            try:
                return _fitting(_contents(request, outcome, _echoed(request)), room)
            except _TooLong:
                outcome = _TOO_BIG
        try:
            return _fitting(_contents(request, outcome, ()), room)
        except _TooLong:
            return None

    def _guarded(
        self,
        answer: Callable[[Oid, Principal], VarBind],
        position: int,
        oid: Oid,
        principal: Principal,
    ) -> tuple[VarBind, bytes]:
        """A varbind of the answer, also as octets."""
        try:
            varbind = answer(oid, principal)
            return varbind, _encoded(varbind)
        except Exception as error:
            self._report(error, instance_name(oid))
            raise _Failed(position) from None

    def _report(self, error: Exception, where: str) -> None:
        suppressed = self._faults.suppressed_before(type(error).__name__)
        if suppressed is not None:
            facts = event("fault", at=where, error=type(error).__name__, suppressed=suppressed)
            log.error(facts, exc_info=error)

    def _get(self, oid: Oid, principal: Principal) -> VarBind:
        if not principal.read.includes(oid):
            return VarBind(oid, _NO_SUCH_OBJECT)
        found = self._service.get(oid)
        if isinstance(found, Missing):
            found = _NO_SUCH_INSTANCE if found.instance else _NO_SUCH_OBJECT
        return VarBind(oid, found)

    def _get_next(self, oid: Oid, principal: Principal) -> VarBind:
        after: Oid | None = oid
        while after is not None:
            found = self._service.get_next(after)
            if found is None:
                break
            if found.oid <= after:
                raise RuntimeError(f"{found.oid} does not follow {after}")
            if principal.read.includes(found.oid):
                return found
            after = principal.read.following(found.oid)
        return VarBind(oid, _END_OF_MIB_VIEW)

    def _bulk(self, request: Request, principal: Principal, room: int) -> list[bytes]:
        """As many varbinds of the answer as fit (RFC 3416 section 4.2.3)."""
        first = min(max(request.non_repeaters, 0), len(request.varbinds))
        repeated = range(first + 1, len(request.varbinds) + 1)
        limit = max(MAX_BULK_VARBINDS, len(request.varbinds))
        free, found = room - BULK_OVERHEAD, list[bytes]()

        def add(position: int, oid: Oid) -> VarBind | None:
            nonlocal free
            varbind, octets = self._guarded(self._get_next, position, oid, principal)
            free -= len(octets)
            if len(found) >= limit or free < 0:
                return None
            found.append(octets)
            return varbind

        for position in range(1, first + 1):
            if add(position, request.varbinds[position - 1].oid) is None:
                return _not_nothing(found)
        row = [request.varbinds[position - 1].oid for position in repeated]
        for _ in range(request.max_repetitions if row else 0):
            exhausted = True
            for column, position in enumerate(repeated):
                varbind = add(position, row[column])
                if varbind is None:
                    return _not_nothing(found)
                row[column] = varbind.oid
                exhausted = exhausted and varbind.value is _END_OF_MIB_VIEW
            if exhausted:
                break
        return found

    def _set(
        self, request: Request, principal: Principal, origin: Origin, room: int
    ) -> bytes | None:
        """The whole PDU or nothing; refused before anything happens if the answer cannot fit."""
        echo = _echoed(request)
        contents = _fitting(_contents(request, _DONE, echo), room)
        same_message, same_request = _marks(origin, principal, contents)
        outcome = self._replayed.find(same_message) or self._retransmitted.find(same_request)
        if outcome is None:
            outcome = self._execute(request.varbinds, principal, origin.source)
            self._replayed.remember(same_message, outcome)
            self._retransmitted.remember(same_request, outcome)
        else:
            log.info(event("set-repeated", user=principal.name, source=origin.source[0]))
        return contents if outcome == _DONE else self._refusal(request, outcome, room)

    def set_quickly(
        self, data: bytes, at: int, principal: Principal, origin: Origin, room: int
    ) -> bytes:
        """The contents of the Response-PDU to the plain SET that fills `data` from `at`.

        Raises `NotPlain` for what `respond` has to judge, and for what it has answered before.
        """
        if self._quick is None:
            raise NotPlain
        plain = quickset.parse(data, at)
        contents, cells = plain
        if len(contents) > room - LONGEST_HEADER or len(cells) > self._max_varbinds_per_set:
            raise NotPlain
        same_message, same_request = _marks(origin, principal, contents)
        if self._replayed.find(same_message) or self._retransmitted.find(same_request):
            raise NotPlain
        if not all(principal.write.includes(cell.place.oid) for cell in cells):
            raise NotPlain
        if not self._quick.set_quickly(cells, principal.name):
            raise NotPlain
        self._replayed.remember(same_message, _DONE)
        self._retransmitted.remember(same_request, _DONE)
        who = f"user={shown(principal.name)} source={shown(origin.source[0])}"
        info(f'event=set {who} varbinds={len(cells)} status=noError index=0 reason=""')
        return contents

    def _execute(
        self, varbinds: Sequence[VarBind], principal: Principal, source: tuple[str, int]
    ) -> _Outcome:
        outcome, reason = self._outcome(varbinds, principal)
        level = log.info if outcome == _DONE else log.warning
        level(
            event(
                "set",
                user=principal.name,
                source=source[0],
                varbinds=len(varbinds),
                status=outcome.status.name,
                index=outcome.position,
                reason=reason,
            )
        )
        return outcome

    def _outcome(self, varbinds: Sequence[VarBind], principal: Principal) -> tuple[_Outcome, str]:
        if len(varbinds) > self._max_varbinds_per_set:
            return _TOO_BIG, f"more than {self._max_varbinds_per_set} varbinds"
        for position, varbind in enumerate(varbinds, 1):
            if not principal.write.includes(varbind.oid):
                return _Outcome(ErrorStatus.noAccess, position), "not in the user's write view"
        if not varbinds:
            return _DONE, ""
        try:
            self._service.set(varbinds, principal.name)
        except SetRefused as refused:
            index = min(max(refused.index, 0), len(varbinds))
            return _Outcome(refused.status, index), refused.reason
        except Exception as error:
            self._report(error, "SET")
            return _Outcome(ErrorStatus.genErr, 1), type(error).__name__
        return _DONE, ""


def _marks(origin: Origin, principal: Principal, contents: bytes) -> tuple[bytes, bytes]:
    """What a copy of a message has in common with it, and what a retransmission of a SET has."""
    host, port = origin.source
    asker = f"{host} {port} {principal.name} ".encode()
    return sha256(origin.message).digest(), sha256(asker + contents).digest()


def _encoded(varbind: VarBind) -> bytes:
    tag, raw = varbind.value
    content = None if tag in _WITHOUT_CONTENT else raw
    value = ber.encode_value(ber.Value(tag, content))
    return ber.tlv(ber.SEQUENCE, ber.encode_oid(varbind.oid) + value)


def _echoed(request: Request) -> list[bytes]:
    return [_encoded(varbind) for varbind in request.varbinds]


def _contents(request: Request, outcome: _Outcome, varbinds: Iterable[bytes]) -> bytes:
    return (
        ber.encode_integer(request.request_id)
        + ber.encode_integer(outcome.status)
        + ber.encode_integer(outcome.position)
        + ber.tlv(ber.SEQUENCE, b"".join(varbinds))
    )


def encode_notification(request_id: int, varbinds: Iterable[VarBind]) -> bytes:
    """The contents of an SNMPv2-Trap-PDU or an InformRequest-PDU."""
    identifiers = ber.encode_integer(request_id) + 2 * ber.encode_integer(0)
    return identifiers + ber.tlv(ber.SEQUENCE, b"".join(map(_encoded, varbinds)))


def community_message(community: bytes, kind: PduType, contents: bytes) -> bytes:
    """An SNMPv2c message around the contents of a PDU."""
    pdu = ber.tlv(kind, contents)
    head = ber.encode_integer(V2C) + ber.tlv(ber.OCTET_STRING, community)
    return ber.tlv(ber.SEQUENCE, head + pdu)


def header_size(octets: int) -> int:
    """The octets of tag and length in front of so many (`vmib.snmp.ber.tlv`)."""
    return 2 if octets < 0x80 else 3 if octets < 0x100 else 4 if octets < 0x10000 else 6


def _fitting(contents: bytes, room: int) -> bytes:
    if header_size(len(contents)) + len(contents) > room:
        raise _TooLong
    return contents


def _not_nothing(found: list[bytes]) -> list[bytes]:
    """What fitted; a response that made no progress would have its manager ask for ever."""
    if not found:
        raise _TooLong
    return found
