"""Manual pages and shell completion: made from the commands, complete, and of use."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from vmib_agent import commands as agent_commands
from vmib_agent import config
from vmib_manager import arguments, check_arguments

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
MAN = sorted((PACKAGING / "man").iterdir())
COMPLETION = sorted((PACKAGING / "completion").iterdir())
SAMPLE = PACKAGING / "agent.toml"
OTHERS = (
    SAMPLE,
    PACKAGING / "docs" / "xml-reference.md",
    PACKAGING / "zabbix" / "vmib-agent-6.0.yaml",
)
PROGRAMS = {
    "vmib": arguments.parser(),
    "vmib-agent": agent_commands.parser(),
    "check_vmib": check_arguments.parser(),
}


def test_what_is_committed_is_what_is_generated(tmp_path: Path) -> None:
    command = [sys.executable, str(PACKAGING / "generate.py"), str(tmp_path)]
    # Help is wrapped by the width of the terminal; what is generated is not.
    narrow = os.environ | {"COLUMNS": "40"}
    subprocess.run(command, check=True, env=narrow)
    made = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("*") if p.is_file()}
    committed = {p.relative_to(PACKAGING): p.read_text() for p in (*MAN, *COMPLETION, *OTHERS)}
    assert made.keys() == committed.keys()
    for name, text in made.items():
        assert text == committed[name], f"{name}: run make generated"


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
@pytest.mark.parametrize("page", MAN, ids=lambda page: page.name)
def test_troff_has_nothing_against_a_page(page: Path) -> None:
    command = ["groff", "-ww", "-man", "-Kutf8", "-Tutf8", str(page)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert re.sub(".\b", "", done.stdout).startswith(page.stem.upper())


def options_of(program: str) -> set[str]:
    """Every option of a program and its commands."""
    found: set[str] = set()
    open_parsers = [PROGRAMS[program]]
    while open_parsers:
        for action in open_parsers.pop()._actions:
            found.update(option for option in action.option_strings if option != "-h")
            if isinstance(action.choices, dict):
                open_parsers.extend(action.choices.values())
    return found - {"--help"}


@pytest.mark.parametrize(
    ("program", "section"), [("vmib", 1), ("vmib-agent", 8), ("check_vmib", 1)]
)
def test_a_page_has_every_option_and_exit_status(program: str, section: int) -> None:
    text = (PACKAGING / "man" / f"{program}.{section}").read_text().replace("\\-", "-")
    for option in options_of(program):
        assert re.search(rf"\\fB{re.escape(option)}\\fP", text), option
    for heading in ("SYNOPSIS", "OPTIONS", "COMMANDS", "EXIT STATUS", "FILES", "SEE ALSO"):
        assert f"\n.SH {heading}\n" in text


def test_the_configuration_that_is_installed_says_nothing_until_a_line_is_uncommented() -> None:
    text = SAMPLE.read_text()
    assert config.parse(text) == config.Config()
    uncommented = re.sub(r"^#(?=[\[a-z])", "", text, flags=re.MULTILINE)
    known = config.parse(uncommented)
    assert known.v2c is not None
    assert replace(known, v2c=None, notifications=()) == config.Config()


def completed(program: str, *words: str) -> list[str]:
    """What bash offers for the last of these words."""
    script = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; '
        'COMP_POINT=${#COMP_LINE}; entry=$(complete -p "$1"); entry=${entry#*-F }; '
        '"${entry%% *}" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    file = PACKAGING / "completion" / f"{program}.bash"
    done = subprocess.run(
        ["bash", "-c", script, "bash", str(file), program, *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "manager" / "examples",
    )
    assert done.stderr == ""
    return sorted(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("a",), ["abort", "apply"]),
        (("lab", ""), ["down", "exec", "list", "status", "up"]),
        (("apply", "--no"), ["--no-confirm"]),
        (("lab", "status", "--j"), ["--json"]),
        (("status", "--color", ""), ["always", "auto", "never"]),
        (("check", "two-machines-r"), ["two-machines-real.xml"]),
        (("plan", "two-machines-real.xml", "grid-virtual-"), ["grid-virtual-100M.xml"]),
        (("plan", "--credentials", "two-machines-v"), ["two-machines-virtual.xml"]),
    ],
)
def test_bash_offers_words_options_values_and_files(
    words: tuple[str, ...], offered: list[str]
) -> None:
    assert completed("vmib", *words) == offered


def test_bash_completes_the_agent_s_commands() -> None:
    assert completed("vmib-agent", "user", "") == ["add", "list", "remove"]
    assert completed("vmib-agent", "user", "add", "--role", "") == ["admin", "read", "shape"]


def test_bash_completes_the_plug_in_s_modes() -> None:
    assert completed("check_vmib", "ho") == ["host"]
    assert completed("check_vmib", "machine", "--expect", "p") == ["paused"]
    assert completed("check_vmib", "rate", "--direction", "") == ["fromVm", "toVm"]


@pytest.mark.parametrize(
    ("shell", "pattern"), [("zsh", "_*"), ("fish", "*.fish"), ("bash", "*.bash")]
)
def test_the_other_shells_can_read_theirs(shell: str, pattern: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    for file in (PACKAGING / "completion").glob(pattern):
        done = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_everything_is_installed_where_its_readers_look_for_it() -> None:
    config = configparser.ConfigParser()
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(ROOT / "setup.cfg")
    installed = {
        ROOT / name: place
        for place, names in config["options.data_files"].items()
        for name in names.split()
    }
    for page in MAN:
        assert installed[page] == f"share/man/man{page.suffix[1:]}"
    places = {"": "zsh/site-functions", ".bash": "bash-completion/completions"}
    for file in COMPLETION:
        assert installed[file] == f"share/{places.get(file.suffix, 'fish/vendor_completions.d')}"
    for file in installed:
        assert file.is_file()


def test_the_page_about_zabbix_has_the_macros_of_the_template_with_their_defaults() -> None:
    text = (PACKAGING / "zabbix" / "vmib-agent-6.0.yaml").read_text()
    [template] = yaml.safe_load(text)["zabbix_export"]["templates"]
    macros = {each["macro"]: each["value"] for each in template["macros"]}
    page = (PACKAGING / "docs" / "zabbix.md").read_text()
    told = dict(re.findall(r"^\| `(\{\$[A-Z.]+\})` \| (\S+) \|", page, flags=re.MULTILINE))
    assert told == macros
