"""A host as it is at one moment: described, configured, done by its kernel, measured. Pure.

Rates are in kbit/s, times in microseconds, probabilities in parts per million, as in VMIB-MIB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vmib import rows
from vmib.errors import VmibError
from vmib.impairment import Impairment, impairment_of
from vmib.schema import TABLES
from vmib.smi import IpAddress, Table

from .describe import Describer
from .graph import NodeState
from .model import Source
from .plan import Change, host_plan
from .seen import Key, NameLookup, Names, OutOfSync, Reading, Tables, labels_of
from .status import READ_BACK, HostStatus, differences, unsynced_rows, without_repeats
from .topology import HostStates, host_states, worst
from .transaction import TxnView
from .wanted import WantedRow, numbered

SHAPE, LINK, PROBE = "vmibShapeTable", "vmibLinkTable", "vmibProbeTable"
SHAPED = {SHAPE: "vmibShapeOperTable", LINK: "vmibLinkOperTable"}
"""The tables of what is shaped, each with the table of what the kernel does about it."""

COUNTERS = ("octets", "packets", "drops", "backlog", "achieved_rate")
OPER_FIELDS = ("sync", "last_error", "mechanism", *READ_BACK, *COUNTERS)
"""The fields of those tables that are asked for."""

MEASURED = ("rtt_min", "rtt_avg", "rtt_max", "loss", "sent", "received")
PROBE_FIELDS = (*MEASURED, "last_round", "threshold")
"""The same of vmibProbeTable."""


FlowKey = tuple[str, str, str]
"""What is shaped: host, table and index."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What has passed and was dropped since the counters began, what waits, and how fast it is."""

    octets: int
    packets: int
    drops: int
    backlog: int
    achieved_rate: int


@dataclass(frozen=True, slots=True)
class Probe:
    """A row of vmibProbeTable; not `measured` is one whose first round is not over yet."""

    key: rows.ProbeKey
    machine: str
    vif: int
    rtt_min: int
    rtt_avg: int
    rtt_max: int
    loss: int
    sent: int
    received: int
    measured: bool
    exceeded: bool


@dataclass(frozen=True, slots=True)
class Flow:
    """All traffic of one direction of an interface, or that to one destination (a link).

    `described` is None where no file tells, `configured` where there is no row, and `sync`,
    `actual` and `counters` where the agent reports nothing of it.
    """

    host: str
    table: str
    key: Key
    subject: str
    machine: str
    vif: int
    described: Impairment | None
    configured: Impairment | None
    sync: rows.Sync | None = None
    reason: str = ""
    mechanism: str = ""
    actual: Impairment | None = None
    counters: Counters | None = None

    @property
    def direction(self) -> rows.Direction | None:
        """Which way all the traffic goes; None of a link."""
        return self.key[2] if self.table == SHAPE else None

    @property
    def dest(self) -> IpAddress | None:
        """Where a link leads."""
        return self.key[3] if self.table == LINK else None

    @property
    def index(self) -> str:
        """Its instance in the table, as sub-identifiers."""
        return ".".join(map(str, TABLES[self.table].encode_index(self.key)))

    @property
    def as_described(self) -> bool:
        """Whether the row is what the files say."""
        return (self.described or Impairment()) == (self.configured or Impairment())


@dataclass(frozen=True, slots=True)
class HostView:
    """One host; of one that does not answer the status says why, and the rest is from before.

    `changes` would make it as described; `missing` are the machines that its agent does not report.
    `tables` are its rows, and `reading` is how often it has been asked.
    """

    status: HostStatus
    names: Names = field(default_factory=Names)
    tables: Tables = field(default_factory=dict)
    flows: tuple[Flow, ...] = ()
    probes: tuple[Probe, ...] = ()
    changes: tuple[Change, ...] = ()
    missing: tuple[str, ...] = ()
    states: HostStates = field(default_factory=HostStates)
    reading: int = 0

    @property
    def answers(self) -> bool:
        """Whether its agent can be asked."""
        return self.status.scalars is not None

    @property
    def describer(self) -> Describer:
        """What its rows are called."""
        return Describer(self.names, labels_of(self.tables, _after(self.changes)))


def _after(changes: Iterable[Change]) -> Tables:
    found: dict[str, dict[Key, Any]] = {}
    for change in changes:
        if change.after is not None:
            found.setdefault(change.table.name, {})[change.key] = change.after
    return found


@dataclass(frozen=True, slots=True)
class Answers:
    """Everything that an agent has been asked.

    `oper` is what the kernel does, by table, key and field; `probes` the read-only columns.
    """

    reading: Reading
    transaction: TxnView | None
    unsynced: tuple[OutOfSync, ...]
    oper: Mapping[str, Mapping[Key, Mapping[str, Any]]]
    probes: Mapping[Key, Mapping[str, Any]] = field(default_factory=dict)


