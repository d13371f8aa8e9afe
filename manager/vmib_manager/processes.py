"""Processes that are not our children: known by id and start time, and ended for certain.

A process id is used again when its process is gone; the two together never are (proc(5)).
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from .lab_errors import ProcessStays

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_GONE = ("Z", "X")
_KILLED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process; `start` is in clock ticks since the machine started."""

    pid: int
    start: int

    @property
    def alive(self) -> bool:
        """Whether it runs now."""
        return current(self.pid) == self

    @property
    def uptime(self) -> float:
        """Seconds since it started."""
        return time.clock_gettime(time.CLOCK_BOOTTIME) - self.start / _TICKS


def current(pid: int) -> Process | None:
    """The process that has this id now, unless it has ended."""
    return recorded(_PROC / str(pid) / "stat")


def recorded(path: Path) -> Process | None:
    """The process that a copy of its /proc/PID/stat tells of, None where there is none."""
    try:
        text = path.read_text(errors="replace")
        pid, rest = text.split(" ", 1)
        # The name of the program is in parentheses and may have any in it.
        fields = rest.rpartition(")")[2].split()
        return None if fields[0] in _GONE else Process(int(pid), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None


def namespace(pid: str) -> int:
    """The inode of the network namespace of a process, or of `self`; raises OSError."""
    return (_PROC / pid / "ns" / "net").stat().st_ino


def inside(namespaces: Collection[int]) -> list[Process]:
    """The processes in network namespaces, given by their inodes."""
    return _all(lambda pid: namespace(str(pid)) in namespaces)


def session(leader: Process) -> list[Process]:
    """The processes of the session of a leader that runs (setsid(2))."""
    members = _all(lambda pid: os.getsid(pid) == leader.pid)
    return members if leader in members else []


def program(process: Process) -> str:
    """The name of what a process runs, empty when it has ended."""
    try:
        return (_PROC / str(process.pid) / "comm").read_text(errors="replace").rstrip("\n")
    except OSError:
        return ""


def _all(wanted: Callable[[int], bool]) -> list[Process]:
    found = []
    for entry in _PROC.iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):  # it has ended meanwhile
                process = current(int(entry.name))
                if process and wanted(process.pid):
                    found.append(process)
    return found


def stop(wanted: Iterable[Process], patience: float) -> None:
    """End processes: ask them, and after `patience` seconds kill them; returns when all are gone.

    Raises ProcessStays.
    """
    with ExitStack() as stack:
        handles: dict[int, Process] = {}
        for process in wanted:
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(process.pid)
                stack.callback(os.close, handle)
                if process.alive:
                    handles[handle] = process
        for number, seconds in (signal.SIGTERM, patience), (signal.SIGKILL, _KILLED_SECONDS):
            for handle in handles:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            _wait(handles, time.monotonic() + seconds)
            if not handles:
                return
        raise ProcessStays(next(iter(handles.values())).pid)


def _wait(handles: dict[int, Process], deadline: float) -> None:
    """Take out those that have ended, until all have or it is too late."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    while handles and (left := deadline - time.monotonic()) > 0:
        for handle, _ in poll.poll(left * 1000):
            poll.unregister(handle)
            del handles[handle]
