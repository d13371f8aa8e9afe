"""The users of the agent: a role, protocols, and keys localised to this engine.

Pass phrases are turned into keys once (RFC 3414 section A.2) and never stored.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from vmib.errors import ValueRefused
from vmib.snmp.usm import AUTH_PROTOCOLS, auth_protocol, localised_key

from . import durable, identity
from .durable import StateUnusable

FILE_NAME = "users.json"
MIN_PASSPHRASE = 12
DEFAULT_AUTH = "SHA-256"
DEFAULT_PRIV = "AES-128"

PRIV_KEY_OCTETS: Mapping[str, int] = {"AES-128": 16, "AES-256": 32}
"""Privacy protocols and how much of the localised key they use.

Every authentication protocol yields at least 32 octets, so AES-256 needs no extension of the key,
and the two drafts that differ in it agree here. vMIB's own manager speaks AES-128.
"""

_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,32}")


class Role(Enum):
    """What a user may do; `vmib_agent.access` says which objects that is."""

    READ = "read"
    SHAPE = "shape"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class User:
    """A user (securityName); the keys are localised, and shown to nobody."""

    name: str
    role: Role
    auth: str
    priv: str
    auth_key: bytes = field(repr=False)
    priv_key: bytes = field(repr=False)


class UserUnknown(ValueRefused):
    """A user name that is not in the file."""


def make_user(
    engine_id: bytes,
    name: str,
    role: Role,
    auth_passphrase: str,
    priv_passphrase: str,
    auth: str = DEFAULT_AUTH,
    priv: str = DEFAULT_PRIV,
) -> User:
    """A user with keys for this engine. Raises `ValueRefused`, which names the rule."""
    if not _NAME.fullmatch(name):
        raise ValueRefused("user name", name, "1 to 32 of A-Z a-z 0-9 _ . @ -")
    protocol = auth_protocol(auth)
    if priv not in PRIV_KEY_OCTETS:
        raise ValueRefused("privacy protocol", priv, ", ".join(PRIV_KEY_OCTETS))
    for label, passphrase in ("auth", auth_passphrase), ("priv", priv_passphrase):
        if len(passphrase) < MIN_PASSPHRASE:
            given = f"{len(passphrase)} characters"
            allowed = f"at least {MIN_PASSPHRASE} characters"
            raise ValueRefused(f"{label} pass phrase", given, allowed)
    auth_key = localised_key(protocol, auth_passphrase.encode(), engine_id)
    priv_key = localised_key(protocol, priv_passphrase.encode(), engine_id)
    return User(name, role, auth, priv, auth_key, priv_key)


def load_users(directory: Path) -> tuple[User, ...]:
    """The users, sorted by name; none where there is no file. Raises `StateUnusable`."""
    path = directory / FILE_NAME
    contents = durable.read(path)
    if contents is None:
        return ()
    try:
        users = [_from_record(name, record) for name, record in json.loads(contents).items()]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StateUnusable(
            f"{path}: not a list of users; restore it from a copy, or remove it and add them again"
        ) from None
    return tuple(sorted(users, key=lambda user: user.name))


def add_user(
    directory: Path,
    name: str,
    role: Role,
    auth_passphrase: str,
    priv_passphrase: str,
    auth: str = DEFAULT_AUTH,
    priv: str = DEFAULT_PRIV,
) -> User:
    """Add a user to the state directory, or replace the one of that name.

    Raises `ValueRefused` or `StateUnusable`.
    """
    engine_id = identity.load(directory).engine_id
    user = make_user(engine_id, name, role, auth_passphrase, priv_passphrase, auth, priv)
    others = [known for known in load_users(directory) if known.name != name]
    _store(directory, [*others, user])
    return user


def remove_user(directory: Path, name: str) -> None:
    """Remove a user from the state directory. Raises `UserUnknown`."""
    users = load_users(directory)
    others = [user for user in users if user.name != name]
    if len(others) == len(users):
        known = ", ".join(user.name for user in users) or "there are no users"
        raise UserUnknown("user name", name, known)
    _store(directory, others)


def _store(directory: Path, users: list[User]) -> None:
    records = {user.name: _to_record(user) for user in sorted(users, key=lambda user: user.name)}
    durable.write(directory / FILE_NAME, json.dumps(records, indent=1).encode() + b"\n")


def _to_record(user: User) -> dict[str, str]:
    return asdict(user) | {
        "role": user.role.value,
        "auth_key": user.auth_key.hex(),
        "priv_key": user.priv_key.hex(),
    }


def _from_record(name: str, record: Mapping[str, Any]) -> User:
    user = User(
        name,
        Role(record["role"]),
        record["auth"],
        record["priv"],
        bytes.fromhex(record["auth_key"]),
        bytes.fromhex(record["priv_key"]),
    )
    size = AUTH_PROTOCOLS[user.auth].key_size
    if user.priv not in PRIV_KEY_OCTETS or {len(user.auth_key), len(user.priv_key)} != {size}:
        raise ValueError(name)
    return user
