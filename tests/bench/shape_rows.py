"""The rows of vmibShapeTable as plain data, for the agents that vMIB's own is measured against."""

from __future__ import annotations

from vmib import objects
from vmib.smi import Oid, Tag

VIFS_PER_MACHINE = 10


def cells(vifs: int) -> list[tuple[Oid, Tag, int]]:
    """Every readable cell in the order of OIDs, with its tag and its default."""
    rows = [
        (vif // VIFS_PER_MACHINE + 1, vif % VIFS_PER_MACHINE + 1, direction)
        for vif in range(vifs)
        for direction in (1, 2)
    ]
    return [
        ((*column.oid, *row), column.syntax.tag, int(column.default or 0))
        for column in objects.vmibShapeTable.columns
        if column.access.readable
        for row in rows
    ]
