"""The command `vmib`: its words, options and exit status. What they do is in `commands`.

Man pages and shell completion are made from this parser.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vmib import __version__
from vmib.errors import VmibError

from . import commands
from .apply import CONFIRM_TIMEOUT, LEAVE_OPEN_TIMEOUT
from .credentials_file import ENVIRONMENT
from .exit_status import ExitStatus
from .graph import FORMATS
from .lab import DEFAULT_NAME

PROGRAM = "vmib"

_DESCRIPTION = """\
Makes networks of virtual machines behave as two XML files describe: the real file has the hosts,
their agents and machines; the virtual file has the sites, links, routes and rules that are
wanted. The agents are reached by SNMPv3.
"""

_EPILOG = "exit status:\n" + "\n".join(
    f"  {status.value}  {status.meaning}" for status in ExitStatus
)

_Add = Callable[[argparse.ArgumentParser], None]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        status: ExitStatus = options.run(options)
        sys.stdout.flush()
    except VmibError as refused:
        commands.complain(options, refused)
        return int(ExitStatus.FAILED)
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing is left to be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitStatus.DONE)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"{PROGRAM}: {place}{error.strerror or error}", file=sys.stderr)
        return int(ExitStatus.FAILED)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return int(ExitStatus.INTERRUPTED)
    return int(status)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    words = made.add_subparsers(metavar="COMMAND", required=True)
    for name, run, summary, adds in _COMMANDS:
        _command(words, name, run, summary, adds)
    _lab(words)
    return made


def _command(
    words: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: commands.Run,
    summary: str,
    adds: Sequence[_Add],
) -> None:
    made = words.add_parser(name, help=summary, description=summary)
    made.set_defaults(run=run, json=False)
    for add in adds:
        add(made)


def _real(made: argparse.ArgumentParser) -> None:
    made.add_argument("real", type=Path, metavar="REAL", help="the real file (XML)")


def _virtual(made: argparse.ArgumentParser) -> None:
    made.add_argument("virtual", type=Path, metavar="VIRTUAL", help="the virtual file (XML)")


def _json(made: argparse.ArgumentParser) -> None:
    made.add_argument("--json", action="store_true", help="print one JSON document")


def _colour(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colours: on a terminal without NO_COLOR (auto, the default), always or never",
    )


def _agents(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        help=f"pass phrases (TOML, mode 0600); default: ${ENVIRONMENT}, or that of the lab that "
        "the real file describes, or ~/.config/vmib/credentials.toml",
    )
    made.add_argument(
        "--timeout",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="for one request with all its retransmissions (default: 5)",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 3600")
    return value


def _whole_seconds(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low} to {high}")
        return int(text)

    return parse


def _brief(made: argparse.ArgumentParser) -> None:
    made.add_argument("--brief", action="store_true", help="one line for each host")


def _detailed(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--detailed-exitcode",
        action="store_true",
        help=f"exit with {ExitStatus.DIFFERENT.value} where anything would change",
    )


def _dry_run(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "-n", "--dry-run", action="store_true", help="print the plan and change nothing"
    )


def _confirming(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--no-confirm",
        dest="confirm",
        action="store_false",
        help="leave the commit to be confirmed with 'vmib confirm'; otherwise hosts take it back",
    )
    made.add_argument(
        "--confirm-timeout",
        type=_whole_seconds(1, 86400),
        metavar="SECONDS",
        help="after which hosts take back what nobody confirmed "
        f"(default: {CONFIRM_TIMEOUT}, with --no-confirm {LEAVE_OPEN_TIMEOUT})",
    )
    made.add_argument(
        "--description", default="vmib apply", help="for the history of the agents' transactions"
    )


def _graph(made: argparse.ArgumentParser) -> None:
    made.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")
    made.add_argument(
        "--format",
        choices=FORMATS,
        help="default: by the ending of the output's name, else svg",
    )
    made.add_argument(
        "--offline", action="store_true", help="do not ask agents: everything is planned"
    )


def _discover(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "agents",
        nargs="+",
        metavar="REAL|ID=ADDRESS[:PORT]",
        help="a real file whose hosts are asked anew, or the agents of hosts",
    )
    made.add_argument("--user", default="vmib", help="SNMPv3 user of agents (default: vmib)")
    made.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")


_READ = (_agents, _json, _colour)
_COMMANDS: tuple[tuple[str, commands.Run, str, tuple[_Add, ...]], ...] = (
    (
        "check",
        commands.check,
        "Check the two files, without asking agents.",
        (_real, _virtual, _json, _colour),
    ),
    (
        "plan",
        commands.plan,
        "Print what has to change on the hosts.",
        (_real, _virtual, _brief, _detailed, *_READ),
    ),
    (
        "apply",
        commands.apply,
        "Change all hosts, or none, to be as described.",
        (_real, _virtual, _dry_run, _confirming, _brief, *_READ),
    ),
    (
        "verify",
        commands.verify,
        "Say whether all hosts are as described and do what they are told.",
        (_real, _virtual, *_READ),
    ),
    ("status", commands.status, "Print how hosts and agents are.", (_real, *_READ)),
    (
        "diff",
        commands.diff,
        "Print where hosts do not do what they are told: configured against read back.",
        (_real, *_READ),
    ),
    (
        "confirm",
        commands.confirm,
        "Make commits final that await confirmation.",
        (_real, *_READ),
    ),
    (
        "abort",
        commands.abort,
        "Take back transactions that are open or await confirmation.",
        (_real, *_READ),
    ),
    (
        "clear",
        commands.clear,
        "Remove all configuration from the hosts, on all or none.",
        (_real, _dry_run, _confirming, _brief, *_READ),
    ),
    (
        "discover",
        commands.discover,
        "Write the real file from what agents report.",
        (_discover, _agents),
    ),
    (
        "graph",
        commands.graph,
        "Draw the virtual network, coloured by the state that agents report.",
        (_real, _virtual, _graph, _agents),
    ),
    (
        "mib-path",
        commands.mib_path,
        "Print the directory of the MIB modules, for MIBDIRS.",
        (),
    ),
)


def _lab(words: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Make the hosts and machines of a real file on this computer, out of namespaces."
    lab = words.add_parser("lab", help=summary, description=summary)
    actions = lab.add_subparsers(metavar="ACTION", required=True)
    adds: tuple[tuple[str, commands.Run, str, tuple[_Add, ...]], ...] = (
        ("up", commands.lab_up, "Make what is missing, and start the agents.", (_real, _name)),
        ("down", commands.lab_down, "Remove everything, also after a crash.", (_name,)),
        ("status", commands.lab_status, "Print how the lab is.", (_name, _json, _colour)),
        ("list", commands.lab_list, "Print the names of the labs.", (_json,)),
        (
            "exec",
            commands.lab_exec,
            "Run a command in a host or machine; its exit status is passed on.",
            (_name, _member),
        ),
    )
    for name, run, summary, options in adds:
        _command(actions, name, run, summary, options)


def _name(made: argparse.ArgumentParser) -> None:
    made.add_argument("--name", default=DEFAULT_NAME, help=f"of the lab (default: {DEFAULT_NAME})")


def _member(made: argparse.ArgumentParser) -> None:
    made.add_argument("member", metavar="MEMBER", help="a host or machine")
    made.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="COMMAND", help="what to run there"
    )
