"""The command line of `vmib`: its words and options. What they do is in `commands`.

Man pages and shell completion are made from this parser.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vmib import __version__, units

from . import commands, live_commands
from .apply import CONFIRM_TIMEOUT, LEAVE_OPEN_TIMEOUT
from .argument_types import (
    LOOPBACK,
    PORT,
    description,
    duration,
    endpoint,
    seconds,
    share,
    whole_number,
)
from .command_line import Parser
from .credentials_file import ENVIRONMENT
from .exit_status import ExitStatus
from .graph import FORMATS
from .lab import DEFAULT_NAME
from .probe_plan import PACKETS
from .probe_verdict import DEFAULT
from .terminal import WHEN

PROGRAM = "vmib"

_DESCRIPTION = """\
Makes networks of virtual machines behave as two XML files describe: the real file has the hosts,
their agents and machines; the virtual file has the sites, links, routes and rules that are
wanted. The agents are reached by SNMPv3.

'vmib COMMAND -h' tells more about a command.
"""

_EPILOG = "exit status:\n" + "\n".join(
    f"  {status.value:<5}{status.meaning}" for status in ExitStatus
)

_Add = Callable[[argparse.ArgumentParser], None]


class _Words(argparse.Action):
    """The command for `lab exec`: at least one word, after an optional `--`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        words = list(values)
        if words and words[0] == "--":
            words = words[1:]
        elif words and words[0].startswith("-"):
            parser.error(f"{words[0]}: options stand before MEMBER, and -- before a command")
        if not words:
            parser.error("the following arguments are required: COMMAND")
        setattr(namespace, self.dest, words)


def parser() -> argparse.ArgumentParser:
    """The whole command line; `run` of what it parses is None where a word is missing."""
    made = Parser(prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    made.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    made.set_defaults(run=None, json=False, incomplete=made)
    words = made.add_subparsers(metavar="COMMAND", title="commands")
    for name, run, summary, more, adds in _COMMANDS:
        _command(words, name, run, summary, more, adds)
    _lab(words)
    return made


def _command(
    words: argparse._SubParsersAction[Any],
    name: str,
    run: commands.Run,
    summary: str,
    more: str,
    adds: Sequence[_Add],
) -> None:
    description = f"{summary}\n\n{more}" if more else summary
    made = words.add_parser(name, help=summary, description=description)
    made.set_defaults(run=run)
    for add in adds:
        add(made)


def _real(made: argparse.ArgumentParser) -> None:
    made.add_argument("real", type=Path, metavar="REAL", help="the real file (XML)")


def _virtual(made: argparse.ArgumentParser) -> None:
    made.add_argument("virtual", type=Path, metavar="VIRTUAL", help="the virtual file (XML)")


def _json(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--json", action="store_true", help="print one JSON document, also about an error"
    )


def _colour(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--color",
        choices=WHEN,
        default="auto",
        metavar="WHEN",
        help="auto (the default: on a terminal, unless NO_COLOR is set), always or never",
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
        type=seconds,
        default=5.0,
        metavar="SECONDS",
        help="for one request with all its retransmissions (default: 5)",
    )


def _interval(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--interval",
        type=partial(seconds, least=0.5),
        default=2.0,
        metavar="SECONDS",
        help="between two readings of a host (default: 2)",
    )


def _lines(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--json",
        dest="lines",
        action="store_true",
        help="print a line for what happens as a JSON document",
    )


def _listen(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--listen",
        type=endpoint,
        default=(LOOPBACK, PORT),
        metavar="ADDRESS[:PORT]",
        help=f"where to serve (default: {LOOPBACK}:{PORT})",
    )
    made.add_argument(
        "--allow-remote",
        action="store_true",
        help="take an address for --listen that is no loopback address: everybody who reaches it "
        "can then read the network, without password or encryption",
    )


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
    word = made.prog.rsplit(" ", 1)[-1]
    made.add_argument(
        "--no-confirm",
        dest="confirm",
        action="store_false",
        help="leave the commit to be confirmed with 'vmib confirm'; otherwise hosts take it back",
    )
    made.add_argument(
        "--confirm-timeout",
        type=whole_number(1, 86400),
        metavar="SECONDS",
        help="after which hosts take back what nobody confirmed "
        f"(default: {CONFIRM_TIMEOUT}, with --no-confirm {LEAVE_OPEN_TIMEOUT})",
    )
    made.add_argument(
        "--description",
        type=description,
        metavar="TEXT",
        default=f"{PROGRAM} {word}",
        help=f"for the history of the agents' transactions (default: {PROGRAM} {word})",
    )


def _measuring(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--measure",
        action="store_true",
        help="also measure the delay and loss of every interface and link by probes, and what "
        "passes them",
    )
    made.add_argument(
        "--packets",
        type=whole_number(1, 100),
        metavar="N",
        help=f"of each probe, 1 to 100 (default: {PACKETS})",
    )
    made.add_argument(
        "--tolerance",
        type=share,
        metavar="PERCENT",
        help="by which measured values may be off, such as 2.5%% "
        f"(default: {units.format_probability(DEFAULT.tolerance)}%)",
    )
    made.add_argument(
        "--slack",
        type=duration,
        metavar="TIME",
        help="that a round trip may take longer than described, such as 300us "
        f"(default: {units.format_time(DEFAULT.slack)})",
    )
    made.add_argument(
        "--traffic",
        action="store_true",
        help="fill every path of a lab of this computer, to measure rates",
    )


def _output(made: argparse.ArgumentParser) -> None:
    made.add_argument("-o", "--output", type=Path, metavar="FILE", help="default: standard output")


def _graph(made: argparse.ArgumentParser) -> None:
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
        metavar="AGENT",
        help="ID=ADDRESS[:PORT] of a host's agent; or one real file whose hosts are asked anew",
    )
    made.add_argument(
        "--user", default="vmib", help="SNMPv3 user of agents given by address (default: vmib)"
    )


