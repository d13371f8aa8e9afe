"""Errors that carry facts: the object, the value, what is allowed, and the way out."""

from __future__ import annotations


class VmibError(Exception):
    """The base of every error that vMIB raises on purpose; `str()` is one line for people."""


class ValueRefused(VmibError):
    """A value that is not allowed.

    `name` is the object, attribute or option; `value` what was given; `allowed` a phrase such
    as "0 to 1000000 (parts per million)".
    """

    def __init__(self, name: str, value: object, allowed: str) -> None:
        super().__init__(f"{name}: {value!r} is not allowed; allowed: {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed


class Unavailable(VmibError):
    """Something this host cannot do (SNMP resourceUnavailable).

    `name` is the object that asks for it and `reason` says what is missing, in one phrase.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason
