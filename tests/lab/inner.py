"""Tests that run in an emulated machine, and show one by one in the run that started it."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]


def tests_in(*modules: str) -> list[str]:
    """The tests of modules, which are not imported: `path::name`, without parameters."""
    return [
        f"{module}::{statement.name}"
        for module in modules
        for statement in ast.parse((ROOT / module).read_text()).body
        if isinstance(statement, ast.FunctionDef) and statement.name.startswith("test_")
    ]


def short(test: str) -> str:
    """A test's name as the identifier of a parameter."""
    return test.partition("::")[2].removeprefix("test_")


@dataclass(frozen=True, slots=True)
class Case:
    """What came of a test with one set of parameters; `text` is why, for people."""

    test: str
    parameters: str
    outcome: str
    text: str


def cases_of(junit: Path) -> list[Case]:
    """All that a file of pytest in JUnit's form tells; nothing where there is none."""
    if not junit.exists():
        return []
    return [_case(element) for element in ElementTree.parse(junit).iter("testcase")]


def _case(element: ElementTree.Element) -> Case:
    name, _, parameters = element.get("name", "").partition("[")
    test = f"{element.get('classname', '').replace('.', '/')}.py::{name}"
    for outcome in ("error", "failure", "skipped"):
        found = element.find(outcome)
        if found is not None:
            text = f"{found.get('message', '')}\n{found.text or ''}"
            return Case(test, parameters.rstrip("]"), outcome, text)
    return Case(test, parameters.rstrip("]"), "passed", "")


def report(test: str, cases: Sequence[Case]) -> None:
    """Have the current test end as its namesake did in the machine, with any parameters."""
    mine = [case for case in cases if case.test == test]
    if not mine:
        pytest.fail(f"{test} did not run in the machine", pytrace=False)
    bad = [case for case in mine if case.outcome in ("error", "failure")]
    if bad:
        pytest.fail("\n".join(f"[{case.parameters}] {case.text}" for case in bad), pytrace=False)
    if all(case.outcome == "skipped" for case in mine):
        pytest.skip(mine[0].text.strip())
