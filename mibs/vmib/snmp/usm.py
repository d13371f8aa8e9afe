"""The User-based Security Model, pure (RFC 3414, RFC 7860, RFC 3826).

HMAC with SHA-256, SHA-384 or SHA-512, and AES-128 in CFB mode. MD5, SHA-1 and DES are refused.
Keys are localised to one engine: `Keys` holds nothing from which a pass phrase or the key of
another engine can be had.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from vmib.errors import ValueRefused, VmibError

from .message import AUTH, MAX_INT, PRIV, UsmParameters, V3Message, encode_v3

if TYPE_CHECKING:
    from hashlib import _Hash

try:
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:  # cryptography before 47 has it among the other modes only
    from cryptography.hazmat.primitives.ciphers.modes import CFB

MIN_PASSPHRASE = 8
"""Octets that RFC 3414 section 11.2 asks for at least."""

TIME_WINDOW = 150
"""Seconds by which an engine's time may differ (RFC 3414 section 2.2.3)."""

_KEYED_OCTETS = 1 << 20
_AES_OCTETS = 16
_IPAD = bytes(octet ^ 0x36 for octet in range(256))
_OPAD = bytes(octet ^ 0x5C for octet in range(256))


class WrongDigest(VmibError):
    """A message whose authentication parameters are not those of its key."""


class DecryptionError(VmibError):
    """A message whose privacy parameters cannot be used."""


@dataclass(frozen=True, slots=True)
class AuthProtocol:
    """An authentication protocol of RFC 7860: a hash, truncated to `digest_size` octets."""

    name: str
    hash_name: str
    digest_size: int
    block_size: int

    @property
    def key_size(self) -> int:
        """Octets of a key, which is the whole digest of the hash."""
        return hashlib.new(self.hash_name).digest_size


SHA256 = AuthProtocol("SHA-256", "sha256", 24, 64)
SHA384 = AuthProtocol("SHA-384", "sha384", 32, 128)
SHA512 = AuthProtocol("SHA-512", "sha512", 48, 128)

AUTH_PROTOCOLS = {protocol.name: protocol for protocol in (SHA256, SHA384, SHA512)}
PRIV_PROTOCOLS = frozenset({"AES-128"})


def auth_protocol(name: str) -> AuthProtocol:
    """The authentication protocol of that name; raises ValueRefused for weak or unknown ones."""
    try:
        return AUTH_PROTOCOLS[name]
    except KeyError:
        raise ValueRefused("auth protocol", name, ", ".join(AUTH_PROTOCOLS)) from None


def require_priv_protocol(name: str) -> None:
    """Raise ValueRefused unless this privacy protocol is spoken here."""
    if name not in PRIV_PROTOCOLS:
        raise ValueRefused("privacy protocol", name, ", ".join(PRIV_PROTOCOLS))


