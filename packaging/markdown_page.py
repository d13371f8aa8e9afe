"""Manual pages in Markdown: the same calls as those of `troff.Page`, for the site."""

from __future__ import annotations

import re


def _escaped(text: str) -> str:
    """A text in which `<`, `*` and `_` outside of code stand for themselves."""
    parts = re.split(r"(`[^`]+`|\*\*.+?\*\*)", text)
    return "".join(
        part if index % 2 else re.sub(r"([<*_\[\]])", r"\\\1", part)
        for index, part in enumerate(parts)
    )


class Page:
    """A manual page that grows."""

    def __init__(self, name: str, section: int, summary: str, source: str) -> None:
        del source  # the site says itself what it belongs to
        self._parts = [f"# {name}({section})", f"{name} - {summary}"]

    def heading(self, text: str) -> None:
        """A section."""
        self._parts.append(f"## {text.capitalize()}")

    def subheading(self, text: str) -> None:
        """A part of a section."""
        self._parts.append(f"### {text.replace('**', '')}")

    def paragraph(self, text: str) -> None:
        """Text."""
        self._parts.append(_escaped(" ".join(text.split())))

    def item(self, term: str, text: str) -> None:
        """A term and what it is, both with markup."""
        self._parts.append(f"- {_escaped(term)}: {_escaped(' '.join(text.split()))}")

    def literal(self, text: str) -> None:
        """Text with the lines that it has."""
        self._parts.append("```text\n" + text.rstrip("\n") + "\n```")

    def synopsis(self, usage: str) -> None:
        """How a command is called, as argparse writes it."""
        prefix = "usage: "
        lines = [each[len(prefix) :] for each in usage.rstrip("\n").split("\n")]
        self.literal("\n".join(lines))

    def markdown(self, text: str) -> None:
        """A Markdown text."""
        self._parts.append(text.strip())

    def __str__(self) -> str:
        return "\n\n".join(self._parts) + "\n"
