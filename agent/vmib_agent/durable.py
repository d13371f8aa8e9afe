"""Small private files in a directory that is ours alone, never reached through a link."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmib.errors import VmibError

from .statefile import write_atomically


class StateUnusable(VmibError):
    """A file or directory of the agent that cannot be used as it is; says what to do."""


@contextmanager
def _directory(path: Path) -> Iterator[int]:
    """The directory's descriptor; it must be ours and writable by nobody else."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StateUnusable(f"{path}: {error.strerror}; expected a directory") from None
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid():
            raise StateUnusable(f"{path}: belongs to uid {found.st_uid}, not to {os.geteuid()}")
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise StateUnusable(f"{path}: others can write there; chmod 0700 {path}")
        yield fd
    finally:
        os.close(fd)


def make_directory(path: Path) -> None:
    """Create a directory for its owner alone, unless there is one.

    Raises `StateUnusable` when it cannot be created, or is not ours alone to write.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateUnusable(f"{path}: {error.strerror}; cannot create the directory") from None
    with _directory(path):
        pass


def act_for_owner(path: Path) -> None:
    """Where root has to do with a directory of another user's, be that user from now on.

    What is written there is then the owner's, and what is read there cannot lead root elsewhere.
    """
    if os.geteuid() != 0 or not path.is_dir():
        return
    owner = path.stat()
    if owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)


def read(path: Path) -> bytes | None:
    """The file's contents, or None where there is no such file.

    Raises `StateUnusable` for a symbolic link and for what cannot be read.
    """
    if not path.parent.exists():
        return None
    with _directory(path.parent) as directory:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path.name, flags, dir_fd=directory)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateUnusable(f"{path}: {error.strerror}") from None
        with os.fdopen(fd, "rb") as file:
            return file.read()


def write(path: Path, contents: bytes) -> None:
    """Replace the file, mode 0600; on return it is on the disk.

    Raises `StateUnusable`; the old file is then still whole.
    """
    with _directory(path.parent):
        try:
            write_atomically(path, contents)
        except OSError as error:
            raise StateUnusable(f"{path}: cannot write: {error.strerror}") from None
