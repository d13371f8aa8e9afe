"""Mappings that share what they have in common: like dicts, and their difference is exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vmib_agent.persistent import GONE, Persistent, differing, have_same_keys, persistent

keys = st.integers(0, 5) | st.integers(0, 2000) | st.tuples(st.integers(0, 3), st.integers(0, 3))
entries = st.dictionaries(keys, st.integers(0, 3), max_size=30)
changes = st.dictionaries(keys, st.integers(0, 3) | st.just(GONE), max_size=8)


def with_changes(before: Mapping[Any, Any], changed: Mapping[Any, Any]) -> dict[Any, Any]:
    """The same by a dict."""
    return {key: value for key, value in {**before, **changed}.items() if value is not GONE}


@given(entries, st.lists(changes, max_size=4))
def test_it_is_a_mapping_that_never_changes(start: dict[Any, Any], steps: list[Any]) -> None:
    known = [(Persistent(start), start)]
    for step in steps:
        mapping, model = known[-1]
        known.append((mapping.changed(step), with_changes(model, step)))
    for mapping, model in known:
        assert mapping == model
        assert model == mapping
        assert len(mapping) == len(model)
        assert dict(mapping.items()) == model
        assert sorted(mapping.values()) == sorted(model.values())
        assert set(mapping) == set(model)
        for key in range(6):
            assert mapping.get(key, "none") == model.get(key, "none")
            assert (key in mapping) is (key in model)
        assert mapping == Persistent(model)


@given(entries, changes, changes)
def test_the_difference_of_two_is_exact(start: Any, first: Any, second: Any) -> None:
    origin = Persistent(start)
    one, other = origin.changed(first), origin.changed(second)
    a, b = dict(one.items()), dict(other.items())
    expected = {key for key in {**a, **b} if a.get(key, GONE) != b.get(key, GONE)}
    for found in (differing(one, other), differing(a, other), differing(a, b)):
        assert len(found) == len(set(found))
        assert set(found) == expected
    assert have_same_keys(one, other) is (a.keys() == b.keys())
    assert (one == other) is (not expected)


def test_it_is_made_persistent_once() -> None:
    made = persistent({1: 2})
    assert persistent(made) is made
