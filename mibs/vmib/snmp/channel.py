"""SNMPv3 messages with authentication and privacy between engines that know each other.

The common case, from octets to octets and without the objects of `vmib.snmp.message`, at a third
of the cost. `NotPlain` is raised for every message that is not as plain as most are, be it wrong
or merely rare; such a message is for `decode_message` and `vmib.snmp.usm` to judge.
"""

from __future__ import annotations

from hmac import compare_digest
from typing import NamedTuple

from .ber import (
    INTEGER,
    OCTET_STRING,
    SEQUENCE,
    DecodeError,
    decode_integer,
    encode_integer,
    head,
    tlv,
)
from .message import AUTH, MIN_MESSAGE, PRIV, REPORTABLE
from .usm import DecryptionError, Keys

_VERSION_AND_HEADER = bytes((INTEGER, 1, 3, SEQUENCE))
_AUTH_PRIV = {
    bytes((OCTET_STRING, 1, flags, INTEGER, 1, 3)): flags
    for flags in (AUTH | PRIV, AUTH | PRIV | REPORTABLE)
}
"""msgFlags and msgSecurityModel (USM) as they are encoded."""
_ENCODED = {flags: octets for octets, flags in _AUTH_PRIV.items()}
_SALT_OCTETS = 8
_SALT = bytes((OCTET_STRING, _SALT_OCTETS))


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


def integer_end(data: bytes, at: int) -> int:
    """Where the Integer32 at `at` stops. Raises `NotPlain`, or IndexError where there is none."""
    size, first = data[at + 1], data[at + 2]
    if data[at] != INTEGER or not 1 <= size <= 4:
        raise NotPlain
    if size > 1 and first in (0x00, 0xFF) and (first ^ data[at + 3]) < 0x80:
        raise NotPlain
    return at + 2 + size


class Outline(NamedTuple):
    """What of a message can be read without keys: msgID (an encoded integer), the largest message
    that its sender takes, where the security parameters start and stop, and where the data start,
    which take the rest."""

    msg_id: bytes
    max_size: int
    security: int
    security_end: int
    body: int

    def user(self, data: bytes) -> bytes:
        """The user's name, which only a key can confirm; raises `NotPlain`."""
        try:
            boots = self.security + 2 + data[self.security + 1]
            time = boots + 2 + data[boots + 1]
            user = time + 2 + data[time + 1]
            return data[user + 2 : user + 2 + data[user + 1]]
        except IndexError:
            raise NotPlain from None


def outline(data: bytes) -> Outline:
    """The outline of a message that is authenticated and encrypted; raises `NotPlain`."""
    try:
        end = len(data)
        at = inside(data, 0, end, SEQUENCE)
        start = at + 5
        stop = start + data[at + 4]
        identified = integer_end(data, start)
        sized = integer_end(data, identified)
        max_size = int.from_bytes(data[identified + 2 : sized])
        if data[at : at + 4] != _VERSION_AND_HEADER or data[sized:stop] not in _AUTH_PRIV:
            raise NotPlain
        if data[start + 2] >= 0x80 or data[identified + 2] >= 0x80 or max_size < MIN_MESSAGE:
            raise NotPlain
        security, size = stop + 2, data[stop + 1]
        if size == 0x81:
            security, size = stop + 3, data[stop + 2]
        elif size >= 0x80:
            raise NotPlain
        if data[stop] != OCTET_STRING:
            raise NotPlain
        parameters_end = security + size
        return Outline(
            data[start:identified],
            max_size,
            inside(data, security, parameters_end, SEQUENCE),
            parameters_end,
            inside(data, parameters_end, end, OCTET_STRING),
        )
    except IndexError:
        raise NotPlain from None


class Channel:
    """Messages in the name of one user, with one engine as the authority, in one context."""

    def __init__(
        self,
        engine_id: bytes,
        user: bytes,
        keys: Keys,
        max_size: int,
        flags: int,
        context: bytes = b"",
    ) -> None:
        """`max_size` and `flags` are for what is sealed."""
        size = keys.protocol.digest_size
        self.engine_id = engine_id
        self._keys = keys
        self._engine = tlv(OCTET_STRING, engine_id)
        self._names = self._engine + tlv(OCTET_STRING, context)
        self._user = tlv(OCTET_STRING, user) + bytes((OCTET_STRING, size))
        self._no_digest = bytes(size)
        self._header = encode_integer(max_size) + _ENCODED[flags]
        self._times = (-1, -1)
        self._parameters = b""
        self._seen = b"\0"
        self._seen_times = (-1, -1)

    def seal(self, msg_id: bytes, boots: int, time: int, salt: bytes, pdu: bytes) -> bytes:
        """The message around an encoded PDU.

        `msg_id` is an encoded integer, boots and time are the authority's, `salt` is 8 octets
        never used before with this key.
        """
        if (boots, time) != self._times:
            self._times = boots, time
            parameters = self._engine + encode_integer(boots) + encode_integer(time) + self._user
            size = len(parameters) + len(self._no_digest) + len(_SALT) + _SALT_OCTETS
            inner = head(SEQUENCE, size) + parameters
            size += len(inner) - len(parameters)
            self._parameters = self._header + head(OCTET_STRING, size) + inner
        data = self._keys.encrypt(boots, time, salt, tlv(SEQUENCE, self._names + pdu))
        after = _SALT + salt + tlv(OCTET_STRING, data)
        header = bytes((len(msg_id) + len(self._header),)) + msg_id
        before = _VERSION_AND_HEADER + header + self._parameters
        before = head(SEQUENCE, len(before) + len(self._no_digest) + len(after)) + before
        return before + self._keys.digest(before + self._no_digest + after) + after

    def open(self, data: bytes, found: Outline) -> tuple[int, int, bytes, int]:
        """The authority's boots and time, the ScopedPDU, and where the PDU in it starts.

        `found` is the outline. Raises `NotPlain` also for what is not authentic.
        """
        try:
            salt = found.security_end - _SALT_OCTETS
            stop = salt - len(_SALT)
            start = stop - len(self._no_digest)
            if data[found.security : start] != self._seen:  # of the last message, a second ago
                self._look(data, found.security, start)
            boots, time = self._seen_times
            if data[stop:salt] != _SALT:
                raise NotPlain
            expected = self._keys.digest(data[:start] + self._no_digest + data[stop:])
            if not compare_digest(expected, data[start:stop]):
                raise NotPlain
            iv = data[salt : found.security_end]
            scoped = self._keys.decrypted(boots, time, iv, data[found.body :])
            pdu = inside(scoped, 0, len(scoped), SEQUENCE)
            if not scoped.startswith(self._names, pdu):
                raise NotPlain
            return boots, time, scoped, pdu + len(self._names)
        except (IndexError, DecodeError, DecryptionError):
            raise NotPlain from None

    def _look(self, data: bytes, at: int, end: int) -> None:
        """Read engine ID, boots, time and user, up to where the digest starts.

        Raises `NotPlain` or `DecodeError`.
        """
        if not data.startswith(self._engine, at):
            raise NotPlain
        boots, stop = decode_integer(data, at + len(self._engine), end)
        time, stop = decode_integer(data, stop, end)
        if data[stop:end] != self._user or boots < 0 or time < 0:
            raise NotPlain
        self._seen, self._seen_times = data[at:end], (boots, time)
