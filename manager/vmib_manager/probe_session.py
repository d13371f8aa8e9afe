"""Measuring the rows of one host: probes are made, waited for, read and removed.

The rows are volatile and have a lifetime (vmibProbeLifetime): what a manager that is killed leaves
behind, the agent removes by itself. A probe that is there already is somebody else's: it is read,
and left as it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import ceil
from typing import Any

from vmib import objects
from vmib.rows import Probe, ProbeKey, StorageType, Sync
from vmib.snmp import Value, VarBind
from vmib.status import ErrorStatus

from .client import Agent, SnmpError
from .probe_plan import Flow, Subject, wave_seconds
from .probe_verdict import Passed, Round
from .reading import decoded, read_oper, read_scalars
from .staging import LOCK_MODULUS, Group, creation, destruction, locked
from .transaction import HostRefused, describe, view

POLL = 0.25
"""Seconds between two looks at probes that are still at work."""
_LATE = 1.5
"""How much longer than reckoned with a round may take."""
_SPARE = 60
"""Seconds beyond that, after which a probe ends by itself."""
_LOCK_TRIES = 5

_TABLE = objects.vmibProbeTable
_NEVER = bytes(8)
_AS_LONG = Value.octets(bytes(16))
"""About what cells are on average, reasons among them."""
_RESULTS = ("rtt_min", "rtt_avg", "rtt_max", "rtt_std_dev", "loss")
_STATE = ("last_round", "sync", "last_error", "count", "sent", "received")
_COUNTED = {
    table.name: oper
    for table, oper in (
        (objects.vmibShapeTable, objects.vmibShapeOperTable),
        (objects.vmibLinkTable, objects.vmibLinkOperTable),
    )
}

Tell = Callable[[int], None]
"""Told how many rows have been measured."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Why a row cannot be measured now, through nobody's fault."""

    reason: str


Result = Round | Waits | str
"""What was measured of a row, or why it was not."""


@dataclass(frozen=True, slots=True)
class HostMeasured:
    """What was measured of a host: of each probe, and of each flow that has a rate."""

    probes: Mapping[ProbeKey, Result]
    passed: Mapping[Flow, Passed]


async def measure(
    host: str, agent: Agent, waves: Sequence[Sequence[Subject]], packets: int, tell: Tell
) -> HostMeasured:
    """Measure the subjects of a host, one set after the other.

    Raises `HostRefused` where the agent does not take probes, or an AgentError.
    """
    began, before = time.monotonic(), await _octets(agent)
    session = _Session(host, agent, packets)
    probes: dict[ProbeKey, Result] = {}
    for wave in waves:
        done = len(probes)
        probes |= await session.measure(wave, lambda more, done=done: tell(done + more))  # type: ignore[misc]
    seconds, after = time.monotonic() - began, await _octets(agent)
    flows = (flow for wave in waves for subject in wave for flow in subject.flows)
    return HostMeasured(probes, dict(_passed(flows, before, after, seconds)))


_Counters = Mapping[tuple[str, Any], int]


async def _octets(agent: Agent) -> _Counters:
    found: dict[tuple[str, Any], int] = {}
    for table, oper in _COUNTED.items():
        for key, cells in (await read_oper(agent, oper)).items():
            found[table, key] = cells["octets"]
    return found


def _passed(
    flows: Iterable[Flow], before: _Counters, after: _Counters, seconds: float
) -> Iterable[tuple[Flow, Passed]]:
    for flow in flows:
        place = flow.table, flow.key
        if place in before and place in after and after[place] >= before[place]:
            yield flow, Passed(round((after[place] - before[place]) * 8 / seconds / 1000))


