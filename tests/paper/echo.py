"""Round trips from one machine of a lab to another, timed by the kernel's stamps."""

from __future__ import annotations

import socket
import struct
import time

from vmib.errors import VmibError
from vmib_manager.measure import Endpoint, open_socket
from vmib_manager.pings import internet_checksum

_ECHO = struct.Struct("!BBHHH8s")
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_PAUSE = 0.01
_PATIENCE = 5.0


def round_trips(source: Endpoint, sink: Endpoint, count: int) -> list[float]:
    """Seconds of each of `count` echoes (RFC 792), one after the other.

    Sent times are this process's, arrivals the kernel's, both of CLOCK_REALTIME. Raises
    `VmibError` where one is not answered within 5 s.
    """
    found = []
    with open_socket(
        source.namespace, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP
    ) as wire:
        wire.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        wire.settimeout(_PATIENCE)
        # The first one waits for ARP, which is no part of a round trip.
        for number in range(count + 1):
            request = _ECHO.pack(8, 0, 0, 0x7061, number, b"vmibecho")
            request = _ECHO.pack(8, 0, internet_checksum(request), 0x7061, number, b"vmibecho")
            sent = time.time_ns()
            wire.sendto(request, (sink.address, 0))
            found.append((_answer(wire, source, sink, number) - sent) / 1e9)
            time.sleep(_PAUSE)
    return found[1:]


def _answer(wire: socket.socket, source: Endpoint, sink: Endpoint, number: int) -> int:
    """When the answer to a request has arrived, in nanoseconds since the epoch."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            packet, ancillary, _, sender = wire.recvmsg(2048, 64)
        except TimeoutError:
            break
        message = packet[4 * (packet[0] & 0x0F) :]
        if sender[0] != sink.address or len(message) != _ECHO.size:
            continue
        if _ECHO.unpack(message)[0::3] == (0, 0x7061) and _ECHO.unpack(message)[4] == number:
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS):
                    seconds, nanoseconds = _TIMESPEC.unpack(data[: _TIMESPEC.size])
                    return int(seconds * 1_000_000_000 + nanoseconds)
    raise VmibError(f"echo {source.name} to {sink.name}: no answer to request {number}")
