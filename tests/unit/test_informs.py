"""Informs to one receiver: sent, sent again, acknowledged, lost; whatever anybody sends back."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.errors import VmibError
from vmib.smi import Oid
from vmib.snmp import usm
from vmib.snmp.ber import Value, VarBind
from vmib.snmp.message import (
    AUTH,
    PRIV,
    CommunityMessage,
    Pdu,
    PduType,
    ScopedPdu,
    UsmParameters,
    V3Message,
    decode_message,
    decode_scoped,
    encode_community,
    encode_scoped,
)
from vmib_agent import informers, service
from vmib_agent.access import USM_STATS
from vmib_agent.config import ConfigRefused, Endpoint, Target
from vmib_agent.informs import MAX_UNANSWERED, MAX_WAITING, ByCommunity, ByUser, Informs
from vmib_agent.responders import encode_notification

OID: Oid = (1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0)
OWN, OTHER = b"\x80\0\x01\xff\5own", b"\x80\0\x01\xff\5other"
AUTH_KEY, PRIV_KEY = (usm.password_to_key(usm.SHA256, b"a pass phrase " + n) for n in (b"1", b"2"))
RETRIES, TIMEOUT = 2, 5.0
NOT_IN_TIME, UNKNOWN_USER, UNKNOWN_ENGINE, WRONG_DIGEST = 2, 3, 4, 5


def keys(engine_id: bytes) -> usm.Keys:
    localised = (usm.localise(usm.SHA256, key, engine_id) for key in (AUTH_KEY, PRIV_KEY))
    return usm.Keys(usm.SHA256, *localised)


def contents(request_id: int) -> bytes:
    return encode_notification(request_id, [service.VarBind(OID, service.Value(2, request_id))])


@dataclass
class Sender:
    """Informs, and what has become of them."""

    informs: Informs = field(init=False)
    lost: list[tuple[str, str]] = field(default_factory=list)
    now: float = 1000.0
    number: int = 0
    by_user: bool = False

    def __post_init__(self) -> None:
        dialect = ByUser(OWN, "eve", keys) if self.by_user else ByCommunity(b"ears")
        self.informs = Informs(
            dialect, TIMEOUT, RETRIES, lambda name, reason: self.lost.append((name, reason))
        )

    def add(self) -> list[bytes]:
        self.number += 1
        return self.informs.add(f"n{self.number}", self.number, contents(self.number), self.now)

    def wait(self) -> list[bytes]:
        """Until something is to be done."""
        due = self.informs.next_tick()
        assert due is not None
        self.now = due
        return self.informs.tick(due)

    def received(self, datagram: bytes) -> list[bytes]:
        return self.informs.received(datagram, self.now)


def acknowledged(datagram: bytes, community: bytes = b"ears") -> bytes:
    message = decode_message(datagram)
    assert isinstance(message, CommunityMessage)
    assert message.pdu.type is PduType.INFORM
    return encode_community(
        CommunityMessage(community, replace(message.pdu, type=PduType.RESPONSE))
    )


@dataclass
class Engine:
    """The receiver's engine, as strict as RFC 3414."""

    engine_id: bytes = OTHER
    boots: int = 3
    time: int = 5000
    heard: list[int] = field(default_factory=list)

    def answer(self, datagram: bytes) -> bytes:
        message = decode_message(datagram)
        assert isinstance(message, V3Message)
        if message.usm.engine_id != self.engine_id:
            return self.report(message, UNKNOWN_ENGINE)
        assert message.flags & (AUTH | PRIV) == AUTH | PRIV
        usm.verify(message, datagram, keys(self.engine_id))
        if not usm.in_own_window(self.boots, self.time, message.usm.boots, message.usm.time):
            return self.report(message, NOT_IN_TIME, AUTH)
        scoped = decode_scoped(usm.open_data(message, keys(self.engine_id)))
        assert (scoped.engine_id, scoped.pdu.type) == (OWN, PduType.INFORM)
        self.heard.append(scoped.pdu.request_id)
        return self.sealed(message, replace(scoped.pdu, type=PduType.RESPONSE), AUTH | PRIV)

    def report(self, message: V3Message, counter: int, flags: int = 0) -> bytes:
        varbind = VarBind((*USM_STATS, counter, 0), Value.counter32(1))
        return self.sealed(message, Pdu(PduType.REPORT, 0, (varbind,)), flags)

    def sealed(self, message: V3Message, pdu: Pdu, flags: int) -> bytes:
        parameters = UsmParameters(self.engine_id, self.boots, self.time, b"eve", b"", b"")
        if not flags:
            parameters = replace(parameters, user=b"")
        data = encode_scoped(ScopedPdu(self.engine_id, b"", pdu))
        whole = V3Message(message.msg_id, 65507, flags, parameters, data)
        return usm.seal(whole, keys(self.engine_id), b"saltsalt")


