"""What tests of every layer share: the reasons for which a test cannot run here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("quick", deadline=None, stateful_step_count=30)
settings.register_profile("long", deadline=None, stateful_step_count=80, max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# In the background of a script SIGINT is ignored, and so it is by all that is started there.
signal.signal(signal.SIGINT, signal.default_int_handler)

LAYERS = ("unit", "snmp", "packaging", "nms", "lab", "netns")
"""The order of tests. Machines in virtual time run beside the layers before theirs (see
`tests/lab/conftest.py`), and are gone when traffic is timed."""


@cache
def kernel_has_netem() -> bool:
    """Whether sch_netem can be attached, found by trying it in a namespace of its own."""
    command = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"]
    tried = subprocess.run(["unshare", "-n", *command], capture_output=True, check=False)
    return tried.returncode == 0


def reason_to_skip(item: pytest.Item) -> str | None:
    """Why this test cannot run here, or None."""
    if os.geteuid() != 0 and any(map(item.get_closest_marker, ("netns", "netem", "nms"))):
        return "needs root: makes network namespaces"
    if item.get_closest_marker("snmp") and shutil.which("snmpget") is None:
        return "needs net-snmp's tools (Debian package snmp)"
    if item.get_closest_marker("netem") and not kernel_has_netem():
        return "kernel has no sch_netem; tests/lab/test_virtual_time.py runs it in one that has"
    return None


def _place_in_order(item: pytest.Item) -> tuple[int, bool]:
    """Its layer, and in a layer first what has been running since the session began."""
    layer = item.path.relative_to(Path(__file__).parent).parts[0]
    has_begun = isinstance(item, pytest.Function) and hasattr(item.module, "run_machine")
    return (LAYERS.index(layer), not has_begun)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What a lab of this session runs in another kernel is one of the lab's tests, no other."""
    items.sort(key=_place_in_order)
    elsewhere = {
        item.callspec.params.get("inner")
        for item in items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
    }
    if elsewhere - {None} and not kernel_has_netem():
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in elsewhere])
        items[:] = [item for item in items if item.nodeid not in elsewhere]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if reason := reason_to_skip(item):
        pytest.skip(reason)
