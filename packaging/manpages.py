"""The manual pages: commands from their parsers, files from what reads or documents them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import schema_reference
import troff

from vmib import __version__
from vmib_agent import commands as agent
from vmib_agent import config
from vmib_manager import arguments as manager
from vmib_manager import check_arguments as plugin
from vmib_manager.credentials_file import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
SOURCE = f"vMIB {__version__}"

_Parser = argparse.ArgumentParser
_Words = Mapping[str, str]


class Page(Protocol):
    """What a page is written on: `troff.Page`, or `markdown_page.Page`."""

    def __init__(self, name: str, section: int, summary: str, source: str) -> None: ...
    def heading(self, text: str) -> None: ...
    def subheading(self, text: str) -> None: ...
    def paragraph(self, text: str) -> None: ...
    def item(self, term: str, text: str) -> None: ...
    def literal(self, text: str) -> None: ...
    def synopsis(self, usage: str) -> None: ...
    def markdown(self, text: str) -> None: ...


def pages(paper: type[Page] = troff.Page) -> dict[str, str]:
    """The text of every page by its file's name, on this kind of paper."""
    made = {
        "vmib.1": _manager(paper),
        "vmib-agent.8": _agent(paper),
        "check_vmib.1": _plugin(paper),
        "vmib-agent.toml.5": _agent_configuration(paper),
        "vmib-network.xml.5": _descriptions(paper),
    }
    return {name: str(page) for name, page in made.items()}


def _manager(paper: type[Page]) -> Page:
    page = _command(
        paper, manager.parser(), 1, "make networks of virtual machines as two files describe"
    )
    page.heading("ENVIRONMENT")
    _items(
        page,
        {
            f"`{ENVIRONMENT}`": "The credentials file, where `--credentials` names none.",
            "`NO_COLOR`": "If it is set and not empty, there are no colours.",
            "`COLUMNS`": "The width of help.",
        },
    )
    page.heading("FILES")
    _items(
        page,
        {
            "`~/.config/vmib/credentials.toml`": "Pass phrases for agents: a TOML table for each "
            "`credential` of the real file (by default the name of the host) with `auth`, `priv` "
            "and, if it is not SHA-256, `auth_protocol`. The file is for its owner alone (mode "
            "0600).",
            "`/run/vmib/lab/NAME`": "What there is of a lab: its credentials, an snmp.conf(5) in "
            "`snmp`, and for each host the configuration, state and log of its agent.",
        },
    )
    page.heading("EXAMPLES")
    page.paragraph("Try it on one computer, as root:")
    page.literal(
        "vmib lab up real.xml\n"
        "vmib plan real.xml virtual.xml\n"
        "vmib apply real.xml virtual.xml\n"
        "vmib lab exec alice -- ping 10.0.0.2\n"
        "vmib lab down"
    )
    page.paragraph("Commit, look whether it does, and only then make it final:")
    page.literal("vmib apply --no-confirm real.xml virtual.xml\n...\nvmib confirm real.xml")
    page.paragraph("Ask in a script whether hosts still do what they are told:")
    page.literal("vmib diff real.xml --json || test $? -eq 3")
    _see_also(page, "vmib-network.xml(5)", "vmib-agent(8)", "snmpwalk(1)")
    return page


def _agent(paper: type[Page]) -> Page:
    page = _command(
        paper, agent.parser(), 8, "serve VMIB-MIB and keep a host's networks as it says"
    )
    page.heading("SIGNALS")
    _items(
        page,
        {
            "`SIGTERM`, `SIGINT`": "End the agent; the network stays as it is.",
            "`SIGHUP`": "Read the users again.",
        },
    )
    default = config.Config()
    page.heading("FILES")
    _items(
        page,
        {
            f"`{config.DEFAULT_PATH}`": "The configuration, see vmib-agent.toml(5).",
            f"`{default.state_directory}`": "The configured rows, the users and the engine's "
            "identity; only the agent's user may look into it.",
            f"`{default.hypervisor.machines_directory}`": "The machines of the driver `netns`, a "
            "JSON file for each.",
        },
    )
    _see_also(page, "vmib-agent.toml(5)", "vmib(1)", "snmpd.conf(5)", "tc(8)", "ip-netns(8)")
    return page


def _plugin(paper: type[Page]) -> Page:
    page = _command(paper, plugin.parser(), 1, "check an agent of vMIB for Nagios and Icinga")
    page.heading("ENVIRONMENT")
    _items(
        page,
        {
            f"`{plugin.AUTH_VARIABLE}`, `{plugin.PRIV_VARIABLE}`": "The pass phrases, where "
            "`--credentials` names no file.",
            f"`{ENVIRONMENT}`": "Else the credentials file.",
        },
    )
    page.heading("FILES")
    _items(
        page,
        {
            "`~/.config/vmib/credentials.toml`": "Pass phrases: a TOML table for each `--entry` "
            "with `auth`, `priv` and, if it is not SHA-256, `auth_protocol`. The file is for its "
            "owner alone (mode 0600)."
        },
    )
    page.heading("EXAMPLES")
    reach = "-H 192.0.2.1 -U monitor"
    page.literal(
        f"check_vmib host {reach} --needs netem\n"
        f"check_vmib sync {reach}\n"
        f"check_vmib rate {reach} alice:0 --direction toVm -w 110 -c 125\n"
        f"check_vmib drops {reach} alice:0 --to 10.0.0.2 -w 1 -c 10\n"
        f"check_vmib probe {reach} alice:0 10.0.0.2 -w 100,1 -c 200,5"
    )
    _see_also(page, "vmib(1)", "vmib-agent(8)")
    return page


