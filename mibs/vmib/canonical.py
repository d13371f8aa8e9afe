"""The canonical form of a configuration and its digest, as vmibTxnDigest defines them.

Agent and manager compute the same digest from the same rows, so that one GET tells whether
anything differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from .schema import CONFIGURATION
from .smi import Column, Raw, Table, Tag

Rows = Mapping[str, Mapping[tuple[Any, ...], Any]]
"""Table name -> key -> row (a dataclass of `vmib.rows`, or for a discovered row a mapping-like
object with the same fields)."""

DETERMINED = frozenset({"vmibVmUuid", "vmibVmName", "vmibVifMacAddress"})
"""Columns that the hypervisor determines in rows it reports."""


def _integer_octets(value: int, *, signed: bool) -> bytes:
    length = value.bit_length() // 8 + 1 if value >= 0 or signed else 1
    return value.to_bytes(length, "big", signed=True)


def encode_value(tag: Tag, raw: Raw) -> bytes:
    """A value in BER: tag, length, contents (short lengths and long form up to 65535)."""
    if isinstance(raw, int):
        contents = _integer_octets(raw, signed=tag is Tag.INTEGER)
    elif isinstance(raw, bytes):
        contents = raw
    else:
        raise TypeError(f"no configuration column has the tag {tag!r}")
    length = len(contents)
    if length < 128:
        header = bytes([tag, length])
    elif length < 256:
        header = bytes([tag, 0x81, length])
    else:
        header = bytes([tag, 0x82, *length.to_bytes(2, "big")])
    return header + contents


def _cells(table: Table, row: Any, discovered: bool) -> list[tuple[Column, Raw]]:
    cells = []
    for column in table.writable:
        if discovered and column.name in DETERMINED:
            continue
        value = getattr(row, column.field)
        if column.has_default and value == column.default:
            continue
        cells.append((column, column.syntax.encode(value)))
    return cells


def lines(rows: Rows, discovered: Mapping[str, Iterable[tuple[Any, ...]]]) -> Iterable[bytes]:
    """The canonical form, line by line.

    `discovered` gives, for each table of `schema.DISCOVERED`, the keys that exist because of the
    hypervisor.
    """
    for table in CONFIGURATION:
        found = frozenset(discovered.get(table.name, ()))
        by_instance = sorted(
            (table.encode_index(key), key, row) for key, row in rows.get(table.name, {}).items()
        )
        for suffix, key, row in by_instance:
            cells = _cells(table, row, key in found)
            if key in found and not cells:
                continue
            fields = [table.name, ".".join(map(str, suffix))]
            fields += [f"{c.name}={encode_value(c.syntax.tag, raw).hex()}" for c, raw in cells]
            yield (" ".join(fields) + "\n").encode()


def digest(rows: Rows, discovered: Mapping[str, Iterable[tuple[Any, ...]]]) -> bytes:
    """SHA-256 of the canonical form: the value of vmibTxnDigest."""
    hashed = hashlib.sha256()
    for line in lines(rows, discovered):
        hashed.update(line)
    return hashed.digest()
