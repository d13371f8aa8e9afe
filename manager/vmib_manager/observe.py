"""Asking the agent of one host for everything that a picture of the running network shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vmib import objects
from vmib.schema import TABLES
from vmib.smi import Table

from .client import Agent
from .observation import OPER_FIELDS, PROBE_FIELDS, SHAPED, Answers, HostView, host_view
from .reading import read, read_oper, read_out_of_sync, read_scalars
from .seen import Key, Reading, Tables
from .transaction import view
from .wanted import WantedRow

_PROBES = "probes"
_TRIES = 3
"""Where somebody changes the configuration all the time, what was read last has to do."""


async def observe(
    host: str,
    agent: Agent,
    machines: Sequence[str],
    wanted: Sequence[WantedRow],
    known: Mapping[bytes, Tables],
) -> HostView:
    """How a host is, beside the machines and rows that it shall have.

    Rows are not walked where those of the host's digest are `known`. What the kernel does is read
    again where the configuration changed meanwhile. Raises what `read` raises.
    """
    for _ in range(_TRIES):
        reading = await read(agent, known=known)
        answers = await _answers(agent, reading)
        after = await read_scalars(agent)
        if after.generation == reading.scalars.generation:
            break
    return host_view(host, machines, wanted, answers)


async def _answers(agent: Agent, reading: Reading) -> Answers:
    scalars = reading.scalars
    has_probes = _PROBES in scalars.capabilities
    return Answers(
        reading=reading,
        transaction=await view(agent, scalars.transaction) if scalars.transaction else None,
        unsynced=tuple(await read_out_of_sync(agent)) if scalars.out_of_sync else (),
        oper={
            table: await _whole(agent, TABLES[of_kernel], OPER_FIELDS)
            for table, of_kernel in SHAPED.items()
        },
        probes=await _whole(agent, objects.vmibProbeTable, PROBE_FIELDS) if has_probes else {},
    )


async def _whole(agent: Agent, table: Table, fields: Collection[str]) -> dict[Key, dict[str, Any]]:
    """The rows of a table, without those that came or went while it was walked."""
    found = await read_oper(agent, table, fields)
    return {key: cells for key, cells in found.items() if len(cells) == len(fields)}
