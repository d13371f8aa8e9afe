"""What the kernel does now, in the units of the MIB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vmib_agent.classifier import Network, destination
from vmib_agent.qdiscs import (
    ROOT,
    UNLIMITED_RATE,
    Bfifo,
    HtbClass,
    Netem,
    Qdisc,
    Tbf,
    Tree,
    is_stage,
)
from vmib_agent.shaping import stage_name
from vmib_agent.tc import Counters


@dataclass(frozen=True, slots=True)
class Operational:
    """Values and counters of a shape or a link, read back; the default is: nothing is done.

    Units as in vmibShapeOperTable; `backlog` in octets and `backlog_packets` wait now.
    """

    rate: int = 0
    burst: int = 0
    queue_limit: int = 0
    delay: int = 0
    jitter: int = 0
    loss: int = 0
    duplicate: int = 0
    corrupt: int = 0
    reorder: int = 0
    octets: int = 0
    packets: int = 0
    drops: int = 0
    overlimits: int = 0
    backlog: int = 0
    backlog_packets: int = 0


def _operational(
    rate: tuple[int, int, int], netem: Netem | None, flow: Counters, drops: int, overlimits: int
) -> Operational:
    impairment = netem or Netem(0)
    kbps, burst, queue_limit = rate
    return Operational(
        rate=kbps,
        burst=burst,
        queue_limit=queue_limit,
        delay=impairment.delay,
        jitter=impairment.jitter,
        loss=impairment.loss,
        duplicate=impairment.duplicate,
        corrupt=impairment.corrupt,
        reorder=impairment.reorder,
        octets=flow.octets,
        packets=flow.packets,
        drops=drops,
        overlimits=overlimits,
        backlog=flow.backlog,
        backlog_packets=flow.qlen,
    )


def shape_operational(tree: Tree, counters: Mapping[int, Counters]) -> Operational:
    """A whole direction: `counters` by handle, of qdiscs and classes.

    Octets, packets, drops and backlog are those of the outermost stage, which also counts what is
    dropped below it; overlimits are those of the stage that limits the rate.
    """
    stages = {stage_name(item.handle): item for item in tree.qdiscs if is_stage(item.handle)}
    root = next((item for item in tree.qdiscs if item.parent == ROOT), None)
    if root is None:
        return Operational()
    rate, overlimits = (0, 0, 0), 0
    limiter = stages.get("rate")
    if limiter is not None and isinstance(limiter.options, Tbf):
        options = limiter.options
        rate = options.rate // 125, options.burst, options.limit
        overlimits = counters.get(limiter.handle, Counters()).overlimits
    netem = stages["netem"].options if "netem" in stages else None
    flow = counters.get(root.handle, Counters())
    return _operational(
        rate, netem if isinstance(netem, Netem) else None, flow, flow.drops, overlimits
    )


def _link(
    item: HtbClass, below: Mapping[int, Qdisc], counters: Mapping[int, Counters]
) -> Operational:
    leaf = below.get(item.classid)
    netem = leaf.options if leaf is not None and isinstance(leaf.options, Netem) else None
    queue = below.get(leaf.handle | 1) if leaf is not None and netem else leaf
    limit = queue.options.limit if queue is not None and isinstance(queue.options, Bfifo) else 0
    flow = counters.get(item.classid, Counters())
    # The class does not see what netem's queue refuses, netem sees that and its own losses.
    drops = (
        counters.get(leaf.handle, Counters()).drops if leaf is not None and netem else flow.drops
    )
    limited = item.rate != UNLIMITED_RATE
    rate = (item.rate // 125, item.burst, limit) if limited else (0, 0, limit)
    return _operational(rate, netem, flow, drops, flow.overlimits)


def link_operational(tree: Tree, counters: Mapping[int, Counters]) -> dict[Network, Operational]:
    """Every link of a direction, by its destination."""
    below = {item.parent: item for item in tree.qdiscs}
    classes = {item.classid: item for item in tree.classes}
    found: dict[Network, Operational] = {}
    for rule in tree.rules:
        network = destination(rule)
        if network is not None and rule.classid in classes:
            found[network] = _link(classes[rule.classid], below, counters)
    return found
