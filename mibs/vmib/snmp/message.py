"""SNMPv2c and SNMPv3 messages and their PDUs (RFC 3416, RFC 3412 section 6, RFC 3414 section 2.4).

A v3 message is read in two steps, because its data may be encrypted: `decode_message` gives the
header and the octets of the ScopedPDU, `decode_scoped` reads those once `vmib.snmp.usm` has
checked and decrypted them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from vmib.status import ErrorStatus

from .ber import (
    OCTET_STRING,
    SEQUENCE,
    DecodeError,
    VarBind,
    at_end,
    decode_integer,
    decode_octets,
    decode_varbinds,
    encode_integer,
    encode_varbinds,
    expect,
    header,
    tlv,
)

__all__ = [
    "AUTH",
    "MAX_DATAGRAM",
    "MAX_INT",
    "PRIV",
    "REPORTABLE",
    "CommunityMessage",
    "ErrorStatus",
    "Pdu",
    "PduType",
    "ScopedPdu",
    "UsmParameters",
    "V3Message",
    "decode_message",
    "decode_scoped",
    "encode_community",
    "encode_scoped",
    "encode_v3",
]

V2C = 1
V3 = 3
USM = 3
AUTH = 0x01
PRIV = 0x02
REPORTABLE = 0x04
MAX_INT = (1 << 31) - 1
MAX_DATAGRAM = 65507
MIN_MESSAGE = 484


class PduType(IntEnum):
    """The tag of each PDU of RFC 3416."""

    GET = 0xA0
    GET_NEXT = 0xA1
    RESPONSE = 0xA2
    SET = 0xA3
    GET_BULK = 0xA5
    INFORM = 0xA6
    TRAP = 0xA7
    REPORT = 0xA8


@dataclass(frozen=True, slots=True)
class Pdu:
    """A PDU; in a GetBulk the two error fields are non-repeaters and max-repetitions.

    `error_status` stays a number, since peers may send any; `ErrorStatus` names those of the RFC.
    """

    type: PduType
    request_id: int
    varbinds: tuple[VarBind, ...] = ()
    error_status: int = 0
    error_index: int = 0

    @property
    def non_repeaters(self) -> int:
        return self.error_status

    @property
    def max_repetitions(self) -> int:
        return self.error_index


@dataclass(frozen=True, slots=True)
class CommunityMessage:
    """An SNMPv2c message."""

    community: bytes = field(repr=False)
    pdu: Pdu


@dataclass(frozen=True, slots=True)
class ScopedPdu:
    """A PDU and the context that it is about."""

    engine_id: bytes
    context: bytes
    pdu: Pdu


@dataclass(frozen=True, slots=True)
class UsmParameters:
    """UsmSecurityParameters; boots and time are those of the authoritative engine."""

    engine_id: bytes
    boots: int
    time: int
    user: bytes
    auth: bytes
    priv: bytes


@dataclass(frozen=True, slots=True)
class V3Message:
    """An SNMPv3 message whose data are the octets of a ScopedPDU, or what they encrypt to.

    `auth_at` is where the authentication parameters start in the datagram.
    """

    msg_id: int
    max_size: int
    flags: int
    usm: UsmParameters
    data: bytes
    auth_at: int = field(default=0, compare=False)


_PDU_TYPES = {int(kind): kind for kind in PduType}


def encode_pdu(pdu: Pdu) -> bytes:
    """A PDU with its tag; raises ValueRefused for a value outside its range."""
    return tlv(
        pdu.type,
        encode_integer(pdu.request_id)
        + encode_integer(pdu.error_status)
        + encode_integer(pdu.error_index)
        + encode_varbinds(pdu.varbinds),
    )


def decode_pdu(data: bytes, at: int, end: int) -> Pdu:
    """The PDU at `at`, which must stop at `end`."""
    tag, start, stop = header(data, at, end)
    kind = _PDU_TYPES.get(tag)
    if kind is None:
        raise DecodeError(f"no PDU has tag 0x{tag:02x}", at)
    at_end(stop, end)
    request_id, start = decode_integer(data, start, stop)
    error_status, start = decode_integer(data, start, stop)
    error_index, start = decode_integer(data, start, stop)
    return Pdu(kind, request_id, decode_varbinds(data, start, stop), error_status, error_index)


def encode_scoped(scoped: ScopedPdu) -> bytes:
    """The octets of a ScopedPDU, ready for encryption or for `V3Message.data`."""
    return tlv(
        SEQUENCE,
        tlv(OCTET_STRING, scoped.engine_id)
        + tlv(OCTET_STRING, scoped.context)
        + encode_pdu(scoped.pdu),
    )


def decode_scoped(data: bytes) -> ScopedPdu:
    """The ScopedPDU that fills `data`; raises DecodeError."""
    end = len(data)
    at, stop = expect(data, 0, end, SEQUENCE)
    at_end(stop, end)
    engine_id, at = _sized_octets(data, at, end, 0, 32)
    context, at = _sized_octets(data, at, end, 0, 32)
    return ScopedPdu(engine_id, context, decode_pdu(data, at, end))


def encode_community(message: CommunityMessage) -> bytes:
    """The datagram of an SNMPv2c message."""
    return tlv(
        SEQUENCE,
        encode_integer(V2C) + tlv(OCTET_STRING, message.community) + encode_pdu(message.pdu),
    )


def encode_v3(message: V3Message) -> tuple[bytes, int]:
    """The datagram of an SNMPv3 message, and where its authentication parameters start."""
    usm = message.usm
    priv = tlv(OCTET_STRING, usm.priv)
    data = tlv(OCTET_STRING, message.data) if message.flags & PRIV else message.data
    head = tlv(
        SEQUENCE,
        encode_integer(message.msg_id)
        + encode_integer(message.max_size)
        + bytes((OCTET_STRING, 1, message.flags))
        + encode_integer(USM),
    )
    security = tlv(
        SEQUENCE,
        tlv(OCTET_STRING, usm.engine_id)
        + encode_integer(usm.boots)
        + encode_integer(usm.time)
        + tlv(OCTET_STRING, usm.user)
        + tlv(OCTET_STRING, usm.auth)
        + priv,
    )
    datagram = tlv(SEQUENCE, encode_integer(V3) + head + tlv(OCTET_STRING, security) + data)
    return datagram, len(datagram) - len(data) - len(priv) - len(usm.auth)


def decode_message(data: bytes) -> CommunityMessage | V3Message:
    """The message that fills the datagram `data`; raises DecodeError, also for SNMPv1."""
    end = len(data)
    at, stop = expect(data, 0, end, SEQUENCE)
    at_end(stop, end)
    version, at = decode_integer(data, at, end)
    if version == V3:
        return _decode_v3(data, at, end)
    if version == V2C:
        community, at = decode_octets(data, at, end)
        return CommunityMessage(community, decode_pdu(data, at, end))
    raise DecodeError(f"SNMP version field {version}; 1 (v2c) and 3 are spoken here", at - 1)


def _decode_v3(data: bytes, at: int, end: int) -> V3Message:
    start, at = expect(data, at, end, SEQUENCE)
    msg_id, start = _ranged_integer(data, start, at, 0)
    max_size, start = _ranged_integer(data, start, at, MIN_MESSAGE)
    octets, start = _sized_octets(data, start, at, 1, 1)
    flags = octets[0] & (AUTH | PRIV | REPORTABLE)
    if flags & PRIV and not flags & AUTH:
        raise DecodeError("privacy without authentication", start - 1)
    model, start = decode_integer(data, start, at)
    if model != USM:
        raise DecodeError(f"security model {model}; only 3 (USM) is spoken here", start - 1)
    at_end(start, at)
    start, at = expect(data, at, end, OCTET_STRING)
    usm, auth_at = _decode_usm(data, start, at)
    if flags & PRIV:
        body, stop = decode_octets(data, at, end)
    else:
        _, stop = expect(data, at, end, SEQUENCE)
        body = data[at:stop]
    at_end(stop, end)
    return V3Message(msg_id, max_size, flags, usm, body, auth_at)


def _decode_usm(data: bytes, at: int, end: int) -> tuple[UsmParameters, int]:
    at, stop = expect(data, at, end, SEQUENCE)
    at_end(stop, end)
    engine_id, at = _sized_octets(data, at, end, 0, 32)
    boots, at = _ranged_integer(data, at, end, 0)
    time, at = _ranged_integer(data, at, end, 0)
    user, at = _sized_octets(data, at, end, 0, 32)
    auth, at = decode_octets(data, at, end)
    auth_at = at - len(auth)
    priv, at = decode_octets(data, at, end)
    at_end(at, end)
    return UsmParameters(engine_id, boots, time, user, auth, priv), auth_at


def _sized_octets(data: bytes, at: int, end: int, low: int, high: int) -> tuple[bytes, int]:
    octets, stop = decode_octets(data, at, end)
    if not low <= len(octets) <= high:
        raise DecodeError(f"{len(octets)} octets; {low} to {high} are allowed", at)
    return octets, stop


def _ranged_integer(data: bytes, at: int, end: int, low: int) -> tuple[int, int]:
    value, stop = decode_integer(data, at, end)
    if value < low:
        raise DecodeError(f"{value} where at least {low} is required", at)
    return value, stop
