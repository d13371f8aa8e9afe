"""What the project and its tests in an emulated machine need of the Python Package Index."""

from __future__ import annotations

import configparser
import sys
from pathlib import Path

from . import debian

ROOT = Path(__file__).resolve().parents[2]
TEST_TOOLS = ("hypothesis", "pytest")
"""Test tools that run in machines, as they are called in setup.cfg."""


def requirements() -> list[str]:
    """What setup.cfg asks for, of its test tools those that run in machines."""
    read = configparser.ConfigParser()
    read.read(ROOT / "setup.cfg")
    needed = read["options"]["install_requires"].split("\n")
    tools = read["options.extras_require"]["test"].split("\n")
    needed += [line for line in tools if line.split(" ")[0] in TEST_TOOLS]
    return [line for line in needed if line]


def install(wanted: list[str], root: Path) -> None:
    """Install packages into a root file system that has the Python of this interpreter."""
    site = next((root / "usr" / "local" / "lib").glob("python3.*")) / "dist-packages"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    debian.run(*pip, "--target", site, *wanted)
