"""A Debian machine that QEMU emulates, with systemd and the packages, which runs the scenario."""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import pages
from ..lab import cache, debian, debian_image, machine
from . import asking, debian_tree
from .debian_tree import Tree

HERE = Path(__file__).resolve().parent
_MEGABYTES = 900
_SECONDS = 900.0
_INIT = """\
#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t devtmpfs dev /dev
for module in /m/*; do $B insmod $module; done
until [ -e /dev/vdb ]; do $B sleep 0.1; done
$B mount -t ext4 /dev/vda /new
$B mount --move /dev /new/dev
$B umount /proc
exec $B switch_root /new /sbin/init
"""
_UNIT = """\
[Unit]
After=vmib-agent.service
[Service]
Type=oneshot
Environment=HOME=/root
ExecStart=/usr/bin/python3 -u /root/boot_scenario.py
StandardOutput=journal+console
StandardError=journal+console
[Install]
WantedBy=multi-user.target
"""
# Half a minute of hanging is long to wait for; a computer that is busy needs some time, too.
_DROP_IN = """\
[Service]
WatchdogSec=10
TimeoutStartSec=300
"""
_NOT_NEEDED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "cron.service",
    "e2scrub_reap.service",
    "getty.target",
    "systemd-binfmt.service",
    "systemd-hwdb-update.service",
    "systemd-journal-flush.service",
    "systemd-timesyncd.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
    "systemd-udev-settle.service",
)


def run(tree: Tree, place: Path) -> Mapping[str, Any]:
    """Boot a tree, to which what the scenario needs is added; its facts."""
    kernel = cache.kept("boot", [inspect.getsource(_build), _INIT], _build)
    shutil.copytree(kernel / "modules", tree.plain / "usr" / "lib" / "modules")
    asking.equip(tree)
    shutil.copy(HERE / "boot_scenario.py", tree.plain / "root")
    units = tree.plain / "etc" / "systemd" / "system"
    (units / "vmib-test.service").write_text(_UNIT)
    asking.put(tree, "/etc/systemd/system/vmib-agent.service.d/test.conf", _DROP_IN, 0o644)
    asking.add_user(tree)
    _add_libvirt(tree)
    tree.run("systemctl", "enable", "-q", "vmib-test.service")
    tree.run("systemctl", "mask", "-q", *_NOT_NEEDED)
    debian.ext4(tree.plain, place / "root.img", _MEGABYTES)
    booted = machine.start(
        machine.Machine(
            kernel / "vmlinuz",
            "console=ttyS0 quiet panic=1 systemd.show_status=no",
            str(kernel / "initrd.gz"),
            (place / "root.img",),
            512,
            virtual_time=False,
        ),
        place,
    )
    try:
        booted.wait(_SECONDS)
    finally:
        booted.kill()
    booted.unpack_results(place / "results")
    failed = place / "results" / "failed"
    assert not failed.exists(), failed.read_text()
    facts: Mapping[str, Any] = json.loads((place / "results" / "facts.json").read_text())
    return facts


def _add_libvirt(tree: Tree) -> None:
    """What the page says of libvirt: packages now, the rest when the machine runs."""
    install, *others = pages.blocks("libvirt.md", "bash")[0].text.splitlines()
    assert install == "apt-get install -y python3-libvirt"
    words = ("apt-get", "-qq", "-y", "--no-install-recommends", "install")
    tree.run(*words, *debian_tree.LIBVIRT)
    tree.run("apt-get", "clean")
    (settings,) = pages.blocks("libvirt.md", "toml")
    asking.put(tree, "/root/hypervisor.toml", settings.text.replace("xen:", "qemu:"))
    asking.put(tree, "/root/use-libvirt", "\n".join(["set -eux", *others]))
    # The first who asks starts it.
    tree.run("systemctl", "disable", "-q", "libvirtd.service", "libvirt-guests.service")


def _build(directory: Path) -> None:
    """The kernel, its modules, and the initial file system that mounts the root."""
    boot, root = directory / "boot", directory / "root"
    debian.unpack([debian.kernel_package("amd64")], boot)
    (kernel,) = (boot / "boot").glob("vmlinuz-*")
    shutil.copy2(kernel, directory / "vmlinuz")
    debian.root(("busybox-static", "kmod"), root)
    debian.add_modules(boot, root, debian_image.MODULES)
    needed = debian.module_files(root, ["virtio_pci", "virtio_blk", "ext4"])
    debian.initramfs(_INIT, needed, directory / "initrd.gz")
    shutil.move(root / "lib" / "modules", directory / "modules")
    for made in (boot, root):
        shutil.rmtree(made)
