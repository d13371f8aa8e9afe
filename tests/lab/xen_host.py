"""Hosts of Xen as QEMU boots them, and what their guests start with."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from . import debian, guest_image, tree
from .machine import Machine, Running, start
from .xen_image import XenImage, image

PYTHON = (3, 11)
"""That of Debian's release: packages with compiled parts are the same in dom0 and here."""
XEN_ARGUMENTS = (
    "console=com1 com1=115200,8n1 loglvl=warning dom0_mem={}M "
    # What costs an emulated processor time and serves nobody here.
    "xpti=0 spec-ctrl=no bootscrub=0 cpuidle=0"
)
DOM0_ARGUMENTS = "console=hvc0 panic=-1 quiet mitigations=off"
DOM0_MEGABYTES, MEGABYTES = 1536, 3072
GUEST = "guest.gz"


def machine(
    parts: XenImage, directory: Path, job: object, networks: tuple[str, ...] = ()
) -> Machine:
    """A host that does a job (see `tree`), with its disk of the tree in a directory.

    It is in virtual time unless it has networks: two hosts do not share a clock.
    """
    guest, disk = directory / GUEST, directory / "tree.img"
    with TemporaryDirectory() as programs:
        shutil.copytree(parts.guest_programs, programs, dirs_exist_ok=True)
        guest_image.add_dhcp(Path(programs))
        debian.initramfs(guest_image.INIT, parts.guest_modules, guest, Path(programs))
    tree.disk(disk, job, [guest])
    return Machine(
        kernel=parts.hypervisor,
        arguments=XEN_ARGUMENTS.format(DOM0_MEGABYTES),
        initrd=f"{parts.kernel} {DOM0_ARGUMENTS},{parts.initrd}",
        disks=(parts.root, disk),
        megabytes=MEGABYTES,
        virtual_time=not networks,
        networks=networks,
    )


def place(lab: str) -> Path:
    """The empty directory in which console and results of a lab's last run stay."""
    made = tree.ROOT / ".cache" / "lab" / lab
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    return made


def tidy(directory: Path) -> None:
    """Remove images from the directory of a host that has ended."""
    for name in (GUEST, "tree.img", "results.tar"):
        (directory / name).unlink(missing_ok=True)


def boot(directory: Path, job: object, seconds: float) -> Running:
    """Let a host in virtual time do a job; console and results are in the directory.

    Raises AssertionError where it takes longer than some seconds.
    """
    running = start(machine(image(), directory, job), directory)
    try:
        running.wait(seconds)
        running.unpack_results(directory)
    finally:
        running.kill()
        tidy(directory)
    return running


def missing() -> str | None:
    """Why no host of Xen can be built and booted here, or None."""
    if os.geteuid() != 0:
        return "needs root: builds a Debian system"
    programs = ("busybox", "cpio", "mke2fs", "mmdebstrap", "qemu-system-x86_64", "setpriv")
    absent = [name for name in programs if shutil.which(name) is None]
    if absent:
        return f"needs {', '.join(absent)} (see packaging/setup.sh)"
    if sys.version_info[:2] != PYTHON:
        return f"needs Python {PYTHON[0]}.{PYTHON[1]}, that of Debian {debian.RELEASE}"
    return None
