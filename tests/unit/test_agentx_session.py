"""A subagent's session and its answers, as scripts: what a master sends, what it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib import objects
from vmib.smi import Oid, Tag
from vmib.snmp import ber
from vmib.status import ErrorStatus
from vmib_agent import agentx
from vmib_agent.agentx import AgentxError, CloseReason, Pdu, Response, SearchRange
from vmib_agent.agentx_codec import decode, encode
from vmib_agent.agentx_link import FIRST_DELAY, LAST_DELAY, delays
from vmib_agent.agentx_requests import Requests
from vmib_agent.agentx_session import (
    MAX_UNANSWERED,
    MAX_WAITING,
    PING_SECONDS,
    Role,
    Session,
    SessionEnded,
    State,
)
from vmib_agent.service import Missing, SetRefused, Value, VarBind
from vmib_agent.standard import SNMP_TRAP_OID, SYS_UP_TIME

ROOT: Oid = (*objects.ROOT[:7], 9)
ROLE = Role(ROOT, "test agent", (*ROOT, 1), (*ROOT, 2), "what it can", timeout=5, priority=100)
SESSION = 17
TRAP: Oid = (*ROOT, 0, 1)
FAULTY: Oid = (*ROOT, 1, 66)


def at(*rest: int) -> Oid:
    return (*ROOT, 1, *rest)


def number(value: int) -> Value:
    return Value(Tag.INTEGER, value)


class Memory:
    """Integers by instance; 13 cannot be tested, 14 not committed, 15 not undone."""

    def __init__(self, *values: int) -> None:
        self.values: dict[Oid, int] = {at(1, index): n for index, n in enumerate(values, 1)}
        self.calls: list[str] = []
        self.principals: set[str] = set()

    def get(self, oid: Oid) -> Value | Missing:
        if oid == FAULTY:
            raise RuntimeError("a fault on purpose")
        if oid in self.values:
            return number(self.values[oid])
        return Missing(instance=oid[:-1] == at(1))

    def get_next(self, oid: Oid) -> VarBind | None:
        if oid == FAULTY:
            raise RuntimeError("a fault on purpose")
        following = min((known for known in self.values if known > oid), default=None)
        return None if following is None else VarBind(following, number(self.values[following]))

    def prepare(self, varbinds: Sequence[VarBind], principal: str) -> Prepared:
        self.calls.append("prepare")
        self.principals.add(principal)
        for position, (oid, value) in enumerate(varbinds, 1):
            if value.raw == 12:
                raise RuntimeError("a fault on purpose")
            if value.raw == 13:
                raise SetRefused(ErrorStatus.wrongValue, position, "on purpose")
            assert oid in self.values
        return Prepared(self, varbinds)

    def set(self, varbinds: Sequence[VarBind], principal: str) -> None:
        raise NotImplementedError


class Prepared:
    def __init__(self, memory: Memory, varbinds: Sequence[VarBind]) -> None:
        self.memory = memory
        self.varbinds = varbinds
        self.before: dict[Oid, int] | None = None

    def commit(self) -> None:
        self.memory.calls.append("commit")
        for position, varbind in enumerate(self.varbinds, 1):
            if varbind.value.raw == 14:
                raise SetRefused(ErrorStatus.resourceUnavailable, position, "on purpose")
        self.before = dict(self.memory.values)
        for oid, value in self.varbinds:
            assert isinstance(value.raw, int)
            self.memory.values[oid] = value.raw

    def undo(self) -> None:
        self.memory.calls.append("undo")
        if any(varbind.value.raw == 15 for varbind in self.varbinds):
            raise SetRefused(ErrorStatus.undoFailed, 0, "on purpose")
        if self.before is not None:
            self.memory.values = self.before

    def release(self) -> None:
        self.memory.calls.append("release")


class Script:
    """A session, and the master that the test plays."""

    def __init__(self, memory: Memory | None = None, role: Role = ROLE) -> None:
        self.memory = memory or Memory(10, 20, 30)
        self.session = Session(role)
        self.now = 100.0
        self.packet = 1000
        self.started = 0

    def connect(self) -> list[Pdu]:
        """A connection is there; what is sent first."""
        self.requests = Requests(self.memory, 4)
        return pdus(self.session.connected(self.requests, self.now))

    def up(self, uptime: int = 5000) -> Script:
        """The whole way to a session."""
        (opening,) = self.connect()
        asked = self.answer(opening, uptime)
        for pdu in asked:
            self.answer(pdu, uptime)
        assert self.session.state is State.UP
        return self

    def answer(self, asked: Pdu, uptime: int = 5000, error: int = 0) -> list[Pdu]:
        """Answer something the subagent asked; what it sends then."""
        response = Response(uptime, error, 1 if error else 0)
        return self.send(response, asked.packet_id, 0)

    def send(
        self, body: agentx.Body, packet: int = 0, transaction: int = 1, **more: object
    ) -> list[Pdu]:
        """Send a PDU; what is sent back."""
        self.packet += 1
        pdu = Pdu(body, SESSION, transaction, packet or self.packet, **more)  # type: ignore[arg-type]
        return pdus(self.session.received(encode(pdu), self.now))

    def ask(self, body: agentx.Body, packet: int = 0, transaction: int = 1) -> Response:
        """Ask something that has one answer."""
        (answer,) = self.send(body, packet, transaction)
        assert isinstance(answer.body, Response)
        assert (answer.session_id, answer.transaction_id) == (SESSION, transaction)
        assert answer.packet_id == (packet or self.packet)
        return answer.body

    def outcome(self, body: agentx.Body, **ids: int) -> tuple[int, int]:
        """The error and index of an answer."""
        response = self.ask(body, **ids)
        return response.error, response.index


def pdus(octets: bytes) -> list[Pdu]:
    found = []
    while octets:
        size = 20 + int.from_bytes(octets[16:20])
        found.append(decode(octets[:size]))
        octets = octets[size:]
    return found


def test_a_session_is_opened_the_subtree_registered_and_capabilities_told() -> None:
    script = Script()
    assert script.connect() == [Pdu(agentx.Open(5, ROOT, b"test agent"), packet_id=1)]
    assert script.session.state is State.OPENING
    asked = script.answer(Pdu(agentx.Ping(), packet_id=1))
    assert asked == [
        Pdu(agentx.Register(at(), 5, 100), SESSION, 0, 2),
        Pdu(agentx.AddAgentCaps((*ROOT, 2), b"what it can"), SESSION, 0, 3),
    ]
    assert script.answer(asked[0]) == []
    assert script.session.state is State.REGISTERING
    assert script.answer(asked[1]) == []
    assert script.session.state is State.UP
    assert script.session.session_id == SESSION


def test_octets_come_in_pieces_of_any_size() -> None:
    script = Script().up()
    ask = agentx.Get((SearchRange(at(1, 1)),))
    whole = b"".join(encode(Pdu(ask, SESSION, 1, n)) for n in (1, 2, 3))
    for size in (1, 7, 20, 33, len(whole)):
        out = b""
        for start in range(0, len(whole), size):
            out += script.session.received(whole[start : start + size], 0)
        assert [pdu.packet_id for pdu in pdus(out)] == [1, 2, 3]


def test_a_master_of_little_endian_numbers_is_understood() -> None:
    script = Script().up()
    (answer,) = script.send(agentx.Get((SearchRange(at(1, 2)),)), network_order=False)
    assert isinstance(answer.body, Response)
    assert answer.body.varbinds == (VarBind(at(1, 2), number(20)),)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (AgentxError.openFailed, "the master refuses a session: openFailed"),
        (999, "the master refuses a session: 999"),
    ],
)
def test_a_session_that_is_refused_ends_with_the_reason(error: int, words: str) -> None:
    script = Script()
    (opening,) = script.connect()
    with pytest.raises(SessionEnded, match=words) as ended:
        script.answer(opening, error=error)
    assert ended.value.parting == b""


def test_a_subtree_that_is_refused_ends_the_session() -> None:
    script = Script()
    register, _ = script.answer(*script.connect())
    with pytest.raises(SessionEnded, match=r"register .*\.9\.1: duplicateRegistr") as ended:
        script.answer(register, error=AgentxError.duplicateRegistration)
    assert pdus(ended.value.parting)[0].body == agentx.Close(CloseReason.other)


def test_another_subtree_that_is_refused_does_not_keep_it_from_serving() -> None:
    script = Script(role=ROLE._replace(others=((*ROOT, 7),)))
    register, other, caps = script.answer(*script.connect())
    assert other == Pdu(agentx.Register((*ROOT, 7), 5, 100), SESSION, 0, 3)
    script.answer(other, error=AgentxError.duplicateRegistration)
    script.answer(register)
    assert script.session.state is State.REGISTERING
    script.answer(caps)
    assert script.session.state is State.UP


def test_capabilities_that_are_refused_do_not_keep_it_from_serving() -> None:
    script = Script()
    register, caps = script.answer(*script.connect())
    script.answer(caps, error=AgentxError.requestDenied)
    script.answer(register)
    assert script.session.state is State.UP


def test_a_silent_master_is_asked_and_then_given_up() -> None:
    script = Script().up()
    assert script.session.next_tick() == script.now + PING_SECONDS
    script.now += PING_SECONDS - 0.1
    assert script.session.tick(script.now) == b""
    script.now += 0.1
    (ping,) = pdus(script.session.tick(script.now))
    assert ping.body == agentx.Ping()
    assert script.session.next_tick() == script.now + ROLE.timeout
    script.answer(ping)
    assert script.session.next_tick() == script.now + PING_SECONDS
    script.now += PING_SECONDS
    assert pdus(script.session.tick(script.now))
    script.now += ROLE.timeout
    with pytest.raises(SessionEnded, match="does not answer") as ended:
        script.session.tick(script.now)
    assert pdus(ended.value.parting)[0].body == agentx.Close(CloseReason.timeouts)


def test_a_master_that_does_not_answer_open_is_given_up() -> None:
    script = Script()
    script.connect()
    with pytest.raises(SessionEnded, match="does not answer"):
        script.session.tick(script.now + ROLE.timeout)


def test_a_master_that_closes_or_has_forgotten_the_session_ends_it() -> None:
    with pytest.raises(SessionEnded, match="the master closed it: byManager"):
        Script().up().send(agentx.Close(CloseReason.byManager))
    script = Script().up()
    script.now += PING_SECONDS
    (ping,) = pdus(script.session.tick(script.now))
    with pytest.raises(SessionEnded, match="does not know the session"):
        script.answer(ping, error=AgentxError.notOpen)


def test_parting_in_order_says_so() -> None:
    script = Script()
    assert script.session.parting() == b""
    script.up()
    (close,) = pdus(script.session.parting())
    assert (close.body, close.session_id) == (agentx.Close(CloseReason.shutdown), SESSION)


def test_requests_of_another_session_or_before_there_is_one_are_not_answered_from_the_mib() -> None:
    script = Script()
    script.connect()
    ask = encode(Pdu(agentx.Get((SearchRange(at(1, 1)),)), 0, 1, 5))
    (answer,) = pdus(script.session.received(ask, 0))
    assert answer.body == Response(error=AgentxError.notOpen)
    script.up()
    ask = encode(Pdu(agentx.Get((SearchRange(at(1, 1)),)), SESSION + 1, 1, 5))
    (answer,) = pdus(script.session.received(ask, 0))
    assert answer.body == Response(error=AgentxError.notOpen)


def test_a_request_that_is_malformed_inside_is_answered_and_the_session_goes_on() -> None:
    script = Script().up()
    octets = bytearray(encode(Pdu(agentx.Get((SearchRange(at(1, 1)),)), SESSION, 1, 5)))
    octets[20] = 99
    (answer,) = pdus(script.session.received(bytes(octets), 0))
    assert answer == Pdu(Response(error=AgentxError.parseError), SESSION, 1, 5)
    octets[1] = 11
    assert script.session.received(bytes(octets), 0) == b""
    octets[1] = 99
    assert pdus(script.session.received(bytes(octets), 0))[0].body == answer.body
    assert script.ask(agentx.Get((SearchRange(at(1, 1)),))).error == 0


@pytest.mark.parametrize("octets", [b"\2" + bytes(19), b"\1\5\x10" + 17 * b"\xff"])
def test_octets_that_are_no_agentx_end_the_session(octets: bytes) -> None:
    with pytest.raises(SessionEnded, match="malformed: octet") as ended:
        Script().up().session.received(octets, 0)
    assert pdus(ended.value.parting)[0].body == agentx.Close(CloseReason.parseError)


@given(st.lists(st.binary(max_size=60), max_size=5))
def test_no_octets_of_a_master_raise_anything_else(pieces: list[bytes]) -> None:
    script = Script().up()
    for piece in pieces:
        try:
            script.session.received(piece, 0)
        except SessionEnded:
            script.session.disconnected()
            script.up()


def test_what_a_subagent_is_never_asked_is_an_error() -> None:
    for body in (agentx.Ping(), agentx.Notify(()), agentx.Open(0, (), b"")):
        assert Script().up().outcome(body) == (AgentxError.processingError, 0)


def test_another_context_is_not_served() -> None:
    (answer,) = Script().up().send(agentx.Get((SearchRange(at(1, 1)),)), context=b"other")
    assert answer.body == Response(error=AgentxError.unsupportedContext, index=1)
    (answer,) = Script().up().send(agentx.Get((SearchRange(at(1, 1)),)), context=b"")
    assert isinstance(answer.body, Response)
    assert answer.body.error == 0


def found(response: Response) -> list[tuple[Oid, object]]:
    names = {ber.END_OF_MIB_VIEW: "end", ber.NO_SUCH_INSTANCE: "instance"}
    names[ber.NO_SUCH_OBJECT] = "object"
    return [(oid, names.get(tag, raw)) for oid, (tag, raw) in response.varbinds]


def test_get_tells_values_missing_instances_and_missing_objects() -> None:
    asked = tuple(SearchRange(oid) for oid in (at(1, 2), at(1, 9), at(7)))
    assert found(Script().up().ask(agentx.Get(asked))) == [
        (at(1, 2), 20),
        (at(1, 9), "instance"),
        (at(7), "object"),
    ]


def test_get_next_stays_within_its_range() -> None:
    asked = (
        SearchRange(at()),
        SearchRange(at(1, 1)),
        SearchRange(at(1, 1), include=True),
        SearchRange(at(1), at(1, 1)),
        SearchRange(at(1), at(1, 1, 0)),
        SearchRange(at(1, 3)),
        SearchRange(at(1, 0), include=True),
    )
    assert found(Script().up().ask(agentx.GetNext(asked))) == [
        (at(1, 1), 10),
        (at(1, 2), 20),
        (at(1, 1), 10),
        (at(1), "end"),
        (at(1, 1), 10),
        (at(1, 3), "end"),
        (at(1, 1), 10),
    ]


def test_get_bulk_repeats_and_ends() -> None:
    script = Script().up()
    asked = (SearchRange(at(1, 2)), SearchRange(at()), SearchRange(at(1, 1)))
    assert found(script.ask(agentx.GetBulk(1, 2, asked))) == [
        (at(1, 3), 30),
        (at(1, 1), 10),
        (at(1, 2), 20),
        (at(1, 2), 20),
        (at(1, 3), 30),
    ]
    assert found(script.ask(agentx.GetBulk(0, 65535, asked[1:2]))) == [
        (at(1, 1), 10),
        (at(1, 2), 20),
        (at(1, 3), 30),
        (at(1, 3), "end"),
    ]
    assert found(script.ask(agentx.GetBulk(9, 9, asked[:1]))) == [(at(1, 3), 30)]


def test_get_bulk_is_bounded() -> None:
    script = Script(Memory(*range(5000))).up()
    answer = script.ask(agentx.GetBulk(0, 65535, (SearchRange(at()),)))
    assert 1000 < len(answer.varbinds) <= 2048


def test_a_fault_of_the_service_is_gen_err_at_its_range() -> None:
    asked = (SearchRange(at(1, 1)), SearchRange(FAULTY))
    for body in (agentx.Get(asked), agentx.GetNext(asked), agentx.GetBulk(0, 2, asked)):
        assert Script().up().outcome(body) == (ErrorStatus.genErr, 2)


def test_an_answer_that_agentx_cannot_carry_is_too_big(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script().up()
    monkeypatch.setattr(
        script.memory, "get", lambda _: Value(Tag.OCTET_STRING, bytes(65535)), raising=True
    )
    asked = agentx.Get(9 * (SearchRange(at(1, 1)),))
    assert script.outcome(asked) == (ErrorStatus.tooBig, 1)


def trial(*values: int) -> agentx.TestSet:
    return agentx.TestSet(
        tuple(VarBind(at(1, index), number(n)) for index, n in enumerate(values, 1))
    )


COMMIT, UNDO, CLEAN_UP = agentx.CommitSet(), agentx.UndoSet(), agentx.CleanupSet()


def test_a_set_in_its_phases() -> None:
    script = Script().up()
    assert script.outcome(trial(11, 21)) == (0, 0)
    assert script.memory.values[at(1, 1)] == 10
    assert script.outcome(COMMIT) == (0, 0)
    assert script.memory.values[at(1, 1)] == 11
    assert script.send(CLEAN_UP) == []
    assert script.memory.calls == ["prepare", "commit", "release"]
    assert script.memory.principals == {"agentx"}


def test_a_set_that_another_agent_failed_is_undone() -> None:
    script = Script().up()
    script.ask(trial(11, 21))
    script.ask(COMMIT)
    assert script.outcome(UNDO) == (0, 0)
    assert script.memory.values[at(1, 1)] == 10
    script.send(CLEAN_UP)
    assert script.memory.calls == ["prepare", "commit", "undo", "release"]


def test_a_test_that_fails_names_the_varbind_and_leaves_nothing() -> None:
    script = Script().up()
    assert script.outcome(trial(1, 13, 3)) == (ErrorStatus.wrongValue, 2)
    assert script.send(CLEAN_UP) == []
    assert script.outcome(trial(1, 12)) == (ErrorStatus.genErr, 1)
    assert script.outcome(trial(1, 2, 3, 4, 5)) == (ErrorStatus.tooBig, 1)
    assert script.memory.calls == ["prepare", "prepare"]


def test_a_commit_that_fails_is_commit_failed_and_its_undo_does_no_harm() -> None:
    script = Script().up()
    script.ask(trial(1, 14))
    assert script.outcome(COMMIT) == (ErrorStatus.commitFailed, 2)
    assert script.outcome(UNDO) == (0, 0)
    script.send(CLEAN_UP)
    assert script.memory.values[at(1, 1)] == 10


def test_an_undo_that_fails_says_so() -> None:
    script = Script().up()
    script.ask(trial(15))
    script.ask(COMMIT)
    assert script.outcome(UNDO) == (ErrorStatus.undoFailed, 1)


def test_what_was_not_tested_cannot_be_committed_and_needs_no_undo() -> None:
    script = Script().up()
    assert script.outcome(COMMIT) == (ErrorStatus.commitFailed, 1)
    assert script.outcome(UNDO) == (0, 0)
    assert script.send(CLEAN_UP) == []


def test_every_phase_that_is_sent_again_is_answered_alike_and_done_once() -> None:
    script = Script().up()
    for body, packet in ((trial(11), 1), (COMMIT, 2)):
        for _ in range(3):
            assert script.outcome(body, packet=packet) == (0, 0)
    assert script.memory.calls == ["prepare", "commit"]
    for _ in range(2):
        assert script.outcome(UNDO, packet=3) == (0, 0)
        script.send(CLEAN_UP)
    assert script.outcome(COMMIT, packet=2) == (0, 0)
    assert script.memory.calls == ["prepare", "commit", "undo", "release"]
    assert script.memory.values[at(1, 1)] == 10


def test_a_refusal_that_is_asked_for_again_is_the_same() -> None:
    script = Script().up()
    for _ in range(2):
        assert script.outcome(trial(13), packet=1) == (ErrorStatus.wrongValue, 1)
    script.ask(trial(14), transaction=2)
    for _ in range(2):
        assert script.outcome(COMMIT, packet=7, transaction=2) == (ErrorStatus.commitFailed, 1)
    assert script.memory.calls == ["prepare", "prepare", "commit"]


def test_a_packet_id_that_comes_round_again_is_a_new_request() -> None:
    script = Script().up()
    script.ask(trial(11), packet=1, transaction=1)
    script.ask(COMMIT, packet=2, transaction=1)
    script.send(CLEAN_UP, 3, 1)
    script.ask(trial(22), packet=1, transaction=2)
    assert script.outcome(COMMIT, packet=2, transaction=2) == (0, 0)
    assert script.memory.values[at(1, 1)] == 22


def test_transactions_that_overlap_are_kept_apart() -> None:
    script = Script().up()
    script.ask(agentx.TestSet((VarBind(at(1, 1), number(1)),)), transaction=1)
    script.ask(agentx.TestSet((VarBind(at(1, 2), number(2)),)), transaction=2)
    script.ask(COMMIT, transaction=2)
    script.send(CLEAN_UP, 0, 1)
    script.send(CLEAN_UP, 0, 2)
    assert [*script.memory.values.values()] == [10, 2, 30]


def test_a_set_in_two_parts_is_tested_and_done_as_one() -> None:
    script = Script().up()
    script.ask(agentx.TestSet((VarBind(at(1, 1), number(1)),)))
    script.ask(agentx.TestSet((VarBind(at(1, 3), number(3)),)))
    for _ in range(2):
        assert script.outcome(COMMIT) == (0, 0)
    assert [*script.memory.values.values()] == [1, 20, 3]
    script.send(CLEAN_UP)
    assert script.memory.calls == ["prepare", "prepare", "release", "commit", "release"]


def test_the_second_part_of_a_set_is_refused_by_its_own_positions() -> None:
    script = Script().up()
    script.ask(trial(1, 2))
    bad = agentx.TestSet((VarBind(at(1, 3), number(3)), VarBind(at(1, 1), number(13))))
    assert script.outcome(bad) == (ErrorStatus.wrongValue, 2)


def test_what_was_tested_is_released_when_the_connection_goes() -> None:
    script = Script().up()
    script.ask(trial(11))
    script.session.disconnected()
    assert script.memory.calls == ["prepare", "release"]


def test_what_was_committed_and_not_cleaned_up_is_undone_when_the_connection_goes() -> None:
    script = Script().up()
    script.ask(trial(11))
    script.ask(COMMIT)
    script.session.disconnected()
    assert script.memory.calls == ["prepare", "commit", "undo", "release"]
    assert script.memory.values[at(1, 1)] == 10
    script.up()
    assert script.outcome(COMMIT) == (ErrorStatus.commitFailed, 1)


def test_transactions_that_are_never_cleaned_up_are_bounded() -> None:
    script = Script().up()
    for transaction in range(200):
        script.ask(trial(11), transaction=transaction)
    assert script.memory.calls.count("release") == 200 - 64
    assert script.outcome(COMMIT, transaction=0) == (ErrorStatus.commitFailed, 1)


def notified(out: bytes) -> list[agentx.Notify]:
    return [pdu.body for pdu in pdus(out) if isinstance(pdu.body, agentx.Notify)]


def uptime_of(notify: agentx.Notify) -> object:
    first = notify.varbinds[0]
    return first.value.raw if first.oid == SYS_UP_TIME else None


OBJECT = VarBind(at(1, 1), number(10))


def test_a_notification_has_the_master_s_sys_up_time() -> None:
    script = Script().up(uptime=5000)
    script.now += 1.5
    (told,) = notified(script.session.notify(TRAP, [OBJECT], script.now))
    assert told.varbinds == (
        VarBind(SYS_UP_TIME, Value(Tag.TIMETICKS, 5150)),
        VarBind(SNMP_TRAP_OID, Value(Tag.OBJECT_IDENTIFIER, TRAP)),
        OBJECT,
    )


def test_sys_up_time_comes_round() -> None:
    script = Script().up(uptime=2**32 - 100)
    script.now += 2
    (told,) = notified(script.session.notify(TRAP, [], script.now))
    assert uptime_of(told) == 100


def test_notifications_wait_for_a_master_and_are_dated_where_that_can_be_known() -> None:
    script = Script()
    assert script.session.notify(TRAP, [OBJECT], script.now) == b""
    script.now += 100
    assert script.session.notify(TRAP, [OBJECT], script.now) == b""
    script.now += 10
    (opening,) = script.connect()
    register, caps = script.answer(opening, uptime=5000)
    assert script.answer(register) == []
    early, late = (pdu.body for pdu in script.answer(caps, uptime=5000))
    assert isinstance(early, agentx.Notify)
    assert isinstance(late, agentx.Notify)
    assert uptime_of(early) is None
    assert early.varbinds[0].oid == SNMP_TRAP_OID
    assert uptime_of(late) == 4000


def test_a_notification_that_no_master_answered_is_told_to_the_next_one() -> None:
    script = Script().up()
    one, two = VarBind(at(1, 1), number(1)), VarBind(at(1, 1), number(2))
    (first,) = pdus(script.session.notify(TRAP, [one], script.now))
    script.answer(first)
    script.session.notify(TRAP, [two], script.now)
    script.session.disconnected()
    (opening,) = script.connect()
    register, caps = script.answer(opening)
    script.answer(register)
    again = script.answer(caps)
    assert [pdu.body.varbinds[-1] for pdu in again] == [two]  # type: ignore[union-attr]


def test_a_notification_that_the_master_refuses_is_not_told_again() -> None:
    script = Script().up()
    (told,) = pdus(script.session.notify(TRAP, [], script.now))
    assert script.answer(told, error=AgentxError.processingError) == []
    script.session.disconnected()
    script.up()


def test_a_flood_of_notifications_goes_out_as_fast_as_it_is_answered_and_is_bounded() -> None:
    script = Script().up()
    out = b"".join(script.session.notify(TRAP, [OBJECT], script.now) for _ in range(3000))
    sent = pdus(out)
    assert len(sent) == MAX_UNANSWERED
    assert script.session.lost == 3000 - MAX_UNANSWERED - MAX_WAITING
    total = len(sent)
    while sent:
        more = script.answer(sent.pop(0))
        total += len(more)
        sent += more
    assert total == MAX_UNANSWERED + MAX_WAITING


def test_attempts_come_slower_and_slower_and_not_all_at_once() -> None:
    def some(jitter: Callable[[], float]) -> list[float]:
        pauses = delays(jitter)
        return [next(pauses) for _ in range(10)]

    longest = some(lambda: 0)
    assert longest[0] == FIRST_DELAY
    assert longest[:7] == sorted(set(longest[:7]))
    assert longest[-1] == longest[-2] == LAST_DELAY
    assert some(lambda: 1) == [pause / 2 for pause in longest]
