"""AgentX protocol version 1 (RFC 2741): the PDUs, in Python.

`agentx_codec` turns them into octets and back. Field names are those of RFC 2741 section 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from vmib.smi import Oid

from .service import VarBind

NULL_OID: Oid = ()
"""The null Object Identifier (section 5.1): no value, as in an open end of a search range."""


class PduType(IntEnum):
    """h.type (section 6.1)."""

    OPEN = 1
    CLOSE = 2
    REGISTER = 3
    UNREGISTER = 4
    GET = 5
    GET_NEXT = 6
    GET_BULK = 7
    TEST_SET = 8
    COMMIT_SET = 9
    UNDO_SET = 10
    CLEANUP_SET = 11
    NOTIFY = 12
    PING = 13
    INDEX_ALLOCATE = 14
    INDEX_DEALLOCATE = 15
    ADD_AGENT_CAPS = 16
    REMOVE_AGENT_CAPS = 17
    RESPONSE = 18


class AgentxError(IntEnum):
    """res.error beyond the error-status values of SNMP (section 6.2.16)."""

    openFailed = 256
    notOpen = 257
    indexWrongType = 258
    indexAlreadyAllocated = 259
    indexNoneAvailable = 260
    indexNotAllocated = 261
    unsupportedContext = 262
    duplicateRegistration = 263
    unknownRegistration = 264
    unknownAgentCaps = 265
    parseError = 266
    requestDenied = 267
    processingError = 268


class CloseReason(IntEnum):
    """c.reason (section 6.2.2)."""

    other = 1
    parseError = 2
    protocolError = 3
    timeouts = 4
    shutdown = 5
    byManager = 6


class SearchRange(NamedTuple):
    """Where to look for an instance (section 5.2): from `start`, itself only if `include`, to
    before `end`; a null `end` is no bound."""

    start: Oid
    end: Oid = NULL_OID
    include: bool = False


@dataclass(frozen=True, slots=True)
class Open:
    """A subagent opens a session; `timeout` in seconds, 0 for the master's own."""

    timeout: int
    id: Oid
    description: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Either side ends a session."""

    reason: int


@dataclass(frozen=True, slots=True)
class Register:
    """A subtree is served here; with `range_subid`, so many of them, up to `upper_bound`."""

    subtree: Oid
    timeout: int = 0
    priority: int = 127
    range_subid: int = 0
    upper_bound: int = 0
    is_instance: bool = False


@dataclass(frozen=True, slots=True)
class Unregister:
    """A subtree is no longer served here."""

    subtree: Oid
    priority: int = 127
    range_subid: int = 0
    upper_bound: int = 0


@dataclass(frozen=True, slots=True)
class Get:
    """The values of the starts of search ranges."""

    ranges: tuple[SearchRange, ...]


@dataclass(frozen=True, slots=True)
class GetNext:
    """The first instance in each search range."""

    ranges: tuple[SearchRange, ...]


@dataclass(frozen=True, slots=True)
class GetBulk:
    """As the first `non_repeaters` of GetNext, and the others again and again."""

    non_repeaters: int
    max_repetitions: int
    ranges: tuple[SearchRange, ...]


@dataclass(frozen=True, slots=True)
class TestSet:
    """Could these be set? Nothing has an effect yet."""

    varbinds: tuple[VarBind, ...]


@dataclass(frozen=True, slots=True)
class CommitSet:
    """Set what was tested in this transaction."""


@dataclass(frozen=True, slots=True)
class UndoSet:
    """Take back what was set in this transaction."""


@dataclass(frozen=True, slots=True)
class CleanupSet:
    """The transaction is over; nothing is answered."""


@dataclass(frozen=True, slots=True)
class Notify:
    """A notification: sysUpTime.0 if known, snmpTrapOID.0, objects."""

    varbinds: tuple[VarBind, ...]


@dataclass(frozen=True, slots=True)
class Ping:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class IndexAllocate:
    """Reserve values of indexes: these, any, or ones that were never used."""

    varbinds: tuple[VarBind, ...]
    is_any: bool = False
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class IndexDeallocate:
    """Give reserved values of indexes back."""

    varbinds: tuple[VarBind, ...]


@dataclass(frozen=True, slots=True)
class AddAgentCaps:
    """A row for the master's sysORTable."""

    id: Oid
    description: bytes


@dataclass(frozen=True, slots=True)
class RemoveAgentCaps:
    """That row goes again."""

    id: Oid


@dataclass(frozen=True, slots=True)
class Response:
    """The answer. `sys_up_time` in hundredths of a second, from masters only; `error` an
    `ErrorStatus` or `AgentxError`; `index` counts varbinds from 1."""

    sys_up_time: int = 0
    error: int = 0
    index: int = 0
    varbinds: tuple[VarBind, ...] = ()


Body = (
    Open
    | Close
    | Register
    | Unregister
    | Get
    | GetNext
    | GetBulk
    | TestSet
    | CommitSet
    | UndoSet
    | CleanupSet
    | Notify
    | Ping
    | IndexAllocate
    | IndexDeallocate
    | AddAgentCaps
    | RemoveAgentCaps
    | Response
)


@dataclass(frozen=True, slots=True)
class Pdu:
    """A PDU: its body and what the header says. `context` is None for the default context;
    `network_order` is the byte order of every number in it."""

    body: Body
    session_id: int = 0
    transaction_id: int = 0
    packet_id: int = 0
    context: bytes | None = None
    network_order: bool = True


class Header(NamedTuple):
    """The first 20 octets of a PDU; `length` counts those that follow them."""

    type: int
    flags: int
    session_id: int
    transaction_id: int
    packet_id: int
    length: int
