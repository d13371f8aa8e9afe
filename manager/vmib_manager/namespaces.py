"""Named network namespaces, as ip-netns(8) keeps them: files in /run/netns.

Python has setns only since 3.12, so the system calls are made through the C library.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

DIRECTORY = Path("/run/netns")

_CLONE_NEWNET = 0x4000_0000
_MS_BIND, _MS_REC, _MS_SHARED = 4096, 16384, 1 << 20
_MNT_DETACH = 2
_OWN = Path("/proc/thread-self/ns/net")

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def path(name: str) -> Path:
    """Where the namespace of that name is."""
    return DIRECTORY / name


def exists(name: str) -> bool:
    """Whether there is a namespace of that name, and not only a file left behind."""
    try:
        return path(name).stat().st_dev == _OWN.stat().st_dev
    except OSError:
        return False


def names(prefix: str) -> list[str]:
    """Names that begin with `prefix`, also of files left behind by an interrupted creation."""
    try:
        return sorted(entry.name for entry in DIRECTORY.iterdir() if entry.name.startswith(prefix))
    except FileNotFoundError:
        return []


def create(name: str, prepare: Callable[[], None]) -> None:
    """Make a namespace and `prepare` it from the inside; use it inside `in_thread`.

    It gets its name when it is prepared: what `exists` is complete. Raises OSError and what
    `prepare` raises.
    """
    _share_directory()
    path(name).touch(mode=0o400)
    before = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call(_libc.unshare(_CLONE_NEWNET), "unshare")
        prepare()
        _mount(_OWN, path(name), _MS_BIND)
    finally:
        enter_descriptor(before)
        os.close(before)


def remove(name: str) -> None:
    """Remove the name; the namespace goes when nothing is in it any more. Raises OSError."""
    while exists(name):
        _call(_libc.umount2(os.fsencode(path(name)), _MNT_DETACH), str(path(name)))
    path(name).unlink(missing_ok=True)


@contextmanager
def entered(name: str) -> Iterator[None]:
    """This thread is in the namespace for a while; use it inside `in_thread`."""
    before = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(path(name))
        yield
    finally:
        enter_descriptor(before)
        os.close(before)


def inode(name: str) -> int:
    """The number of a namespace, which /proc/PID/ns/net of a process in it has. Raises OSError."""
    return path(name).stat().st_ino


def enter_descriptor(descriptor: int) -> None:
    """Move this thread into the namespace of an open file. Raises OSError."""
    _call(_libc.setns(descriptor, _CLONE_NEWNET), "setns")


def in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own: moving it between namespaces moves nothing else.

    It is waited for also when the waiting is interrupted.
    """
    with ThreadPoolExecutor(1, "vmib-lab") as pool:
        return pool.submit(work).result()


def _enter(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _share_directory() -> None:
    """Make /run/netns a shared mount as ip-netns(8) does, so that removal is seen everywhere.

    Without it a later `ip netns add` would copy our mounts, and removal would reach only the copy.
    """
    DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    lock = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ip-netns(8) does so, too
        try:
            _mount(Path("none"), DIRECTORY, _MS_SHARED | _MS_REC)
        except OSError:
            _mount(DIRECTORY, DIRECTORY, _MS_BIND | _MS_REC)
            _mount(Path("none"), DIRECTORY, _MS_SHARED | _MS_REC)
    finally:
        os.close(lock)


def _mount(source: Path, target: Path, flags: int) -> None:
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), b"none", ctypes.c_ulong(flags), None
    )
    _call(result, str(target))


def _call(result: int, subject: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), subject)
