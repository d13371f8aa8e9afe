"""A plain Debian machine: kernel and root file system with all that shaping needs.

All are Debian's packages. The tree under test is not in there: see `tree`.
"""

from __future__ import annotations

import inspect
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import cache, debian, python_packages

PACKAGES = (
    "busybox-static",
    "ethtool",
    "iperf3",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "mount",
    "procps",
    "python3",
    "snmp",
)

# What the machine loads is in these directories of its kernel's package, with all it depends on.
MODULES = (
    "crypto",
    "drivers/acpi/nfit",
    "drivers/block/virtio_blk.ko",
    "drivers/net/ifb.ko",
    "drivers/net/veth.ko",
    "drivers/net/vxlan",
    "drivers/nvdimm",
    "drivers/virtio",
    "fs/ext4",
    "fs/jbd2",
    "fs/mbcache.ko",
    "lib",
    "net",
)

INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t devtmpfs dev /dev
for module in /m/*; do $B insmod $module; done
until [ -e /dev/pmem0 ] && [ -e /dev/pmem1 ]; do $B sleep 0.1; done
$B mount -t ext4 $($B findfs LABEL=root) /new
$B mount -t ext4 $($B findfs LABEL=tree) /new/mnt
$B mount --move /dev /new/dev
$B umount /proc
exec $B switch_root /new /bin/sh -c "cd /mnt && exec python3 -u -m tests.lab.debian_init"
"""


@dataclass(frozen=True, slots=True)
class DebianImage:
    """Files of a Debian machine."""

    directory: Path

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.gz"

    @property
    def root(self) -> Path:
        return self.directory / "root.img"


def image() -> DebianImage:
    """The image, built when it is not there."""
    wanted = python_packages.requirements()
    recipe = [Path(__file__).read_text(), inspect.getsource(debian), *wanted]
    return DebianImage(cache.kept("debian", recipe, lambda directory: _build(directory, wanted)))


def label(disk: Path, name: str) -> None:
    """Name a disk's file system: memory modules appear in any order."""
    debian.run("/sbin/e2label", disk, name)


def _build(directory: Path, wanted: list[str]) -> None:
    boot, root = directory / "boot", directory / "root"
    debian.unpack([debian.kernel_package("amd64")], boot)
    (kernel,) = (boot / "boot").glob("vmlinuz-*")
    (directory / "vmlinux").write_bytes(debian.uncompressed(kernel))
    debian.root(PACKAGES, root)
    debian.add_modules(boot, root, MODULES)
    python_packages.install(wanted, root)
    needed = debian.module_files(root, ["virtio_pci", "virtio_blk", "nfit", "nd_pmem", "ext4"])
    debian.initramfs(INIT, needed, directory / "initrd.gz")
    debian.ext4(root, directory / "root.img", 1000)
    label(directory / "root.img", "root")
    for made in (boot, root):
        shutil.rmtree(made)
