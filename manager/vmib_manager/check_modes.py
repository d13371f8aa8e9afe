"""The checks of check_vmib: what each asks an agent, and how it judges the answers."""

from __future__ import annotations

import asyncio
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from vmib import objects, rows, schema
from vmib.rows import Direction, Sync
from vmib.smi import Oid, Table
from vmib.units import format_probability, format_rate, format_time

from .check_report import CRITICAL, OK, WARNING, Fact, Report, Value
from .check_source import NotThere, Source, Vif
from .reading import read_names

_AGENT_MODES = {
    rows.HostAgentMode.normal: OK,
    rows.HostAgentMode.recovering: WARNING,
    rows.HostAgentMode.readOnly: CRITICAL,
}
_SYNC = {
    Sync.inSync: OK,
    Sync.pending: WARNING,
    Sync.waiting: WARNING,
    Sync.drifted: CRITICAL,
    Sync.failed: CRITICAL,
}
_WRONG = (Sync.drifted, Sync.failed)
_SCOPE = ("vm_index", "vif_index")
"""What indexes begin with that are about a machine or an interface."""
_STALE = 3
"""Rounds of a probe after which one that does not end any more is told."""


async def host(source: Source, options: Namespace) -> Report:
    """The agent's mode, the hypervisor, and what the host can do."""
    mode, driver, status, capabilities, out_of_sync = await source.scalars(
        objects.vmibHostAgentMode,
        objects.vmibHostHypervisor,
        objects.vmibHostHypervisorStatus,
        objects.vmibHostCapabilities,
        objects.vmibHostRowsOutOfSync,
    )
    missing = [name for name in options.needs if name not in capabilities]
    reached = OK if status is rows.OperStatus.up else CRITICAL
    report: list[Fact | Value] = [
        Fact("mode", _AGENT_MODES[mode], f"agent {source.version} is in mode {mode.name}"),
        Fact("hypervisor", reached, f"hypervisor {driver} is {status.name}"),
        Value("rows_out_of_sync", out_of_sync),
    ]
    if options.needs:
        told = f"cannot do {', '.join(missing)}" if missing else "can do all that is needed"
        report.append(Fact("capabilities", CRITICAL if missing else OK, f"the host {told}"))
    return report


async def machine(source: Source, options: Namespace) -> Report:
    """Whether the hypervisor has the machine as expected."""
    table, name = objects.vmibVmTable, options.machine
    index = await source.machine(name)
    presence, count = await source.row((index,), (table, "presence"), (table, "vif_count"))
    if presence is None:
        raise NotThere(f"machine {name} has just gone")
    expected = presence.name == options.expect
    told = f"{name} is {presence.name}" + ("" if expected else f", not {options.expect}")
    interfaces = f"{count} interface{'' if count == 1 else 's'}"
    limits = (options.warning, options.critical)
    return [
        Fact("presence", OK if expected else CRITICAL, told),
        Value("interfaces", count, interfaces, "", *limits),
    ]


async def vif(source: Source, options: Namespace) -> Report:
    """Whether an interface is as it shall be."""
    table = objects.vmibVifTable
    found = await source.vif(*options.vif)
    cells = ("admin_status", "oper_status", "sync", "last_error")
    admin, oper, sync, reason = await source.row(found.key, *((table, cell) for cell in cells))
    if sync is None:
        raise NotThere(f"{found.name} has just gone")
    if admin is rows.VifAdminStatus.down:
        state = WARNING if oper is rows.OperStatus.up else OK
        told = f"{found.name} is {oper.name}, and shall be down"
    else:
        unknown = oper is rows.OperStatus.unknown
        state = OK if oper is rows.OperStatus.up else WARNING if unknown else CRITICAL
        told = f"{found.name} is {oper.name}"
    return [Fact("status", state, told), _synced(sync, reason)]


async def sync(source: Source, options: Namespace) -> Report:
    """Whether the host does what it is told: all of it, a machine, or an interface."""
    about = ""
    scope: Oid = ()
    if options.vif is not None:
        name, number = options.vif
        if number is None:
            about, scope = f" of {name}", (await source.machine(name),)
        else:
            found = await source.vif(name, number)
            about, scope = f" of {found.name}", tuple(found.key)
    (out_of_sync,) = await source.scalars(objects.vmibHostRowsOutOfSync)
    states = await _out_of_sync(source, scope) if out_of_sync else {}
    count = Counter(state for state in states.values())
    wrong = sum(count[state] for state in _WRONG)
    told = f"all rows{about} are in sync"
    if states:
        listed = ", ".join(f"{count[state]} {state.name}" for state in Sync if count[state])
        told = f"rows{about}: {listed}"
    if wrong:
        told += f"; {await _first_wrong(source, states)}"
    values = [Value(state.name, count[state]) for state in Sync if state is not Sync.inSync]
    return [Value("wrong", wrong, told, "", options.warning, options.critical), *values]


