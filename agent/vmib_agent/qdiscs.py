"""Queueing disciplines, classes and filters as plain data, and whose they are.

Every handle vMIB gives lies in a range of its own, so ours and foreign are told apart by the
handle alone:

- 76f0: to 76ff: are the stages of a direction, see `vmib_agent.shaping.STAGES`;
- 1000: to 3fff: are the netem leaves of links, 4000: to 6fff: their octet queues, only ever
  below one of the stages above.

Rates are octets per second of layer-2 octets (what tc counts), sizes octets, times microseconds,
probabilities parts per million.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

ROOT = 0xFFFF_FFFF
INGRESS_PARENT = 0xFFFF_FFF1
INGRESS_HANDLE = 0xFFFF_0000
INGRESS_FILTERS = 0xFFFF_FFF2

STAGE_MAJORS = range(0x76F0, 0x7700)
NETEM_LEAF_MAJORS = range(0x1000, 0x4000)
QUEUE_LEAF_MAJORS = range(0x4000, 0x7000)

UNLIMITED_RATE = 2**32 * 125
"""What an HTB class without a rate gets: one kbit/s more than the MIB can say (4.3 Tbit/s)."""


def handle(major: int) -> int:
    """The handle of a qdisc: its major number, minor 0."""
    return major << 16


def handle_text(number: int) -> str:
    """A handle as tc prints it: 76f2: or 76f3:1001."""
    minor = number & 0xFFFF
    return f"{number >> 16:x}:{minor:x}" if minor else f"{number >> 16:x}:"


def is_stage(number: int) -> bool:
    """Whether a qdisc handle is one of our stages."""
    return number >> 16 in STAGE_MAJORS and not number & 0xFFFF


def is_leaf(number: int) -> bool:
    """Whether a qdisc handle is one of our leaves, if one of our stages is above it."""
    return number >> 16 in NETEM_LEAF_MAJORS or number >> 16 in QUEUE_LEAF_MAJORS


@dataclass(frozen=True, slots=True)
class Tbf:
    """Token bucket filter, tc-tbf(8). `limit` is the size of its queue in octets."""

    rate: int
    burst: int
    limit: int


@dataclass(frozen=True, slots=True)
class Netem:
    """Delay and loss, tc-netem(8). `limit` is in packets; `distribution` as in the MIB."""

    limit: int
    delay: int = 0
    jitter: int = 0
    distribution: int = 1
    loss: int = 0
    loss_correlation: int = 0
    duplicate: int = 0
    corrupt: int = 0
    reorder: int = 0


@dataclass(frozen=True, slots=True)
class Htb:
    """Hierarchical token bucket, tc-htb(8); `default` is a class's minor number."""

    default: int


@dataclass(frozen=True, slots=True)
class Bfifo:
    """A queue of `limit` octets, tc-bfifo(8)."""

    limit: int


@dataclass(frozen=True, slots=True)
class Ingress:
    """The ingress hook of a device; `block` is its filter block's index, 0 for none."""

    block: int = 0


@dataclass(frozen=True, slots=True)
class Other:
    """A qdisc, or options of one, that vMIB never sets."""

    kind: str


Options = Tbf | Netem | Htb | Bfifo | Ingress | Other


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A qdisc of a device below `parent`: `ROOT`, or a class of another qdisc."""

    handle: int
    parent: int
    options: Options


@dataclass(frozen=True, slots=True)
class HtbClass:
    """A class right below its HTB qdisc, its ceiling equal to its rate."""

    classid: int
    rate: int
    burst: int
    quantum: int

    @property
    def parent(self) -> int:
        """The handle of the HTB qdisc."""
        return self.classid & 0xFFFF_0000


class Key(NamedTuple):
    """32 bits to compare: big-endian word at `offset` from the network header."""

    offset: int
    mask: int
    value: int


class HashOn(NamedTuple):
    """The table a rule leads to, and the bits of the packet that choose the bucket."""

    table: int
    offset: int
    mask: int


@dataclass(frozen=True, slots=True)
class Table:
    """A u32 hash table of 256 buckets, tc-u32(8); `number` is 1 to 0x7ff."""

    protocol: int
    number: int


@dataclass(frozen=True, slots=True)
class Rule:
    """A u32 rule. It ends at a class, leads on to a table, or redirects to a device.

    `table` 0 is the root table. In a bucket the rules are tried in the order of `node`. What a
    `copying` rule redirects is a copy, and the frame itself is let go at once.
    """

    protocol: int
    table: int
    bucket: int
    node: int
    keys: tuple[Key, ...] = ()
    classid: int = 0
    hash_on: HashOn | None = None
    redirect: int = 0
    copying: bool = False


Filter = Table | Rule


@dataclass(frozen=True, slots=True)
class Tree:
    """All of ours below the root of one device. Empty means: nothing of ours is there.

    Qdiscs come parents first, everything in canonical order, so equal trees compare equal.
    """

    qdiscs: tuple[Qdisc, ...] = ()
    classes: tuple[HtbClass, ...] = ()
    tables: tuple[Table, ...] = ()
    rules: tuple[Rule, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.qdiscs)


def _qdisc_order(qdisc: Qdisc) -> tuple[bool, int]:
    return not is_stage(qdisc.handle), qdisc.handle


def make_tree(
    qdiscs: Iterable[Qdisc],
    classes: Iterable[HtbClass] = (),
    tables: Iterable[Table] = (),
    rules: Iterable[Rule] = (),
) -> Tree:
    """A tree in canonical order.

    Tables that no rule leads to and that hold none are not part of it: the kernel refuses to
    delete a table for some milliseconds after the last rule that led to it is gone, so it stays,
    empty, until it is used again or its HTB goes.
    """
    ordered = sorted(rules, key=lambda item: (item.protocol, item.table, item.bucket, item.node))
    used = {(rule.protocol, rule.table) for rule in ordered}
    used |= {(rule.protocol, rule.hash_on.table) for rule in ordered if rule.hash_on}
    used_tables = (item for item in tables if (item.protocol, item.number) in used)
    return Tree(
        tuple(sorted(qdiscs, key=_qdisc_order)),
        tuple(sorted(classes, key=lambda item: item.classid)),
        tuple(sorted(used_tables, key=lambda item: (item.protocol, item.number))),
        tuple(ordered),
    )


EMPTY = Tree()
"""Nothing of ours."""
