"""The first process of an emulated dom0: daemons of Xen, libvirt, tests."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from . import first_process
from .first_process import run

XEN = "/usr/lib/xen-4.17/bin"
MODULES = (
    "xen-evtchn", "xen-gntdev", "xen-gntalloc", "xen-netback", "xenfs", "xen_privcmd",
    "bridge", "br_netfilter", "virtio_net",
)  # fmt: skip
RESULTS = Path("/var/log")
DIRECTORIES = (
    "/run/xen", "/run/xenstored", "/run/libvirt", "/var/lib/libvirt/libxl",
    "/var/log/libvirt/libxl", "/var/log/xen",
)  # fmt: skip
UNUSED = ("/usr/lib/modules", "/usr/lib/udev", "/usr/lib/x86_64-linux-gnu/perl", "/usr/share")
LIBVIRT_SOCKET = Path("/run/libvirt/libvirt-sock")
LIBVIRT_SECONDS = 60.0


def start_xen() -> None:
    """Xen's store and consoles."""
    run("modprobe", "-a", *MODULES)
    run("mount", "-t", "xenfs", "xenfs", "/proc/xen")
    run("xenstored", "--pid-file", "/run/xenstored.pid")
    run("xen-init-dom0")
    run("xenconsoled")


def start_libvirt() -> None:
    """libvirt's daemon, until it can be connected to."""
    with (RESULTS / "libvirtd.log").open("ab") as log:
        subprocess.Popen(["libvirtd"], stdout=log, stderr=log)
    deadline = time.monotonic() + LIBVIRT_SECONDS
    while not LIBVIRT_SOCKET.exists():
        assert time.monotonic() < deadline, "libvirtd did not start"
        time.sleep(0.1)


def work() -> None:
    """Start everything and do the job."""
    os.environ["PATH"] += f":{XEN}"
    first_process.mount(DIRECTORIES)
    first_process.read_ahead(*UNUSED)
    first_process.serve_network_first()
    start_xen()
    start_libvirt()
    run("virsh", "-c", "xen:///system", "version")
    os.environ |= {
        "VMIB_LAB_HYPERVISOR": "xen",
        "VMIB_LAB_GUEST_INITRD": "/mnt/guest.gz",
        "VMIB_LAB_RESULTS": str(RESULTS),
    }
    first_process.do(RESULTS)


if __name__ == "__main__":
    first_process.live(work, RESULTS, "/dev/vdc")
