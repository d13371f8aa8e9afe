"""Links, addresses and routes in rtnetlink messages, as pyroute2 reads and writes them."""

from __future__ import annotations

import sys
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from vmib_agent import network_messages, network_reading
from vmib_agent import rtnetlink as rt
from vmib_agent.netlink import Message, Request
from vmib_agent.network import HOST, MARK, PROTOCOL, Address, Route, RouteKind, Vlan
from vmib_agent.network_plan import (
    AddAddress,
    AddBridge,
    AddVlan,
    DeleteAddress,
    DeleteRoute,
    NetworkOperation,
    PutRoute,
    SetLink,
    SetPort,
)
from vmib_agent.tc import attr

INDEXES: dict[Any, int] = {"vmib0": 3, "eth0": 4, "vif1.0": 5, 0: 6}
LINKS = {number: name for name, number in INDEXES.items()}

interfaces = st.one_of(
    st.builds(lambda ip, n: ip_interface((int(ip), n)), st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds(lambda ip, n: ip_interface((int(ip), n)), st.ip_addresses(v=6), st.integers(0, 128)),
)
addresses = st.builds(Address, st.sampled_from(list(INDEXES)), interfaces)
networks = interfaces.map(lambda interface: interface.network)


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """Routes of all kinds, as a wish has them."""
    network = draw(networks)
    metric, kind = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from(RouteKind))
    if kind is not RouteKind.UNICAST:
        return Route(network, metric, kind)
    via = draw(st.none() | st.ip_addresses(v=network.version))
    link = draw(st.sampled_from(list(INDEXES)) if via is None else st.none())
    return Route(network, metric, kind, via, link)


def written(operation: NetworkOperation) -> list[Request]:
    """The requests of an operation."""
    return list(network_messages.requests(operation, INDEXES.__getitem__))


def read_by_pyroute2(kind: Any, request: Request) -> Any:
    """What pyroute2 finds in a request."""
    length = 16 + len(request.body)
    found = kind(length.to_bytes(4, sys.byteorder) + bytes(12) + request.body)
    found.decode()
    return found


def written_by_pyroute2(kind: Any, fields: dict[str, Any], attributes: list[Any]) -> Message:
    """What pyroute2 makes of fields and attributes."""
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message.encode()
    return Message(0, 0, 0, 0, bytes(message.data[16:]))


@given(addresses)
def test_an_address_that_is_added_is_read_as_it_was_written(address: Address) -> None:
    (request,) = written(AddAddress(HOST, address))
    message = Message(request.kind, 0, 0, 0, request.body)
    assert network_reading.addresses([message], LINKS) == {address}
    found = read_by_pyroute2(ifaddrmsg, request)
    assert found["index"] == INDEXES[address.link]
    assert found["prefixlen"] == address.interface.network.prefixlen
    assert ip_address(found.get_attr("IFA_LOCAL")) == address.interface.ip
    assert found.get_attr("IFA_PROTO") == PROTOCOL


@given(interfaces)
def test_an_address_of_somebody_else_is_not_ours(interface: Any) -> None:
    family = {4: 2, 6: 10}[interface.version]
    fields = {"family": family, "prefixlen": interface.network.prefixlen, "index": 4}
    message = written_by_pyroute2(ifaddrmsg, fields, [("IFA_ADDRESS", str(interface.ip))])
    (found,) = network_reading.addresses([message], LINKS)
    assert (found.link, found.interface, found.ours) == ("eth0", interface, False)


def test_an_address_of_a_link_that_is_not_asked_about_is_left_out() -> None:
    (request,) = written(AddAddress(HOST, Address("eth0", ip_interface("192.0.2.1/24"))))
    message = Message(request.kind, 0, 0, 0, request.body)
    assert network_reading.addresses([message], {9: "other"}) == frozenset()


def test_the_removal_of_an_ipv4_address_first_keeps_the_others_of_its_subnet() -> None:
    first, second = written(DeleteAddress(HOST, Address("eth0", ip_interface("192.0.2.1/24"))))
    assert (first.kind, second.kind) == (rt.RTM_SETLINK, rt.RTM_DELADDR)
    promote_secondaries = attr(20, (1).to_bytes(4, sys.byteorder))
    conf = attr(rt.IFLA_INET_CONF, promote_secondaries)
    assert first.body.endswith(attr(rt.IFLA_AF_SPEC, attr(rt.FAMILIES[4], conf)))


@given(routes())
def test_a_route_is_read_as_it_was_written(route: Route) -> None:
    (request,) = written(PutRoute(HOST, route))
    found = read_by_pyroute2(rtmsg, request)
    assert found["dst_len"] == route.destination.prefixlen
    assert (found.get_attr("RTA_PRIORITY") or 0) == route.metric
    via = found.get_attr("RTA_GATEWAY")
    assert route.via == (via and ip_address(via))
    assert found["proto"] == PROTOCOL
    table = attr(rt.RTA_TABLE, (254).to_bytes(4, sys.byteorder))
    message = Message(request.kind, 0, 0, 0, request.body + table)
    assert network_reading.routes([message], LINKS) == {route}


