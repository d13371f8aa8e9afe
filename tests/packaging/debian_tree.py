"""A clean Debian system in a directory, into which the packages are installed by apt.

The system, and what the packages depend on, are fetched once and kept (`tests.lab.cache`); apt has
no network when it installs. Trees are overlays, each in namespaces of its own: one that has the
packages can be below several.
"""

from __future__ import annotations

import inspect
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import pages
from ..lab import cache, debian

ROOT = Path(__file__).resolve().parents[2]
CONTROL = ROOT / "packaging" / "debian" / "control"

LIBVIRT = ("libvirt-daemon-system", "python3-libvirt")

_HOLD = """\
set -e
mkdir "$2/upper" "$2/work" "$2/merged" "$2/plain"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/merged"
mount --bind "$2/merged" "$2/plain"
cd "$2/merged"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
    mknod -m 666 "dev/$device" c $(stat -c '0x%t 0x%T' "/dev/$device")
done
mkdir -p dev/pts run/lock run/netns packages
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
mount --bind "$3" packages
ip link set lo up
echo ready
exec sleep infinity
"""
"""Arguments: the layers below, a directory for what changes, the packages."""

_UNSHARED = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child")


def build_packages(target: Path) -> list[Path]:
    """The Debian packages of this tree."""
    debian.run(ROOT / "packaging" / "build-deb.sh", target)
    return sorted(target.glob("*.deb"))


def clean(packages: Path) -> Path:
    """A tree of Debian as its installer leaves it, with what the packages need in apt's cache."""
    recipe = [inspect.getsource(_build), *LIBVIRT, CONTROL.read_text()]
    return cache.kept("bare", recipe, lambda directory: _build(directory, packages)) / "root"


def _build(directory: Path, packages: Path) -> None:
    root = directory / "root"
    command = ("mmdebstrap", "--quiet", "--mode=root", "--variant=important")
    debian.run(*command, "--include=systemd-sysv", debian.RELEASE, root)
    shutil.copytree(packages, root / "packages")
    for name in ("resolv.conf", "hosts"):
        shutil.copy(Path("/etc", name), root / "etc" / name)
    debian.run("chroot", root, "apt-get", "-qq", "update")
    wanted = [f"/packages/{deb.name}" for deb in packages.glob("*.deb")]
    download = ("apt-get", "-qq", "-y", "-o", "APT::Sandbox::User=root", "--download-only")
    debian.run("chroot", root, *download, "install", *wanted, "snmpd", *LIBVIRT)
    shutil.rmtree(root / "packages")


@dataclass(frozen=True, slots=True)
class Tree:
    """A running tree: where it is, and the process that holds its namespaces."""

    place: Path
    holder: int

    @property
    def root(self) -> Path:
        """The root of the tree, in its mount namespace."""
        return self.place / "merged"

    @property
    def plain(self) -> Path:
        """The files of the tree without what is mounted there, seen from outside."""
        return Path(f"/proc/{self.holder}/root{self.place}/plain")

    def inside(self, *command: str) -> list[str]:
        """The command line that runs a command in the tree."""
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"]
        clean += ["DEBIAN_FRONTEND=noninteractive", "HOME=/root"]
        return [*self.beside(), "chroot", str(self.root), *clean, *command]

    def beside(self, *command: str) -> list[str]:
        """The command line that runs a program of this computer in the tree's namespaces."""
        entered = ("--mount", "--net", "--pid", "--uts")
        return ["nsenter", "-t", str(self.holder), *entered, *command]

    def run(self, *command: str, check: bool = True, text: str = "") -> str:
        """What a command prints in the tree; `text` is its standard input."""
        return _printed(self.inside(*command), check, text)

    def look(self, *command: str) -> str:
        """What a program of this computer prints in the tree's namespaces."""
        return _printed(self.beside(*command), True, "")

    def file(self, path: str) -> Path:
        """A file of the tree as it is seen from outside."""
        return Path(f"/proc/{self.holder}/root{self.root}{path}")


def _printed(command: list[str], check: bool, text: str) -> str:
    done = subprocess.run(
        command,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
    return done.stdout


@contextmanager
def running(layers: Sequence[Path], packages: Path, place: Path) -> Iterator[Tree]:
    """A tree of layers, the topmost first, with the packages in /packages.

    `place` is an empty directory for what changes: its `upper` is a layer for other trees once
    the block has ended.
    """
    below = ":".join(map(str, layers))
    holder = subprocess.Popen(
        [*_UNSHARED, "sh", "-c", _HOLD, "sh", below, str(place), str(packages)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text()
        yield Tree(place, int(children))
    finally:
        holder.kill()
        holder.wait()


def page_lines() -> list[str]:
    """The commands of the page on installation that are for root on a host."""
    return "".join(block.text for block in pages.blocks("install.md", "bash")).splitlines()


def install(tree: Tree) -> None:
    """Install the packages as the page says; there is no network."""
    (tree.plain / "etc" / "dpkg" / "dpkg.cfg.d" / "fast").write_text("force-unsafe-io\n")
    line = page_lines()[0]
    assert line.startswith("apt-get install -y ./vmib_")
    tree.run("sh", "-c", f"cd /packages && {line}")
