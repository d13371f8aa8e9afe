"""The first process of an emulated Debian machine: runs tests, or commands."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from . import first_process
from .first_process import TREE, run
from .tree import JOB

MODULES = ("bridge", "br_netfilter", "ifb", "sch_netem", "veth")
RESULTS = Path("/results")


def work() -> None:
    """Do the job: `tests`, arguments of pytest, and `commands`, in an `environment`."""
    first_process.mount([str(RESULTS)])
    run("modprobe", "-a", *MODULES)
    first_process.serve_network_first()
    job = json.loads((TREE / JOB).read_text())
    os.environ.update(job.get("environment", {}))
    if "tests" in job:
        tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v"]
        run(*tests, f"--junitxml={RESULTS}/junit.xml", *job["tests"], check=False)
    for command in job.get("commands", ()):
        run(*command)


if __name__ == "__main__":
    first_process.live(work, RESULTS, "/dev/vda")
