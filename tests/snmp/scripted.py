"""An agent that says what it is told to: of another version of VMIB-MIB, or of another kind.

As a program (`python scripted.py CONFIG`) it serves the cells of the file `cells.json` beside its
configuration; as a module it starts such a process.
"""

from __future__ import annotations

import json
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agents import Agent, free_port, prepare, start, stop

from vmib.schema import COLUMNS, SCALARS
from vmib.smi import Oid, Tag
from vmib.status import ErrorStatus
from vmib_agent import config, daemon
from vmib_agent.service import Missing, SetRefused, Value, VarBind


def scalar(name: str, value: Any) -> tuple[str, list[Any]]:
    """A cell of a scalar; a value that the syntax does not have is given as a whole number."""
    found = SCALARS[name]
    raw = found.syntax.encode(value) if not isinstance(value, int) else value
    return _cell((*found.oid, 0), int(found.syntax.tag), raw)


def cell(name: str, key: Sequence[Any], value: Any) -> tuple[str, list[Any]]:
    """A cell of a table."""
    table, column = COLUMNS[name]
    index = (*column.oid, *table.encode_index(key))
    return _cell(index, int(column.syntax.tag), column.syntax.encode(value))


def _cell(oid: Oid, tag: int, raw: Any) -> tuple[str, list[Any]]:
    shown = raw.hex() if isinstance(raw, bytes) else raw
    return ".".join(map(str, oid)), [tag, shown]


@contextmanager
def saying(cells: Mapping[str, list[Any]]) -> Iterator[Agent]:
    """An agent with these cells on loopback, until the end of the block."""
    with tempfile.TemporaryDirectory() as place:
        directory, port = Path(place), free_port()
        (directory / "cells.json").write_text(json.dumps(cells))
        started = start(prepare(directory, port), directory, port, program=__file__)
        try:
            yield started
        finally:
            stop(started)


class _Cells:
    def __init__(self, file: Path) -> None:
        self._values: dict[Oid, Value] = {}
        for name, (tag, shown) in json.loads(file.read_text()).items():
            raw = bytes.fromhex(shown) if isinstance(shown, str) else shown
            self._values[tuple(map(int, name.split(".")))] = Value(Tag(tag), raw)
        self._order = sorted(self._values)

    def get(self, oid: Oid) -> Value | Missing:
        return self._values.get(oid) or Missing(any(o[:-1] == oid[:-1] for o in self._order))

    def get_next(self, oid: Oid) -> VarBind | None:
        position = bisect_right(self._order, oid)
        if position == len(self._order):
            return None
        return VarBind(self._order[position], self._values[self._order[position]])

    def set(self, varbinds: Sequence[VarBind], principal: str) -> None:
        raise SetRefused(ErrorStatus.notWritable, 1, "read-only")


class _Host:
    def __init__(self, service: _Cells) -> None:
        self.service = service
        self.view = None
        self.quick = None

    def close(self) -> None:
        """Nothing to stop."""


def main() -> None:
    """Serve the cells."""
    file = Path(sys.argv[1])
    cells = _Cells(file.with_name("cells.json"))
    daemon.run(config.load(file), lambda *_: _Host(cells))


if __name__ == "__main__":
    main()
