"""Counters and values are read from the kernel as often as that is cheap."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from vmib.rows import Direction, VifKey
from vmib_agent.operational import Operational
from vmib_agent.readings import Readings
from vmib_agent.shaper import VifStatistics
from vmib_agent.shapingstate import ShapedVif, VifState

VIF = ShapedVif("vif1.0", "vmib1.1")


class Kernel:
    """Takes so many seconds to read; counts how often it is asked."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 100.0
        self.asked = 0
        self.octets = 0
        self.shaper = SimpleNamespace(read=self.read, statistics=self.statistics)

    def read(self, vifs: Any) -> dict[ShapedVif, VifState]:
        self.now += self.seconds
        self.asked += 1
        return {vif: VifState() for vif in vifs}

    def statistics(self, vifs: Any) -> dict[ShapedVif, VifStatistics]:
        found = Operational(octets=self.octets)
        return {vif: VifStatistics(found, found, {}, {}) for vif in vifs}


def asked_in(seconds: int, cost: float) -> int:
    """How often a kernel is read in so many seconds when somebody asks all the time."""
    kernel = Kernel(cost)
    readings = Readings(kernel, lambda: {VifKey(1, 1): VIF}, lambda: kernel.now)  # type: ignore[arg-type]
    end = kernel.now + seconds
    while kernel.now < end:
        readings.shape(VifKey(1, 1), Direction.toVm)
        kernel.now += 0.01
    return kernel.asked


def test_a_quick_kernel_is_read_twice_a_second() -> None:
    assert 18 <= asked_in(10, 0.001) <= 20


def test_a_slow_kernel_is_read_a_tenth_of_the_time() -> None:
    assert 9 <= asked_in(100, 1.0) <= 11


def test_a_change_is_read_at_once() -> None:
    kernel = Kernel(1.0)
    readings = Readings(kernel, lambda: {VifKey(1, 1): VIF}, lambda: kernel.now)  # type: ignore[arg-type]
    assert readings.shape(VifKey(1, 1), Direction.toVm).values.octets == 0
    kernel.octets = 7
    readings.expire()
    assert readings.shape(VifKey(1, 1), Direction.toVm).values.octets == 7
