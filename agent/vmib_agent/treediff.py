"""The least steps from one tree of qdiscs to another.

What can be changed in place is changed in place, so packets that wait go on waiting; what is new
comes before what goes. Where the order of stages itself changes, the kernel offers nothing but a
new chain from that point on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from vmib_agent.qdiscs import (
    ROOT,
    Htb,
    HtbClass,
    Netem,
    Other,
    Qdisc,
    Rule,
    Table,
    Tbf,
    Tree,
)
from vmib_agent.steps import TcStep, Verb

_FIXED = (Htb, Other)
"""Options that the kernel does not change in place."""


class _Difference:
    """One comparison: `steps` come in the order in which they are to be taken."""

    def __init__(self, device: str, wanted: Tree, actual: Tree) -> None:
        self.device = device
        self.wanted = wanted
        self.actual = actual
        self.steps: list[TcStep] = []
        self._wanted_below = {item.parent: item for item in wanted.qdiscs}
        self._actual_below = {item.parent: item for item in actual.qdiscs}
        self._classes_of = {item.classid: item for item in actual.classes}

    def _step(self, verb: Verb, item: Qdisc | HtbClass | Table | Rule, parent: int = 0) -> None:
        self.steps.append(TcStep(self.device, verb, item, parent))

    def place(self, parent: int, above: Qdisc | None) -> None:
        """Make what is below `parent` right; `above` is the wanted qdisc that owns `parent`."""
        wanted, actual = self._wanted_below.get(parent), self._actual_below.get(parent)
        if wanted is None:
            if actual is not None:
                self._step(Verb.DELETE, actual)
                if above is not None and isinstance(above.options, Tbf):
                    # TBF is left without a queue; any change of it makes a new one.
                    self._step(Verb.CHANGE, above)
            return
        if actual is None or not self._keeps(wanted, actual):
            if actual is not None and wanted.handle in self._handles_under(actual):
                self._step(Verb.DELETE, actual)
                actual = None
            self._build(wanted, Verb.REPLACE if actual is not None else Verb.ADD)
            return
        if wanted.options != actual.options:
            self._step(Verb.CHANGE, wanted)
        if isinstance(wanted.options, Htb):
            self._links(wanted)
        else:
            self.place(wanted.handle | 1, wanted)

    @staticmethod
    def _keeps(wanted: Qdisc, actual: Qdisc) -> bool:
        if wanted == actual:
            return True
        same = wanted.handle == actual.handle and type(wanted.options) is type(actual.options)
        return same and not isinstance(wanted.options, _FIXED)

    def _handles_under(self, actual: Qdisc) -> set[int]:
        found = {actual.handle}
        below = self._actual_below.get(actual.handle | 1)
        return found | self._handles_under(below) if below is not None else found

    def _build(self, wanted: Qdisc, verb: Verb) -> None:
        self._step(verb, wanted)
        if not isinstance(wanted.options, Htb):
            if below := self._wanted_below.get(wanted.handle | 1):
                self._build(below, Verb.ADD)
            return
        for item in self.wanted.classes:
            self._step(Verb.ADD, item)
            if leaf := self._wanted_below.get(item.classid):
                self._build(leaf, Verb.ADD)
        for filters in (self.wanted.tables, self._linked_last(self.wanted.rules)):
            for filter_ in filters:
                self._step(Verb.ADD, filter_, wanted.handle)

    @staticmethod
    def _linked_last(rules: Iterable[Rule]) -> list[Rule]:
        return sorted(rules, key=lambda rule: rule.hash_on is not None)

    def _links(self, htb: Qdisc) -> None:
        """Classes, leaves and filters of an HTB that stays."""
        wanted_ids = {item.classid for item in self.wanted.classes}
        for item in self.wanted.classes:
            known = self._classes_of.get(item.classid)
            if known is None:
                self._step(Verb.ADD, item)
                if leaf := self._wanted_below.get(item.classid):
                    self._build(leaf, Verb.ADD)
                continue
            if known != item:
                self._step(Verb.CHANGE, item)
            self.place(item.classid, None)
        self._filters(htb.handle)
        for item in self.actual.classes:
            if item.classid not in wanted_ids:
                self._step(Verb.DELETE, item)

    def _filters(self, htb: int) -> None:
        known_tables = set(self.actual.tables)
        for table in self.wanted.tables:
            if table not in known_tables:
                self._step(Verb.ADD, table, htb)
        new, gone = set(self.wanted.rules), set(self.actual.rules)
        new, gone = new - gone, gone - new
        changed = {_rule_id(rule): rule for rule in gone}
        for rule in self._linked_last(rule for rule in self.wanted.rules if rule in new):
            if old := changed.get(_rule_id(rule)):
                self._step(Verb.DELETE, old, htb)
                gone.remove(old)
            self._step(Verb.ADD, rule, htb)
        for rule in reversed(self._linked_last(self.actual.rules)):
            if rule in gone:
                self._step(Verb.DELETE, rule, htb)


def _rule_id(rule: Rule) -> tuple[int, int, int, int]:
    return rule.protocol, rule.table, rule.bucket, rule.node


def _netems(tree: Tree) -> dict[int, Netem]:
    return {item.handle: item.options for item in tree.qdiscs if isinstance(item.options, Netem)}


def _without_duplicates(tree: Tree) -> Tree:
    """The tree with every netem as it is, but for duplication."""
    qdiscs = (
        replace(item, options=replace(item.options, duplicate=0))
        if isinstance(item.options, Netem)
        else item
        for item in tree.qdiscs
    )
    return replace(tree, qdiscs=tuple(qdiscs))


def _duplicates_beside(tree: Tree, other: Tree) -> bool:
    """Whether a netem duplicates that is not the only one of both trees."""
    handles = _netems(tree).keys() | _netems(other).keys()
    return len(handles) > 1 and any(netem.duplicate for netem in _netems(tree).values())


def diff_trees(device: str, wanted: Tree, actual: Tree) -> Iterator[TcStep]:
    """The steps that turn `actual` into `wanted` on a device; none if they are equal.

    The kernel takes no netem that duplicates beside another one, not even for a moment, so
    duplication ends first and begins last.
    """
    if wanted == actual:
        return
    way = [wanted]
    if _duplicates_beside(wanted, actual):
        way.insert(0, _without_duplicates(wanted))
    if _duplicates_beside(actual, wanted):
        way.insert(0, _without_duplicates(actual))
    for target in way:
        difference = _Difference(device, target, actual)
        difference.place(ROOT, None)
        yield from difference.steps
        actual = target
