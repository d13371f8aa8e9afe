"""The blocking manager: what it raises is what a program without an event loop expects."""

from __future__ import annotations

import asyncio

import pytest

from vmib_manager.model import Real
from vmib_manager.sync import Manager


async def cancelled_before_its_end() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


def test_an_interrupt_that_comes_as_a_cancellation_is_an_interrupt() -> None:
    with Manager(Real("real.xml", (), (), ()), {}) as manager, pytest.raises(KeyboardInterrupt):
        manager._run(cancelled_before_its_end())