def _command(paper: type[Page], parser: _Parser, section: int, summary: str) -> Page:
    """A page with all that a parser knows: sub-commands, options, exit statuses."""
    page = paper(parser.prog, section, summary, SOURCE)
    page.heading("SYNOPSIS")
    page.synopsis(_usage(parser))
    page.heading("DESCRIPTION")
    for paragraph in (parser.description or "").strip().split("\n\n"):
        page.paragraph(paragraph)
    page.heading("OPTIONS")
    _arguments(page, parser)
    page.heading("COMMANDS")
    for inner in _leaves(parser):
        page.subheading(f"**{inner.prog}**")
        page.synopsis(_usage(inner))
        for paragraph in (inner.description or "").strip().split("\n\n"):
            page.paragraph(paragraph)
        _arguments(page, inner)
    page.heading("EXIT STATUS")
    head, _, listed = (parser.epilog or "").strip().partition("\n")
    if head != "exit status:":
        raise ValueError(f"{parser.prog}: the epilog is no list of exit statuses")
    for entry in listed.split("\n"):
        status, meaning = entry.strip().split(maxsplit=1)
        page.item(f"`{status}`", meaning)
    return page


def _usage(parser: _Parser) -> str:
    formatter = argparse.HelpFormatter(parser.prog, width=78)
    formatter.add_usage(parser.usage, parser._actions, parser._mutually_exclusive_groups)
    return formatter.format_help()


def _leaves(parser: _Parser) -> Iterator[_Parser]:
    """The commands that do something, in the order of the help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                if any(isinstance(a, argparse._SubParsersAction) for a in inner._actions):
                    yield from _leaves(inner)
                else:
                    yield inner


def _arguments(page: Page, parser: _Parser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        page.item(_term(action), _help(parser, action))


def _term(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_value(action)}"
    if not action.option_strings:
        return _value(action)
    return ", ".join(f"**{option}**{value}" for option in action.option_strings)


def _value(action: argparse.Action) -> str:
    if action.metavar is not None:
        return str(action.metavar)
    if action.choices is not None:
        return "|".join(map(str, action.choices))
    return action.dest.upper()


def _help(parser: _Parser, action: argparse.Action) -> str:
    if action.help is None:
        raise ValueError(f"{parser.prog}: no help for {action.dest}")
    text = action.help % {**vars(action), "prog": parser.prog}
    return re.sub(r"(?<![\w*-])(--[a-z-]+|-[a-z]\b|\$[A-Z_]+)", r"**\1**", text)


def _agent_configuration(paper: type[Page]) -> Page:
    page = paper("vmib-agent.toml", 5, "configuration of the agent of vMIB", SOURCE)
    page.heading("DESCRIPTION")
    page.paragraph(
        f"The file `{config.DEFAULT_PATH}` is read by vmib-agent(8) when it starts. It is TOML, "
        "UTF-8. Every key has a default, and so has a file that is not there. A key that is not "
        "known is refused; `vmib-agent check-config` says what is wrong."
    )
    page.heading("KEYS")
    for key, allowed in config_keys().items():
        meaning = MEANINGS[key]
        default = _default(key)
        values = f" Allowed: {allowed}." if allowed else ""
        page.item(f"`{key}`", f"{meaning}{values} {default}".strip())
    page.heading("EXAMPLE")
    config.parse(EXAMPLE)
    page.literal(EXAMPLE)
    page.heading("SECURITY")
    page.paragraph(
        "A file with a community that everybody can read is refused. Pass phrases of users are "
        "not in this file: `vmib-agent user add` keeps keys in the state directory."
    )
    _see_also(page, "vmib-agent(8)")
    return page


MEANINGS: _Words = {
    "listen": "Addresses and UDP ports to listen on. Empty: AgentX alone.",
    "state_directory": "Where configured rows, users and the engine's identity are kept.",
    "log_level": "The least severity that is logged.",
    "system.contact": "sysContact.",
    "system.name": "sysName; without it the host's name.",
    "system.location": "sysLocation.",
    "hypervisor.driver": "How machines are found: `netns`, or `libvirt` for Xen and QEMU/KVM, "
    "which needs Python's module libvirt.",
    "hypervisor.machines_directory": "For `netns`: the directory of the machines' definitions.",
    "hypervisor.uri": "For `libvirt`, and required there: `xen:///system`, `qemu:///system`, or "
    "`test:///default` or `test:///FILE` (see https://libvirt.org/uri.html), on this host.",
    "hypervisor.control": "For `libvirt`: whether machines are started, paused, saved and shut "
    "down where vmibVmAdminState is set (the capability vmControl).",
    "hypervisor.start_up": "For `libvirt`: whether machines whose kernel libvirt starts, and that "
    "have no guest agent, are told addresses and routes on its command line (dracut.cmdline(7)). "
    "The agent then changes their definitions.",
    "hypervisor.dhcp_directory": "For `libvirt`: the directory in whose `hosts` and `options` "
    "dnsmasq(8) finds addresses and routes of machines without another way (`--dhcp-hostsdir`, "
    "`--dhcp-optsdir`).",
    "limits.max_varbinds_per_set": "Varbinds that one SET may have.",
    "v2c.community": "The community of SNMPv2c, for reading only. Without the table SNMPv2c is "
    "not answered.",
    "v2c.sources": "Networks that its requests may come from.",
    "notifications.targets": "Where notifications go: inline tables of `address` (as in "
    "`listen`), and either `user` (SNMPv3, with authentication and privacy) or `community` "
    "(SNMPv2c). With `inform = true` they are acknowledged: sent again after `timeout` seconds "
    "(1 to 60, by default 5), `retries` times (0 to 10, by default 3). An inform's user is the "
    "receiver's; `passphrase_file` names a file of mode 0600 with two lines, the pass phrases "
    "for authentication (`auth`: SHA-256, SHA-384 or SHA-512) and privacy (AES-128).",
    "agentx.enabled": "Whether to be an AgentX subagent (RFC 2741).",
    "agentx.address": "The master's socket.",
    "agentx.timeout": "Seconds that the master may wait for an answer.",
    "agentx.priority": "Of two subagents for one subtree the lower one answers.",
    "agentx.allow_remote": "Whether the master may be another computer, with which everything is "
    "spoken in the clear.",
}

EXAMPLE = """\
listen = ["192.0.2.1:161", "[2001:db8::1]:161"]

