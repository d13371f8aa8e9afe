"""Two hosts of Xen on one wire: remote guests, one transaction, and a power failure in it.

It takes too long for every day: `make lab-xen2`, which sets $VMIB_LAB_XEN2, runs it. Where this
was its last run: .cache/lab/xen2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from tempfile import TemporaryDirectory

import pytest

from . import inner, machine, xen_host, xen_image
from .xen.wire import DOOMED

pytestmark = pytest.mark.lab

MODULE = "tests/lab/xen/test_two_hosts.py"
SECONDS = 1800.0


@pytest.fixture(scope="module")
def cases() -> Iterator[list[inner.Case]]:
    if "VMIB_LAB_XEN2" not in os.environ:
        pytest.skip("has its own command: make lab-xen2")
    if reason := xen_host.missing():
        pytest.skip(reason)
    image, directory = xen_image.image(), xen_host.place("xen2")
    jobs = {"1": {"tests": [MODULE]}, "2": {"module": "tests.lab.xen.second_host"}}
    running = []
    with TemporaryDirectory() as short:  # the path of a socket is at most 107 octets long (unix(7))
        wire = f"addr.type=unix,addr.path={short}/wire"
        try:
            for name, server in (("1", "on"), ("2", "off")):
                (directory / name).mkdir()
                ends = (f"stream,server={server},{wire}",)
                host = xen_host.machine(image, directory / name, jobs[name], ends)
                running.append(machine.start(host, directory / name))
                running[-1].wait_for("Xen version", SECONDS)
            running[0].wait_for(DOOMED, SECONDS)
            running[1].kill()
            running[0].wait(SECONDS)
            running[0].unpack_results(directory)
            yield inner.cases_of(directory / "junit.xml")
        finally:
            for each in running:
                each.kill()
                xen_host.tidy(each.console.parent)


@pytest.mark.parametrize("test", inner.tests_in(MODULE), ids=inner.short)
def test_on_host_1(cases: list[inner.Case], test: str) -> None:
    inner.report(test, cases)
