"""What the manager answers, as people read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from vmib_manager import plan_text
from vmib_manager.apply import ApplyResult, HostResult, Outcome
from vmib_manager.plan import Plan
from vmib_manager.verification import Verification

from . import results

LINES: dict[str, Callable[[Any], Iterator[str]]] = {
    "a_plan": plan_text.plan_lines,
    "a_refused_plan": plan_text.plan_lines,
    "a_result": plan_text.result_lines,
    "a_failed_result": plan_text.result_lines,
    "some_deviations": plan_text.deviation_lines,
    "a_verification": plan_text.verification_lines,
    "a_good_verification": plan_text.verification_lines,
    "some_status": plan_text.status_lines,
    "some_ended": plan_text.ended_lines,
}


def text(lines: Iterator[str]) -> str:
    return "\n".join(lines) + "\n"


def test_a_plan_is_a_line_for_each_row_under_its_host() -> None:
    assert text(plan_text.plan_lines(results.a_plan())) == (
        "virtual.xml:7: warning: the cable is slower than the link; make the link slower\n"
        "virtual.xml:9: note: the rule is never used; remove it\n"
        "h1  2 rows to create, 5 to change, 1 to remove, 1 to set right\n"
        "  ~ machine alice                site old → lan\n"
        "  ~ vif alice:0                  domain none → lan\n"
        "  + address alice:0 10.0.0.1/24\n"
        "  ~ shape alice:0 sends          rate 1Mbit → unlimited\n"
        "  ~ link alice:0 to 10.0.0.2     rate 5Mbit → 10Mbit\n"
        "  + domain lan\n"
        "  - domain old\n"
        "  ± switch br-lan                name br-old → br-lan\n"
        "  ! shape alice:0 sends          drifted: tc qdisc change dev vif1.0\n"
        "h1: kept domain core: its StorageType forbids removing it\n"
        "Plan: 2 rows to create, 5 to change, 1 to remove, 1 to set right, on 1 of 2 hosts.\n"
    )


def test_a_brief_plan_is_a_line_for_each_host_that_changes() -> None:
    lines = list(plan_text.plan_lines(results.a_plan(), brief=True))
    assert [line for line in lines if line.startswith("h")] == [
        "h1  2 rows to create, 5 to change, 1 to remove, 1 to set right",
        "h1: kept domain core: its StorageType forbids removing it",
    ]
    assert not any(line.startswith(" ") for line in lines)


def test_a_plan_without_changes_says_so() -> None:
    one = Plan({"h2": results.quiet()})
    assert text(plan_text.plan_lines(one)) == "No changes: 1 host is as described.\n"
    two = Plan({"h2": results.quiet(), "h3": results.quiet("h3")})
    assert text(plan_text.plan_lines(two)) == "No changes: 2 hosts are as described.\n"


def test_a_plan_with_errors_has_nothing_but_what_was_found() -> None:
    lines = list(plan_text.plan_lines(results.a_refused_plan()))
    assert lines[-2:] == [
        "real.xml:2: error: h1: agent 192.0.2.1:161: no answer; start it",
        "Nothing is planned: correct the errors first.",
    ]


def test_a_result_tells_of_each_host_that_changed_and_how_long_it_took() -> None:
    assert text(plan_text.result_lines(results.a_result())) == (
        "h1: 5 rows, 1 drifted row confirmed\n"
        "  h2: vmibShapeTable 1.1.fromVm is drifted, and not because of this plan: "
        "tc qdisc change dev vif1.0\n"
        "stage 12 ms, commit 200 ms (all hosts at once)\n"
    )
    only = ApplyResult({"h1": HostResult("h1", Outcome.CONFIRMED, 0, drifted=2)}, {})
    assert text(plan_text.result_lines(only)) == "h1: 2 drifted rows confirmed\n"


def test_a_failure_names_the_line_that_asks_for_what_was_refused() -> None:
    failed = results.a_failure()
    assert str(failed) == "stage failed: h1: does not accept the changes; see each host"
    assert text(plan_text.result_lines(failed.result)) == (
        "h1: 5 rows rolled back\n"
        "  virtual.xml:7: vmibLinkRate.1.1.10.0.0.2/32: resourceUnavailable: no sch_htb\n"
        "h2: 2 rows unreachable\n"
        "  agent 192.0.2.2:161: no answer; it takes transaction 78 back by itself within 120 s\n"
        "stage 12 ms, roll back 5000 ms (all hosts at once)\n"
    )


def test_of_many_complaints_the_first_are_told_and_the_others_counted() -> None:
    lines = list(plan_text.complaint_lines([results.complaint()] * 25))
    assert len(lines) == 21
    assert lines[-1] == "  and 5 more"


def test_a_verification_tells_what_hosts_are_not_told_and_what_they_do_not_do() -> None:
    lines = list(plan_text.verification_lines(results.a_verification()))
    assert lines[2].startswith("h1: not configured as described, ")
    assert lines[-5:] == [
        "h1: link alice:0 to 10.0.0.2 queue-limit 15kB, reads back 1kB drifted: "
        "somebody changed it",
        "h1: shape alice:0 sends failed: no sch_netem",
        "h1: vif bob:0 waiting: its machine or interface is not there",
        "h3: unreachable: agent 192.0.2.3:161: no answer",
        "The network is not as described.",
    ]
    assert text(plan_text.verification_lines(results.a_good_verification())) == (
        "1 host verified: as described, and in sync.\n"
    )


def test_a_host_that_only_drifted_has_been_told_everything() -> None:
    drifted = Plan(
        {"h1": results.host_plan("h1", {}, results.reading_of({}, drifted=(results.DRIFTED,)))}
    )
    lines = list(plan_text.verification_lines(Verification(drifted, {}, {})))
    assert lines == ["The network is not as described."]


def test_a_status_is_a_line_for_each_host_and_below_it_what_is_open_or_wrong() -> None:
    assert text(plan_text.status_lines(results.some_status())) == (
        "host1  readOnly  netns up  2 machines  generation 5  2 not in sync, 1 waiting\n"
        "       transaction 77 of ann (vmib apply) awaits confirmation, 118 s left; confirm or "
        "abort it (vmib confirm, vmib abort), or wait\n"
        "       link alice:0 to 10.0.0.2 queue-limit 15kB, reads back 1kB drifted: "
        "somebody changed it\n"
        "       shape alice:0 sends failed: no sch_netem\n"
        "       vif bob:0 waiting: its machine or interface is not there\n"
        "h2     normal    netns up  1 machine   generation 5  in sync\n"
        "h3     unreachable  agent 192.0.2.3:161: no answer\n"
    )


def test_what_was_done_to_transactions_is_a_line_for_each_host() -> None:
    assert text(plan_text.ended_lines(results.some_ended())) == (
        "h1: transaction 77 is committed\n"
        "h2: nothing to do\n"
        "h3: failed: transaction of bob: noAccess\n"
        "h4: failed: agent 192.0.2.4:161: no answer\n"
    )


def test_a_lab_is_a_line_for_each_host() -> None:
    assert text(plan_text.lab_lines(results.a_lab())) == (
        "host1  agent 127.0.0.1 port 1161 normal (process 99)  1 of 1 machine\n"
        "h2     agent 127.0.0.2 port 1161 not answering (no process)  1 of 2 machines"
        "  no namespace\n"
        "lab lab is not complete, up for 12 s\n"
    )


@pytest.mark.parametrize("name", results.EVERYTHING)
def test_nothing_that_an_agent_says_steers_the_terminal(name: str) -> None:
    found = results.hostile(results.EVERYTHING[name]())
    lines = list(LINES[name](found))
    assert len(lines) == len(list(LINES[name](results.EVERYTHING[name]())))
    for line in lines:
        assert line.isprintable(), ascii(line)


def test_what_agents_say_is_shown() -> None:
    shown = text(plan_text.status_lines(results.hostile(results.some_status())))
    assert r"\x1b[2J\x07no sch_netem\r\n\x9b31m\u202e\x00" in shown
    lost = results.hostile({"h3": "no answer"})
    assert all(line.isprintable() for line in plan_text.unreachable_lines(lost))


def test_words_are_painted_and_the_rest_is_left_alone() -> None:
    def paint(word: str, style: str) -> str:
        return f"<{style}>{word}</{style}>"

    lines = list(plan_text.plan_lines(results.a_plan(), paint))
    assert lines[0].startswith("virtual.xml:7: <warn>warning</warn>: the cable")
    assert lines[2].startswith("<strong>h1</strong>  2 rows")
    assert lines[3].startswith("  <warn>~</warn> machine alice ")
    (first, *_) = plan_text.ended_lines(results.some_ended(), paint)
    assert first == "h1: transaction 77 is committed"
