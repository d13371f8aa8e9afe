"""Make snmp_exporter's configuration with its own generator, of generator.yml and VMIB-MIB.

    python packaging/prometheus/generate.py GENERATOR MIB_DIRECTORY [OUTPUT_DIRECTORY]

GENERATOR is Debian 12's prometheus-snmp-generator (0.21), MIB_DIRECTORY has the IETF's modules.
snmp-0.22.yml is what it writes; snmp.yml is the same as exporters from 0.23 on want it, where
credentials (auths.yml) stand apart. The generated files are committed; a test makes them anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
MIBS = HERE.parents[1] / "mibs"
MODULE = "vmib"
WARNING = "# Made by the generator of snmp_exporter, of generator.yml: `make generated`.\n"


def outputs(generator: Path, mibs: Path) -> dict[str, str]:
    """The text of both files by name."""
    old = _generated(generator, mibs, old_input((HERE / "generator.yml").read_text()))
    return {"snmp-0.22.yml": WARNING + old, "snmp.yml": WARNING + new_output(old)}


def old_input(text: str) -> str:
    """The generator's input as versions up to 0.22 want it: credentials within the module."""
    auths, _, modules = text.partition("modules:\n")
    settings = auths.partition(f"auths:\n  {MODULE}:\n")[2].splitlines()
    version = [line for line in settings if line.strip().startswith("version:")]
    others = [f"  {line}" for line in settings if line not in version]
    return "\n".join(["modules:", modules.rstrip("\n"), *version, "    auth:", *others, ""])


def new_output(old: str) -> str:
    """What exporters from 0.23 on want: the module one level deeper, without credentials."""
    before, _, _ = old.partition("\n  auth:\n")
    lines = [line for line in before.splitlines() if not line.startswith("  version:")]
    return "\n".join(["modules:", *(f"  {line}" for line in lines), ""])


def _generated(generator: Path, mibs: Path, text: str) -> str:
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "generator.yml").write_text(text)
        done = subprocess.run(
            [generator.resolve(), "generate", "-o", "snmp.yml"],
            cwd=place,
            env=os.environ | {"MIBDIRS": f"{mibs.resolve()}:{MIBS}", "MIBS": "VMIB-MIB"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        made = (Path(place) / "snmp.yml").read_text()
    return "".join(line for line in made.splitlines(True) if not line.startswith("#"))


def main() -> None:
    """Write the files."""
    generator, mibs, *more = map(Path, sys.argv[1:])
    for name, text in outputs(generator, mibs).items():
        ((more or [HERE])[0] / name).write_text(text)


if __name__ == "__main__":
    main()
