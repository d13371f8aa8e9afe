"""Who the manager is to an agent: a USM user, or for reading only an SNMPv2c community."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vmib.errors import ValueRefused
from vmib.snmp import usm

KeySource = Callable[[], bytes]
"""Gives a pass phrase when keys for a new engine are made; it is not kept afterwards."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A USM user (RFC 3414): authentication always, privacy (AES-128) unless `priv` is None.

    Pass phrases are asked from `auth` and `priv` once per engine and never shown.
    """

    user: str
    auth: KeySource = field(repr=False)
    priv: KeySource | None = field(repr=False)
    auth_protocol: usm.AuthProtocol = usm.SHA256

    def __post_init__(self) -> None:
        if not 1 <= len(self.user.encode()) <= 32:
            raise ValueRefused("user", self.user, "1 to 32 octets")

    @classmethod
    def from_passphrases(
        cls, user: str, auth: str, priv: str | None, auth_protocol: str = "SHA-256"
    ) -> Credentials:
        """Credentials whose pass phrases are in memory; raises ValueRefused for weak protocols."""
        secret = None if priv is None else priv.encode()
        return cls(
            user,
            auth.encode,
            None if secret is None else lambda: secret,
            usm.auth_protocol(auth_protocol),
        )

    def keys(self, engine_id: bytes) -> usm.Keys:
        """The localised keys at one engine; takes about a millisecond for each pass phrase."""
        priv = None if self.priv is None else self.priv()
        return usm.passphrase_keys(self.auth_protocol, engine_id, self.auth(), priv)


@dataclass(frozen=True, slots=True)
class Community:
    """An SNMPv2c community, which nobody may write with: it travels in the clear."""

    name: bytes = field(repr=False)
