"""The short way of answering a master gives the octets of the long way, or nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib import objects
from vmib.rows import Direction, InetAddressType, RowStatus
from vmib.smi import Oid
from vmib.snmp.ber import DecodeError
from vmib_agent import cells, standard_vms
from vmib_agent.agentx import Get, GetBulk, GetNext, Pdu, SearchRange
from vmib_agent.agentx_codec import decode, decode_header, encode
from vmib_agent.agentx_quick import Quick
from vmib_agent.agentx_requests import Requests
from vmib_agent.service import VarBind

from .fake_host import FakeAgent, vb

TO, GO = Direction.toVm, RowStatus.createAndGo
UUIDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2)]
LINK = (1, 1, InetAddressType.ipv4, IPv4Address("10.200.0.0"), 24)


class Both:
    """A host whose master is answered both ways."""

    def __init__(self, directory: Path) -> None:
        self.agent = FakeAgent(directory)
        self.agent.hypervisor.start(UUIDS[0], "web", "02:00:00:00:00:01", "02:00:00:00:00:02")
        self.agent.start()
        self.agent.set(vb("vmibShapeRate", (1, 1, TO), 700))
        self.agent.set(vb("vmibLinkRate", LINK, 500), vb("vmibLinkRowStatus", LINK, GO))
        self.requests = Requests(self.agent.host, 100)
        self.quick = Quick(self.agent.host.view)

    def answer(self, octets: bytes) -> bytes | None:
        """What the short way answers; the long way has to agree."""
        header = decode_header(octets)
        found = self.quick.answer(octets, header)
        if found is not None:
            pdu = decode(octets)
            answer = self.requests.answer(pdu)
            assert answer is not None
            ids = pdu.session_id, pdu.transaction_id, pdu.packet_id
            assert found == encode(Pdu(answer, *ids))
        return found

    def walk(self) -> list[Oid]:
        """All instances, each found both ways."""
        found: list[Oid] = []
        after: Oid = objects.VMIB_MIB
        end = (*after[:-1], after[-1] + 1)
        while True:
            octets = encode(Pdu(GetNext((SearchRange(after, end),)), 1, 2, 3))
            answer = self.answer(octets)
            if answer is None:
                assert self.agent.host.get_next(after) is None
                return found
            (varbind,) = decode(answer).body.varbinds  # type: ignore[union-attr]
            assert isinstance(varbind, VarBind)
            found.append(varbind.oid)
            after = varbind.oid


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patched:
        patched.setattr(cells, "_boot_time", lambda: 1000.0)
        frozen = vars(time) | {"clock_gettime": lambda _: 5000.0}
        patched.setattr(standard_vms, "time", SimpleNamespace(**frozen))
        yield Both(Path(place))


@pytest.fixture(scope="module")
def everything(both: Both) -> list[Oid]:
    return both.walk()


def test_every_instance_is_found_and_followed(both: Both, everything: list[Oid]) -> None:
    assert len({oid[:-1] for oid in everything}) > 100
    for oid in everything:
        assert both.answer(encode(Pdu(Get((SearchRange(oid),)), 1, 2, 3))) is not None


subids = st.integers(0, 300) | st.integers(0, 2**32 - 1)
tails = st.lists(subids, max_size=3).map(tuple)


@given(st.data())
def test_any_ranges_are_answered_alike(
    both: Both, everything: list[Oid], data: st.DataObject
) -> None:
    known = st.sampled_from(everything)
    near = st.builds(lambda oid, keep, tail: (*oid[:keep], *tail), known, st.integers(0, 20), tails)
    oids = known | known | near
    ranges = st.builds(SearchRange, oids, st.just(()) | oids, st.sampled_from([False] * 4 + [True]))
    wanted = tuple(data.draw(st.lists(ranges, max_size=4)))
    kind = data.draw(st.sampled_from([Get, GetNext]))
    context = data.draw(st.sampled_from([None, None, None, b"", b"other"]))
    in_order = data.draw(st.sampled_from([True, True, True, False]))
    pdu = Pdu(kind(wanted), 1, 2, 3, context, in_order)
    both.answer(encode(pdu))


@given(st.data())
def test_octets_that_changed_on_the_way_are_answered_alike_or_not_at_all(
    both: Both, everything: list[Oid], data: st.DataObject
) -> None:
    oid = data.draw(st.sampled_from(everything))
    body = data.draw(st.sampled_from([Get, GetNext]))((SearchRange(oid), SearchRange(oid, (1, 4))))
    octets = bytearray(encode(Pdu(body, 1, 2, 3)))
    at = data.draw(st.integers(20, len(octets) - 1))
    octets[at] = data.draw(st.integers(0, 255))
    try:
        both.answer(bytes(octets))
    except DecodeError as error:
        raise AssertionError(f"{bytes(octets).hex()} was answered") from error


def test_what_changes_is_told_changed(both: Both, everything: list[Oid]) -> None:
    for number in range(3):
        both.agent.set(vb("vmibShapeRate", (1, 1, TO), 800 + number))
        both.walk()
        both.agent.wait()
        both.walk()
    both.agent.hypervisor.start(UUIDS[1], "db", "02:00:00:00:00:03")
    both.agent.wait()
    assert len(both.walk()) > len(everything)


def test_other_pdus_are_left_to_the_long_way(both: Both) -> None:
    asked = (SearchRange(objects.VMIB_MIB),)
    assert both.answer(encode(Pdu(GetBulk(0, 5, asked), 1, 2, 3))) is None
