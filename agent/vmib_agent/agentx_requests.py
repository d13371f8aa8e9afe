"""What an AgentX master asks for, answered from a `MibService` (RFC 2741 section 7.2).

The four phases of a SET are the three calls of a `PreparedSet`: TestSet prepares, CommitSet
commits, UndoSet undoes, CleanupSet releases. A PDU that the master sends again because an answer
was late is answered as the first time, and has no second effect.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vmib.schema import instance_name
from vmib.snmp import ber
from vmib.status import ErrorStatus

from .agentx import (
    AgentxError,
    CleanupSet,
    CommitSet,
    Get,
    GetBulk,
    GetNext,
    Header,
    Pdu,
    Response,
    SearchRange,
    TestSet,
    UndoSet,
)
from .agentx_quick import Quick
from .logs import RateLimit, event, info, log
from .responders import MAX_BULK_VARBINDS
from .service import MibService, Missing, PreparedSet, SetRefused, Value, VarBind

PRINCIPAL = "agentx"
"""On whose behalf an AgentX master's SETs are: the protocol carries no securityName. Who may do
what has been decided by the master (VACM)."""

MAX_BULK_OCTETS = 65536
"""Enough for any SNMP message."""
MAX_TRANSACTIONS = 64
REMEMBERED = 1024

_END_OF_MIB_VIEW = Value(ber.END_OF_MIB_VIEW, b"")
_NO_SUCH_OBJECT = Value(ber.NO_SUCH_OBJECT, b"")
_NO_SUCH_INSTANCE = Value(ber.NO_SUCH_INSTANCE, b"")
_DONE = Response()

_TransactionId = tuple[int, int]


class _Failed(Exception):
    """The service raised what it must not; `index` counts the request's ranges from 1."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


@dataclass(slots=True)
class _Transaction:
    """A SET between its TestSet and its CleanupSet; `tested` are the varbinds of every TestSet."""

    prepared: PreparedSet
    tested: tuple[VarBind, ...]
    is_committed: bool = False


