"""The page on installation: what it says can be done is done, in this order."""

from __future__ import annotations

import pytest

from vmib import __version__

from . import asking, debian_tree
from .debian_tree import Tree

pytestmark = pytest.mark.packaging


def test_the_page_can_be_followed_to_its_end(tree: Tree) -> None:
    first, *others = debian_tree.page_lines()
    assert f"./vmib_{__version__}_all.deb ./vmib-agent_{__version__}_all.deb" in first
    asking.put(tree, "/root/phrases", asking.PASSPHRASES)
    # There is no systemd in a tree; test_boot has one.
    lines = [line for line in others if not line.startswith("systemctl ")]
    assert len(lines) > 5
    printed = tree.run("sh", "-euc", "\n".join(["cd /root", *lines]))
    assert "ann\tadmin\tSHA-256\tAES-128" in printed
    assert "listen: 127.0.0.1:161, [::1]:161" in printed
    for gone in ("/var/lib/vmib", "/etc/vmib", "/usr/bin/vmib"):
        assert not (tree.plain / gone.lstrip("/")).exists()
