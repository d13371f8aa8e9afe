"""How many datagrams a manager exchanges, and of how many octets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock


@dataclass(slots=True)
class Traffic:
    """Datagrams sent and received, and the octets in them."""

    datagrams: int = 0
    octets: int = 0

    def add(self, data: bytes) -> None:
        """One more datagram."""
        self.datagrams += 1
        self.octets += len(data)


@contextmanager
def counted() -> Iterator[Traffic]:
    """The traffic of the UDP sockets that are made meanwhile."""
    traffic = Traffic()

    class Counted(socket.socket):
        def sendto(self, data: Any, *where: Any) -> int:
            traffic.add(data)
            return super().sendto(data, *where)

        def recvfrom(self, *sizes: Any) -> tuple[bytes, Any]:
            data, peer = super().recvfrom(*sizes)
            traffic.add(data)
            return data, peer

    with mock.patch.object(socket, "socket", Counted):
        yield traffic
