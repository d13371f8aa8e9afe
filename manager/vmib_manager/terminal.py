"""What a terminal can show: colours and progress. Elsewhere: plain lines and silence."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TextIO

from .apply import Phase, Progress
from .plan_text import Paint, plain
from .streams import prepare, say, settle, silence

__all__ = ["WHEN", "ProgressLine", "painter", "prepare", "say", "settle", "silence"]

WHEN = ("auto", "always", "never")
"""When there are colours."""

_CODES = {"good": "32", "bad": "31;1", "warn": "33", "quiet": "2", "strong": "1"}


def painter(when: str, stream: TextIO, environment: Mapping[str, str] = os.environ) -> Paint:
    """Colours for `when` "always", "never" or "auto": on a terminal, unless NO_COLOR is set."""
    if when == "never":
        return plain
    if when == "auto" and (
        not stream.isatty() or environment.get("NO_COLOR") or environment.get("TERM") == "dumb"
    ):
        return plain
    return lambda text, style: f"\033[{_CODES[style]}m{text}\033[0m"


class ProgressLine:
    """One line on a terminal that tells how far all hosts are; nothing elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._on = self._stream.isatty()
        self._phase: Phase | None = None
        self._done: dict[str, tuple[int, int]] = {}
        self._length = 0

    def tell(self, progress: Progress) -> None:
        """Show something new."""
        if not self._on:
            return
        if progress.phase is not self._phase:
            self._phase, self._done = progress.phase, {}
        self._done[progress.host] = (progress.done, progress.total)
        hosts = sum(done == total for done, total in self._done.values())
        done = sum(done for done, _ in self._done.values())
        total = sum(total for _, total in self._done.values())
        messages = f", {done} of {total} messages" if total > len(self._done) else ""
        self._write(f"{progress.phase.value}: {hosts} of {len(self._done)} hosts{messages}")

    def show(self, text: str) -> None:
        """Show this text."""
        if self._on:
            self._write(text)

    def _write(self, text: str) -> None:
        padding = " " * max(0, self._length - len(text))
        self._stream.write(f"\r{text}{padding}")
        self._stream.flush()
        self._length = len(text)

    def clear(self) -> None:
        """Take the line away."""
        if self._on and self._length:
            self._write("")
            self._stream.write("\r")
            self._stream.flush()
            self._length = 0
