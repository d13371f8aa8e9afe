"""What is measured of a host to compare it with a description, by which probes, and in what order.

A probe through an interface to the machine's own address measures what the interface's two shapes
do; one to another address measures what the link to that address does, too (vmibProbeDest). Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, hypot
from typing import Any

from vmib import objects
from vmib.impairment import Impairment, impairment_of
from vmib.rows import AddrKey, Direction, LinkKey, ProbeKey, ShapeKey, VifKey

from .describe import Describer
from .model import Source
from .paths import compose
from .seen import SHAPE, Key

ADDR, LINK, VIF = (
    table.name for table in (objects.vmibAddrTable, objects.vmibLinkTable, objects.vmibVifTable)
)

PACKETS = 20
"""Packets of a probe, if nothing else is said."""
ROWS_AT_ONCE = 100
"""Probes of a host that run together: a thousand packets a second."""
PATIENCE = 5.0
"""Seconds after which an agent gives up a packet (vmibProbeEntry)."""
_GAP = 0.1
_BEGIN_WITHIN = 1.0
_TAKEN = 1.5
"""Seconds to make a set of probes, read and remove them."""
_OCTETS = 60
_FREE_OCTETS = 2500
"""What the shortest token bucket that agents choose lets pass at once, halved."""
_SHARE = 0.1
"""How much of an interface's rate probes may take."""
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Flow:
    """Traffic that a rate holds for: the row (its key in the table), and kbit/s, 0 for no limit.

    `word` tells the directions of an interface from each other, and is empty for a link.
    """

    table: str
    key: Key
    rate: int
    word: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """What one probe measures: a link, or an interface with its two shapes.

    `machine` is its name; `name` and `source` are for people; `ways` is what a packet passes on its
    way to the machine and back; `flows` what can be read of rates.
    """

    host: str
    machine: str
    name: str
    source: Source
    probe: ProbeKey
    ways: tuple[Impairment, ...]
    flows: tuple[Flow, ...]
    one_by_one: bool

    @property
    def vif(self) -> VifKey:
        """The interface."""
        return VifKey(self.probe.vm_index, self.probe.vif_index)

    @property
    def delay(self) -> int:
        """Microseconds that a round trip takes longer on average than it would otherwise."""
        return round(sum(way.delay * (1 - way.reorder / MILLION) for way in self.ways))

    @property
    def jitter(self) -> int:
        """Microseconds by which round trips may vary."""
        return round(hypot(*(way.jitter for way in self.ways)))

    @property
    def is_steady(self) -> bool:
        """Whether all packets are delayed by the same time."""
        return not any(way.jitter or way.reorder for way in self.ways)

    @property
    def loss(self) -> int:
        """Parts per million of packets that get no answer."""
        return compose(self.ways).loss

    @property
    def corrupt(self) -> int:
        """Parts per million of packets that may get no answer because they are altered."""
        return compose(self.ways).corrupt

    @property
    def has_bursts_of_loss(self) -> bool:
        """Whether packets are not lost independently of each other."""
        return any(way.loss_correlation for way in self.ways)

    def interval(self, packets: int) -> int:
        """vmibProbeInterval for a probe that is not in a hurry and waits for late answers."""
        longest = (self.delay + 3 * self.jitter) / MILLION
        return max(2, ceil(2 * _GAP * packets), ceil(2 * longest) + 1)

    def seconds(self, packets: int) -> float:
        """How long a round takes at most, if nothing is lost that is not described."""
        longest = (self.delay + 3 * self.jitter) / MILLION
        spent = packets * max(_GAP, 2 * longest) if self.one_by_one else packets * _GAP + longest
        if not (self.loss or self.corrupt):
            return spent
        lost = (self.loss + self.corrupt) / MILLION * packets
        return spent + PATIENCE * (lost if self.one_by_one else 1)


