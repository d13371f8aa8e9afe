"""Make manual pages, shell completion and the agent's configuration from the commands themselves.

    python packaging/generate.py [OUTPUT_DIRECTORY]

The generated files are committed; a test makes them anew and compares.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import agent_sample
import schema_reference
import shtab
import zabbix_template
from manpages import pages

from vmib_agent import commands as agent
from vmib_manager import arguments as manager
from vmib_manager import check_arguments as plugin

HERE = Path(__file__).resolve().parent
NAMES = {"bash": "{}.bash", "zsh": "_{}", "fish": "{}.fish"}
"""What the completion of a program is called, by shell, so that the shell finds it."""


def outputs() -> dict[str, str]:
    """The text of every generated file by its path."""
    found = {f"man/{name}": text for name, text in pages().items()}
    found["agent.toml"] = agent_sample.text()
    schema = HERE.parent / "manager" / "vmib_manager" / "vmib.xsd"
    found["docs/xml-reference.md"] = schema_reference.reference(schema)
    found[zabbix_template.FILE] = zabbix_template.template()
    for parser in (manager.parser(), agent.parser(), plugin.parser()):
        _complete_files(parser)
        for shell, name in NAMES.items():
            text = shtab.complete(parser, shell=shell)
            found[f"completion/{name.format(parser.prog)}"] = text.rstrip("\n") + "\n"
    return found


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Tell shtab which arguments are files and directories."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _complete_files(inner)
        elif action.metavar == "DIR":
            action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
        elif action.type is Path or action.metavar == "FILE":
            action.complete = shtab.FILE  # type: ignore[attr-defined]


def main() -> None:
    """Write the files."""
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    for name, text in outputs().items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
