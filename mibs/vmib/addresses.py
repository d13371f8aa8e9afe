"""IP addresses as parts of keys: the hash of each is found once.

Python's own write the address in hexadecimal whenever they are hashed (0.6 us), and a row is looked
up twenty times on its way into the kernel.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv6Address


class _Ipv4(IPv4Address):
    __slots__ = ("_hash",)

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash: int = super().__hash__()
            return self._hash


class _Ipv6(IPv6Address):
    __slots__ = ("_hash",)

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            self._hash: int = super().__hash__()
            return self._hash


def address(raw: bytes | str) -> IPv4Address | IPv6Address:
    """The address of octets or text; equal to what `ipaddress.ip_address` makes of it.

    Raises ValueError for what is no address.
    """
    try:
        return _Ipv4(raw)
    except AddressValueError:
        return _Ipv6(raw)
