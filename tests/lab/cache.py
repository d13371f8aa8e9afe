"""What labs build once and keep: images, outside the tree, each known by its recipe.

The place is $VMIB_LAB_CACHE, or vmib-lab in the user's cache directory (XDG base directories).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_KEPT_SECONDS = 7 * 86400.0


def place() -> Path:
    """The directory of everything that is kept."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("VMIB_LAB_CACHE") or base / "vmib-lab")


def kept(kind: str, recipe: Iterable[str], build: Callable[[Path], None]) -> Path:
    """The directory that `build` fills, built unless it is there by the same recipe.

    Of other recipes of this kind, what nobody used for a week is removed. What `build` raises
    passes, and leaves nothing behind.
    """
    digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:16]
    wanted = place() / f"{kind}-{digest}"
    place().mkdir(parents=True, exist_ok=True)
    with _locked(kind):
        if not wanted.exists():
            made = Path(tempfile.mkdtemp(prefix=f"{kind}.new-", dir=place()))
            try:
                build(made)
                made.chmod(0o755)
                made.rename(wanted)
            finally:
                shutil.rmtree(made, ignore_errors=True)
        os.utime(wanted)
        _remove_old(kind)
    return wanted


@contextmanager
def _locked(kind: str) -> Iterator[None]:
    """Two runs do not build the same at once: the second one waits and finds it built."""
    with (place() / f"{kind}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_old(kind: str) -> None:
    """Remove what was not used for long, and what a killed run left half built."""
    for entry in [*place().glob(f"{kind}-*"), *place().glob(f"{kind}.new-*")]:
        half = entry.name.startswith(f"{kind}.new-")
        if half or time.time() - entry.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(entry, ignore_errors=True)
