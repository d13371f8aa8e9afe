"""The journal: what has changed since the state file was written, one line for each change.

Pure. A line is the checksum of the line before it (of the state file, for the first), its own
over that and what follows, and the changes as JSON: `PREVIOUS OWN {...}`. So nothing can be left
out, exchanged or put in front of another state file.

A line is on the disk before its change is answered. What a power cut can leave of the last one,
which nobody was told of, is less than a line or a line with octets that were never written, which
read as zero; it is dropped. Anything else that does not agree is damage.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from .statecodec import Document, to_json

_CHECKSUM = 64


class Damaged(Exception):
    """What was answered once cannot be read any more."""


class Line(NamedTuple):
    """A line that is whole in itself."""

    before: str
    own: str
    changes: Any


class Found(NamedTuple):
    """What a journal holds: changes in order, the checksum of the last of them (or of the state
    file), and how many octets they take."""

    changes: tuple[Document, ...]
    checksum: str
    octets: int


def checksum(text: str) -> str:
    """The checksum of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def line(before: str, changes: Document) -> tuple[bytes, str]:
    """The line after the one with that checksum, and its own checksum."""
    body = to_json(changes)
    own = checksum(f"{before} {body}")
    return f"{before} {own} {body}\n".encode(), own


def read(data: bytes, base: str) -> Found:
    """The changes in a journal to the state file with this checksum. Raises `Damaged`.

    A journal to another state file is empty: it was to the one before, which has all of it.
    """
    whole, torn = _lines(data)
    if whole and whole[0][0].before != base:
        return Found((), base, 0)
    changes, known, octets = [], base, 0
    for found, size in whole:
        if found.before != known:
            raise Damaged("a line is missing")
        changes.append(found.changes)
        known, octets = found.own, octets + size
    if torn and not _is_torn(torn):
        raise Damaged("the checksum of a line does not match")
    return Found(tuple(changes), known, octets)


def _lines(data: bytes) -> tuple[list[tuple[Line, int]], bytes]:
    """The lines with their octets, and what comes after the last that is whole."""
    found: list[tuple[Line, int]] = []
    at = 0
    while at < len(data):
        end = data.find(b"\n", at) + 1
        parsed = _parsed(data[at : end - 1]) if end else None
        if parsed is None:
            break
        found.append((parsed, end - at))
        at = end
    return found, data[at:]


def _parsed(text: bytes) -> Line | None:
    try:
        before, own, body = text.decode("ascii").split(" ", 2)
        if len(before) != _CHECKSUM or checksum(f"{before} {body}") != own:
            return None
        return Line(before, own, json.loads(body))
    except ValueError:
        return None


def _is_torn(rest: bytes) -> bool:
    """Whether this can be what a power cut left of one line, with nothing after it."""
    texts = rest.split(b"\n")
    if len(texts) == 1:  # all of it, but for its end
        return True
    return not _any_whole(texts) and (b"\0" in rest or not rest.endswith(b"\n"))


def _any_whole(texts: Iterable[bytes]) -> bool:
    return any(_parsed(text) is not None for text in texts)
