"""The state on disk: a checksummed JSON file, and a journal of what has changed since.

A save returns only when what it wrote is on stable storage, so that what a manager was told
survives a power cut. Most saves append a line to the journal (`vmib_agent.journal`), which costs
as much as what has changed. From time to time the file is written anew, atomically (write, fsync,
rename, fsync of the directory), and the file before it is kept with its journal. A journal belongs
to one file: a new file makes it void, and the next save puts it aside.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from vmib.errors import VmibError

from . import journal
from .state import State
from .statecodec import changed, changes_between, document_of, state_of, to_json

FORMATS = (1, 2)
"""What is read; the last is written. Format 1 had no journal."""
NAME = "state.json"
PREVIOUS = "state.previous.json"
JOURNAL = "state.journal"
PREVIOUS_JOURNAL = "state.previous.journal"
SHORT = 1 << 16
"""Octets up to which a journal is not worth a new file."""

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError)


class StateUnreadable(VmibError):
    """The state on disk exists and cannot be trusted; an empty intent must not be guessed."""

    def __init__(self, path: Path, reason: str) -> None:
        way_out = (
            f"remove it to return to the older state in {NAME}"
            if path.name == JOURNAL
            else f"copy {PREVIOUS} over it (and {PREVIOUS_JOURNAL}, if there is one, over "
            f"{JOURNAL}) to return to an older state, or remove it to start with an empty "
            "configuration"
        )
        super().__init__(
            f"{path}: {reason}; the kernel is left as it is. Restore the file, or {way_out}"
        )
        self.path = path
        self.reason = reason


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file of mode 0600 so that a reader sees the old or the new, also after a crash."""
    temporary = path.with_name(path.name + ".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600)
    try:
        _write(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    temporary.rename(path)
    _sync_directory(path.parent)


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True, slots=True)
class _Saved:
    """What is on disk: the state, the file by inode, size and time, the checksum of the last line
    of the journal (or of the file), and the octets of the journal."""

    state: State
    file: tuple[int, int, int]
    checksum: str
    octets: int = 0


class StateFile:
    """The state of one agent, in a directory that only the agent can enter."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        self.previous = directory / PREVIOUS
        self.journal = directory / JOURNAL
        self.previous_journal = directory / PREVIOUS_JOURNAL
        self._saved: _Saved | None = None
        self._before: _Saved | None = None
        self._bound = SHORT

    def load(self) -> State | None:
        """The state as last saved, or None where there is no file; raises `StateUnreadable`."""
        data = _read(self.path)
        if data is None:
            return None
        try:
            state, checksum = _decode(data)
        except _UNREADABLE as error:
            raise StateUnreadable(self.path, f"cannot be read ({error})") from error
        try:
            for changes in journal.read(_read(self.journal) or b"", checksum).changes:
                state = changed(state, changes)
        except (journal.Damaged, *_UNREADABLE) as error:
            raise StateUnreadable(self.journal, f"cannot be read ({error})") from error
        return state

    def save(self, state: State) -> None:
        """Write the state; raises `OSError` (full disk, read-only) and then nothing has changed.

        The first save of a process writes the file.
        """
        if self._saved is None or self._saved.file != _identity(self.path):
            self._write_file(state)
            return
        changes = changes_between(self._saved.state, state)
        if changes:
            data, checksum = journal.line(self._saved.checksum, changes)
            if not self._append(data, self._saved.octets):
                self._write_file(state)
                return
            octets = self._saved.octets + len(data)
            self._before = self._saved
            self._saved = replace(self._saved, state=state, checksum=checksum, octets=octets)
        else:
            self._before = self._saved

    def tidy(self) -> None:
        """Write the file anew if the journal has become long.

        Raises `OSError`; the state stays saved, and it is tried again when the journal is longer.
        """
        if self._saved is None or self._saved.octets <= self._bound:
            return
        self._bound = 2 * self._saved.octets
        self._write_file(self._saved.state)

    def restore(self) -> None:
        """Make the state before the last save the state again, which needs no space on the disk.

        Raises `OSError`.
        """
        before, now = self._before, self._saved
        if before is not None and now is not None and before.file == now.file:
            if before.octets != now.octets:
                with self._opened(0) as handle:
                    _cut(handle, before.octets)
        else:
            self.previous.rename(self.path)
            _sync_directory(self.path.parent)
        self._saved = before

    def _write_file(self, state: State) -> None:
        data, checksum = _encoded(state)
        before, self._saved = self._saved, None
        if not self.path.exists():
            write_atomically(self.path, data)
        else:
            self.previous.unlink(missing_ok=True)
            self.previous_journal.unlink(missing_ok=True)
            os.link(self.path, self.previous)
            try:
                write_atomically(self.path, data)
            except OSError:
                self._before = before
                self.restore()
                raise
        file = _identity(self.path)
        self._before = before
        self._saved = None if file is None else _Saved(state, file, checksum)
        self._bound = max(SHORT, len(data))

    def _append(self, data: bytes, at: int) -> bool:
        """Append to the journal; False where it is not as it was left, and nothing is done."""
        is_new = not self.journal.exists()
        if at == 0 and not is_new:
            self.journal.rename(self.previous_journal)
            is_new = True
        with self._opened(os.O_CREAT | os.O_APPEND) as handle:
            size = os.fstat(handle).st_size
            if size < at:
                return False
            if size > at:
                os.ftruncate(handle, at)
            try:
                _write(handle, data)
                os.fsync(handle)
                if is_new:
                    _sync_directory(self.journal.parent)
            except OSError:
                self._saved, saved = None, self._saved
                _cut(handle, at)
                self._saved = saved
                raise
        return True

    @contextmanager
    def _opened(self, flags: int) -> Iterator[int]:
        handle = os.open(self.journal, flags | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            yield handle
        finally:
            os.close(handle)


def _cut(handle: int, octets: int) -> None:
    os.ftruncate(handle, octets)
    os.fsync(handle)


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read(path: Path) -> bytes | None:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateUnreadable(path, error.strerror or str(error)) from error
    with os.fdopen(handle, "rb") as file:
        return file.read()


def encode(state: State) -> bytes:
    """The file's contents for a state."""
    return _encoded(state)[0]


def _encoded(state: State) -> tuple[bytes, str]:
    """The file's contents and their checksum."""
    body = to_json(document_of(state))
    checksum = journal.checksum(body)
    text = f'{{"format":{FORMATS[-1]},"sha256":"{checksum}","state":{body}}}\n'
    return text.encode(), checksum


def decode(data: bytes) -> State:
    """The state in a file's contents; raises ValueError, KeyError, TypeError, AttributeError."""
    return _decode(data)[0]


def _decode(data: bytes) -> tuple[State, str]:
    """The state and its checksum."""
    document = json.loads(data)
    if document["format"] not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise ValueError(f"format {document['format']}, this agent reads {known}")
    checksum = journal.checksum(to_json(document["state"]))
    if checksum != document["sha256"]:
        raise ValueError("checksum does not match")
    return state_of(document["state"]), checksum
