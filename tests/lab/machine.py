"""Machines that QEMU emulates: booted with disks, watched by their console, always ended.

Nothing here needs KVM. A machine in virtual time has one processor whose clock counts
instructions (`-icount`), so that what is timed in it does not depend on how busy this computer is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# A processor that Xen's dom0 and libvirt's Xen driver both accept under emulation.
CPU = "Nehalem"
RESULT_MEGABYTES = 64


@dataclass(frozen=True, slots=True)
class Machine:
    """What QEMU boots, and with what.

    `initrd` is in QEMU's words: for a multiboot kernel a list of modules with their arguments.
    Nothing of what the machine writes on `disks` stays. With `disks_are_memory` they are memory
    modules (/dev/pmem0 and on) of a size in whole MiB, two at least, that are read without waiting:
    what waits for a disk in virtual time waits for anything up to its next timer.
    """

    kernel: Path
    arguments: str
    initrd: str
    disks: tuple[Path, ...]
    megabytes: int
    virtual_time: bool = True
    networks: tuple[str, ...] = ()
    disks_are_memory: bool = False

    def command(self, results: Path) -> list[str]:
        """The command line of QEMU; `results` is one more disk, on which it writes what stays."""
        clock = ["-icount", "shift=0,sleep=off"] if self.virtual_time else []
        command = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", CPU, "-smp", "1", *clock]
        command += ["-nodefaults", "-display", "none", "-no-reboot"]
        command += ["-serial", "stdio", "-kernel", str(self.kernel)]
        command += ["-append", self.arguments, "-initrd", self.initrd]
        command += self._memory_disks() if self.disks_are_memory else self._disks()
        command += ["-drive", f"file={results},format=raw,if=virtio,cache=unsafe"]
        for number, network in enumerate(self.networks):
            command += ["-netdev", f"{network},id=n{number}"]
            command += ["-device", f"virtio-net-pci,netdev=n{number}"]
        return command

    def _disks(self) -> list[str]:
        command = ["-m", str(self.megabytes)]
        for disk in self.disks:
            command += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe,snapshot=on"]
        return command

    def _memory_disks(self) -> list[str]:
        sizes = [disk.stat().st_size for disk in self.disks]
        most = self.megabytes + sum(size >> 20 for size in sizes)
        command = ["-machine", "pc,nvdimm=on"]
        command += ["-m", f"{self.megabytes},slots={len(sizes)},maxmem={most}M"]
        for number, (disk, size) in enumerate(zip(self.disks, sizes, strict=True)):
            memory = f"id=m{number},mem-path={disk},size={size},share=off"
            command += ["-object", f"memory-backend-file,{memory}"]
            command += ["-device", f"nvdimm,memdev=m{number}"]
        return command


@dataclass(frozen=True, slots=True)
class Running:
    """A machine that was started; its console goes to `console`."""

    process: subprocess.Popen[bytes]
    console: Path
    results: Path

    def wait(self, seconds: float) -> None:
        """Wait until it has powered itself off; raises AssertionError with what it said last."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still runs after {seconds:g} s:\n{self.last_words()}") from None
        assert self.process.returncode == 0, self.last_words()

    def kill(self) -> None:
        """End it as a power failure does."""
        self.process.kill()
        self.process.wait()

    def wait_for(self, words: str, seconds: float) -> None:
        """Wait until its console says something; raises AssertionError when it does not."""
        deadline = time.monotonic() + seconds
        while words not in self.said():
            assert self.process.poll() is None, f"ended before {words!r}:\n{self.last_words()}"
            assert time.monotonic() < deadline, (
                f"no {words!r} in {seconds:g} s:\n{self.last_words()}"
            )
            time.sleep(0.1)

    def said(self) -> str:
        """All that its console said."""
        return self.console.read_text(errors="replace")

    def last_words(self) -> str:
        """The end of what its console said, and where all of it is."""
        return "\n".join([*self.said().splitlines()[-40:], f"({self.console})"])

    def unpack_results(self, target: Path) -> None:
        """Unpack the archive that the machine left on its disk of results."""
        with tarfile.open(self.results) as archive:
            archive.extractall(target, filter="data")


def start(machine: Machine, directory: Path) -> Running:
    """Start a machine; its console and its results are in a directory.

    It ends when the calling thread does, however that ends (prctl(2), PR_SET_PDEATHSIG). In
    virtual time it takes what others leave of this computer's processors.
    """
    results, console = directory / "results.tar", directory / "console.log"
    with results.open("wb") as made:
        made.truncate(RESULT_MEGABYTES << 20)
    with console.open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *machine.command(results)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    if machine.virtual_time:
        _yield_to_all(process.pid)
    return Running(process, console, results)


def _yield_to_all(pid: int) -> None:
    """Give the process the lowest priority, and its session, where these have one (sched(7))."""
    os.setpriority(os.PRIO_PROCESS, pid, 19)
    with suppress(FileNotFoundError):
        Path(f"/proc/{pid}/autogroup").write_text("19")


def missing() -> str | None:
    """Why machines cannot be emulated here, or None."""
    if shutil.which("qemu-system-x86_64") is None:
        return "needs QEMU (Debian package qemu-system-x86)"
    return None
