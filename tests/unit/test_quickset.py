"""The short way for SETs comes to what the long way comes to: the same answers, the same state."""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmib.rows import Direction, InetAddressType, RowStatus, StorageType, TxnAction
from vmib.smi import Tag
from vmib.snmp import ber, usm
from vmib.snmp.message import (
    AUTH,
    PRIV,
    REPORTABLE,
    Pdu,
    PduType,
    ScopedPdu,
    UsmParameters,
    V3Message,
    decode_message,
    decode_scoped,
    encode_scoped,
)
from vmib_agent import daemon, identity, store, users
from vmib_agent.config import Config, Limits
from vmib_agent.frontend import FrontEnd
from vmib_agent.host import Host
from vmib_agent.identity import Identity
from vmib_agent.quickset import Cell
from vmib_agent.sealing import Sealer
from vmib_agent.service import SetRefused, Value, VarBind
from vmib_agent.users import Role, User

from .fake_host import FakeAgent, vb

V4, TO, FROM = InetAddressType.ipv4, Direction.toVm, Direction.fromVm
GO = RowStatus.createAndGo
UUID = "00000000-0000-4000-8000-000000000001"
LINK = (1, 1, V4, IPv4Address("10.0.0.0"), 24)
OTHER_LINK = (1, 1, V4, IPv4Address("10.1.0.0"), 16)


class One:
    """A host behind a front end, with the short way for SETs or without."""

    def __init__(self, directory: Path, who: Identity, known: Sequence[User], quick: bool) -> None:
        directory.mkdir()
        self.agent = FakeAgent(directory)
        self.agent.hypervisor.start(UUID, "web", "02:00:00:00:00:01", "02:00:00:00:00:02")
        self.agent.start()
        self.agent.set(vb("vmibLinkRate", LINK, 500), vb("vmibLinkRowStatus", LINK, GO))
        self.agent.set(vb("vmibShapeRate", (1, 2, TO), 700))
        self.quickly = 0
        self.front_end = FrontEnd(
            self.agent.host,
            who,
            known,
            daemon.system_facts(Config(), who),
            Limits(max_varbinds_per_set=5),
            None,
            Sealer(who, self.uptime),
            self.uptime,
            None,
            self if quick else None,
        )

    def uptime(self) -> float:
        return self.agent.now

    def set_quickly(self, cells: Sequence[Cell], principal: str) -> bool:
        done = self.agent.host.set_quickly(cells, principal)
        self.quickly += done
        return done


class Two:
    """The same twice."""

    def __init__(self, place: Path) -> None:
        self.who, self.known = people()
        self.short = One(place / "short", self.who, self.known, quick=True)
        self.long = One(place / "long", self.who, self.known, quick=False)
        self.number = 0
        self.last: tuple[bytes, tuple[str, int]] | None = None
        self.is_looked_at = True
        """Whether the states are compared after every SET; then each is made."""

    def set(self, varbinds: Sequence[ber.VarBind], user: int, max_size: int = 65507) -> Pdu | None:
        """The answer of both to a SET."""
        self.number += 1
        pdu = Pdu(PduType.SET, self.number, tuple(varbinds))
        return self.answer(self.sealed(pdu, self.known[user], max_size))

    def sealed(self, pdu: Pdu, user: User, max_size: int = 65507) -> bytes:
        own = self.who
        keys = usm.Keys(usm.SHA256, user.auth_key, user.priv_key)
        time = int(self.short.agent.now)
        parameters = UsmParameters(own.engine_id, own.boots, time, user.name.encode(), b"", b"")
        scoped = encode_scoped(ScopedPdu(own.engine_id, b"", pdu))
        message = V3Message(1, max_size, AUTH | PRIV | REPORTABLE, parameters, scoped)
        return usm.seal(message, keys, self.number.to_bytes(8))

    def answer(self, datagram: bytes, port: int = 40000) -> Pdu | None:
        self.last = datagram, ("192.0.2.9", port)
        found = [self._answer(one) for one in (self.short, self.long)]
        assert found[0] == found[1]
        if self.is_looked_at:
            self.agree()
        return found[0]

    def _answer(self, one: One) -> Pdu | None:
        assert self.last is not None
        with one.agent.faults.disk():
            octets = one.front_end.handle(*self.last)
        if octets is None:
            return None
        message = decode_message(octets)
        assert isinstance(message, V3Message)
        user = next(user for user in self.known if user.name.encode() == message.usm.user)
        keys = usm.Keys(usm.SHA256, user.auth_key, user.priv_key)
        usm.verify(message, octets, keys)
        return decode_scoped(usm.open_data(message, keys)).pdu

    def agree(self) -> None:
        """Nothing that was told or can be asked differs."""
        short, long = self.short.agent, self.long.agent
        assert short.host.state == long.host.state
        assert short.kernel.snapshot() == long.kernel.snapshot()
        assert short.on_disk.intent == long.on_disk.intent
        assert short.mode == long.mode

    def wait(self, seconds: int) -> None:
        for one in (self.short, self.long):
            one.agent.wait(seconds)


