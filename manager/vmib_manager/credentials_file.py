"""The credentials file: pass phrases for agents, by the names that descriptions give them.

TOML, one table for each `credential` of an `<agent>` (by default the name of its host):

    [host1]
    auth = "a long pass phrase"
    priv = "another long one"
    auth_protocol = "SHA-256"  # the default; also SHA-384, SHA-512

Privacy is AES-128. The file is for its owner alone (mode 0600).
"""

from __future__ import annotations

import json
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vmib.errors import ValueRefused, VmibError
from vmib.snmp import usm

from . import lab_spec, private_files
from .credentials import Credentials

if TYPE_CHECKING:
    from .model import Real

ENVIRONMENT = "VMIB_CREDENTIALS"
DEFAULT_AUTH = "SHA-256"

_KEYS = ("auth", "priv", "auth_protocol")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_EXAMPLE = '[{}] with auth = "..." and priv = "..."'


class CredentialsRefused(VmibError):
    """A credentials file that is not taken; names the file, the place, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The pass phrases of one entry."""

    auth: str = field(repr=False)
    priv: str = field(repr=False)
    auth_protocol: str = DEFAULT_AUTH


def default_path(
    given: Path | None = None,
    lab: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Path:
    """The file to use: the one given, else that of $VMIB_CREDENTIALS, the lab's, the user's."""
    if given is not None:
        return given
    if environment.get(ENVIRONMENT):
        return Path(environment[ENVIRONMENT])
    if lab is not None:
        return lab_spec.paths(lab).credentials
    home = environment.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "vmib" / "credentials.toml"


def load(path: Path) -> Mapping[str, Entry]:
    """The entries of a file by name; raises CredentialsRefused."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read().decode()
    except FileNotFoundError:
        example = _EXAMPLE.format("NAME")
        other = f"name another (--credentials, ${ENVIRONMENT}) or write it, with mode 0600"
        raise CredentialsRefused(f"{path}: no such file; {other}: {example}") from None
    except OSError as error:
        raise CredentialsRefused(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CredentialsRefused(f"{path}: is not UTF-8") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise CredentialsRefused(f"{path}: others may use it (mode {mode:04o}): chmod 600 {path}")
    return parse(text, str(path))


def parse(text: str, name: str) -> Mapping[str, Entry]:
    """The entries of a text; `name` stands for it in errors. Raises CredentialsRefused."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CredentialsRefused(f"{name}: {error}") from None
    return {key: _entry(name, key, value) for key, value in document.items()}


def dumps(entries: Mapping[str, Entry]) -> str:
    """The text of a file with these entries."""
    return "\n".join(
        "".join(
            [f"[{_basic(name)}]\n", *(f"{key} = {_basic(getattr(entry, key))}\n" for key in _KEYS)]
        )
        for name, entry in entries.items()
    )


def save(path: Path, entries: Mapping[str, Entry]) -> None:
    """Write a file with these entries, for its owner alone; raises OSError."""
    private_files.write(path, dumps(entries))


def credentials_for(real: Real, path: Path | str) -> dict[str, Credentials]:
    """What to be to the agent of each host, by the host's id.

    Raises CredentialsRefused, naming host and entry, where the file has none for an agent.
    """
    entries = load(Path(path))
    found: dict[str, Credentials] = {}
    for host in real.hosts:
        name = host.agent.credential
        entry = entries.get(name)
        if entry is None:
            raise CredentialsRefused(
                f"{path}: no entry {name!r}, which the agent of {host.id} ({host.source}) needs; "
                f"write {_EXAMPLE.format(_key(name))}"
            )
        found[host.id] = credentials_of(host.agent.user, entry)
    return found


def credentials_of(user: str, entry: Entry) -> Credentials:
    """A user with the pass phrases of an entry."""
    return Credentials.from_passphrases(user, entry.auth, entry.priv, entry.auth_protocol)


def _entry(name: str, key: str, value: Any) -> Entry:
    if not isinstance(value, dict):
        raise CredentialsRefused(f"{name}: {key}: no table; write {_EXAMPLE.format(_key(key))}")
    for member in value:
        if member not in _KEYS:
            allowed = ", ".join(_KEYS)
            raise CredentialsRefused(f"{name}: [{key}] {member}: unknown key; allowed: {allowed}")
    for member in ("auth", "priv"):
        if member not in value:
            raise CredentialsRefused(f"{name}: [{key}] {member}: missing; a pass phrase is needed")
    for member, text in value.items():
        if not isinstance(text, str) or not text:
            raise CredentialsRefused(f"{name}: [{key}] {member}: allowed: a text, not empty")
    entry = Entry(**value)
    try:
        usm.auth_protocol(entry.auth_protocol)
    except ValueRefused as refused:
        raise CredentialsRefused(f"{name}: [{key}] {refused}") from None
    return entry


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _basic(name)


def _basic(text: str) -> str:
    """A basic string of TOML, which JSON's strings are, without the escapes that differ."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