def converse(sender: Sender, engine: Engine, datagrams: list[bytes], most: int = 9) -> None:
    """Pass datagrams to and fro until both are silent."""
    for _ in range(most):
        if not datagrams:
            return
        datagrams = [out for sent in datagrams for out in sender.received(engine.answer(sent))]
    raise AssertionError("they do not come to an end")


def test_an_inform_is_sent_once_and_acknowledged() -> None:
    sender = Sender()
    (datagram,) = sender.add()
    assert sender.received(acknowledged(datagram)) == []
    assert (sender.informs.acknowledged, len(sender.informs)) == (1, 0)
    assert sender.informs.next_tick() is None
    assert sender.received(acknowledged(datagram)) == []
    assert sender.informs.acknowledged == 1


def test_without_an_answer_the_same_is_sent_again_until_it_is_lost() -> None:
    sender = Sender()
    (first,) = sender.add()
    for _ in range(RETRIES):
        assert sender.wait() == [first]
    assert sender.wait() == []
    assert sender.now == 1000 + TIMEOUT * (RETRIES + 1)
    assert sender.lost == [("n1", "no answer")]
    assert (sender.informs.lost, sender.informs.next_tick()) == (1, None)


def test_an_answer_to_the_last_attempt_counts() -> None:
    sender = Sender()
    (datagram,) = sender.add()
    for _ in range(RETRIES):
        sender.wait()
    sender.received(acknowledged(datagram))
    assert (sender.informs.acknowledged, sender.lost) == (1, [])


def test_what_is_no_acknowledgement_is_not_taken_for_one() -> None:
    sender = Sender()
    (datagram,) = sender.add()
    message = decode_message(datagram)
    assert isinstance(message, CommunityMessage)
    other = replace(message.pdu, type=PduType.RESPONSE, request_id=99)
    for wrong in (
        datagram,
        acknowledged(datagram, b"eyes"),
        encode_community(CommunityMessage(b"ears", other)),
    ):
        assert sender.received(wrong) == []
    assert len(sender.informs) == 1


def test_few_are_on_their_way_and_the_others_wait_in_order() -> None:
    sender = Sender()
    sent = [datagram for _ in range(MAX_UNANSWERED + 5) for datagram in sender.add()]
    assert len(sent) == MAX_UNANSWERED
    for number in range(1, 6):
        (following,) = sender.received(acknowledged(sent[number - 1]))
        message = decode_message(following)
        assert isinstance(message, CommunityMessage)
        assert message.pdu.request_id == MAX_UNANSWERED + number
    assert len(sender.informs) == MAX_UNANSWERED


def test_more_than_may_wait_are_lost_and_what_waits_is_sent_when_others_are_lost() -> None:
    sender = Sender()
    for _ in range(MAX_UNANSWERED + MAX_WAITING + 2):
        sender.add()
    assert [reason for _, reason in sender.lost] == [f"{MAX_WAITING} others wait"] * 2
    for _ in range(RETRIES):
        assert len(sender.wait()) == MAX_UNANSWERED
    assert len(sender.wait()) == MAX_UNANSWERED
    assert len(sender.informs) == MAX_WAITING
    sender.informs.give_up()
    assert sender.lost[-1] == (f"n{MAX_UNANSWERED + MAX_WAITING}", "the agent stops")
    assert sender.informs.lost == MAX_UNANSWERED + MAX_WAITING + 2


def test_the_engine_is_found_out_and_the_inform_acknowledged() -> None:
    sender, engine = Sender(by_user=True), Engine()
    converse(sender, engine, sender.add())
    converse(sender, engine, sender.add())
    assert engine.heard == [1, 2]
    assert (sender.informs.acknowledged, len(sender.informs)) == (2, 0)


def test_a_receiver_that_started_again_is_followed_in_its_time() -> None:
    sender, engine = Sender(by_user=True), Engine()
    converse(sender, engine, sender.add())
    engine.boots, engine.time = 4, 10
    converse(sender, engine, sender.add())
    assert engine.heard == [1, 2]


