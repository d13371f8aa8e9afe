"""Addresses and routes of a guest by its QEMU guest agent, which runs ip(8) in it.

The guest has `ip` of iproute2 or of busybox: only what both print and understand is used. What
was put there is known by the caller, because neither keeps a mark with every object.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from vmib.errors import VmibError

from .network import (
    PROTOCOL,
    Address,
    Interface,
    IpAddress,
    Link,
    Network,
    Route,
    RouteKind,
    Stack,
)
from .network_plan import (
    AddAddress,
    DeleteAddress,
    DeleteRoute,
    NetworkOperation,
    PutRoute,
    SetLink,
)

COMMAND_TIME = 10.0
"""Seconds that a command may take in a guest."""
_FIRST_PAUSE, _LAST_PAUSE = 0.02, 0.5

Ask = Callable[[str], str]
"""Sends one command of the guest agent (JSON) and returns its answer (JSON)."""

_LINK = re.compile(r"\d+: (?P<name>[^:@\s]+)(?:@\S*)?: <(?P<flags>[^>]*)> mtu (?P<mtu>\d+)")
_OTHER_TYPES = frozenset(
    {"anycast", "broadcast", "local", "multicast", "nat", "throw", "unknown", "xresolve"}
)


class GuestRefused(VmibError):
    """A guest, or the agent in it, does not do what it is asked; says what and why."""


@dataclass(frozen=True, slots=True)
class GuestLink:
    """A link in a guest, as `ip addr` shows it."""

    name: str
    mac: str
    up: bool
    mtu: int
    addresses: tuple[Interface, ...]


def parse_links(text: str) -> list[GuestLink]:
    """The links of `ip addr show`."""
    found: list[GuestLink] = []
    for line in text.splitlines():
        head = _LINK.match(line)
        if head is not None:
            is_up = "UP" in head["flags"].split(",")
            found.append(GuestLink(head["name"], "", is_up, int(head["mtu"]), ()))
            continue
        words = line.split()
        if len(words) < 2 or not found:
            continue
        last = found[-1]
        if words[0] == "link/ether":
            found[-1] = GuestLink(last.name, words[1].lower(), last.up, last.mtu, last.addresses)
        elif words[0] in ("inet", "inet6") and "peer" not in words:
            addresses = (*last.addresses, ip_interface(words[1]))
            found[-1] = GuestLink(last.name, last.mac, last.up, last.mtu, addresses)
    return found


def parse_routes(text: str, links: Mapping[str, Link], version: int) -> Iterator[Route]:
    """The routes of `ip route show` that go by these links, by the names of their devices.

    Raises ValueError for text that is none of ip(8).
    """
    for line in text.splitlines():
        words = line.split()
        # The next hops of a multipath route, and types that are no matter of a configuration.
        if not words or line[0].isspace() or words[0] in _OTHER_TYPES:
            continue
        kind = RouteKind.UNICAST
        if words[0] in [other.value for other in RouteKind]:
            kind = RouteKind(words.pop(0))
        options = {word: words[at + 1] for at, word in enumerate(words[:-1]) if at}
        device = options.get("dev", "")
        if kind is RouteKind.UNICAST and device not in links:
            continue
        yield Route(
            destination=_destination(words[0], version),
            metric=int(options.get("metric", "0")),
            kind=kind,
            via=_via(options),
            link=links.get(device) if kind is RouteKind.UNICAST else None,
            ours=options.get("proto") == str(PROTOCOL),
        )


def _via(options: Mapping[str, str]) -> IpAddress | None:
    hop = options.get("via")
    return None if hop is None else ip_address(hop)


def _destination(text: str, version: int) -> Network:
    return ip_network(("0.0.0.0/0" if version == 4 else "::/0") if text == "default" else text)


def words_of(operation: NetworkOperation, names: Mapping[Link, str]) -> list[list[str]]:
    """An operation as commands of ip(8), `names` being those of the guest's devices.

    Raises KeyError for a link that the guest does not have.
    """
    match operation:
        case SetLink(link=link, mtu=mtu, up=up):
            command = ["link", "set", "dev", names[link]]
            command += ["mtu", str(mtu)] if mtu else []
            return [command + ([] if up is None else ["up" if up else "down"])]
        case AddAddress(address=address):
            command = ["addr", "add", str(address.interface), "dev", names[address.link]]
            return [["link", "set", "dev", names[address.link], "up"], command]
        case DeleteAddress(address=address):
            return [["addr", "del", str(address.interface), "dev", names[address.link]]]
        case PutRoute(route=route):
            return [["route", "replace", *_route_words(route, names)]]
        case DeleteRoute(route=route):
            return [["route", "del", *_route_words(route, names)]]
    raise AssertionError(f"no operation of a guest: {operation}")


def _route_words(route: Route, names: Mapping[Link, str]) -> list[str]:
    words = [] if route.kind is RouteKind.UNICAST else [route.kind.value]
    words.append(str(route.destination))
    if route.via is not None:
        words += ["via", str(route.via)]
    if route.link is not None:
        words += ["dev", names[route.link]]
    if route.metric:
        words += ["metric", str(route.metric)]
    return [*words, "proto", str(PROTOCOL)]


class GuestAgent:
    """Commands in one guest. `pause` waits some seconds."""

    def __init__(self, ask: Ask, pause: Callable[[float], object] = time.sleep) -> None:
        self._ask = ask
        self._pause = pause

    def read(self, macs: Mapping[str, Link]) -> tuple[Stack, Mapping[Link, str]]:
        """What a guest has on the interfaces with these MAC addresses, and its names for them.

        Raises `GuestRefused`, and what `ask` raises.
        """
        try:
            links = parse_links(self.ip("addr", "show"))
            found: list[tuple[Link, GuestLink]] = []
            for link in links:  # of several with one address the first is the interface itself
                if link.mac in macs and macs[link.mac] not in dict(found):
                    found.append((macs[link.mac], link))
            names = {link.name: number for number, link in found}
            routes = {*parse_routes(self.ip("route", "show"), names, 4)}
            routes |= {*parse_routes(self._ipv6_routes(), names, 6)}
        except (ValueError, KeyError) as error:
            raise GuestRefused(f"ip in the guest printed what is not understood: {error}") from None
        addresses = frozenset(
            Address(number, interface, ours=False)
            for number, link in found
            for interface in link.addresses
        )
        stack = Stack(
            addresses,
            frozenset(routes),
            down=frozenset(number for number, link in found if not link.up),
            mtus={number: link.mtu for number, link in found},
        )
        return stack, {number: link.name for number, link in found}

    def _ipv6_routes(self) -> str:
        status, output, _ = self.run("ip", ["-6", "route", "show"])
        return output if status == 0 else ""  # a guest without IPv6 has no such routes

    def ip(self, *words: str) -> str:
        """What ip(8) prints; raises `GuestRefused` where it fails."""
        status, output, errors = self.run("ip", words)
        if status != 0:
            said = (errors or output).strip().replace("\n", "; ") or f"exit status {status}"
            raise GuestRefused(f"ip {' '.join(words)}: {said}")
        return output

    def run(self, path: str, arguments: Sequence[str]) -> tuple[int, str, str]:
        """Exit status, output and errors of a program in the guest."""
        started = self._call(
            "guest-exec", {"path": path, "arg": [*arguments], "capture-output": True}
        )
        waited, pause = 0.0, _FIRST_PAUSE
        while True:
            state = self._call("guest-exec-status", {"pid": started["pid"]})
            if state["exited"]:
                status = int(state.get("exitcode", state.get("signal", 255)))
                return status, _text(state.get("out-data")), _text(state.get("err-data"))
            if waited > COMMAND_TIME:
                raise GuestRefused(f"{path} in the guest takes more than {COMMAND_TIME:.0f} s")
            self._pause(pause)
            waited, pause = waited + pause, min(2 * pause, _LAST_PAUSE)

    def _call(self, name: str, arguments: Mapping[str, object]) -> Mapping[str, Any]:
        answer = self._ask(json.dumps({"execute": name, "arguments": arguments}))
        try:
            found = json.loads(answer)["return"]
        except (ValueError, KeyError, TypeError):
            found = None
        if not isinstance(found, dict):
            raise GuestRefused(f"the answer to {name} is not understood")
        return found


def _text(encoded: str | None) -> str:
    return base64.b64decode(encoded or "").decode(errors="replace")
