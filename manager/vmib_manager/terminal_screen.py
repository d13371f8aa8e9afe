"""A terminal that is drawn anew in place, and is as before at the end, whatever ends it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

_ENTER = "\033[?1049h\033[?25l"  # the other screen, no cursor: xterm's control sequences
_LEAVE = "\033[?25h\033[?1049l"
_HOME, _END_OF_LINE, _BELOW = "\033[H", "\033[K", "\033[J"
_QUIT = b"q"

Draw = Callable[[int, int], list[str]]
"""Lines for a width and a height."""


class TerminalScreen:
    """Standard output as a screen; use it as a context manager inside a running event loop.

    `ended` is set when the reader presses q.
    """

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self._draw: Draw | None = None
        self._keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        self._before: list[Any] = []

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self._keys is not None:
            self._before = termios.tcgetattr(self._keys)
            loop.add_reader(self._keys, self._pressed)
        self._take()
        loop.add_signal_handler(signal.SIGWINCH, self._drawn)
        loop.add_signal_handler(signal.SIGTSTP, self._pause)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_signal_handler(signal.SIGTSTP)
        if self._keys is not None:
            loop.remove_reader(self._keys)
        self._give_back()

    def show(self, draw: Draw) -> None:
        """Draw, now and whenever the terminal gets another size."""
        self._draw = draw
        self._drawn()

    def _drawn(self) -> None:
        if self._draw is None:
            return
        width, height = shutil.get_terminal_size()
        lines = self._draw(width, height)
        _write(_HOME + f"{_END_OF_LINE}\r\n".join(lines[:height]) + _END_OF_LINE + _BELOW)

    def _take(self) -> None:
        if self._keys is not None:
            tty.setcbreak(self._keys)
        _write(_ENTER)

    def _give_back(self) -> None:
        _write(_LEAVE)
        if self._keys is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def _pause(self) -> None:
        """Ctrl-Z: the terminal is somebody else's until the shell lets this process go on."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()
        self._drawn()

    def _pressed(self) -> None:
        assert self._keys is not None
        pressed = os.read(self._keys, 64)
        if _QUIT in pressed or not pressed:
            self.ended.set()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
