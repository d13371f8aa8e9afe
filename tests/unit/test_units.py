"""Quantities: what people write becomes exactly one number, or is refused with the reason."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib import units
from vmib.errors import ValueRefused
from vmib.units import Quantity

U32 = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize(
    ("quantity", "text", "number"),
    [
        (units.RATE, "1Mbit", 1000),
        (units.RATE, "512kbit", 512),
        (units.RATE, "512 kbit/s", 512),
        (units.RATE, "1.5Gbit", 1_500_000),
        (units.RATE, "1000bit", 1),
        (units.RATE, "unlimited", 0),
        (units.TIME, "20ms", 20_000),
        (units.TIME, "250us", 250),
        (units.TIME, "1.5s", 1_500_000),
        (units.TIME, "0ms", 0),
        (units.PROBABILITY, "0.5%", 5000),
        (units.PROBABILITY, "100%", 1_000_000),
        (units.SIZE, "5000B", 5000),
        (units.SIZE, "15kB", 15_000),
        (units.SIZE, "1KiB", 1024),
        (units.SIZE, "1MB", 1_000_000),
        (units.SIZE, "auto", 0),
    ],
)
def test_a_quantity_is_the_number_of_the_mib(quantity: Quantity, text: str, number: int) -> None:
    assert quantity.parse(text, "x") == number


@pytest.mark.parametrize(
    ("quantity", "text", "reason"),
    [
        (units.RATE, "1Mbps", "bits or bytes"),
        (units.RATE, "1MB", "bits or bytes"),
        (units.RATE, "1M", "'1.5Mbit'"),
        (units.RATE, "1mbit", "case counts: 'Mbit', not 'mbit'"),
        (units.RATE, "1MBit", "case counts: 'Mbit', not 'MBit'"),
        (units.RATE, "1Mbit/S", "'1.5Mbit'"),
        (units.RATE, "1.5kbit", "whole number of kbit/s"),
        (units.RATE, "100bit", "whole number of kbit/s"),
        (units.RATE, "5Tbit", "at most 4294967295kbit"),
        (units.RATE, "0kbit", "unlimited"),
        (units.RATE, "-1Mbit", "'1.5Mbit'"),
        (units.RATE, "1e3kbit", "'1.5Mbit'"),
        (units.RATE, "\u0661Mbit", "'1.5Mbit'"),
        (units.TIME, "20", "unit is missing"),
        (units.TIME, "20m", "'20ms'"),
        (units.TIME, "20MS", "case counts: 'ms'"),
        (units.TIME, "1.5us", "whole number of microseconds"),
        (units.TIME, "2h", "'h' is no unit of time"),
        (units.PROBABILITY, "101%", "at most 100%"),
        (units.PROBABILITY, "0.5", "unit is missing"),
        (units.PROBABILITY, "0.00001%", "parts per million"),
        (units.SIZE, "1K", "KiB (1024)"),
        (units.SIZE, "1.5B", "whole number of octets"),
        (units.SIZE, "0B", "auto"),
        (units.SIZE, "15KB", "case counts: 'kB', not 'KB'"),
    ],
)
def test_what_is_ambiguous_or_inexact_is_refused_with_the_reason(
    quantity: Quantity, text: str, reason: str
) -> None:
    with pytest.raises(ValueRefused) as refused:
        quantity.parse(text, "attribute")
    assert reason in refused.value.allowed
    assert refused.value.name == "attribute"
    assert refused.value.value == text


@pytest.mark.parametrize(
    ("quantity", "number", "text"),
    [
        (units.RATE, 0, "unlimited"),
        (units.RATE, 1000, "1Mbit"),
        (units.RATE, 1500, "1.5Mbit"),
        (units.RATE, 500, "500kbit"),
        (units.RATE, 1_000_000, "1Gbit"),
        (units.TIME, 0, "0s"),
        (units.TIME, 20_000, "20ms"),
        (units.TIME, 1_500_000, "1.5s"),
        (units.PROBABILITY, 5000, "0.5%"),
        (units.PROBABILITY, 1, "0.0001%"),
        (units.SIZE, 5000, "5kB"),
        (units.SIZE, 1024, "1KiB"),
        (units.SIZE, 1514, "1514B"),
    ],
)
def test_the_shortest_exact_text_is_chosen(quantity: Quantity, number: int, text: str) -> None:
    assert quantity.format(number) == text


@given(U32)
def test_rates_times_and_sizes_come_back_as_they_went(number: int) -> None:
    assert units.parse_rate(units.format_rate(number)) == number
    assert units.parse_time(units.format_time(number)) == number
    assert units.parse_size(units.format_size(number)) == number


@given(st.integers(0, 1_000_000))
def test_probabilities_come_back_as_they_went(ppm: int) -> None:
    assert units.parse_probability(units.format_probability(ppm)) == ppm


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_refused(text: str) -> None:
    for quantity in (units.RATE, units.TIME, units.PROBABILITY, units.SIZE):
        with suppress(ValueRefused):
            number = quantity.parse(text, "x")
            assert quantity.parse(quantity.format(number), "x") == number
