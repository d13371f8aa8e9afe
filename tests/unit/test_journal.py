"""The journal: whatever a power cut, a full disk or a dead process leaves, what was answered is
there, what was not is there whole or not at all, and damage is never taken for either."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from vmib.rows import Direction, InetAddressType, Link, LinkKey, Shape, ShapeKey, TxnState
from vmib_agent import journal
from vmib_agent.persistent import GONE, persistent
from vmib_agent.state import Indexes, State, Transaction
from vmib_agent.statecodec import changed, changes_between
from vmib_agent.statefile import SHORT, StateFile, StateUnreadable

from .fake_host import Faults, Killed

V4 = InetAddressType.ipv4
keys = st.builds(ShapeKey, st.integers(1, 3), st.integers(1, 2), st.sampled_from(Direction))
shapes = st.builds(Shape, rate=st.integers(0, 3)) | st.just(GONE)
link_keys = st.builds(
    lambda vm, n: LinkKey(vm, 1, V4, IPv4Address(f"10.{n}.0.0"), 16),
    st.integers(1, 2),
    st.integers(1, 2),
)
links = st.builds(Link, delay=st.integers(0, 3)) | st.just(GONE)
txns = st.builds(
    Transaction,
    index=st.integers(1, 9),
    owner=st.sampled_from(["ann", "bob"]),
    state=st.sampled_from(TxnState),
    confirm_timeout=st.integers(0, 9),
    idle_timeout=st.just(300),
    description=st.text(max_size=3),
    opened=st.just(1.5),
    closed=st.none() | st.just(2.5),
    wall_deadline=st.none() | st.just(9.0),
)
edits = st.fixed_dictionaries(
    {},
    optional={
        "vmibShapeTable": st.dictionaries(keys, shapes, max_size=3),
        "vmibLinkTable": st.dictionaries(link_keys, links, max_size=2),
        "generation": st.integers(0, 9),
        "last_change_by": st.text(max_size=3) | st.just("x" * 3000),
        "notify_enable": st.frozensets(st.sampled_from(["drift", "agentMode"])),
        "vms": st.dictionaries(st.sampled_from("uvw"), st.integers(1, 3), max_size=2),
        "vifs": st.dictionaries(st.tuples(st.sampled_from("uv"), st.just("m")), st.just(1)),
        "history": st.tuples(st.integers(0, 3), st.lists(txns, max_size=2)),
        "awaiting": st.none() | txns,
    },
)


def edited(state: State, edit: dict[str, Any]) -> State:
    """Another state, made from one as the agent makes them."""
    intent = dict(state.intent)
    for table in ("vmibShapeTable", "vmibLinkTable"):
        if table in edit:
            intent[table] = persistent(intent.get(table, {})).changed(edit[table])
    before, state = state, replace(state, intent={t: rows for t, rows in intent.items() if rows})
    for name in ("generation", "last_change_by", "notify_enable"):
        if name in edit:
            state = replace(state, **{name: edit[name]})
    if "vms" in edit or "vifs" in edit:
        known = state.indexes
        vms, vifs = edit.get("vms", known.vms), edit.get("vifs", known.vifs)
        state = replace(state, indexes=Indexes(vms, vifs, known.next_vm + 1))
    if "history" in edit:
        forgotten, added = edit["history"]
        state = replace(state, history=(*state.history[forgotten:], *added))
    if "awaiting" in edit:
        txn = edit["awaiting"]
        state = replace(state, current=txn and replace(txn, before=before.intent))
    return state


FIRST = State(spin_lock=1)


@given(st.lists(edits, max_size=5))
def test_changes_lead_from_one_state_to_the_next(steps: list[dict[str, Any]]) -> None:
    state = FIRST
    for step in steps:
        after = edited(state, step)
        assert changed(state, changes_between(state, after)) == after
        assert bool(changes_between(state, after)) is (state != after)
        state = after


def lines(states: list[State]) -> tuple[list[bytes], str]:
    """The journal that leads through these states, and the checksum of the first one's file."""
    base = known = journal.checksum("a file")
    found = []
    for before, after in pairwise(states):
        line, known = journal.line(known, changes_between(before, after))
        found.append(line)
    return found, base


some_states = st.lists(edits, min_size=1, max_size=4).map(
    lambda steps: [numbered(steps[:number]) for number in range(len(steps) + 1)]
)


def numbered(steps: list[dict[str, Any]]) -> State:
    """The state after steps, each of which is sure to change something."""
    state = FIRST
    for number, step in enumerate(steps):
        state = replace(edited(state, step), last_change=float(number))
    return state


def replayed(data: bytes, base: str, first: State) -> State:
    state = first
    for changes in journal.read(data, base).changes:
        state = changed(state, changes)
    return state


