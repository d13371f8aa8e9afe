"""What the plug-in asks an agent: single objects and columns, and what it says of other versions.

An agent that is older or newer than the plug-in is used as long as both understand each other;
where they do not, the error says which of the two is the older one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vmib import __version__, objects
from vmib.errors import VmibError
from vmib.rows import VifKey
from vmib.smi import Column, Scalar, Table
from vmib.snmp import Oid, Value, ber

from .client import Agent
from .reading import Undecodable, decoded

_VERSION = objects.vmibHostAgentVersion
_MANY = 8


class OtherVersion(VmibError):
    """An agent that lacks what the plug-in asks for, or says what the plug-in does not know."""


class NotThere(VmibError):
    """A machine, interface or row that the agent does not know."""


@dataclass(frozen=True, slots=True)
class Vif:
    """An interface by name, as `alice:0`, and its key."""

    name: str
    key: VifKey


class Source:
    """One agent. All methods raise an AgentError, OtherVersion and NotThere."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.version = ""
        """vmibHostAgentVersion, as soon as anything was asked."""

    async def scalars(self, *scalars: Scalar) -> list[Any]:
        """Their values."""
        return await self._get([(scalar, (0,)) for scalar in scalars], needed=True)

    async def row(self, key: Sequence[Any], *columns: tuple[Table, str]) -> list[Any]:
        """Cells of tables with one index; None where the row is not there."""
        cells = [(table.column(field), _index(table).encode_index(key)) for table, field in columns]
        return await self._get(cells, needed=False)

    async def column(self, column: Column, prefix: Oid = ()) -> dict[Oid, Any]:
        """A column by what follows `prefix` in the index."""
        root = (*column.oid, *prefix)
        (found,) = await self.agent.walk(root)
        return {oid[len(root) :]: self._decoded(column, value) for oid, value in found}

    async def machine(self, name: str) -> int:
        """vmibVmIndex of a machine."""
        found = await self.column(objects.vmibVmName)
        for suffix, known in found.items():
            if known == name:
                return suffix[0]
        raise NotThere(f"{self._who} has no machine {name}, but {_listed(found.values())}")

    async def vif(self, machine: str, number: int) -> Vif:
        """An interface of a machine."""
        table = objects.vmibVifLookupTable
        vm, vif = await self.row((machine, number), (table, "vm_index"), (table, "vif_index"))
        if vm is not None and vif is not None:
            return Vif(f"{machine}:{number}", VifKey(vm, vif))
        index = await self.machine(machine)
        numbers = await self.column(objects.vmibVifNumber, (index,))
        there = _listed(str(each) for each in numbers.values() if each >= 0)
        raise NotThere(f"{self._who}: machine {machine} has no interface {number}, but {there}")

    @property
    def _who(self) -> str:
        return f"agent {self.agent.name}"

    async def _get(self, cells: Sequence[tuple[Column | Scalar, Oid]], needed: bool) -> list[Any]:
        oids = [(*leaf.oid, *suffix) for leaf, suffix in cells]
        version, *reply = await self.agent.get([(*_VERSION.oid, 0), *oids])
        if version.value.is_exception:
            raise OtherVersion(f"{self._who} has no {_VERSION.name}: it is no agent of VMIB-MIB")
        self.version = self._decoded(_VERSION, version.value)
        found = []
        for (leaf, _), varbind in zip(cells, reply, strict=True):
            tag = varbind.value.tag
            if tag == ber.NO_SUCH_OBJECT or (needed and varbind.value.is_exception):
                raise self._other(f"has no {leaf.name}")
            there = not varbind.value.is_exception
            found.append(self._decoded(leaf, varbind.value) if there else None)
        return found

    def _decoded(self, leaf: Column | Scalar, value: Value) -> Any:
        try:
            return decoded(leaf, value)
        except Undecodable as error:
            raise self._other(f"says what cannot be understood: {error}") from None

    def _other(self, what: str) -> OtherVersion:
        problem = f"{self._who} {what}"
        agent, own = _numbers(self.version), _numbers(__version__)
        if agent < own:
            way_out = f"older than check_vmib {__version__}; upgrade the agent"
        elif agent > own:
            way_out = f"newer than check_vmib {__version__}; upgrade check_vmib"
        else:
            return OtherVersion(f"{problem}, though its version is that of check_vmib")
        return OtherVersion(f"{problem}; it is version {self.version or 'unknown'}, {way_out}")


def _index(table: Table) -> Table:
    augmented = {made.name: made for made in objects.TABLES}.get(table.augments or "")
    return augmented or table


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _listed(names: Any) -> str:
    found = sorted(names)
    more = f" and {len(found) - _MANY} more" if len(found) > _MANY else ""
    return (", ".join(found[:_MANY]) or "none") + more
