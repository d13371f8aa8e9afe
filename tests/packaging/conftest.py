"""The Debian packages of this tree, built once for all tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import debian_tree
from .debian_tree import Tree

NEEDED = ("dpkg-buildpackage", "dh", "dh_python3", "mmdebstrap", "po2debconf")


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the packages."""
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        pytest.skip(f"needs {', '.join(missing)}: make packages installs them")
    directory = tmp_path_factory.mktemp("debian")
    debian_tree.build_packages(directory)
    return directory


@pytest.fixture(scope="module")
def tree(packages: Path) -> Iterator[Tree]:
    """A clean Debian with the packages at hand."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes namespaces and mounts")
    with debian_tree.running(packages) as made:
        yield made
