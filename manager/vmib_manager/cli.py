"""The command `vmib`: from a command line to an exit status. The command line is in `arguments`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress

from vmib.errors import VmibError

from . import documents, terminal
from .arguments import PROGRAM, parser
from .command_line import UsageError
from .commands import Interrupted
from .exit_status import ExitStatus
from .visible import visible
from .xmlload import DescriptionRefused, Problem


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit status."""
    terminal.prepare()
    _end_like_an_interrupt(signal.SIGTERM)
    status = _answered(sys.argv[1:] if arguments is None else arguments)
    terminal.settle()
    return int(status)


def _end_like_an_interrupt(number: signal.Signals) -> None:
    """Make a signal do what Ctrl-C does: take back what has been done, then end.

    Shells make what scripts run in the background ignore Ctrl-C, and so asyncio. There it has its
    usual effect, but is held up until the signal comes.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(*_: object) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.raise_signal(signal.SIGINT)

    signal.signal(number, interrupt)


def _answered(words: Sequence[str]) -> ExitStatus:
    as_json = "--json" in words
    try:
        options = parser().parse_args(words)
        as_json = options.json
        return _carried_out(options)
    except UsageError as error:
        print(error.usage, end="", file=sys.stderr)
        return _failed(ExitStatus.USAGE, error, as_json, who=error.program)
    except DescriptionRefused as error:
        return _failed(ExitStatus.FAILED, error, as_json, problems=error.problems)
    except Interrupted as error:
        return _failed(ExitStatus.INTERRUPTED, error, as_json)
    except VmibError as error:
        return _failed(ExitStatus.FAILED, error, as_json)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        told = VmibError(f"{place}{error.strerror or error}")
        return _failed(ExitStatus.FAILED, told, as_json, kind=type(error).__name__)
    except KeyboardInterrupt:
        return _failed(ExitStatus.INTERRUPTED, Interrupted("interrupted"), as_json)


def _carried_out(options: argparse.Namespace) -> ExitStatus:
    if options.run is None:
        options.incomplete.print_help(sys.stderr)
        return ExitStatus.USAGE
    status: ExitStatus = options.run(options)
    return status


def _failed(
    status: ExitStatus,
    error: VmibError,
    as_json: bool,
    *,
    who: str = PROGRAM,
    kind: str = "",
    problems: Sequence[Problem] = (),
) -> ExitStatus:
    """Say why: as the one document on standard output, or for people on standard error.

    Faults of files are a line each and begin with file and line, as compilers have them.
    """
    messages = [str(problem) for problem in problems] or [str(error)]
    if as_json:
        with suppress(OSError):  # standard output itself may be what failed
            document = documents.error(kind or type(error).__name__, messages, problems)
            terminal.say([documents.text(document)])
            return status
    for message in messages:
        print("" if problems else f"{who}: ", visible(message), sep="", file=sys.stderr)
    return status
