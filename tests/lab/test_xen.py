"""Real Xen: a dom0 that QEMU emulates, paravirtual guests in it, the agent on xen:///system.

One machine is booted, in virtual time, and all tests run in its dom0: those of any hypervisor, and
those that only Xen has. Each shows here under its own name. Where this was their last run:
.cache/lab/xen.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pytest

from . import inner, xen_host

pytestmark = pytest.mark.lab

MODULES = ("tests/lab/test_hypervisor.py", "tests/lab/xen/test_fidelity.py")
SECONDS = 3600.0
"""Until a machine is given up; it takes some minutes where others leave it a processor."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What is left of a machine: all that its console said, and what came of its tests."""

    console: str
    cases: list[inner.Case]


def run_machine(items: Sequence[pytest.Item]) -> Ran:
    """What is left of the machine when its tests have run; all of them run."""
    if reason := xen_host.missing():
        pytest.skip(reason)
    directory = xen_host.place("xen")
    running = xen_host.boot(directory, {"tests": MODULES}, SECONDS)
    cases = inner.cases_of(directory / "junit.xml")
    assert cases, running.last_words()
    return Ran(running.said(), cases)


@pytest.fixture(scope="module")
def dom0(outcomes: Mapping[str, Future[Any]]) -> Ran:
    ran: Ran = outcomes[__name__].result()
    return ran


@pytest.mark.parametrize("test", inner.tests_in(*MODULES), ids=inner.short)
def test_in_dom0(dom0: Ran, test: str) -> None:
    inner.report(test, dom0.cases)


def test_nothing_ran_that_does_not_show(dom0: Ran) -> None:
    assert {case.test for case in dom0.cases} == set(inner.tests_in(*MODULES))


def test_it_is_real_xen(dom0: Ran) -> None:
    """Its console names the hypervisor, the guests' domains and their vifs, shaped, and used."""
    assert re.search(r"\(XEN\) Xen version 4\.17\.\d+ \(Debian", dom0.console)
    assert re.search(r"^xen_version +: 4\.17", dom0.console, re.MULTILINE)
    numbers = dict(re.findall(r"^(Domain-0|m\d) +(\d+) ", dom0.console, re.MULTILINE))
    assert numbers["Domain-0"] == "0"
    vif = rf"qdisc netem [^\n]* dev vif{numbers['m1']}\.0 "
    passed = re.search(vif + r"[^\n]* delay 10ms\s+Sent \d+ bytes (\d+) pkt", dom0.console)
    assert passed is not None
    assert int(passed[1]) >= 20
