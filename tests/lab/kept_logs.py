"""Consoles and results of machines, kept where a test failed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PLACE = Path(os.environ.get("VMIB_LAB_RESULTS", "/tmp")) / "vmib-lab-logs"
_IMAGES = shutil.ignore_patterns("*.img", "*.tar", "wire")


@contextmanager
def keeping(name: str, directory: Path, session: pytest.Session) -> Iterator[None]:
    """Copy a directory, without its images, if the block or a test meanwhile fails."""
    failed = session.testsfailed
    try:
        yield
    except BaseException:
        _keep(name, directory)
        raise
    if session.testsfailed > failed:
        _keep(name, directory)


def _keep(name: str, directory: Path) -> None:
    shutil.rmtree(PLACE / name, ignore_errors=True)
    shutil.copytree(directory, PLACE / name, ignore=_IMAGES)
    print(f"kept in {PLACE / name}")
