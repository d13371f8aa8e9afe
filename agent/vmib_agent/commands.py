"""The command `vmib-agent`."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vmib import __version__, objects
from vmib.errors import ValueRefused, VmibError
from vmib.snmp.usm import AUTH_PROTOCOLS

from . import config, daemon, durable, users
from .config import Config, ConfigRefused
from .logs import LEVELS

EXIT_FAILED = 1
EXIT_CONFIGURATION = 3

_EPILOG = f"""\
exit status:
  0  done; for "run": stopped by SIGTERM or SIGINT, the network left as it is
  {EXIT_FAILED}  refused or failed, the reason is on standard error
  2  the command line is wrong
  {EXIT_CONFIGURATION}  the configuration file is not taken
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; returns the exit status."""
    options = parser().parse_args(arguments)
    try:
        options.command(options)
    except ConfigRefused as refused:
        print(f"vmib-agent: {refused}", file=sys.stderr)
        return EXIT_CONFIGURATION
    except VmibError as refused:
        print(f"vmib-agent: {refused}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    return 0


def _version() -> str:
    root = ".".join(map(str, objects.ROOT))
    number = objects.ROOT[6]
    return (
        f"vmib-agent {__version__}\nOID root {root} (enterprise {number}: the number that "
        "RFC 5612 reserves for documentation)"
    )


def parser() -> argparse.ArgumentParser:
    """The whole command line; man page and shell completion are made from it, too."""
    whole = argparse.ArgumentParser(
        prog="vmib-agent",
        description="Serves VMIB-MIB by SNMP and keeps this host's networks as it says.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    whole.add_argument("--version", action="version", version=_version())
    commands = whole.add_subparsers(metavar="COMMAND", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help=f"the configuration (default: {config.DEFAULT_PATH}, if it exists)",
    )
    common.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="the state directory, in place of the configuration's "
        f"(default: {Config().state_directory})",
    )

    def add(name: str, command: object, summary: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=summary, description=summary)
        made.set_defaults(command=command)
        return made

    run = add("run", _run, "Run the agent in the foreground.")
    run.add_argument(
        "--listen",
        action="append",
        metavar="ADDRESS:PORT",
        help="where to listen, in place of the configuration's addresses; may be given again",
    )
    run.add_argument(
        "--machines",
        type=Path,
        metavar="DIR",
        help="the machines' directory, in place of the configuration's",
    )
    run.add_argument("--log-level", choices=list(LEVELS), help="in place of the configuration's")
    add("cleanup", _cleanup, "Remove from this host what the agent made there, nothing else.")
    add("check-config", _check, "Read the configuration and say what is wrong with it.")
    _add_user_commands(commands, common)
    return whole


def _add_user_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    common: argparse.ArgumentParser,
) -> None:
    summary = "Add, list and remove users."
    user = commands.add_parser("user", help=summary, description=summary)
    actions = user.add_subparsers(metavar="ACTION", required=True)
    roles = ", ".join(role.value for role in users.Role)
    added = actions.add_parser(
        "add",
        parents=[common],
        help="add a user, or replace one",
        description=f"Add a user, or replace the one of that name. Roles: {roles}. Pass phrases "
        f"of at least {users.MIN_PASSPHRASE} characters are asked for, twice each.",
    )
    added.add_argument("name", metavar="NAME", help="of the user (securityName)")
    added.add_argument(
        "--role",
        required=True,
        choices=[role.value for role in users.Role],
        help="what the user may do",
    )
    added.add_argument(
        "--auth",
        choices=list(AUTH_PROTOCOLS),
        default=users.DEFAULT_AUTH,
        help="authentication protocol (default: %(default)s)",
    )
    added.add_argument(
        "--priv",
        choices=list(users.PRIV_KEY_OCTETS),
        default=users.DEFAULT_PRIV,
        help="privacy protocol (default: %(default)s)",
    )
    added.add_argument(
        "--passphrase-file",
        metavar="FILE",
        help="two lines, authentication and privacy; - for standard input",
    )
    added.set_defaults(command=_user_add)
    listed = actions.add_parser(
        "list",
        parents=[common],
        help="list users",
        description="List the names of users, their roles and protocols.",
    )
    listed.set_defaults(command=_user_list)
    removed = actions.add_parser(
        "remove", parents=[common], help="remove a user", description="Remove a user."
    )
    removed.add_argument("name", metavar="NAME", help="of the user")
    removed.set_defaults(command=_user_remove)


def _configuration(options: argparse.Namespace) -> Config:
    given: Path | None = options.config
    found = config.load(given or config.DEFAULT_PATH, required=given is not None)
    return replace(found, state_directory=options.state) if options.state else found


def _run(options: argparse.Namespace) -> None:
    chosen = _configuration(options)
    if options.listen:
        endpoints = tuple(config.parse_endpoint(text) for text in options.listen)
        chosen = replace(chosen, listen=endpoints)
    if options.machines:
        hypervisor = replace(chosen.hypervisor, machines_directory=options.machines)
        chosen = replace(chosen, hypervisor=hypervisor)
    if options.log_level:
        chosen = replace(chosen, log_level=options.log_level)
    daemon.run(chosen)


def _cleanup(options: argparse.Namespace) -> None:
    for step in daemon.clean_up(_configuration(options)):
        print(step)


def _check(options: argparse.Namespace) -> None:
    chosen = _configuration(options)
    print(f"listen: {', '.join(map(str, chosen.listen)) or 'nowhere'}")
    print(f"state directory: {chosen.state_directory}")
    print(f"hypervisor driver: {chosen.hypervisor.driver}")
    print(f"SNMPv2c: {'read-only' if chosen.v2c else 'off'}")
    print(f"notification targets: {len(chosen.notifications)}")
    print(f"AgentX master: {chosen.agentx.address if chosen.agentx.enabled else 'off'}")


def _users_directory(options: argparse.Namespace) -> Path:
    """The directory of the users; root acts for its owner, the user that the agent runs as."""
    directory = _configuration(options).state_directory
    durable.act_for_owner(directory)
    return directory


def _user_add(options: argparse.Namespace) -> None:
    auth, priv = _passphrases(options.passphrase_file)
    directory = _users_directory(options)
    role = users.Role(options.role)
    user = users.add_user(directory, options.name, role, auth, priv, options.auth, options.priv)
    print(f"{user.name}: {user.role.value}, {user.auth}, {user.priv}")
    print("A running agent knows it after SIGHUP (systemctl reload vmib-agent).")


def _user_list(options: argparse.Namespace) -> None:
    for user in users.load_users(_users_directory(options)):
        print(f"{user.name}\t{user.role.value}\t{user.auth}\t{user.priv}")


def _user_remove(options: argparse.Namespace) -> None:
    users.remove_user(_users_directory(options), options.name)
    print(f"{options.name}: removed. A running agent forgets it after SIGHUP.")


def _passphrases(file_name: str | None) -> tuple[str, str]:
    """The two pass phrases, from a file or from the terminal."""
    if file_name is None:
        return _asked("Authentication"), _asked("Privacy")
    try:
        text = sys.stdin.read() if file_name == "-" else Path(file_name).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueRefused("pass phrase file", file_name, f"a readable text ({error})") from None
    lines = text.splitlines()
    if len(lines) != 2:
        given = f"{len(lines)} lines"
        raise ValueRefused("pass phrase file", given, "two lines, authentication and privacy")
    return lines[0], lines[1]


def _asked(what: str) -> str:
    first = getpass.getpass(f"{what} pass phrase: ")
    if getpass.getpass(f"{what} pass phrase again: ") != first:
        raise ValueRefused(f"{what} pass phrase", "(not shown)", "the same text twice")
    return first