class _Session:
    """The probes of one manager on one host."""

    def __init__(self, host: str, agent: Agent, packets: int) -> None:
        self._host = host
        self._agent = agent
        self._packets = packets
        self._lock = 0

    async def measure(self, wave: Sequence[Subject], tell: Tell) -> dict[ProbeKey, Result]:
        """Measure one set."""
        seconds = wave_seconds(wave, self._packets) * _LATE
        there = await self._there()
        own = [subject for subject in wave if subject.probe not in there]
        lifetime = ceil(seconds) + _SPARE
        self._lock = (await read_scalars(self._agent)).spin_lock
        made: list[ProbeKey] = []
        try:
            for batch in self._batches([self._created(subject, lifetime) for subject in own]):
                made += [key for key, _ in batch]
                await self._put(batch)
            return await self._wait([subject.probe for subject in wave], seconds, tell)
        finally:
            for batch in self._batches([(key, destruction(_TABLE, key)) for key in made]):
                await self._put(batch)

    def _created(self, subject: Subject, lifetime: int) -> tuple[ProbeKey, Group]:
        row = Probe(
            interval=subject.interval(self._packets),
            count=self._packets,
            lifetime=lifetime,
            storage_type=StorageType.volatile,
        )
        fields = ("interval", "count", "lifetime", "storage_type")
        return subject.probe, creation(_TABLE, subject.probe, row, fields)

    def _batches(
        self, groups: Sequence[tuple[ProbeKey, Group]]
    ) -> list[list[tuple[ProbeKey, Group]]]:
        head = (locked(LOCK_MODULUS - 1),)
        left = iter(groups)
        sizes = [len(each) for each in self._agent.batches([g for _, g in groups], head=head)]
        return [[next(left) for _ in range(size)] for size in sizes]

    async def _put(self, batch: Sequence[tuple[ProbeKey, Group]]) -> None:
        """Make or remove rows; in halves what the agent finds too big (RFC 3416 section 4.2.5)."""
        try:
            await self._set(group for _, group in batch)
        except SnmpError as error:
            if error.status != ErrorStatus.tooBig or len(batch) == 1:
                raise
            half = len(batch) // 2
            await self._put(batch[:half])
            await self._put(batch[half:])

    async def _set(self, groups: Iterable[Group]) -> None:
        """One SET, again with the lock of now where somebody else has moved it."""
        varbinds = tuple(chain.from_iterable(groups))
        lock = (*objects.vmibTxnSpinLock.oid, 0)
        for tries in range(_LOCK_TRIES):
            try:
                await self._agent.set([locked(self._lock), *varbinds])
            except SnmpError as error:
                if error.oid != lock or tries + 1 == _LOCK_TRIES:
                    raise await self._refusal(error) from error
                self._lock = (await read_scalars(self._agent)).spin_lock
                continue
            self._lock = (self._lock + 1) % LOCK_MODULUS
            return

    async def _refusal(self, error: SnmpError) -> HostRefused | SnmpError:
        """What an error-status means, where it means more than it says."""
        if error.status == ErrorStatus.inconsistentValue:
            scalars = await read_scalars(self._agent)
            txn = await view(self._agent, scalars.transaction) if scalars.transaction else None
            if txn is not None:
                return HostRefused(self._host, describe(txn))
        return error

    async def _there(self) -> set[ProbeKey]:
        column = _TABLE.row_status
        assert column is not None
        (walked,) = await self._agent.walk(column.oid)
        prefix = len(column.oid)
        return {ProbeKey(*_TABLE.decode_index(oid[prefix:])) for oid, _ in walked}

    async def _wait(
        self, keys: Sequence[ProbeKey], seconds: float, tell: Tell
    ) -> dict[ProbeKey, Result]:
        """The results, as soon as all are there or it takes too long."""
        found: dict[ProbeKey, Result] = {}
        until = time.monotonic() + seconds
        while True:
            left = [key for key in keys if key not in found]
            is_late = time.monotonic() > until
            for key, cells in (await self._cells(left, (*_STATE, *_RESULTS))).items():
                result = _result(cells, is_late)
                if result is not None:
                    found[key] = result
            tell(len(found))
            if len(found) == len(keys):
                return found
            await asyncio.sleep(POLL)

    async def _cells(
        self, keys: Sequence[ProbeKey], fields: Sequence[str]
    ) -> dict[ProbeKey, Mapping[str, Any]]:
        """Columns of probes; empty for one that is gone."""
        columns = [_TABLE.column(name) for name in fields]
        found: dict[ProbeKey, Mapping[str, Any]] = {}
        left = iter(keys)
        asked = [
            [VarBind((*column.oid, *_TABLE.encode_index(key)), _AS_LONG) for column in columns]
            for key in keys
        ]
        for batch in self._agent.batches(asked):
            oids = [oid for group in batch for oid, _ in group]
            values = iter([value for _, value in await self._agent.get(oids)])
            for _ in batch:
                found[next(left)] = _decoded([(column, next(values)) for column in columns])
        return found


def _decoded(cells: Sequence[tuple[Any, Value]]) -> Mapping[str, Any]:
    if any(value.is_exception for _, value in cells):
        return {}
    return {column.field: decoded(column, value) for column, value in cells}


def _result(cells: Mapping[str, Any], is_late: bool) -> Result | None:
    """What the columns of a probe say, None while they say nothing yet."""
    if not cells:
        return "the probe is gone: somebody has removed it"
    if cells["last_round"] != _NEVER:
        return Round(**{name: cells[name] for name in _RESULTS}, packets=cells["count"])
    if cells["sync"] is Sync.waiting:
        return Waits(cells["last_error"])
    if cells["sync"] is Sync.failed:
        return str(cells["last_error"])
    if is_late:
        return f"no round has ended: {cells['received']} of {cells['sent']} probes are answered"
    return None
