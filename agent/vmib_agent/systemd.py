"""The two protocols of systemd that the agent speaks: sd_notify(3) and sd_listen_fds(3)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress

from vmib.errors import VmibError

FIRST_FD = 3


class NotASocket(VmibError):
    """An inherited descriptor that cannot carry SNMP."""


def notify(*assignments: str, environment: Mapping[str, str] = os.environ) -> None:
    """Tell the service manager, if there is one: `READY=1`, `STATUS=...`, `WATCHDOG=1`.

    One that has gone away is no reason to stop serving.
    """
    path = environment.get("NOTIFY_SOCKET")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as sender:
        sender.connect(address)
        sender.sendall("\n".join(assignments).encode())


@contextmanager
def reloading() -> Iterator[None]:
    """Tell the service manager when a reload begins and ends (systemd.service(5), notify-reload).

    `Type=notify-reload` of systemd 253 waits for the second; before that it is for people to see.
    """
    notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
    yield
    notify("READY=1")


def watchdog_seconds(environment: Mapping[str, str] = os.environ) -> float | None:
    """How often to send `WATCHDOG=1`: half of what the service manager allows, or None."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2_000_000 if microseconds.isdecimal() else None


def inherited_sockets(
    environment: MutableMapping[str, str] = os.environ,
) -> list[socket.socket]:
    """The UDP sockets passed to this process; the variables are removed, children inherit none.

    Raises `NotASocket` for a descriptor that is no UDP socket.
    """
    pid = environment.pop("LISTEN_PID", "")
    count = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    return [_datagram_socket(fd) for fd in range(FIRST_FD, FIRST_FD + int(count))]


def _datagram_socket(fd: int) -> socket.socket:
    try:
        passed = socket.socket(fileno=fd)
    except OSError as error:
        raise NotASocket(f"inherited descriptor {fd}: {error.strerror}") from None
    inet = passed.family in (socket.AF_INET, socket.AF_INET6)
    if not inet or passed.type != socket.SOCK_DGRAM:
        raise NotASocket(f"inherited descriptor {fd}: not a UDP socket")
    os.set_inheritable(fd, False)
    return passed
