"""A memory of recent outcomes, bounded in time and in number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

CAPACITY = 65536
_SWEEPING_SECONDS = 1.0


class Recent(Generic[T]):
    """Outcomes by key, each for `seconds`; beyond the capacity the oldest are forgotten."""

    def __init__(
        self, seconds: float, clock: Callable[[], float], capacity: int = CAPACITY
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._capacity = capacity
        self._kept: OrderedDict[bytes, tuple[float, T]] = OrderedDict()
        self._swept = clock()

    def find(self, key: bytes) -> T | None:
        """The outcome remembered under a key, or None."""
        kept = self._kept.get(key)
        return None if kept is None or kept[0] <= self._clock() else kept[1]

    def remember(self, key: bytes, outcome: T) -> None:
        """Keep an outcome, unless there is one under this key."""
        now = self._clock()
        kept = self._kept.get(key)
        if kept is None or kept[0] <= now:
            if kept is not None:
                del self._kept[key]
            self._kept[key] = now + self._seconds, outcome
            if len(self._kept) > self._capacity:
                self._kept.popitem(last=False)
        if now >= self._swept + _SWEEPING_SECONDS:
            self._swept = now
            while self._kept and next(iter(self._kept.values()))[0] <= now:
                self._kept.popitem(last=False)
