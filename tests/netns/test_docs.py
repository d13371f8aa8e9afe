"""Pages can be followed: their commands run as written, and print what they show.

In network and mount namespaces of their own, where the addresses of their labs are free.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .hosts import ROOT

pytestmark = [
    pytest.mark.netns,
    pytest.mark.snmp,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
APART = """\
mkdir -p /run/vmib /run/netns
mount -t tmpfs none /run/vmib
mount -t tmpfs none /run/netns
ip link set lo up
exec bash -eu
"""
"""A system with labs of its own; reads on from standard input."""
IN_THE_END = "trap '\"$TREE\"/.venv/bin/vmib lab down >/dev/null || true' EXIT\n"


def script_of(page: Path) -> Iterator[str]:
    """The blocks for a shell and for Python, in order, without `make`."""
    for language, body in FENCE.findall(page.read_text()):
        if language == "sh":
            yield "".join(
                line for line in body.splitlines(keepends=True) if not line.startswith("make ")
            )
        if language == "python":
            yield f"python - <<'END'\n{body}END\n"


def shown_by(page: Path) -> list[str]:
    """What the page says that its commands print; how often the kernel counts a device varies."""
    blocks = [body for language, body in FENCE.findall(page.read_text()) if language == "text"]
    return [re.sub(r"refcnt \d+", "refcnt N", line) for line in "".join(blocks).splitlines()]


PAGES = ("quickstart", "probes", "serve", "nagios")
FOLLOWED = ["README.md", *(f"packaging/docs/{name}.md" for name in PAGES)]


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(page: str) -> None:
    script = IN_THE_END + "".join(script_of(ROOT / page))
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-euc", APART],
        input=script,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"TREE": str(ROOT)},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = iter(
        re.sub(r"refcnt \d+", "refcnt N", line).rstrip() for line in done.stdout.splitlines()
    )
    for line in shown_by(ROOT / page):
        assert line in printed, f"not printed, or not in this order: {line}\n{done.stdout}"
