"""Addresses whose hash is found once: otherwise as Python's."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.addresses import address


@given(st.ip_addresses())
def test_an_address_is_that_of_python(known: IPv4Address | IPv6Address) -> None:
    for made in (address(known.packed), address(str(known))):
        assert made == known
        assert hash(made) == hash(known) == hash(made)
        assert {made: 1}[known] == {known: 1}[made] == 1
        assert str(made) == str(known)
        assert isinstance(made, type(known))
        assert not made < known


@pytest.mark.parametrize("raw", [b"", b"123", "1.2.3", "1.2.3.4/8", ":::"])
def test_what_is_no_address_is_refused_as_by_python(raw: bytes | str) -> None:
    for make in (address, ip_address):
        with pytest.raises(ValueError, match=r"."):
            make(raw)
