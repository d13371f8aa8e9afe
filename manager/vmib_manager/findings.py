"""What checks say: a severity, the line, what is wrong and the way out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from .model import Source


class Severity(Enum):
    """An error keeps the model from being applied; a warning and a note do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found."""

    severity: Severity
    source: Source
    message: str
    way_out: str

    @property
    def file(self) -> str:
        """The file of the line."""
        return self.source.file

    @property
    def line(self) -> int:
        """The number of the line."""
        return self.source.line

    def __str__(self) -> str:
        return f"{self.source}: {self.severity.value}: {self.message}; {self.way_out}"


def error(source: Source, message: str, way_out: str) -> Finding:
    """A finding that keeps the model from being applied."""
    return Finding(Severity.ERROR, source, message, way_out)


def warning(source: Source, message: str, way_out: str) -> Finding:
    """A finding to think about."""
    return Finding(Severity.WARNING, source, message, way_out)


def note(source: Source, message: str, way_out: str) -> Finding:
    """A finding to know."""
    return Finding(Severity.NOTE, source, message, way_out)