def test_a_receiver_that_became_another_is_found_out_again() -> None:
    sender, engine = Sender(by_user=True), Engine()
    converse(sender, engine, sender.add())
    engine.engine_id = OTHER + b"2"
    converse(sender, engine, sender.add())
    assert engine.heard == [1, 2]


def test_salts_are_never_used_twice() -> None:
    sender, engine = Sender(by_user=True), Engine()
    converse(sender, engine, sender.add())
    sent = [datagram for _ in range(3) for datagram in sender.add()] + sender.wait()
    salts = [message.usm.priv for message in map(decode_message, sent)]  # type: ignore[union-attr]
    assert len(set(salts)) == 6


def test_reports_without_an_end_have_an_end() -> None:
    sender, engine = Sender(by_user=True), Engine()
    converse(sender, engine, sender.add())
    (datagram,) = sender.add()
    sent = 0
    while True:
        message = decode_message(datagram)
        assert isinstance(message, V3Message)
        again = sender.received(engine.report(message, UNKNOWN_ENGINE))
        if not again:
            break
        (datagram,) = again
        sent += 1
    assert sent == 3
    assert sender.lost == []


def test_what_a_report_complains_of_is_told_when_the_inform_is_lost() -> None:
    sender, engine = Sender(by_user=True), Engine()
    converse(sender, engine, sender.add())
    (datagram,) = sender.add()
    message = decode_message(datagram)
    assert isinstance(message, V3Message)
    assert sender.received(engine.report(message, UNKNOWN_USER)) == []
    for _ in range(RETRIES + 1):
        sender.wait()
    assert sender.lost == [("n2", "unknownUserNames")]


def test_a_report_about_the_time_counts_only_when_it_is_authentic() -> None:
    sender, engine = Sender(by_user=True), Engine()
    converse(sender, engine, sender.add())
    (datagram,) = sender.add()
    message = decode_message(datagram)
    assert isinstance(message, V3Message)
    engine.boots = 2**31 - 1
    assert sender.received(engine.report(message, NOT_IN_TIME)) == []
    engine.boots = 3
    converse(sender, engine, sender.wait())
    assert engine.heard == [1, 2]


def test_after_a_loss_the_engine_is_asked_for_anew() -> None:
    sender, engine = Sender(by_user=True), Engine(engine_id=OTHER + b"made up")
    (probe,) = sender.add()
    message = decode_message(probe)
    assert isinstance(message, V3Message)
    sender.received(engine.report(message, UNKNOWN_ENGINE))
    for _ in range(RETRIES + 1):
        sender.wait()
    assert sender.informs.lost == 1
    honest = Engine()
    converse(sender, honest, sender.add())
    assert honest.heard == [2]


@pytest.mark.parametrize("by_user", [False, True])
@given(st.binary(max_size=80), st.integers(0, 400), st.integers(0, 255))
def test_no_datagram_breaks_it(by_user: bool, noise: bytes, at: int, octet: int) -> None:
    sender, engine = Sender(by_user=by_user), Engine()
    sent = sender.add()
    if by_user:
        converse(sender, engine, sent)
        sent = sender.add()
    answer = bytearray(engine.answer(sent[0]) if by_user else acknowledged(sent[0]))
    answer[at % len(answer)] ^= octet
    for datagram in noise, bytes(answer):
        try:
            sender.received(datagram)
        except VmibError:
            assert len(sender.informs) == 1


@pytest.mark.parametrize(
    ("mode", "text", "words"),
    [
        (0o644, "a long pass phrase\nanother one\n", "everybody can read it; chmod 0600"),
        (0o600, "a long pass phrase\n", "1 lines; two belong there"),
        (0o600, "short\nanother one\n", "at least 8 octets"),
        (0o600, None, "No such file"),
    ],
)
def test_pass_phrases_that_cannot_be_used_are_refused_by_the_name_of_their_file(
    tmp_path: Path, mode: int, text: str | None, words: str
) -> None:
    file = tmp_path / "passphrases"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    target = Target(Endpoint("192.0.2.9", 162), "eve", inform=True, passphrase_file=file)
    with pytest.raises(ConfigRefused) as refused:
        informers.dialect(target, OWN)
    assert str(refused.value).startswith(f"{file}: ")
    assert words in str(refused.value)
    assert "short" not in str(refused.value)
