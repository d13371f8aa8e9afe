"""The command line of `vmib`: what it takes, what it refuses, and how it answers about it."""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmib import __version__
from vmib_manager import arguments, cli, commands, documents, terminal
from vmib_manager.apply import Options, Phase, Progress
from vmib_manager.exit_status import ExitStatus
from vmib_manager.visible import visible

from .descriptions import NAMESPACE, real_xml, sites_xml

HOSTILE = "a\x1b[31mb\rc\nd\x9be\u202ef\x7f"


def every_parser() -> Iterator[tuple[str, argparse.ArgumentParser, str]]:
    """The words of each command, its parser, and its summary in the list of commands."""

    def under(words: str, parser: argparse.ArgumentParser, summary: str) -> Iterator[Any]:
        yield words, parser, summary
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                listed = {each.dest: each.help or "" for each in action._choices_actions}
                for name, inner in action.choices.items():
                    yield from under(f"{words} {name}", inner, listed.get(name, ""))

    yield from under("vmib", arguments.parser(), "-")


PARSERS = list(every_parser())


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with descriptions, which is the current one; no credentials, no colours."""
    (tmp_path / "real.xml").write_text(real_xml("a b"))
    body = sites_xml("a b") + '<link a="a" b="b" rate="1Mbit"/>'
    (tmp_path / "virtual.xml").write_text(f"<virtual {NAMESPACE}>{body}</virtual>")
    (tmp_path / "wrong.xml").write_text(
        f'<virtual {NAMESPACE}>\n<link a="a" b="b" rate="fast"/>\n<link a="a"/>\n</virtual>'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("VMIB_CREDENTIALS", raising=False)
    return tmp_path


def document(text: str) -> Any:
    """The one JSON document that a text is."""
    return json.loads(text)


@pytest.mark.parametrize(("words", "parser", "summary"), PARSERS, ids=[each[0] for each in PARSERS])
def test_every_command_has_a_summary_and_help_for_each_option(
    words: str, parser: argparse.ArgumentParser, summary: str
) -> None:
    assert summary
    assert parser.description
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, f"{words} {action.dest}"
            assert not action.help.endswith("."), f"{words} {action.dest}"
        for option in action.option_strings:
            assert re.fullmatch(r"-[a-z]|--[a-z][a-z-]+", option)


@pytest.mark.parametrize(("words", "parser", "summary"), PARSERS, ids=[each[0] for each in PARSERS])
def test_help_fits_the_terminal(
    words: str, parser: argparse.ArgumentParser, summary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert max(map(len, parser.format_help().splitlines())) <= 98
    monkeypatch.setenv("COLUMNS", "60")
    described = parser.format_help().partition("options:")[2].partition("exit status:")[0]
    assert max(map(len, described.splitlines())) <= 60


def test_every_exit_status_has_a_meaning_and_is_in_the_help() -> None:
    text = arguments.parser().format_help()
    for status in ExitStatus:
        assert re.search(rf"^  {status.value} +{re.escape(status.meaning)}$", text, re.MULTILINE)


@pytest.mark.parametrize("words", [[], ["lab"]])
def test_without_a_command_there_is_help(words: list[str], capsys: Any) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"usage: {' '.join(['vmib', *words])} ")
    assert "status" in err


@pytest.mark.parametrize("words", [["--help"], ["apply", "-h"], ["lab", "exec", "--help"]])
def test_help_that_is_asked_for_goes_to_standard_output(words: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("usage: vmib ")


def test_the_version_is_that_of_the_package(capsys: Any) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"vmib {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["aply", "r", "v"], "invalid choice: 'aply'"),
        (["plan", "r"], "the following arguments are required: VIRTUAL"),
        (["plan", "r", "v", "--cred", "x"], "unrecognized arguments: --cred"),
        (["status", "r", "--timeout", "0"], "'0' is not a number of seconds from 0 to 3600"),
        (["status", "r", "--timeout", "nan"], "'nan' is not a number of seconds"),
        (["status", "r", "--color", "red"], "choose from 'auto', 'always', 'never'"),
        (["apply", "r", "v", "--confirm-timeout", "0"], "'0' is not a number from 1 to 86400"),
        (["apply", "r", "v", "--confirm-timeout", "²"], "'²' is not a number from 1 to 86400"),
        (["clear", "r", "--description", "x" * 256], "longer than 255 octets"),
        (["graph", "r", "v", "--format", "png"], "choose from 'svg'"),
        (["watch", "r", "v", "--interval", "0.1"], "'0.1' is not a number of seconds from 0.5"),
        (["serve", "r", "v", "--listen", "localhost"], "'localhost' is not an IP address"),
        (["serve", "r", "v", "--listen", "127.0.0.1:70000"], "'127.0.0.1:70000' is not an IP"),
        (["lab", "exec", "alice"], "the following arguments are required: COMMAND"),
        (["lab", "exec", "alice", "--"], "the following arguments are required: COMMAND"),
        (["lab", "exec", "alice", "--name", "x", "ls"], "--name: options stand before MEMBER"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(words: list[str], message: str, capsys: Any) -> None:
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: vmib ")
    assert message in err.splitlines()[-1]


def test_the_command_for_a_member_keeps_its_own_options() -> None:
    parse = arguments.parser().parse_args
    for words in (["--", "tc", "-s", "qdisc", "--"], ["tc", "-s", "qdisc", "--"]):
        options = parse(["lab", "exec", "--name", "x", "host1", *words])
        assert (options.name, options.member) == ("x", "host1")
        assert options.words == ["tc", "-s", "qdisc", "--"]


def test_a_transaction_is_described_by_the_command_that_began_it() -> None:
    parse = arguments.parser().parse_args
    assert parse(["apply", "r", "v"]).description == Options().description == "vmib apply"
    assert parse(["clear", "r"]).description == "vmib clear"


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (["check", "none.xml", "virtual.xml"], 1, "DescriptionRefused"),
        (["check", "real.xml", "."], 1, "DescriptionRefused"),
        (["check", "real.xml", "wrong.xml"], 1, "DescriptionRefused"),
        (["plan", "real.xml", "virtual.xml"], 1, "CredentialsRefused"),
        (["apply", "real.xml", "virtual.xml", "--credentials", "/dev/null"], 1, "Credentials"),
        (["verify", "real.xml", "virtual.xml"], 1, "CredentialsRefused"),
        (["status", "real.xml"], 1, "CredentialsRefused"),
        (["diff", "virtual.xml"], 1, "DescriptionRefused"),
        (["confirm", "real.xml"], 1, "CredentialsRefused"),
        (["abort", "real.xml"], 1, "CredentialsRefused"),
        (["clear", "real.xml"], 1, "CredentialsRefused"),
        (["lab", "status", "--name", "No Lab"], 1, ""),
        (["plan"], 2, "UsageError"),
        (["status", "real.xml", "--what"], 2, "UsageError"),
    ],
)
def test_with_json_every_error_is_one_document(
    files: Path, words: list[str], status: int, error: str, capsys: Any
) -> None:
    assert cli.main([*words, "--json"]) == status
    out, err = capsys.readouterr()
    found = document(out)
    assert found["schema"] == "vmib.error/1"
    assert error in found["error"]
    assert found["messages"]
    assert all(found["messages"])
    assert err.startswith("usage: ") == (status == 2)
    assert cli.main(words) == status
    out, err = capsys.readouterr()
    assert out == ""
    for message in found["messages"]:
        assert message in err


def test_every_fault_of_the_files_is_told_with_its_line(files: Path, capsys: Any) -> None:
    assert cli.main(["check", "virtual.xml", "wrong.xml"]) == 1
    assert [line.split(": ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "virtual.xml:1",
        "wrong.xml:2",
        "wrong.xml:3",
    ]
    assert cli.main(["check", "real.xml", "wrong.xml", "--json"]) == 1
    first = document(capsys.readouterr().out)["problems"][0]
    assert (first["line"], first["attribute"], first["value"]) == (2, "rate", "fast")


def test_what_the_files_alone_forbid_is_a_failure_and_no_difference(
    files: Path, capsys: Any
) -> None:
    (files / "stranger.xml").write_text((files / "virtual.xml").read_text().replace('"b"', '"z"'))
    for command in ("check", "verify"):
        assert cli.main([command, "real.xml", "stranger.xml"]) == 1
        assert "there is no machine z" in capsys.readouterr().out
    assert cli.main(["verify", "real.xml", "stranger.xml", "--json"]) == 1
    found = document(capsys.readouterr().out)
    assert (found["schema"], found["ok"]) == ("vmib.check/1", False)


def test_a_good_description_passes_the_check(files: Path, capsys: Any) -> None:
    assert cli.main(["check", "real.xml", "virtual.xml"]) == 0
    assert capsys.readouterr().out.endswith("as far as the files tell.\n")
    assert cli.main(["check", "real.xml", "virtual.xml", "--json"]) == 0
    assert document(capsys.readouterr().out) == {
        "schema": "vmib.check/1",
        "ok": True,
        "findings": [],
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["graph", "real.xml", "virtual.xml", "-o", "x.png"], "'png' is not allowed; allowed: svg"),
        (["graph", "real.xml", "virtual.xml", "--offline", "-o", "no/x.svg"], "no/x.svg: No such"),
        (["graph", "real.xml", "virtual.xml", "--offline", "-o", "."], ".: Is a directory"),
        (["discover", "127.0.0.1:161"], "'127.0.0.1:161' is not allowed; allowed: a real file, or"),
        (["discover", "h=somewhere:161"], "'h=somewhere:161' is not allowed"),
        (["discover", "h=127.0.0.1", "h=127.0.0.2"], "allowed: each host once"),
        (["discover", "real.xml", "h=127.0.0.2"], "'real.xml' is not allowed"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    files: Path, words: list[str], message: str, capsys: Any
) -> None:
    assert cli.main(words) == 1
    err = capsys.readouterr().err
    assert err.startswith("vmib: ")
    assert err.count("\n") == 1
    assert message in err


def test_a_picture_is_drawn_without_agents(files: Path, capsys: Any) -> None:
    assert cli.main(["graph", "real.xml", "virtual.xml", "--offline"]) == 0
    assert capsys.readouterr().out.startswith("<svg ")
    assert cli.main(["graph", "real.xml", "virtual.xml", "--offline", "-o", "x.DOT"]) == 0
    assert (files / "x.DOT").read_text().startswith("graph ")


def test_names_in_messages_do_not_steer_the_terminal(files: Path, capsys: Any) -> None:
    assert cli.main(["check", f"{HOSTILE}.xml", "virtual.xml"]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.strip().isprintable()
    assert r"a\x1b[31mb\rc\nd\x9be\u202ef\x7f.xml: cannot be read" in err
    assert cli.main(["check", f"{HOSTILE}.xml", "virtual.xml", "--json"]) == 1
    out = capsys.readouterr().out
    assert out.isascii()
    assert document(out)["messages"][0].startswith(HOSTILE)


def test_what_is_printable_stays_as_it_is() -> None:
    assert visible("Zürich → 東京 ±1%") == "Zürich → 東京 ±1%"


def test_colours_are_for_terminals_and_those_who_ask() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def coloured(when: str, stream: io.StringIO, **environment: str) -> bool:
        return "\033[" in terminal.painter(when, stream, environment)("text", "good")

    assert coloured("auto", Terminal())
    assert not coloured("auto", io.StringIO())
    assert not coloured("auto", Terminal(), NO_COLOR="1")
    assert coloured("auto", Terminal(), NO_COLOR="")
    assert not coloured("auto", Terminal(), TERM="dumb")
    assert coloured("always", io.StringIO(), NO_COLOR="1")
    assert not coloured("never", Terminal())


def test_progress_is_for_terminals_alone() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    shown, hidden = Terminal(), io.StringIO()
    for stream in (shown, hidden):
        line = terminal.ProgressLine(stream)
        line.tell(Progress(Phase.STAGE, "h1", 0, 1))
        line.tell(Progress(Phase.STAGE, "h2", 3, 7))
        line.tell(Progress(Phase.COMMIT, "h1", 1, 1))
        line.clear()
    assert hidden.getvalue() == ""
    assert "\rstage: 0 of 2 hosts, 3 of 8 messages" in shown.getvalue()
    assert "\rcommit: 1 of 1 hosts" in shown.getvalue()
    assert shown.getvalue().endswith("\r")


def run(*words: str, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    """The command as a process of its own."""
    program = "import sys; from vmib_manager.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, check=False, stderr=subprocess.PIPE, **settings)


def test_a_reader_that_has_gone_is_no_error(files: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = run("graph", "real.xml", "virtual.xml", "--offline", stdout=closed)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_under_standard_output_is_told(files: Path, more: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("check", "real.xml", "virtual.xml", *more, stdout=full)
    assert (done.returncode, done.stderr) == (1, b"vmib: No space left on device\n")


def test_closed_output_and_a_narrow_encoding_are_no_error(files: Path) -> None:
    closed = ["sh", "-c", '"$@" >&-', "sh", sys.executable, "-c"]
    program = "import sys; from vmib_manager.cli import main; sys.exit(main())"
    done = subprocess.run(
        [*closed, program, "check", "real.xml", "virtual.xml"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    narrow = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = run("plan", "-h", stdout=subprocess.PIPE, env=narrow)
    assert done.returncode == 0
    assert rb"\xb1 for one that is removed" in done.stdout


def test_the_schemas_of_documents_have_one_name_each() -> None:
    source = ast.parse(Path(documents.__file__).read_text())
    names = [
        call.args[0].value
        for call in ast.walk(source)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "_schema"
        and isinstance(call.args[0], ast.Constant)
    ]
    assert len(names) == len(set(names)) > 8


def test_every_command_that_has_documents_can_print_them() -> None:
    without = {words for words, parser, _ in PARSERS if "--json" not in parser.format_help()}
    assert without == {
        "vmib",
        "vmib discover",
        "vmib graph",
        "vmib serve",
        "vmib mib-path",
        "vmib lab",
        "vmib lab up",
        "vmib lab down",
        "vmib lab exec",
    }


def test_an_interrupt_is_told_and_has_its_own_status(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "load_real", interrupted)
    assert cli.main(["status", "real.xml"]) == 130
    assert capsys.readouterr().err == "vmib: interrupted\n"
    assert cli.main(["status", "real.xml", "--json"]) == 130
    assert document(capsys.readouterr().out)["messages"] == ["interrupted"]


@pytest.mark.parametrize("words", [["list"], ["status"], ["down"], ["exec", "alice", "ls"]])
def test_a_lab_is_for_root(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["lab", *words]) == 1
    assert capsys.readouterr().err == (
        "vmib: network namespaces are for root alone; run this with sudo\n"
    )
