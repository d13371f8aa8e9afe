"""A network of two hosts as its agents would answer, for tests of what is watched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from vmib import canonical, rows
from vmib_manager import checks
from vmib_manager.model import Model
from vmib_manager.network_view import NetworkView, Viewer, network_plan
from vmib_manager.observation import LINK, SHAPE, SHAPED, Answers, HostView, host_view
from vmib_manager.seen import (
    Key,
    NameLookup,
    Names,
    OutOfSync,
    Reading,
    SeenVif,
    SeenVm,
)
from vmib_manager.status import READ_BACK, HostStatus
from vmib_manager.transaction import TxnView
from vmib_manager.wanted import resolve

from .descriptions import described, real_xml
from .tables import scalars_of

BODY = """
<site id="lan" subnet="10.1.0.0/24">
  <member machine="a" address="10.1.0.1"><up delay="1ms"/></member>
  <member machine="b" address="10.1.0.2"><down rate="20Mbit"/></member>
</site>
<site id="far" subnet="10.2.0.0/24"><member machine="c" address="10.2.0.1"/></site>
<router id="core"/>
<link a="a" b="core" rate="10Mbit" delay="5ms"/>
<link a="core" b="c"><ab rate="2Mbit" delay="3ms"/><ba rate="1Mbit" delay="4ms"/></link>
"""
MODEL = described(real_xml("a b c@2", hosts=2), BODY)
FAST = described(real_xml("a b c@2", hosts=2), BODY.replace('"20Mbit"', '"30Mbit"'))
NAMES = {
    "host1": Names(
        vms={1: SeenVm("u1", "a", True), 2: SeenVm("u2", "b", True)},
        vifs={
            rows.VifKey(1, 1): SeenVif("02:00:00:00:00:00", 0),
            rows.VifKey(2, 1): SeenVif("02:00:00:00:01:00", 0),
        },
    ),
    "host2": Names(
        vms={1: SeenVm("u3", "c", True)},
        vifs={rows.VifKey(1, 1): SeenVif("02:00:00:00:02:00", 0)},
    ),
}
B_RECEIVES = rows.ShapeKey(2, 1, rows.Direction.toVm)
A_TO_C = rows.LinkKey(1, 1, rows.InetAddressType.ipv4, ip_address("10.2.0.1"), 32)
C_TO_A = rows.LinkKey(1, 1, rows.InetAddressType.ipv4, ip_address("10.1.0.1"), 32)
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def tables_of(model: Model, host: str) -> dict[str, dict[Key, Any]]:
    """The rows of a host that is as described."""
    wanted = checks.examine(model).rows
    assert wanted is not None
    return resolve(wanted[host], NameLookup(NAMES[host]))


def answers(
    host: str,
    tables: Mapping[str, Mapping[Key, Any]] | None = None,
    *,
    names: Names | None = None,
    passing: Mapping[Key, int] | None = None,
    kernel: Mapping[Key, Mapping[str, Any]] | None = None,
    unsynced: tuple[OutOfSync, ...] = (),
    transaction: TxnView | None = None,
    probes: Mapping[Key, Mapping[str, Any]] | None = None,
    **scalars: Any,
) -> Answers:
    """What an agent answers whose kernel does as the rows say, but for `kernel`."""
    names = names or NAMES[host]
    there = tables_of(MODEL, host) if tables is None else tables
    states = {row.key: (row.sync, row.last_error) for row in unsynced}
    oper: dict[str, dict[Key, dict[str, Any]]] = {}
    for table in SHAPED:
        oper[table] = {
            key: {
                "sync": states.get(key, (rows.Sync.inSync, ""))[0],
                "last_error": states.get(key, (rows.Sync.inSync, ""))[1],
                "mechanism": "tbf",
                **{name: getattr(row, name) for name in READ_BACK},
                "octets": 1000,
                "packets": 10,
                "drops": 3,
                "backlog": 0,
                "achieved_rate": (passing or {}).get(key, 0),
                **(kernel or {}).get(key, {}),
            }
            for key, row in there.get(table, {}).items()
        }
    digest = canonical.digest(there, names.discovered)
    reading = Reading(scalars_of(there, names, **{"digest": digest} | scalars), names, there)
    return Answers(reading, transaction, unsynced, oper, probes or {})


def seen(host: str, found: Answers, model: Model = MODEL) -> HostView:
    """A host that answers, beside what the model says."""
    wanted = checks.examine(model).rows
    assert wanted is not None
    listed = next(each for each in model.real.hosts if each.id == host)
    return host_view(host, [machine.name for machine in listed.machines], wanted[host], found)


WELL = {host: seen(host, answers(host)) for host in NAMES}
"""Both hosts as described, and in sync."""


def silent(before: HostView) -> HostView:
    """A host that does not answer any more."""
    error = "agent 127.0.0.2:161: no answer to 5 requests in 5 s"
    return replace(before, status=HostStatus(before.status.host, error=error))


def view_of(model: Model = MODEL, number: int = 1, **hosts: HostView) -> NetworkView:
    """A view of these hosts, and of the others as they should be; a second for each number."""
    viewer = Viewer(network_plan(model))
    return viewer.view(number, NOON + timedelta(seconds=number), {**WELL, **hosts})


def with_rate(key: Key, rate: int) -> dict[str, dict[Key, Any]]:
    """The rows of host1, where somebody has set the rate of one."""
    tables = tables_of(MODEL, "host1")
    table = SHAPE if isinstance(key, rows.ShapeKey) else LINK
    return {**tables, table: {**tables[table], key: replace(tables[table][key], rate=rate)}}