class Requests:
    """Answers the requests of masters; knows the SETs that are under way."""

    def __init__(
        self, service: MibService, max_varbinds_per_set: int, quick: Quick | None = None
    ) -> None:
        self._service = service
        self._quick = quick
        self._max_varbinds_per_set = max_varbinds_per_set
        self._transactions: OrderedDict[_TransactionId, _Transaction] = OrderedDict()
        self._answered: OrderedDict[tuple[int, int, int], tuple[type, Response]] = OrderedDict()
        self._faults = RateLimit()

    def answer(self, pdu: Pdu) -> Response | None:
        """The answer to a request; None for CleanupSet, which has none."""
        body = pdu.body
        if pdu.context:
            return Response(error=AgentxError.unsupportedContext, index=1)
        try:
            match body:
                case Get(ranges):
                    return Response(varbinds=self._each(ranges, self._get))
                case GetNext(ranges):
                    return Response(varbinds=self._each(ranges, self._get_next))
                case GetBulk():
                    return Response(varbinds=self._bulk(body))
                case TestSet() | CommitSet() | UndoSet():
                    return self._once(pdu)
                case CleanupSet():
                    self._clean_up((pdu.session_id, pdu.transaction_id))
                    return None
        except _Failed as failed:
            return Response(error=ErrorStatus.genErr, index=failed.index)
        return Response(error=AgentxError.processingError)

    def quickly(self, octets: bytes, header: Header) -> bytes | None:
        """The same from octets to octets, where there is a short way; else None."""
        return None if self._quick is None else self._quick.answer(octets, header)

    def abandon(self) -> None:
        """The session is over: what was committed and not cleaned up is taken back.

        The master answers its SET only after it has sent every CleanupSet, so nobody was told
        that such a SET succeeded.
        """
        self._answered.clear()
        while self._transactions:
            key, transaction = self._transactions.popitem()
            if transaction.is_committed:
                log.warning(event("set-abandoned", user=PRINCIPAL, transaction=key[1]))
                self._undo(transaction)
            self._release(transaction)

    def _each(
        self, ranges: Sequence[SearchRange], find: Callable[[SearchRange], VarBind]
    ) -> tuple[VarBind, ...]:
        return tuple(self._guarded(find, wanted, index) for index, wanted in enumerate(ranges, 1))

    def _guarded(
        self, find: Callable[[SearchRange], VarBind], wanted: SearchRange, index: int
    ) -> VarBind:
        try:
            return find(wanted)
        except Exception as error:
            self._report(error, instance_name(wanted.start))
            raise _Failed(index) from None

    def _get(self, wanted: SearchRange) -> VarBind:
        found = self._service.get(wanted.start)
        if isinstance(found, Missing):
            found = _NO_SUCH_INSTANCE if found.instance else _NO_SUCH_OBJECT
        return VarBind(wanted.start, found)

    def _get_next(self, wanted: SearchRange) -> VarBind:
        start, end, include = wanted
        if include:
            itself = self._service.get(start)
            if isinstance(itself, Value):
                return VarBind(start, itself)
        found = self._service.get_next(start)
        if found is None or (end and found.oid >= end):
            return VarBind(start, _END_OF_MIB_VIEW)
        if found.oid <= start:
            raise RuntimeError(f"{found.oid} does not follow {start}")
        return found

    def _bulk(self, body: GetBulk) -> tuple[VarBind, ...]:
        """As many varbinds as an SNMP message can hold (section 7.2.3.3)."""
        once, again = body.ranges[: body.non_repeaters], list(body.ranges[body.non_repeaters :])
        found = list(self._each(once, self._get_next))
        room = MAX_BULK_OCTETS
        for _ in range(body.max_repetitions if again else 0):
            row = []
            for column, wanted in enumerate(again):
                varbind = self._guarded(self._get_next, wanted, len(once) + column + 1)
                again[column] = SearchRange(varbind.oid, wanted.end)
                row.append(varbind)
                room -= 8 + 4 * len(varbind.oid)
                room -= len(varbind.value.raw) if isinstance(varbind.value.raw, bytes) else 4
            if room < 0 or len(found) + len(row) > MAX_BULK_VARBINDS:
                break
            found += row
            if all(varbind.value is _END_OF_MIB_VIEW for varbind in row):
                break
        return tuple(found)

    def _once(self, pdu: Pdu) -> Response:
        """The answer to a phase of a SET, the same one each time this PDU comes."""
        packet = (pdu.session_id, pdu.transaction_id, pdu.packet_id)
        kind, answer = self._answered.get(packet, (None, _DONE))
        if kind is type(pdu.body):
            log.info(event("set-repeated", user=PRINCIPAL, phase=kind.__name__))
            return answer
        key = packet[:2]
        match pdu.body:
            case TestSet(varbinds):
                answer = self._test(key, varbinds)
            case CommitSet():
                answer = self._commit(key)
            case UndoSet():
                answer = self._undo(self._transactions.get(key))
        self._answered[packet] = type(pdu.body), answer
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)
        return answer

    def _test(self, key: _TransactionId, varbinds: tuple[VarBind, ...]) -> Response:
        """Prepare; a second TestSet of a transaction adds to the first.

        A master that has another subagent's subtree inside of ours sends one for each part.
        """
        earlier = self._transactions.get(key)
        if earlier is not None and earlier.is_committed:
            return Response(error=ErrorStatus.genErr, index=1)
        before = earlier.tested if earlier else ()
        tested = before + varbinds
        if len(tested) > self._max_varbinds_per_set:
            reason = f"more than {self._max_varbinds_per_set} varbinds"
            return self._refused(ErrorStatus.tooBig, 1, tested, reason)
        try:
            prepared = self._service.prepare(tested, PRINCIPAL)
        except SetRefused as refused:
            index = min(max(refused.index - len(before), 1), len(varbinds))
            return self._refused(refused.status, index, tested, refused.reason)
        except Exception as error:
            self._report(error, "TestSet")
            return self._refused(ErrorStatus.genErr, 1, tested, type(error).__name__)
        if earlier is not None:
            self._release(earlier)
        self._transactions[key] = _Transaction(prepared, tested)
        if len(self._transactions) > MAX_TRANSACTIONS:
            _, oldest = self._transactions.popitem(last=False)
            self._release(oldest)
        return _DONE

    def _commit(self, key: _TransactionId) -> Response:
        transaction = self._transactions.get(key)
        if transaction is None:
            return self._refused(ErrorStatus.commitFailed, 1, (), "was not tested")
        if transaction.is_committed:
            return _DONE
        tested = transaction.tested
        try:
            transaction.prepared.commit()
        except SetRefused as refused:
            index = min(max(refused.index, 1), len(tested))
            return self._refused(ErrorStatus.commitFailed, index, tested, refused.reason)
        except Exception as error:
            self._report(error, "CommitSet")
            return self._refused(ErrorStatus.commitFailed, 1, tested, type(error).__name__)
        transaction.is_committed = True
        return _DONE

    def _undo(self, transaction: _Transaction | None) -> Response:
        """Take a commit back; where there is none, nothing is to be undone."""
        if transaction is None:
            return _DONE
        try:
            transaction.prepared.undo()
        except SetRefused as refused:
            return self._refused(ErrorStatus.undoFailed, 1, transaction.tested, refused.reason)
        except Exception as error:
            self._report(error, "UndoSet")
            reason = type(error).__name__
            return self._refused(ErrorStatus.undoFailed, 1, transaction.tested, reason)
        if transaction.is_committed:
            transaction.is_committed = False
            self._log(_DONE, transaction.tested, "undone: another agent failed")
        return _DONE

    def _clean_up(self, key: _TransactionId) -> None:
        transaction = self._transactions.pop(key, None)
        if transaction is None:
            return
        if transaction.is_committed:
            what = f"user={PRINCIPAL} source=master varbinds={len(transaction.tested)}"
            info(f'event=set {what} status=noError index=0 reason=""')
        self._release(transaction)

    def _release(self, transaction: _Transaction) -> None:
        try:
            transaction.prepared.release()
        except Exception as error:
            self._report(error, "CleanupSet")

    def _refused(
        self, status: ErrorStatus, index: int, varbinds: Sequence[VarBind], reason: str
    ) -> Response:
        answer = Response(error=status, index=index)
        self._log(answer, varbinds, reason)
        return answer

    def _log(self, answer: Response, varbinds: Sequence[VarBind], reason: str) -> None:
        log.warning(
            event(
                "set",
                user=PRINCIPAL,
                source="master",
                varbinds=len(varbinds),
                status=ErrorStatus(answer.error).name,
                index=answer.index,
                reason=reason,
            )
        )

    def _report(self, error: Exception, where: str) -> None:
        suppressed = self._faults.suppressed_before(type(error).__name__)
        if suppressed is not None:
            facts = event("fault", at=where, error=type(error).__name__, suppressed=suppressed)
            log.error(facts, exc_info=error)
