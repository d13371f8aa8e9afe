"""The command line of `check_vmib`. The checks are in `check_modes`.

Options are named as those of check_snmp. Man page and completion are made from this parser.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from nagiosplugin import Range

from vmib import __version__, objects, rows
from vmib.snmp.usm import AUTH_PROTOCOLS

from .argument_types import seconds, whole_number
from .check_report import NO_RANGE
from .command_line import Parser
from .credentials_file import ENVIRONMENT

PROGRAM = "check_vmib"
AUTH_VARIABLE, PRIV_VARIABLE = "VMIB_AUTH_PASSPHRASE", "VMIB_PRIV_PASSPHRASE"
PRIV_PROTOCOL = "AES"

_DESCRIPTION = f"""\
A plug-in for Nagios and Icinga: asks an agent of vMIB by SNMPv3, and prints one line with a status
and performance data.

Pass phrases are no arguments, which everybody on the computer can read. They are in a file for its
owner alone (--credentials), as the manager has it, or in the environment ({AUTH_VARIABLE},
{PRIV_VARIABLE}).

Thresholds are ranges: 10 is for 0 to 10, 10: for 10 and more, ~:10 for 10 and less, 10:20 for what
is between, and @10:20 for what is not. A value outside of a range is told.
"""

_EPILOG = """\
exit status:
  0    OK
  1    WARNING
  2    CRITICAL
  3    UNKNOWN: the agent cannot be asked, or not about this, or the command line is wrong
"""

_Add = Callable[[argparse.ArgumentParser], None]
_T = TypeVar("_T")


class _Refused(argparse.Action):
    """An option that check_snmp has for a secret; its value is not shown."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        community = self.dest == "community"
        parser.error(
            f"{option_string} is refused: agents are asked by SNMPv3 alone (-U)"
            if community
            else f"{option_string} is refused: everybody can read arguments; put the pass phrase "
            f"into a file of mode 0600 (--credentials FILE) or into {AUTH_VARIABLE} and "
            f"{PRIV_VARIABLE}"
        )


def parser() -> argparse.ArgumentParser:
    """The whole command line; `mode` of what it parses is the name of a check."""
    made = Parser(prog=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    made.add_argument("-V", "--version", action="version", version=f"{PROGRAM} {__version__}")
    words = made.add_subparsers(metavar="MODE", title="modes", dest="mode", required=True)
    for name, summary, more, adds in _MODES:
        mode = words.add_parser(name, help=summary, description=f"{summary}\n\n{more}".strip())
        for add in adds:
            add(mode)
        _agent(mode)
    return made


def _agent(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "-H", "--hostname", required=True, metavar="ADDRESS", help="the agent, by name or address"
    )
    made.add_argument(
        "-p", "--port", type=whole_number(1, 65535), default=161, help="its UDP port (default: 161)"
    )
    made.add_argument(
        "-P", "--protocol", choices=("3",), default="3", help="the version of SNMP, 3"
    )
    made.add_argument(
        "-L",
        "--seclevel",
        choices=("authPriv",),
        default="authPriv",
        help="authentication and privacy, which agents insist on",
    )
    made.add_argument("-U", "--secname", required=True, metavar="USER", help="the SNMPv3 user")
    made.add_argument(
        "-a",
        "--authproto",
        choices=tuple(AUTH_PROTOCOLS),
        help="default: that of the file's entry, else SHA-256",
    )
    made.add_argument(
        "-x", "--privproto", choices=(PRIV_PROTOCOL,), default=PRIV_PROTOCOL, help="AES-128"
    )
    made.add_argument("-N", "--context", default="", help="the SNMPv3 context (default: none)")
    made.add_argument(
        "--credentials",
        type=Path,
        metavar="FILE",
        help="pass phrases (TOML, mode 0600); default: the environment's, else "
        f"${ENVIRONMENT}, else ~/.config/vmib/credentials.toml",
    )
    made.add_argument("--entry", metavar="NAME", help="of the file; default: the user's name")
    made.add_argument(
        "-t",
        "--timeout",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="for one request with all its retransmissions (default: 10)",
    )
    made.add_argument(
        "-e",
        "--retries",
        type=whole_number(0, 100),
        default=5,
        help="how often a request is sent again (default: 5)",
    )
    made.add_argument("-v", "--verbose", action="count", default=0, help="print every finding")
    for short, long, what in (
        ("-A", "--authpasswd", "a pass phrase is no argument"),
        ("-X", "--privpasswd", "a pass phrase is no argument"),
        ("-C", "--community", "agents are asked by SNMPv3"),
    ):
        made.add_argument(short, long, action=_Refused, metavar="SECRET", help=f"refused: {what}")


def _range(text: str) -> Range:
    try:
        return Range(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no range, such as 10, 10:, ~:10, 10:20 or @10:20"
        ) from None


def _two_ranges(text: str) -> tuple[Range, Range]:
    rtt, _, loss = text.partition(",")
    return _range(rtt), _range(loss)


def _end(text: str) -> tuple[str, int | None]:
    name, colon, number = text.rpartition(":")
    if colon and name and number.isascii() and number.isdecimal() and len(number) < 10:
        return name, int(number)
    if not text:
        raise argparse.ArgumentTypeError("'' is no machine")
    return text, None


def _vif_end(text: str) -> tuple[str, int]:
    name, number = _end(text)
    return name, number or 0


def _of(kind: Callable[[str], _T], what: str) -> Callable[[str], _T]:
    def parse(text: str) -> _T:
        try:
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no {what}") from None

    return parse


def _capability(text: str) -> str:
    known = objects.vmibHostCapabilities.syntax.names
    if text not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}")
    return text


