"""A guest's addresses and routes as words on its kernel's command line.

The words are those of dracut.cmdline(7), which dracut and systemd-network-generator(8) follow:

    ifname=vif0:00:16:3e:00:00:01 ip=192.0.2.1:::24::vif0:none
    rd.route=198.51.100.0/24:192.0.2.9:vif0

What vMIB puts there stands between `vmib.begin` and `vmib.end`; the kernel takes words with a dot
for parameters of modules, and leaves alone those of modules that it does not have. All is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .network import Address, IpAddress, Link, Network, Route, RouteKind, Stack

BEGIN, END = "vmib.begin", "vmib.end"

COMMAND_LINE = 2048
"""Octets that the kernel of x86 takes (COMMAND_LINE_SIZE), the last of them a zero."""


@dataclass(frozen=True, slots=True)
class StartUp:
    """What a guest is to be told at its start, by the address or route that each word is for.

    `unsaid` is what cannot be said in this way, with the reason.
    """

    names: tuple[str, ...]
    addresses: Mapping[Address, str]
    routes: Mapping[Route, str]
    unsaid: Mapping[Address | Route, str]

    @property
    def words(self) -> list[str]:
        """All words; none where nothing is wanted."""
        said = [*self.addresses.values(), *self.routes.values()]
        return [*self.names, *sorted(said)] if said else []


def start_up(wanted: Stack, macs: Mapping[Link, str]) -> StartUp:
    """What a guest is to be told; `macs` are the MAC addresses of its interfaces."""
    addresses = {
        address: f"ip={_host(address.interface.ip)}:::{address.interface.network.prefixlen}"
        f"::{_name(address.link)}:none"
        for address in wanted.addresses
        if address.link in macs
    }
    unsaid: dict[Address | Route, str] = {}
    routes: dict[Route, str] = {}
    for route in wanted.routes:
        if reason := _unsayable(route):
            unsaid[route] = reason
            continue
        via = "" if route.via is None else _host(route.via)
        name = "" if route.link is None else f":{_name(route.link)}"
        routes[route] = f"rd.route={_network(route.destination)}:{via}{name}"
    used = {address.link for address in addresses} | {route.link for route in routes}
    names = tuple(f"ifname={_name(link)}:{macs[link]}" for link in macs if link in used)
    return StartUp(names, addresses, routes, unsaid)


def _unsayable(route: Route) -> str:
    if route.kind is not RouteKind.UNICAST:
        return f"a route of type {route.kind.value} cannot be said at the start of a machine"
    if route.metric:
        return "the metric of a route cannot be said at the start of a machine"
    return ""


def _name(link: Link) -> str:
    return f"vif{link}"


def _host(address: IpAddress) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def _network(network: Network) -> str:
    return f"[{network}]" if network.version == 6 else str(network)


def words_in(command_line: str) -> list[str]:
    """vMIB's words on a command line."""
    words = command_line.split()
    if BEGIN not in words or END not in words:
        return []
    return words[words.index(BEGIN) + 1 : words.index(END)]


def with_words(command_line: str, words: list[str]) -> str:
    """A command line with these words of vMIB's in place of those it had.

    Raises ValueError when it gets longer than the kernel takes.
    """
    text = command_line
    if (old := words_in(command_line)) or BEGIN in command_line.split():
        ours = " ".join([BEGIN, *old, END])
        text = " ".join(command_line.split()).replace(ours, "").strip()
    if words:
        text = " ".join([text, BEGIN, *words, END]).strip()
    if len(text.encode()) >= COMMAND_LINE:
        raise ValueError(
            f"a command line of {len(text.encode())} octets is too long for the kernel"
        )
    return text


def seen(told: StartUp, command_line: str) -> Stack:
    """What of it a guest was told that was started with this command line."""
    words = set(words_in(command_line))
    return Stack(
        frozenset(address for address, word in told.addresses.items() if word in words),
        frozenset(route for route, word in told.routes.items() if word in words),
    )
