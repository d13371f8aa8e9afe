"""What happens between two views is told once, and in words."""

from __future__ import annotations

import re
from collections.abc import Mapping

from vmib import rows
from vmib_manager.findings import Severity
from vmib_manager.happenings import MOST_ROWS, What, happenings
from vmib_manager.network_document import happening
from vmib_manager.network_view import NetworkView
from vmib_manager.observation import LINK, SHAPE, HostView
from vmib_manager.seen import OutOfSync
from vmib_manager.transaction import TxnView

from .watched import (
    B_RECEIVES,
    FAST,
    MODEL,
    WELL,
    answers,
    seen,
    silent,
    tables_of,
    view_of,
    with_rate,
)

SLOW = seen("host1", answers("host1", with_rate(B_RECEIVES, 5_000), last_change_by="ann"))
DRIFTED = seen(
    "host1",
    answers(
        "host1",
        unsynced=(OutOfSync(SHAPE, B_RECEIVES, rows.Sync.drifted, "changed"),),
        kernel={B_RECEIVES: {"rate": 3_000}},
    ),
)


def told(before: NetworkView | None, after: NetworkView) -> list[tuple[str, str, str, str]]:
    return [
        (each.what.value, each.host, each.subject, each.text) for each in happenings(before, after)
    ]


def between(before: Mapping[str, HostView], after: Mapping[str, HostView]) -> list[str]:
    """What is told, as one line each."""
    found = told(view_of(**before), view_of(number=2, **after))
    return [" ".join(each) for each in found]


def test_at_first_it_is_told_how_all_is() -> None:
    assert told(None, view_of()) == [
        ("watching", "", "2 of 2 hosts answer", "as described, and in sync")
    ]
    assert told(None, view_of(host2=silent(WELL["host2"]))) == [
        ("watching", "", "1 of 2 hosts answer", "not all is well"),
        (
            "begins",
            "host2",
            "",
            "unreachable: agent 127.0.0.2:161: no answer to 5 requests in 5 s",
        ),
    ]


def test_where_nothing_happens_nothing_is_told() -> None:
    busy = seen("host1", answers("host1", passing={B_RECEIVES: 900}))
    assert between({}, {}) == between({}, {"host1": busy}) == []
    assert between({"host1": DRIFTED}, {"host1": DRIFTED}) == []


def test_a_row_that_somebody_sets_is_told_with_both_values_and_by_whom() -> None:
    assert between({}, {"host1": SLOW}) == [
        "row host1 shape b:0 receives rate 20Mbit → 5Mbit by ann",
        "begins host1 configuration 1 row not as described",
    ]
    assert between({"host1": SLOW}, {}) == [
        "row host1 shape b:0 receives rate 5Mbit → 20Mbit by ann",
        "ends host1 configuration as described",
    ]


def test_rows_that_come_and_go_are_told() -> None:
    tables = tables_of(MODEL, "host1")
    unlinked = seen("host1", answers("host1", {**tables, LINK: {}}))
    lines = between({"host1": unlinked}, {})
    assert lines[0].startswith("row host1 link a:0 to 10.2.0.1 created, rate 2Mbit, delay 8ms")
    assert lines[0].endswith(" by ann")
    assert between({}, {"host1": unlinked})[0] == "row host1 link a:0 to 10.2.0.1 removed by ann"


def test_of_very_many_rows_only_the_number_is_told() -> None:
    tables = tables_of(MODEL, "host1")
    filters = {
        rows.FilterKey(1, n): rows.Filter(action=rows.FilterAction.accept)
        for n in range(1, MOST_ROWS + 2)
    }
    many = seen("host1", answers("host1", {**tables, "vmibFilterTable": filters}, generation=9))
    (line, different) = between({}, {"host1": many})
    assert re.fullmatch(r"row host1 configuration 1\d rows changed by ann, generation 9", line)
    assert re.fullmatch(r"begins host1 configuration 1\d rows not as described", different)


def test_drift_and_its_end_are_told() -> None:
    (begin,) = between({}, {"host1": DRIFTED})
    assert begin == (
        "begins host1 shape b:0 receives drifted: rate 20Mbit, reads back 3Mbit: changed"
    )
    assert between({"host1": DRIFTED}, {}) == ["ends host1 shape b:0 receives in sync again"]


def test_a_host_that_is_lost_takes_its_other_problems_with_it() -> None:
    (line,) = between({"host1": DRIFTED}, {"host1": silent(DRIFTED)})
    assert line.startswith("begins host1  unreachable: ")
    assert between({"host1": silent(DRIFTED)}, {"host1": DRIFTED}) == [
        "ends host1  answers again",
        "begins host1 shape b:0 receives drifted: rate 20Mbit, reads back 3Mbit: changed",
    ]


def test_what_changed_while_a_host_did_not_answer_is_told_when_it_does() -> None:
    lines = between({"host1": silent(WELL["host1"])}, {"host1": SLOW})
    assert "row host1 shape b:0 receives rate 20Mbit → 5Mbit by ann" in lines


def test_a_host_that_never_answered_has_no_rows_that_came() -> None:
    never = silent(HostView(WELL["host1"].status))
    assert between({"host1": never}, {}) == ["ends host1  answers again"]


def test_a_transaction_is_told_when_it_begins_and_when_it_is_over() -> None:
    def within(seconds: int) -> HostView:
        txn = TxnView(5, 77, rows.TxnState.awaitingConfirm, "ann", "", seconds, 3, 0)
        return seen("host1", answers("host1", transaction=txn))

    assert between({}, {"host1": within(90)}) == [
        "begins host1 transaction 77 of ann awaits confirmation"
    ]
    assert between({"host1": within(90)}, {"host1": within(88)}) == []
    assert between({"host1": within(2)}, {}) == ["ends host1 transaction 77 is over"]


def test_a_row_that_fails_in_another_way_is_not_well_in_between() -> None:
    failed = OutOfSync(SHAPE, B_RECEIVES, rows.Sync.failed, "refused")
    worse = seen("host1", answers("host1", unsynced=(failed,)))
    assert between({"host1": DRIFTED}, {"host1": worse}) == [
        "begins host1 shape b:0 receives failed: refused"
    ]


def test_another_description_makes_other_rows_not_as_described() -> None:
    other = seen("host1", answers("host1"), FAST)
    assert between({}, {"host1": other}) == ["begins host1 configuration 1 row not as described"]


def test_each_happening_is_a_document_of_its_own() -> None:
    found = list(happenings(view_of(), view_of(number=2, host1=DRIFTED)))
    (document,) = map(happening, found)
    assert document == {
        "schema": "vmib.happening/1",
        "at": "2026-01-02T12:00:02.000Z",
        "what": "begins",
        "host": "host1",
        "subject": "shape b:0 receives",
        "text": "drifted: rate 20Mbit, reads back 3Mbit: changed",
        "severity": "warning",
    }
    assert found[0].severity is Severity.WARNING
    assert {what.value for what in What} == {"watching", "row", "begins", "ends"}
