"""One of everything that a manager answers, for tests of what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from ipaddress import ip_address
from typing import Any, TypeVar

from vmib.rows import (
    Addr,
    AddrKey,
    Direction,
    Domain,
    DomainKey,
    HostAgentMode,
    Link,
    LinkKey,
    Shape,
    ShapeKey,
    StorageType,
    Switch,
    SwitchKey,
    Sync,
    TxnState,
    Vif,
    VifKey,
    Vm,
    VmKey,
)
from vmib.schema import TABLES
from vmib.smi import Table
from vmib_manager.apply import ApplyFailed, ApplyResult, HostResult, Outcome, Phase
from vmib_manager.findings import error, note, warning
from vmib_manager.lab import AgentStatus, LabStatus, MachineStatus
from vmib_manager.lab import HostStatus as LabHostStatus
from vmib_manager.model import Source
from vmib_manager.pending import Ended
from vmib_manager.plan import HostPlan, Plan, host_plan
from vmib_manager.seen import OutOfSync
from vmib_manager.snmp_errors import AgentError, UnknownUser
from vmib_manager.status import Deviation, HostStatus, Row
from vmib_manager.transaction import Complaint, HostRefused, TxnView
from vmib_manager.verification import Verification

from .tables import NAMES, V4, reading_of, scalars_of

T = TypeVar("T")

SOURCE = Source("virtual.xml", 7)
LINK_KEY = LinkKey(1, 1, V4, ip_address("10.0.0.2"), 32)
SHAPE_KEY = ShapeKey(1, 1, Direction.fromVm)
DRIFTED = OutOfSync("vmibShapeTable", SHAPE_KEY, Sync.drifted, "tc qdisc change dev vif1.0")
WANTED: Mapping[str, Mapping[Any, Any]] = {
    "vmibVmTable": {VmKey(1): Vm(uuid="", name="", site="lan")},
    "vmibVifTable": {VifKey(1, 1): Vif(mac_address="", domain=1)},
    "vmibAddrTable": {AddrKey(1, 1, V4, ip_address("10.0.0.1")): Addr(prefix_length=24)},
    "vmibLinkTable": {LINK_KEY: Link(rate=10_000, delay=5000)},
    "vmibDomainTable": {DomainKey(1): Domain(name="lan")},
    "vmibSwitchTable": {SwitchKey(1): Switch(name="br-lan")},
}
THERE: Mapping[str, Mapping[Any, Any]] = {
    "vmibVmTable": {VmKey(1): Vm(uuid=NAMES.vms[1].uuid, name="alice", site="old")},
    "vmibShapeTable": {SHAPE_KEY: Shape(rate=1000)},
    "vmibLinkTable": {LINK_KEY: Link(rate=5000, delay=5000)},
    "vmibDomainTable": {
        DomainKey(2): Domain(name="old"),
        DomainKey(3): Domain(name="core", storage_type=StorageType.permanent),
    },
    "vmibSwitchTable": {SwitchKey(1): Switch(name="br-old")},
}
FINDINGS = (
    warning(SOURCE, "the cable is slower than the link", "make the link slower"),
    note(Source("virtual.xml", 9), "the rule is never used", "remove it"),
)


def changing() -> HostPlan:
    """A plan of one host with changes of every kind, a row that stays and one that drifted."""
    sources = {("vmibLinkTable", LINK_KEY): SOURCE}
    return host_plan("h1", WANTED, reading_of(THERE, drifted=(DRIFTED,)), sources)


def quiet(host: str = "h2") -> HostPlan:
    """A plan of a host on which nothing changes."""
    return host_plan(host, WANTED, reading_of(WANTED))


def a_plan() -> Plan:
    """Two hosts, of which one changes."""
    return Plan({"h1": changing(), "h2": quiet()}, FINDINGS)


def a_refused_plan() -> Plan:
    """A plan with errors, of which one is a host that is not there."""
    lost = error(Source("real.xml", 2), "h1: agent 192.0.2.1:161: no answer", "start it")
    return Plan({}, (*FINDINGS, lost), ("h1",))


def complaint() -> Complaint:
    """What an agent has against the link."""
    (change,) = [each for each in changing().changes if each.key == LINK_KEY]
    return Complaint("vmibLinkRate.1.1.10.0.0.2/32", "resourceUnavailable: no sch_htb", change)


def a_result(outcome: Outcome = Outcome.CONFIRMED) -> ApplyResult:
    """A plan that was carried out."""
    return ApplyResult(
        {
            "h1": HostResult("h1", outcome, 5, transaction=77, drifted=1),
            "h2": HostResult("h2", Outcome.UNCHANGED, 0),
        },
        {Phase.STAGE: 0.0123, Phase.COMMIT: 0.2},
        {"h2": (DRIFTED,)},
    )


def a_failure() -> ApplyFailed:
    """A plan that one host refused, while another was lost."""
    refused = HostRefused("h1", "does not accept the changes", [complaint()])
    lost = "agent 192.0.2.2:161: no answer; it takes transaction 78 back by itself within 120 s"
    result = ApplyResult(
        {
            "h1": HostResult("h1", Outcome.ROLLED_BACK, 5, "", (complaint(),), 77),
            "h2": HostResult("h2", Outcome.UNREACHABLE, 2, lost, (), 78),
        },
        {Phase.STAGE: 0.0123, Phase.ROLL_BACK: 5.0},
    )
    return ApplyFailed(Phase.STAGE, {"h1": refused}, result)


def a_failed_result() -> ApplyResult:
    """What has become of that."""
    return a_failure().result


def some_deviations() -> dict[str, list[Deviation]]:
    """A value that reads back differently, a row that failed and one that waits."""
    link = Row("vmibLinkTable", LINK_KEY, "link alice:0 to 10.0.0.2")
    shape = Row("vmibShapeTable", SHAPE_KEY, "shape alice:0 sends")
    vif = Row("vmibVifTable", VifKey(2, 1), "vif bob:0")
    return {
        "h1": [
            Deviation(link, Sync.drifted, "somebody changed it", "queue_limit", "15kB", "1kB"),
            Deviation(shape, Sync.failed, "no sch_netem"),
            Deviation(vif, Sync.waiting, ""),
        ],
        "h2": [],
    }


def a_verification() -> Verification:
    """Everything that can be wrong."""
    return Verification(a_plan(), some_deviations(), {"h3": "agent 192.0.2.3:161: no answer"})


def a_good_verification() -> Verification:
    """Nothing is."""
    return Verification(Plan({"h2": quiet()}), {"h2": []}, {})


def some_status() -> dict[str, HostStatus]:
    """A host with a transaction and rows out of sync, one that is well, one that is lost."""
    txn = TxnView(5, 77, TxnState.awaitingConfirm, "ann", "vmib apply", 118, 5, 0)
    scalars = scalars_of(WANTED, mode=HostAgentMode.readOnly, out_of_sync=3)
    return {
        "host1": HostStatus("host1", scalars, 2, 3, txn, tuple(some_deviations()["h1"])),
        "h2": HostStatus("h2", scalars_of({}), 1, 1),
        "h3": HostStatus("h3", error="agent 192.0.2.3:161: no answer"),
    }


def some_ended() -> dict[str, Ended]:
    """A transaction that was ended, none, one of somebody else, and a host that is lost."""
    return {
        "h1": Ended(77, TxnState.committed),
        "h2": Ended(0, None),
        "h3": Ended(78, TxnState.awaitingConfirm, "transaction of bob: noAccess"),
        "h4": Ended(0, None, "agent 192.0.2.4:161: no answer"),
    }


def some_errors() -> dict[str, AgentError]:
    """Hosts that could not be asked."""
    return {"h3": UnknownUser("192.0.2.3:161", "has no such user", "add it")}


def a_lab() -> LabStatus:
    """A lab with a host that is well and one that is not."""
    machines = (MachineStatus("alice", True), MachineStatus("bob", False))
    well, ill = AgentStatus(99, 4.5, HostAgentMode.normal), AgentStatus(None, None, None)
    return LabStatus(
        "lab",
        12.3456,
        (
            LabHostStatus("host1", True, "127.0.0.1", 1161, well, machines[:1]),
            LabHostStatus("h2", False, "127.0.0.2", 1161, ill, machines),
        ),
    )


EVERYTHING: Mapping[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        a_plan,
        a_refused_plan,
        a_result,
        a_failed_result,
        some_deviations,
        a_verification,
        a_good_verification,
        some_status,
        some_ended,
    )
}
HOSTILE = "\x1b[2J\x07{}\r\n\x9b31m\u202e\x00"


def hostile(found: T) -> T:
    """The same, with control characters in every text that an agent or a file could choose."""
    return _hostile(found, "")  # type: ignore[no-any-return]


def _hostile(found: Any, name: str) -> Any:
    if isinstance(found, str):
        ours = name in ("table", "fields", "field") or found in TABLES or not found
        return found if ours else HOSTILE.format(found)
    if isinstance(found, Table):
        return found
    if isinstance(found, Mapping):
        return {_hostile(key, ""): _hostile(value, "") for key, value in found.items()}
    if type(found) in (tuple, list):
        return type(found)(_hostile(each, name) for each in found)
    if is_dataclass(found) and not isinstance(found, type):
        changed = {
            field.name: _hostile(getattr(found, field.name), field.name) for field in fields(found)
        }
        return replace(found, **changed)
    return found
