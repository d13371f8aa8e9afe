"""From what is wanted of a direction to the queueing disciplines that do it.

One direction of one interface is a chain of stages, each the child of the one before::

    tbf (segmenter) -> netem -> tbf (rate) -> htb (links)

Stages that have nothing to do are left out, so a rate alone is one plain TBF. The segmenter, TBF
at 100 Gbit/s with a burst of one frame, breaks up the guest's segmentation offload where packets
are delayed or counted one by one: without it netem loses, and queues refuse, 64 kB at a time.

Below HTB there is one class per link and one, the default, for what no link matches. The leaf of a
class is a queue in octets, and netem before it where the link delays or loses.

Units are those of the MIB: kbit/s, octets, microseconds, parts per million; 0 means unlimited,
none or automatic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from vmib.errors import Unavailable, ValueRefused
from vmib.impairment import Impairment
from vmib_agent import distributions, psched
from vmib_agent.classifier import Network, compile_filters
from vmib_agent.qdiscs import (
    NETEM_LEAF_MAJORS,
    QUEUE_LEAF_MAJORS,
    ROOT,
    STAGE_MAJORS,
    UNLIMITED_RATE,
    Bfifo,
    Htb,
    HtbClass,
    Netem,
    Options,
    Qdisc,
    Rule,
    Table,
    Tbf,
    Tree,
    handle,
    make_tree,
)

ETHERNET_HEADER = 14
MOST_LINKS = 12281
"""Links of one direction; a prime just below the number of leaf handles."""
DEFAULT_CLASS = 0x1000
"""Minor number of the class for what no link matches; links have those above it."""

STAGES = (
    ("segmenter",),
    ("segmenter", "netem"),
    ("segmenter", "netem", "rate"),
    ("segmenter", "netem", "rate", "links"),
    ("segmenter", "netem", "links"),
    ("segmenter", "rate"),
    ("segmenter", "rate", "links"),
    ("segmenter", "links"),
    ("rate",),
)
"""The chains that occur. The place here, from 76f0:, is the handle of a chain's last stage.

