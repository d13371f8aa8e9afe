"""Transactions that somebody has left: confirming them, or taking them back."""

from __future__ import annotations

from dataclasses import dataclass

from vmib import objects, rows

from .client import Agent, SnmpError
from .reading import decoded, read_scalars
from .staging import action, locked
from .transaction import view


@dataclass(frozen=True, slots=True)
class Ended:
    """What was done to a host's transaction.

    `transaction` is 0 and `state` None where there was nothing to do; `error` says why it failed.
    """

    transaction: int
    state: rows.TxnState | None
    error: str = ""


async def confirm(agent: Agent) -> Ended:
    """Make a commit final that awaits confirmation; an open transaction is left alone."""
    return await _end(agent, rows.TxnAction.confirm, {rows.TxnState.awaitingConfirm})


async def abort(agent: Agent) -> Ended:
    """Take back a transaction, open or awaiting confirmation."""
    states = {
        rows.TxnState.open,
        rows.TxnState.valid,
        rows.TxnState.invalid,
        rows.TxnState.awaitingConfirm,
    }
    return await _end(agent, rows.TxnAction.abort, states)


async def _end(agent: Agent, step: rows.TxnAction, states: set[rows.TxnState]) -> Ended:
    scalars = await read_scalars(agent)
    if not scalars.transaction:
        return Ended(0, None)
    found = await view(agent, scalars.transaction)
    if found is None or found.state not in states:
        return Ended(0, None)
    try:
        await agent.set([locked(scalars.spin_lock), action(found.index, step)])
    except SnmpError as error:
        return Ended(found.index, found.state, f"transaction of {found.owner}: {error}")
    ((_, value),) = await agent.get([(*objects.vmibTxnState.oid, found.index)])
    state = None if value.is_exception else decoded(objects.vmibTxnState, value)
    return Ended(found.index, state)
