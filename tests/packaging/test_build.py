"""The Debian packages as files."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from . import debian_tree

pytestmark = pytest.mark.packaging


def digests(directory: Path) -> dict[str, str]:
    files = directory.glob("*.deb")
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_tree_gives_the_same_bytes(packages: Path, tmp_path: Path) -> None:
    debian_tree.build_packages(tmp_path)
    assert len(digests(packages)) == 2
    assert digests(tmp_path) == digests(packages)


@pytest.mark.skipif(shutil.which("lintian") is None, reason="needs lintian")
def test_lintian_finds_neither_errors_nor_warnings(packages: Path) -> None:
    (changes,) = packages.glob("*.changes")
    command = ["lintian", "--allow-root", "--fail-on", "error,warning", str(changes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