async def transaction(source: Source, options: Namespace) -> Report:
    """Whether a commit waits to be confirmed."""
    table = objects.vmibTxnTable
    index, generation = await source.scalars(objects.vmibTxnCurrent, objects.vmibTxnGeneration)
    counted = Value("generation", generation, unit="c")
    state = None
    if index:
        cells = ("state", "owner", "description", "time_left", "changes")
        state, owner, description, left, changes = await source.row(
            (index,), *((table, cell) for cell in cells)
        )
    if state is None:
        return [Fact("state", OK, "no transaction is open"), counted]
    what = f" ({description})" if description else ""
    whose = f"transaction {index} of {owner}{what}"
    if state is not rows.TxnState.awaitingConfirm:
        told = f"{whose} is {state.name}, {changes} rows changed"
        return [Fact("state", OK, told), Value("changes", changes), counted]
    return [
        Fact("state", WARNING, f"{whose} awaits confirmation"),
        Value("time_left", left, f"{left} s left", "s", options.warning, options.critical),
        Value("changes", changes),
        counted,
    ]


@dataclass(frozen=True, slots=True)
class _Flow:
    """A direction of an interface, or a link: where it is in the MIB, and its name."""

    name: str
    key: tuple[Any, ...]
    configured: Table
    actual: Table


@dataclass(frozen=True, slots=True)
class _Counted:
    """Counters at one moment, in seconds of the local clock."""

    at: float
    octets: int
    packets: int
    drops: int
    discontinuity: int
    mechanism: str
    rate: int
    sync: Sync
    reason: str


async def rate(source: Source, options: Namespace) -> Report:
    """How fast a direction or link is, between two readings, beside what is configured."""
    flow = await _flow(source, options)
    before, after = await _twice(source, flow, options.interval)
    seconds = after.at - before.at
    achieved = round((after.octets - before.octets) * 8 / seconds)
    told = f"{flow.name} passes {_speed(achieved)}"
    if not after.rate:
        if not after.mechanism:
            return [Fact("limit", OK, f"{flow.name} is not limited, and not counted")]
        return [
            Value("achieved_bps", achieved, f"{told}, not limited"),
            _synced(after.sync, after.reason),
        ]
    configured = after.rate * 1000
    percent = round(achieved * 100 / configured, 1)
    told = f"{told}, {percent:g}% of {format_rate(after.rate)}"
    limits = (options.warning, options.critical)
    return [
        Value("achieved_bps", achieved, high=configured),
        Value("of_configured", percent, told, "%", *limits),
        _synced(after.sync, after.reason),
    ]


async def drops(source: Source, options: Namespace) -> Report:
    """How much a direction or link drops, between two readings."""
    flow = await _flow(source, options)
    before, after = await _twice(source, flow, options.interval)
    dropped, passed = after.drops - before.drops, after.packets - before.packets
    percent = round(dropped * 100 / (dropped + passed), 2) if dropped else 0.0
    told = f"{flow.name} drops {dropped} of {dropped + passed} packets, {percent:g}%"
    limits = (options.warning, options.critical)
    return [
        Value("dropped", percent, told, "%", *limits, high=100),
        Value("drops", after.drops, unit="c"),
        Value("packets", after.packets, unit="c"),
    ]


async def probe(source: Source, options: Namespace) -> Report:
    """Round trips and losses that the agent has measured."""
    table = objects.vmibProbeTable
    found = await source.vif(*options.vif)
    target = options.address
    kind = rows.InetAddressType.ipv4 if target.version == 4 else rows.InetAddressType.ipv6
    cells = ("sync", "last_error", "last_round", "interval", "threshold", "rtt_min", "rtt_avg")
    sync, reason, ended, interval, threshold, low, mean, high, loss = await source.row(
        (*found.key, kind, target), *((table, cell) for cell in (*cells, "rtt_max", "loss"))
    )
    name = f"{found.name} to {target}"
    if ended is None:
        raise NotThere(f"no probe from {name}: make a row of {table.name}")
    if sync is not Sync.inSync:
        return [_synced(sync, f"probe from {name}: {reason}")]
    age = _age(ended)
    if age is None:
        raise NotThere(f"the probe from {name} has ended no round yet")
    state = OK if threshold is rows.ProbeThreshold.normal else WARNING
    fresh = age <= _STALE * interval + 1
    rtt = (options.warning[0], options.critical[0])
    lost = (options.warning[1], options.critical[1])
    return [
        *([] if fresh else [Fact("age", WARNING, f"the last round was {age:.0f} s ago")]),
        Fact("threshold", state, f"{name} is {threshold.name}"),
        Value("rtt", mean / 1000, f"round trip {format_time(mean)}", "ms", *rtt),
        Value("rtt_min", low / 1000, unit="ms"),
        Value("rtt_max", high / 1000, unit="ms"),
        Value("loss", loss / 10_000, f"loss {format_probability(loss)}", "%", *lost, high=100),
    ]