A stage has another handle wherever it has other stages above it, because the kernel does not move
a qdisc from one parent to another.
"""

_BURST_TIME_US = 4_000
_LEAST_BURST = 5_000
_QUEUE_TIME_US = 50_000
_LEAST_QUEUE_FRAMES = 10
_ASSUMED_RATE = 10_000_000 * 125
"""Octets per second reckoned with where nothing limits the rate: 10 Gbit/s."""
_SEGMENTER_RATE = 100_000_000 * 125
_SEGMENTER_QUEUE = 10_000_000
_SMALL_FRAME = 60
_SMALL_FRAMES = 100_000
"""How many frames of the least size netem may be asked to hold beyond the full-sized ones."""
_LEAST_NETEM_LIMIT = 1000
_MOST_OCTETS = 0xFFFF_FFFF
_MOST_JITTER_US = 0x7FFF_FFFF // 1000
"""netem keeps the jitter in 31 bits of nanoseconds and cuts off what is more."""


def burst_of(wanted: Impairment, mtu: int) -> int:
    """The bucket in octets: as wanted, or 4 ms of the rate, 5000 octets and two frames at least.

    A smaller bucket loses tokens whenever the timer is late, a larger one exceeds the rate.
    """
    automatic = max(
        _LEAST_BURST,
        2 * (mtu + ETHERNET_HEADER),
        wanted.rate * 125 * _BURST_TIME_US // 1_000_000,
    )
    return wanted.burst or automatic


def queue_of(wanted: Impairment, mtu: int) -> int:
    """The queue in octets: as wanted, or 50 ms of the rate, ten full frames at least."""
    rate = wanted.rate * 125 or _ASSUMED_RATE
    least = _LEAST_QUEUE_FRAMES * (mtu + ETHERNET_HEADER)
    return wanted.queue_limit or min(max(rate * _QUEUE_TIME_US // 1_000_000, least), _MOST_OCTETS)


def netem_limit(wanted: Impairment, queues: int, mtu: int) -> int:
    """The packets netem may hold: so many that only the queues below it ever drop.

    That is twice the rate times the longest delay, and the `queues` octets below, which some
    kernels count as netem's own; in full frames always, in the smallest frames as far as 100 000
    packets go.
    """
    rate = wanted.rate * 125 or _ASSUMED_RATE
    longest_us = wanted.delay + 4 * wanted.jitter
    octets = 2 * rate * longest_us // 1_000_000 + queues
    full = -(-octets // (mtu + ETHERNET_HEADER))
    small = min(-(-octets // _SMALL_FRAME), _SMALL_FRAMES)
    return min(max(_LEAST_NETEM_LIMIT, full, small), _MOST_OCTETS)


def _with_queue(link: Impairment, shape: Impairment, mtu: int) -> Impairment:
    """A link with a queue of its own: one without a rate queues for the rate of the shape."""
    if link.rate or link.queue_limit:
        return link
    return replace(link, queue_limit=queue_of(shape, mtu))


def _check(wanted: Impairment, mtu: int, prefix: str) -> None:
    frame = mtu + ETHERNET_HEADER
    if wanted.burst and not wanted.rate and wanted.burst < frame:
        raise ValueRefused(f"{prefix}Burst", wanted.burst, f"{frame} (one frame) or more, or 0")
    if wanted.rate:
        most = psched.largest_burst(wanted.rate * 125)
        if not frame <= burst_of(wanted, mtu) <= most:
            allowed = f"{frame} (one frame) to {most} (274 s of the rate), or 0"
            raise ValueRefused(f"{prefix}Burst", wanted.burst, allowed)
    if wanted.queue_limit and wanted.queue_limit < frame:
        allowed = f"{frame} (one frame) or more, or 0"
        raise ValueRefused(f"{prefix}QueueLimit", wanted.queue_limit, allowed)
    if wanted.reorder and not wanted.delay:
        raise ValueRefused(f"{prefix}Reorder", wanted.reorder, f"0, while {prefix}Delay is 0")
    if wanted.jitter > min(wanted.delay, _MOST_JITTER_US):
        allowed = f"0 to {wanted.delay}, the delay, and {_MOST_JITTER_US} at most"
        raise ValueRefused(f"{prefix}Jitter", wanted.jitter, allowed)
    if wanted.distribution not in distributions.DISTRIBUTIONS:
        raise ValueRefused(f"{prefix}Distribution", wanted.distribution, "1 to 4")


def _check_duplicates(
    shape: Impairment, links: Iterable[Impairment], shape_prefix: str, link_prefix: str
) -> None:
    with_netem = [(shape, shape_prefix)] + [(link, link_prefix) for link in links]
    with_netem = [item for item in with_netem if item[0].needs_netem]
    duplicating = [prefix for wanted, prefix in with_netem if wanted.duplicate]
    if duplicating and len(with_netem) > 1:
        raise Unavailable(
            f"{duplicating[0]}Duplicate",
            "the kernel duplicates only where a direction has no other delay, loss, duplication,"
            " corruption or reordering, of the shape or of any link",
        )


def _netem(wanted: Impairment, queues: int, mtu: int) -> Netem:
    return Netem(
        limit=netem_limit(wanted, queues, mtu),
        delay=wanted.delay,
        jitter=wanted.jitter,
        distribution=wanted.distribution if wanted.jitter else distributions.UNIFORM,
        loss=wanted.loss,
        loss_correlation=wanted.loss_correlation if wanted.loss else 0,
        duplicate=wanted.duplicate,
        corrupt=wanted.corrupt,
        reorder=wanted.reorder,
    )


def _stages(
    shape: Impairment, links: Mapping[Network, Impairment], mtu: int
) -> list[tuple[str, Options]]:
    stages: list[tuple[str, Options]] = []
    if shape.needs_netem:
        below = (_with_queue(link, shape, mtu) for link in links.values())
        queues = queue_of(shape, mtu) + sum(queue_of(link, mtu) for link in below)
        stages.append(("netem", _netem(shape, queues, mtu)))
    if shape.rate:
        rate = shape.rate * 125
        burst = psched.tbf_burst(rate, burst_of(shape, mtu))
        stages.append(("rate", Tbf(rate, burst, queue_of(shape, mtu))))
    if links:
        stages.append(("links", Htb(DEFAULT_CLASS)))
    is_coarse = shape.rate and burst_of(shape, mtu) > queue_of(shape, mtu)
    if shape.needs_netem or links or is_coarse:
        burst = psched.tbf_burst(_SEGMENTER_RATE, mtu + ETHERNET_HEADER)
        stages.insert(0, ("segmenter", Tbf(_SEGMENTER_RATE, burst, _SEGMENTER_QUEUE)))
    return stages


def _chain(stages: list[tuple[str, Options]]) -> list[Qdisc]:
    chain: list[Qdisc] = []
    for depth, (_, options) in enumerate(stages, 1):
        names = tuple(name for name, _ in stages[:depth])
        own = handle(STAGE_MAJORS[STAGES.index(names)])
        chain.append(Qdisc(own, chain[-1].handle | 1 if chain else ROOT, options))
    return chain


def stage_name(number: int) -> str:
    """What the stage with this handle does: segmenter, netem, rate or links; "" for others."""
    place = (number >> 16) - STAGE_MAJORS.start
    return STAGES[place][-1] if 0 <= place < len(STAGES) else ""


def _link_numbers(links: Iterable[Network]) -> dict[Network, int]:
    """A number from 1 for every link, the same for the same link where that is possible."""
    numbers: dict[Network, int] = {}
    taken: set[int] = set()
    for link in sorted(links, key=lambda item: (item.version, item)):
        host_bits = link.max_prefixlen - link.prefixlen
        number = ((int(link.network_address) >> host_bits) + 977 * host_bits) % MOST_LINKS
        while number in taken:
            number = (number + 1) % MOST_LINKS
        taken.add(number)
        numbers[link] = number + 1
    return numbers


def _link_class(htb: int, number: int, wanted: Impairment, mtu: int) -> HtbClass:
    rate = wanted.rate * 125 or UNLIMITED_RATE
    octets = burst_of(wanted, mtu) if wanted.rate else rate * _BURST_TIME_US // 1_000_000
    burst = psched.htb_burst(rate, octets)
    return HtbClass(htb | (DEFAULT_CLASS + number), rate, burst, mtu + ETHERNET_HEADER)


def _leaf(classid: int, number: int, wanted: Impairment, mtu: int) -> list[Qdisc]:
    queue = handle(QUEUE_LEAF_MAJORS[number])
    limit = queue_of(wanted, mtu)
    if not wanted.needs_netem:
        return [Qdisc(queue, classid, Bfifo(limit))]
    netem = handle(NETEM_LEAF_MAJORS[number])
    return [
        Qdisc(netem, classid, _netem(wanted, limit, mtu)),
        Qdisc(queue, netem | 1, Bfifo(limit)),
    ]


def compile_tree(
    shape: Impairment,
    links: Mapping[Network, Impairment],
    mtu: int,
    *,
    shape_prefix: str = "vmibShape",
    link_prefix: str = "vmibLink",
) -> Tree:
    """The qdiscs, classes and filters of one direction; the empty tree if nothing is wanted.

    A link without a rate queues within the rate of the shape. Of several links the longest prefix
    wins; ARP and everything else that is not IP is in the default class.

    Raises `ValueRefused` for values that cannot be, naming the object by its prefix, and
    `Unavailable` for what the kernel does not combine.
    """
    _check(shape, mtu, shape_prefix)
    for wanted in links.values():
        _check(wanted, mtu, link_prefix)
    if len(links) > MOST_LINKS:
        raise Unavailable(link_prefix + "Table", f"more than {MOST_LINKS} links of one interface")
    _check_duplicates(shape, links.values(), shape_prefix, link_prefix)
    stages = _stages(shape, links, mtu)
    qdiscs = _chain(stages)
    if not links:
        return make_tree(qdiscs)
    htb = qdiscs[-1].handle
    rest = Impairment(queue_limit=queue_of(shape, mtu))
    classes = [_link_class(htb, 0, rest, mtu)]
    qdiscs += _leaf(classes[0].classid, 0, rest, mtu)
    class_of: dict[Network, int] = {}
    for link, number in _link_numbers(links).items():
        wanted = _with_queue(links[link], shape, mtu)
        classes.append(_link_class(htb, number, wanted, mtu))
        class_of[link] = classes[-1].classid
        qdiscs += _leaf(classes[-1].classid, number, wanted, mtu)
    filters = compile_filters(class_of)
    return make_tree(
        qdiscs,
        classes,
        [item for item in filters if isinstance(item, Table)],
        [item for item in filters if isinstance(item, Rule)],
    )
