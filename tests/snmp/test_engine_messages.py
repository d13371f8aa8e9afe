"""The front end, datagram by datagram: what net-snmp's tools cannot send, and both ways for v3."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path

import agents
import pytest
from agents import Memory, shape
from pysnmp.proto import rfc1902

from vmib.smi import Oid
from vmib.snmp import ber, usm
from vmib.snmp.ber import Value, VarBind
from vmib.snmp.message import (
    CommunityMessage,
    ErrorStatus,
    Pdu,
    PduType,
    ScopedPdu,
    UsmParameters,
    V3Message,
    decode_message,
    decode_scoped,
    encode_community,
    encode_scoped,
    encode_v3,
)
from vmib_agent import daemon, identity, users
from vmib_agent.config import Communities, Config, Limits
from vmib_agent.engine import to_value
from vmib_agent.frontend import FrontEnd
from vmib_agent.identity import LATCHED, Identity
from vmib_agent.responders import Origin
from vmib_agent.sealing import Sealer
from vmib_agent.users import Role

SOURCE = ("192.0.2.7", 40000)
SYS_UP_TIME: Oid = (1, 3, 6, 1, 2, 1, 1, 3, 0)
RATE = shape("rate", 1)
DELAY = shape("delay", 1)
REPORTABLE_AUTH_PRIV = 7
UNSET = (VarBind((1, 3, 1, 1, 1, 1, 1), Value.null()),)


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Bench:
    """A front end without sockets, and a manager that knows its keys."""

    memory: Memory
    clock: Clock
    identity: Identity
    keys: usm.Keys
    front_end: FrontEnd
    handle: Callable[[bytes, tuple[str, int]], bytes | None]
    salt: int = 0

    def sealed(
        self,
        pdu: Pdu,
        *,
        max_size: int = 65507,
        msg_id: int = 1,
        context: bytes = b"",
        user: bytes = b"admin",
        boots: int | None = None,
        time: int | None = None,
        engine_id: bytes | None = None,
        flags: int = REPORTABLE_AUTH_PRIV,
        keys: usm.Keys | None = None,
    ) -> bytes:
        engine = self.identity.engine_id if engine_id is None else engine_id
        self.salt += 1
        parameters = UsmParameters(
            engine,
            self.identity.boots if boots is None else boots,
            int(self.clock()) if time is None else time,
            user,
            b"",
            b"",
        )
        data = encode_scoped(ScopedPdu(engine, context, pdu))
        message = V3Message(msg_id, max_size, flags, parameters, data)
        return usm.seal(message, keys or self.keys, struct.pack(">Q", self.salt))

    def opened(self, datagram: bytes | None) -> Pdu:
        assert datagram is not None
        message = decode_message(datagram)
        assert isinstance(message, V3Message)
        if message.flags & 1:
            usm.verify(message, datagram, self.keys)
        return decode_scoped(usm.open_data(message, self.keys)).pdu

    def ask(self, pdu: Pdu, **header: int) -> Pdu:
        return self.opened(self.handle(self.sealed(pdu, **header), SOURCE))  # type: ignore[arg-type]

    def ask_v2c(self, pdu: Pdu) -> Pdu | None:
        asked = encode_community(CommunityMessage(b"look", pdu))
        answer = self.front_end.handle(asked, SOURCE)
        if answer is None:
            return None
        message = decode_message(answer)
        assert isinstance(message, CommunityMessage)
        return message.pdu


@pytest.fixture(params=["express", "pysnmp"])
def bench(tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    user = users.add_user(tmp_path, "admin", Role.ADMIN, *agents.PASSPHRASES)
    who = identity.start(tmp_path)
    memory, clock = Memory(), Clock()
    front_end = FrontEnd(
        memory,
        who,
        [user],
        daemon.system_facts(Config(), who),
        Limits(max_varbinds_per_set=20),
        Communities("look", (ip_network("192.0.2.0/24"),)),
        Sealer(who, clock),
        clock,
    )
    keys = usm.Keys(usm.SHA256, user.auth_key, user.priv_key)

    def through_pysnmp(datagram: bytes, source: tuple[str, int]) -> bytes | None:
        return front_end.engine.receive(Origin(source, datagram))

    handle = front_end.handle if request.param == "express" else through_pysnmp
    return Bench(memory, clock, who, keys, front_end, handle)


def reading(kind: PduType, *oids: Oid, first: int = 0, second: int = 0, number: int = 5) -> Pdu:
    return Pdu(kind, number, tuple(VarBind(oid, Value.null()) for oid in oids), first, second)


def bulk(*oids: Oid, non_repeaters: int = 0, max_repetitions: int = 10) -> Pdu:
    return reading(PduType.GET_BULK, *oids, first=non_repeaters, second=max_repetitions)


def writing(*varbinds: tuple[Oid, Value], number: int = 6) -> Pdu:
    return Pdu(PduType.SET, number, tuple(VarBind(oid, value) for oid, value in varbinds))


def outcome(pdu: Pdu) -> tuple[ErrorStatus, int]:
    return ErrorStatus(pdu.error_status), pdu.error_index


def test_a_request_without_varbinds_is_answered_without_any(bench: Bench) -> None:
    for kind in PduType.GET, PduType.GET_NEXT, PduType.GET_BULK, PduType.SET:
        answer = bench.ask(Pdu(kind, 77))
        assert (answer.type, answer.request_id, answer.varbinds) == (PduType.RESPONSE, 77, ())
        assert outcome(answer) == (ErrorStatus.noError, 0)
    assert bench.memory.sets == 0


def test_getbulk_without_repetitions_answers_the_non_repeaters(bench: Bench) -> None:
    answer = bench.ask(bulk(SYS_UP_TIME[:-1], RATE, RATE, non_repeaters=1, max_repetitions=0))
    assert [varbind.oid for varbind in answer.varbinds] == [SYS_UP_TIME]
    assert bench.ask(bulk(RATE, max_repetitions=0)).varbinds == ()


def test_getbulk_takes_more_repeaters_than_pysnmp_would(bench: Bench) -> None:
    answer = bench.ask(bulk(*[shape("rate", vm) for vm in range(1, 101)], max_repetitions=2))
    assert len(answer.varbinds) == 200
    assert outcome(answer) == (ErrorStatus.noError, 0)


def test_getbulk_counts_are_taken_as_they_come(bench: Bench) -> None:
    for non_repeaters, repetitions, expected in [(99, 5, 2), (2**31 - 1, 2**31 - 1, 2)]:
        asked = bulk(RATE, DELAY, non_repeaters=non_repeaters, max_repetitions=repetitions)
        assert len(bench.ask(asked).varbinds) == expected


def test_negative_getbulk_counts_are_zero(bench: Bench) -> None:
    asked = bulk(RATE, DELAY, non_repeaters=-5, max_repetitions=1)
    answer = bench.ask_v2c(asked)
    assert answer is not None
    assert len(answer.varbinds) == 2
    answer = bench.ask_v2c(bulk(RATE, DELAY, non_repeaters=1, max_repetitions=-1))
    assert answer is not None
    assert len(answer.varbinds) == 1


def test_getbulk_rows_interleave_and_follow_each_other(bench: Bench) -> None:
    answer = bench.ask(bulk(RATE[:-3], DELAY[:-3], max_repetitions=3))
    found = [varbind.oid for varbind in answer.varbinds]
    assert found[:4] == [shape("rate", 1, 1), shape("delay", 1, 1), RATE, DELAY]
    assert found[0::2] == sorted(found[0::2])


def test_getbulk_stops_after_the_row_that_is_all_end_of_view(bench: Bench) -> None:
    answer = bench.ask(bulk((1, 3, 6, 1, 6, 3, 15, 1, 1, 6, 0), (2, 1), max_repetitions=500))
    assert len(answer.varbinds) == 2
    assert {varbind.value.tag for varbind in answer.varbinds} == {ber.END_OF_MIB_VIEW}
    assert answer.varbinds[1].oid == (2, 1)


def test_getbulk_is_truncated_to_what_the_manager_can_take(bench: Bench) -> None:
    for size in (484, 800, 1472, 5000):
        asked = bench.sealed(bulk(RATE, max_repetitions=400), max_size=size)
        datagram = bench.handle(asked, SOURCE)
        assert datagram is not None
        assert size - 90 <= len(datagram) <= size
        answer = bench.opened(datagram)
        assert outcome(answer) == (ErrorStatus.noError, 0)
        assert answer.varbinds


def test_getbulk_of_everything_fits_into_a_datagram(bench: Bench) -> None:
    asked = bulk(*[shape("rate", vm) for vm in range(1, 11)], max_repetitions=2**31 - 1)
    datagram = bench.handle(bench.sealed(asked), SOURCE)
    assert datagram is not None
    assert len(datagram) <= 65507
    assert len(bench.opened(datagram).varbinds) == 2048


def test_get_that_does_not_fit_is_too_big(bench: Bench) -> None:
    asked = reading(PduType.GET, *[shape("rate", vm) for vm in range(1, 30)])
    datagram = bench.handle(bench.sealed(asked, max_size=484), SOURCE)
    assert datagram is not None
    assert len(datagram) <= 484
    answer = bench.opened(datagram)
    assert outcome(answer) == (ErrorStatus.tooBig, 0)
    assert answer.varbinds == ()


def test_set_whose_answer_does_not_fit_has_no_effect(bench: Bench) -> None:
    asked = writing(*[(shape("rate", vm), Value.unsigned32(9)) for vm in range(1, 20)])
    assert outcome(bench.ask(asked, max_size=484)) == (ErrorStatus.tooBig, 0)
    assert bench.memory.sets == 0


def test_set_beyond_the_limit_has_no_effect(bench: Bench) -> None:
    asked = writing(*[(shape("rate", vm), Value.unsigned32(9)) for vm in range(1, 22)])
    assert outcome(bench.ask(asked)) == (ErrorStatus.tooBig, 0)
    assert bench.memory.sets == 0


def test_set_is_answered_with_the_varbinds_of_the_request(bench: Bench) -> None:
    asked = writing((RATE, Value.unsigned32(9)), (DELAY, Value.unsigned32(10)))
    assert bench.ask(asked).varbinds == asked.varbinds
    refused = writing((RATE, Value.unsigned32(9)), (DELAY, Value.octets(b"ten")), number=8)
    answer = bench.ask(refused)
    assert outcome(answer) == (ErrorStatus.wrongType, 2)
    assert answer.varbinds == refused.varbinds
    assert bench.memory.principals == ["admin", "admin"]


@pytest.mark.parametrize(
    "value",
    [
        Value.null(),
        Value.integer(-1),
        Value.octets(b"1"),
        Value.oid((1, 3)),
        Value.ip_address("192.0.2.1"),
        Value.counter32(1),
        Value.time_ticks(1),
        Value.opaque(b"\x9f\x78\x04\x00\x00\x00\x00"),
        Value.counter64(1),
        Value.no_such_object(),
        Value.no_such_instance(),
        Value.end_of_mib_view(),
    ],
    ids=lambda value: value.kind,
)
def test_every_other_type_is_the_wrong_type(bench: Bench, value: Value) -> None:
    asked = writing((RATE, Value.unsigned32(1)), (DELAY, value))
    answer = bench.ask(asked)
    assert outcome(answer) == (ErrorStatus.wrongType, 2)
    assert answer.varbinds == asked.varbinds


def test_a_fault_in_the_middle_names_its_varbind(bench: Bench) -> None:
    for kind in PduType.GET, PduType.GET_BULK:
        asked = reading(kind, RATE, agents.FAULTY[: -(kind is PduType.GET_BULK) or None], second=3)
        answer = bench.ask(asked)
        assert outcome(answer) == (ErrorStatus.genErr, 2)
        assert answer.varbinds == asked.varbinds


def test_a_service_that_goes_backwards_is_a_fault_not_a_loop(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    backwards = bench.memory.get_next(shape("rate", 1, 0))
    monkeypatch.setattr(bench.memory, "get_next", lambda oid: backwards)
    answer = bench.ask(bulk(shape("rate", 9)))
    assert outcome(answer) == (ErrorStatus.genErr, 1)


def test_a_repeated_set_is_answered_and_not_carried_out_again(bench: Bench) -> None:
    asked = writing((RATE, Value.unsigned32(5)))
    first = bench.ask(asked, msg_id=1)
    bench.clock.seconds += 29
    assert bench.ask(asked, msg_id=2) == first
    assert bench.memory.sets == 1
    bench.clock.seconds += 2
    bench.ask(asked, msg_id=3)
    assert bench.memory.sets == 2


def test_a_refusal_is_repeated_too(bench: Bench) -> None:
    asked = writing((RATE, Value.octets(b"five")))
    assert bench.ask(asked) == bench.ask(asked)
    assert bench.memory.sets == 1


def test_another_request_of_the_same_manager_is_carried_out(bench: Bench) -> None:
    bench.ask(writing((RATE, Value.unsigned32(5)), number=1))
    bench.ask(writing((RATE, Value.unsigned32(5)), number=2))
    bench.ask(writing((RATE, Value.unsigned32(6)), number=2))
    assert bench.memory.sets == 3


def test_a_copied_message_is_not_carried_out_from_anywhere(bench: Bench) -> None:
    copied = bench.sealed(writing((RATE, Value.unsigned32(5))))
    bench.handle(copied, SOURCE)
    bench.clock.seconds += 149
    answer = bench.opened(bench.handle(copied, ("198.51.100.9", 9)))
    assert outcome(answer) == (ErrorStatus.noError, 0)
    assert bench.memory.sets == 1


@pytest.mark.parametrize(
    ("late", "served"), [(-151, False), (-150, True), (150, True), (151, False)]
)
def test_the_time_window_is_150_seconds_either_way(bench: Bench, late: int, served: bool) -> None:
    asked = reading(PduType.GET, SYS_UP_TIME)
    answer = bench.ask(asked, time=int(bench.clock()) + late)
    assert answer.type is (PduType.RESPONSE if served else PduType.REPORT)
    if not served:
        assert answer.varbinds[0].oid == (1, 3, 6, 1, 6, 3, 15, 1, 1, 2, 0)


def test_other_boots_are_outside_the_time_window(bench: Bench) -> None:
    for boots in bench.identity.boots + 1, bench.identity.boots - 1, LATCHED:
        answer = bench.ask(reading(PduType.GET, SYS_UP_TIME), boots=boots)
        assert answer.type is PduType.REPORT


def test_the_report_about_time_is_authenticated_and_tells_the_time(bench: Bench) -> None:
    asked = bench.sealed(reading(PduType.GET, SYS_UP_TIME), time=0)
    datagram = bench.handle(asked, SOURCE)
    assert datagram is not None
    message = decode_message(datagram)
    assert isinstance(message, V3Message)
    assert message.flags & 3 == 1
    usm.verify(message, datagram, bench.keys)
    assert (message.usm.boots, message.usm.time) == (bench.identity.boots, 1000)


def test_reports_to_strangers_are_not_signed_with_a_users_key(bench: Bench) -> None:
    wrong = usm.passphrase_keys(
        usm.SHA256, bench.identity.engine_id, b"another phrase", b"another phrase"
    )
    asked = reading(PduType.GET, SYS_UP_TIME)
    reports = {
        "wrong digest": (bench.sealed(asked, keys=wrong), 5),
        "security level": (bench.sealed(asked, flags=4), 1),
        "unknown user": (bench.sealed(asked, user=b"nobody"), 3),
        "empty user": (bench.sealed(asked, user=b"", flags=4), 3),
        "other engine": (bench.sealed(asked, engine_id=bytes.fromhex("80001f8801020304")), 4),
        "discovery": (bench.sealed(asked, engine_id=b"", user=b"", flags=4), 4),
    }
    for name, (datagram, counter) in reports.items():
        answer = bench.handle(datagram, SOURCE)
        assert answer is not None, name
        message = decode_message(answer)
        assert isinstance(message, V3Message)
        assert message.flags & 3 == 0, name
        pdu = decode_scoped(message.data).pdu
        assert pdu.type is PduType.REPORT, name
        assert pdu.varbinds[0].oid == (1, 3, 6, 1, 6, 3, 15, 1, 1, counter, 0), name


def test_a_digest_cut_short_does_not_pass(bench: Bench) -> None:
    datagram = bench.sealed(writing((RATE, Value.unsigned32(5))))
    message = decode_message(datagram)
    assert isinstance(message, V3Message)
    for octets in (0, 1, 12, 16, 23):
        cut = replace(message, usm=replace(message.usm, auth=message.usm.auth[:octets]))
        bench.front_end.handle(encode_v3(cut)[0], SOURCE)
    assert bench.memory.sets == 0


def test_another_context_is_reported_and_nothing_happens(bench: Bench) -> None:
    asked = bench.sealed(writing((RATE, Value.unsigned32(5))), context=b"other")
    answer = bench.opened(bench.handle(asked, SOURCE))
    assert answer.type is PduType.REPORT
    assert answer.varbinds[0].oid == (1, 3, 6, 1, 6, 3, 12, 1, 5, 0)
    assert answer.request_id == 6
    assert bench.memory.sets == 0


def test_responses_traps_and_reports_get_no_answer(bench: Bench) -> None:
    for kind in PduType.RESPONSE, PduType.TRAP, PduType.REPORT:
        assert bench.front_end.handle(bench.sealed(Pdu(kind, 4)), SOURCE) is None
        assert bench.ask_v2c(Pdu(kind, 4)) is None


def test_v2c_never_writes_and_the_attempt_is_counted(bench: Bench) -> None:
    answer = bench.ask_v2c(writing((RATE, Value.unsigned32(5))))
    assert answer is not None
    assert outcome(answer) == (ErrorStatus.noAccess, 1)
    assert bench.memory.sets == 0
    assert bench.front_end.counter("snmpInBadCommunityUses") == 1


def test_v2c_is_answered_only_where_the_configuration_says(bench: Bench) -> None:
    asked = encode_community(CommunityMessage(b"look", reading(PduType.GET, SYS_UP_TIME)))
    assert bench.front_end.handle(asked, ("192.0.2.9", 1)) is not None
    assert bench.front_end.handle(asked, ("198.51.100.9", 1)) is None
    assert bench.front_end.handle(asked, ("fe80::1%lo", 1)) is None
    assert bench.front_end.handle(asked.replace(b"look", b"loot"), ("192.0.2.9", 1)) is None
    assert bench.front_end.counter("snmpInBadCommunityNames") == 3


def test_versions_that_are_not_spoken_are_counted(bench: Bench) -> None:
    for version in 0, 2, 4, 2**31 - 1:
        datagram = ber.tlv(ber.SEQUENCE, ber.encode_integer(version) + b"\x04\x00")
        assert bench.front_end.handle(datagram, SOURCE) is None
    assert bench.front_end.counter("snmpInBadVersions") == 4


MALFORMED = {
    "empty": b"",
    "one octet": b"0",
    "indefinite length": b"\x30\x80\x02\x01\x03\x00\x00",
    "lying length": b"\x30\x84\xff\xff\xff\xff\x02\x01\x03",
    "deeply nested": b"\x30\x83\x01\x00\x00\x02\x01\x03" + b"\x30\x80" * 30000,
    "octets after the end": b"\x30\x03\x02\x01\x03\x00",
    "not a sequence": b"\x04\x03\x02\x01\x03",
    "version too long": b"\x30\x0b\x02\x09\x01\x00\x00\x00\x00\x00\x00\x00\x03",
    "only a version": b"\x30\x03\x02\x01\x03",
}


@pytest.mark.parametrize("datagram", MALFORMED.values(), ids=MALFORMED)
def test_what_is_not_a_message_is_dropped_and_counted(bench: Bench, datagram: bytes) -> None:
    assert bench.front_end.handle(datagram, SOURCE) is None
    assert bench.front_end.counter("snmpInASNParseErrs") == 1


def test_an_oid_of_129_sub_identifiers_is_malformed(bench: Bench) -> None:
    long = b"\x06\x81\x80" + b"\x2b" + b"\x01" * 127
    varbinds = ber.tlv(0x30, ber.tlv(0x30, long + b"\x05\x00"))
    pdu = ber.tlv(0xA0, b"\x02\x01\x01\x02\x01\x00\x02\x01\x00" + varbinds)
    datagram = ber.tlv(0x30, b"\x02\x01\x01\x04\x04look" + pdu)
    assert bench.front_end.handle(datagram, SOURCE) is None
    assert bench.front_end.counter("snmpInASNParseErrs") == 1


def test_an_oid_with_a_sub_identifier_beyond_32_bits_is_malformed(bench: Bench) -> None:
    asked = encode_scoped(ScopedPdu(bench.identity.engine_id, b"", Pdu(PduType.GET, 1, UNSET)))
    too_large = ber.tlv(ber.OBJECT_IDENTIFIER, bytes.fromhex("2b9080808000"))
    asked = asked.replace(ber.encode_oid((1, 3, 1, 1, 1, 1, 1)), too_large)
    bench.salt += 1
    own = bench.identity
    parameters = UsmParameters(own.engine_id, own.boots, 1000, b"admin", b"", b"")
    message = V3Message(1, 65507, REPORTABLE_AUTH_PRIV, parameters, asked)
    datagram = usm.seal(message, bench.keys, struct.pack(">Q", bench.salt))
    assert bench.front_end.handle(datagram, SOURCE) is None
    assert bench.front_end.counter("snmpInASNParseErrs") == 1


def test_damaged_messages_never_crash_never_write_and_leave_nothing_behind(bench: Bench) -> None:
    chance = random.Random(8646)
    originals = [
        bench.sealed(bulk(RATE, SYS_UP_TIME, non_repeaters=1)),
        bench.sealed(reading(PduType.GET, SYS_UP_TIME), engine_id=b"", user=b"", flags=4),
        bench.sealed(reading(PduType.GET_NEXT, RATE), flags=4, user=b""),
        encode_community(CommunityMessage(b"look", bulk(RATE, DELAY))),
        bench.sealed(writing((RATE, Value.unsigned32(5)))),
    ]
    for _ in range(1500):
        original = chance.choice(originals)
        damaged = bytearray(original)
        for _ in range(chance.randint(1, 6)):
            action, at = chance.randrange(3), chance.randrange(len(damaged))
            if action == 0:
                damaged[at] = chance.randrange(256)
            elif action == 1:
                del damaged[at : at + chance.randint(1, 4)]
            else:
                damaged[at:at] = chance.randbytes(chance.randint(1, 4))
            damaged = damaged or bytearray(b"0")
        if damaged != original:
            bench.front_end.handle(bytes(damaged), (f"192.0.2.{chance.randint(1, 254)}", 1))
    assert bench.memory.sets == 0
    pysnmp = bench.front_end.engine._engine
    security, messages = pysnmp.security_models[3], pysnmp.message_processing_subsystems[3]
    assert security._cache.is_empty()
    assert not security._SnmpUSMSecurityModel__timeline
    assert not security._SnmpUSMSecurityModel__timelineExpQueue
    assert not messages._SnmpV3MessageProcessingModel__engineIdCache
    assert not messages._cache._Cache__stateReferenceIndex
    assert bench.ask(reading(PduType.GET, RATE)).varbinds[0].oid == RATE


def test_both_ways_give_the_same_answer(bench: Bench) -> None:
    asked = [
        reading(PduType.GET, RATE, DELAY, (1, 3), shape("rate", 999)),
        reading(PduType.GET_NEXT, RATE, (0, 0), (2, 999, 2**32 - 1), agents.SETS),
        bulk(RATE, SYS_UP_TIME[:-2], max_repetitions=40),
        writing((RATE, Value.unsigned32(2**32 - 1)), (DELAY, Value.integer(-(2**31)))),
    ]
    for pdu in asked:
        message = bench.sealed(pdu)
        express = bench.opened(bench.front_end.handle(message, SOURCE))
        slow = bench.opened(bench.front_end.engine.receive(Origin(SOURCE, message)))
        assert express == slow


def test_latched_boots_are_never_in_the_time_window(tmp_path: Path) -> None:
    user = users.add_user(tmp_path, "admin", Role.ADMIN, *agents.PASSPHRASES)
    who = replace(identity.load(tmp_path), boots=LATCHED)
    clock, memory = Clock(), Memory()
    facts = daemon.system_facts(Config(), who)
    front_end = FrontEnd(memory, who, [user], facts, Limits(), None, Sealer(who, clock), clock)
    keys = usm.Keys(usm.SHA256, user.auth_key, user.priv_key)
    bench = Bench(memory, clock, who, keys, front_end, front_end.handle)
    assert bench.ask(writing((RATE, Value.unsigned32(5)))).type is PduType.REPORT
    assert memory.sets == 0


def test_values_keep_their_tag_on_the_way_from_pysnmp() -> None:
    assert to_value(rfc1902.Counter64(2**64 - 1)) == (0x46, 2**64 - 1)
    assert to_value(rfc1902.IpAddress("192.0.2.1")) == (0x40, bytes((192, 0, 2, 1)))
    assert to_value(rfc1902.ObjectIdentifier((1, 3, 6))) == (0x06, (1, 3, 6))
    assert to_value(rfc1902.Null("")) == (0x05, b"")
