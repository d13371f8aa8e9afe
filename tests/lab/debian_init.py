"""The first process of an emulated Debian machine: runs tests or commands, switches off.

It runs in the machine, with the tree under test at /mnt; what it is to do is in /mnt/job.json. Its
console is the machine's, on the last disk it leaves an archive of /results.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MODULES = ("bridge", "br_netfilter", "ifb", "sch_netem", "veth")
RESULTS = Path("/results")


def run(*command: str, check: bool = True) -> None:
    """Run a command; what it prints goes to the console."""
    subprocess.run(command, check=check)


def mount() -> None:
    """What every Linux system has mounted; /tmp, /run and what is left behind stay in memory."""
    run("mount", "-t", "proc", "proc", "/proc")
    run("mount", "-t", "sysfs", "sys", "/sys")
    for directory in ("/run", "/tmp"):
        run("mount", "-t", "tmpfs", "tmpfs", directory)
    for directory in (Path("/dev/pts"), Path("/run/lock"), RESULTS):
        directory.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "devpts", "devpts", "/dev/pts")


def serve_network_first() -> None:
    """Let the kernel's network work run before any process.

    What an interrupt leaves to do while a process is due falls to ksoftirqd(9), and with it all
    later frames; as one process among others it waits until the one that was due sleeps, up to
    milliseconds. Where there are more processors frames do not wait for it.
    """
    for entry in Path("/proc").glob("[0-9]*/comm"):
        if entry.read_text().startswith("ksoftirqd/"):
            os.sched_setscheduler(int(entry.parent.name), os.SCHED_FIFO, os.sched_param(1))


def main() -> None:
    """Do the job."""
    os.environ["PATH"] = PATH
    os.environ["HOME"] = "/root"
    mount()
    job = json.loads(Path("/mnt/job.json").read_text())
    run("ip", "link", "set", "lo", "up")
    run("modprobe", "-a", *MODULES)
    serve_network_first()
    os.chdir("/mnt")
    os.environ["VMIB_BASE_MIBS"] = "/mnt/.cache/mibs"
    os.environ["PYTHONPATH"] = "/mnt/agent:/mnt/manager:/mnt/mibs"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    os.environ.update(job.get("environment", {}))
    if "tests" in job:
        tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v"]
        run(*tests, f"--junitxml={RESULTS}/junit.xml", *job["tests"], check=False)
    for command in job.get("commands", ()):
        run(*command)


if __name__ == "__main__":
    try:
        main()
    except Exception:
        traceback.print_exc()
    run("tar", "-C", str(RESULTS), "-cf", "/dev/vda", ".", check=False)
    run("sync")
    run("busybox", "poweroff", "-f")
