"""What snmpd asks over `pass_persist`: the rows of vmibShapeTable (snmpd.conf(5)).

pass_persist_agent.py VIFS
"""

from __future__ import annotations

import sys
from bisect import bisect_right

from shape_rows import cells

from vmib.smi import Oid, Tag

_KINDS = {Tag.INTEGER: "integer", Tag.UNSIGNED32: "gauge"}


def main() -> None:
    """Answer until snmpd closes the pipe."""
    found = cells(int(sys.argv[1]))
    order = [oid for oid, _, _ in found]
    values = {oid: [_KINDS[tag], str(value)] for oid, tag, value in found}

    def line() -> str:
        return sys.stdin.readline().strip()

    def answer(*lines: str) -> None:
        sys.stdout.write("".join(f"{text}\n" for text in lines))
        sys.stdout.flush()

    for command in map(str.strip, iter(sys.stdin.readline, "")):
        if command == "PING":
            answer("PONG")
        if command not in ("get", "getnext", "set"):
            continue
        oid: Oid | None = tuple(map(int, line().strip(".").split(".")))
        if command == "set":
            kind, value = line().split(maxsplit=1)
            if oid in values and (values[oid][0] == "integer") == (kind == "integer"):
                values[oid][1] = value
                answer("DONE")
            else:
                answer("not-writable")
            continue
        if command == "getnext":
            position = bisect_right(order, oid)
            oid = order[position] if position < len(order) else None
        if oid in values:
            answer("." + ".".join(map(str, oid)), *values[oid])
        else:
            answer("NONE")


if __name__ == "__main__":
    main()
