"""What the manager answers, as JSON documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from vmib_manager import documents
from vmib_manager.xmlload import Problem

from . import results

FOUND: dict[str, tuple[str, Callable[[], documents.Document]]] = {
    "plan": ("vmib.plan/1", lambda: documents.plan(results.a_plan())),
    "refused plan": ("vmib.plan/1", lambda: documents.plan(results.a_refused_plan())),
    "result": ("vmib.apply/1", lambda: documents.result(results.a_result())),
    "failure": ("vmib.apply/1", lambda: documents.failure(results.a_failure())),
    "diff": (
        "vmib.diff/1",
        lambda: documents.deviations(results.some_deviations(), results.some_errors()),
    ),
    "verify": ("vmib.verify/1", lambda: documents.verification(results.a_verification())),
    "verified": ("vmib.verify/1", lambda: documents.verification(results.a_good_verification())),
    "status": ("vmib.status/1", lambda: documents.status(results.some_status())),
    "ended": ("vmib.transactions/1", lambda: documents.ended(results.some_ended())),
    "check": ("vmib.check/1", lambda: documents.findings(results.FINDINGS, True)),
    "lab": ("vmib.lab/1", lambda: documents.lab(results.a_lab())),
    "labs": ("vmib.labs/1", lambda: documents.labs(("one", "two"))),
    "error": (
        "vmib.error/1",
        lambda: documents.error("X", ["no"], [Problem("f", 1, "link", "rate", "x", "a rate")]),
    ),
}
HOSTILE: dict[str, Callable[[Any], documents.Document]] = {
    "a_plan": documents.plan,
    "a_refused_plan": documents.plan,
    "a_result": documents.result,
    "a_failed_result": documents.result,
    "some_deviations": lambda found: documents.deviations(found, {}),
    "a_verification": documents.verification,
    "a_good_verification": documents.verification,
    "some_status": documents.status,
    "some_ended": documents.ended,
}


@pytest.mark.parametrize("name", FOUND)
def test_every_document_names_its_schema_and_comes_back_from_its_text(name: str) -> None:
    schema, make = FOUND[name]
    document = make()
    assert next(iter(document)) == "schema"
    assert document["schema"] == schema
    assert json.loads(documents.text(document)) == document


@pytest.mark.parametrize("name", results.EVERYTHING)
def test_every_text_of_a_document_is_ascii_without_control_characters(name: str) -> None:
    document = HOSTILE[name](results.hostile(results.EVERYTHING[name]()))
    printed = documents.text(document)
    assert printed.isascii()
    assert printed.replace("\n", "").isprintable()
    assert json.loads(printed) == document


def test_a_change_has_the_names_of_the_mib_and_the_numbers_of_its_units() -> None:
    changes = documents.plan(results.a_plan())["hosts"]["h1"]["changes"]
    (change,) = [each for each in changes if each["table"] == "vmibLinkTable"]
    before, after = change.pop("before"), change.pop("after")
    assert change == {
        "kind": "update",
        "table": "vmibLinkTable",
        "index": "1.1.1.4.10.0.0.2.32",
        "subject": "link alice:0 to 10.0.0.2",
        "fields": ["rate"],
        "source": "virtual.xml:7",
    }
    assert (before["rate"], after["rate"], after["delay"]) == (5000, 10_000, 5000)
    assert after["storage_type"] == "nonVolatile"
    (created,) = [each for each in changes if each["subject"] == "domain lan"]
    assert (created["before"], created["after"]["name"]) == (None, "lan")


def test_a_plan_counts_what_changes_and_names_what_cannot_be_asked() -> None:
    plan = documents.plan(results.a_plan())
    assert (plan["ok"], plan["changes"], plan["drifted"], plan["unreachable"]) == (True, 8, 1, [])
    assert plan["hosts"]["h1"]["drifted"][0]["index"] == "1.1.1"
    assert plan["hosts"]["h1"]["kept"] == ["domain core"]
    refused = documents.plan(results.a_refused_plan())
    assert (refused["ok"], refused["unreachable"], refused["hosts"]) == (False, ["h1"], {})


def test_a_failure_is_a_result_with_its_reasons() -> None:
    failure = documents.failure(results.a_failure())
    assert failure["failed"] == "stage"
    assert failure["failures"] == {"h1": "h1: does not accept the changes"}
    assert failure["hosts"]["h1"]["complaints"][0]["source"] == "virtual.xml:7"
    assert failure["hosts"]["h2"]["outcome"] == "unreachable"


def test_the_status_of_a_host_that_is_lost_says_why() -> None:
    hosts = documents.status(results.some_status())["hosts"]
    assert hosts["h3"] == {"reachable": False, "error": "agent 192.0.2.3:161: no answer"}
    assert hosts["host1"]["transaction"]["state"] == "awaitingConfirm"
    assert hosts["host1"]["deviations"][0]["configured"] == "15kB"
    assert hosts["h2"]["transaction"] is None
