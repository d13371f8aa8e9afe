"""The tree under test as a disk for /mnt in a machine: what git tracks or would, compiled."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from . import debian

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("agent", "manager", "mibs", "packaging/docs", "tests", "setup.cfg")
JOB = "job.json"


def disk(image: Path, job: object, others: Iterable[Path] = ()) -> None:
    """Make the disk; `job` tells the machine what it is to do, in JSON; `others` are more files."""
    listed = debian.run(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *PARTS,
        directory=ROOT,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        target = Path(place)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target / name)
        shutil.copytree(ROOT / ".cache" / "mibs", target / ".cache" / "mibs")
        (target / JOB).write_text(json.dumps(job))
        for other in others:
            shutil.copy2(other, target)
        # An emulated processor compiles slowly.
        mode = ("--invalidation-mode", "unchecked-hash")
        debian.run(sys.executable, "-m", "compileall", "-q", *mode, target)
        debian.ext4(target, image, 100)