def _needs(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--needs",
        type=_capability,
        action="append",
        default=[],
        metavar="CAPABILITY",
        help="CRITICAL where the host cannot do this (vmibHostCapabilities), such as netem; can be "
        "given several times",
    )


def _machine(made: argparse.ArgumentParser) -> None:
    made.add_argument("machine", metavar="MACHINE", help="the machine's name")
    made.add_argument(
        "--expect",
        choices=[presence.name for presence in rows.VmPresence],
        default=rows.VmPresence.running.name,
        help="CRITICAL where it is anything else (default: running)",
    )


def _vif(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "vif", type=_vif_end, metavar="MACHINE[:N]", help="the interface; default of N: 0"
    )


def _maybe_vif(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "vif",
        type=_end,
        nargs="?",
        metavar="MACHINE[:N]",
        help="only rows of this machine or interface",
    )


def _flow(made: argparse.ArgumentParser) -> None:
    _vif(made)
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--direction",
        choices=[direction.name for direction in rows.Direction],
        help="all that the machine sends, or receives",
    )
    which.add_argument(
        "--to",
        type=_of(ip_network, "network"),
        metavar="NETWORK",
        help="the link to an address or network instead",
    )
    made.add_argument(
        "-i",
        "--interval",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="between the two readings (default: 10); counters are up to half a second old",
    )


def _target(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "address", type=_of(ip_address, "address"), metavar="ADDRESS", help="where the probe goes"
    )


def _thresholds(
    what: str,
    warning: str = "",
    critical: str = "",
    parse: Callable[[str], Any] = _range,
    metavar: str = "RANGE",
) -> _Add:
    def add(made: argparse.ArgumentParser) -> None:
        for short, long, default in (("-w", "--warning", warning), ("-c", "--critical", critical)):
            told = f" (default: {default})" if default else ""
            made.add_argument(
                short,
                long,
                type=parse,
                default=parse(default) if default else _nothing(parse),
                metavar=metavar,
                help=f"{long[2:].upper()} outside of this: {what}{told}",
            )

    return add


def _nothing(parse: Callable[[str], Any]) -> Any:
    return (NO_RANGE, NO_RANGE) if parse is _two_ranges else NO_RANGE


_Entry = tuple[str, str, str, Sequence[_Add]]
_MODES: Sequence[_Entry] = (
    (
        "host",
        "The agent, the hypervisor, and what the host can do.",
        "WARNING while the agent is recovering; CRITICAL where it is readOnly, where the "
        "hypervisor is not up, or where a capability is missing.",
        (_needs,),
    ),
    (
        "machine",
        "Whether the hypervisor has a machine, and whether it runs.",
        "",
        (_machine, _thresholds("interfaces")),
    ),
    (
        "vif",
        "Whether an interface of a machine is up and as configured.",
        "",
        (_vif,),
    ),
    (
        "sync",
        "Whether the host does what it is told: rows that have drifted or failed.",
        "Rows that wait for a machine that is off are counted, too, and are not wrong.",
        (_maybe_vif, _thresholds("rows that have drifted or failed", critical="0")),
    ),
    (
        "rate",
        "How fast a direction of an interface or a link is, beside the rate that is configured.",
        "From two readings of the counters.",
        (_flow, _thresholds("percent of the configured rate", "110", "125")),
    ),
    (
        "drops",
        "What part of its packets a direction of an interface or a link drops.",
        "From two readings of the counters. A queue that is full drops; so does a loss that is "
        "configured.",
        (_flow, _thresholds("percent of the packets")),
    ),
    (
        "probe",
        "Round trips and losses that the agent measures (vmibProbeTable).",
        "WARNING where the probe's own threshold is exceeded, or where its rounds have ended.",
        (
            _vif,
            _target,
            _thresholds(
                "mean round trip in ms, loss in percent",
                parse=_two_ranges,
                metavar="RTT[,LOSS]",
            ),
        ),
    ),
    (
        "transaction",
        "Whether a commit waits to be confirmed.",
        "WARNING while one does.",
        (_thresholds("seconds left to confirm it", critical="60:"),),
    ),
)