def test_a_route_of_another_table_is_left_out() -> None:
    (request,) = written(PutRoute(HOST, Route(ip_network("192.0.2.0/24"), link="eth0")))
    table = attr(rt.RTA_TABLE, (100).to_bytes(4, sys.byteorder))
    message = Message(request.kind, 0, 0, 0, request.body + table)
    assert network_reading.routes([message], LINKS) == frozenset()


def test_the_removal_of_a_route_does_not_depend_on_its_scope() -> None:
    (request,) = written(DeleteRoute(HOST, Route(ip_network("192.0.2.0/24"), link="eth0")))
    assert read_by_pyroute2(rtmsg, request)["scope"] == 255


def test_a_port_of_a_bridge_is_read_with_all_that_the_kernel_says_of_it() -> None:
    slave = {"attrs": [("IFLA_BRPORT_ISOLATED", 1)]}
    info = [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_SLAVE_KIND", "bridge")]
    message = written_by_pyroute2(
        ifinfmsg,
        {"index": 5, "flags": 0x41, "ifi_type": 1},
        [
            ("IFLA_IFNAME", "vif1.0"),
            ("IFLA_IFALIAS", "vmib home=vmibbr0"),
            ("IFLA_MTU", 1400),
            ("IFLA_MASTER", 3),
            ("IFLA_LINK", 7),
            ("IFLA_ADDRESS", "02:00:00:00:00:0a"),
            ("IFLA_LINKINFO", {"attrs": [*info, ("IFLA_INFO_SLAVE_DATA", slave)]}),
        ],
    )
    assert network_reading.link_facts(message.body) == network_reading.LinkFacts(
        index=5,
        name="vif1.0",
        kind="veth",
        alias="vmib home=vmibbr0",
        mtu=1400,
        up=True,
        running=True,
        master=3,
        parent=7,
        vlan=0,
        isolated=True,
        mac="02:00:00:00:00:0a",
        hardware=1,
    )


def test_a_link_of_which_the_kernel_says_little_is_read_too() -> None:
    attributes = [("IFLA_IFNAME", "lo"), ("IFLA_MTU", 65536)]
    message = written_by_pyroute2(ifinfmsg, {"index": 1, "ifi_type": 772}, attributes)
    found = network_reading.link_facts(message.body)
    assert (found.kind, found.mac, found.master, found.up, found.running) == (
        "",
        "",
        0,
        False,
        False,
    )


def test_a_bridge_is_made_without_spanning_tree_and_marked() -> None:
    made, marked = (read_by_pyroute2(ifinfmsg, r) for r in written(AddBridge("vmib0", 1500)))
    info = made.get_attr("IFLA_LINKINFO")
    data = info.get_attr("IFLA_INFO_DATA")
    assert info.get_attr("IFLA_INFO_KIND") == "bridge"
    names = ("IFLA_BR_STP_STATE", "IFLA_BR_FORWARD_DELAY", "IFLA_BR_MCAST_SNOOPING")
    assert [data.get_attr(name) for name in names] == [0, 0, 0]
    assert (made.get_attr("IFLA_MTU"), marked.get_attr("IFLA_MTU")) == (1501, 1500)
    assert (marked["index"], marked.get_attr("IFLA_IFALIAS")) == (3, MARK)


def test_a_vlan_is_made_on_its_parent() -> None:
    with pytest.raises(KeyError):
        written(AddVlan(Vlan("eth0.7", "gone", 7)))
    requests = network_messages.requests(
        AddVlan(Vlan("eth0.7", "eth0", 7)), (INDEXES | {"eth0.7": 8}).__getitem__
    )
    made, marked = (read_by_pyroute2(ifinfmsg, request) for request in requests)
    info = made.get_attr("IFLA_LINKINFO")
    assert made.get_attr("IFLA_LINK") == 4
    assert info.get_attr("IFLA_INFO_KIND") == "vlan"
    assert info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_VLAN_ID") == 7
    assert marked["index"] == 8


def test_a_port_joins_its_bridge_and_is_isolated_there() -> None:
    joined, isolated = (
        read_by_pyroute2(ifinfmsg, request)
        for request in written(SetPort("vif1.0", bridge="vmib0", alias="x", isolated=True))
    )
    assert (joined.get_attr("IFLA_MASTER"), joined.get_attr("IFLA_IFALIAS")) == (3, "x")
    info = isolated.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_SLAVE_KIND") == "bridge"
    assert info.get_attr("IFLA_INFO_SLAVE_DATA").get_attr("IFLA_BRPORT_ISOLATED") == 1


@pytest.mark.parametrize(("state", "flags"), [("UP", 0x41), ("UNKNOWN", 0x41), ("DOWN", 0x1)])
def test_a_link_runs_where_the_kernel_says_so_whatever_it_knows_of_the_carrier(
    state: str, flags: int
) -> None:
    attributes = [("IFLA_IFNAME", "vnet0"), ("IFLA_MTU", 1500), ("IFLA_OPERSTATE", state)]
    message = written_by_pyroute2(ifinfmsg, {"index": 8, "flags": flags}, attributes)
    assert network_reading.link_facts(message.body).running is (flags != 1)


def test_a_link_is_taken_down_without_touching_its_other_flags() -> None:
    (request,) = written(SetLink(HOST, "eth0", up=False))
    found = read_by_pyroute2(ifinfmsg, request)
    assert (found["flags"], found["change"]) == (0, 1)
    assert found.get_attr("IFLA_MTU") is None
