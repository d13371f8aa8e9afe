"""The packet scheduler's arithmetic: octets, nanoseconds and ticks of 64 ns.

The kernel turns octets into time by a multiplication and a shift (psched_ratecfg_precompute__
and psched_l2t_ns in the kernel) and reports times in ticks. Doing the same sums here lets what
was wanted be compared with what is read back, exactly instead of within a tolerance.
"""

from __future__ import annotations

from functools import lru_cache

TICK_SHIFT = 6
MAX_TICKS = 0xFFFF_FFFF
_NSEC_PER_SEC = 1_000_000_000


@lru_cache(maxsize=4096)
def _multiplier(rate: int) -> tuple[int, int]:
    """The kernel's (mult, shift) for a rate in octets per second."""
    factor, shift = _NSEC_PER_SEC, 0
    while True:
        mult = factor // rate
        if mult >> 31 or factor >> 63:
            return mult & 0xFFFF_FFFF, shift
        factor <<= 1
        shift += 1


def transmission_ns(rate: int, octets: int) -> int:
    """Nanoseconds the kernel reckons for `octets` at `rate` octets per second."""
    mult, shift = _multiplier(rate)
    return (octets * mult) >> shift


def ticks_down(rate: int, octets: int) -> int:
    """The ticks TBF reports for a burst given in octets (TCA_TBF_BURST)."""
    return transmission_ns(rate, octets) >> TICK_SHIFT


def ticks_up(rate: int, octets: int) -> int:
    """The fewest ticks that let `octets` pass at once through an HTB class."""
    return -(-transmission_ns(rate, octets) >> TICK_SHIFT)


def least_octets(rate: int, ticks: int) -> int:
    """The fewest octets for which TBF reports `ticks`."""
    mult, shift = _multiplier(rate)
    return -(-(ticks << (TICK_SHIFT + shift)) // mult)


def most_octets(rate: int, ticks: int) -> int:
    """The most octets an HTB class lets pass at once with a burst of `ticks`."""
    mult, shift = _multiplier(rate)
    nanoseconds = ticks << TICK_SHIFT
    return (((nanoseconds + 1) << shift) - 1) // mult


def tbf_burst(rate: int, octets: int) -> int:
    """The next burst, at or above `octets`, that TBF reports without loss.

    Up to 125 Mbit/s that is `octets` itself, above it at most 64 ns of traffic more.
    """
    ticks = ticks_down(rate, octets)
    least = least_octets(rate, ticks)
    return octets if least == octets else least_octets(rate, ticks + 1)


def htb_burst(rate: int, octets: int) -> int:
    """The next burst, at or above `octets`, that an HTB class reports without loss."""
    return most_octets(rate, ticks_up(rate, octets))


def largest_burst(rate: int) -> int:
    """The most octets that TBF and HTB take as a burst of this rate: about 274 s of it."""
    return min(0xFFFF_FFFF, most_octets(rate, MAX_TICKS - 1))
