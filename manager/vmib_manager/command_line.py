"""How the commands take their command lines: whole names of options, help that reads well."""

from __future__ import annotations

import argparse
import shutil
from typing import Any, NoReturn

from vmib.errors import VmibError

_WIDEST = 100
_HELP_COLUMN = 30


class UsageError(VmibError):
    """A command line that cannot be understood; `usage` is what can be."""

    def __init__(self, program: str, message: str, usage: str) -> None:
        super().__init__(message)
        self.program = program
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """Raises UsageError instead of ending the process; takes whole names of options only."""

    def __init__(self, **settings: Any) -> None:
        settings.setdefault("formatter_class", _Help)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UsageError(self.prog, message, self.format_usage())


class _Help(argparse.HelpFormatter):
    """Help as wide as the terminal, up to a width that reads well; text has paragraphs."""

    def __init__(self, prog: str) -> None:
        width = min(shutil.get_terminal_size().columns, _WIDEST) - 2
        super().__init__(prog, max_help_position=_HELP_COLUMN, width=width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = text.strip().split("\n\n")
        return "\n\n".join(self._paragraph(each, width, indent) for each in paragraphs)

    def _paragraph(self, text: str, width: int, indent: str) -> str:
        if "\n  " in text:  # a list
            return text
        return super()._fill_text(text, width, indent)
