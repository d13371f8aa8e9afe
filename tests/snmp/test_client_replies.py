"""The manager's client against an agent that is slow, forgetful, forged or wrong on purpose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import pytest

from vmib.snmp import Oid, Pdu, PduType, Value, VarBind, message, usm
from vmib_manager.client import (
    Agent,
    AgentError,
    BadReply,
    Client,
    Community,
    Credentials,
    NotIncreasing,
    SnmpError,
    Timeout,
    TooLarge,
)
from vmib_manager.transport import pauses

COMMUNITY = b"only for tests"
ROOT = (1, 3, 6, 1, 4, 1, 9999)
ENGINE = bytes.fromhex("80001f8804") + b"scripted"
USER = Credentials.from_passphrases("admin", "authentication", "privacy of it")
NOT_IN_TIME_WINDOW = (1, 3, 6, 1, 6, 3, 15, 1, 1, 2, 0)
UNKNOWN_ENGINE = (1, 3, 6, 1, 6, 3, 15, 1, 1, 4, 0)

Reply = Callable[[bytes], list[bytes]]


def row(*rest: int, value: int = 1) -> VarBind:
    return VarBind((*ROOT, *rest), Value.integer(value))


class Scripted(asyncio.DatagramProtocol):
    """An agent that answers each datagram with what a function makes of it."""

    def __init__(self, reply: Reply) -> None:
        self.received: list[bytes] = []
        self._reply = reply

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append(data)
        for datagram in self._reply(data):
            self._transport.sendto(datagram, addr)


def ask(
    reply: Reply,
    question: Callable[[Agent], Awaitable[Any]],
    credentials: Credentials | Community | None = None,
    **options: Any,
) -> tuple[Any, list[bytes], int]:
    """The result (or the AgentError), what the agent received, and how much was dropped."""

    async def asked() -> tuple[Any, list[bytes], int]:
        loop = asyncio.get_running_loop()
        transport, agent = await loop.create_datagram_endpoint(
            lambda: Scripted(reply), ("127.0.0.1", 0)
        )
        port = transport.get_extra_info("sockname")[1]
        given = {"timeout": 0.6, "retries": 2} | options
        async with Client() as client:
            asking = question(
                client.agent("127.0.0.1", port, credentials or Community(COMMUNITY), **given)
            )
            try:
                result: Any = await asking
            except AgentError as error:
                result = error
            await asyncio.sleep(0.01)
            transport.close()
            return result, agent.received, client.dropped

    return asyncio.run(asked())


def v2c(answer: Callable[[Pdu], Pdu]) -> Reply:
    """An agent of SNMPv2c."""

    def reply(datagram: bytes) -> list[bytes]:
        asked = message.decode_message(datagram)
        assert isinstance(asked, message.CommunityMessage)
        return [message.encode_community(replace(asked, pdu=answer(asked.pdu)))]

    return reply


def responding(*varbinds: VarBind) -> Callable[[Pdu], Pdu]:
    return lambda pdu: Pdu(PduType.RESPONSE, pdu.request_id, varbinds)


@dataclass
class Engine:
    """An authoritative engine with one user; tests change its fields between requests."""

    engine_id: bytes = ENGINE
    boots: int = 4
    time: int = 1000
    told_at_discovery: tuple[int, int] | None = None
    changes: Callable[[bytes, int], list[bytes]] = lambda datagram, number: [datagram]
    flags: int = message.AUTH | message.PRIV
    keys: usm.Keys = field(init=False)
    answered: int = 0

    def __post_init__(self) -> None:
        self.keys = USER.keys(self.engine_id)

    def send(self, asked: message.V3Message, flags: int, pdu: Pdu, clock: Any = None) -> bytes:
        boots, seconds = clock or (self.boots, self.time)
        told = message.UsmParameters(self.engine_id, boots, seconds, asked.usm.user, b"", b"")
        scoped = message.encode_scoped(message.ScopedPdu(self.engine_id, b"", pdu))
        sent = message.V3Message(asked.msg_id, 1400, flags, told, scoped)
        return usm.seal(sent, self.keys, bytes(8))

    def __call__(self, datagram: bytes) -> list[bytes]:
        asked = message.decode_message(datagram)
        assert isinstance(asked, message.V3Message)
        if asked.usm.engine_id != self.engine_id:
            report = Pdu(PduType.REPORT, 0, (VarBind(UNKNOWN_ENGINE, Value.counter32(1)),))
            return [self.send(asked, 0, report, self.told_at_discovery)]
        usm.verify(asked, datagram, self.keys)
        if not usm.in_own_window(self.boots, self.time, asked.usm.boots, asked.usm.time):
            report = Pdu(PduType.REPORT, 0, (VarBind(NOT_IN_TIME_WINDOW, Value.counter32(1)),))
            return [self.send(asked, message.AUTH, report)]
        pdu = message.decode_scoped(usm.open_data(asked, self.keys)).pdu
        self.answered += 1
        answer = Pdu(PduType.RESPONSE, pdu.request_id, pdu.varbinds)
        return self.changes(self.send(asked, self.flags, answer), self.answered)


def set_one(agent: Agent) -> Awaitable[tuple[VarBind, ...]]:
    return agent.set([row(1)])


@pytest.mark.parametrize("answered", [(*ROOT, 1), (*ROOT, 1, 4), ROOT])
def test_a_walk_that_does_not_advance_ends_in_an_error(answered: Oid) -> None:
    reply = v2c(responding(row(1, 5), VarBind(answered, Value.integer(1))))
    error, received, _ = ask(reply, lambda agent: agent.walk(ROOT))
    assert isinstance(error, NotIncreasing)
    assert (error.asked, error.answered) == ((*ROOT, 1, 5), answered)
    assert len(received) == 1


def test_a_walk_ends_at_the_subtree_even_when_the_reply_goes_on() -> None:
    beyond = VarBind((*ROOT[:-1], 10000), Value.integer(1))
    again = row(1, 6)
    found, received, _ = ask(
        v2c(responding(row(1, 5), beyond, again)), lambda agent: agent.walk(ROOT)
    )
    assert found == [[row(1, 5)]]
    assert len(received) == 1


def test_columns_of_different_length_end_each_for_itself() -> None:
    table = [row(1, 1), row(2, 1), row(2, 2), row(2, 3), row(3, 1), row(3, 2)]

    def bulk(pdu: Pdu) -> Pdu:
        found, names = [], [oid for oid, _ in pdu.varbinds]
        for _ in range(min(pdu.max_repetitions, 2)):
            for at, name in enumerate(names):
                end = VarBind(name, Value.end_of_mib_view())
                found.append(min((cell for cell in table if cell.oid > name), default=end))
                names[at] = found[-1].oid
        return Pdu(PduType.RESPONSE, pdu.request_id, tuple(found[:5]))

    columns = [(*ROOT, column) for column in (1, 2, 3, 4)]
    found, _, _ = ask(v2c(bulk), lambda agent: agent.walk(*columns))
    assert found == [table[:1], table[1:4], table[4:], []]


def test_an_empty_reply_to_a_walk_is_an_error() -> None:
    error, _, _ = ask(v2c(responding()), lambda agent: agent.walk(ROOT))
    assert isinstance(error, BadReply)


def test_a_walk_asks_for_less_when_the_agent_cannot_answer_so_much() -> None:
    def bulk(pdu: Pdu) -> Pdu:
        if pdu.max_repetitions > 3:
            return Pdu(PduType.RESPONSE, pdu.request_id, pdu.varbinds, 5, 0)
        cell = row(1, 1) if pdu.varbinds[0].oid == ROOT else VarBind((2, 1), Value.null())
        return Pdu(PduType.RESPONSE, pdu.request_id, (cell,))

    found, received, _ = ask(v2c(bulk), lambda agent: agent.walk(ROOT))
    assert found == [[row(1, 1)]]
    assert len(received) == 6


def test_a_walk_of_an_agent_that_always_fails_ends() -> None:
    failing = v2c(lambda pdu: Pdu(PduType.RESPONSE, pdu.request_id, pdu.varbinds, 5, 0))
    error, received, _ = ask(failing, lambda agent: agent.walk(ROOT, (*ROOT, 1)))
    assert isinstance(error, SnmpError)
    assert error.status_name == "genErr"
    assert len(received) < 10


def test_an_answer_about_other_instances_is_an_error() -> None:
    error, _, _ = ask(v2c(responding(row(2))), lambda agent: agent.get([row(1).oid]))
    assert isinstance(error, BadReply)


def test_an_unknown_error_status_is_told_with_its_number() -> None:
    strange = v2c(lambda pdu: Pdu(PduType.RESPONSE, pdu.request_id, pdu.varbinds, 77, -5))
    error, _, _ = ask(strange, lambda agent: agent.get([row(1).oid]))
    assert isinstance(error, SnmpError)
    assert "error-status 77" in str(error)
    assert error.oid is None


def test_a_retransmission_is_the_same_octets_and_a_late_reply_answers_it() -> None:
    engine = Engine(changes=lambda datagram, number: [datagram] if number == 3 else [])
    found, received, _ = ask(engine, set_one, USER)
    assert found == (row(1),)
    discovery, *requests = received
    assert len(requests) == 3
    assert len(set(requests)) == 1
    assert discovery not in requests


@pytest.mark.parametrize("longer", [0.0, 0.5])
def test_a_set_that_takes_long_is_waited_for_where_that_is_known(longer: float) -> None:
    done = time.monotonic() + 0.15
    engine = Engine(changes=lambda datagram, _: [datagram] if time.monotonic() > done else [])
    found, _, _ = ask(engine, lambda agent: agent.set([row(1)], longer=longer), USER, timeout=0.1)
    assert found == (row(1),) if longer else isinstance(found, Timeout)


def test_every_reply_after_the_first_is_dropped() -> None:
    engine = Engine(changes=lambda datagram, number: [datagram, datagram, datagram])
    found, _, dropped = ask(engine, set_one, USER)
    assert found == (row(1),)
    assert dropped == 2


def flipped(datagram: bytes, at: int) -> bytes:
    octets = bytearray(datagram)
    octets[at] ^= 1
    return bytes(octets)


@pytest.mark.parametrize("forged", ["digest", "data", "garbage", "unsigned"])
def test_a_forged_reply_is_dropped_and_the_true_one_taken(forged: str) -> None:
    def with_forged(datagram: bytes, number: int) -> list[bytes]:
        told = message.decode_message(datagram)
        assert isinstance(told, message.V3Message)
        unsigned = replace(
            told,
            flags=0,
            data=message.encode_scoped(
                message.ScopedPdu(ENGINE, b"", Pdu(PduType.RESPONSE, 1, (row(9),)))
            ),
        )
        made = {
            "digest": flipped(datagram, told.auth_at),
            "data": flipped(datagram, len(datagram) - 1),
            "garbage": b"\x30\x80garbage",
            "unsigned": message.encode_v3(unsigned)[0],
        }
        return [made[forged], datagram]

    found, _, dropped = ask(Engine(changes=with_forged), set_one, USER)
    assert found == (row(1),)
    assert dropped == 1


def test_a_reply_at_a_lower_security_level_is_dropped() -> None:
    error, _, dropped = ask(Engine(flags=message.AUTH), set_one, USER)
    assert isinstance(error, Timeout)
    assert dropped == 3


def test_a_wrong_clock_told_at_discovery_costs_one_more_request_only() -> None:
    engine = Engine(told_at_discovery=(9, 5))
    found, received, _ = ask(engine, set_one, USER)
    assert found == (row(1),)
    assert len(received) == 3


def test_a_clock_that_nobody_authenticated_is_never_believed() -> None:
    engine = Engine(told_at_discovery=(2**31 - 1, 2**31 - 1))

    async def twice(agent: Agent) -> Any:
        await set_one(agent)
        return await set_one(agent)

    found, received, _ = ask(engine, twice, USER)
    assert found == (row(1),)
    assert len(received) == 4


def test_the_boots_and_the_time_of_a_restarted_agent_are_learnt() -> None:
    engine = Engine()

    async def across(agent: Agent) -> Any:
        await set_one(agent)
        engine.boots, engine.time = 5, 3
        return await set_one(agent)

    found, received, _ = ask(engine, across, USER)
    assert found == (row(1),)
    assert len(received) == 4


def test_a_replayed_reply_of_an_earlier_boot_is_dropped() -> None:
    engine = Engine()

    async def across(agent: Agent) -> Any:
        await set_one(agent)

        def old_clock(datagram: bytes, number: int) -> list[bytes]:
            asked = message.decode_message(datagram)
            assert isinstance(asked, message.V3Message)
            pdu = message.decode_scoped(usm.open_data(asked, engine.keys)).pdu
            forged = replace(pdu, varbinds=(row(1, value=666),))
            return [engine.send(asked, engine.flags, forged, (3, 1000)), datagram]

        engine.changes = old_clock
        return await set_one(agent)

    found, _, dropped = ask(engine, across, USER)
    assert found == (row(1),)
    assert dropped == 1


def test_a_new_engine_id_is_discovered_and_used() -> None:
    engine = Engine()

    async def across(agent: Agent) -> Any:
        await set_one(agent)
        engine.engine_id += b"new"
        engine.keys = USER.keys(engine.engine_id)
        return await set_one(agent)

    found, received, _ = ask(engine, across, USER)
    assert found == (row(1),)
    assert len(received) == 5


def test_an_agent_that_never_agrees_on_the_time_is_given_up() -> None:
    engine = Engine()
    engine.boots = 2**31 - 1
    error, received, _ = ask(engine, set_one, USER)
    assert isinstance(error, AgentError)
    assert len(received) <= 4


def test_the_largest_message_is_what_the_agent_takes() -> None:
    async def sizes(agent: Agent) -> tuple[int, int]:
        before = agent.max_size
        await set_one(agent)
        return before, agent.max_size

    found, _, _ = ask(Engine(), sizes, USER)
    assert found == (1472, 1400)


def test_rows_are_packed_whole_into_as_few_messages_as_fit() -> None:
    rows = [[row(column, index) for column in range(1, 13)] for index in range(20)]
    lock = row(99)

    async def pack(agent: Agent) -> tuple[list[list[list[VarBind]]], bool]:
        packed = agent.batches(rows, head=[lock])
        for batch in packed:
            await agent.set([lock, *chain(*batch)])
        again = [lock, *chain(*packed[0]), *rows[len(packed[0])]]
        return packed, agent.fits(again)

    (packed, another_fits), received, _ = ask(Engine(), pack, USER)
    assert list(chain(*packed)) == rows
    assert len(packed) > 1
    assert not another_fits
    assert max(map(len, received)) <= 1400


def test_a_row_that_no_message_carries_is_refused() -> None:
    large = [VarBind((*ROOT, 1), Value.octets(bytes(1500)))]

    async def pack(agent: Agent) -> None:
        with pytest.raises(TooLarge, match="octets"):
            agent.batches([[row(1)], large])
        with pytest.raises(TooLarge, match="70 varbinds, 63 fit"):
            agent.batches([[row(column) for column in range(70)]], head=[row(1)], max_varbinds=64)

    _, received, _ = ask(Engine(), pack, USER)
    assert received == []


def test_pauses_double_and_take_the_whole_time() -> None:
    found = list(pauses(3.1, 5))
    assert found == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6])


def test_a_cancelled_request_leaves_nothing_behind() -> None:
    async def cancel(agent: Agent) -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await agent.get([row(1).oid])
        return len(asyncio.all_tasks())

    tasks, received, _ = ask(lambda datagram: [], cancel)
    assert tasks == 1
    assert len(received) == 1
