"""Tests that run in a machine in virtual time; see tests/lab/test_virtual_time.py."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

from .frames import send
from .judging import Record
from .network import WAYS, Network, Way, network_in

if os.environ.get("VMIB_LAB") != "vtime":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with network_in(tmp_path_factory.mktemp("network")) as made:
        yield made


@pytest.fixture(scope="session")
def record() -> Record:
    return Record(Path(os.environ["VMIB_LAB_RESULTS"]) / "measurements.jsonl")


@pytest.fixture(scope="session")
def base(net: Network) -> dict[Way, float]:
    """How long a small frame takes on each way while nothing is shaped, in seconds."""
    net.clear()
    return {way: statistics.median(send(*net.ends(way), 30, 0.01).delays) for way in WAYS}
