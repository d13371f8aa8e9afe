"""What an agent remembers: the intent, the transactions, the numbers it has given out.

All of it is immutable data. A SET that is accepted makes a new `State`; an undo is the old one.
Times: `wall` is seconds since the epoch, for people and for the disk; `uptime` is seconds of
CLOCK_BOOTTIME, for deadlines.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vmib.rows import TxnErrorStage, TxnState
from vmib.smi import Oid

from . import persistent

Key = tuple[Any, ...]
Intent = Mapping[str, Mapping[Key, Any]]
"""Table name -> key -> row of `vmib.rows`: what managers have configured.

A discovered row (`vmib.schema.DISCOVERED`) stands here only while one of its columns differs
from the default.
"""

EMPTY: Intent = {}

LOCK_MODULUS = 2**31
"""vmibTxnSpinLock starts again from 0 after it has come to this."""


class Now(NamedTuple):
    """The time, given by the caller."""

    wall: float
    uptime: float


@dataclass(frozen=True, slots=True)
class TxnError:
    """A row of vmibTxnErrorTable."""

    object: Oid
    stage: TxnErrorStage
    message: str


@dataclass(frozen=True, slots=True)
class Transaction:
    """A row of vmibTxnTable, with what is staged in it.

    `candidate` is the whole intent as it will be, while the transaction is open. `before` is the
    intent to return to, while it awaits confirmation. `deadline` (uptime) and `wall_deadline` are
    when the running timeout acts, or None.
    """

    index: int
    owner: str
    state: TxnState
    confirm_timeout: int
    idle_timeout: int
    description: str
    opened: float
    closed: float | None = None
    changes: int = 0
    errors: tuple[TxnError, ...] = ()
    candidate: Intent | None = None
    before: Intent | None = None
    deadline: float | None = None
    wall_deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Indexes:
    """Numbers given to machines and interfaces, for ever.

    `vms` maps a UUID to its vmibVmIndex; `vifs` maps (UUID, MAC address) to its vmibVifIndex.
    """

    vms: Mapping[str, int] = field(default_factory=dict)
    vifs: Mapping[tuple[str, str], int] = field(default_factory=dict)
    next_vm: int = 1


NOTIFICATION_KINDS = frozenset(
    {"vifStatus", "drift", "applyFailed", "transaction", "agentMode", "threshold"}
)


@dataclass(frozen=True, slots=True)
class State:
    """Everything that survives a restart."""

    spin_lock: int
    intent: Intent = field(default_factory=dict)
    indexes: Indexes = field(default_factory=Indexes)
    generation: int = 0
    last_change: float | None = None
    last_change_by: str = ""
    current: Transaction | None = None
    history: tuple[Transaction, ...] = ()
    history_size: int = 100
    notify_enable: frozenset[str] = NOTIFICATION_KINDS
    notify_min_interval: int = 10


def have_same_keys(one: State, other: State) -> bool:
    """Whether two states have rows with the same keys in every table."""
    if _numbers(one) != _numbers(other):
        return False
    for table in {**one.intent, **other.intent}:
        if not persistent.have_same_keys(one.intent.get(table, {}), other.intent.get(table, {})):
            return False
    return True


def _numbers(state: State) -> list[tuple[int, int]]:
    """The rows of vmibTxnTable, and how many each has in vmibTxnErrorTable."""
    transactions = [*state.history, *([state.current] if state.current else [])]
    return [(txn.index, len(txn.errors)) for txn in transactions]
