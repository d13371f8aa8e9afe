"""SNMPv3 messages with authentication and privacy between engines that know each other.

The common case, from octets to octets and without the objects of `vmib.snmp.message`, at a third
of the cost. `NotPlain` is raised for every message that is not as plain as most are, be it wrong
or merely rare; the message has to be judged by `decode_message` and `vmib.snmp.usm` then.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import NamedTuple

from . import ber
from .ber import INTEGER, OCTET_STRING, SEQUENCE, DecodeError, decode_integer, expect, tlv
from .message import AUTH, MIN_MESSAGE, PRIV, REPORTABLE
from .usm import DecryptionError, Keys

_VERSION_3 = b"\2\1\3"
_FLAGS = {
    bytes((OCTET_STRING, 1, flags, INTEGER, 1, 3)): flags
    for flags in (AUTH | PRIV, AUTH | PRIV | REPORTABLE)
}
"""msgFlags and msgSecurityModel (USM) as they are encoded."""
_MODEL = {flags: octets for octets, flags in _FLAGS.items()}
_SALT = bytes((OCTET_STRING, 8))


class NotPlain(Exception):
    """A message that is not for the short way."""


def inside(data: bytes, at: int, end: int, tag: int) -> int:
    """Where the contents start of the element at `at`, which has this tag and stops at `end`.

    Raises `NotPlain`, or IndexError where there is no element.
    """
    size, start = data[at + 1], at + 2
    if size >= 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[at + 2 : start])
        if start - at > 4:
            raise NotPlain
    if data[at] != tag or start + size != end:
        raise NotPlain
    return start


def integer_end(data: bytes, at: int, end: int) -> int:
    """Where the Integer32 at `at` stops. Raises `NotPlain`, or `DecodeError`."""
    start, stop = expect(data, at, end, INTEGER)
    size = stop - start
    if not 1 <= size <= 4 or start != at + 2:
        raise NotPlain
    if size > 1 and data[start] in (0x00, 0xFF) and (data[start] ^ data[start + 1]) < 0x80:
        raise NotPlain
    return stop


class Outline(NamedTuple):
    """What of a message can be read without keys: msgID (an encoded integer), the largest message
    that its sender takes, the flags, and where the security parameters and the data are."""

    msg_id: bytes
    max_size: int
    flags: int
    security: int
    security_end: int
    body: int

    def user(self, data: bytes) -> bytes:
        """The user's name, which only a key can confirm; raises `NotPlain`."""
        at = self.security
        try:
            for _ in range(3):  # engine ID, boots, time
                at += 2 + data[at + 1]
            return data[at + 2 : at + 2 + data[at + 1]]
        except IndexError:
            raise NotPlain from None


def outline(data: bytes) -> Outline:
    """The outline of a message that is authenticated and encrypted; raises `NotPlain`."""
    try:
        end = len(data)
        at = inside(data, 0, end, SEQUENCE)
        start, stop = expect(data, at + 3, end, SEQUENCE)
        identified = integer_end(data, start, stop)
        max_size, sized = decode_integer(data, identified, stop)
        flags = _FLAGS.get(data[sized:stop])
        security, body = expect(data, stop, end, OCTET_STRING)
        if data[at : at + 3] != _VERSION_3 or flags is None or max_size < MIN_MESSAGE:
            raise NotPlain
        if data[start + 2] >= 0x80:
            raise NotPlain
        return Outline(
            data[start:identified],
            max_size,
            flags,
            inside(data, security, body, SEQUENCE),
            body,
            inside(data, body, end, OCTET_STRING),
        )
    except (IndexError, DecodeError):
        raise NotPlain from None


class Opened(NamedTuple):
    """The engine's boots and time, the octets of a ScopedPDU, and where its PDU starts."""

    boots: int
    time: int
    scoped: bytes
    pdu: int


class Channel:
    """Messages in the name of one user, with one engine as the authority, in one context."""

    def __init__(self, engine_id: bytes, user: bytes, keys: Keys, context: bytes = b"") -> None:
        self.engine_id = engine_id
        self._keys = keys
        self._engine = tlv(OCTET_STRING, engine_id)
        self._names = self._engine + tlv(OCTET_STRING, context)
        self._digest_size = keys.protocol.digest_size
        self._user = tlv(OCTET_STRING, user) + bytes((OCTET_STRING, self._digest_size))
        self._no_digest = bytes(self._digest_size)
        self._clock = (-1, -1)
        self._at_clock = b""

    def seal(
        self,
        msg_id: bytes,
        max_size: int,
        flags: int,
        clock: tuple[int, int],
        salt: bytes,
        pdu: bytes,
    ) -> bytes:
        """The message around an encoded PDU.

        `msg_id` is an encoded integer, `clock` the authority's boots and time, `salt` 8 octets
        never used before with this key.
        """
        if clock != self._clock:
            times = ber.encode_integer(clock[0]) + ber.encode_integer(clock[1])
            self._clock = clock
            self._at_clock = self._engine + times + self._user + self._no_digest + _SALT
        encrypted = self._keys.encrypt(*clock, salt, tlv(SEQUENCE, self._names + pdu))
        header = tlv(SEQUENCE, msg_id + ber.encode_integer(max_size) + _MODEL[flags])
        security = tlv(OCTET_STRING, tlv(SEQUENCE, self._at_clock + salt))
        body = tlv(OCTET_STRING, encrypted)
        message = tlv(SEQUENCE, _VERSION_3 + header + security + body)
        stop = len(message) - len(body) - len(_SALT) - len(salt)
        digest = self._keys.digest(message)
        return message[: stop - self._digest_size] + digest + message[stop:]

    def open(self, data: bytes, found: Outline) -> Opened:
        """What an authentic message holds; `found` is its outline. Raises `NotPlain`."""
        try:
            at, end = found.security + len(self._engine), found.security_end
            if not data.startswith(self._engine, found.security):
                raise NotPlain
            boots, at = decode_integer(data, at, end)
            time, at = decode_integer(data, at, end)
            start = at + len(self._user)
            stop = start + self._digest_size
            salt = stop + len(_SALT)
            if boots < 0 or time < 0 or salt + 8 != end:
                raise NotPlain
            if data[at:start] != self._user or data[stop:salt] != _SALT:
                raise NotPlain
            expected = self._keys.digest(data[:start] + self._no_digest + data[stop:])
            if not compare_digest(expected, data[start:stop]):
                raise NotPlain
            scoped = self._keys.decrypted(boots, time, data[salt:end], data[found.body :])
            pdu = inside(scoped, 0, len(scoped), SEQUENCE)
            if not scoped.startswith(self._names, pdu):
                raise NotPlain
            return Opened(boots, time, scoped, pdu + len(self._names))
        except (IndexError, DecodeError, DecryptionError):
            raise NotPlain from None
