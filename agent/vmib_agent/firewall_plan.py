"""The difference between two rulesets, in steps that iptables(8) has words for.

Rules that stay are not touched, so that their counters go on counting.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TypeAlias

from vmib.errors import Unavailable

from .iptables import BUILT_IN, COMMANDS, Chain, Entry, Owner, Rule, Ruleset
from .scope import FIREWALL


def _command(chain: Chain) -> str:
    table = "" if chain.table == "filter" else f" -t {chain.table}"
    return f"{COMMANDS[chain.family]}{table}"


class _Step:
    """What all steps have in common."""

    __slots__ = ()

    @property
    def subject(self) -> str:
        """The packet filter."""
        return FIREWALL

    @property
    def owner(self) -> Owner | None:
        """Whose rule alone the step is about, see `iptables.Rule.owner`."""
        return None


@dataclass(frozen=True, slots=True)
class _RuleStep(_Step):
    chain: Chain
    position: int
    entry: Entry

    @property
    def owner(self) -> Owner | None:
        """Whose rule it is."""
        return self.entry.owner if isinstance(self.entry, Rule) else None


@dataclass(frozen=True, slots=True)
class NewChain(_Step):
    """Make a chain of ours, empty."""

    chain: Chain

    def describe(self) -> str:
        """The step as an iptables command."""
        return f"{_command(self.chain)} -N {self.chain.name}"


@dataclass(frozen=True, slots=True)
class InsertRule(_RuleStep):
    """Put a rule into a chain of ours so that it has this position, counted from 0."""

    def describe(self) -> str:
        """The step as an iptables command, where positions count from 1."""
        return f"{_command(self.chain)} -I {self.chain.name} {self.position + 1} {self.entry}"


@dataclass(frozen=True, slots=True)
class DeleteRule(_RuleStep):
    """Remove the rule at this position, counted from 0, from a chain of ours."""

    def describe(self) -> str:
        """The step as an iptables command."""
        which = str(self.entry) if isinstance(self.entry, Rule) else str(self.position + 1)
        return f"{_command(self.chain)} -D {self.chain.name} {which}"


@dataclass(frozen=True, slots=True)
class PutJumps(_Step):
    """Make `after` the only jumps of ours in a built-in chain, at its head."""

    chain: Chain
    before: tuple[Entry, ...]
    after: tuple[Entry, ...]

    def describe(self) -> str:
        """The step as iptables commands."""
        command = _command(self.chain)
        deleted = [f"{command} -D {self.chain.name} {jump}" for jump in self.before]
        inserted = [
            f"{command} -I {self.chain.name} {position} {jump}"
            for position, jump in enumerate(self.after, 1)
        ]
        return " && ".join([*deleted, *inserted])


@dataclass(frozen=True, slots=True)
class FlushChain(_Step):
    """Remove all rules of a chain of ours."""

    chain: Chain

    def describe(self) -> str:
        """The step as an iptables command."""
        return f"{_command(self.chain)} -F {self.chain.name}"


@dataclass(frozen=True, slots=True)
class DeleteChain(_Step):
    """Remove an empty chain of ours."""

    chain: Chain

    def describe(self) -> str:
        """The step as an iptables command."""
        return f"{_command(self.chain)} -X {self.chain.name}"


@dataclass(frozen=True, slots=True)
class SetSysctl(_Step):
    """Give a setting of the network namespace a value."""

    name: str
    value: int

    def describe(self) -> str:
        """The step as a sysctl command."""
        return f"sysctl -w {self.name}={self.value}"


TableStep: TypeAlias = NewChain | InsertRule | DeleteRule | PutJumps | FlushChain | DeleteChain
Step: TypeAlias = TableStep | SetSysctl


def diff(wanted: Ruleset, actual: Ruleset) -> Sequence[Step]:
    """The steps from `actual` to `wanted`, those of one table in a row.

    Settings come last: packets are given to rules that are all there. Raises `Unavailable` for
    a table or a setting that this host does not have.
    """
    steps: list[Step] = []
    for family in COMMANDS:
        for table in BUILT_IN:
            steps += _table_steps(wanted, actual, family, table)
    return [*steps, *_sysctl_steps(wanted, actual)]


def _table_steps(wanted: Ruleset, actual: Ruleset, family: int, table: str) -> Iterator[TableStep]:
    want = {chain: rules for chain, rules in wanted.chains.items() if chain[:2] == (family, table)}
    have = {chain: rules for chain, rules in actual.chains.items() if chain[:2] == (family, table)}
    if want and (family, table) in actual.missing:
        raise Unavailable(f"{COMMANDS[family]} -t {table}", actual.missing[family, table])
    own = sorted(chain for chain in want if not chain.built_in)
    yield from (NewChain(chain) for chain in own if chain not in have)
    for chain in own:
        yield from _edits(chain, have.get(chain, ()), want[chain])
    for chain in sorted(chain for chain in want.keys() | have.keys() if chain.built_in):
        before, after = have.get(chain, ()), want.get(chain, ())
        overruled = chain in actual.overruled - wanted.overruled
        if before != after or (after and overruled):
            yield PutJumps(chain, before, after)
    gone = sorted(chain for chain in have if chain not in want and not chain.built_in)
    yield from (FlushChain(chain) for chain in gone if have[chain])
    yield from (DeleteChain(chain) for chain in gone)


def _edits(
    chain: Chain, before: tuple[Entry, ...], after: tuple[Entry, ...]
) -> Iterator[TableStep]:
    if before == after:
        return
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    for verb, start, end, at, to in matcher.get_opcodes():
        if verb == "equal":
            continue
        yield from (DeleteRule(chain, at, entry) for entry in before[start:end])
        yield from (InsertRule(chain, at + n, entry) for n, entry in enumerate(after[at:to]))


def _sysctl_steps(wanted: Ruleset, actual: Ruleset) -> Iterator[SetSysctl]:
    for name, value in sorted(wanted.sysctls.items()):
        if name not in actual.sysctls:
            module = "; load the module br_netfilter" if name.startswith("net.bridge.") else ""
            raise Unavailable(name, f"this kernel does not have this setting{module}")
        if actual.sysctls[name] != value:
            yield SetSysctl(name, value)
