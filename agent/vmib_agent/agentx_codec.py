"""Octets of AgentX PDUs (RFC 2741 sections 5 and 6), in both byte orders.

Decoding is strict about what has a meaning: versions, types, lengths, ranges of numbers, nothing
after the end. Reserved octets, padding and flags that have no meaning are not looked at. Work is
bounded by the octets that are there, and these by `MAX_PAYLOAD`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from vmib.errors import ValueRefused
from vmib.smi import Oid
from vmib.snmp.ber import DecodeError

from .agentx import (
    AddAgentCaps,
    Body,
    CleanupSet,
    Close,
    CommitSet,
    Get,
    GetBulk,
    GetNext,
    Header,
    IndexAllocate,
    IndexDeallocate,
    Notify,
    Open,
    Pdu,
    PduType,
    Ping,
    Register,
    RemoveAgentCaps,
    Response,
    TestSet,
    UndoSet,
    Unregister,
)
from .agentx_fields import HEADER_OCTETS, LITTLE, NETWORK, Reader, Writer

VERSION = 1
MAX_PAYLOAD = 1 << 19
"""The most octets after a header; an SNMP message of 65507 octets needs less."""

INSTANCE_REGISTRATION = 0x01
NEW_INDEX = 0x02
ANY_INDEX = 0x04
NON_DEFAULT_CONTEXT = 0x08
NETWORK_BYTE_ORDER = 0x10


def decode_header(octets: bytes) -> Header:
    """The header at the start of at least 20 octets; raises `DecodeError`.

    What follows it is not looked at, so that a PDU which is wrong inside can be answered.
    """
    if len(octets) < HEADER_OCTETS:
        raise DecodeError("ends inside the header", len(octets))
    order = NETWORK if octets[2] & NETWORK_BYTE_ORDER else LITTLE
    version, kind, flags, _, session, transaction, packet, length = order.header.unpack_from(octets)
    if version != VERSION:
        raise DecodeError(f"AgentX version {version} where {VERSION} belongs", 0)
    if length > MAX_PAYLOAD or length % 4:
        allowed = f"a multiple of 4, at most {MAX_PAYLOAD}"
        raise DecodeError(f"a payload of {length} octets; allowed: {allowed}", 16)
    return Header(kind, flags, session, transaction, packet, length)


def decode(octets: bytes) -> Pdu:
    """The PDU that these octets are, all of them; raises `DecodeError`."""
    kind, flags, session, transaction, packet, length = decode_header(octets)
    if len(octets) != HEADER_OCTETS + length:
        there = len(octets) - HEADER_OCTETS
        raise DecodeError(f"a payload of {there} octets where {length} belong", 16)
    if kind not in _READERS:
        raise DecodeError(f"no PDU has type {kind}", 1)
    order = NETWORK if flags & NETWORK_BYTE_ORDER else LITTLE
    reader = Reader(octets, order)
    context = None
    if flags & NON_DEFAULT_CONTEXT:
        if kind in _WITHOUT_CONTEXT:
            raise DecodeError(f"a {PduType(kind).name} has no context", 2)
        context = reader.text()
    body = _READERS[kind](reader, flags)
    if reader.at != reader.end:
        raise DecodeError(f"{reader.end - reader.at} octets after the end", reader.at)
    return Pdu(body, session, transaction, packet, context, order is NETWORK)


def encode(pdu: Pdu) -> bytes:
    """The octets of a PDU; raises `ValueRefused` for what AgentX cannot carry."""
    order = NETWORK if pdu.network_order else LITTLE
    kind, write = _WRITERS[type(pdu.body)]
    writer = Writer(order)
    flags = NETWORK_BYTE_ORDER if pdu.network_order else 0
    if pdu.context is not None:
        if kind in _WITHOUT_CONTEXT:
            raise ValueRefused("context", pdu.context, f"none in a {kind.name}")
        flags |= NON_DEFAULT_CONTEXT
        writer.text(pdu.context)
    try:
        flags |= write(writer, pdu.body)
        payload = b"".join(writer.parts)
        if len(payload) > MAX_PAYLOAD:
            raise ValueRefused(kind.name, f"{len(payload)} octets", f"at most {MAX_PAYLOAD}")
        numbers = (pdu.session_id, pdu.transaction_id, pdu.packet_id, len(payload))
        return order.header.pack(VERSION, kind, flags, 0, *numbers) + payload
    except struct.error:
        raise ValueRefused(kind.name, pdu, "numbers that fit into their fields") from None


def _write_open(writer: Writer, body: Open) -> int:
    writer.octets(body.timeout, 0, 0, 0)
    writer.oid(body.id)
    writer.text(body.description)
    return 0


def _read_open(reader: Reader, _: int) -> Body:
    timeout = reader.octets[reader.take(4)]
    return Open(timeout, reader.oid()[0], reader.text())


def _write_close(writer: Writer, body: Close) -> int:
    writer.octets(body.reason, 0, 0, 0)
    return 0


def _read_close(reader: Reader, _: int) -> Body:
    return Close(reader.octets[reader.take(4)])


def _write_registration(writer: Writer, timeout: int, body: Register | Unregister) -> None:
    if body.range_subid > len(body.subtree):
        raise ValueRefused("range_subid", body.range_subid, f"0 to {len(body.subtree)}")
    writer.octets(timeout, body.priority, body.range_subid, 0)
    writer.oid(body.subtree)
    if body.range_subid:
        writer.number(writer.order.u32, body.upper_bound)


def _read_registration(reader: Reader) -> tuple[int, int, int, Oid, int]:
    at = reader.take(4)
    timeout, priority, range_subid = reader.octets[at : at + 3]
    subtree = reader.oid()[0]
    if range_subid > len(subtree):
        raise DecodeError(f"sub-identifier {range_subid} of {len(subtree)}", at + 2)
    bound = reader.number(reader.order.u32) if range_subid else 0
    return timeout, priority, range_subid, subtree, bound


def _write_register(writer: Writer, body: Register) -> int:
    _write_registration(writer, body.timeout, body)
    return INSTANCE_REGISTRATION if body.is_instance else 0


def _read_register(reader: Reader, flags: int) -> Body:
    timeout, priority, range_subid, subtree, bound = _read_registration(reader)
    is_instance = bool(flags & INSTANCE_REGISTRATION)
    return Register(subtree, timeout, priority, range_subid, bound, is_instance)


def _write_unregister(writer: Writer, body: Unregister) -> int:
    _write_registration(writer, 0, body)
    return 0


def _read_unregister(reader: Reader, _: int) -> Body:
    _, priority, range_subid, subtree, bound = _read_registration(reader)
    return Unregister(subtree, priority, range_subid, bound)


def _write_ranges(writer: Writer, body: Get | GetNext) -> int:
    writer.ranges(body.ranges)
    return 0


def _write_bulk(writer: Writer, body: GetBulk) -> int:
    writer.number(writer.order.two_u16, body.non_repeaters, body.max_repetitions)
    writer.ranges(body.ranges)
    return 0


def _read_bulk(reader: Reader, _: int) -> Body:
    numbers = reader.number(reader.order.u16), reader.number(reader.order.u16)
    return GetBulk(*numbers, reader.ranges())


def _write_varbinds(writer: Writer, body: TestSet | Notify | IndexDeallocate) -> int:
    writer.varbinds(body.varbinds)
    return 0


def _write_allocate(writer: Writer, body: IndexAllocate) -> int:
    writer.varbinds(body.varbinds)
    return (ANY_INDEX if body.is_any else 0) | (NEW_INDEX if body.is_new else 0)


def _read_allocate(reader: Reader, flags: int) -> Body:
    return IndexAllocate(reader.varbinds(), bool(flags & ANY_INDEX), bool(flags & NEW_INDEX))


def _write_caps(writer: Writer, body: AddAgentCaps) -> int:
    writer.oid(body.id)
    writer.text(body.description)
    return 0


def _write_no_caps(writer: Writer, body: RemoveAgentCaps) -> int:
    writer.oid(body.id)
    return 0


def _write_response(writer: Writer, body: Response) -> int:
    writer.number(writer.order.u32, body.sys_up_time)
    writer.number(writer.order.two_u16, body.error, body.index)
    writer.varbinds(body.varbinds)
    return 0


def _read_response(reader: Reader, _: int) -> Body:
    uptime = reader.number(reader.order.u32)
    numbers = reader.number(reader.order.u16), reader.number(reader.order.u16)
    return Response(uptime, *numbers, reader.varbinds())


_Write = Callable[[Writer, Any], int]
_Read = Callable[[Reader, int], Body]

_CODECS: dict[PduType, tuple[type[Body], _Write, _Read]] = {
    PduType.OPEN: (Open, _write_open, _read_open),
    PduType.CLOSE: (Close, _write_close, _read_close),
    PduType.REGISTER: (Register, _write_register, _read_register),
    PduType.UNREGISTER: (Unregister, _write_unregister, _read_unregister),
    PduType.GET: (Get, _write_ranges, lambda reader, _: Get(reader.ranges())),
    PduType.GET_NEXT: (GetNext, _write_ranges, lambda reader, _: GetNext(reader.ranges())),
    PduType.GET_BULK: (GetBulk, _write_bulk, _read_bulk),
    PduType.TEST_SET: (TestSet, _write_varbinds, lambda reader, _: TestSet(reader.varbinds())),
    PduType.COMMIT_SET: (CommitSet, lambda _, __: 0, lambda _, __: CommitSet()),
    PduType.UNDO_SET: (UndoSet, lambda _, __: 0, lambda _, __: UndoSet()),
    PduType.CLEANUP_SET: (CleanupSet, lambda _, __: 0, lambda _, __: CleanupSet()),
    PduType.NOTIFY: (Notify, _write_varbinds, lambda reader, _: Notify(reader.varbinds())),
    PduType.PING: (Ping, lambda _, __: 0, lambda _, __: Ping()),
    PduType.INDEX_ALLOCATE: (IndexAllocate, _write_allocate, _read_allocate),
    PduType.INDEX_DEALLOCATE: (
        IndexDeallocate,
        _write_varbinds,
        lambda reader, _: IndexDeallocate(reader.varbinds()),
    ),
    PduType.ADD_AGENT_CAPS: (
        AddAgentCaps,
        _write_caps,
        lambda reader, _: AddAgentCaps(reader.oid()[0], reader.text()),
    ),
    PduType.REMOVE_AGENT_CAPS: (
        RemoveAgentCaps,
        _write_no_caps,
        lambda reader, _: RemoveAgentCaps(reader.oid()[0]),
    ),
    PduType.RESPONSE: (Response, _write_response, _read_response),
}
_READERS: dict[int, _Read] = {kind: read for kind, (_, _, read) in _CODECS.items()}
_WRITERS: dict[type[Body], tuple[PduType, _Write]] = {
    body: (kind, write) for kind, (body, write, _) in _CODECS.items()
}
_WITHOUT_CONTEXT = frozenset(
    {
        PduType.OPEN,
        PduType.CLOSE,
        PduType.COMMIT_SET,
        PduType.UNDO_SET,
        PduType.CLEANUP_SET,
        PduType.RESPONSE,
    }
)
"""The PDUs that belong to no context (section 6.1.1)."""
