"""The boundary between the protocol front ends and the agent: GET, GETNEXT and SET on OIDs.

A front end (stand-alone SNMP, AgentX) decodes PDUs, authenticates and authorises; everything
behind this Protocol is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from vmib.errors import VmibError
from vmib.smi import Oid, Raw
from vmib.status import ErrorStatus


class Value(NamedTuple):
    """A typed value: a BER tag (`vmib.smi.Tag`, or 0x40 for IpAddress, 0x44 for Opaque, 0x05 for
    Null) and its raw contents (int, bytes or sub-identifiers)."""

    tag: int
    raw: Raw


class VarBind(NamedTuple):
    """An instance and its value."""

    oid: Oid
    value: Value


class Missing(NamedTuple):
    """What a GET answers where there is no value (RFC 3416 section 4.2.1)."""

    instance: bool  # True for noSuchInstance, False for noSuchObject


class SetRefused(VmibError):
    """A SET that had no effect: error-status, error-index (from 1; 0 for the whole PDU), reason."""

    def __init__(self, status: ErrorStatus, index: int, reason: str) -> None:
        super().__init__(f"{status.name} at varbind {index}: {reason}")
        self.status = status
        self.index = index
        self.reason = reason


class PreparedSet(Protocol):
    """A SET that was found good and has had no effect yet (RFC 2741 section 7.2.4).

    `commit` comes at most once, `undo` at most once after it, and `release` at last.
    """

    def commit(self) -> None:
        """Carry it out; raises `SetRefused`, and then nothing has changed."""

    def undo(self) -> None:
        """Take back what `commit` has done, if it has; raises `SetRefused` (undoFailed)."""

    def release(self) -> None:
        """It is over."""


class MibService(Protocol):
    """What a front end asks of the agent. Never blocks for long; raises nothing else."""

    def get(self, oid: Oid) -> Value | Missing:
        """The value of one instance."""

    def get_next(self, oid: Oid) -> VarBind | None:
        """The first instance after this OID, or None at the end of the MIB view."""

    def prepare(self, varbinds: Sequence[VarBind], principal: str) -> PreparedSet:
        """The first half of `set`: everything is tested, nothing changes. Raises `SetRefused`."""

    def set(self, varbinds: Sequence[VarBind], principal: str) -> None:
        """All of the varbinds or none; `principal` is the securityName. Raises `SetRefused`."""
