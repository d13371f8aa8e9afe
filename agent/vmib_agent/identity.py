"""Who this SNMP engine is: its engine ID, for ever, and how often it has started.

RFC 3411 section 5 (SnmpEngineID), RFC 3414 section 2.2 (snmpEngineBoots). Losing this file makes
every localised key useless, so nothing here ever replaces a file that it cannot read.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

from vmib.objects import ROOT

from . import durable
from .durable import StateUnusable

FILE_NAME = "engine.json"
LATCHED = 2**31 - 1
"""snmpEngineBoots at its end: no message is ever in the time window again."""

_ENTERPRISES = (1, 3, 6, 1, 4, 1)
_FORMAT_OCTETS = 5


@dataclass(frozen=True, slots=True)
class Identity:
    """An engine ID and the number of times the engine has (re-)initialised itself."""

    engine_id: bytes
    boots: int


def new_engine_id() -> bytes:
    """A random engine ID under the enterprise of the MIB's root (format 5, octets)."""
    enterprise = ROOT[len(_ENTERPRISES)] | 0x80000000
    return enterprise.to_bytes(4) + bytes([_FORMAT_OCTETS]) + secrets.token_bytes(12)


def load(directory: Path) -> Identity:
    """The identity kept in the directory, made there at the first use.

    Raises `StateUnusable` when there is one that cannot be read.
    """
    path = directory / FILE_NAME
    contents = durable.read(path)
    if contents is not None:
        return _parse(path, contents)
    durable.make_directory(directory)
    made = Identity(new_engine_id(), 0)
    _store(directory, made)
    return made


def start(directory: Path) -> Identity:
    """The identity with its boots counted up, already on the disk; call before any answer."""
    known = load(directory)
    started = replace(known, boots=min(known.boots + 1, LATCHED))
    _store(directory, started)
    return started


def _store(directory: Path, identity: Identity) -> None:
    record = {"engine_id": identity.engine_id.hex(), "boots": identity.boots}
    durable.write(directory / FILE_NAME, json.dumps(record).encode() + b"\n")


def _parse(path: Path, contents: bytes) -> Identity:
    try:
        record = json.loads(contents)
        engine_id, boots = bytes.fromhex(record["engine_id"]), record["boots"]
        usable = 5 <= len(engine_id) <= 32 and type(boots) is int and 0 <= boots <= LATCHED
    except (ValueError, KeyError, TypeError):
        usable = False
    if not usable:
        raise StateUnusable(
            f"{path}: not an engine identity; restore it from a copy, or remove it together "
            "with users.json and add the users again"
        )
    return Identity(engine_id, boots)
