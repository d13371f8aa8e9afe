"""Agents of one kernel share the lock of iptables(8), and wait for each other."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmib_agent import libiptc
from vmib_agent.firewall import Firewall

pytestmark = [
    pytest.mark.netns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]


@contextmanager
def held(seconds: float) -> Iterator[None]:
    """Somebody else has the lock, for some seconds from now on."""
    descriptor = os.open(libiptc.LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    timer = threading.Timer(seconds, os.close, (descriptor,))
    timer.start()
    yield
    timer.join()


def test_a_filter_that_others_are_busy_with_is_not_taken_for_missing() -> None:
    with held(3.0):
        assert "filters" in Firewall().capabilities()


def test_libiptc_is_loaded_before_the_lock_is_held_that_others_wait_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded: list[int] = []

    def load(family: int) -> None:
        assert not libiptc.LOCK.exists()
        loaded.append(family)

    monkeypatch.setattr(libiptc, "LOCK", tmp_path / "xtables.lock")
    monkeypatch.setattr(libiptc, "_library", load)
    with libiptc.xtables_lock(6):
        assert loaded == [6]
        assert libiptc.LOCK.exists()
