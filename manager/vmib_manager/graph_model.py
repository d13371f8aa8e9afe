"""What is in the picture of a virtual network: plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class NodeState(Enum):
    """How a machine or a link compares with what is wanted of it."""

    PLANNED = "planned"
    IN_SYNC = "inSync"
    WAITING = "waiting"
    DRIFTED = "drifted"
    FAILED = "failed"
    SILENT = "silent"
    DIFFERENT = "different"

    @property
    def words(self) -> str:
        """The state as people read it."""
        return _WORDS.get(self, self.value)


_WORDS = {
    NodeState.IN_SYNC: "in sync",
    NodeState.SILENT: "unreachable",
    NodeState.DIFFERENT: "not as described",
}


@dataclass(frozen=True, slots=True)
class GraphMachine:
    """A machine of a site; a gateway stands at the border of its site."""

    name: str
    host: str
    address: str = ""
    gateway: bool = False
    state: NodeState = NodeState.PLANNED


@dataclass(frozen=True, slots=True)
class GraphSite:
    """A site with its members in the order of the file."""

    name: str
    subnet: str
    machines: tuple[GraphMachine, ...]


@dataclass(frozen=True, slots=True)
class GraphLink:
    """A link between two machines, two routers, or one of each.

    The label says what it does, `forth` and `back` what passes it now, where that is known.
    """

    a: str
    b: str
    label: str
    state: NodeState = NodeState.PLANNED
    forth: str = ""
    back: str = ""


@dataclass(frozen=True, slots=True)
class Graph:
    """Everything in the picture, and of hosts that could not be asked the reason."""

    title: str
    sites: tuple[GraphSite, ...]
    routers: tuple[str, ...]
    links: tuple[GraphLink, ...]
    unreachable: Mapping[str, str] = field(default_factory=dict)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that machines live on, by name: host2 before host10."""
        found = {machine.host for site in self.sites for machine in site.machines}
        return tuple(sorted(found, key=_natural))


def _natural(name: str) -> list[tuple[str, int]]:
    """What names with numbers in them are sorted by."""
    parts = re.findall(r"(\D*)(\d*)", name)
    return [(text, int(number or 0)) for text, number in parts]
