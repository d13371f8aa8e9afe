"""What is in a guest: Debian's kernel, busybox, iperf3, and where it can run the QEMU guest agent.

The same guest runs under QEMU and under Xen. It takes commands on its console.
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import cache, debian

INIT = """\
#!/bin/busybox sh
/bin/busybox mkdir -p /usr/bin /usr/sbin /sbin /run /tmp /var/run /etc
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /m/*; do insmod $module; done
ip link set lo up

# What systemd-network-generator(8) would read of the command line, in few words:
# ifname=NAME:MAC, ip=ADDRESS::GATEWAY:NETMASK::NAME:none, rd.route=NETWORK:GATEWAY:NAME.
for word in $(cat /proc/cmdline); do
    case $word in ifname=*)
        word=${word#ifname=}; name=${word%%:*}; mac=${word#*:}
        for device in /sys/class/net/*; do
            [ "$(cat $device/address)" != "$mac" ] || ip link set ${device##*/} name $name
        done;;
    esac
done
for word in $(cat /proc/cmdline); do
    case $word in
    ip=*:none) IFS=: ; set -- ${word#ip=}; unset IFS
        ip link set $6 up; ip addr add $1/$4 dev $6;;
    esac
done
for word in $(cat /proc/cmdline); do
    case $word in
    rd.route=*) IFS=: ; set -- ${word#rd.route=}; unset IFS
        ip route add $1 ${2:+via $2} ${3:+dev $3};;
    dhcp) for device in /sys/class/net/eth*; do
        ip link set ${device##*/} up
        udhcpc -b -i ${device##*/} -s /bin/dhcp -O staticroutes -t 20 -T 1; done;;
    vif0=*) device=eth0; [ ! -e /sys/class/net/vif0 ] || device=vif0
        ip addr add ${word#vif0=} dev $device; ip link set $device up;;
    esac
done
for port in /sys/class/virtio-ports/*; do
    if [ "$(cat $port/name 2>/dev/null)" = org.qemu.guest_agent.0 ]; then
        qemu-ga -m virtio-serial -p /dev/${port##*/} -t /tmp >/tmp/qemu-ga.log 2>&1 &
    fi
done
iperf3 -s -D >/dev/null 2>&1
stty -echo
echo guest is ready
# As a script: a shell that reads commands of people takes a child's end for that of its input.
exec sh /dev/console
"""
DHCP = """\
#!/bin/busybox sh
case $1 in bound|renew)
    ip link set $interface up
    ip addr add $ip/$mask dev $interface
    set -- $staticroutes
    while [ "$2" ]; do ip route add $1 via $2 dev $interface; shift 2; done;;
esac
"""
PROGRAMS = ("usr/sbin/qemu-ga", "usr/bin/iperf3")
MODULES = ("virtio_pci", "virtio_net", "virtio_console")


@dataclass(frozen=True, slots=True)
class GuestImage:
    """Files of a guest."""

    kernel: Path
    initrd: Path


def of_qemu() -> GuestImage:
    """The image of a guest of QEMU, built when it is not there."""
    package = debian.kernel_package("cloud-amd64")
    recipe = [package, Path(__file__).read_text(), inspect.getsource(debian)]
    directory = cache.kept("guest", recipe, lambda place: _build(place, package))
    return GuestImage(directory / "vmlinuz", directory / "initrd.gz")


def _build(directory: Path, package: str) -> None:
    boot, tools = directory / "boot", directory / "tools"
    debian.unpack([package, "qemu-guest-agent", "iperf3", "libiperf0", "libsctp1"], boot)
    (kernel,) = (boot / "boot").glob("vmlinuz-*")
    shutil.copy2(kernel, directory / "vmlinuz")
    copy_programs(boot, tools)
    debian.initramfs(INIT, _modules(boot), directory / "initrd.gz", tools)
    shutil.rmtree(boot)
    shutil.rmtree(tools)


def copy_programs(unpacked: Path, target: Path) -> None:
    """Programs that were unpacked, with the libraries that they need, of there or of here."""
    library_path = f"LD_LIBRARY_PATH={unpacked}/usr/lib/x86_64-linux-gnu"
    for name in PROGRAMS:
        listed = debian.run("env", library_path, "ldd", unpacked / name)
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(unpacked / name, target / name)
        for path in re.findall(r"(/\S+) \(0x", listed):
            found = Path(path)
            place = target / ("lib64" if found.name.startswith("ld-") else "lib") / found.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found.resolve(), place)
    add_dhcp(target)


def add_dhcp(target: Path) -> None:
    """What a guest does with the answers of a DHCP server."""
    dhcp = target / "bin" / "dhcp"
    dhcp.parent.mkdir(parents=True, exist_ok=True)
    dhcp.write_text(DHCP)
    dhcp.chmod(0o755)


def _modules(boot: Path, names: Sequence[str] = MODULES) -> list[Path]:
    """Files of modules with what they need, in the order in which they are loaded."""
    (version,) = (boot / "lib" / "modules").iterdir()
    debian.run("depmod", "-b", boot, version.name)
    files: dict[Path, None] = {}
    for name in names:
        command = ("modprobe", "-d", boot, "-S", version.name, "--show-depends", name)
        for line in debian.run(*command).splitlines():
            kind, _, path = line.partition(" ")
            if kind == "insmod":
                files[Path(path.strip())] = None
    return list(files)
