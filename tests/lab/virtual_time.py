"""Tests that run in an emulated Debian machine in virtual time, and what became of them.

Which ones: all in the tree that are marked `netem`, among them those of tests/lab/vtime, which run
nowhere else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from . import debian_image, machine, tree

ENVIRONMENT = {"VMIB_LAB": "vtime", "VMIB_LAB_RESULTS": "/results"}
DIRECTORY = tree.ROOT / ".cache" / "lab" / "virtual-time"
"""Where the last run's console and results stay."""
KERNEL_ARGUMENTS = "console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off preempt=full"
MEGABYTES = 1024
PATIENCE = 3600.0


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a test: why it failed or was skipped, "" if it passed."""

    failure: str = ""
    skipped: str = ""


def missing() -> str | None:
    """What the lab lacks here, or None."""
    if os.geteuid() != 0:
        return "needs root: unpacks Debian packages into a root file system"
    programs = ("qemu-system-x86_64", "mmdebstrap", "busybox", "cpio", "mke2fs")
    absent = [name for name in programs if shutil.which(name) is None]
    return f"needs {', '.join(absent)} (see packaging/setup.sh)" if absent else None


@cache
def tests() -> tuple[str, ...]:
    """The tests that run there, by the names that pytest gives them."""
    marked = [
        str(path.relative_to(tree.ROOT))
        for path in sorted((tree.ROOT / "tests").rglob("test_*.py"))
        if "mark.netem" in path.read_text()
    ]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "netem", *marked]
    done = subprocess.run(
        command,
        cwd=tree.ROOT,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return tuple(line for line in done.stdout.splitlines() if "::" in line)


def run(wanted: Sequence[str]) -> dict[str, Result]:
    """Boot a machine, run tests there, and tell what became of each."""
    running = boot(DIRECTORY, {"tests": list(wanted)}, PATIENCE)
    told = _told(DIRECTORY / "junit.xml")
    unknown = Result(failure=f"nothing was told of it:\n{running.last_words()}")
    return {test: told.get(_key(test), unknown) for test in wanted}


def boot(directory: Path, job: dict[str, object], seconds: float) -> machine.Running:
    """Let a machine do a job (see `debian_init`); console and results are in the directory.

    What was there is removed. Raises AssertionError where it takes longer than some seconds.
    """
    image = debian_image.image()
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    disk = directory / "tree.img"
    tree.disk(disk, {"environment": ENVIRONMENT, **job})
    debian_image.label(disk, "tree")
    described = machine.Machine(
        image.kernel,
        KERNEL_ARGUMENTS,
        str(image.initrd),
        (image.root, disk),
        MEGABYTES,
        disks_are_memory=True,
    )
    running = machine.start(described, directory)
    try:
        running.wait(seconds)
        running.unpack_results(directory)
    finally:
        running.kill()
        disk.unlink()
        running.results.unlink()
    return running


def _told(report: Path) -> dict[tuple[str, str], Result]:
    """What pytest's report in JUnit's XML says, by class and name."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        failures = [*case.iterfind("failure"), *case.iterfind("error")]
        skips = [skip.get("message", "") for skip in case.iterfind("skipped")]
        text = "\n".join(failure.text or failure.get("message", "") for failure in failures)
        found[case.get("classname", ""), case.get("name", "")] = Result(text, "".join(skips))
    return found


def _key(test: str) -> tuple[str, str]:
    """The class and name that the report has for a test of pytest's name."""
    path, _, name = test.partition("::")
    return path.removesuffix(".py").replace("/", "."), name
