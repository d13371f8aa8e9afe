"""A subagent made of pyagentx3, with two numbers; the second cannot be committed.

    pyagentx3_agent.py SOCKET OID

Reading tells what has been committed. Runs in a Python that has pyagentx3.
"""

from __future__ import annotations

import sys
from typing import Any

import pyagentx3  # type: ignore[import-not-found]

VALUES = {"1": 0, "2": 0}


class Numbers(pyagentx3.Updater):  # type: ignore[misc]
    """What is read."""

    def update(self) -> None:
        """Take the values of now."""
        for column, value in VALUES.items():
            self.set_INTEGER(f"{column}.0", value)


class First(pyagentx3.SetHandler):  # type: ignore[misc]
    """Commits."""

    def commit(self, oid: str, data: Any) -> None:
        """Keep the number."""
        VALUES["1"] = data


class Second(pyagentx3.SetHandler):  # type: ignore[misc]
    """Cannot commit."""

    def commit(self, oid: str, data: Any) -> None:
        """Fail, as a kernel may."""
        raise OSError("No buffer space available")


class Agent(pyagentx3.Agent):  # type: ignore[misc]
    """Two numbers below one OID."""

    def setup(self) -> None:
        """Register them."""
        self.register(sys.argv[2], Numbers, freq=0.2)
        self.register_set(f"{sys.argv[2]}.1", First)
        self.register_set(f"{sys.argv[2]}.2", Second)


Agent("bench", sys.argv[1]).start()