@given(some_states, st.data())
def test_of_a_line_that_was_cut_nothing_remains(states: list[State], data: st.DataObject) -> None:
    written, base = lines(states)
    whole = b"".join(written[:-1])
    cut = data.draw(st.integers(0, len(written[-1]) - 1))
    assert replayed(whole + written[-1][:cut], base, FIRST) == states[-2]
    assert journal.read(whole + written[-1][:cut], base).octets == len(whole)
    assert replayed(whole + written[-1], base, FIRST) == states[-1]


def test_a_line_that_lacks_but_its_end_was_cut() -> None:
    text, _ = journal.line("0" * 64, {})
    assert journal.read(text[:-1], "0" * 64).changes == ()
    assert journal.read(text, "0" * 64).changes == ({},)


@given(some_states, st.data())
def test_of_a_line_whose_octets_were_not_all_written_nothing_remains(
    states: list[State], data: st.DataObject
) -> None:
    written, base = lines(states)
    last = bytearray(written[-1])
    start = data.draw(st.integers(0, len(last) - 1))
    end = data.draw(st.integers(start + 1, len(last)))
    last[start:end] = bytes(end - start)
    assert replayed(b"".join(written[:-1]) + last, base, FIRST) == states[-2]


@given(some_states, st.data())
def test_damage_is_never_taken_for_a_state(states: list[State], data: st.DataObject) -> None:
    written, base = lines(states)
    octets = bytearray(b"".join(written))
    at = data.draw(st.integers(0, len(octets) - 2))
    octets[at] = data.draw(st.integers(1, 255).filter(lambda value: value != octets[at]))
    try:
        found = replayed(bytes(octets), base, FIRST)
    except journal.Damaged:
        return
    raise AssertionError(f"{found} was made of damage")


@given(some_states, st.integers(0, 3))
def test_a_line_that_is_missing_is_noticed(states: list[State], number: int) -> None:
    written, base = lines(states)
    left = [line for place, line in enumerate(written) if place != number]
    data = b"".join(left)
    if number == 0 and left:
        assert journal.read(data, base).changes == ()  # as of another file
    elif number < len(written) - 1:
        try:
            journal.read(data, base)
        except journal.Damaged:
            return
        raise AssertionError("nobody noticed")


@given(some_states)
def test_a_journal_to_another_file_is_empty(states: list[State]) -> None:
    written, _ = lines(states)
    base = journal.checksum("another file")
    assert journal.read(b"".join(written), base) == journal.Found((), base, 0)


class Machine(RuleBasedStateMachine):
    """One process after the other saves, folds and takes back; each step may be its last."""

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.file = StateFile(Path(self.place.name))
        self.faults = Faults()
        self.saved = FIRST
        self.earlier: State | None = None

    def teardown(self) -> None:
        self.place.cleanup()

    @initialize()
    def begin(self) -> None:
        self.file.save(FIRST)

    @contextmanager
    def dying(self, step: int | None, after: State) -> Iterator[None]:
        """Whoever is killed leaves what was there or what was to be."""
        self.faults.clear()
        self.faults.kill_at = step
        try:
            with self.faults.disk():
                yield
        except Killed:
            self.file = StateFile(Path(self.place.name))
            found = self.file.load()
            assert found in (self.saved, after)
            assert found is not None
            self.saved, self.earlier = found, None
        finally:
            self.faults.clear()

    deaths = st.none() | st.integers(0, 12)

    @rule(edit=edits, step=deaths)
    def save(self, edit: dict[str, Any], step: int | None) -> None:
        after = edited(self.saved, edit)
        with self.dying(step, after):
            self.file.save(after)
            self.earlier, self.saved = self.saved, after

    @rule(edit=edits)
    def a_full_disk(self, edit: dict[str, Any]) -> None:
        after = edited(self.saved, edit)
        self.faults.clear()
        self.faults.disk_full = True
        try:
            with self.faults.disk():
                self.file.save(after)
        except OSError:
            self.earlier = None
        else:
            assert after == self.saved
            self.earlier = after
        self.faults.clear()

    @rule(step=deaths)
    def take_back(self, step: int | None) -> None:
        if self.earlier is not None:
            before = self.earlier
            with self.dying(step, before):
                self.file.restore()
                self.saved, self.earlier = before, None

    @rule(step=deaths, bound=st.sampled_from([0, 0, SHORT]))
    def tidy(self, step: int | None, bound: int) -> None:
        self.file._bound = bound
        with self.dying(step, self.saved):
            self.file.tidy()
            self.earlier = None

    @rule()
    def restart(self) -> None:
        self.file = StateFile(Path(self.place.name))
        self.earlier = None

    @invariant()
    def what_was_answered_is_there(self) -> None:
        if self.file.path.exists():
            try:
                assert StateFile(Path(self.place.name)).load() == self.saved
            except StateUnreadable as error:
                raise AssertionError from error


TestMachine = Machine.TestCase
