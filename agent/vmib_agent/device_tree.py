"""Many devices, few rules for a packet: dispatch by common prefixes of device names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Literal, TypeAlias

from .iptables import Rule

Side: TypeAlias = Literal["physdev_in", "physdev_out"]

WIDTH = 8
"""So many devices are tried one after the other; more are split by their next letters."""


def device_tree(
    chain: str,
    side: Side,
    hits: Mapping[str, Rule],
    miss: Rule | None,
) -> tuple[list[Rule], dict[str, tuple[Rule, ...]]]:
    """Rules to append to `chain`, and the chains below it, numbered `chain`.1, .2, ...

    A packet whose device on that side is in `hits` meets that device's rule; every other packet
    meets `miss`, or returns to whoever jumped to `chain`. Chains below are entered by goto, so
    the rules returned have to be the chain's last.
    """
    below: dict[str, tuple[Rule, ...]] = {}
    last = [] if miss is None else [miss]

    def rules_for(devices: list[str]) -> list[Rule]:
        if len(devices) <= WIDTH:
            return [_behind(side, device, hits[device]) for device in devices] + last
        found: list[Rule] = []
        at = _common_prefix_length(devices)
        for letter, same in groupby(devices, key=lambda device: device[at : at + 1]):
            group = list(same)
            if len(group) == 1 or not letter:
                found += [_behind(side, device, hits[device]) for device in group]
                continue
            name = f"{chain}.{len(below) + 1}"
            below[name] = ()
            below[name] = tuple(rules_for(group))
            prefix = group[0][: at + 1]
            found.append(_behind(side, f"{prefix}+", Rule(name, goto=True)))
        return found + last

    return rules_for(sorted(hits)), below


def _behind(side: Side, device: str, rule: Rule) -> Rule:
    """The rule, for packets of one device."""
    if side == "physdev_in":
        return replace(rule, physdev_in=device)
    return replace(rule, physdev_out=device)


def _common_prefix_length(ordered: list[str]) -> int:
    first, last = ordered[0], ordered[-1]
    return next(
        (at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other),
        min(len(first), len(last)),
    )
