"""Parts of Debian machines: packages that are unpacked, never installed here; kernels; images.

Everything comes by apt from where this computer gets its own packages, of its own release.
"""

from __future__ import annotations

import lzma
import re
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

RELEASE = "bookworm"


def run(*command: str | Path, directory: Path | None = None) -> str:
    """What a command prints; an AssertionError has all of it where the command fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=directory)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def unpack(packages: Iterable[str], target: Path) -> None:
    """Unpack packages below a directory."""
    fetched = target / "packages"
    fetched.mkdir(parents=True)
    # Where root fetches into a directory of its own, apt's own user cannot write.
    run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *packages, directory=fetched)
    for package in fetched.iterdir():
        run("dpkg", "-x", package, target)
    shutil.rmtree(fetched)


def kernel_package(flavour: str) -> str:
    """The package of the newest kernel of a flavour, `amd64` or `cloud-amd64`."""
    listed = run("apt-cache", "depends", f"linux-image-{flavour}")
    found = re.search(r"Depends: (linux-image-\S+)", listed)
    assert found, f"apt knows no kernel of flavour {flavour}: {listed}"
    return found[1]


def uncompressed(kernel: Path) -> bytes:
    """A kernel as the ELF file that is packed, by xz, in a bzImage.

    An emulated processor takes long to unpack it. The offsets are those of the boot protocol
    (Documentation/arch/x86/boot.rst of Linux), 2.08 or later.
    """
    image = kernel.read_bytes()
    setup = (image[0x1F1] or 4) + 1
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = setup * 512 + offset
    return lzma.LZMADecompressor().decompress(image[start : start + length])


def root(packages: Sequence[str], target: Path) -> None:
    """A root file system with packages and what they depend on."""
    include = f"--include={','.join(packages)}"
    unwanted = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "locale", "man")]
    # The default mode would need user namespaces, which some kernels keep for themselves.
    how = ("--quiet", "--mode=root", "--variant=apt", include, *unwanted)
    run("mmdebstrap", *how, RELEASE, target)


def add_modules(kernel: Path, target: Path, kept: Sequence[str]) -> None:
    """Put a kernel's modules into a root file system: those below the directories `kept`."""
    (source,) = (kernel / "lib" / "modules").iterdir()
    wanted = target / "lib" / "modules" / source.name
    wanted.mkdir(parents=True)
    for entry in source.iterdir():
        if entry.is_file():
            shutil.copy2(entry, wanted)
    for name in kept:
        part = source / "kernel" / name
        destination = wanted / "kernel" / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        if part.is_dir():
            shutil.copytree(part, destination)
        else:
            shutil.copy2(part, destination)
    run("chroot", target, "/usr/sbin/depmod", source.name)


def module_files(root_directory: Path, names: Iterable[str]) -> list[Path]:
    """Files of modules with what they need, in the order in which they are loaded."""
    (version,) = (root_directory / "lib" / "modules").iterdir()
    files: dict[Path, None] = {}
    for name in names:
        command = ("/usr/sbin/modprobe", "-S", version.name, "--show-depends", name)
        for line in run("chroot", root_directory, *command).splitlines():
            kind, _, path = line.partition(" ")
            if kind == "insmod":
                files[root_directory / path.strip().lstrip("/")] = None
    return list(files)


def copy_program(root_directory: Path, name: str, target: Path) -> None:
    """Copy a program of a root file system, with the libraries that it is linked to."""
    linked = run("chroot", root_directory, "/usr/bin/ldd", f"/{name}")
    for path in [f"/{name}", *re.findall(r"(/\S+) \(0x", linked)]:
        (target / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2((root_directory / path[1:]).resolve(), target / path[1:])


def initramfs(init: str, modules: Sequence[Path], target: Path, extra: Path | None = None) -> None:
    """An initial file system of busybox, modules in /m in order of names, and a script /init.

    `extra` is a directory whose content is added.
    """
    work = target.with_suffix(".d")
    for name in ("bin", "proc", "sys", "dev", "new", "m"):
        (work / name).mkdir(parents=True)
    shutil.copy2("/bin/busybox", work / "bin" / "busybox")
    for number, module in enumerate(modules):
        shutil.copy2(module, work / "m" / f"{number:02}-{module.name}")
    if extra is not None:
        shutil.copytree(extra, work, dirs_exist_ok=True, symlinks=True)
    script = work / "init"
    script.write_text(init)
    script.chmod(0o755)
    names = run("find", ".", directory=work)
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"],
        input=names.encode(), capture_output=True, check=True, cwd=work,
    )  # fmt: skip
    done = subprocess.run(["gzip", "-1"], input=packed.stdout, capture_output=True, check=True)
    target.write_bytes(done.stdout)
    shutil.rmtree(work)


def ext4(directory: Path, image: Path, megabytes: int) -> None:
    """An ext4 image with the content of a directory, sparse, of a size."""
    with image.open("wb") as made:
        made.truncate(megabytes << 20)
    run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", directory, image)
