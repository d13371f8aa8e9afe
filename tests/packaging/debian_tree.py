"""A clean Debian system in a directory, into which the packages are installed by apt.

The system, and what the packages depend on, are fetched once and kept (`tests.lab.cache`); apt has
no network when it installs. A tree is used through an overlay that ends with the test, in
namespaces of its own.
"""

from __future__ import annotations

import inspect
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..lab import cache, debian

ROOT = Path(__file__).resolve().parents[2]
CONTROL = ROOT / "packaging" / "debian" / "control"

_HOLD = """\
set -e
mount -t tmpfs -o mode=755 tmpfs "$2"
mkdir "$2/upper" "$2/work" "$3"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$3"
mount -t proc proc "$3/proc"
mount -t sysfs sysfs "$3/sys"
mount -t tmpfs -o mode=755 tmpfs "$3/run"
mount -t tmpfs -o mode=755 tmpfs "$3/dev"
for device in null zero full random urandom tty; do
    mknod -m 666 "$3/dev/$device" c $(stat -c '0x%t 0x%T' "/dev/$device")
done
mkdir -p "$3/dev/pts" "$3/run/lock" "$3/run/netns" "$3/packages"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$3/dev/pts"
ln -s pts/ptmx "$3/dev/ptmx"
mount --bind "$4" "$3/packages"
ip link set lo up
echo ready
exec sleep infinity
"""
"""Arguments: the clean tree, a directory for what changes, where to put both, the packages."""

_UNSHARED = ("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child")


def build_packages(target: Path) -> list[Path]:
    """The Debian packages of this tree."""
    debian.run(ROOT / "packaging" / "build-deb.sh", target)
    return sorted(target.glob("*.deb"))


def clean(packages: Path) -> Path:
    """A tree of Debian as its installer leaves it, with what the packages need in apt's cache."""
    recipe = [inspect.getsource(_build), CONTROL.read_text()]
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
    debian.run("chroot", root, *download, "install", *wanted)
    shutil.rmtree(root / "packages")


@dataclass(frozen=True, slots=True)
class Tree:
    """A running tree: its merged directory, and the process that holds its namespaces."""

    root: Path
    holder: int

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
def running(packages: Path) -> Iterator[Tree]:
    """A clean tree with the packages in /packages, gone at the end of the block."""
    lower = clean(packages)
    with tempfile.TemporaryDirectory(prefix="vmib-deb-") as place:
        merged = Path(place, "merged")
        holder = subprocess.Popen(
            [*_UNSHARED, "sh", "-c", _HOLD, "sh", str(lower), place, str(merged), str(packages)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text()
            yield Tree(merged, int(children))
        finally:
            holder.kill()
            holder.wait()
