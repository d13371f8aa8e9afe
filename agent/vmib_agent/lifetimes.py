"""Rows that end by themselves: vmibProbeLifetime. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .state import Key


class Lifetimes:
    """Since when rows are as they are; a row that is written is another object from then on."""

    def __init__(self) -> None:
        self._since: dict[Key, tuple[Any, float]] = {}

    def ended(self, rows: Mapping[Key, Any], now: float) -> frozenset[Key]:
        """The keys of the rows whose `lifetime`, in seconds, has passed at `now`."""
        known, self._since = self._since, {}
        ended = set()
        for key, row in rows.items():
            if not row.lifetime:
                continue
            before = known.get(key)
            since = before[1] if before is not None and before[0] is row else now
            if now - since >= row.lifetime:
                ended.add(key)
            else:
                self._since[key] = row, since
        return frozenset(ended)
