"""The agent of a tree as a process, without systemd."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import units
from .debian_tree import Tree


@contextmanager
def agent(tree: Tree, *drop_ins: Path) -> Iterator[subprocess.Popen[str]]:
    """The agent as its unit would run it, once it serves."""
    with tree.file("/var/log/agent").open("wb") as log:
        command = tree.inside(*units.command(*drop_ins))
        process = subprocess.Popen(command, stderr=log, text=True)
    try:
        deadline = time.monotonic() + 60
        while "event=serving" not in logged(tree):
            assert process.poll() is None, logged(tree)
            assert time.monotonic() < deadline, logged(tree)
            time.sleep(0.1)
        yield process
    finally:
        # nsenter hands no signals on; the agent is what has its name in this tree.
        tree.run("pkill", "-TERM", "-u", "_vmib", "-f", "vmib-agent run", check=False)
        process.wait(20)


def logged(tree: Tree) -> str:
    """What the agent has logged since its start."""
    return tree.file("/var/log/agent").read_text()
