"""The store against a naive one: random SETs of two managers, transactions, timeouts, machines that
come and go, a host that refuses, restarts. Both accept the same SETs and end with the same rows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from vmib.canonical import digest
from vmib.rows import Direction, InetAddressType, RowStatus, StorageType, TxnAction, TxnState
from vmib.schema import COLUMNS, SCALARS, TABLES
from vmib_agent.numbering import discovered
from vmib_agent.ports import Guest, GuestVif, Presence
from vmib_agent.service import SetRefused, Value, VarBind
from vmib_agent.state import Intent, Now, State
from vmib_agent.statefile import StateFile
from vmib_agent.store import decide
from vmib_agent.transactions import Decision, commit_failed, recovered, tick
from vmib_agent.world import KnownVif, KnownVm, World

from .naive_store import (
    DOMAIN,
    LINK,
    SHAPE,
    SWITCH,
    VIF,
    VM,
    Flat,
    Naive,
    Place,
    Refused,
    Txn,
    TxnWrite,
    Write,
)

UUIDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(1, 6)]
MACS = [f"02:00:00:00:00:0{n}" for n in range(1, 7)]
NAMES = ["a", "b", "c"]
NETS = [IPv4Address("10.0.0.0"), IPv4Address("10.1.0.0")]
STATUS = {"create": RowStatus.createAndGo, "destroy": RowStatus.destroy}


def varbind(name: str, suffix: Sequence[int], value: Any) -> VarBind:
    leaf = SCALARS[name] if name in SCALARS else COLUMNS[name][1]
    return VarBind((*leaf.oid, *suffix), Value(leaf.syntax.tag, leaf.syntax.encode(value)))


def row_varbinds(write: Write) -> list[VarBind]:
    table = TABLES[write.table]
    cells = dict(write.fields)
    if write.verb in STATUS:
        cells["row_status"] = STATUS[write.verb]
    suffix = table.encode_index(write.key)
    return [varbind(table.column(field).name, suffix, value) for field, value in cells.items()]


def txn_varbinds(write: TxnWrite) -> list[VarBind]:
    action = None if write.action is None else TxnAction[write.action]
    columns = {
        "RowStatus": STATUS.get(write.verb),
        "Action": action,
        "ConfirmTimeout": write.confirm,
        "IdleTimeout": write.idle,
    }
    return [
        varbind(f"vmibTxn{name}", (write.index,), value)
        for name, value in columns.items()
        if value is not None
    ]


small = st.integers(0, 3)
vif_keys = st.tuples(st.sampled_from([1, 1, 1, 2, 2, 3, 4]), st.sampled_from([1, 1, 2, 3]))
storage = st.sampled_from([StorageType.volatile, StorageType.nonVolatile])


def of_table(
    table: str,
    keys: st.SearchStrategy[Any],
    mandatory: Mapping[str, st.SearchStrategy[Any]],
    optional: Mapping[str, st.SearchStrategy[Any]],
    changed: Iterable[str] = (),
) -> st.SearchStrategy[Write]:
    """Writes of a table; `changed` are the mandatory fields that a change may write too."""
    create = st.fixed_dictionaries(dict(mandatory), optional=dict(optional))
    more = {name: mandatory[name] for name in changed}
    change = st.fixed_dictionaries({}, optional={**optional, **more}).filter(bool)
    return st.one_of(
        st.builds(Write, st.just(table), keys, st.just("create"), create),
        st.builds(Write, st.just(table), keys, st.just("create"), create),
        st.builds(Write, st.just(table), keys, st.just("destroy"), st.just({})),
        st.builds(Write, st.just(table), keys, st.just("change"), change),
    )


shapes = st.builds(
    Write,
    st.just(SHAPE),
    st.builds(lambda vif, direction: (*vif, direction), vif_keys, st.sampled_from(Direction)),
    st.just("change"),
    st.fixed_dictionaries(
        {},
        optional={
            "rate": small,
            "delay": small,
            "jitter": st.integers(0, 2),
            "loss": small,
            "storage_type": storage,
        },
    ).filter(bool),
)
links = of_table(
    LINK,
    st.builds(
        lambda vif, net: (*vif, InetAddressType.ipv4, net, 16), vif_keys, st.sampled_from(NETS)
    ),
    {},
    {"rate": small},
)
name = {"name": st.sampled_from(NAMES)}
domains = of_table(DOMAIN, st.tuples(st.integers(1, 3)), name, {"storage_type": storage}, name)
switches = of_table(
    SWITCH, st.tuples(st.integers(1, 3)), name, {"domain": small, "storage_type": storage}, name
)
mac = {"mac_address": st.sampled_from(MACS)}
vifs = of_table(VIF, vif_keys, mac, {"switch_index": small, "domain": small}, mac)
vms = of_table(
    VM,
    st.tuples(st.integers(0, 4)),
    {"uuid": st.sampled_from(UUIDS), "name": st.sampled_from(NAMES)},
    {"site": st.sampled_from(["", "x"])},
)
"""A machine to be created at 0 is meant to be created at the next number."""


def one_new_machine(pdu: list[Write]) -> bool:
    return sum(write.table == VM and write.verb == "create" for write in pdu) <= 1


pdus = st.lists(
    st.one_of(shapes, shapes, links, domains, switches, vifs, vms),
    min_size=1,
    max_size=3,
    unique_by=lambda write: (write.table, write.key),
).filter(one_new_machine)
guests = st.lists(
    st.tuples(st.sampled_from(UUIDS[:3]), st.booleans(), st.integers(0, 2)),
    max_size=3,
    unique_by=lambda guest: guest[0],
)
who = st.sampled_from(["ann", "ann", "ann", "bob"])
rarely = st.sampled_from([False, False, False, True])
mostly = st.sampled_from([True, True, True, False])
confirms = st.sampled_from([None, 0, 60, 60])
idles = st.sampled_from([None, 30, 500])


class Store(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.file = StateFile(Path(self.directory.name))
        self.state = State(spin_lock=2**31 - 3)
        self.world = World(capabilities=frozenset(SCALARS["vmibHostCapabilities"].syntax.names))
        self.naive = Naive()
        self.now = 0.0
        self.booted = 0.0
        self.owners: dict[int, str] = {}

    def teardown(self) -> None:
        self.directory.cleanup()

    @property
    def time(self) -> Now:
        return Now(wall=self.now, uptime=self.now - self.booted)

    @initialize()
    def two_machines(self) -> None:
        self.machines_come_and_go([(UUIDS[0], True, 2), (UUIDS[1], True, 1)])

    @rule(found=guests)
    def machines_come_and_go(self, found: list[tuple[str, bool, int]]) -> None:
        reported = []
        for uuid, runs, count in found:
            first = UUIDS.index(uuid)
            macs = MACS[2 * first : 2 * first + count]
            presence = Presence.RUNNING if runs else Presence.DEFINED
            own = tuple(GuestVif(number, mac, "") for number, mac in enumerate(macs))
            reported.append(Guest(uuid, f"guest{first}", presence, own))
        self.state = discovered(self.state, reported)
        self.naive.found(
            {
                guest.uuid: (
                    guest.name,
                    guest.presence is Presence.RUNNING,
                    [vif.mac for vif in guest.vifs],
                )
                for guest in reported
            }
        )
        known, running = self.naive, self.naive.running
        self.world = replace(
            self.world,
            vms={n: KnownVm(vm.uuid, vm.name, n in running) for n, vm in known.vms.items()},
            vifs={k: KnownVif(mac, 0, None, k[0] in running) for k, mac in known.vifs.items()},
        )

    @rule(pdu=pdus, by=who, host_refuses=rarely)
    def configure(self, pdu: list[Write], by: str, host_refuses: bool) -> None:
        self.set(by, pdu=pdu, host_refuses=host_refuses)

    @rule(pdu=pdus)
    def configure_more(self, pdu: list[Write]) -> None:
        self.set(self.owner(), pdu=pdu)

    @rule(size=st.integers(1, 4), by=who)
    def keep_less_history(self, size: int, by: str) -> None:
        self.set(by, size=size)

    @precondition(lambda self: self.naive.txn is None)
    @rule(
        index=st.integers(1, 6),
        by=who,
        confirm=confirms,
        idle=idles,
        pdu=st.one_of(st.just([]), pdus),
        action=st.sampled_from([None, None, None, "commit", "confirm"]),
        host_refuses=rarely,
    )
    def open(
        self, index: int, pdu: list[Write], host_refuses: bool, by: str, **columns: Any
    ) -> None:
        write = TxnWrite(index, "create", **columns)
        self.set(by, pdu=pdu, txn=write, host_refuses=host_refuses)

    @precondition(lambda self: self.naive.txn is None and self.naive.vifs)
    @rule(rate=st.integers(1, 9), by=who, host_refuses=rarely, which=small)
    def commit_on_trial(self, rate: int, by: str, host_refuses: bool, which: int) -> None:
        vif = sorted(self.naive.vifs)[which % len(self.naive.vifs)]
        shape = Write(SHAPE, (*vif, Direction.toVm), "change", {"rate": rate})
        index = 1 + max((old[0] for old in self.naive.history), default=0)
        write = TxnWrite(index, "create", "commit", confirm=60)
        self.set(by, pdu=[shape], txn=write, host_refuses=host_refuses)

    @precondition(lambda self: self.naive.txn is not None)
    @rule(
        owns=mostly,
        confirm=st.one_of(st.none(), confirms),
        idle=st.one_of(st.none(), idles),
        pdu=st.one_of(st.just([]), st.just([]), pdus),
        action=st.sampled_from([None, *(action.name for action in TxnAction)]),
        host_refuses=rarely,
    )
    def act(self, pdu: list[Write], host_refuses: bool, owns: bool, **columns: Any) -> None:
        write = TxnWrite(self.unfinished.index, "change", **columns)
        if txn_varbinds(write):
            self.set(self.owner(owns), pdu=pdu, txn=write, host_refuses=host_refuses)

    @precondition(lambda self: self.naive.txn is not None)
    @rule(action=st.sampled_from(["commit", "commit", "confirm", "abort"]), host_refuses=rarely)
    def go_on(self, action: str, host_refuses: bool) -> None:
        write = TxnWrite(self.unfinished.index, "change", action)
        self.set(self.owner(), txn=write, host_refuses=host_refuses)

    @rule(which=st.integers(0, 6), owns=mostly, host_refuses=rarely, is_alone=mostly)
    def destroy(self, which: int, owns: bool, host_refuses: bool, is_alone: bool) -> None:
        known = [old[0] for old in self.naive.history]
        known += [self.naive.txn.index] if self.naive.txn else []
        index = known[which] if which < len(known) else 9
        write = TxnWrite(index, "destroy", None if is_alone else "none")
        self.set(self.owner(owns), txn=write, host_refuses=host_refuses)

    @property
    def unfinished(self) -> Txn:
        assert self.naive.txn is not None
        return self.naive.txn

    def owner(self, owns: bool = True) -> str:
        """Who owns the transaction that is not finished, or the other one."""
        owner = self.naive.txn.owner if self.naive.txn else "ann"
        return owner if owns else {"ann": "bob", "bob": "ann"}[owner]

    def set(
        self,
        by: str,
        *,
        pdu: Sequence[Write] = (),
        txn: TxnWrite | None = None,
        size: int | None = None,
        host_refuses: bool = False,
    ) -> None:
        """Both stores take the SET, or neither does."""
        next_vm = self.naive.next_vm
        resolved = [w._replace(key=(next_vm,)) if w.key == (0,) else w for w in pdu]
        pdu = list({(w.table, w.key): w for w in resolved}.values())
        decision = self.decided(by, pdu, txn, size)
        try:
            expected = self.naive.after(by, self.now, pdu, txn, size)
        except Refused:
            assert decision is None
            return
        assert decision is not None
        invalid = expected.txn is not None and expected.txn.state == "invalid"
        commits = txn is not None and txn.action == "commit" and not invalid
        assert decision.applies == (commits or expected.rows != self.naive.rows)
        if not (decision.applies and host_refuses):
            self.state, self.naive = decision.state, expected
            return
        self.state = commit_failed(self.state, decision, [], self.time).state
        before = self.naive.txn
        if txn is not None and (before is None or before.before is None):
            failed = (
                before or self.naive.after(by, self.now, [], replace(txn, action=None), None).txn
            )
            assert failed is not None
            self.naive = copy(self.naive)
            self.naive.fail(failed)

    def decided(
        self, by: str, pdu: Sequence[Write], txn: TxnWrite | None, size: int | None
    ) -> Decision | None:
        varbinds = [found for write in pdu for found in row_varbinds(write)]
        varbinds += txn_varbinds(txn) if txn is not None else []
        varbinds += [] if size is None else [varbind("vmibTxnHistorySize", (0,), size)]
        lock = varbind("vmibTxnSpinLock", (0,), self.state.spin_lock)
        try:
            return decide(self.state, [*varbinds, lock], by, self.time, self.world)
        except SetRefused as refused:
            note(str(refused))
            index = refused.index
        assert 1 <= index <= len(varbinds)
        return None

    @rule(seconds=st.sampled_from([1, 29, 59, 400]), host_refuses=rarely)
    def time_passes(self, seconds: int, host_refuses: bool) -> None:
        self.now += seconds
        decision = tick(self.state, self.time)
        txn = self.naive.txn
        assert (decision is None) == (txn is None or self.now < txn.deadline)
        if decision is None:
            return
        fails = decision.applies and host_refuses
        if fails:
            decision = commit_failed(self.state, decision, [], self.time)
        self.state = decision.state
        self.naive = copy(self.naive)
        self.naive.end("failed" if fails else None)

    @rule(seconds=st.sampled_from([1, 1000]))
    def restart(self, seconds: int) -> None:
        self.file.save(self.state)
        loaded = self.file.load()
        assert loaded is not None
        self.now += seconds
        self.booted = self.now - 1
        self.state = recovered(loaded, self.time).state
        self.naive = copy(self.naive)
        self.naive.restart()

    @invariant()
    def both_hold_the_same(self) -> None:
        state, naive = self.state, self.naive
        assert flat(state.intent) == naive.rows
        assert digest(state.intent, {}) == naive.digest()
        assert state.generation == naive.generation
        assert state.indexes.next_vm == naive.next_vm
        assert state.indexes.vms == naive.vm_numbers
        assert state.indexes.vifs == naive.vif_numbers
        assert state.history_size == naive.history_size
        assert [(t.index, t.owner, t.state.name) for t in state.history] == list(naive.history)

    @invariant()
    def both_are_as_far_with_the_transaction(self) -> None:
        txn, known = self.state.current, self.naive.txn
        assert (txn is None) == (known is None)
        if txn is None or known is None:
            return
        assert (txn.index, txn.owner, txn.state.name) == (known.index, known.owner, known.state)
        assert txn.deadline == known.deadline - self.booted
        assert txn.wall_deadline == known.deadline
        assert bool(txn.errors) <= (txn.state in (TxnState.invalid, TxnState.awaitingConfirm))
        if known.before is not None:
            assert txn.candidate is None
            assert flat(txn.before or {}) == known.before
            return
        assert txn.before is None
        assert flat(txn.candidate or {}) == known.candidate
        differing = {*known.candidate.items()} ^ {*self.naive.rows.items()}
        assert txn.changes == len({place for place, _ in differing})

    @invariant()
    def nothing_dangles(self) -> None:
        naive = self.naive
        for place, row in naive.rows.items():
            for _, target in naive.targets(place, row):
                gone = target[0] in (VM, VIF) and self.was_known(target)
                assert gone or naive.row(naive.rows, target) is not None

    def was_known(self, target: Place) -> bool:
        table, key = target
        uuids = [uuid for uuid, number in self.naive.vm_numbers.items() if number == key[0]]
        if table == VM:
            return bool(uuids)
        pairs = self.naive.vif_numbers.items()
        return any(uuid in uuids and number == key[1] for (uuid, _), number in pairs)

    @invariant()
    def numbers_stay_with_whom_they_were_given(self) -> None:
        indexes = self.state.indexes
        for uuid, number in indexes.vms.items():
            assert self.owners.setdefault(number, uuid) == uuid
            assert number < indexes.next_vm
        taken = [(uuid, number) for (uuid, _), number in indexes.vifs.items()]
        assert len(taken) == len(set(taken))


def flat(intent: Intent) -> Flat:
    return {(table, key): row for table, rows in intent.items() for key, row in rows.items()}


TestStore = Store.TestCase
