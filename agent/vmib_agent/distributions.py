"""Tables of the jitter distributions for netem: 4096 values, 8192 to one standard deviation.

netem draws one of the values at random and scales it by the jitter (sch_netem.c: tabledist).
Each table holds the quantiles of its distribution at the middles of 4096 equal slices of
probability, moved and scaled to mean 0 and standard deviation 1. What a signed 16-bit value
cannot say (beyond four standard deviations) is said by the largest it can.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import cache
from statistics import NormalDist, fmean, pstdev

UNIFORM, NORMAL, PARETO, PARETO_NORMAL = 1, 2, 3, 4
DISTRIBUTIONS = (UNIFORM, NORMAL, PARETO, PARETO_NORMAL)

_SIZE = 4096
_SCALE = 8192
_SHAPE = 3.0
_PARETO_SHARE = 0.75
_MOST = 32767 / _SCALE
_ROUNDS = 50


def _normal(probability: float) -> float:
    return NormalDist().inv_cdf(probability)


def _pareto(probability: float) -> float:
    """Standardised Pareto of shape 3: mean 3/2, variance 3/4."""
    return (math.pow(1 - probability, -1 / _SHAPE) - 1.5) / math.sqrt(0.75)


def _pareto_normal(probability: float) -> float:
    """Three parts Pareto to one part normal, drawn at the same quantile, as iproute2's table."""
    return _PARETO_SHARE * _pareto(probability) + (1 - _PARETO_SHARE) * _normal(probability)


def _standardised(quantile: Callable[[float], float]) -> list[int]:
    values = [quantile((index + 0.5) / _SIZE) for index in range(_SIZE)]
    for _ in range(_ROUNDS):
        mean, deviation = fmean(values), pstdev(values)
        values = [min(_MOST, (value - mean) / deviation) for value in values]
    return [max(-32768, min(32767, round(_SCALE * value))) for value in values]


def _uniform() -> list[int]:
    """The whole range from minus to plus the jitter, as netem does without a table."""
    return [4 * index + 2 - _SCALE for index in range(_SIZE)]


_QUANTILES = {NORMAL: _normal, PARETO: _pareto, PARETO_NORMAL: _pareto_normal}


@cache
def table(distribution: int) -> bytes:
    """The table as TCA_NETEM_DELAY_DIST carries it: signed 16-bit values, native order."""
    quantile = _QUANTILES.get(distribution)
    values = _standardised(quantile) if quantile else _uniform()
    return struct.pack(f"={_SIZE}h", *values)
