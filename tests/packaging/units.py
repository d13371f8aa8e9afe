"""What systemd would make of the agent's unit, for programs that are not started by it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "packaging" / "systemd" / "vmib-agent.service"
FOR_NAMESPACES = ROOT / "packaging" / "systemd" / "netns.conf"


def values(name: str, *files: Path) -> list[str]:
    """The values of a setting, in the order of unit and drop-ins."""
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [line.partition("=")[2] for line in lines if line.startswith(f"{name}=")]


def command(*drop_ins: Path) -> list[str]:
    """The agent's command line, behind setpriv(1) for the user and the capabilities of the unit."""
    (user,) = values("User", UNIT)
    granted = " ".join(values("AmbientCapabilities", UNIT, *drop_ins)).split()
    bounding = " ".join(values("CapabilityBoundingSet", UNIT, *drop_ins)).split()
    assert granted == bounding
    names = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in granted)
    (start,) = values("ExecStart", UNIT)
    return [
        *("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--no-new-privs"),
        *(f"--{kind}=-all,{names}" for kind in ("bounding-set", "inh-caps", "ambient-caps")),
        *start.split(),
    ]
