"""The agent's unit: what systemd says of it without running it."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vmib import __version__
from vmib_agent import commands

from . import units

EXPOSURE = {"unit": 2.0, "unit and netns.conf": 2.3}
"""What `systemd-analyze security` may say at most: 0 is nothing, 10 is everything."""
CHANGELOG = units.ROOT / "packaging" / "debian" / "changelog"


def directory(place: Path, which: str) -> Path:
    """A unit with its program, and with the drop-in where that is asked for."""
    text = units.UNIT.read_text().replace("/usr/sbin/vmib-agent", "/bin/true")
    (place / units.UNIT.name).write_text(text)
    if which != "unit":
        (place / f"{units.UNIT.name}.d").mkdir()
        shutil.copy(units.FOR_NAMESPACES, place / f"{units.UNIT.name}.d")
    return place / units.UNIT.name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("which", EXPOSURE)
def test_systemd_has_nothing_against_it_and_finds_little_exposed(
    which: str, tmp_path: Path
) -> None:
    unit = directory(tmp_path, which)
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "vmib-agent" not in verified.stderr
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    rated = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"exposure level for vmib-agent.service: ([0-9.]+)", rated.stdout)
    assert found, rated.stdout
    assert float(found[1]) <= EXPOSURE[which]


def test_it_has_few_capabilities_and_the_drop_in_adds_one() -> None:
    few = ["CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE"]
    assert units.values("AmbientCapabilities", units.UNIT) == few
    assert units.values("AmbientCapabilities", units.FOR_NAMESPACES) == ["CAP_SYS_ADMIN"]


def test_what_a_start_again_cannot_mend_is_not_started_again() -> None:
    (statuses,) = units.values("RestartPreventExitStatus", units.UNIT)
    assert statuses.split() == ["2", str(commands.EXIT_CONFIGURATION)]


def test_the_packages_have_the_version_of_this_release() -> None:
    assert CHANGELOG.read_text().startswith(f"vmib ({__version__}) ")


def test_what_modules_bring_is_off_until_the_agent_wants_it() -> None:
    text = (units.ROOT / "packaging" / "systemd" / "sysctl.conf").read_text()
    read = configparser.ConfigParser()
    read.read_string(f"[sysctl]\n{text}")
    assert set(read["sysctl"].values()) == {"0"}