[system]
contact = "net@example.org"

[v2c]
community = "a community"
sources = ["192.0.2.0/24"]

[notifications]
targets = [{ address = "192.0.2.9:162", user = "trap-sink" }]
"""


def config_keys() -> dict[str, str]:
    """Every key of the configuration and what it allows, as its own reader says.

    The reader is given what it does not take: keys that there are not, dates and "?" for values.
    """
    found: dict[str, str] = {}
    for key in _known(""):
        inside = _known(key)
        for name in [f"{key}.{each}" for each in inside] or [key]:
            found[name] = _allowed(name)
    if found.keys() != MEANINGS.keys():
        raise ValueError(f"keys without a meaning here: {found.keys() ^ MEANINGS.keys()}")
    return found


def _known(table: str) -> list[str]:
    """The keys of a table; none where it is no table."""
    head = f"[{table}]\n" if table else ""
    refused = _refusal(f"{head}unknown-key = 1\n")
    allowed = re.search(r"key: '[^']*unknown-key' is not allowed; allowed: (.*)", refused)
    if allowed is None:
        return []
    return [key.removeprefix(f"{table}.") for key in allowed[1].split(", ")]


def _allowed(key: str) -> str:
    whole, text, item = (
        _refusal(f"{key} = {value}\n").partition("allowed: ")[2]
        for value in ("1979-05-27", '"?"', '["?"]')
    )
    if whole.startswith("a list"):
        return f"{whole}, of {item}"
    return text or whole


def _refusal(text: str) -> str:
    try:
        config.parse(text)
    except config.ConfigRefused as refused:
        return str(refused)
    return ""


def _default(key: str) -> str:
    found: Any = config.Config()
    for name in key.split("."):
        found = getattr(found, name, None)
    if found is None or found in ("", ()):
        return ""
    if isinstance(found, tuple):
        found = "[" + ", ".join(f'"{each}"' for each in found) + "]"
    if isinstance(found, bool):
        found = str(found).lower()
    return f"Default: `{found}`."


def _descriptions(paper: type[Page]) -> Page:
    """From the documentation of the two files, of which a test holds each name to the schema."""
    page = paper("vmib-network.xml", 5, "the real file and the virtual file of vMIB", SOURCE)
    title, _, text = (ROOT / "packaging" / "docs" / "xml.md").read_text().partition("\n")
    if not title.startswith("# "):
        raise ValueError(f"no title: {title}")
    page.heading("DESCRIPTION")
    page.markdown(re.sub(r"^(Examples: .*|All \[elements.*\n.*)\n", "", text, flags=re.MULTILINE))
    reference = schema_reference.reference(ROOT / "manager" / "vmib_manager" / "vmib.xsd")
    page.markdown("## Elements" + reference[reference.index("\n## ") :].replace("\n## ", "\n### "))
    _see_also(page, "vmib(1)")
    return page


def _items(page: Page, entries: _Words) -> None:
    for term, text in entries.items():
        page.item(term, text)


def _see_also(page: Page, *names: str) -> None:
    page.heading("SEE ALSO")
    page.paragraph(", ".join(names))
