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

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
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


def of_suite(suite: str, package: str) -> Path:
    """The root of a tree with a package of another release of Debian, from the system's archive.

    Without what the package needs; made at the first call, for ever. Raises NotToBeHad.
    """
    root = cache() / f"{package}@{suite}"
    if root.is_dir():
        return root
    archive = _archive()
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=".new-") as name:
        place = Path(name)
        for directory in ("lists/partial", "archives/partial", "root"):
            (place / directory).mkdir(parents=True)
        (place / "sources").write_text(f"deb [signed-by={KEYRING}] {archive} {suite} main\n")
        settings = {
            "Dir::Etc::sourcelist": place / "sources",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::Lists": place / "lists",
            "Dir::Cache": place,
            "APT::Sandbox::User": "root",
        }
        words = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        _apt("-qq", *words, "update")
        _apt("-qq", *words, "download", package, cwd=place)
        for deb in place.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(deb), str(place / "root")], check=True)
        shutil.move(place / "root", root)
    return root


def _archive() -> str:
    """Where the system has Debian from."""
    words = ["indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages"]
    for line in _apt(*words).splitlines():
        label, _, uri = line.partition(" ")
        if label == "Debian":
            return uri
    raise NotToBeHad("the system's lists of packages have no archive of Debian")


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
