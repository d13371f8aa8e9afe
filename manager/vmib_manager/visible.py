"""Texts of others, fit to be shown: what agents and files say never steers a terminal."""

from __future__ import annotations


def visible(text: str) -> str:
    """A text in one line whose control characters are shown as escapes instead of obeyed."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