def password_to_key(protocol: AuthProtocol, passphrase: bytes) -> bytes:
    """The key of a pass phrase for no engine in particular (RFC 3414 section A.2.2)."""
    if len(passphrase) < MIN_PASSPHRASE:
        raise ValueRefused("pass phrase", "(not shown)", f"at least {MIN_PASSPHRASE} octets")
    repeated = passphrase * (_KEYED_OCTETS // len(passphrase) + 1)
    return hashlib.new(protocol.hash_name, memoryview(repeated)[:_KEYED_OCTETS]).digest()


def localise(protocol: AuthProtocol, key: bytes, engine_id: bytes) -> bytes:
    """That key for one engine (RFC 3414 section 2.6)."""
    return hashlib.new(protocol.hash_name, key + engine_id + key).digest()


def localised_key(protocol: AuthProtocol, passphrase: bytes, engine_id: bytes) -> bytes:
    """The key of a pass phrase at one engine; about 1 ms, since it hashes one megabyte."""
    return localise(protocol, password_to_key(protocol, passphrase), engine_id)


class _Encryptor:
    """AES in CFB mode with any number of initialisation vectors, on one context.

    A block of plain text that encrypts to the vector brings the context to where one made with it
    would start: 1.2 us for 70 octets, a new context 4.3 us.
    """

    def __init__(self, aes: algorithms.AES, block: Callable[[bytes], bytes]) -> None:
        self._block = block
        self._update = Cipher(aes, CFB(bytes(_AES_OCTETS))).encryptor().update
        self._stream = int.from_bytes(block(bytes(_AES_OCTETS)))
        """What the next block of plain text is combined with."""

    def encrypt(self, iv: bytes, octets: bytes) -> bytes:
        """`octets` encrypted, with a vector of 16 octets."""
        size = len(octets)
        leading = (self._stream ^ int.from_bytes(iv)).to_bytes(_AES_OCTETS)
        encrypted = self._update(leading + octets + bytes(-size % _AES_OCTETS))
        self._stream = int.from_bytes(self._block(encrypted[-_AES_OCTETS:]))
        return encrypted[_AES_OCTETS : _AES_OCTETS + size]


@dataclass(frozen=True, slots=True, eq=False)
class Keys:
    """A user's localised keys at one engine, with the state that every message would rebuild.

    `priv_key` is the localised key made with the authentication protocol's hash (AES uses its
    first 16 octets), or None for a user without privacy.
    """

    protocol: AuthProtocol
    auth_key: bytes = field(repr=False)
    priv_key: bytes | None = field(default=None, repr=False)
    _inner: _Hash = field(init=False, repr=False)
    _outer: _Hash = field(init=False, repr=False)
    _aes_block: Callable[[bytes], bytes] | None = field(init=False, repr=False)
    _encryptor: _Encryptor | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        size = self.protocol.key_size
        for key in (self.auth_key, self.priv_key):
            if key is not None and len(key) != size:
                raise ValueRefused("localised key", f"{len(key)} octets", f"{size} octets")
        padded = self.auth_key.ljust(self.protocol.block_size, b"\0")
        hash_name = self.protocol.hash_name
        aes = None if self.priv_key is None else algorithms.AES(self.priv_key[:_AES_OCTETS])
        block = None if aes is None else Cipher(aes, modes.ECB()).encryptor().update  # noqa: S305
        object.__setattr__(self, "_inner", hashlib.new(hash_name, padded.translate(_IPAD)))
        object.__setattr__(self, "_outer", hashlib.new(hash_name, padded.translate(_OPAD)))
        object.__setattr__(self, "_aes_block", block)
        encryptor = None if aes is None or block is None else _Encryptor(aes, block)
        object.__setattr__(self, "_encryptor", encryptor)

    def digest(self, octets: bytes) -> bytes:
        """The truncated HMAC (RFC 2104, RFC 7860 section 4); padded keys are hashed only once."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(octets)
        outer.update(inner.digest())
        return outer.digest()[: self.protocol.digest_size]

    def encrypt(self, boots: int, time: int, salt: bytes, octets: bytes) -> bytes:
        """AES-128-CFB of `octets`; `salt` is 8 octets never used before with this key."""
        if self._encryptor is None:
            raise DecryptionError("the user has no privacy key")
        return self._encryptor.encrypt(_iv(boots, time, salt), octets)

    def decrypt(self, usm: UsmParameters, octets: bytes) -> bytes:
        """What `octets` were before; raises DecryptionError when the salt is not 8 octets."""
        return self.decrypted(usm.boots, usm.time, usm.priv, octets)

    def decrypted(self, boots: int, time: int, salt: bytes, octets: bytes) -> bytes:
        """The inverse of `encrypt`; raises DecryptionError when the salt is not 8 octets."""
        if self._aes_block is None:
            raise DecryptionError("the user has no privacy key")
        # Each block of CFB's key stream encrypts the block of cipher text before it, so all of it
        # is one ECB call on a context made once: 1.3 us for 300 octets, a new CFB context 3.7 us.
        size = len(octets)
        blocks = -(-size // _AES_OCTETS) * _AES_OCTETS
        stream = self._aes_block((_iv(boots, time, salt) + octets)[:blocks])
        plain = int.from_bytes(stream[:size]) ^ int.from_bytes(octets)
        return plain.to_bytes(size)


def passphrase_keys(
    protocol: AuthProtocol, engine_id: bytes, auth: bytes, priv: bytes | None = None
) -> Keys:
    """The keys at one engine of a user's pass phrases; raises ValueRefused for short ones."""
    auth_key = localised_key(protocol, auth, engine_id)
    if priv is None or priv == auth:
        return Keys(protocol, auth_key, None if priv is None else auth_key)
    return Keys(protocol, auth_key, localised_key(protocol, priv, engine_id))


def seal(message: V3Message, keys: Keys | None, salt: bytes = b"") -> bytes:
    """The datagram of a message whose data are plain, secured as its flags say.

    The authentication and privacy parameters of `message` are replaced. `salt` matters only with
    PRIV: 8 octets never used before with this key.
    """
    if keys is None or not message.flags & AUTH:
        return encode_v3(message)[0]
    usm, data = message.usm, message.data
    if message.flags & PRIV:
        data = keys.encrypt(usm.boots, usm.time, salt, data)
    else:
        salt = b""
    size = keys.protocol.digest_size
    zeroed = UsmParameters(usm.engine_id, usm.boots, usm.time, usm.user, bytes(size), salt)
    sealed = V3Message(message.msg_id, message.max_size, message.flags, zeroed, data)
    datagram, at = encode_v3(sealed)
    return datagram[:at] + keys.digest(datagram) + datagram[at + size :]


def verify(message: V3Message, datagram: bytes, keys: Keys) -> None:
    """Raise WrongDigest unless `datagram`, decoded as `message`, carries the whole digest."""
    size = keys.protocol.digest_size
    given = message.usm.auth
    at = message.auth_at
    expected = keys.digest(datagram[:at] + bytes(len(given)) + datagram[at + len(given) :])
    if len(given) != size or not compare_digest(expected, given):
        raise WrongDigest(f"the digest is not that of the user's {keys.protocol.name} key")


def open_data(message: V3Message, keys: Keys | None) -> bytes:
    """The octets of the ScopedPDU of a verified message, decrypted if they have to be."""
    if not message.flags & PRIV:
        return message.data
    if keys is None:
        raise DecryptionError("there are no keys")
    return keys.decrypt(message.usm, message.data)


def in_own_window(own_boots: int, own_time: int, boots: int, time: int) -> bool:
    """Whether the authoritative engine accepts that boots and time (RFC 3414 3.2 (7a))."""
    return own_boots != MAX_INT and boots == own_boots and abs(own_time - time) <= TIME_WINDOW


@dataclass(frozen=True, slots=True)
class EngineClock:
    """What another engine's clock was found to be, from authenticated messages only.

    `at` is our monotonic time, in seconds, when `time` (its latest received engine time) came.
    """

    boots: int
    time: int
    at: float

    def time_at(self, now: float) -> int:
        """Its engine time at our `now`."""
        return min(self.time + int(now - self.at), MAX_INT)


def learn_clock(known: EngineClock | None, boots: int, time: int, now: float) -> EngineClock:
    """The clock after an authenticated message of that engine (RFC 3414 3.2 (7b) step 1)."""
    if known is None or (boots, time) > (known.boots, known.time):
        return EngineClock(boots, time, now)
    return known


def in_peer_window(clock: EngineClock, boots: int, time: int, now: float) -> bool:
    """Whether a message of the authoritative engine is recent enough (RFC 3414 3.2 (7b) step 2)."""
    return (
        clock.boots != MAX_INT and boots == clock.boots and time >= clock.time_at(now) - TIME_WINDOW
    )


def _iv(boots: int, time: int, salt: bytes) -> bytes:
    if len(salt) != 8:
        raise DecryptionError(f"privacy parameters of {len(salt)} octets; AES has 8")
    return boots.to_bytes(4) + time.to_bytes(4) + salt