def subjects(
    host: str, rows: Iterable[tuple[str, Key, Any, Source]], describer: Describer
) -> list[Subject]:
    """What can be measured of a host with these rows (as `wanted.numbered` gives them)."""
    tables: dict[str, dict[Key, tuple[Any, Source]]] = {}
    for table, key, row, source in rows:
        tables.setdefault(table, {})[key] = row, source
    shapes = {key: impairment_of(row) for key, (row, _) in tables.get(SHAPE, {}).items()}
    own: dict[VifKey, list[AddrKey]] = {}
    for key in tables.get(ADDR, {}):
        own.setdefault(VifKey(key[0], key[1]), []).append(AddrKey(*key))
    found = [
        _interface(host, VifKey(*key), source, own[VifKey(*key)], shapes, describer)
        for key, (_, source) in tables.get(VIF, {}).items()
        if VifKey(*key) in own
    ]
    for key, (row, source) in tables.get(LINK, {}).items():
        link = LinkKey(*key)
        families = {addr.type for addr in own.get(VifKey(link.vm_index, link.vif_index), ())}
        if link.dest_type in families and link.dest is not None:
            found.append(_link(host, link, impairment_of(row), source, shapes, describer))
    return found


_Shapes = Mapping[Key, Impairment]


def _shape(shapes: _Shapes, vif: Key, direction: Direction) -> Impairment:
    return shapes.get(ShapeKey(vif[0], vif[1], direction), Impairment())


def _interface(
    host: str,
    vif: VifKey,
    source: Source,
    own: Sequence[AddrKey],
    shapes: _Shapes,
    describer: Describer,
) -> Subject:
    asked = min(own, key=lambda addr: (addr.type, int(addr.address or 0)))
    ways = tuple(_shape(shapes, vif, way) for way in (Direction.toVm, Direction.fromVm))
    flows = tuple(
        Flow(SHAPE, ShapeKey(*vif, direction), shape.rate, word)
        for shape, direction, word in zip(
            ways, (Direction.toVm, Direction.fromVm), ("receives", "sends"), strict=True
        )
    )
    probe = ProbeKey(*vif, asked.type, asked.address)
    name = f"vif {describer.vif(*vif)}"
    machine = describer.machine(vif.vm_index)
    return Subject(host, machine, name, source, probe, ways, flows, one_by_one=True)


def _link(
    host: str,
    key: LinkKey,
    link: Impairment,
    source: Source,
    shapes: _Shapes,
    describer: Describer,
) -> Subject:
    vif = VifKey(key.vm_index, key.vif_index)
    ways = (
        _shape(shapes, vif, Direction.toVm),
        _shape(shapes, vif, Direction.fromVm),
        link,
    )
    probe = ProbeKey(*vif, key.dest_type, key.dest)
    name = f"link {describer.vif(*vif)} to {key.dest}"
    flows = (Flow(LINK, key, link.rate),)
    machine = describer.machine(vif.vm_index)
    return Subject(host, machine, name, source, probe, ways, flows, one_by_one=False)


def waves(found: Sequence[Subject], packets: int) -> list[list[Subject]]:
    """Subjects that are measured at once, one set after the other.

    Probes of one set take at most a tenth of an interface's rate, or what its token bucket lets
    pass at once.
    """
    made: list[tuple[list[Subject], Counter[VifKey], dict[VifKey, float]]] = []
    octets = packets * _OCTETS
    for subject in found:
        vif, own = subject.vif, _allowance(subject, packets)
        for members, taken, borne in made:
            fits = not taken[vif] or taken[vif] + octets <= min(own, borne[vif])
            if len(members) < ROWS_AT_ONCE and fits:
                break
        else:
            members, taken, borne = [], Counter(), {}
            made.append((members, taken, borne))
        members.append(subject)
        taken[vif] += octets
        borne[vif] = min(own, borne.get(vif, own))
    return [members for members, _, _ in made]


def _allowance(subject: Subject, packets: int) -> float:
    """Octets of probes that an interface bears in one set."""
    rates = [way.rate for way in subject.ways[:2] if way.rate]
    if not rates:
        return float("inf")
    return max(_FREE_OCTETS, min(rates) * 125 * packets * _GAP * _SHARE)


def wave_seconds(wave: Iterable[Subject], packets: int) -> float:
    """How long a set takes."""
    longest = max((subject.seconds(packets) for subject in wave), default=0.0)
    return _BEGIN_WITHIN + longest + _TAKEN


def estimate(by_host: Mapping[str, Sequence[Sequence[Subject]]], packets: int) -> float:
    """Seconds that all hosts take, at once, for their sets."""
    times = (sum(wave_seconds(wave, packets) for wave in found) for found in by_host.values())
    return max(times, default=0.0)
