"""Wheel and sdist: everything of the tree is in them, and what is installed works."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from vmib import __version__

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).resolve().parents[2]
NOT_SHIPPED = (".ci/", ".gitignore")
"""What only those need who change the tree."""


def run(*command: str | Path, directory: Path | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def tree_files() -> set[str]:
    """The files that git knows, or would."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    listed = run(*command, directory=ROOT).splitlines()
    return {name for name in listed if (ROOT / name).exists()}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of an sdist, and of the wheel that is built of it, where there is no tree."""
    place = tmp_path_factory.mktemp("distributions")
    run(sys.executable, "-m", "build", "--outdir", place, ROOT)
    return place


@pytest.fixture(scope="module")
def unpacked(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sdist holds."""
    place = tmp_path_factory.mktemp("unpacked")
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
    (top,) = place.iterdir()
    return top


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (found,) = distributions.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and what it depends on."""
    place = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", place)
    run(place / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    return place


def test_the_sdist_is_the_tree(unpacked: Path, tree_files: set[str]) -> None:
    there = {str(p.relative_to(unpacked)) for p in unpacked.rglob("*") if p.is_file()}
    made = {name for name in there if name == "PKG-INFO" or name.startswith("vmib.egg-info/")}
    wanted = {name for name in tree_files if not name.startswith(NOT_SHIPPED)}
    assert wanted - there == set()
    assert there - made - tree_files == set()


def test_the_wheel_has_every_file_of_the_packages(wheel: Path, tree_files: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    folders = {"mibs/vmib/", "agent/vmib_agent/", "manager/vmib_manager/"}
    wanted = {
        name.partition("/")[2]
        for name in tree_files
        if name.startswith(tuple(folders)) and "__pycache__" not in name
    }
    packaged = {name for name in names if ".dist-info/" not in name and ".data/" not in name}
    assert packaged == wanted


def test_the_wheel_has_what_other_programs_look_for(wheel: Path, tree_files: set[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {PurePosixPath(n).name for n in archive.namelist() if ".data/data/share/" in n}
    for folder in ("packaging/man", "packaging/completion"):
        assert {p.name for p in (ROOT / folder).iterdir()} <= names
    assert {p.name for p in (ROOT / "mibs").glob("*.txt")} <= names


def test_a_clean_environment_has_commands_schema_pages_and_modules(installed: Path) -> None:
    programs = installed / "bin"
    assert run(programs / "vmib", "--version").split()[1] == __version__
    assert "usage: vmib-agent" in run(programs / "vmib-agent", "--help")
    modules = Path(run(programs / "vmib", "mib-path").strip())
    assert modules == installed / "share" / "snmp" / "mibs"
    assert (modules / "VMIB-MIB.txt").is_file()
    example = ROOT / "manager" / "examples"
    files = (example / "two-machines-real.xml", example / "two-machines-virtual.xml")
    run(programs / "vmib", "check", *files)
    for page in ("man1/vmib.1", "man5/vmib-agent.toml.5", "man8/vmib-agent.8"):
        assert (installed / "share" / "man" / page).is_file()
    state = installed / "state"
    phrases = installed / "phrases"
    phrases.write_text("a long pass phrase\nanother long one\n")
    arguments = ("ann", "--role", "read", "--state", state, "--passphrase-file", phrases)
    run(programs / "vmib-agent", "user", "add", *arguments)
