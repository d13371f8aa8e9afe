"""Rules as text, as the kernel's octets, and in trees of device names."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib_agent import iptables_entries
from vmib_agent.device_tree import WIDTH, device_tree
from vmib_agent.iptables import (
    ANY_PORTS,
    JUMP_COMMENT,
    Chain,
    Rule,
    Ruleset,
    Unknown,
    comment_of,
)
from vmib_agent.iptables_entries import decode, encode

from .xtables import Packet, Walk

HERE = ip_address("10.0.0.1")

WORDS = [
    (Rule("VMIB-X"), "-j VMIB-X"),
    (Rule("VMIB-X", goto=True), "-g VMIB-X"),
    (
        Rule("ACCEPT", src=ip_network("10.0.0.1/32"), dst=ip_network("10.0.0.0/8"), protocol=1),
        "-s 10.0.0.1/32 -d 10.0.0.0/8 -p icmp -j ACCEPT",
    ),
    (Rule("DROP", in_device="br0", bridged=False),
     "-i br0 -m physdev ! --physdev-is-bridged -j DROP"),
    (Rule("DROP", out_device="br0", physdev_in="vif+", physdev_out="vif1.0", bridged=True),
     "-o br0 -m physdev --physdev-in vif+ --physdev-out vif1.0 --physdev-is-bridged -j DROP"),
    (Rule("DROP", not_mac="02:00:00:00:00:0A"), "-m mac ! --mac-source 02:00:00:00:00:0a -j DROP"),
    (Rule("REJECT", protocol=6, dst_ports=(80, 80), reject="tcp-reset"),
     "-p tcp -m tcp --dport 80 -j REJECT --reject-with tcp-reset"),
    (Rule("RETURN", protocol=17, src_ports=(68, 68), dst_ports=(60, 67)),
     "-p udp -m udp --sport 68 --dport 60:67 -j RETURN"),
    (Rule("DROP", protocol=132, src_ports=(0, 9), dst_ports=(9, 9)),
     "-p sctp -m multiport --sports 0:9 -m multiport --dports 9 -j DROP"),
    (Rule("RETURN", protocol=58, icmp6_type=135),
     "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j RETURN"),
    (Rule("DROP", comment="vmib:f1.10"), '-m comment --comment "vmib:f1.10" -j DROP'),
    (Rule("MASQUERADE", not_out_device="nat0"), "! -o nat0 -j MASQUERADE"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "words"), WORDS)
def test_a_rule_reads_as_iptables_writes_it(rule: Rule, words: str) -> None:
    assert str(rule) == words


@pytest.mark.parametrize("owner", [("filter", 1, 65535), ("vif", 3, 1), ("domain", 7)])
def test_a_rule_knows_its_owner_by_its_comment(owner: tuple[Any, ...]) -> None:
    assert Rule("DROP", comment=comment_of(owner)).owner == owner
    assert Rule("DROP", comment=f"{comment_of(owner)} or so").owner is None


def test_only_a_jump_to_our_chain_with_our_comment_is_ours() -> None:
    assert Rule("VMIB-FORWARD", comment=JUMP_COMMENT).ours
    assert not Rule("VMIB-FORWARD").ours
    assert not Rule("DROP", comment=JUMP_COMMENT).ours


def test_a_table_reads_as_iptables_lists_it() -> None:
    rules = Ruleset(
        {
            Chain(4, "filter", "VMIB-B"): (Rule("DROP"),),
            Chain(4, "filter", "VMIB-A"): (),
            Chain(4, "filter", "FORWARD"): (Rule("VMIB-A"),),
            Chain(6, "filter", "VMIB-C"): (),
        }
    )
    assert list(rules.lines(4, "filter")) == [
        "-N VMIB-A",
        "-N VMIB-B",
        "-A FORWARD -j VMIB-A",
        "-A VMIB-B -j DROP",
    ]


devices = st.sampled_from(["", "eth0", "vif1.0", "abcdefghijklmno"])
patterns = st.sampled_from(["", "vif1.0", "vif+", "v+", "abcdefghijklmno"])
ports = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(lambda two: tuple(sorted(two)))
targets = st.sampled_from(["ACCEPT", "DROP", "RETURN", "VMIB-X", "VMIB-01234567890123456789012"])


@st.composite
def rules(draw: st.DrawFn, family: int) -> Rule:
    bits, kind = (32, IPv4Network) if family == 4 else (128, IPv6Network)
    nets = st.none() | st.builds(
        lambda number, length: kind((number, length), strict=False),
        st.integers(0, 2**bits - 1),
        st.integers(1, bits),
    )
    protocol = draw(st.sampled_from([256, 1, 6, 17, 33, 58, 132, 136, 255]))
    has_ports = protocol in (6, 17, 33, 132, 136)
    out = draw(devices)
    rule = Rule(
        draw(targets),
        src=draw(nets),
        dst=draw(nets),
        in_device=draw(devices),
        out_device=out,
        not_out_device="" if out else draw(devices),
        protocol=protocol,
        physdev_in=draw(patterns),
        physdev_out=draw(patterns),
        bridged=draw(st.none() | st.booleans()),
        not_mac=draw(st.sampled_from(["", "02:00:00:00:00:0a"])),
        src_ports=draw(st.just(ANY_PORTS) | ports) if has_ports else ANY_PORTS,
        dst_ports=draw(st.just(ANY_PORTS) | ports) if has_ports else ANY_PORTS,
        icmp6_type=draw(st.none() | st.integers(0, 255)) if protocol == 58 else None,
        comment=draw(st.sampled_from(["", "vmib:f1.10", JUMP_COMMENT])),
    )
    if rule.target.startswith("VMIB-"):
        return replace(rule, goto=draw(st.booleans()))
    reject = "icmp-port-unreachable" if family == 4 else "icmp6-port-unreachable"
    if draw(st.booleans()):
        return replace(rule, target="REJECT", reject=draw(st.sampled_from([reject, "tcp-reset"])))
    return replace(rule, target="MASQUERADE") if draw(st.booleans()) else rule


@pytest.mark.parametrize("family", [4, 6])
@given(st.data())
def test_octets_give_back_the_rule_they_were_made_from(family: int, data: st.DataObject) -> None:
    rule = data.draw(rules(family))
    octets = encode(rule, family)
    assert len(octets) % 8 == 0
    assert decode(octets, rule.target, family) == rule


@pytest.mark.parametrize("family", [4, 6])
def test_counters_and_what_stands_behind_a_name_do_not_make_another_rule(family: int) -> None:
    rule = Rule("VMIB-X", physdev_in="vif1.0", comment="vmib:f1.10")
    octets = bytearray(encode(rule, family))
    end = {4: 112, 6: 168}[family]
    octets[end - 16 : end] = struct.pack("=QQ", 7, 700)
    name = octets.index(b"physdev")
    octets[name + 8 : name + 29] = b"x" * 21
    verdict = len(octets) - 40
    octets[verdict + 2 : verdict + 40] = bytes(30) + struct.pack("=i", 4711) + bytes(4)
    assert decode(bytes(octets), "VMIB-X", family) == rule
    assert iptables_entries.counters(bytes(octets), family) == (7, 700)


@pytest.mark.parametrize(
    ("what", "place", "bit"),
    [("fragments only", 82, 0x01), ("not this source", 83, 0x08), ("not this port", 208, 0x01)],
)
def test_what_a_rule_cannot_say_is_kept_as_octets(what: str, place: int, bit: int) -> None:
    octets = bytearray(encode(Rule("VMIB-X", physdev_in="vif1.0"), 4))
    octets[place] |= bit
    found = decode(bytes(octets), "VMIB-X", 4)
    assert found == Unknown(bytes(octets))
    assert str(found) == f"<foreign rule of {len(octets)} octets>"


def test_a_match_that_vmib_does_not_use_is_kept_as_octets() -> None:
    octets = encode(Rule("DROP", comment="x"), 4).replace(b"comment", b"recent\0")
    assert decode(octets, "DROP", 4) == Unknown(octets)


def test_a_jump_of_an_unknown_rule_gets_its_chain_s_name_back() -> None:
    written = encode(Rule("VMIB-X", comment="x"), 4).replace(b"comment", b"recent\0")
    from_the_kernel = written.replace(b"VMIB-X", bytes(6))
    assert decode(from_the_kernel, "VMIB-X", 4) == Unknown(written)


names = st.text("ab.1", min_size=1, max_size=6).filter(lambda name: name[0] != ".")


def met(tree: tuple[list[Rule], dict[str, tuple[Rule, ...]]], device: str) -> tuple[list[str], int]:
    """The rules that a packet from a device meets in the end, and how many it was compared with."""
    root, below = tree
    chains = {"VMIB-T": tuple(root), **below}
    ends = {rule.target for rules in chains.values() for rule in rules} - chains.keys()
    way = Walk(chains | dict.fromkeys(ends, ()))
    way.verdict("VMIB-T", Packet(HERE, HERE, physdev_in=device))
    return [rule.target for rule in way.met if rule.target in ends], way.looked_at


@given(st.sets(names, max_size=60), st.sets(names, max_size=20), st.booleans())
def test_every_device_meets_its_own_rule_and_every_other_the_last(
    known: set[str], others: set[str], has_miss: bool
) -> None:
    hits = {device: Rule(f"to {device}", goto=True) for device in known}
    miss = Rule("miss") if has_miss else None
    tree = device_tree("VMIB-T", "physdev_in", hits, miss)
    for device in known:
        assert met(tree, device)[0] == [f"to {device}"]
    for device in others - known:
        assert met(tree, device)[0] == (["miss"] if has_miss else [])
    assert met(tree, "")[0] == (["miss"] if has_miss else [])


@pytest.mark.parametrize("count", [1, WIDTH, 256, 1000])
def test_a_device_among_many_is_found_soon(count: int) -> None:
    hits = {f"vif{number}.0": Rule("DROP") for number in range(count)}
    tree = device_tree("VMIB-T", "physdev_in", hits, None)
    assert max(met(tree, device)[1] for device in hits) <= 4 * 11
