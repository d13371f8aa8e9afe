"""The pages of the documentation, their blocks of code, and which test runs each of them."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "packaging" / "docs"
PAGES = {path.name: path for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))}

FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"`([/~][^`\n]*)`")


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language, its text, and the text of the page between it and the one
    before."""

    language: str
    text: str
    before: str

    @property
    def file(self) -> str:
        """Where it goes: the last file that the paragraph before it names."""
        named = _FILE.findall(self.before.strip().rpartition("\n\n")[2])
        assert named, f"the page does not say which file this is of:\n{self.text}"
        return str(named[-1])


def blocks(page: str, language: str = "") -> list[Block]:
    """The blocks of a page, all or of one language, in their order."""
    text, found, end = PAGES[page].read_text(), [], 0
    for fence in FENCE.finditer(text):
        block = Block(fence[2], textwrap.dedent(fence[3]), text[end : fence.start()])
        found.append(block)
        end = fence.end()
    return [block for block in found if language in ("", block.language)]


FOLLOWED = "tests/netns/test_docs.py"
"""Runs a page from its beginning to its end: `sh` and `python` are run, `toml` and `cfg` written
to the files that the page names, and `text` has to be printed."""

RUN_BY = {
    "README.md": {
        "sh": FOLLOWED,
        "python": FOLLOWED,
        "text": FOLLOWED,
        "xml": "tests/unit/test_docs.py",
    },
    "install.md": {"bash": "tests/packaging/debian_tree.py"},
    "libvirt.md": {
        "toml": "tests/lab/host_lab.py",
        "bash": "tests/packaging/boot.py",
        "cfg": "tests/lab/test_hypervisor.py",
    },
    "monitoring.md": {"sh": FOLLOWED, "text": FOLLOWED, "toml": FOLLOWED, "cfg": FOLLOWED},
    "nagios.md": {
        "sh": FOLLOWED,
        "text": FOLLOWED,
        "toml": FOLLOWED,
        "cfg": "tests/unit/test_docs.py",
    },
    "probes.md": {"sh": FOLLOWED, "text": FOLLOWED},
    "prometheus.md": {"sh": "tests/nms/prometheus.py", "promql": "tests/nms/test_prometheus.py"},
    "quickstart.md": {"sh": FOLLOWED, "text": FOLLOWED},
    "security.md": {"sh": FOLLOWED, "text": FOLLOWED, "toml": FOLLOWED, "cfg": FOLLOWED},
    "serve.md": {"sh": FOLLOWED, "python": FOLLOWED, "text": FOLLOWED},
    "snmpd.md": {
        "sh": FOLLOWED,
        "text": FOLLOWED,
        "toml": FOLLOWED,
        "cfg": FOLLOWED,
        "ini": "tests/snmp/test_agentx_tls_tcp.py",
    },
    "troubleshooting.md": {"sh": FOLLOWED, "text": FOLLOWED},
}
"""By page and language the test that runs the blocks, or what it uses for that."""

MADE_BY = {
    "demo": "tests/netns/test_demo.py",
    "test": ".ci/run",
    "lab-vtime": "tests/lab/test_virtual_time.py",
    "lab-xen": "tests/lab/test_xen.py",
    "lab-xen2": "tests/lab/test_xen_two_hosts.py",
}
"""What runs the targets of make that are in blocks: too long for a page to run them again."""
