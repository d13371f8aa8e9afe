"""What options take: numbers of seconds, texts, endpoints. Each raises ArgumentTypeError."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from ipaddress import ip_address

from vmib import units
from vmib.errors import ValueRefused

LOOPBACK, PORT = "127.0.0.1", 8161
"""Where `vmib serve` serves unless told otherwise."""

_BRACKETS = re.compile(r"\[([^]]*)\](?::([0-9]{1,5}))?")
_PLAIN = re.compile(r"([^:]*)(?::([0-9]{1,5}))?|.*:.*:.*")


def seconds(text: str, least: float = 0.0) -> float:
    """More than nothing, and at least `least`, up to an hour."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not least <= value <= 3600 or value == 0:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds from {least:g} to 3600")
    return value


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A whole number in this range."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not low <= int(text) <= high:
            raise ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
        return int(text)

    return parse


def share(text: str) -> int:
    """A percentage, as parts per million."""
    try:
        return units.parse_probability(text, "share")
    except ValueRefused as refused:
        raise ArgumentTypeError(f"{text!r} is not {refused.allowed}") from None


def duration(text: str) -> int:
    """A time with its unit, as microseconds."""
    try:
        return units.parse_time(text, "time")
    except ValueRefused as refused:
        raise ArgumentTypeError(f"{text!r} is not {refused.allowed}") from None


def description(text: str) -> str:
    """What fits into vmibTxnDescription."""
    if len(text.encode()) > 255:
        raise ArgumentTypeError("longer than 255 octets")
    return text


def endpoint(text: str) -> tuple[str, int]:
    """ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT."""
    matched = _BRACKETS.fullmatch(text) or _PLAIN.fullmatch(text)
    address, port = matched.groups() if matched else (None, None)
    try:
        found, number = ip_address(text if address is None else address), int(port or PORT)
    except ValueError:
        number = -1
    if not 0 <= number <= 65535:
        raise ArgumentTypeError(
            f"{text!r} is not an IP address, with or without a port, such as "
            f"{LOOPBACK}:{PORT} or [::1]:{PORT}"
        )
    return str(found), number
