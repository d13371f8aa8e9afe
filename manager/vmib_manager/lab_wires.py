"""Namespaces, bridges and cables of a lab: whatever of them is missing is made.

Every host has a cable to the one switch for each uplink, as fast as the kernel is: speeds,
capacities and delays of a real file are for the manager's checks. All of this runs in a thread
that moves between the namespaces (`namespaces.in_thread`), with a socket for each.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from vmib.machines import Machine

from . import lab_spec, namespaces
from .lab_spec import SWITCH, HostSpec, LabSpec

_SWITCH_BRIDGE = "sw0"
_SYSCTL = Path("/proc/sys/net")
_MEMBER_SYSCTLS = {
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
}
"""Addresses of a lab are unique by construction; without detection they can be used at once."""
_SWITCH_SYSCTLS = {
    "ipv6/conf/default/disable_ipv6": "1",
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
    "bridge/bridge-nf-call-arptables": "0",
}

_LOOPBACK = 1

Links = dict[str, Any]
"""The links of a namespace by name, as pyroute2 tells them."""

Made = Callable[[str], None]
"""Is told of each thing that was missing, of a namespace before it is made."""


@contextmanager
def _refusals_as_os_errors() -> Iterator[None]:
    """What leaves this module is no error of pyroute2: who makes no lab does not load that."""
    try:
        yield
    except NetlinkError as refused:
        code, text = refused.args
        raise OSError(code, text) from refused


@_refusals_as_os_errors()
def lay_hosts(spec: LabSpec, made: Made) -> None:
    """Make what is missing of the switch, the hosts and the cables between them; raises OSError."""
    switch = lab_spec.namespace(spec.name, SWITCH)
    _namespace(switch, _SWITCH_SYSCTLS, (_SWITCH_BRIDGE,), made)
    for host in spec.hosts:
        name = lab_spec.namespace(spec.name, host.id)
        _namespace(name, _MEMBER_SYSCTLS, lab_spec.bridges(host), made)
    ports = [
        port
        for number, host in enumerate(spec.hosts, 1)
        for port in _uplinks(spec.name, host, f"port{number}", made)
    ]
    _plug(switch, _SWITCH_BRIDGE, ports)


@_refusals_as_os_errors()
def lay_machines(lab: str, host: HostSpec, made: Made) -> None:
    """Make what is missing of a host's machines and their interfaces; raises OSError."""
    name = lab_spec.namespace(lab, host.id)
    with _netlink(name) as wires:
        links = _links(wires)
        for position, spec in enumerate(host.machines):
            machine = lab_spec.machine(lab, host, position)
            inside = Path(machine.namespace).name
            if _namespace(inside, _MEMBER_SYSCTLS, (), made):
                for vif in machine.vifs:
                    _remove_stale(wires, links.pop(vif.host_device, None))
            elif missing := [vif for vif in machine.vifs if vif.host_device not in links]:
                with _netlink(inside) as beyond:
                    ends = _links(beyond)
                    for vif in missing:
                        _remove_stale(beyond, ends.get(vif.guest_device))
            bridges = [links[lab_spec.bridge(host, vif)]["index"] for vif in spec.vifs]
            _vifs(wires, name, machine, bridges, links, made)


def _namespace(name: str, sysctls: dict[str, str], bridges: Iterable[str], made: Made) -> bool:
    """A namespace with loopback up and bridges; what is there already gets bridges it lacks.

    Returns whether it was made.
    """
    if namespaces.exists(name):
        with _netlink(name) as wires:
            present = _links(wires)
            for bridge in bridges:
                if bridge not in present:
                    _add_bridge(wires, bridge)
                    made(f"bridge {bridge} in {name}")
        return False

    def prepare() -> None:
        for key, value in sysctls.items():
            if (_SYSCTL / key).exists():
                (_SYSCTL / key).write_text(value)
        with IPRoute() as wires:
            wires.link("set", index=_LOOPBACK, state="up")
            for bridge in bridges:
                _add_bridge(wires, bridge)

    made(f"namespace {name}")
    namespaces.create(name, prepare)
    return True


def _add_bridge(wires: IPRoute, name: str) -> None:
    """A bridge that forwards at once."""
    wires.link(
        "add",
        ifname=name,
        kind="bridge",
        br_stp_state=0,
        br_forward_delay=0,
        br_mcast_snooping=0,
        state="up",
    )


def _uplinks(lab: str, host: HostSpec, port: str, made: Made) -> list[str]:
    """The cables of a host; returns the names of their ends at the switch."""
    name, switch = lab_spec.namespace(lab, host.id), lab_spec.namespace(lab, SWITCH)
    ports = [f"{port}.{position}" for position in range(len(host.pifs))]
    with _netlink(name) as wires, _descriptor(switch) as there:
        links = _links(wires)
        for position, pif in enumerate(host.pifs):
            if pif.name in links:
                continue
            with _netlink(switch) as beyond:
                _remove_stale(beyond, _links(beyond).get(ports[position]))
            wires.link(
                "add",
                ifname=pif.name,
                kind="veth",
                address=lab_spec.uplink_mac(lab, host, position),
                master=links[pif.bridge]["index"],
                state="up",
                peer={"ifname": ports[position], "net_ns_fd": there},
            )
            made(f"uplink {pif.name} of {host.id}")
    return ports


def _remove_stale(wires: IPRoute, link: Any | None) -> None:
    """Remove the end of a cable whose other end is going with its namespace, if it still is."""
    if link is None:
        return
    try:
        wires.link("del", index=link["index"])
    except NetlinkError as error:
        if error.code != errno.ENODEV:
            raise


def _vifs(
    wires: IPRoute, host: str, machine: Machine, bridges: Iterable[int], links: Links, made: Made
) -> None:
    """The interfaces of a machine; `links` are those of its host, a namespace, where `wires` are.

    They are made from within the machine: older kernels (6.1) refuse a name for another namespace
    that is taken in the one from which it is made, such as a host's own eth0. A host end is plugged
    in after the machine's end is up: one that is down and on no bridge was left half done, others
    belong where they are.
    """
    inside = Path(machine.namespace).name
    with _descriptor(host) as here, _netlink(inside) as beyond:
        for vif, bridge in zip(machine.vifs, bridges, strict=True):
            end = links.get(vif.host_device)
            if end is None:
                beyond.link(
                    "add",
                    ifname=vif.guest_device,
                    kind="veth",
                    address=vif.mac,
                    state="up",
                    peer={"ifname": vif.host_device, "net_ns_fd": here},
                )
                made(f"interface {vif.host_device} of {machine.name}")
                end = _link(wires, vif.host_device)
            if end["state"] != "up" and not end.get_attr("IFLA_MASTER"):
                wires.link("set", index=end["index"], master=bridge, state="up")


def _plug(namespace: str, bridge: str, ports: Iterable[str]) -> None:
    with _netlink(namespace) as wires:
        links = _links(wires)
        for port in ports:
            if links[port]["state"] != "up" or not links[port].get_attr("IFLA_MASTER"):
                master = links[bridge]["index"]
                wires.link("set", index=links[port]["index"], master=master, state="up")


@contextmanager
def _netlink(namespace: str) -> Iterator[IPRoute]:
    with namespaces.entered(namespace), IPRoute() as wires:
        yield wires


@contextmanager
def _descriptor(namespace: str) -> Iterator[int]:
    descriptor = os.open(namespaces.path(namespace), os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _links(wires: IPRoute) -> Links:
    return {link.get_attr("IFLA_IFNAME"): link for link in wires.get_links()}


def _link(wires: IPRoute, name: str) -> Any:
    return next(link for link in wires.get_links(ifname=name))
