"""The packet filter of the network namespace that the agent runs in.

Rules go into the tables of iptables-legacy(8), one commit for each table. Settings that were
needed (bridged packets meet the rules, packets are forwarded) stay when nothing needs them any
more: others may have come to need them, too.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path

from vmib.errors import Unavailable

from . import iptables_entries
from .firewall_plan import (
    DeleteChain,
    DeleteRule,
    FlushChain,
    InsertRule,
    NewChain,
    PutJumps,
    SetSysctl,
    Step,
    diff,
)
from .iptables import (
    BRIDGE_SYSCTLS,
    BUILT_IN,
    COMMANDS,
    FORWARDING_SYSCTLS,
    ICMPV6,
    PREFIX,
    SCTP,
    TAG_SYSCTLS,
    TCP,
    UDP,
    Chain,
    Entry,
    Rule,
    Ruleset,
    Unknown,
    comment_of,
)
from .libiptc import Table, existing_tables, xtables_lock
from .logs import event, log
from .netlink import in_new_namespace
from .ports import ApplyError

__all__ = ["Firewall", "diff"]

ATTEMPTS = 5
"""How often a table is changed anew when somebody else has changed it meanwhile."""


class Firewall:
    """The packet filter section of the agent."""

    def __init__(self) -> None:
        self._missing: Mapping[tuple[int, str], str] = {}

    def capabilities(self) -> Collection[str]:
        """The names among filters and nat that work, found with rules that no packet meets.

        Tried in a network namespace of their own or, where none may be made, in this one.
        """
        tried = in_new_namespace(_try_everything) or _try_everything()
        self._missing = {place: reason for place, reason in tried.items() if reason}
        for (family, table), reason in self._missing.items():
            log.info(event("no-table", table=f"{COMMANDS[family]} -t {table}", reason=reason))
        settings = _sysctls()
        found = set()
        if not any((family, "filter") in self._missing for family in COMMANDS) and all(
            name in settings for name in BRIDGE_SYSCTLS.values()
        ):
            found.add("filters")
        if (4, "nat") not in self._missing:
            found.add("nat")
        return found

    def read(self) -> Ruleset:
        """What is there of ours; raises `Unavailable` if the kernel cannot be asked."""
        chains: dict[Chain, tuple[Entry, ...]] = {}
        overruled: set[Chain] = set()
        for chain, entries in _our_chains():
            rules = [entry for entry, _ in entries]
            if not chain.built_in:
                chains[chain] = tuple(rules)
                continue
            jumps = tuple(rule for rule in rules if _is_jump(rule))
            if jumps:
                chains[chain] = jumps
                if not _is_jump(rules[0]):
                    overruled.add(chain)
        return Ruleset(chains, _sysctls(), frozenset(overruled), self._missing)

    def counters(self) -> Mapping[tuple[int, int], tuple[int, int]]:
        """Packets and octets that filters have matched, by domain and priority.

        Summed over both families and over all rules of a filter; octets are those of layer 3.
        Raises `Unavailable` if the kernel cannot be asked.
        """
        found: dict[tuple[int, int], tuple[int, int]] = {}
        for chain, entries in _our_chains():
            for entry, raw in entries:
                match entry.owner if isinstance(entry, Rule) else None:
                    case ("filter", int(domain), int(priority)):
                        packets, octets = found.get((domain, priority), (0, 0))
                        more = iptables_entries.counters(raw, chain.family)
                        total = packets + more.packets, octets + more.octets
                        found[domain, priority] = total
        return found

    def apply(self, operations: Sequence[Step]) -> None:
        """Carry out the steps, those of one table in a row at once or not at all.

        Raises `ApplyError`; if a whole table is refused, its index is that of the table's first
        step.
        """
        done = 0
        for place, group in groupby(operations, key=_place):
            steps = list(group)
            try:
                if place is None:
                    _set_sysctls(steps)
                else:
                    _change_table(*place, steps)
            except ApplyError as error:
                raise ApplyError(done + error.index, error.operation, error.reason) from error
            done += len(steps)


def _our_chains() -> Iterator[tuple[Chain, list[tuple[Entry, bytes]]]]:
    """Our chains and the built-in ones, with all of their rules and the octets of these."""
    for family, command in COMMANDS.items():
        for name in existing_tables(family, BUILT_IN):
            try:
                with Table(family, name) as table:
                    for chain in (Chain(family, name, chain) for chain in table.chains()):
                        if chain.built_in or chain.name.startswith(PREFIX):
                            yield chain, _entries(table, chain)
            except OSError as error:
                raise Unavailable(f"{command} -t {name}", error.strerror or "") from error


def _entries(table: Table, chain: Chain) -> list[tuple[Entry, bytes]]:
    return [
        (iptables_entries.decode(raw, target, chain.family), raw)
        for raw, target in table.entries(chain.name)
    ]


def _is_jump(entry: Entry) -> bool:
    return isinstance(entry, Rule) and entry.ours


def _place(step: Step) -> tuple[int, str] | None:
    return None if isinstance(step, SetSysctl) else step.chain[:2]


def _change_table(family: int, name: str, steps: Sequence[Step]) -> None:
    """Carry out steps on one table; raises `ApplyError`, and then the table is as it was."""
    what = f"{COMMANDS[family]} -t {name}"
    try:
        with xtables_lock(family):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    with Table(family, name) as table:
                        _Edit(table).carry_out(steps)
                        table.commit()
                    return
                except OSError as error:
                    if error.errno != errno.EAGAIN or attempt == ATTEMPTS:
                        raise
    except OSError as error:
        raise ApplyError(0, what, error.strerror or "") from error


class _Edit:
    """Steps made in the copy of a table; the kernel sees none of them before the commit."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._rules: dict[Chain, list[Entry]] = {}

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Make the steps; raises `ApplyError`."""
        for position, step in enumerate(steps):
            try:
                self._make(step)
            except OSError as error:
                raise ApplyError(position, step.describe(), error.strerror or "") from error

    def _make(self, step: Step) -> None:
        table = self._table
        match step:
            case NewChain(chain):
                table.create(chain.name)
            case FlushChain(chain):
                table.flush(chain.name)
            case DeleteChain(chain):
                table.remove(chain.name)
            case InsertRule(chain, position, entry):
                there = self._there(chain)
                table.insert(chain.name, position, _octets(entry, chain.family))
                there.insert(position, entry)
            case DeleteRule(chain, position, entry):
                self._delete(chain, position, entry)
            case PutJumps(chain, _, after):
                self._put_jumps(chain, after)

    def _there(self, chain: Chain) -> list[Entry]:
        if chain not in self._rules:
            self._rules[chain] = [entry for entry, _ in _entries(self._table, chain)]
        return self._rules[chain]

    def _delete(self, chain: Chain, position: int, entry: Entry) -> None:
        there = self._there(chain)
        if there[position : position + 1] != [entry]:
            raise OSError(errno.ESTALE, "somebody else has changed the chain meanwhile")
        self._table.delete(chain.name, position)
        del there[position]

    def _put_jumps(self, chain: Chain, after: Sequence[Entry]) -> None:
        there = self._there(chain)
        ours = [position for position, entry in enumerate(there) if _is_jump(entry)]
        for position in reversed(ours):
            self._table.delete(chain.name, position)
        for position, jump in enumerate(after):
            self._table.insert(chain.name, position, _octets(jump, chain.family))


def _octets(entry: Entry, family: int) -> bytes:
    if isinstance(entry, Unknown):
        return entry.raw
    return iptables_entries.encode(entry, family)


def _sysctl_path(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def _sysctls() -> dict[str, int]:
    """Those of the settings that vMIB may need which this kernel has."""
    found = {}
    for name in (*BRIDGE_SYSCTLS.values(), *TAG_SYSCTLS, *FORWARDING_SYSCTLS.values()):
        with suppress(FileNotFoundError):
            found[name] = int(_sysctl_path(name).read_text())
    return found


def _set_sysctls(steps: Sequence[Step]) -> None:
    for position, step in enumerate(steps):
        assert isinstance(step, SetSysctl)
        try:
            _sysctl_path(step.name).write_text(str(step.value))
        except OSError as error:
            raise ApplyError(position, step.describe(), error.strerror or "") from error


_TRIAL = f"{PREFIX}TRIAL"


def _trial_rules(family: int, table: str) -> tuple[Rule, ...]:
    """Rules with everything that vMIB's rules are made of."""
    if table == "nat":
        return (Rule("MASQUERADE", not_out_device="vmib0"),)
    unreachable = "icmp-port-unreachable" if family == 4 else "icmp6-port-unreachable"
    rules = (
        Rule("RETURN", physdev_in="vmib+", physdev_out="vmib0", bridged=True),
        Rule("RETURN", bridged=False, not_mac="02:00:00:00:00:01"),
        Rule("REJECT", protocol=TCP, dst_ports=(1, 2), reject="tcp-reset"),
        Rule("REJECT", protocol=UDP, src_ports=(1, 2), reject=unreachable),
        Rule("DROP", protocol=SCTP, dst_ports=(1, 2), comment=comment_of(("filter", 0, 0))),
    )
    return rules if family == 4 else (*rules, Rule("RETURN", protocol=ICMPV6, icmp6_type=135))


def _try_everything() -> dict[tuple[int, str], str]:
    """What keeps each table from working; "" if nothing does."""
    return {(family, table): _try(family, table) for family in COMMANDS for table in BUILT_IN}


def _try(family: int, table: str) -> str:
    chain, rules = Chain(family, table, _TRIAL), _trial_rules(family, table)
    made = [InsertRule(chain, position, rule) for position, rule in enumerate(rules)]
    try:
        _change_table(family, table, [NewChain(chain), *made])
        with Table(family, table) as opened:
            there = tuple(entry for entry, _ in _entries(opened, chain))
        _change_table(family, table, [FlushChain(chain), DeleteChain(chain)])
    except ApplyError as error:
        return error.reason
    return "" if there == rules else "the kernel has the rules in another way than they were given"
