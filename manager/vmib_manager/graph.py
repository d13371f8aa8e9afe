"""The picture of a virtual network: sites, machines, routers and links, coloured by state.

A `Graph` is plain data; each format is a pure function of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from vmib.errors import ValueRefused

from .graph_model import Graph, GraphLink, GraphMachine, GraphSite, NodeState
from .graph_svg import svg

__all__ = [
    "Graph",
    "GraphLink",
    "GraphMachine",
    "GraphSite",
    "NodeState",
    "FORMATS",
    "render",
    "svg",
    "dot",
]

_DOT_COLOURS = {
    NodeState.PLANNED: "gray40",
    NodeState.IN_SYNC: "forestgreen",
    NodeState.WAITING: "gray60",
    NodeState.DRIFTED: "darkorange",
    NodeState.FAILED: "red",
    NodeState.SILENT: "mediumvioletred",
    NodeState.DIFFERENT: "dodgerblue",
}


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def dot(graph: Graph) -> str:
    """The picture for Graphviz."""
    lines = [f"graph {_quoted(graph.title)} {{", "  node [shape=box, style=rounded];"]
    for number, site in enumerate(graph.sites):
        label = f"{site.name} {site.subnet}"
        lines += [f"  subgraph cluster_{number} {{", f"    label={_quoted(label)};"]
        for machine in site.machines:
            text = "\\n".join(
                part.replace("\\", "\\\\").replace('"', '\\"')
                for part in (machine.name, machine.address, machine.host)
            )
            colour = _DOT_COLOURS[machine.state]
            width = 3 if machine.gateway else 1
            lines.append(
                f'    {_quoted(machine.name)} [label="{text}", color={colour}, penwidth={width}];'
            )
        lines.append("  }")
    lines += [f"  {_quoted(router)} [shape=circle];" for router in graph.routers]
    for link in graph.links:
        attributes = f"label={_quoted(link.label)}, color={_DOT_COLOURS[link.state]}"
        lines.append(f"  {_quoted(link.a)} -- {_quoted(link.b)} [{attributes}];")
    return "\n".join([*lines, "}", ""])


_WRITERS: Mapping[str, Callable[[Graph], str]] = {"svg": svg, "dot": dot}

FORMATS = tuple(_WRITERS)
"""The formats of a picture."""


def render(graph: Graph, form: str) -> str:
    """The picture in one of `FORMATS`; raises ValueRefused for another."""
    if form not in _WRITERS:
        raise ValueRefused("format of a picture", form, " or ".join(FORMATS))
    return _WRITERS[form](graph)
