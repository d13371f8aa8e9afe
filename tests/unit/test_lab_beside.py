"""Work beside other work: what came of it is told to who asks for it, and to nobody else."""

from __future__ import annotations

import threading

import pytest

from ..lab.beside import beside


def test_work_goes_on_while_its_outcome_is_not_asked_for() -> None:
    meanwhile = threading.Event()
    outcome = beside(lambda: meanwhile.wait(10))
    meanwhile.set()
    assert outcome.result() is True


def test_what_work_raises_comes_where_its_outcome_is_asked_for() -> None:
    failed = beside(lambda: pytest.fail("no machine"))
    skipped = beside(lambda: pytest.skip("needs QEMU"))
    with pytest.raises(pytest.fail.Exception, match="no machine"):
        failed.result()
    with pytest.raises(pytest.skip.Exception, match="needs QEMU"):
        skipped.result()
