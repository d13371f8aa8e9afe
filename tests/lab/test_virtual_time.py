"""What needs netem or exact times, in a Debian machine whose clock counts instructions.

The machine is booted once, for all of its tests that were asked for; each is shown as one of here.
Where this was their last run: .cache/lab/virtual-time.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from . import virtual_time
from .virtual_time import Result

pytestmark = pytest.mark.lab


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    inner = virtual_time.tests()
    metafunc.parametrize("inner", inner, ids=[test.removeprefix("tests/") for test in inner])


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> Mapping[str, Result]:
    """What became of the tests in the machine."""
    if reason := virtual_time.missing():
        pytest.skip(reason)
    wanted = [
        item.callspec.params["inner"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == request.path
    ]
    return virtual_time.run(wanted)


def test_in_virtual_time(results: Mapping[str, Result], inner: str) -> None:
    result = results[inner]
    if result.skipped:
        pytest.skip(result.skipped)
    if result.failure:
        pytest.fail(result.failure, pytrace=False)
