"""What a shape or a link does to traffic, for both sides of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .rows import Distribution, Link, Shape

RATE_FIELDS = ("rate", "burst", "queue_limit")
"""Fields that any kernel with TBF and HTB can do."""

NETEM_FIELDS = ("delay", "jitter", "loss", "duplicate", "corrupt", "reorder")
"""Fields that take netem, where they are not 0."""

NETEM_MODIFIERS = ("distribution", "loss_correlation")
"""Fields that say how netem does it."""


@dataclass(frozen=True, slots=True)
class Impairment:
    """The fields and units of vmibShapeTable and vmibLinkTable; the default does nothing.

    kbit/s, octets, microseconds, parts per million; 0 means unlimited, none or automatic.
    """

    rate: int = 0
    burst: int = 0
    queue_limit: int = 0
    delay: int = 0
    jitter: int = 0
    distribution: Distribution = Distribution.uniform
    loss: int = 0
    loss_correlation: int = 0
    duplicate: int = 0
    corrupt: int = 0
    reorder: int = 0

    @property
    def needs_netem(self) -> bool:
        """Whether packets are delayed, lost or altered, which takes more than limiting rates."""
        return any(getattr(self, name) for name in NETEM_FIELDS)


def impairment_of(row: Shape | Link) -> Impairment:
    """What a row asks for."""
    return Impairment(**{name: getattr(row, name) for name in Impairment.__slots__})


def changed_fields(row: Shape | Link) -> Iterator[str]:
    """The fields of a row that differ from doing nothing."""
    return (name for name in Impairment.__slots__ if getattr(row, name) != getattr(_NOTHING, name))


_NOTHING = Impairment()
