"""Counters and values of queues and filters, read from the kernel at most twice a second.

A walk asks for thousands of cells; one dump answers all of them. Rates are means between two
readings at least a second apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from vmib.rows import Direction, VifKey

from .kernel import HostKernel
from .operational import Operational
from .qdiscs import Tree, is_stage
from .shaper import VifStatistics
from .shapingstate import ShapedVif, VifState

FRESH = 0.5
"""Seconds for which a reading answers at least."""
SHARE = 0.1
"""How much of the time reading may take: many interfaces are read less often."""
RATE_INTERVAL = 1.0
"""Seconds at least between the two readings of a rate."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One direction or one link: values, how it is done, mean rate (kbit/s), and since when the
    counters count (sysUpTime, hundredths of a second)."""

    values: Operational = field(default_factory=Operational)
    mechanism: str = ""
    achieved_rate: int = 0
    discontinuity: int = 0


@dataclass(slots=True)
class _Meter:
    """Follows the counters of one direction or link over time."""

    at: float
    octets: int
    packets: int
    base_at: float
    base_octets: int
    rate: int = 0
    since: float = 0.0

    def take(self, now: float, values: Operational) -> None:
        """A new reading; counters that went back have started anew."""
        if values.octets < self.octets or values.packets < self.packets:
            self.since = now
            self.base_at, self.base_octets, self.rate = now, values.octets, 0
        elif now - self.base_at >= RATE_INTERVAL:
            octets = values.octets - self.base_octets
            self.rate = int(octets * 8 / (now - self.base_at) / 1000)
            self.base_at, self.base_octets = now, values.octets
        self.at, self.octets, self.packets = now, values.octets, values.packets


class Readings:
    """The last readings of everything that is shaped or filtered."""

    def __init__(
        self,
        kernel: HostKernel,
        vifs: Callable[[], Mapping[VifKey, ShapedVif]],
        uptime: Callable[[], float],
    ) -> None:
        self._kernel = kernel
        self._vifs = vifs
        self._uptime = uptime
        self._taken = -math.inf
        self._fresh = FRESH
        self._shaped: Mapping[VifKey, ShapedVif] = {}
        self._statistics: Mapping[ShapedVif, VifStatistics] = {}
        self._states: Mapping[ShapedVif, VifState] = {}
        self._meters: dict[Any, _Meter] = {}
        self._counters_taken = -FRESH
        self._counters: Mapping[tuple[int, int], tuple[int, int]] = {}
        self._last_counters: Mapping[tuple[int, int], tuple[int, int]] = {}
        self._counters_since: dict[tuple[int, int], float] = {}

    def expire(self) -> None:
        """Forget what was read: the kernel has been changed."""
        self._taken = self._counters_taken = -math.inf

    def taken(self) -> float:
        """When the present readings were taken; takes them, if those before are too old."""
        self._refresh()
        return self._taken

    def shape(self, vif: VifKey, direction: Direction) -> Reading:
        """All traffic of one direction of an interface."""
        self._refresh()
        shaped = self._shaped.get(vif)
        statistics = None if shaped is None else self._statistics.get(shaped)
        if shaped is None or statistics is None:
            return Reading()
        to_vm = direction is Direction.toVm
        state = self._states[shaped]
        values = statistics.to_vm if to_vm else statistics.from_vm
        tree = state.to_vm if to_vm else state.from_vm
        return self._metered((vif, direction), values, _mechanism(tree))

    def link(self, vif: VifKey, dest: Any, prefix: int) -> Reading:
        """The traffic of an interface to one destination."""
        self._refresh()
        shaped = self._shaped.get(vif)
        statistics = None if shaped is None else self._statistics.get(shaped)
        values = None if statistics is None else statistics.from_vm_links.get(_net(dest, prefix))
        if values is None:
            return Reading()
        delays = values.delay or values.jitter or values.loss
        alters = values.duplicate or values.corrupt or values.reorder
        mechanism = "htb netem bfifo" if delays or alters else "htb bfifo"
        return self._metered((vif, dest, prefix), values, mechanism)

    def filter(self, domain: int, priority: int) -> tuple[int, int, int]:
        """Packets and octets that a filter matched, and since when (sysUpTime)."""
        now = self._uptime()
        if now - self._counters_taken >= FRESH:
            self._last_counters = self._counters
            self._counters = self._kernel.firewall.counters()
            self._counters_taken = now
            for key, (packets, _) in self._counters.items():
                if packets < self._last_counters.get(key, (0, 0))[0]:
                    self._counters_since[key] = now
        key = (domain, priority)
        packets, octets = self._counters.get(key, (0, 0))
        return packets, octets, int(self._counters_since.get(key, 0.0) * 100)

    def _refresh(self) -> None:
        now = self._uptime()
        if now - self._taken < self._fresh:
            return
        self._shaped = self._vifs()
        vifs = tuple(self._shaped.values())
        self._states = self._kernel.shaper.read(vifs)
        self._statistics = self._kernel.shaper.statistics(vifs)
        self._taken = now
        self._fresh = max(FRESH, (self._uptime() - now) / SHARE)

    def _metered(self, key: Any, values: Operational, mechanism: str) -> Reading:
        meter = self._meters.get(key)
        if meter is None:
            meter = _Meter(self._taken, 0, 0, self._taken, values.octets, since=self._taken)
            self._meters[key] = meter
        if meter.at != self._taken or not meter.octets:
            meter.take(self._taken, values)
        return Reading(values, mechanism, meter.rate, int(meter.since * 100))


def _net(dest: Any, prefix: int) -> Any:
    return ip_network((dest, prefix))


def _mechanism(tree: Tree) -> str:
    stages = [item for item in tree.qdiscs if is_stage(item.handle)]
    return " ".join(type(item.options).__name__.lower() for item in stages)
