"""A copy of a record is what `dataclasses.replace` makes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import pytest

from vmib.rows import ROWS, TxnState
from vmib_agent.records import evolved
from vmib_agent.state import State, Transaction

RECORDS: list[Any] = [State(spin_lock=1), Transaction(1, "a", TxnState.open, 2, 3, "", 4.0)]


@pytest.mark.parametrize("record", RECORDS)
def test_one_field_differs_and_the_others_are_the_same(record: Any) -> None:
    for field in fields(record):
        made = evolved(record, {field.name: 77})
        assert made == replace(record, **{field.name: 77})
        assert type(made) is type(record)
    assert evolved(record, {}) == record


def test_every_row_can_be_copied() -> None:
    for kind in ROWS.values():
        values = {field.name: number for number, field in enumerate(fields(kind))}
        last = next(reversed(values))
        assert evolved(kind(**values), {last: 77}) == kind(**values | {last: 77})


def test_a_field_that_is_not_there_is_a_fault() -> None:
    with pytest.raises(KeyError):
        evolved(RECORDS[0], {"lock": 1})


def test_a_record_that_checks_itself_is_not_copied_behind_its_back() -> None:
    @dataclass(frozen=True, slots=True)
    class Careful:
        one: int
        other: int

        def __post_init__(self) -> None:
            assert self.one < self.other

    with pytest.raises(TypeError):
        evolved(Careful(1, 2), {"one": 3})
