"""A view of a watched network, and what happens in it, as JSON documents. Pure.

Versioned as those of `documents`. Rates are in kbit/s, times in microseconds, probabilities in
parts per million, sizes in octets; `text` is an impairment as people read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from vmib.impairment import Impairment

from .documents import Document, host_status
from .graph import GraphSite
from .happenings import Happening, sentence
from .network_view import NetworkView, Problem
from .observation import Flow, FlowKey, Probe
from .status import READ_BACK
from .topology import impairment_label


def network(view: NetworkView, interval: float, history: Sequence[Happening] = ()) -> Document:
    """All hosts at one moment, and what has happened before."""
    graph = view.graph
    return {
        "schema": "vmib.network/1",
        "number": view.number,
        "taken": _time(view.taken),
        "interval": interval,
        "title": graph.title,
        "worst": None if view.worst is None else view.worst.value,
        "problems": [problem(each) for each in view.problems],
        "hosts": {
            name: {**host_status(host.status), "reading": host.reading}
            for name, host in view.hosts.items()
        },
        "sites": [_site(each) for each in graph.sites],
        "routers": list(graph.routers),
        "links": list(_links(view)),
        "flows": [_flow(view, each) for each in view.flows],
        "probes": [
            _probe(view, name, each) for name, host in view.hosts.items() for each in host.probes
        ],
        "history": [happening(each) for each in history],
    }


def trends(view: NetworkView, found: Mapping[FlowKey, Iterable[int | None]]) -> Document:
    """How fast it went at the last readings of each host, None where nothing was to be learnt.

    A trend ends with the `reading` of its host.
    """
    return {
        "schema": "vmib.trends/1",
        "readings": {name: host.reading for name, host in view.hosts.items()},
        "trends": [
            {"host": host, "table": table, "index": index, "rates": list(rates)}
            for (host, table, index), rates in found.items()
        ],
    }


def _time(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def problem(found: Problem) -> Document:
    """One thing that is wrong."""
    return {
        "trouble": found.trouble.value,
        "severity": found.severity.value,
        "host": found.host,
        "subject": found.subject,
        "text": sentence(found),
        "since": None if found.since is None else _time(found.since),
        "seconds_left": found.seconds_left or None,
    }


def happening(found: Happening) -> Document:
    """One thing that has happened."""
    return {
        "schema": "vmib.happening/1",
        "at": _time(found.at),
        "what": found.what.value,
        "host": found.host,
        "subject": found.subject,
        "text": found.text,
        "severity": None if found.severity is None else found.severity.value,
    }


def _site(site: GraphSite) -> Document:
    machines = [{**asdict(each), "state": each.state.value} for each in site.machines]
    return {"name": site.name, "subnet": site.subnet, "machines": machines}


def _links(view: NetworkView) -> Iterator[Document]:
    for link, load in zip(view.graph.links, view.loads, strict=True):
        yield {
            "a": link.a,
            "b": link.b,
            "label": link.label,
            "state": link.state.value,
            "forth": None if load is None else load.forth,
            "back": None if load is None else load.back,
        }


def _flow(view: NetworkView, flow: Flow) -> Document:
    answers = view.hosts[flow.host].answers
    counters = flow.counters if answers else None
    direction = flow.direction
    return {
        "host": flow.host,
        "table": flow.table,
        "index": flow.index,
        "subject": flow.subject,
        "machine": flow.machine,
        "vif": flow.vif,
        "direction": None if direction is None else direction.name,
        "dest": None if flow.dest is None else str(flow.dest),
        "peer": None if flow.dest is None else view.plan.peers.get(flow.dest),
        "answers": answers,
        "sync": None if flow.sync is None else flow.sync.name,
        "reason": flow.reason,
        "as_described": flow.as_described,
        "described": _impairment(flow.described),
        "configured": _impairment(flow.configured),
        "actual": _impairment(flow.actual) if answers else None,
        "mechanism": flow.mechanism,
        "counters": None if counters is None else asdict(counters),
    }


def _impairment(found: Impairment | None) -> Document | None:
    if found is None:
        return None
    values = {name: getattr(found, name) for name in READ_BACK}
    return {**values, "text": impairment_label(found)}


def _probe(view: NetworkView, host: str, probe: Probe) -> Document:
    values = asdict(probe)
    del values["key"]
    described = view.plan.round_trips.get((probe.machine, probe.vif, probe.key.dest))
    return {
        "host": host,
        **values,
        "dest": str(probe.key.dest),
        "peer": view.plan.peers.get(probe.key.dest),
        "round_trip_described": described,
    }