def _name(made: argparse.ArgumentParser) -> None:
    made.add_argument("--name", default=DEFAULT_NAME, help=f"of the lab (default: {DEFAULT_NAME})")


def _member(made: argparse.ArgumentParser) -> None:
    made.usage = "%(prog)s [-h] [--name NAME] MEMBER [--] COMMAND [ARGUMENT ...]"
    made.add_argument("member", metavar="MEMBER", help="a host or machine")
    made.add_argument(
        "words",
        action=_Words,
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="what to run there, with its arguments",
    )


_READ = (_agents, _json, _colour)
_Entry = tuple[str, commands.Run, str, str, tuple[_Add, ...]]
_COMMANDS: tuple[_Entry, ...] = (
    (
        "check",
        commands.check,
        "Check the two files, without asking agents.",
        "Every fault is listed with its file and line. Warnings and notes do not keep a "
        "description from being applied.",
        (_real, _virtual, _json, _colour),
    ),
    (
        "plan",
        commands.plan,
        "Print what has to change on the hosts.",
        "The agents are asked, nothing is sent to be changed. Lines begin with + for a row that is "
        "created, ~ for one that changes, ± for one that is removed and created anew, - for one "
        "that is removed, and ! for one that something else has changed in the kernel.",
        (_real, _virtual, _brief, _detailed, *_READ),
    ),
    (
        "apply",
        commands.apply,
        "Change all hosts, or none, to be as described.",
        "Every host stages its changes in a transaction, validates and commits them, is read "
        "back, and confirms. When a host fails, or on Ctrl-C, all hosts take back what they have "
        "done; an agent that cannot be reached does so by itself. Rows that something else has "
        "changed in the kernel are set right. Where nothing differs, nothing is sent.",
        (_real, _virtual, _dry_run, _confirming, _brief, *_READ),
    ),
    (
        "verify",
        commands.verify,
        "Say whether all hosts are as described and do what they are told.",
        "Rows are compared with the description, and with what agents read back from the kernel; "
        "with --measure, what hosts do is, too. The way through an interface to its machine and "
        "back is measured, and that of what the machine sends to the other end of each link; "
        "probes are removed after that, by the agents themselves if need be. A delay may be off "
        "by the tolerance and the slack; a loss is off where chance does not explain it; of rates "
        "it is seen what passes, and with --traffic what can.",
        (_real, _virtual, _measuring, *_READ),
    ),
    (
        "status",
        commands.status,
        "Print how hosts and agents are.",
        "Also transactions that are open or await confirmation, and rows that are not in sync.",
        (_real, *_READ),
    ),
    (
        "diff",
        commands.diff,
        "Print where hosts do not do what they are told: configured against read back.",
        "",
        (_real, *_READ),
    ),
    (
        "confirm",
        commands.confirm,
        "Make commits final that await confirmation.",
        "Those that 'vmib apply --no-confirm' has left, on all hosts.",
        (_real, *_READ),
    ),
    (
        "abort",
        commands.abort,
        "Take back transactions that are open or await confirmation.",
        "",
        (_real, *_READ),
    ),
    (
        "clear",
        commands.clear,
        "Remove all configuration from the hosts, on all or none.",
        "Goes about it as apply does.",
        (_real, _dry_run, _confirming, _brief, *_READ),
    ),
    (
        "discover",
        commands.discover,
        "Write the real file from what agents report.",
        "What agents cannot know (switches, routers, cables, bridges) is taken over from the real "
        "file, if one is given.",
        (_discover, _output, _agents),
    ),
    (
        "graph",
        commands.graph,
        "Draw the virtual network, coloured by the state that agents report.",
        "Machines of hosts whose agents cannot be asked are marked with a question mark.",
        (_real, _virtual, _output, _graph, _agents),
    ),
    (
        "watch",
        live_commands.watch,
        "Watch the network in the terminal.",
        "Configured and measured values, what is wrong, and what happens; drawn anew until q or "
        "Ctrl-C. Where standard output is no terminal, a line is printed for each thing that "
        "happens.",
        (_real, _virtual, _interval, _agents, _lines, _colour),
    ),
    (
        "serve",
        live_commands.serve,
        "Serve a page that shows the network, for browsers on this computer.",
        "What 'vmib watch' shows, and the picture of 'vmib graph', live. The page changes "
        "nothing. Hosts are asked once, however many look.",
        (_real, _virtual, _listen, _interval, _agents, _colour),
    ),
    (
        "mib-path",
        commands.mib_path,
        "Print the directory of the MIB modules, for MIBDIRS.",
        "",
        (),
    ),
)

_LAB_SUMMARY = "Make the hosts and machines of a real file on this computer, out of namespaces."
_LAB_COMMANDS: tuple[_Entry, ...] = (
    (
        "up",
        commands.lab_up,
        "Make what is missing, and start the agents.",
        "All hosts of the real file have the hypervisor netns and agents on loopback addresses.",
        (_real, _name),
    ),
    ("down", commands.lab_down, "Remove everything, also after a crash.", "", (_name,)),
    ("status", commands.lab_status, "Print how the lab is.", "", (_name, _json, _colour)),
    ("list", commands.lab_list, "Print the names of the labs.", "", (_json,)),
    (
        "exec",
        commands.lab_exec,
        "Run a command in a host or machine; its exit status is passed on.",
        "",
        (_name, _member),
    ),
)


def _lab(words: argparse._SubParsersAction[Any]) -> None:
    lab = words.add_parser("lab", help=_LAB_SUMMARY, description=f"{_LAB_SUMMARY}\n\nFor root.")
    lab.set_defaults(incomplete=lab)
    actions = lab.add_subparsers(metavar="ACTION", title="actions")
    for name, run, summary, more, adds in _LAB_COMMANDS:
        _command(actions, name, run, summary, more, adds)
