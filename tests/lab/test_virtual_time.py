"""What needs netem or exact times, in a Debian machine whose clock counts instructions.

The machine is booted once, for all of its tests that were asked for; each is shown as one of here.
Where this was their last run: .cache/lab/virtual-time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from . import virtual_time
from .virtual_time import Result

pytestmark = pytest.mark.lab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    inner = virtual_time.tests()
    metafunc.parametrize("inner", inner, ids=[test.removeprefix("tests/") for test in inner])


def run_machine(items: Sequence[pytest.Item]) -> Mapping[str, Result]:
    """What becomes, in the machine, of those of some tests that are shown here."""
    if reason := virtual_time.missing():
        pytest.skip(reason)
    return virtual_time.run(
        [
            item.callspec.params["inner"]
            for item in items
            if isinstance(item, pytest.Function) and item.path == Path(__file__)
        ]
    )


@pytest.fixture(scope="module")
def results(outcomes: Mapping[str, Future[Any]]) -> Mapping[str, Result]:
    """What became of the tests in the machine."""
    found: Mapping[str, Result] = outcomes[__name__].result()
    return found


def test_in_virtual_time(results: Mapping[str, Result], inner: str) -> None:
    result = results[inner]
    if result.skipped:
        pytest.skip(result.skipped)
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
