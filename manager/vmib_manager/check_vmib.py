"""The command `check_vmib`: a plug-in for Nagios and Icinga.

Whatever happens ends in one of the four statuses and in one line, never in a traceback.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from vmib.errors import VmibError

from . import credentials_file, streams
from .client import Client
from .command_line import UsageError
from .credentials import Credentials
from .credentials_file import CredentialsRefused, Entry
from .visible import visible

if TYPE_CHECKING:
    from .check_report import Report

UNKNOWN = 3
_LIBRARY = "nagiosplugin"


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one check; returns the exit status."""
    streams.prepare()
    try:
        return _checked(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        return _unknown(f"{error}; {error.program} --help tells more")
    except (VmibError, OSError) as error:
        return _unknown(str(error))
    except KeyboardInterrupt:
        return _unknown("interrupted")
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == _LIBRARY:
            return _unknown(f"the Python package {_LIBRARY} is missing: pip install 'vmib[nagios]'")
        return _unknown(f"a fault of this plug-in: {type(error).__name__}: {error}")
    finally:
        streams.settle()


def _unknown(text: str) -> int:
    streams.say([f"VMIB UNKNOWN: {visible(text).replace('|', '/')}"])
    return UNKNOWN


def _checked(words: Sequence[str]) -> int:
    from . import check_arguments, check_report

    options = check_arguments.parser().parse_args(words)
    report = asyncio.run(_asked(options))
    made = check_report.check(options.mode, report)
    streams.say([check_report.text(made, options.verbose)])
    return int(made.exitcode)


async def _asked(options: argparse.Namespace) -> Report:
    from .check_modes import MODES
    from .check_source import Source

    async with Client() as client:
        agent = client.agent(
            options.hostname,
            options.port,
            credentials(options, os.environ),
            timeout=options.timeout,
            retries=options.retries,
            context=options.context,
        )
        return await MODES[options.mode](Source(agent), options)


def credentials(options: argparse.Namespace, environment: Mapping[str, str]) -> Credentials:
    """The user with its pass phrases, of the file or the environment; raises CredentialsRefused."""
    from .check_arguments import AUTH_VARIABLE, PRIV_VARIABLE

    given = [environment.get(name, "") for name in (AUTH_VARIABLE, PRIV_VARIABLE)]
    if options.credentials is None and any(given):
        for name, text in zip((AUTH_VARIABLE, PRIV_VARIABLE), given, strict=True):
            if not text:
                raise CredentialsRefused(f"${name} is not set, and both pass phrases are needed")
        entry = Entry(*given)
    else:
        path = credentials_file.default_path(options.credentials, None, environment)
        entries = credentials_file.load(path)
        name = options.entry or options.secname
        if name not in entries:
            known = ", ".join(sorted(entries)) or "none"
            raise CredentialsRefused(f"{path}: no entry {name!r}, but {known} (--entry NAME)")
        entry = entries[name]
    auth_protocol = options.authproto or entry.auth_protocol
    return Credentials.from_passphrases(options.secname, entry.auth, entry.priv, auth_protocol)
