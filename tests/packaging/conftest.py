"""The Debian packages of this tree, built and installed once for all tests."""

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
        pytest.skip(f"needs {', '.join(missing)}: packaging/setup.sh installs them")
    directory = tmp_path_factory.mktemp("debian")
    debian_tree.build_packages(directory)
    return directory


@pytest.fixture(scope="session")
def layers(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A clean Debian with the packages, for trees to be above."""
    if os.geteuid() != 0:
        pytest.skip("needs root: makes namespaces and mounts")
    place = tmp_path_factory.mktemp("installed")
    clean = debian_tree.clean(packages)
    with debian_tree.running([clean], packages, place) as tree:
        debian_tree.install(tree)
    return [place / "upper", clean]


@pytest.fixture(scope="module")
def tree(
    layers: list[Path], packages: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tree]:
    """A tree in which the packages are installed."""
    with debian_tree.running(layers, packages, tmp_path_factory.mktemp("tree")) as made:
        yield made
