"""From destinations to u32 rules: the longest prefix wins, at a cost that stays flat.

One filter per family holds everything. In its root table every prefix length has 16 nodes, the
longest length first: few destinations of one length stand there as plain rules; many go, through
one rule, into hash tables of 256 buckets. A table that finds nothing returns to the rule after it
(tc-u32(8)), which is the next shorter length.

A table hashes on the octet that tells its destinations apart best, and a bucket that is still
crowded leads to a further table. Numbers of tables and nodes come from what they hold, not from
their position, so that one destination more changes little else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from zlib import crc32

from vmib_agent.qdiscs import Filter, HashOn, Key, Rule, Table

Network = IPv4Network | IPv6Network

_CROWD = 8
"""More destinations than this in one bucket are worth a table."""
_NODES_PER_LENGTH = 16
_MOST_TABLES = 0x7FF
_MOST_NESTED = 6
"""The kernel allows eight tables within each other (TC_U32_MAXDEPTH)."""

_PROTOCOLS = {4: 0x0800, 6: 0x86DD}
_DESTINATION_OFFSETS = {0x0800: 16, 0x86DD: 24}
_WORDS = {0x0800: 1, 0x86DD: 4}


class _Numbers:
    """Numbers from a range, for names: the same name gets the same number where it can."""

    def __init__(self, first: int, count: int) -> None:
        self._first = first
        self._count = count
        self._taken: set[int] = set()

    @property
    def left(self) -> int:
        return self._count - len(self._taken)

    def take(self, name: Hashable) -> int:
        number = crc32(repr(name).encode()) % self._count
        while number in self._taken:
            number = (number + 1) % self._count
        self._taken.add(number)
        return self._first + number


def _keys(network: Network) -> tuple[Key, ...]:
    protocol = _PROTOCOLS[network.version]
    mask, value = network.netmask.packed, network.network_address.packed
    words = [
        (
            _DESTINATION_OFFSETS[protocol] + 4 * index,
            int.from_bytes(mask[4 * index : 4 * index + 4], "big"),
            int.from_bytes(value[4 * index : 4 * index + 4], "big"),
        )
        for index in range(_WORDS[protocol])
    ]
    return tuple(Key(*word) for word in words if word[1])


def _best_octet(networks: Iterable[Network]) -> int:
    """The octet whose fullest bucket is least full; the later one if several are."""
    counts: list[dict[int, int]] = [defaultdict(int) for _ in range(16)]
    width = 0
    for network in networks:
        packed = network.network_address.packed
        width = len(packed)
        for index, octet in enumerate(packed):
            counts[index][octet] += 1
    return min(range(width), key=lambda index: (max(counts[index].values()), -index))


class _Builder:
    """Collects the tables and rules of one family."""

    def __init__(self, protocol: int) -> None:
        self.protocol = protocol
        self.filters: list[Filter] = []
        self._tables = _Numbers(1, _MOST_TABLES)

    def add_length(self, length: int, classes: Mapping[Network, int]) -> None:
        """All destinations of one prefix length, into the root table."""
        first = (128 - length) * _NODES_PER_LENGTH + 1
        nodes = _Numbers(first, _NODES_PER_LENGTH - 1)
        self._fill(0, 0, nodes, classes, (length,))

    def _fill(
        self,
        table: int,
        bucket: int,
        nodes: _Numbers,
        classes: Mapping[Network, int],
        path: tuple[int, ...],
    ) -> None:
        if len(classes) > _CROWD and self._tables.left and len(path) <= 2 * _MOST_NESTED:
            octet = _best_octet(classes)
            buckets: dict[int, dict[Network, int]] = defaultdict(dict)
            for network, classid in classes.items():
                buckets[network.network_address.packed[octet]][network] = classid
            if len(buckets) > 1:
                self._add_table(table, bucket, nodes, octet, buckets, path)
                return
        self.filters += [
            Rule(self.protocol, table, bucket, nodes.take(network), _keys(network), classid)
            for network, classid in sorted(classes.items())
        ]

    def _add_table(
        self,
        table: int,
        bucket: int,
        nodes: _Numbers,
        octet: int,
        buckets: Mapping[int, Mapping[Network, int]],
        path: tuple[int, ...],
    ) -> None:
        number = self._tables.take((*path, octet))
        offset = _DESTINATION_OFFSETS[self.protocol] + octet // 4 * 4
        mask = 0xFF << 8 * (3 - octet % 4)
        node = nodes.take("table")
        hash_on = HashOn(number, offset, mask)
        self.filters.append(Table(self.protocol, number))
        self.filters.append(Rule(self.protocol, table, bucket, node, hash_on=hash_on))
        for value, classes in sorted(buckets.items()):
            self._fill(number, value, _Numbers(1, 0xFFE), classes, (*path, octet, value))


def compile_filters(classes: Mapping[Network, int]) -> list[Filter]:
    """Tables and rules which give every packet the class of its destination's longest prefix.

    `classes` gives the class (as tcm_handle) of each destination. What matches none, and what is
    neither IPv4 nor IPv6, gets no class from these rules.
    """
    lengths: dict[tuple[int, int], dict[Network, int]] = defaultdict(dict)
    for network, classid in classes.items():
        lengths[_PROTOCOLS[network.version], network.prefixlen][network] = classid
    builders = {protocol: _Builder(protocol) for protocol, _ in lengths}
    for (protocol, length), members in sorted(lengths.items(), reverse=True):
        builders[protocol].add_length(length, members)
    return [item for builder in builders.values() for item in builder.filters]


def destination(rule: Rule) -> Network | None:
    """The destination a rule stands for, or None if it only leads on or is not of this module."""
    if not rule.classid or rule.protocol not in _DESTINATION_OFFSETS:
        return None
    first = _DESTINATION_OFFSETS[rule.protocol]
    words = _WORDS[rule.protocol]
    mask = value = 0
    for key in rule.keys:
        index, rest = divmod(key.offset - first, 4)
        if rest or not 0 <= index < words:
            return None
        mask |= key.mask << 32 * (words - 1 - index)
        value |= key.value << 32 * (words - 1 - index)
    bits = 32 * words
    length = mask.bit_count()
    if mask != ((1 << length) - 1) << (bits - length) or value & ~mask:
        return None
    if words == 1:
        return IPv4Network((IPv4Address(value), length))
    return IPv6Network((IPv6Address(value), length))
