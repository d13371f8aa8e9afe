"""Tables of the packet filter as libiptc holds them, by way of python-iptables' ctypes layer.

libiptc takes a copy of a table from the kernel, changes the copy, and puts it back in one step.
Rules that were in the table before keep their counters. The network namespace is that of the
calling thread.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

LOCK = Path("/run/xtables.lock")
"""Held by every iptables(8) that changes something."""

LOCK_PATIENCE = 10.0
"""Seconds to wait for the lock: agents of one kernel that start together each hold it often."""

_LOCK_INTERVAL = 0.01
_NAMES = {4: "ip_tables_names", 6: "ip6_tables_names"}
_NO_TABLE = (errno.ENOENT, errno.ENOPROTOOPT, errno.ENOSYS)
"""The kernel knows no such table, or no iptables of that family; there is no libiptc."""


@cache
def _library(family: int) -> tuple[Any, Callable[[], Any]]:
    """The functions of libip4tc or libip6tc, and what finds errno.

    The import takes a fifth of a second, more on a busy machine, and loads modules of the kernel,
    so it waits until they are needed, but not until the lock is held. What warnings its age gives
    rise to are no news to those who run an agent.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from iptc import ip4tc, ip6tc
            from iptc.util import find_libc
    except Exception as error:
        reason = f"python-iptables cannot load libiptc ({error})"
        raise OSError(errno.ENOSYS, reason) from error
    errno_location = find_libc().__errno_location
    errno_location.restype = ctypes.POINTER(ctypes.c_int)
    return {4: ip4tc.iptc, 6: ip6tc.ip6tc}[family], errno_location


def existing_tables(family: int, wanted: Iterable[str]) -> frozenset[str]:
    """Those of the wanted tables that this namespace has by now.

    Only root may read which ones there are. Others have to ask libiptc for each, and that makes
    the ones that the kernel knows.
    """
    try:
        found = Path("/proc/thread-self/net", _NAMES[family]).read_text().split()
        return frozenset(wanted).intersection(found)
    except FileNotFoundError:
        return frozenset()
    except PermissionError:
        return frozenset(name for name in wanted if _can_be_opened(family, name))


@contextmanager
def xtables_lock(family: int) -> Iterator[None]:
    """Hold the lock of iptables(8) to change tables of a family.

    Raises `TimeoutError` if somebody else keeps it, and `OSError` where there is no libiptc.
    """
    _library(family)
    try:
        descriptor = os.open(LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OSError(error.errno, f"{LOCK} cannot be opened: {error.strerror}") from error
    try:
        deadline = time.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    reason = f"another program holds {LOCK}"
                    raise TimeoutError(errno.ETIMEDOUT, reason) from None
            time.sleep(_LOCK_INTERVAL)
        yield
    finally:
        os.close(descriptor)


class Table:
    """A copy of one table. Everything raises `OSError` with libiptc's explanation.

    Positions count from 0.
    """

    def __init__(self, family: int, name: str) -> None:
        self._iptc, self._errno_location = _library(family)
        self._handle = self._iptc.iptc_init(name.encode())
        if not self._handle:
            raise self._error()

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._iptc.iptc_free(self._handle)

    def chains(self) -> list[str]:
        """The names of all chains."""
        found = []
        name = self._iptc.iptc_first_chain(self._handle)
        while name:
            found.append(name.decode("ascii", "backslashreplace"))
            name = self._iptc.iptc_next_chain(self._handle)
        return found

    def entries(self, chain: str) -> Iterator[tuple[bytes, str]]:
        """The rules of a chain: the octets of each entry, and the name of its target."""
        iptc, handle = self._iptc, self._handle
        entry = iptc.iptc_first_rule(chain.encode(), handle)
        while entry:
            octets = ctypes.string_at(entry, entry.contents.next_offset)
            yield octets, iptc.iptc_get_target(entry, handle).decode("ascii", "backslashreplace")
            entry = iptc.iptc_next_rule(entry, handle)

    def create(self, chain: str) -> None:
        """Make an empty chain."""
        self._do(self._iptc.iptc_create_chain(chain.encode(), self._handle))

    def insert(self, chain: str, position: int, entry: bytes) -> None:
        """Put a rule before the one at this position, or at the end."""
        self._do(self._iptc.iptc_insert_entry(chain.encode(), entry, position, self._handle))

    def delete(self, chain: str, position: int) -> None:
        """Remove a rule."""
        self._do(self._iptc.iptc_delete_num_entry(chain.encode(), position, self._handle))

    def flush(self, chain: str) -> None:
        """Remove all rules of a chain."""
        self._do(self._iptc.iptc_flush_entries(chain.encode(), self._handle))

    def remove(self, chain: str) -> None:
        """Remove a chain, which has to be empty and without a rule that jumps to it."""
        try:
            self._do(self._iptc.iptc_delete_chain(chain.encode(), self._handle))
        except OSError as error:
            if error.errno == errno.EMLINK:
                reason = f"a rule of somebody else jumps to {chain}"
                raise OSError(errno.EMLINK, reason) from error
            raise

    def commit(self) -> None:
        """Put the table into the kernel, all of it or nothing."""
        self._do(self._iptc.iptc_commit(self._handle))

    def _do(self, succeeded: int) -> None:
        if not succeeded:
            raise self._error()

    def _error(self) -> OSError:
        number = self._errno_location()[0]
        return OSError(number, self._iptc.iptc_strerror(number).decode())


def _can_be_opened(family: int, name: str) -> bool:
    try:
        with Table(family, name):
            return True
    except OSError as error:
        if error.errno in _NO_TABLE:
            return False
        raise
