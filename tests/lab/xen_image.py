"""The parts of a host of Xen: hypervisor, dom0's kernel and root file system, a guest's kernel.

All are Debian's packages. The tree under test is not in there: see `tree`.
"""

from __future__ import annotations

import gzip
import inspect
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import cache, debian, python_packages

PACKAGES = (
    "busybox-static",
    "dnsmasq-base",
    "ethtool",
    "iperf3",
    "iproute2",
    "iptables",
    "iputils-ping",
    "kmod",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-xen",
    "mount",
    "procps",
    "python3",
    "python3-libvirt",
    "snmp",
    "xen-utils-4.17",
    "xenstore-utils",
)
HYPERVISOR = "xen-hypervisor-4.17-amd64"

# It comes with the library that libvirt's daemon needs, misses its user, and would end the daemon.
QEMU_DRIVER = "usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so"

# What dom0 loads is in these directories of its kernel's package, with all it depends on.
MODULES = (
    "crypto",
    "drivers/block/virtio_blk.ko",
    "drivers/block/xen-blkback",
    "drivers/net/ifb.ko",
    "drivers/net/net_failover.ko",
    "drivers/net/tap.ko",
    "drivers/net/tun.ko",
    "drivers/net/veth.ko",
    "drivers/net/virtio_net.ko",
    "drivers/net/vxlan",
    "drivers/net/xen-netback",
    "drivers/net/xen-netfront.ko",
    "drivers/virtio",
    "drivers/xen",
    "fs/ext4",
    "fs/jbd2",
    "fs/mbcache.ko",
    "lib",
    "net",
)

DOM0_INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t devtmpfs dev /dev
for module in /m/*; do $B insmod $module; done
until [ -e /dev/vdc ]; do $B sleep 0.1; done
$B mount -t ext4 /dev/vda /new
$B mount -t ext4 /dev/vdb /new/mnt
$B mount --move /dev /new/dev
$B umount /proc
exec $B switch_root /new /bin/sh -c "cd /mnt && exec python3 -u -m tests.lab.dom0"
"""

GUEST_PROGRAMS = ("usr/bin/iperf3", "usr/sbin/ethtool")


@dataclass(frozen=True, slots=True)
class XenImage:
    """Files of a host of Xen."""

    directory: Path

    @property
    def hypervisor(self) -> Path:
        return self.directory / "xen.elf"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.gz"

    @property
    def root(self) -> Path:
        return self.directory / "root.img"

    @property
    def guest_modules(self) -> list[Path]:
        """What a guest loads, in that order."""
        return sorted((self.directory / "guest" / "modules").iterdir())

    @property
    def guest_programs(self) -> Path:
        """What is in a guest beside busybox."""
        return self.directory / "guest" / "programs"


def image() -> XenImage:
    """The image, built when it is not there."""
    wanted = python_packages.requirements()
    recipe = [Path(__file__).read_text(), inspect.getsource(debian), *wanted]
    return XenImage(cache.kept("xen", recipe, lambda directory: _build(directory, wanted)))


def _build(directory: Path, wanted: list[str]) -> None:
    boot, root = directory / "boot", directory / "root"
    debian.unpack([debian.kernel_package("amd64"), HYPERVISOR], boot)
    (kernel,) = (boot / "boot").glob("vmlinuz-*")
    (hypervisor,) = (boot / "boot").glob("xen-*.gz")
    (directory / "vmlinux").write_bytes(debian.uncompressed(kernel))
    (directory / "xen.elf").write_bytes(gzip.decompress(hypervisor.read_bytes()))

    debian.root(PACKAGES, root)
    (root / QEMU_DRIVER).unlink()
    debian.add_modules(boot, root, MODULES)
    python_packages.install(wanted, root)
    shutil.copy2(directory / "vmlinux", root / "boot" / "vmlinuz")
    for program in GUEST_PROGRAMS:
        debian.copy_program(root, program, directory / "guest" / "programs")
    modules = directory / "guest" / "modules"
    modules.mkdir()
    for number, module in enumerate(debian.module_files(root, ["xen-netfront"])):
        shutil.copy2(module, modules / f"{number:02}-{module.name}")
    needed = debian.module_files(root, ["virtio_pci", "virtio_blk", "ext4"])
    debian.initramfs(DOM0_INIT, needed, directory / "initrd.gz")
    debian.ext4(root, directory / "root.img", 1500)
    for made in (boot, root):
        shutil.rmtree(made)
