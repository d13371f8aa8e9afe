"""Programs of Debian packages, unpacked into a cache outside of the tree: no service starts.

The cache is $VMIB_DEBIAN_CACHE, by default ~/.cache/vmib/debian. Nothing is installed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_INSTALLS = re.compile(r"^Inst (\S+)", re.MULTILINE)


class NotToBeHad(AssertionError):
    """Packages that apt cannot find or fetch; says what apt said."""


def cache() -> Path:
    """Where packages are unpacked."""
    given = os.environ.get("VMIB_DEBIAN_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "vmib" / "debian"


def unpacked(*packages: str) -> Path:
    """The root of a tree with these packages and all that they need and the system lacks.

    Made at the first call, for ever; raises NotToBeHad.
    """
    root = cache() / "+".join(packages)
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".new-") as place:
        new, debs = Path(place) / "root", Path(place) / "debs"
        new.mkdir()
        debs.mkdir()
        _download(packages, debs)
        for deb in sorted(debs.glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(deb), str(new)], check=True)
        shutil.move(new, root)
    return root


def libraries(root: Path) -> dict[str, str]:
    """The environment with which programs of a tree find its libraries."""
    found = {str(library.parent) for library in root.glob("usr/lib/**/*.so*")}
    return {"LD_LIBRARY_PATH": os.pathsep.join(sorted(found))} if found else {}


def _download(packages: Sequence[str], place: Path) -> None:
    try:
        names = _needed(packages)
    except NotToBeHad:  # a system whose lists of packages are empty or old
        _apt("-qq", "update")
        names = _needed(packages)
    _apt("-qq", "-o", "APT::Sandbox::User=root", "download", *names, cwd=place)


def _needed(packages: Sequence[str]) -> list[str]:
    told = _apt("-s", "install", "--no-install-recommends", *packages)
    return sorted({*packages, *_INSTALLS.findall(told)})


def _apt(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(
        ["apt-get", *words],
        cwd=cwd,
        env=os.environ | {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        raise NotToBeHad(f"apt-get {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout
