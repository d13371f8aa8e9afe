"""Domains, filters and the spoof guard: the compiled rules against what they are to mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.errors import Unavailable, ValueRefused
from vmib_agent.iptables import ANY_PORTS, Chain, Ruleset
from vmib_agent.isolation import Domain, Filter, Member, Nat, Routed, compile_rules

from .xtables import Packet, verdict, walk

NAT, ROUTED = Nat("nat0", ip_network("10.1.0.0/16")), Routed("rt0", ip_network("fd00::/64"))
BRIDGES = ("", "br0", "nat0", "rt0")
OUTSIDE = (ip_address("192.0.2.1"), ip_address("2001:db8::1"))
SPECIAL = (ip_address("0.0.0.0"), ip_address("::"), ip_address("fe80::1"))
DISCOVERY = {"leaving": (133, 135, 136), "entering": (134, 135, 136)}


def member(number: int, domain: int = 0, **more: Any) -> Member:
    made = Member(
        device=f"vif{number}.0",
        mac=f"02:00:00:00:00:{number:02x}",
        addresses=(ip_address(f"10.1.0.{number}"), ip_address(f"fd00::{number:x}")),
        spoof_guard=True,
        domain=domain,
        vm=number,
        vif=1,
        bridge="br0",
    )
    return replace(made, **more)


def bridged(sender: Member | None, receiver: Member | None, **more: Any) -> Packet:
    """A packet of TCP to port 80 that is bridged from one interface (or the uplink) to another."""
    made = Packet(
        src=sender.addresses[0] if sender else OUTSIDE[0],
        dst=receiver.addresses[0] if receiver else OUTSIDE[0],
        mac=sender.mac if sender else "02:ff:00:00:00:01",
        physdev_in=sender.device if sender else "eth0",
        physdev_out=receiver.device if receiver else "eth0",
        in_device="br0",
        out_device="br0",
    )
    return replace(made, **more)


def test_two_domains_on_one_bridge_are_cut_and_one_domain_is_not() -> None:
    a, b, c = member(1, 1), member(2, 1), member(3, 2)
    rules = compile_rules([a, b, c], [Domain(1, "a", "drop"), Domain(2, "b", "drop")])
    assert verdict(rules, bridged(a, b)) is None
    assert verdict(rules, bridged(a, c)) == "DROP"
    assert verdict(rules, bridged(c, a)) == "DROP"


def test_both_domains_have_to_let_a_packet_pass() -> None:
    a, b = member(1, 1), member(2, 2)
    domains = [Domain(1, "a", "drop"), Domain(2, "b", "drop")]
    may_leave, may_enter = Filter(1, 10, "fromVm", "accept"), Filter(2, 10, "toVm", "accept")
    assert verdict(compile_rules([a, b], domains, [may_leave]), bridged(a, b)) == "DROP"
    assert verdict(compile_rules([a, b], domains, [may_enter]), bridged(a, b)) == "DROP"
    assert verdict(compile_rules([a, b], domains, [may_leave, may_enter]), bridged(a, b)) is None


def test_the_lowest_priority_number_that_matches_decides() -> None:
    a, b = member(1, 1), member(2, 1)
    web = Filter(1, 10, "fromVm", "accept", protocol=6, dst_ports=(80, 80))
    rest = Filter(1, 20, "fromVm", "reject")
    for rows in ([web, rest], [rest, web]):
        rules = compile_rules([a, b], [Domain(1, "a", "drop")], rows)
        assert verdict(rules, bridged(a, b)) is None
        assert verdict(rules, bridged(a, b, dst_port=81)) == "REJECT"


def test_accept_in_domain_0_is_final_and_before_the_spoof_guard() -> None:
    a, b = member(1, 1), member(2, 2)
    domains = [Domain(1, "a", "drop"), Domain(2, "b", "drop")]
    rules = compile_rules([a, b], domains, [Filter(0, 10, "fromVm", "accept", vm=1)])
    assert verdict(rules, bridged(a, b, mac="02:00:00:00:00:99")) == "ACCEPT"
    assert verdict(rules, bridged(b, a)) == "DROP"


@pytest.mark.parametrize(
    ("what", "change", "found"),
    [
        ("its own addresses", {}, None),
        ("another MAC address", {"mac": "02:00:00:00:00:99"}, "DROP"),
        ("another IPv4 address", {"src": ip_address("10.1.0.99")}, "DROP"),
        ("no address, to a DHCP server", {"src": SPECIAL[0], "protocol": 17, "src_port": 68,
                                          "dst_port": 67}, None),
        ("no address, to somebody else", {"src": SPECIAL[0], "protocol": 17}, "DROP"),
        ("its own IPv6 address", {"src": ip_address("fd00::1")}, None),
        ("another IPv6 address", {"src": ip_address("fd00::99")}, "DROP"),
        ("a link-local address", {"src": ip_address("fe80::99")}, None),
        ("no address, by ICMPv6", {"src": SPECIAL[1], "protocol": 58}, None),
        ("no address, by another protocol", {"src": SPECIAL[1]}, "DROP"),
    ],
)  # fmt: skip
def test_a_guarded_interface_sends_with(
    what: str, change: dict[str, Any], found: str | None
) -> None:
    a, b = member(1, 1), member(2, 1)
    rules = compile_rules([a, b], [Domain(1, "a", "drop")])
    packet = bridged(a, b, **change)
    if packet.family == 6:
        packet = replace(packet, dst=b.addresses[1])
    assert verdict(rules, packet) == found
    to_the_host = replace(packet, physdev_out="", out_device="")
    assert verdict(rules, to_the_host, "INPUT") == found


def test_without_addresses_the_guard_looks_at_the_mac_address_alone() -> None:
    a, b = member(1, 1, addresses=()), member(2, 1)
    rules = compile_rules([a, b], [Domain(1, "a", "drop")])
    packet = replace(bridged(b, b), physdev_in=a.device, mac=a.mac)
    assert verdict(rules, replace(packet, src=OUTSIDE[0])) is None
    assert verdict(rules, replace(packet, mac=b.mac)) == "DROP"


@pytest.mark.parametrize("kind", range(128, 138))
def test_where_the_default_is_drop_neighbours_are_still_found_and_routers_still_announced(
    kind: int,
) -> None:
    a, uplink = member(1, 1), None
    rules = compile_rules([a], [Domain(1, "a", "drop")])
    icmp = {"protocol": 58, "icmp6_type": kind, "src": SPECIAL[2], "dst": OUTSIDE[1]}
    assert verdict(rules, bridged(a, uplink, **icmp)) == (
        None if kind in (133, 135, 136) else "DROP"
    )
    assert verdict(rules, bridged(uplink, a, **icmp)) == (
        None if kind in (134, 135, 136) else "DROP"
    )


def test_nothing_is_routed_into_or_out_of_a_closed_bridge() -> None:
    rules = compile_rules([], closed=["br0"])
    inside = Packet(*OUTSIDE[:1] * 2, in_device="br0", out_device="eth1")
    assert verdict(rules, inside) == "DROP"
    assert verdict(rules, replace(inside, in_device="eth1", out_device="br0")) == "DROP"
    assert verdict(rules, replace(inside, in_device="eth1", out_device="eth2")) is None
    within = replace(inside, out_device="br0", physdev_in="vif1.0", physdev_out="vif2.0")
    assert verdict(rules, within) is None
    assert rules.sysctls == {}, "bridged packets need not meet these rules"


def test_what_leaves_a_nat_switch_by_another_device_gets_the_host_s_address() -> None:
    rules = compile_rules([], nats=[NAT], routed=[ROUTED])
    assert rules.sysctls == {"net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1}
    masquerade = rules.chains[Chain(4, "nat", "VMIB-POSTROUTING")]
    assert list(map(str, masquerade)) == ["-s 10.1.0.0/16 ! -o nat0 -j MASQUERADE"]
    assert not any(chain[:2] == (6, "nat") for chain in rules.chains)


def test_rules_on_bridge_ports_need_the_bridge_to_show_packets_also_behind_tags() -> None:
    rules = compile_rules([member(1, 1)], [Domain(1, "a", "drop")])
    assert rules.sysctls == dict.fromkeys(
        (
            "net.bridge.bridge-nf-call-iptables",
            "net.bridge.bridge-nf-call-ip6tables",
            "net.bridge.bridge-nf-filter-vlan-tagged",
            "net.bridge.bridge-nf-filter-pppoe-tagged",
        ),
        1,
    )


def test_nothing_wished_for_is_no_rule_at_all() -> None:
    members = [member(number, spoof_guard=False) for number in (1, 2)]
    assert compile_rules(members, [Domain(1, "empty", "drop")]) == Ruleset()


@pytest.mark.parametrize(
    ("row", "error", "column"),
    [
        (Filter(2, 1, "toVm", "drop"), ValueRefused, "vmibFilterDomain.2.1"),
        (Filter(1, 1, "toVm", "drop", family=6, src=ip_network("10.0.0.0/8")), ValueRefused,
         "vmibFilterAddrType.1.1"),
        (Filter(1, 1, "toVm", "drop", protocol=0), Unavailable, "vmibFilterProtocol.1.1"),
        (Filter(1, 1, "toVm", "drop", protocol=1, dst_ports=(1, 1)), ValueRefused,
         "vmibFilterProtocol.1.1"),
        (Filter(1, 1, "toVm", "drop", protocol=6, dst_ports=(2, 1)), ValueRefused,
         "vmibFilterDstPortMin.1.1"),
        (Filter(1, 1, "toVm", "drop", vm=2), Unavailable, "vmibFilterVifIndex.1.1"),
    ],
)  # fmt: skip
def test_a_filter_that_no_rule_can_say_is_refused_by_its_column(
    row: Filter, error: type[Exception], column: str
) -> None:
    unaddressed = member(2, 1, bridge="nat0", addresses=())
    with pytest.raises(error) as refused:
        compile_rules([member(1, 1), unaddressed], [Domain(1, "a", "drop")], [row], [NAT])
    assert getattr(refused.value, "name", None) == column


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({"device": "vif 1"}, "vmibVifHostName.1.1"),
        ({"device": "vif+"}, "vmibVifHostName.1.1"),
        ({"device": "vif2.0"}, "vmibVifHostName.2.1"),
        ({"mac": "02:00:00:00:00:0A"}, "vmibVifMacAddress.1.1"),
        ({"domain": 7}, "vmibVifDomain.1.1"),
    ],
)
def test_an_interface_that_no_rule_can_name_is_refused(change: dict[str, Any], column: str) -> None:
    with pytest.raises(ValueRefused) as refused:
        compile_rules([replace(member(1, 1), **change), member(2)], [Domain(1, "a", "drop")])
    assert refused.value.name == column


def test_a_packet_meets_tens_of_rules_among_256_interfaces() -> None:
    members = [
        Member(f"vif{n}.0", f"02:00:00:00:{n >> 8:02x}:{n & 255:02x}",
               (ip_address(f"10.1.{n >> 8}.{n & 255}"),), True, n % 16 + 1, n, 1, "br0")
        for n in range(1, 257)
    ]  # fmt: skip
    domains = [Domain(n, f"d{n}", "drop") for n in range(1, 17)]
    way = walk(compile_rules(members, domains), 4)
    assert way.verdict("FORWARD", bridged(members[15], members[255])) is None
    assert way.looked_at < 100


@dataclass(frozen=True)
class Scene:
    members: tuple[Member, ...]
    domains: tuple[Domain, ...]
    filters: tuple[Filter, ...]

    def rules(self) -> Ruleset:
        return compile_rules(self.members, self.domains, self.filters, [NAT], [ROUTED])


def expected(scene: Scene, packet: Packet) -> str | None:
    """What the description of `isolation` says of a packet, without chains and trees."""
    sender = next((m for m in scene.members if m.device == packet.physdev_in), None)
    on_the_way = [m for m in scene.members if m.bridge == packet.out_device in ("nat0", "rt0")]
    if packet.physdev_out:
        receiver = next((m for m in scene.members if m.device == packet.physdev_out), None)
        beyond = {receiver.domain} if receiver else {0}
    else:
        receiver = next((m for m in scene.members if packet.dst in m.addresses), None)
        beyond = {receiver.domain} if receiver else {m.domain for m in on_the_way}
    entered = beyond.pop() if len(beyond) == 1 else 0
    left = sender.domain if sender else 0

    def first(domain: int, *directions: str) -> str | None:
        for row in sorted(scene.filters, key=lambda row: row.priority):
            if row.domain != domain or row.direction not in directions:
                continue
            vif = sender if row.direction == "fromVm" else receiver
            if vif is not None:
                concerned = row.vm in (0, vif.vm) and row.vif in (0, vif.vif)
            else:
                beyond_a_bridge = row.direction == "toVm" and on_the_way and not packet.physdev_out
                concerned = bool(domain or beyond_a_bridge) and not (row.vm or row.vif)
            if concerned and says(row, packet):
                return row.action
        return None

    if (found := first(0, "fromVm", "toVm")) is not None:
        return found.upper()
    if sender and sender.spoof_guard and is_spoofed(sender, packet):
        return "DROP"
    for stage, domain, direction in (("leaving", left, "fromVm"), ("entering", entered, "toVm")):
        found = first(domain, direction) if domain else "accept"
        if found in ("drop", "reject"):
            return found.upper()
        if found is None and not passes(scene, packet, stage, domain, left == entered):
            return "DROP"
    return None


def says(row: Filter, packet: Packet) -> bool:
    return (
        row.family in (0, packet.family)
        and all(net is None or net.version == packet.family for net in (row.src, row.dst))
        and (row.src is None or packet.src in row.src)
        and (row.dst is None or packet.dst in row.dst)
        and row.protocol in (256, packet.protocol)
        and (row.src_ports == ANY_PORTS or row.src_ports[0] <= packet.src_port <= row.src_ports[1])
        and (row.dst_ports == ANY_PORTS or row.dst_ports[0] <= packet.dst_port <= row.dst_ports[1])
    )


def is_spoofed(sender: Member, packet: Packet) -> bool:
    dhcp = packet.src == SPECIAL[0] and packet.protocol == 17
    dhcp = dhcp and (packet.src_port, packet.dst_port) == (68, 67)
    free = dhcp or packet.src == SPECIAL[2] or (packet.src == SPECIAL[1] and packet.protocol == 58)
    known = not sender.addresses or packet.src in sender.addresses or free
    return packet.mac != sender.mac or not known


def passes(scene: Scene, packet: Packet, stage: str, domain: int, inside: bool) -> bool:
    """Whether a packet that no filter matched goes on."""
    (row,) = (row for row in scene.domains if row.index == domain)
    discovery = packet.protocol == 58 and packet.icmp6_type in DISCOVERY[stage]
    return row.default_action == "accept" or inside or discovery


networks = st.sampled_from(
    [None, *map(ip_network, ("10.1.0.0/30", "10.1.0.2/32", "fd00::/126", "0.0.0.0/0", "::/0"))]
)
ports = st.sampled_from([ANY_PORTS, (80, 80), (60, 70), (0, 80)])


@st.composite
def filters(draw: st.DrawFn, domains: int) -> Filter:
    protocol = draw(st.sampled_from([6, 17, 58, 132, 256]))
    has_ports = protocol in (6, 17, 132)
    src = draw(networks)
    same_family = networks.filter(
        lambda net: src is None or net is None or net.version == src.version
    )
    return Filter(
        domain=draw(st.integers(0, domains)),
        priority=draw(st.integers(1, 65535)),
        direction=draw(st.sampled_from(["fromVm", "toVm"])),
        action=draw(st.sampled_from(["accept", "drop", "reject"])),
        vm=draw(st.sampled_from([0, 0, 1, 2])),
        vif=draw(st.sampled_from([0, 0, 1])),
        src=src,
        dst=draw(same_family),
        protocol=protocol,
        src_ports=draw(ports) if has_ports else ANY_PORTS,
        dst_ports=draw(ports) if has_ports else ANY_PORTS,
    )


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    domains = draw(st.integers(0, 3))
    members = []
    for number in range(1, draw(st.integers(1, 12)) + 1):
        bridge = draw(st.sampled_from(BRIDGES))
        made = member(
            number,
            draw(st.integers(0, domains)),
            bridge=bridge,
            spoof_guard=draw(st.booleans()),
        )
        if bridge not in ("nat0", "rt0") and draw(st.booleans()):
            made = replace(made, addresses=())
        members.append(made)
    rows = draw(
        st.lists(filters(domains), max_size=6, unique_by=lambda row: (row.domain, row.priority))
    )
    return Scene(
        tuple(members),
        tuple(
            Domain(index, f"d{index}", draw(st.sampled_from(["accept", "drop"])))
            for index in range(1, domains + 1)
        ),
        tuple({row.priority: row for row in rows}.values()),
    )


@st.composite
def packets(draw: st.DrawFn, scene: Scene) -> Packet:
    family = draw(st.sampled_from([4, 6]))
    place = 0 if family == 4 else 1
    ends = st.sampled_from([None, *scene.members])
    sender, receiver = draw(ends), draw(ends)
    sources = [OUTSIDE[place], *(a for a in SPECIAL if a.version == family)]
    if sender and sender.addresses:
        sources += [sender.addresses[place]] * 3
    protocol = draw(st.sampled_from([6, 17, 132, 58] if family == 6 else [6, 17, 132, 1]))
    macs = [sender.mac] * 3 if sender else []
    packet = Packet(
        src=draw(st.sampled_from(sources)),
        dst=OUTSIDE[place],
        mac=draw(st.sampled_from([*macs, "02:ff:00:00:00:01"])),
        physdev_in=sender.device if sender else draw(st.sampled_from(["", "eth0"])),
        in_device=sender.bridge if sender else "eth1",
        out_device=draw(st.sampled_from(["eth1", "nat0", "rt0"])),
        protocol=protocol,
        src_port=draw(st.sampled_from([68, 80, 1024])),
        dst_port=draw(st.sampled_from([67, 80, 1024])),
        icmp6_type=draw(st.sampled_from([128, 133, 134, 135, 136])) if protocol == 58 else None,
    )
    if receiver and receiver.addresses and draw(st.booleans()):
        return replace(packet, dst=receiver.addresses[place], out_device=receiver.bridge)
    if receiver and draw(st.booleans()):
        return replace(packet, physdev_out=receiver.device, out_device="br9")
    return packet


@given(st.data())
def test_the_rules_mean_what_the_description_says(data: st.DataObject) -> None:
    scene = data.draw(scenes())
    rules = scene.rules()
    for _ in range(5):
        packet = data.draw(packets(scene))
        assert verdict(rules, packet) == expected(scene, packet), packet
