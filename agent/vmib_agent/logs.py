"""The agent's log: one line of key=value pairs on standard error for each event."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TextIO

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

_JOURNAL_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}

_PLAIN = re.compile(r"[\w.,:;/@%+-]+", re.ASCII)

log = logging.getLogger("vmib_agent")


def escaped(text: str) -> str:
    """Text that can neither end the line nor steer a terminal."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def event(name: str, /, **facts: object) -> str:
    """A log line: `event=NAME` and the facts as key=value, quoted where they hold blanks."""
    return " ".join([f"event={name}", *(f"{key}={_shown(fact)}" for key, fact in facts.items())])


@lru_cache(maxsize=1024)
def shown(text: str) -> str:
    """A fact as it stands in a line."""
    return _shown(text)


def _shown(fact: object) -> str:
    text = str(fact)
    if _PLAIN.fullmatch(text):
        return text
    if text.isprintable() and text and not set(text) & set(' "=\\'):
        return text
    return '"' + escaped(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


class _Lines(logging.Formatter):
    """One record, its traceback included, on lines that all carry the journal's priority."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal
        self._second = 0
        self._time = ""

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        text = f"level={level} {record.getMessage()}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        if not self._journal:
            return f"{self._at(record.created)} {text}"
        prefix = f"<{_JOURNAL_PRIORITIES.get(record.levelno, 6)}>"
        return "\n".join(prefix + escaped(line) for line in text.splitlines())

    def info(self, text: str) -> str:
        """The line of level info with a text that can neither end it nor steer a terminal."""
        return f"{'<6>' if self._journal else self._at(time.time()) + ' '}level=info {text}"

    def _at(self, moment: float) -> str:
        if int(moment) != self._second:
            self._second = int(moment)
            self._time = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(self._second))
        return self._time


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines to standard error."""

    def __init__(self, lines: _Lines) -> None:
        super().__init__(sys.stderr)
        self._lines = lines
        self._held: deque[str] = deque()
        self.setFormatter(lines)

    def write(self, text: str) -> None:
        """Write a line of level info, or hold it back for `Together`."""
        self._held.append(self._lines.info(text) + "\n")
        if not together.is_entered:
            self.let_go()

    def let_go(self) -> None:
        """Write what was held back, if anything was."""
        if not self._held:
            return
        self.acquire()  # whoever logs from another thread lets go, too
        try:
            lines = [self._held.popleft() for _ in range(len(self._held))]
            if lines:
                self.stream.write("".join(lines))
                self.stream.flush()
        finally:
            self.release()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, after what was held back before it."""
        self.let_go()
        super().emit(record)


class Together:
    """`with together:` has the lines of `info` inside written at its end, all at once."""

    is_entered = False

    def __enter__(self) -> None:
        self.is_entered = True

    def __exit__(self, *_: object) -> None:
        self.is_entered = False
        for handler in log.handlers:
            if isinstance(handler, _Handler):
                handler.let_go()


together = Together()


def configure(level: str) -> None:
    """Log to standard error, with sd-daemon(3) priorities when the journal reads it."""
    handler = _Handler(_Lines(journal="JOURNAL_STREAM" in os.environ))
    # What no line shows need not be found out (Python's logging HOWTO, Optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    vars(logging)["_srcfile"] = None
    log.handlers[:] = [handler]
    log.setLevel(LEVELS[level])
    log.propagate = False


def info(text: str) -> None:
    """A line of level info, past what else `logging` can do: a fifth of the cost."""
    if not log.isEnabledFor(logging.INFO):
        return
    handler = log.handlers[0] if len(log.handlers) == 1 else None
    if isinstance(handler, _Handler):
        handler.write(text)
    else:
        log.info(text)


class RateLimit:
    """Lets a few events of each kind through in a period and counts the others."""

    def __init__(
        self, burst: int = 5, period: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._period = period
        self._clock = clock
        self._kinds: dict[str, tuple[float, int]] = {}

    def suppressed_before(self, kind: str) -> int | None:
        """How many events were held back before this one, or None when it is held back too."""
        now = self._clock()
        since, seen = self._kinds.get(kind, (now, 0))
        if now - since >= self._period:
            self._kinds[kind] = (now, 1)
            return max(seen - self._burst, 0)
        self._kinds[kind] = (since, seen + 1)
        return 0 if seen < self._burst else None
