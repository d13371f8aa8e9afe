"""Which labs there are, what they were made from, and that only one process changes them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import lab_spec, namespaces, private_files
from .lab_errors import AddressTaken, LabUnusable, NotRoot
from .lab_spec import LabSpec

Progress = Callable[[str], None]
"""Is told what happens, in lines for people."""


def require_root() -> None:
    """Raise NotRoot for anybody else."""
    if os.geteuid() != 0:
        raise NotRoot


def names() -> tuple[str, ...]:
    """The labs that are there, also those half made or half removed."""
    require_root()
    if not lab_spec.ROOT.exists():
        return ()
    return tuple(sorted(entry.name for entry in lab_spec.ROOT.iterdir() if entry.is_dir()))


def recorded(lab: str) -> LabSpec | None:
    """What a lab was made from, None if that is not recorded; raises LabUnusable."""
    try:
        return lab_spec.loads(lab_spec.paths(lab).record.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        raise LabUnusable(lab, "its record cannot be read") from None


def require_no_other(spec: LabSpec) -> None:
    """Raise LabUnusable or AddressTaken where another lab is in the way of this one."""
    known = recorded(spec.name)
    if known is not None and known != spec:
        raise LabUnusable(spec.name, "it is there, made from another description")
    if known is None and namespaces.names(lab_spec.prefix(spec.name)):
        raise LabUnusable(spec.name, "it has namespaces that nobody recorded")
    for host in spec.hosts:
        holders = (name for name in holding(host.address, host.port) if name != spec.name)
        for name in holders:
            raise AddressTaken(host.id, host.address, host.port, f"lab {name} has it")


def holding(address: str, port: int) -> Iterator[str]:
    """The labs one of whose agents has this address and port; broken labs are passed over."""
    for name in names():
        with suppress(LabUnusable):
            spec = recorded(name)
            if spec and (address, port) in {(host.address, host.port) for host in spec.hosts}:
                yield name


@contextmanager
def alone(lab: str, progress: Progress) -> Iterator[None]:
    """Only one process at a time makes or removes a lab."""
    private_files.make_directory(lab_spec.ROOT)
    path = lab_spec.ROOT / f".{lab}.lock"
    lock = _lock(path, lambda: progress(f"lab {lab}: waiting for another process to be done"))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _lock(path: Path, waiting: Callable[[], None]) -> int:
    """An exclusive lock on the file that has this name when the lock is ours."""
    while True:
        lock = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(lock).st_ino:
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