Mode = Callable[[Source, Namespace], Awaitable[Report]]
MODES: Mapping[str, Mode] = {
    made.__name__: made for made in (host, machine, vif, sync, rate, drops, probe, transaction)
}


def _speed(bps: int) -> str:
    kbps = round(bps / 1000)
    return format_rate(kbps) if kbps else f"{bps}bit"


def _synced(sync: Sync, reason: str) -> Fact:
    told = f"{'in sync' if sync is Sync.inSync else sync.name}{': ' if reason else ''}{reason}"
    return Fact("sync", _SYNC[sync], told)


async def _out_of_sync(source: Source, scope: Oid) -> dict[tuple[str, Oid], Sync]:
    """The rows that are not in sync, by table and index, below a machine or interface."""
    inside = [name for name in schema.SYNC if _fields(name)[: len(scope)] == _SCOPE[: len(scope)]]
    columns = await asyncio.gather(*(source.column(schema.SYNC[name], scope) for name in inside))
    return {
        (name, (*scope, *suffix)): state
        for name, column in zip(inside, columns, strict=True)
        for suffix, state in column.items()
        if state is not Sync.inSync
    }


def _fields(table: str) -> tuple[str, ...]:
    return tuple(column.field for column in schema.TABLES[table].index)


async def _first_wrong(source: Source, states: Mapping[tuple[str, Oid], Sync]) -> str:
    """The first row that is wrong, as people read it, and why."""
    from .describe import Describer  # it loads much that a check needs only here

    (name, suffix), state = next(item for item in states.items() if item[1] in _WRONG)
    table = schema.TABLES[name]
    key = table.decode_index(suffix)
    column = schema.SYNC[name]
    holder = schema.COLUMNS[column.name][0]
    (reason,) = await source.row(key, (holder, "last_error"))
    names = await read_names(source.agent)
    subject = Describer(names, {}).subject(table, key)
    return f"{subject} {state.name}{': ' if reason else ''}{reason or ''}"


async def _flow(source: Source, options: Namespace) -> _Flow:
    found: Vif = await source.vif(*options.vif)
    if options.to is None:
        direction = Direction[options.direction]
        name = f"what {found.name} {'receives' if direction is Direction.toVm else 'sends'}"
        whole = (*found.key, direction)
        return _Flow(name, whole, objects.vmibShapeTable, objects.vmibShapeOperTable)
    network = options.to
    kind = rows.InetAddressType.ipv4 if network.version == 4 else rows.InetAddressType.ipv6
    key = (*found.key, kind, network.network_address, network.prefixlen)
    name = f"link {found.name} to {network}"
    return _Flow(name, key, objects.vmibLinkTable, objects.vmibLinkOperTable)


async def _twice(source: Source, flow: _Flow, interval: float) -> tuple[_Counted, _Counted]:
    before = await _counted(source, flow)
    await asyncio.sleep(interval)
    after = await _counted(source, flow)
    backwards = after.octets < before.octets or after.packets < before.packets
    if backwards or after.discontinuity != before.discontinuity or after.drops < before.drops:
        raise NotThere(f"{flow.name}: counters began anew between the two readings; check again")
    return before, after


async def _counted(source: Source, flow: _Flow) -> _Counted:
    actual = ("octets", "packets", "drops", "discontinuity", "mechanism")
    cells = [(flow.actual, cell) for cell in actual]
    cells += [(flow.configured, "rate"), (flow.actual, "sync"), (flow.actual, "last_error")]
    found = await source.row(flow.key, *cells)
    if None in found:
        raise NotThere(f"{flow.name} is nothing that is configured")
    return _Counted(time.monotonic(), *found)


def _age(date_and_time: bytes) -> float | None:
    """Seconds since a DateAndTime (RFC 2579) by the local clock; None for one that is all zero."""
    if not any(date_and_time):
        return None
    year, rest = int.from_bytes(date_and_time[:2]), date_and_time[2:8]
    month, day, hour, minute, second, tenth = rest
    offset = timedelta()
    if len(date_and_time) == 11:
        sign = -1 if date_and_time[8:9] == b"-" else 1
        offset = sign * timedelta(hours=date_and_time[9], minutes=date_and_time[10])
    zone = timezone(offset)
    when = datetime(year, month, day, hour, minute, min(second, 59), tenth * 100_000, zone)
    return time.time() - when.timestamp()
