"""What the first process of an emulated machine does, whatever the machine is.

The tree under test is at /mnt, and what is to be done is in /mnt/job.json. The console is the
machine's; what is left behind is an archive on a disk of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from .tree import JOB

TREE = Path("/mnt")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "VMIB_BASE_MIBS": f"{TREE}/.cache/mibs",
    "PYTHONPATH": ":".join(f"{TREE}/{part}" for part in ("agent", "manager", "mibs")),
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}


def run(*command: str, check: bool = True) -> None:
    """Run a command; what it prints goes to the console."""
    subprocess.run(command, check=check)


def mount(directories: Iterable[str]) -> None:
    """Mount what every Linux system has, /run and /tmp in memory, and make directories."""
    run("mount", "-t", "proc", "proc", "/proc")
    run("mount", "-t", "sysfs", "sys", "/sys")
    for name in ("/run", "/tmp"):
        run("mount", "-t", "tmpfs", "tmpfs", name)
    for name in ("/dev/pts", "/run/lock", *directories):
        Path(name).mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "devpts", "devpts", "/dev/pts")
    run("ip", "link", "set", "lo", "up")


def serve_network_first() -> None:
    """Let the kernel's network work run before any process.

    What an interrupt leaves to do while a process is due falls to ksoftirqd(9), and with it all
    later frames; as one process among others it waits until the one that was due sleeps, up to
    milliseconds. Where there are more processors frames do not wait for it.
    """
    for entry in Path("/proc").glob("[0-9]*/comm"):
        if entry.read_text().startswith("ksoftirqd/"):
            os.sched_setscheduler(int(entry.parent.name), os.SCHED_FIFO, os.sched_param(1))


def read_ahead(*unused: str) -> None:
    """Read all files of the root file system and of the tree but those below some directories.

    In virtual time whoever waits for a disk waits until the next timer, whatever it is for.
    """
    without = [word for place in unused for word in ("-path", place, "-prune", "-o")]
    found = ("find", "/", str(TREE), "-xdev", *without, "-type", "f", "-exec", "cat", "{}", "+")
    subprocess.run(found, check=True, stdout=subprocess.DEVNULL)


def do(results: Path) -> None:
    """Do the job: `tests`, arguments of pytest, or a `module` to be run, with `arguments`.

    What came of tests goes to junit.xml.
    """
    wanted = json.loads((TREE / JOB).read_text())
    if "module" in wanted:
        run(sys.executable, "-m", wanted["module"], *wanted.get("arguments", ()), check=False)
        return
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--color=no"]
    # Above tests/lab is what costs an emulated processor long to import, and serves nobody here.
    command += ["--confcutdir=tests/lab", "--tb=short", f"--junitxml={results}/junit.xml"]
    run(*command, *wanted["tests"], check=False)


def live(work: Callable[[], None], results: Path, disk: str) -> None:
    """Do the work, leave an archive of `results` on a disk, and switch the machine off."""
    os.environ |= ENVIRONMENT
    os.chdir(TREE)
    try:
        work()
    except Exception:
        traceback.print_exc()
    run("tar", "-C", str(results), "-cf", disk, ".", check=False)
    run("sync")
    run("busybox", "poweroff", "-f")