@contextmanager
def two() -> Iterator[Two]:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patched:
        patched.setattr(secrets, "randbelow", lambda _: 7)
        yield Two(Path(place))


@cache
def people() -> tuple[Identity, Sequence[User]]:
    """An engine and its users, one of each role."""
    with tempfile.TemporaryDirectory() as place:
        known = [
            users.add_user(Path(place), name, role, *(2 * ["pass phrase 0"]))
            for name, role in (("ann", Role.ADMIN), ("bob", Role.SHAPE), ("eve", Role.READ))
        ]
        return identity.start(Path(place)), known


def cell(name: str, key: Sequence[Any], value: Any) -> ber.VarBind:
    oid, (tag, raw) = vb(name, key, value)
    return ber.VarBind(oid, ber.Value(tag, raw))


shape_keys = st.tuples(st.just(1), st.integers(1, 3), st.sampled_from([TO, FROM]))
numbers = st.sampled_from([0, 1, 5, 127, 128, 700, 65536, 2**31, 2**32 - 1])
shape_cells = st.builds(
    lambda name, key, value: cell(f"vmibShape{name}", key, value),
    st.sampled_from(["Rate", "Rate", "Delay", "Jitter", "Burst", "Loss", "LossCorrelation"]),
    shape_keys,
    numbers,
)
link_cells = st.builds(
    lambda name, key, value: cell(f"vmibLink{name}", key, value),
    st.sampled_from(["Rate", "Delay", "Reorder"]),
    st.sampled_from([LINK, LINK, OTHER_LINK]),
    numbers,
)
locks = st.sampled_from([7, 8, 9, 10, 2**31 - 1, -1]).map(
    lambda value: ber.VarBind(cell("vmibTxnSpinLock", (), 7).oid, ber.Value(Tag.INTEGER, value))
)
others = st.sampled_from(
    [
        cell("vmibShapeStorageType", (1, 1, TO), StorageType.volatile),
        cell("vmibShapeDistribution", (1, 1, TO), 2),
        ber.VarBind(cell("vmibShapeDistribution", (1, 1, TO), 2).oid, ber.Value(Tag.INTEGER, 77)),
        ber.VarBind(cell("vmibShapeRate", (1, 1, TO), 2).oid, ber.Value(Tag.INTEGER, 77)),
        ber.VarBind((*cell("vmibShapeRate", (1, 1, TO), 2).oid, 1), ber.Value(0x42, 77)),
        ber.VarBind(cell("vmibShapeRate", (1, 1, TO), 2).oid[:-3], ber.Value(0x42, 77)),
        cell("vmibTxnConfirmTimeout", (1,), 60),
        cell("vmibNotifyMinInterval", (), 5),
        cell("vmibLinkRowStatus", LINK, RowStatus.destroy),
        cell("vmibLinkRowStatus", OTHER_LINK, GO),
        cell("vmibVifMtu", (1, 1), 1400),
    ]
)
transactions = st.builds(
    lambda number, name, value: cell(f"vmibTxn{name}", (number,), value),
    st.integers(1, 2),
    st.sampled_from(["RowStatus"]),
    st.sampled_from([GO, RowStatus.destroy]),
) | st.builds(
    lambda number, action: cell("vmibTxnAction", (number,), action),
    st.integers(1, 2),
    st.sampled_from(TxnAction),
)
pdus = st.one_of(
    st.lists(shape_cells, min_size=1, max_size=3),
    st.lists(shape_cells, min_size=1, max_size=3),
    st.lists(shape_cells | link_cells | locks, min_size=1, max_size=6),
    st.lists(shape_cells | link_cells | locks | others | transactions, min_size=0, max_size=4),
    st.lists(transactions, min_size=1, max_size=1),
)
someone = st.sampled_from([0, 0, 0, 0, 1, 2])
steps = st.one_of(
    st.tuples(st.just("set"), pdus, someone),
    st.tuples(st.just("set"), pdus, someone),
    st.tuples(st.just("set"), pdus, someone),
    st.tuples(st.just("again"), st.booleans(), st.just(0)),
    st.tuples(st.just("wait"), st.sampled_from([1, 20, 301]), st.just(0)),
    st.tuples(st.just("look"), st.booleans(), st.just(0)),
)


