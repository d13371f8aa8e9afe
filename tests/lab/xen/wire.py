"""Two hosts of Xen on one wire: what each of them is called, and how it joins the wire."""

from __future__ import annotations

from ..hypervisors import BRIDGE, run

WIRE = "eth0"
"""The network card that QEMU gives each host; its other end is the other host's."""
DOOMED = "host 2 may lose its power now"
"""What host 1 says on its console when it is time."""
READY = "host 2 is ready"


def address_of(host: int) -> str:
    """The address of a host on the wire, where its agent listens; hosts count from 1."""
    return f"10.31.1.{100 + host}"


def guest_words(number: int) -> str:
    """The command line of the guest of a host."""
    return f"vif0={guest_address(number)}/24"


def guest_address(number: int) -> str:
    """The address of the guest of a host."""
    return f"10.31.1.{number}"


def join(host: int) -> None:
    """Put the wire on the lab's bridge, and the host's address."""
    run("ip", "link", "set", WIRE, "master", BRIDGE, "up")
    run("ip", "address", "add", f"{address_of(host)}/24", "dev", BRIDGE)
