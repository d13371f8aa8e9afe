"""What the agent has put into guests, kept on disk: only that is ever taken out again."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from .durable import StateUnusable, read, write
from .network import Address, Interface, Link, Network, Stack, route_key


@dataclass(frozen=True, slots=True)
class Put:
    """What was put into one guest: addresses by MAC address, routes by destination and metric."""

    addresses: frozenset[tuple[str, Interface]] = frozenset()
    routes: frozenset[tuple[Network, int]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.addresses or self.routes)

    def __or__(self, other: Put) -> Put:
        return Put(self.addresses | other.addresses, self.routes | other.routes)

    def marked(self, there: Stack, macs: Mapping[Link, str]) -> Stack:
        """What is there, marked as ours as far as it was put there."""
        return replace(
            there,
            addresses=frozenset(
                replace(a, ours=(macs.get(a.link, ""), a.interface) in self.addresses)
                for a in there.addresses
            ),
            routes=frozenset(
                replace(r, ours=r.ours or route_key(r) in self.routes) for r in there.routes
            ),
        )


def put_of(stack: Stack, macs: Mapping[Link, str]) -> Put:
    """What is ours of a stack."""
    return Put(
        frozenset((macs[a.link], a.interface) for a in stack.addresses if _is_put(a, macs)),
        frozenset(route_key(route) for route in stack.routes if route.ours),
    )


def _is_put(address: Address, macs: Mapping[Link, str]) -> bool:
    return address.ours and address.link in macs


class Ledger:
    """What was put into guests, by UUID. For use by several threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._put = _read(path)

    def put(self, uuid: str) -> Put:
        """What was put into a guest."""
        return self._put.get(uuid, Put())

    def record(self, uuid: str, put: Put) -> None:
        """Remember what a guest has, in memory and on disk; raises `StateUnusable` for the disk."""
        with self._lock:
            if self._put.get(uuid, Put()) == put:
                return
            self._put = {**self._put, uuid: put}
            if not put:
                del self._put[uuid]
            write(self._path, json.dumps(_encoded(self._put), indent=1).encode())


def _encoded(put: Mapping[str, Put]) -> dict[str, Any]:
    return {
        uuid: {
            "addresses": sorted([mac, str(interface)] for mac, interface in found.addresses),
            "routes": sorted([str(network), metric] for network, metric in found.routes),
        }
        for uuid, found in sorted(put.items())
    }


def _read(path: Path) -> dict[str, Put]:
    text = read(path)
    if text is None:
        return {}
    try:
        document = json.loads(text)
        return {
            uuid: Put(
                frozenset((mac, ip_interface(text)) for mac, text in found["addresses"]),
                frozenset((ip_network(text), int(m)) for text, m in found["routes"]),
            )
            for uuid, found in document.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateUnusable(f"{path}: cannot be read: {error}") from error