@settings(max_examples=40)
@given(st.booleans(), st.lists(steps, max_size=25))
def test_both_ways_come_to_the_same(is_open: bool, taken: list[tuple[str, Any, int]]) -> None:
    logging.getLogger("vmib_agent").setLevel(logging.CRITICAL)
    with two() as both:
        if is_open:
            both.set([cell("vmibTxnRowStatus", (1,), GO)], 0)
        for kind, what, user in taken:
            if kind == "set":
                both.set(what, user)
            elif kind == "wait":
                both.wait(what)
            elif kind == "look":
                both.agree()
                both.is_looked_at = what
            elif both.last is not None:
                both.answer(both.last[0], 40000 + what)
        both.agree()


def outcome(
    host: Host, varbinds: Sequence[ber.VarBind], in_phases: bool, undone: bool
) -> tuple[str, int]:
    """What becomes of a SET by an AgentX master, in its phases or at once."""
    asked = [VarBind(oid, Value(tag, raw)) for oid, (tag, raw) in varbinds if raw is not None]
    try:
        if in_phases:
            prepared = host.prepare(asked, "agentx")
            prepared.commit()
            if undone:
                prepared.undo()
            prepared.release()
        elif not undone:
            host.set(asked, "agentx")
    except SetRefused as refused:
        return refused.status.name, refused.index
    return "noError", 0


@settings(max_examples=40)
@given(st.booleans(), st.lists(st.tuples(pdus, st.sampled_from([False, False, True])), max_size=20))
def test_a_set_in_phases_comes_to_the_same(is_open: bool, taken: list[tuple[Any, bool]]) -> None:
    logging.getLogger("vmib_agent").setLevel(logging.CRITICAL)
    with two() as both:
        hosts = both.short.agent.host, both.long.agent.host
        if is_open:
            begin = [cell("vmibTxnRowStatus", (1,), GO)]
            assert outcome(hosts[0], begin, True, False) == outcome(hosts[1], begin, False, False)
        for varbinds, undone in taken:
            if varbinds:
                found = outcome(hosts[0], varbinds, True, undone)
                assert undone or outcome(hosts[1], varbinds, False, False) == found
                both.agree()


