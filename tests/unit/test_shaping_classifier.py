"""The classifier, run as the kernel runs u32, against the definition of longest prefix."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st

from vmib_agent.classifier import compile_filters, destination
from vmib_agent.qdiscs import Rule, Table

OFFSETS = {0x0800: 16, 0x86DD: 24}
PROTOCOLS = {4: 0x0800, 6: 0x86DD}


class U32:
    """cls_u32's u32_classify, for rules without offsets; counts the rules it looks at."""

    def __init__(self, filters) -> None:
        self.buckets: dict[tuple[int, int, int], list[Rule]] = {}
        self.tables = {(item.protocol, item.number) for item in filters if isinstance(item, Table)}
        self.looked_at = 0
        rules = [item for item in filters if isinstance(item, Rule)]
        for rule in sorted(rules, key=lambda rule: rule.node):
            assert 0 < rule.node < 0xFFF
            assert not rule.table or (rule.protocol, rule.table) in self.tables
            self.buckets.setdefault((rule.protocol, rule.table, rule.bucket), []).append(rule)
        identities = {(rule.protocol, rule.table, rule.bucket, rule.node) for rule in rules}
        assert len(identities) == len(rules)

    def classify(self, address) -> int:
        protocol = PROTOCOLS[address.version]
        packet = bytes(OFFSETS[protocol]) + address.packed
        self.looked_at = 0
        return self._walk(protocol, 0, 0, packet, 0)

    def _walk(self, protocol, table, bucket, packet, depth) -> int:
        assert depth < 8, "TC_U32_MAXDEPTH"
        for rule in self.buckets.get((protocol, table, bucket), []):
            self.looked_at += 1
            words = [
                (int.from_bytes(packet[key.offset : key.offset + 4], "big"), key)
                for key in rule.keys
            ]
            if any((word ^ key.value) & key.mask for word, key in words):
                continue
            if rule.hash_on is None:
                return rule.classid
            word = int.from_bytes(packet[rule.hash_on.offset :][:4], "big")
            shift = (rule.hash_on.mask & -rule.hash_on.mask).bit_length() - 1
            chosen = (word & rule.hash_on.mask) >> shift & 0xFF
            if found := self._walk(protocol, rule.hash_on.table, chosen, packet, depth + 1):
                return found
        return 0


def longest(classes, address) -> int:
    matches = [network for network in classes if address in network]
    return classes[max(matches, key=lambda network: network.prefixlen)] if matches else 0


close4 = st.tuples(st.integers(0x0A000000, 0x0A00FFFF), st.integers(0, 32))
close6 = st.tuples(
    st.one_of(st.integers(2**127, 2**127 + 600), st.integers(2**127, 2**128 - 1)),
    st.integers(0, 128),
)
networks = st.one_of(close4, close6).map(lambda pair: ip_network(pair, strict=False))


@settings(max_examples=300, deadline=None)
@given(st.sets(networks, max_size=80), st.data())
def test_the_longest_prefix_wins(found, data) -> None:
    classes = {network: 0x76F30001 + n for n, network in enumerate(sorted(found, key=str))}
    kernel = U32(compile_filters(classes))
    inside = [network.network_address for network in classes]
    strangers = [ip_address("10.0.255.255"), ip_address("192.0.2.1"), ip_address("2001:db8::1")]
    for address in [*inside, *strangers, *(network.broadcast_address for network in classes)]:
        assert kernel.classify(address) == longest(classes, address)


@settings(deadline=None)
@given(st.sets(networks, max_size=40))
def test_every_destination_can_be_read_back_from_its_rule(found) -> None:
    classes = {network: n + 1 for n, network in enumerate(sorted(found, key=str))}
    rules = [item for item in compile_filters(classes) if isinstance(item, Rule)]
    read = {destination(rule): rule.classid for rule in rules if destination(rule) is not None}
    assert read == classes


def flat(addresses, most: int) -> None:
    classes = {IPv4Network((address, 32)): n + 1 for n, address in enumerate(addresses)}
    kernel = U32(compile_filters(classes))
    looks = []
    for network, classid in classes.items():
        assert kernel.classify(network.network_address) == classid
        looks.append(kernel.looked_at)
    assert max(looks) <= most
    assert len(kernel.tables) < 0x800


def test_ten_thousand_neighbours_cost_as_little_as_ten() -> None:
    flat(range(0x0A000000, 0x0A000000 + 10_000), 11)


def test_ten_thousand_addresses_that_end_alike_cost_as_little() -> None:
    flat([0x0A000001 + (n << 8) for n in range(10_000)], 12)


def test_addresses_that_spread_over_all_octets_cost_as_little() -> None:
    flat([(n * 2654435761) & 0xFFFFFFFF for n in range(10_000)], 80)


def test_nothing_wanted_needs_no_filter() -> None:
    assert compile_filters({}) == []
