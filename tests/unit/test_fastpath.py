"""The short way of answering gives the octets of the long way, whatever is asked and whenever."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib import objects
from vmib.rows import Direction, InetAddressType, RowStatus, TxnAction
from vmib.smi import Oid
from vmib.snmp import ber, usm
from vmib.snmp.ber import Value, VarBind
from vmib.snmp.channel import Channel, outline
from vmib.snmp.message import (
    AUTH,
    PRIV,
    REPORTABLE,
    CommunityMessage,
    Pdu,
    PduType,
    ScopedPdu,
    UsmParameters,
    V3Message,
    decode_message,
    decode_pdu,
    decode_scoped,
    encode_community,
    encode_pdu,
    encode_scoped,
)
from vmib_agent import (
    access,
    cells,
    daemon,
    fastpath,
    identity,
    pages,
    sealing,
    standard,
    standard_vms,
    users,
)
from vmib_agent.config import Communities, Config, Limits
from vmib_agent.frontend import FrontEnd
from vmib_agent.identity import Identity
from vmib_agent.pages import Pages
from vmib_agent.responders import Origin, Responder, request_of
from vmib_agent.sealing import Sealer
from vmib_agent.users import Role, User

from .fake_host import FakeAgent, vb

SOURCE = ("192.0.2.9", 40000)
COMMUNITY = "look"
UUIDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(1, 5)]
MACS = [f"02:00:00:00:00:0{n}" for n in range(1, 7)]
V4, TO, GO = InetAddressType.ipv4, Direction.toVm, RowStatus.createAndGo
MUTATIONS = int(os.environ.get("FUZZED_DATAGRAMS", "6000"))
"""How many mutated datagrams are sent to each version."""

FROZEN = {"clock_gettime": lambda _: 5000.0}

asked = st.sampled_from([PduType.GET, PduType.GET_NEXT])


class Both:
    """One host behind two front ends: `fast` has the short way, `slow` has not."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sealing.secrets, "randbelow", lambda _: 1)
        monkeypatch.setattr(standard_vms, "time", SimpleNamespace(**vars(time) | FROZEN))
        monkeypatch.setattr(cells, "_boot_time", self.uptime)
        self.agent = FakeAgent(directory / "host")
        (directory / "host").mkdir()
        self.agent.hypervisor.start(UUIDS[0], "web", MACS[0], MACS[1])
        self.agent.hypervisor.start(UUIDS[1], "db", MACS[2])
        self.agent.start()
        self.configure()
        self.user: User = users.add_user(directory, "admin", Role.ADMIN, *(2 * ["pass phrase 0"]))
        self.identity: Identity = identity.start(directory)
        self.keys = usm.Keys(usm.SHA256, self.user.auth_key, self.user.priv_key)
        self.fast, self.slow = self._front_end(True), self._front_end(False)
        self.shortened = 0
        respond = fastpath.respond

        def counted(*arguments: Any) -> bytes:
            answer = respond(*arguments)
            self.shortened += 1
            return answer

        monkeypatch.setattr(fastpath, "respond", counted)

    def _front_end(self, fast: bool) -> FrontEnd:
        host = self.agent.host
        return FrontEnd(
            host,
            self.identity,
            [self.user],
            daemon.system_facts(Config(), self.identity),
            Limits(),
            Communities(COMMUNITY, (ip_network("192.0.2.0/24"),)),
            Sealer(self.identity, self.uptime),
            self.uptime,
            host.view if fast else None,
        )

    def uptime(self) -> float:
        return self.agent.now

    def configure(self) -> None:
        """A row in as many tables as there can be."""
        set_ = self.agent.set
        set_(vb("vmibShapeRate", (1, 1, TO), 700), vb("vmibShapeDelay", (2, 1, TO), 100_000))
        set_(
            vb("vmibSwitchName", (1,), "br1"),
            vb("vmibSwitchRowStatus", (1,), GO),
            vb("vmibVifSwitchIndex", (1, 1), 1),
        )
        link = (1, 1, V4, IPv4Address("10.0.0.0"), 24)
        set_(vb("vmibLinkRate", link, 500), vb("vmibLinkRowStatus", link, GO))
        address = (2, 1, V4, IPv4Address("10.0.0.1"))
        set_(vb("vmibAddrPrefixLength", address, 24), vb("vmibAddrRowStatus", address, GO))
        set_(vb("vmibTxnRowStatus", (9,), GO), vb("vmibTxnAction", (9,), TxnAction.abort))

    def answers(self, datagram: bytes) -> bytes | None:
        """What both answer; they have to agree, but for the salts that pysnmp chooses."""
        fast, slow = self.fast.handle(datagram, SOURCE), self.slow.handle(datagram, SOURCE)
        if fast != slow:
            assert fast is not None
            assert slow is not None
            assert self.opened(fast) == self.opened(slow)
        return fast

    def ask(self, kind: PduType, oids: Sequence[Oid], numbers: tuple[int, int] = (0, 0)) -> Pdu:
        """The answer to a request, the same by both versions and both ways."""
        varbinds = tuple(VarBind(oid, Value.null()) for oid in oids)
        pdu = Pdu(kind, 77, varbinds, *numbers)
        by_community = self.answers(v2c(pdu))
        assert by_community is not None
        message = decode_message(by_community)
        assert isinstance(message, CommunityMessage)
        assert self.answers(self.v3(pdu)) is not None
        return message.pdu

    def v3(self, pdu: Pdu, max_size: int = 65507) -> bytes:
        return self.sealed(encode_scoped(ScopedPdu(self.identity.engine_id, b"", pdu)), max_size)

    def sealed(self, scoped: bytes, max_size: int = 65507) -> bytes:
        own, flags = self.identity, AUTH | PRIV | REPORTABLE
        parameters = UsmParameters(
            own.engine_id, own.boots, int(self.agent.now), b"admin", b"", b""
        )
        message = V3Message(1, max_size, flags, parameters, scoped)
        return usm.seal(message, self.keys, bytes(8))

    def signed(self, datagram: bytes) -> bytes:
        """A datagram whose digest is right, if it has one where the unchanged message had it."""
        at = datagram.find(b"\x04\x18") + 2
        zeroed = datagram[:at] + bytes(24) + datagram[at + 24 :]
        return datagram[:at] + self.keys.digest(zeroed) + datagram[at + 24 :]

    def opened(self, datagram: bytes) -> Pdu:
        message = decode_message(datagram)
        assert isinstance(message, V3Message)
        return decode_scoped(usm.open_data(message, self.keys)).pdu

    def walk(self) -> list[Oid]:
        """All instances."""
        found: list[Oid] = []
        oid: Oid = (0, 0)
        while True:
            (varbind,) = self.ask(PduType.GET_NEXT, [oid]).varbinds
            if varbind.value.tag == ber.END_OF_MIB_VIEW:
                return found
            found.append(varbind.oid)
            oid = varbind.oid


