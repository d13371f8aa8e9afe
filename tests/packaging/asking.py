"""What a tree needs to ask its agent: the configuration of net-snmp's tools, and base modules."""

from __future__ import annotations

import os
from pathlib import Path

from .debian_tree import ROOT, Tree

BASE_MIBS = Path(os.environ.get("VMIB_BASE_MIBS", ROOT / ".cache" / "mibs"))
USER = "ann"
PASSPHRASES = "a long pass phrase\nanother long one\n"
SNMP_CONF = f"""\
defVersion 3
defSecurityName {USER}
defSecurityLevel authPriv
defAuthType SHA-256
defPrivType AES
defAuthPassphrase "a long pass phrase"
defPrivPassphrase "another long one"
mibdirs +/usr/local/share/mibs
mibs +VMIB-MIB
"""


def equip(tree: Tree) -> None:
    """Make it so that net-snmp's tools, started by root, know the user and VMIB-MIB's imports."""
    for module in BASE_MIBS.iterdir():
        put(tree, f"/usr/local/share/mibs/{module.name}", module.read_text(), 0o644)
    put(tree, "/root/.snmp/snmp.conf", SNMP_CONF)
    # The first of the tools would say that it has made this.
    (tree.plain / "var" / "lib" / "snmp" / "cert_indexes").mkdir(parents=True, exist_ok=True)


def add_user(tree: Tree) -> None:
    """Add the user, or add it again."""
    arguments = (USER, "--role", "admin", "--passphrase-file", "-")
    tree.run("vmib-agent", "user", "add", *arguments, text=PASSPHRASES)


def put(tree: Tree, path: str, text: str, mode: int = 0o600) -> None:
    """Write a file of a tree."""
    file = tree.plain / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch(mode=mode)
    file.write_text(text)