def host_view(
    host: str, machines: Sequence[str], wanted: Sequence[WantedRow], found: Answers
) -> HostView:
    """What the answers of a host's agent tell, beside the rows that the host shall have.

    `machines` are those that the real file has on it.
    """
    reading = found.reading
    names, tables = reading.names, reading.rows or {}
    there = {vm.name for vm in names.vms.values() if vm.present}
    described, sources = _described(wanted, names)
    plan = host_plan(host, described, reading, sources)
    changes = tuple(change for change in plan.changes if _is_there(change, names))
    describer = Describer(names, labels_of(tables, described))
    return HostView(
        status=_status(host, found, describer),
        names=names,
        tables=tables,
        flows=tuple(_flows(host, described, found, describer)),
        probes=tuple(_probes(found.probes, names)),
        changes=changes,
        missing=tuple(name for name in machines if name not in there),
        states=_with_changes(host_states(names, found.unsynced), changes, names),
    )


def _described(
    wanted: Sequence[WantedRow], names: Names
) -> tuple[dict[str, dict[Key, Any]], dict[tuple[str, Key], Source]]:
    """The rows by table and key, without those of machines that the agent does not report."""
    lookup = NameLookup(names)
    tables: dict[str, dict[Key, Any]] = {}
    sources: dict[tuple[str, Key], Source] = {}
    for row in wanted:
        try:
            ((table, key, numbers, source),) = numbered([row], lookup)
        except VmibError:
            continue
        tables.setdefault(table, {})[key] = numbers
        sources[table, key] = source
    return tables, sources


def is_of_machine(table: Table) -> bool:
    """Whether the rows of a table begin with the number of the machine that they are about."""
    return table.index[0].field == "vm_index"


def _is_there(change: Change, names: Names) -> bool:
    """Whether a change is not about a machine that has gone, of which nothing can be said."""
    if not is_of_machine(change.table) or not change.key[0]:
        return True
    vm = names.vms.get(change.key[0])
    return vm is not None and vm.present


def _with_changes(states: HostStates, changes: Iterable[Change], names: Names) -> HostStates:
    """The states of machines and links, also of those that are not as described."""
    machines, links = dict(states.rows), dict(states.links)
    for change in changes:
        vm = names.vms.get(change.key[0]) if is_of_machine(change.table) else None
        if vm is None:
            continue
        if change.table.name == LINK:
            link = (vm.name, str(change.key[3]))
            links[link] = worst([links.get(link, NodeState.IN_SYNC), NodeState.DIFFERENT])
        else:
            before = machines.get(vm.name, NodeState.IN_SYNC)
            machines[vm.name] = worst([before, NodeState.DIFFERENT])
    return HostStates(states.machines, machines, links)


def _status(host: str, found: Answers, describer: Describer) -> HostStatus:
    reading = found.reading
    tables = reading.rows or {}
    values = [
        deviation
        for name in SHAPED
        for key, row in tables.get(name, {}).items()
        if _is_drifted(found.oper[name].get(key))
        for deviation in differences(TABLES[name], key, row, found.oper[name][key], describer)
    ]
    return HostStatus(
        host=host,
        scalars=reading.scalars,
        machines=sum(vm.present for vm in reading.names.vms.values()),
        running_vifs=sum(vif.number >= 0 for vif in reading.names.vifs.values()),
        transaction=found.transaction,
        deviations=tuple(without_repeats(unsynced_rows(found.unsynced, describer), values)),
    )


def _is_drifted(cells: Mapping[str, Any] | None) -> bool:
    """Whether the agent says so: values that differ otherwise are in the middle of a change."""
    return cells is not None and cells["sync"] is rows.Sync.drifted


def _flows(host: str, described: Tables, found: Answers, describer: Describer) -> Iterator[Flow]:
    names, tables = found.reading.names, found.reading.rows or {}
    for name in SHAPED:
        table = TABLES[name]
        asked, there, does = described.get(name, {}), tables.get(name, {}), found.oper[name]
        for key in sorted({*asked, *there, *does}, key=table.encode_index):
            machine, vif = _place(names, key)
            cells = does.get(key)
            flow = Flow(
                host=host,
                table=name,
                key=key,
                subject=describer.subject(table, key),
                machine=machine,
                vif=vif,
                described=impairment_of(asked[key]) if key in asked else None,
                configured=impairment_of(there[key]) if key in there else None,
            )
            yield flow if cells is None else _with_cells(flow, cells)


def _place(names: Names, key: Key) -> tuple[str, int]:
    """Machine and interface of a row, by their own names; the MIB's numbers where those fail."""
    vm, vif = names.vms.get(key[0]), names.vifs.get(rows.VifKey(key[0], key[1]))
    machine = f"#{key[0]}" if vm is None else vm.name
    return machine, key[1] if vif is None or vif.number < 0 else vif.number


def _with_cells(flow: Flow, cells: Mapping[str, Any]) -> Flow:
    counted = {name: cells[name] for name in COUNTERS}
    return replace(
        flow,
        sync=cells["sync"],
        reason=cells["last_error"],
        mechanism=cells["mechanism"],
        actual=Impairment(**{name: cells[name] for name in READ_BACK}),
        counters=Counters(**counted),
    )


def _probes(found: Mapping[Key, Mapping[str, Any]], names: Names) -> Iterator[Probe]:
    for key, cells in found.items():
        machine, vif = _place(names, key)
        yield Probe(
            key=rows.ProbeKey(*key),
            machine=machine,
            vif=vif,
            measured=any(cells["last_round"]),
            exceeded=cells["threshold"] is rows.ProbeThreshold.exceeded,
            **{name: cells[name] for name in MEASURED},
        )
