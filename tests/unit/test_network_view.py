"""What is seen of a network: every value beside what it should be, and everything that is wrong."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from vmib import rows
from vmib_manager.findings import Severity
from vmib_manager.graph import NodeState
from vmib_manager.network_document import network
from vmib_manager.network_view import (
    Load,
    NetworkView,
    Problem,
    Trouble,
    Viewer,
    network_plan,
    rounded_rate,
    rounded_time,
)
from vmib_manager.observation import LINK, SHAPE, Flow, HostView
from vmib_manager.seen import Names, OutOfSync, SeenVm
from vmib_manager.transaction import TxnView

from .watched import (
    A_TO_C,
    B_RECEIVES,
    C_TO_A,
    MODEL,
    NAMES,
    NOON,
    WELL,
    answers,
    seen,
    silent,
    tables_of,
    view_of,
    with_rate,
)


def flow(host: HostView, subject: str) -> Flow:
    return next(each for each in host.flows if each.subject == subject)


def troubles(view: NetworkView) -> list[tuple[Trouble, str, str]]:
    return [(problem.trouble, problem.host, problem.subject) for problem in view.problems]


def test_a_network_as_described_has_no_problems() -> None:
    view = view_of()
    assert view.problems == ()
    assert view.worst is None
    states = {m.state for site in view.graph.sites for m in site.machines}
    assert states == {NodeState.IN_SYNC}


def test_every_direction_and_every_link_is_seen_with_all_its_values() -> None:
    host = seen("host1", answers("host1", passing={B_RECEIVES: 19_000}))
    assert [each.subject for each in host.flows] == [
        "shape a:0 sends",
        "shape a:0 receives",
        "shape b:0 sends",
        "shape b:0 receives",
        "link a:0 to 10.2.0.1",
    ]
    found = flow(host, "shape b:0 receives")
    assert found.described == found.configured == found.actual
    assert found.configured is not None
    assert found.configured.rate == 20_000
    assert found.counters is not None
    assert (found.counters.achieved_rate, found.counters.drops) == (19_000, 3)
    assert (found.machine, found.vif, found.direction) == ("b", 0, rows.Direction.toVm)
    link = flow(host, "link a:0 to 10.2.0.1")
    assert (str(link.dest), link.direction) == ("10.2.0.1", None)


def test_a_row_that_somebody_set_is_in_sync_and_not_as_described() -> None:
    view = view_of(host1=seen("host1", answers("host1", with_rate(B_RECEIVES, 5_000))))
    found = flow(view.hosts["host1"], "shape b:0 receives")
    assert (found.sync, found.as_described) == (rows.Sync.inSync, False)
    (problem,) = view.problems
    assert (problem.trouble, problem.host, problem.subject) == (
        Trouble.DIFFERENT,
        "host1",
        "shape b:0 receives",
    )
    assert problem.text == "apply would change rate 5Mbit → 20Mbit (virtual.xml:5)"
    assert view.worst is Severity.WARNING
    states = {m.name: m.state for site in view.graph.sites for m in site.machines}
    assert states["b"] is NodeState.DIFFERENT


def test_rows_that_are_missing_or_too_many_are_not_as_described() -> None:
    tables = tables_of(MODEL, "host1")
    ((key, link),) = tables[LINK].items()
    other = key._replace(dest_prefix=24)
    view = view_of(host1=seen("host1", answers("host1", {**tables, LINK: {other: link}})))
    assert {(each.subject, each.text) for each in view.problems} == {
        ("link a:0 to 10.2.0.1", "is described (virtual.xml:9), but not there"),
        ("link a:0 to 10.2.0.1/24", "is there, but not described"),
    }
    missing = flow(view.hosts["host1"], "link a:0 to 10.2.0.1")
    assert (missing.configured, missing.sync, missing.counters) == (None, None, None)
    assert {link.state for link in view.graph.links} == {NodeState.DIFFERENT}


def test_values_that_read_back_otherwise_are_told_with_both() -> None:
    drifted = OutOfSync(SHAPE, B_RECEIVES, rows.Sync.drifted, "missing: tbf")
    found = answers("host1", unsynced=(drifted,), kernel={B_RECEIVES: {"rate": 3_000}})
    (problem,) = view_of(host1=seen("host1", found)).problems
    assert problem == Problem(
        Trouble.DRIFTED,
        "host1",
        "shape b:0 receives",
        "rate 20Mbit, reads back 3Mbit: missing: tbf",
    )


def test_values_that_differ_in_the_middle_of_a_change_are_no_problem() -> None:
    found = answers("host1", kernel={B_RECEIVES: {"rate": 3_000}})
    assert view_of(host1=seen("host1", found)).problems == ()


@pytest.mark.parametrize(
    ("sync", "trouble", "severity"),
    [
        (rows.Sync.failed, Trouble.FAILED, Severity.ERROR),
        (rows.Sync.drifted, Trouble.DRIFTED, Severity.WARNING),
        (rows.Sync.waiting, Trouble.WAITING, Severity.NOTE),
        (rows.Sync.pending, Trouble.WAITING, Severity.NOTE),
    ],
)
def test_rows_out_of_sync_are_told_with_the_reason(
    sync: rows.Sync, trouble: Trouble, severity: Severity
) -> None:
    row = OutOfSync("vmibDomainTable", rows.DomainKey(7), sync, "no such thing")
    (problem,) = view_of(host1=seen("host1", answers("host1", unsynced=(row,)))).problems
    assert (problem.trouble, problem.severity) == (trouble, severity)
    assert problem.text == "no such thing"


def test_notes_alone_are_not_bad() -> None:
    row = OutOfSync("vmibDomainTable", rows.DomainKey(7), rows.Sync.waiting, "")
    view = view_of(host1=seen("host1", answers("host1", unsynced=(row,))))
    assert view.worst is None


def test_a_host_that_does_not_answer_keeps_its_rows_without_values() -> None:
    view = view_of(host2=silent(WELL["host2"]))
    assert troubles(view) == [(Trouble.UNREACHABLE, "host2", "")]
    assert view.worst is Severity.ERROR
    assert len(view.hosts["host2"].flows) == len(WELL["host2"].flows)
    document = network(view, 2.0)
    (link,) = (each for each in document["flows"] if each["host"] == "host2" and each["dest"])
    assert (link["answers"], link["counters"], link["actual"]) == (False, None, None)
    assert link["configured"]["rate"] == 1_000
    assert document["hosts"]["host2"]["reachable"] is False
    states = {m.name: m.state for site in view.graph.sites for m in site.machines}
    assert states == {
        "a": NodeState.IN_SYNC,
        "b": NodeState.IN_SYNC,
        "c": NodeState.SILENT,
    }


def without(machine: int, **changes: Any) -> Names:
    names = NAMES["host1"]
    vm = names.vms[machine]
    return replace(names, vms={**names.vms, machine: replace(vm, **changes)})


def test_a_machine_that_is_off_is_told_once_and_not_for_each_of_its_rows() -> None:
    waiting = OutOfSync(SHAPE, B_RECEIVES, rows.Sync.waiting, "")
    found = answers("host1", names=without(2, running=False), unsynced=(waiting,))
    view = view_of(host1=seen("host1", found))
    assert troubles(view) == [(Trouble.STOPPED, "host1", "machine b")]


def test_a_machine_that_has_gone_is_missing_and_nothing_is_said_of_its_rows() -> None:
    found = answers("host1", names=without(2, present=False))
    view = view_of(host1=seen("host1", found))
    assert troubles(view) == [(Trouble.MISSING, "host1", "machine b")]


def test_an_agent_that_leaves_the_kernel_alone_is_a_problem() -> None:
    scalars = {
        "mode": rows.HostAgentMode.readOnly,
        "hypervisor_status": rows.OperStatus.down,
    }
    view = view_of(host1=seen("host1", answers("host1", **scalars)))
    assert [(each.trouble, each.text) for each in view.problems] == [
        (Trouble.AGENT, "its mode is readOnly"),
        (Trouble.AGENT, "down"),
    ]


def test_a_transaction_is_told_with_the_time_that_it_has_left() -> None:
    txn = TxnView(5, 77, rows.TxnState.awaitingConfirm, "ann", "twice as fast", 90, 3, 0)
    (problem,) = view_of(host1=seen("host1", answers("host1", transaction=txn))).problems
    assert problem.text == "of ann (twice as fast) awaits confirmation"
    assert problem.seconds_left == 90
    later = replace(txn, time_left=88)
    (again,) = view_of(host1=seen("host1", answers("host1", transaction=later))).problems
    assert again == problem


def test_what_passes_a_link_is_the_sum_of_its_paths_in_each_direction() -> None:
    view = view_of(
        host1=seen("host1", answers("host1", passing={A_TO_C: 1_500})),
        host2=seen("host2", answers("host2", passing={C_TO_A: 700})),
    )
    assert view.loads == (Load(1_500, 700), Load(1_500, 700))
    assert [(link.forth, link.back) for link in view.graph.links] == [("1.5Mbit", "700kbit")] * 2


def test_what_passes_a_link_is_unknown_where_a_host_does_not_answer() -> None:
    view = view_of(host2=silent(WELL["host2"]))
    assert view.loads == (None, None)
    assert {(link.forth, link.back) for link in view.graph.links} == {("?", "?")}


def test_probes_are_beside_the_round_trip_that_the_files_add_up_to() -> None:
    key = rows.ProbeKey(*A_TO_C[:4])
    cells = {
        "rtt_min": 12_900,
        "rtt_avg": 13_100,
        "rtt_max": 14_000,
        "loss": 20_000,
        "sent": 50,
        "received": 49,
        "last_round": b"\x07",
        "threshold": rows.ProbeThreshold.exceeded,
    }
    view = view_of(host1=seen("host1", answers("host1", probes={key: cells})))
    assert troubles(view) == [(Trouble.EXCEEDED, "host1", "probe a:0 to 10.2.0.1")]
    (probe,) = network(view, 2.0)["probes"]
    assert (probe["machine"], probe["peer"], probe["rtt_avg"]) == ("a", "c", 13_100)
    # a sends 1 ms late, there 5 + 3 ms, back 4 + 5 ms
    assert probe["round_trip_described"] == 18_000


def test_since_when_something_is_wrong_is_kept_from_view_to_view() -> None:
    viewer = Viewer(network_plan(MODEL))
    wrong = {**WELL, "host2": silent(WELL["host2"])}
    at = [NOON + timedelta(seconds=n) for n in range(4)]
    assert viewer.view(1, at[0], WELL).problems == ()
    for number in (1, 2):
        (problem,) = viewer.view(number + 1, at[number], wrong).problems
        assert problem.since == at[1]
    viewer.view(4, at[2], WELL)
    (again,) = viewer.view(5, at[3], wrong).problems
    assert again.since == at[3]


@pytest.mark.parametrize(
    ("kbps", "text"),
    [
        (0, "0"),
        (1, "1kbit"),
        (999, "999kbit"),
        (1_000, "1Mbit"),
        (1_234, "1.23Mbit"),
        (12_345, "12.3Mbit"),
        (99_960, "100Mbit"),
        (999_499, "999Mbit"),
        (999_999, "1Gbit"),
        (1_234_567, "1.23Gbit"),
        (4_294_967_295, "4290Gbit"),
    ],
)
def test_measured_rates_have_three_digits(kbps: int, text: str) -> None:
    assert rounded_rate(kbps) == text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [(0, "0us"), (999, "999us"), (1_000, "1ms"), (20_149, "20.1ms"), (1_500_000, "1.5s")],
)
def test_measured_times_have_three_digits(microseconds: int, text: str) -> None:
    assert rounded_time(microseconds) == text


def test_the_document_has_everything_in_numbers_of_the_mib() -> None:
    document = network(view_of(), 2.0)
    assert document["schema"] == "vmib.network/1"
    assert (document["taken"], document["interval"]) == ("2026-01-02T12:00:01.000Z", 2.0)
    (link,) = (each for each in document["flows"] if each["host"] == "host1" and each["dest"])
    assert link["table"] == LINK
    assert link["index"] == "1.1.1.4.10.2.0.1.32"
    assert (link["peer"], link["sync"], link["as_described"]) == ("c", "inSync", True)
    assert (link["configured"]["rate"], link["configured"]["text"]) == (2_000, "2Mbit 8ms")
    assert [(each["a"], each["b"], each["forth"]) for each in document["links"]] == [
        ("a", "core", 0),
        ("core", "c", 0),
    ]
    (lan, _) = document["sites"]
    assert lan["machines"][0]["state"] == "inSync"


def test_names_of_machines_that_the_agent_does_not_tell_are_their_numbers() -> None:
    names = replace(NAMES["host2"], vms={9: SeenVm("u9", "x", True)})
    found = answers("host2", names=names, digest=b"")
    assert {each.machine for each in seen("host2", found).flows} == {"#1"}