def v2c(pdu: Pdu) -> bytes:
    return encode_community(CommunityMessage(COMMUNITY.encode(), pdu))


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Both:
    return Both(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both, for tests that change nothing."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield Both(tmp_path_factory.mktemp("both"), monkeypatch)


@pytest.fixture(scope="module")
def everything(settled: Both) -> list[Oid]:
    return settled.walk()


def test_every_instance_is_got_and_followed_alike(settled: Both, everything: list[Oid]) -> None:
    before = settled.shortened
    assert len({oid[:-1] for oid in everything}) > 100
    for oid in everything:
        (varbind,) = settled.ask(PduType.GET, [oid]).varbinds
        assert not varbind.value.is_exception
    assert settled.shortened - before == 2 * len(everything)
    for at in range(0, len(everything), 20):
        settled.ask(PduType.GET, everything[at : at + 20])
        settled.ask(PduType.GET_NEXT, everything[at : at + 20])


def oids_near(everything: Sequence[Oid]) -> st.SearchStrategy[Oid]:
    """OIDs around those that exist: shorter, longer, with other sub-identifiers."""
    subid = st.integers(0, 300) | st.integers(0, 2**32 - 1)
    tail = st.lists(subid, max_size=4).map(tuple)

    def near(oid: Oid, keep: int, tail: Oid) -> Oid:
        kept = (*oid[: max(keep, 2)], *tail)
        return kept if len(kept) <= 128 else oid

    return st.builds(near, st.sampled_from(everything), st.integers(2, 40), tail)


@given(data=st.data())
def test_any_oids_are_got_and_followed_alike(
    settled: Both, everything: list[Oid], data: st.DataObject
) -> None:
    oids = data.draw(st.lists(oids_near(everything), min_size=0, max_size=5))
    settled.ask(data.draw(asked), oids)


@given(
    data=st.data(),
    non_repeaters=st.integers(-2, 6) | st.sampled_from([2**31 - 1, -(2**31)]),
    repetitions=st.integers(-2, 60) | st.sampled_from([500, 3000, 2**31 - 1]),
)
def test_any_getbulk_is_answered_alike(
    settled: Both,
    everything: list[Oid],
    data: st.DataObject,
    non_repeaters: int,
    repetitions: int,
) -> None:
    oids = data.draw(st.lists(oids_near(everything), max_size=5))
    settled.ask(PduType.GET_BULK, oids, (non_repeaters, repetitions))


@given(
    data=st.data(),
    kind=st.sampled_from([PduType.GET, PduType.GET_NEXT, PduType.GET_BULK]),
    repetitions=st.integers(0, 40),
    max_size=st.integers(484, 1500),
)
def test_answers_are_cut_or_refused_at_the_same_size(
    settled: Both,
    everything: list[Oid],
    data: st.DataObject,
    kind: PduType,
    repetitions: int,
    max_size: int,
) -> None:
    oids = data.draw(st.lists(st.sampled_from(everything), min_size=1, max_size=30))
    numbers = (0, repetitions) if kind is PduType.GET_BULK else (0, 0)
    varbinds = tuple(VarBind(oid, Value.null()) for oid in oids)
    answer = settled.answers(settled.v3(Pdu(kind, 5, varbinds, *numbers), max_size))
    assert answer is None or len(answer) <= max_size


def test_every_size_of_room_gives_the_same_contents(settled: Both, everything: list[Oid]) -> None:
    host, uptime = settled.agent.host, settled.uptime
    facts = daemon.system_facts(Config(), settled.identity)
    own = standard.standard_objects(facts, uptime, lambda _: 0)
    responder = Responder(standard.Merged(own, host), 100, uptime)
    shelf = Pages(own, host.view, access.READ)
    principal = access.community_principal("v2c")
    unset = [VarBind(oid, Value.null()) for oid in everything]
    for pdu in (
        Pdu(PduType.GET, 1, tuple(unset[:3])),
        Pdu(PduType.GET_NEXT, 1, tuple(unset[40:47])),
        Pdu(PduType.GET_BULK, 1, tuple(unset[100:101]), 0, 30),
        Pdu(PduType.GET_BULK, 1, tuple(unset[90:93]), 1, 20),
    ):
        octets = encode_pdu(pdu)
        request, origin = request_of(pdu), Origin(SOURCE, octets)
        answered = 0
        for room in range(1400):
            expected = responder.respond(request, principal, origin, room)
            try:
                assert fastpath.respond(shelf, octets, 0, len(octets), room) == expected
                answered += 1
            except fastpath.NotPlain:
                continue
        assert answered > 500


Step = Callable[[Both], None]


def _set(*varbinds: Any) -> Step:
    return lambda both: both.agent.set(*varbinds)


def _drift(both: Both) -> None:
    both.agent.kernel.devices["vif01"].tree = both.agent.kernel.devices["vif02"].tree
    both.agent.kernel.changed.add("vif01")
    both.agent.wait()


def _broken(both: Both) -> None:
    both.agent.hypervisor.is_down = True
    both.agent.wait()


STEPS: dict[str, Step] = {
    "a cell": _set(vb("vmibShapeRate", (1, 1, TO), 900)),
    "the spin lock": lambda both: both.agent.set(
        vb("vmibTxnSpinLock", (), both.agent.host.state.spin_lock)
    ),
    "a new row": _set(vb("vmibSwitchName", (2,), "br2"), vb("vmibSwitchRowStatus", (2,), GO)),
    "a row less": _set(vb("vmibSwitchRowStatus", (2,), RowStatus.destroy)),
    "a default again": _set(vb("vmibShapeRate", (1, 1, TO), 0)),
    "a transaction": _set(vb("vmibTxnRowStatus", (10,), GO)),
    "a staged cell": _set(vb("vmibShapeRate", (2, 1, TO), 77)),
    "a commit": _set(vb("vmibTxnAction", (10,), TxnAction.commit)),
    "its confirmation": _set(vb("vmibTxnAction", (10,), TxnAction.confirm)),
    "time": lambda both: both.agent.wait(5),
    "drift": _drift,
    "repair": _set(vb("vmibShapeRate", (1, 1, TO), 901)),
    "a machine more": lambda both: both.agent.hypervisor.start(UUIDS[2], "new", MACS[3]),
    "its discovery": lambda both: both.agent.wait(),
    "its row": _set(vb("vmibShapeLoss", (3, 1, TO), 5)),
    "a machine less": lambda both: both.agent.hypervisor.stop(UUIDS[2]),
    "its absence": lambda both: both.agent.wait(),
    "no hypervisor": _broken,
}


def test_what_changes_is_read_changed_at_once(both: Both) -> None:
    known = both.walk()
    for name, step in STEPS.items():
        step(both)
        before = both.shortened
        for at in range(0, len(known), 25):
            both.ask(PduType.GET, known[at : at + 25])
            both.ask(PduType.GET_BULK, known[at : at + 1], (0, 25))
        assert both.shortened > before, name
        known = both.walk()


def test_a_source_that_fails_is_asked_again_and_told(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = type(both.agent.host.view.source)

    def fails(*_: object) -> None:
        raise RuntimeError("a fault on purpose")

    monkeypatch.setattr(source, "cell", fails)
    answer = both.ask(PduType.GET, [(*objects.vmibShapeRate.oid, 1, 1, 2)])
    assert (answer.error_status, answer.error_index) == (5, 1)


def test_no_more_is_kept_than_is_allowed(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_KEPT", 40)
    known = both.walk()
    shelf = both.fast._pages
    assert shelf is not None
    for _ in range(3):
        both.agent.wait()
        for oid in known[:200]:
            both.ask(PduType.GET, [oid])
        assert shelf._kept.count <= 40 + len(known)


def test_a_view_of_less_hides_the_rest(settled: Both, everything: list[Oid]) -> None:
    host = settled.agent.host
    own = standard.standard_objects(
        daemon.system_facts(Config(), settled.identity), settled.uptime, lambda _: 0
    )
    shelf = Pages(own, host.view, access.Subtrees((access.SYSTEM, objects.vmibShapeTable.oid)))
    shelf.renew()
    roots = (access.SYSTEM, objects.vmibShapeTable.oid)
    visible = [oid for oid in everything if any(oid[: len(r)] == r for r in roots)]
    listed = ber.tlv(ber.SEQUENCE, b"".join(shelf.following(b"\x2b", len(visible))))
    assert [oid for oid, _ in ber.decode_varbinds(listed, 0, len(listed))] == visible
    with pytest.raises(pages.NoPage):
        shelf.following(b"\x2b", len(visible) + 1)


def _mutated(octets: bytes, chooser: random.Random) -> bytes:
    found = bytearray(octets)
    for _ in range(chooser.choice((1, 1, 1, 2, 4))):
        at = chooser.randrange(len(found))
        match chooser.randrange(6):
            case 0:
                found[at] ^= 1 << chooser.randrange(8)
            case 1:
                found[at] = chooser.choice((0, 1, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xFF))
            case 2:
                del found[at]
            case 3:
                found.insert(at, chooser.randrange(256))
            case 4:
                found[at:] = b""
            case 5:
                found[at:at] = found[at : at + chooser.randrange(8)]
        found = found or bytearray(b"0")
    return bytes(found)


def _corpus(everything: Sequence[Oid]) -> list[Pdu]:
    """Requests of every shape, well-formed."""
    chooser = random.Random(1)
    found = []
    for size in (1, 1, 2, 5, 12):
        for kind in (PduType.GET, PduType.GET_NEXT, PduType.GET_BULK):
            varbinds = tuple(
                VarBind(oid, Value.null()) for oid in chooser.sample(list(everything), size)
            )
            numbers = (chooser.randrange(2), 25) if kind is PduType.GET_BULK else (0, 0)
            found.append(Pdu(kind, chooser.randrange(2**31), varbinds, *numbers))
    return found


def test_mutated_datagrams_are_answered_alike_and_soon(
    settled: Both, everything: list[Oid]
) -> None:
    chooser = random.Random(2)
    corpus = [v2c(pdu) for pdu in _corpus(everything)]
    began, answered = time.monotonic(), 0
    for _ in range(MUTATIONS):
        answered += settled.answers(_mutated(chooser.choice(corpus), chooser)) is not None
    assert answered > MUTATIONS / 20
    assert time.monotonic() - began < MUTATIONS * 0.05


def test_mutated_pdus_of_authentic_messages_are_answered_alike(
    settled: Both, everything: list[Oid]
) -> None:
    chooser = random.Random(3)
    own = settled.identity.engine_id
    corpus = [encode_scoped(ScopedPdu(own, b"", pdu)) for pdu in _corpus(everything)]
    for _ in range(MUTATIONS // 4):
        scoped = _mutated(chooser.choice(corpus), chooser)
        settled.answers(settled.sealed(scoped, chooser.choice((484, 1472, 65507))))


def test_a_message_that_pysnmp_would_not_answer_is_not_answered_shortly(
    settled: Both, everything: list[Oid]
) -> None:
    chooser = random.Random(4)
    own = [oid for oid in everything if oid[: len(objects.VMIB_MIB)] == objects.VMIB_MIB]
    corpus = [settled.v3(pdu) for pdu in _corpus(own[:-100])]  # what counts messages is after it
    answered = 0
    for _ in range(MUTATIONS // 4):
        datagram = settled.signed(_mutated(chooser.choice(corpus), chooser))
        before = settled.shortened
        answer = settled.fast.handle(datagram, SOURCE)
        if answer is None or settled.shortened == before:
            continue
        request = settled.opened(datagram)
        if min(request.non_repeaters, request.max_repetitions) < 0:
            continue  # RFC 3416 section 4.2.3 has them count as 0; pysnmp does not decode them
        answered += 1
        reference = settled.slow.engine.receive(Origin(SOURCE, datagram))
        assert reference is not None
        assert settled.opened(reference) == settled.opened(answer)
    assert answered > 10


@pytest.mark.parametrize("protocol", [usm.SHA256, usm.SHA384, usm.SHA512])
@given(
    msg_id=st.integers(0, 2**31 - 1),
    times=st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
    salt=st.binary(min_size=8, max_size=8),
    user=st.binary(max_size=32),
    context=st.binary(max_size=32),
    request_id=st.integers(-(2**31), 2**31 - 1),
    filling=st.binary(max_size=300),
)
def test_a_channel_seals_and_opens_as_usm_does(
    protocol: usm.AuthProtocol,
    msg_id: int,
    times: tuple[int, int],
    salt: bytes,
    user: bytes,
    context: bytes,
    request_id: int,
    filling: bytes,
) -> None:
    keys = usm.Keys(protocol, bytes(protocol.key_size), bytes(range(protocol.key_size)))
    engine_id = b"\x80\0\0\0engine"
    pdu = Pdu(PduType.RESPONSE, request_id, (VarBind((1, 3), Value.octets(filling)),))
    scoped = encode_scoped(ScopedPdu(engine_id, context, pdu))
    parameters = UsmParameters(engine_id, *times, user, b"", b"")
    expected = usm.seal(V3Message(msg_id, 1472, AUTH | PRIV, parameters, scoped), keys, salt)
    channel = Channel(engine_id, user, keys, 1472, AUTH | PRIV, context)
    assert channel.seal(ber.encode_integer(msg_id), *times, salt, encode_pdu(pdu)) == expected
    found = outline(expected)
    assert found.user(expected) == user
    assert found.max_size == 1472
    boots, engine_time, opened, at = channel.open(expected, found)
    assert (boots, engine_time) == times
    assert decode_pdu(opened, at, len(opened)) == pdu