def test_what_is_staged_in_phases_takes_the_short_way(both: Two) -> None:
    host = both.short.agent.host
    outcome(host, [cell("vmibTxnRowStatus", (1,), GO)], True, False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(store, "decide", None)
        staged = [cell("vmibShapeRate", (1, 1, TO), 900), cell("vmibTxnSpinLock", (), 7)]
        assert outcome(host, staged, True, False) == ("noError", 0)
        before = host.state
        assert outcome(host, [cell("vmibShapeRate", (1, 1, TO), 5)], True, True) == ("noError", 0)
    assert before == host.state
    assert host.state.current is not None
    assert host.state.current.changes == 1


@pytest.fixture
def both() -> Iterator[Two]:
    with two() as made:
        yield made


def test_the_lock_and_what_is_staged_go_the_short_way(both: Two) -> None:
    lock = cell("vmibTxnSpinLock", (), 7)
    assert both.set([lock], 0) == Pdu(PduType.RESPONSE, 1, (lock,))
    assert both.short.quickly == 1
    both.set([cell("vmibTxnRowStatus", (1,), GO)], 0)
    rate = cell("vmibShapeRate", (1, 1, TO), 900)
    assert both.set([rate, cell("vmibLinkDelay", LINK, 5)], 0) is not None
    assert both.short.quickly == 2
    state = both.short.agent.host.state
    assert state.current is not None
    assert state.current.candidate is not None
    assert state.current.candidate["vmibShapeTable"][1, 1, TO].rate == 900
    assert state.current.changes == 2
    answer = both.set([cell("vmibTxnAction", (1,), TxnAction.commit)], 0)
    assert answer is not None
    assert answer.error_status == 0
    assert both.short.agent.host.state.intent["vmibShapeTable"][1, 1, TO].rate == 900


def test_what_is_staged_stays_when_another_takes_the_lock(both: Two) -> None:
    both.set([cell("vmibTxnRowStatus", (1,), GO)], 0)
    both.is_looked_at = False
    for rate in (900, 700, 901):
        both.set([cell("vmibShapeRate", (1, 1, TO), rate)], 0)
    both.set([cell("vmibShapeDelay", (1, 1, TO), 9), cell("vmibLinkRate", LINK, 9)], 0)
    both.set([cell("vmibTxnSpinLock", (), 7)], 1)
    assert both.short.quickly == 5
    both.agree()
    current = both.short.agent.host.state.current
    assert current is not None
    assert current.changes == 2


def test_a_machine_that_goes_takes_its_interfaces_with_it(both: Two) -> None:
    both.set([cell("vmibTxnRowStatus", (1,), GO)], 0)
    both.is_looked_at = False
    both.set([cell("vmibShapeRate", (1, 1, TO), 900)], 0)
    for one in (both.short, both.long):
        one.agent.hypervisor.stop(UUID)
        one.agent.wait(1)
    answer = both.set([cell("vmibShapeRate", (1, 2, FROM), 900)], 0)
    assert answer is not None
    assert answer.error_status != 0
    both.agree()


def test_a_copy_and_a_retransmission_change_nothing_more(both: Two) -> None:
    datagram = both.sealed(Pdu(PduType.SET, 5, (cell("vmibTxnSpinLock", (), 7),)), both.known[0])
    for _ in range(3):
        answer = both.answer(datagram)
        assert answer is not None
        assert answer.error_status == 0
    assert both.short.agent.host.state.spin_lock == 8
    both.number += 1
    again = both.sealed(Pdu(PduType.SET, 5, (cell("vmibTxnSpinLock", (), 7),)), both.known[0])
    assert again != datagram
    assert both.answer(again) == Pdu(PduType.RESPONSE, 5, (cell("vmibTxnSpinLock", (), 7),))
    assert both.short.agent.host.state.spin_lock == 8
    assert both.short.quickly == 1


def test_nobody_stages_in_the_transaction_of_another(both: Two) -> None:
    both.set([cell("vmibTxnRowStatus", (1,), GO)], 0)
    answer = both.set([cell("vmibShapeRate", (1, 1, TO), 900)], 1)
    assert answer is not None
    assert (answer.error_status, answer.error_index) == (12, 1)
    answer = both.set([cell("vmibShapeRate", (1, 1, TO), 900)], 2)
    assert answer is not None
    assert (answer.error_status, answer.error_index) == (6, 1)
    assert both.short.quickly == 0


@pytest.mark.parametrize("max_size", [484, 600])
def test_an_answer_that_does_not_fit_is_refused_both_ways(both: Two, max_size: int) -> None:
    both.set([cell("vmibTxnRowStatus", (1,), GO)], 0)
    shapes = [cell("vmibShapeRate", (1, n, way), 9) for n in (1, 2) for way in (TO, FROM)]
    cells = [cell("vmibLinkRate", LINK, 9), *shapes]
    assert both.set(cells, 0, max_size) is not None
