"""Standard output and error: they take every text, also where nobody reads it any more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


def prepare() -> None:
    """Make standard output and error take every text, also where they are closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Never closed: it is there until the process ends, as the stream would be.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(lines: Iterable[str]) -> bool:
    """Print lines, now. Where nobody reads them any more they are for nobody: False is returned."""
    text = "".join(f"{line}\n" for line in lines)
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
        return False
    return True


def settle() -> None:
    """Print what waits to be printed, if it can be."""
    try:
        sys.stdout.flush()
    except OSError:
        silence()


def silence() -> None:
    """Send what is still printed, and what waits to be, nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
