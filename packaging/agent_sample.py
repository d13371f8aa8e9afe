"""The configuration of the agent as a package installs it: every key, commented out."""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manpages import EXAMPLE, MEANINGS, config_keys

from vmib_agent import config

_HEAD = """\
# The configuration of vmib-agent; see vmib-agent.toml(5). Behind a single # stands the default of
# each key, or an example where there is none. "vmib-agent check-config" says what is wrong here,
# "systemctl restart vmib-agent" makes it so. Users are not in this file: "vmib-agent user add".
"""
_WIDTH = 97


def text() -> str:
    """The whole file. As it is it says nothing, so that everything is as without it."""
    lines = [_HEAD]
    table = ""
    for key in config_keys():
        above, _, name = key.rpartition(".")
        if above != table:
            table = above
            lines.append(f"#[{table}]\n")
        meaning = MEANINGS[key].replace("`", "")
        lines += [f"## {line}" for line in textwrap.wrap(meaning, _WIDTH)]
        lines.append(f"#{name} = {_toml(_value(key))}\n")
    return "\n".join(lines)


def _value(key: str) -> Any:
    default: Any = config.Config()
    example: Any = tomllib.loads(EXAMPLE)
    for name in key.split("."):
        default = getattr(default, name, None)
        example = example.get(name) if isinstance(example, Mapping) else None
    return example if default in (None, ()) else default


def _toml(value: Any) -> str:
    """A value in TOML, whose texts, lists and numbers are those of JSON."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{key} = {_toml(each)}' for key, each in value.items())} }}"
    if isinstance(value, list | tuple) and not isinstance(value, config.Endpoint):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(str(value) if isinstance(value, Path | config.Endpoint) else value)
