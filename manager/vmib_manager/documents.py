"""Plans, results and states as JSON documents. Pure.

Every document names its schema and the version of it; members are only ever added to a version.
Rows have the field names of VMIB-MIB, numbers are in the units of the MIB, machines have their
names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any

from vmib.errors import VmibError
from vmib.schema import TABLES
from vmib.smi import Table

from .apply import ApplyFailed, ApplyResult
from .describe import Describer
from .findings import Finding
from .lab import LabStatus
from .measurement import Measurement
from .pending import Ended
from .plan import Change, HostPlan, Plan
from .seen import Key, OutOfSync
from .status import Deviation, HostStatus
from .transaction import Complaint
from .verification import Verification
from .xmlload import Problem

Document = dict[str, Any]


def _schema(name: str) -> Document:
    return {"schema": f"vmib.{name}/1"}


def text(document: Document) -> str:
    """A document as it is printed: ASCII alone, so that no name in it steers a terminal."""
    return json.dumps(document, indent=2)


def error(kind: str, messages: Sequence[str], problems: Sequence[Problem] = ()) -> Document:
    """Why a command was not carried out; `problems` are the faults of files."""
    return {
        **_schema("error"),
        "error": kind,
        "messages": list(messages),
        "problems": [asdict(problem) for problem in problems],
    }


def plan(found: Plan) -> Document:
    """A plan."""
    return {
        **_schema("plan"),
        "ok": found.ok,
        "changes": sum(len(host.changes) for host in found.hosts.values()),
        "drifted": sum(len(host.drifted) for host in found.hosts.values()),
        "findings": [finding(each) for each in found.findings],
        "unreachable": list(found.unreachable),
        "hosts": {name: _host_plan(host) for name, host in found.hosts.items()},
    }


def finding(found: Finding) -> Document:
    """What a check found."""
    return {
        "severity": found.severity.value,
        "file": found.file,
        "line": found.line,
        "message": found.message,
        "way_out": found.way_out,
    }


def _host_plan(host: HostPlan) -> Document:
    describer = Describer(host.names, host.labels)
    return {
        "generation": host.generation,
        "digest": host.digest.hex(),
        "changes": [_change(change, describer) for change in host.changes],
        "kept": [describer.subject(table, key) for table, key in host.kept],
        "drifted": [_drifted(row, describer) for row in host.drifted],
    }


def _drifted(row: OutOfSync, describer: Describer) -> Document:
    table = TABLES[row.table]
    return {
        "table": row.table,
        "index": _index(table, row.key),
        "subject": describer.subject(table, row.key),
        "reason": row.last_error,
    }


def _change(change: Change, describer: Describer) -> Document:
    row = change.before if change.after is None else change.after
    return {
        "kind": change.kind.value,
        "table": change.table.name,
        "index": _index(change.table, change.key),
        "subject": describer.subject(change.table, change.key, row),
        "before": _fields(change.table, change.before),
        "after": _fields(change.table, change.after),
        "fields": list(change.fields),
        "source": None if change.source is None else str(change.source),
    }


def _index(table: Table, key: Key) -> str:
    return ".".join(map(str, table.encode_index(key)))


def _fields(table: Table, row: Any) -> Document | None:
    if row is None:
        return None
    return {column.field: _value(getattr(row, column.field)) for column in table.writable}


def _value(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, int | bool | str | None) else str(value)


def result(found: ApplyResult) -> Document:
    """What has become of a plan."""
    return {
        **_schema("apply"),
        "outcome": found.outcome.value,
        "seconds": {phase.value: round(spent, 6) for phase, spent in found.seconds.items()},
        "hosts": {
            name: {
                "outcome": host.outcome.value,
                "changes": host.changes,
                "drifted": host.drifted,
                "transaction": host.transaction,
                "message": host.message,
                "complaints": [_complaint(each) for each in host.complaints],
            }
            for name, host in found.hosts.items()
        },
        "unsettled": {
            name: [
                {"row": row.name, "sync": row.sync.name, "reason": row.last_error} for row in listed
            ]
            for name, listed in found.unsettled.items()
        },
    }


def _complaint(found: Complaint) -> Document:
    source = None if found.change is None else found.change.source
    return {
        "instance": found.instance,
        "message": found.message,
        "source": None if source is None else str(source),
    }


def failure(failed: ApplyFailed) -> Document:
    """An apply that failed."""
    return {
        **result(failed.result),
        "failed": failed.phase.value,
        "failures": {host: str(error) for host, error in failed.failures.items()},
    }


def deviations(
    found: Mapping[str, Sequence[Deviation]], failed: Mapping[str, VmibError]
) -> Document:
    """Where hosts do not do what they are told."""
    return {
        **_schema("diff"),
        "hosts": {name: [_deviation(each) for each in listed] for name, listed in found.items()},
        "unreachable": {host: str(error) for host, error in failed.items()},
    }


def _deviation(found: Deviation) -> Document:
    return {
        "table": found.row.table,
        "index": _index(TABLES[found.row.table], found.row.key),
        "subject": found.row.name,
        "sync": found.sync.name,
        "reason": found.reason,
        "field": found.field or None,
        "configured": found.configured or None,
        "actual": found.actual or None,
    }


def verification(found: Verification, measured: Measurement | None = None) -> Document:
    """The answer of verify; `measurement` is null where nothing was measured."""
    return {
        **_schema("verify"),
        "ok": found.ok,
        "plan": plan(found.plan),
        "deviations": {
            name: [_deviation(each) for each in listed] for name, listed in found.deviations.items()
        },
        "unreachable": dict(found.unreachable),
        "measurement": None if measured is None else measurement(measured),
    }


def measurement(found: Measurement) -> Document:
    """What was measured of rows: delays of round trips in microseconds, rates in kbit/s."""
    return {
        "ok": found.ok,
        "packets": found.packets,
        **found.allowed._asdict(),
        "failed": dict(found.failed),
        "rows": [
            {
                "host": row.subject.host,
                "subject": row.subject.name,
                "source": str(row.subject.source),
                "off": row.off,
                "reason": row.reason or None,
                "round": None if row.round is None else row.round._asdict(),
                "values": [asdict(aspect) for aspect in row.aspects],
            }
            for row in found.rows
        ],
    }


def status(hosts: Mapping[str, HostStatus]) -> Document:
    """How hosts are."""
    return {
        **_schema("status"),
        "hosts": {name: host_status(host) for name, host in hosts.items()},
    }


def host_status(host: HostStatus) -> Document:
    """How one host is."""
    if host.scalars is None:
        return {"reachable": False, "error": host.error}
    scalars = host.scalars
    txn = host.transaction
    return {
        "reachable": True,
        "mode": scalars.mode.name,
        "hypervisor": scalars.hypervisor,
        "hypervisor_status": scalars.hypervisor_status.name,
        "version": scalars.version,
        "capabilities": sorted(scalars.capabilities),
        "machines": host.machines,
        "vifs": host.running_vifs,
        "generation": scalars.generation,
        "digest": scalars.digest.hex(),
        "last_change_by": scalars.last_change_by,
        "out_of_sync": scalars.out_of_sync,
        "transaction": None if txn is None else {**asdict(txn), "state": txn.state.name},
        "deviations": [_deviation(each) for each in host.deviations],
    }


def ended(hosts: Mapping[str, Ended]) -> Document:
    """What was done to transactions."""
    return {
        **_schema("transactions"),
        "hosts": {
            name: {
                "transaction": each.transaction,
                "state": None if each.state is None else each.state.name,
                "error": each.error or None,
            }
            for name, each in hosts.items()
        },
    }


def findings(found: Sequence[Finding], ok: bool) -> Document:
    """What checks of the files found; `ok` says that the description can be applied."""
    return {**_schema("check"), "ok": ok, "findings": [finding(each) for each in found]}


def labs(names: Sequence[str]) -> Document:
    """The names of labs."""
    return {**_schema("labs"), "labs": list(names)}


def lab(found: LabStatus) -> Document:
    """How a lab is."""
    hosts = {
        host.id: {
            "present": host.present,
            "address": host.address,
            "port": host.port,
            "agent": {
                "pid": host.agent.pid,
                "uptime": host.agent.uptime,
                "mode": None if host.agent.mode is None else host.agent.mode.name,
            },
            "machines": {machine.name: machine.present for machine in host.machines},
        }
        for host in found.hosts
    }
    return {
        **_schema("lab"),
        "name": found.name,
        "uptime": round(found.uptime, 3),
        "complete": found.complete,
        "hosts": hosts,
    }
