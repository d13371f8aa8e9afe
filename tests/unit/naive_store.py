"""A naive store to hold the real one against: rows in one flat mapping, all of them looked at every
time, whole copies instead of undo, and nothing of SNMP."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from vmib.canonical import digest
from vmib.rows import KEYS, ROWS, Shape, StorageType, Vif, Vm

VM, VIF, SHAPE, LINK = "vmibVmTable", "vmibVifTable", "vmibShapeTable", "vmibLinkTable"
DOMAIN, SWITCH = "vmibDomainTable", "vmibSwitchTable"

Place = tuple[str, tuple[Any, ...]]
Flat = Mapping[Place, Any]


class Refused(Exception):
    """A SET that the naive store does not accept."""


class Write(NamedTuple):
    """What a PDU says of one row: create, destroy or change, and fields."""

    table: str
    key: tuple[Any, ...]
    verb: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class TxnWrite:
    """What a PDU says of one transaction: create, destroy or change, and its columns, if given."""

    index: int
    verb: str
    action: str | None = None
    confirm: int | None = None
    idle: int | None = None


@dataclass
class Txn:
    """The transaction that is not finished: open, valid, invalid or awaitingConfirm."""

    index: int
    owner: str
    confirm: int
    idle: int
    deadline: float
    candidate: Flat
    state: str = "open"
    before: Flat | None = None


@dataclass
class Naive:
    """The naive store. `vm_numbers` and `vif_numbers` are what was given out and to whom.

    `vms` and `vifs` are what the hypervisor reports now, `running` the machines that run.
    """

    rows: Flat = field(default_factory=dict)
    txn: Txn | None = None
    history: tuple[tuple[int, str, str], ...] = ()
    history_size: int = 100
    generation: int = 0
    vms: Mapping[int, Vm] = field(default_factory=dict)
    vifs: Mapping[tuple[int, int], str] = field(default_factory=dict)
    running: frozenset[int] = frozenset()
    vm_numbers: Mapping[str, int] = field(default_factory=dict)
    vif_numbers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    next_vm: int = 1

    def after(
        self, by: str, now: float, pdu: Sequence[Write], txn: TxnWrite | None, size: int | None
    ) -> Naive:
        """The store after a SET; raises `Refused`. This one stays as it is."""
        new = copy(self)
        new.txn = copy(self.txn)
        if size is not None:
            new.history_size = size
            new.history = new.history[-size:]
        if txn is not None:
            new._transaction_named(by, now, txn)
        if pdu:
            new._rows_named(by, now, pdu)
        if txn is not None:
            new._acted(now, txn)
        if new.txn is not None and new.txn.state != "awaitingConfirm" and new.txn.owner == by:
            new.txn.deadline = now + new.txn.idle
        return new

    def _transaction_named(self, by: str, now: float, write: TxnWrite) -> None:
        finished = {index: owner for index, owner, _ in self.history}
        current = self.txn if self.txn is not None and self.txn.index == write.index else None
        if write.verb == "create":
            if self.txn is not None or write.index in finished:
                raise Refused
            confirm = 600 if write.confirm is None else write.confirm
            idle = 300 if write.idle is None else write.idle
            self.txn = Txn(write.index, by, confirm, idle, now + idle, self.rows)
            return
        values = [value for value in (write.confirm, write.idle) if value is not None]
        if write.verb == "destroy" and (values or write.action is not None):
            raise Refused
        if current is None and write.index not in finished:
            if write.verb != "destroy":
                raise Refused
            return
        if by != (current.owner if current else finished[write.index]):
            raise Refused
        if current is None:
            if values:
                raise Refused
            return
        if write.idle is not None:
            current.idle = write.idle
        if write.confirm is not None:
            current.confirm = write.confirm
            if current.state == "awaitingConfirm":
                if write.confirm == 0:
                    raise Refused
                current.deadline = now + write.confirm

    def _rows_named(self, by: str, now: float, pdu: Sequence[Write]) -> None:
        txn = self.txn
        if txn is None:
            after = self._written(self.rows, pdu)
            if not self.consistent(self.rows, after):
                raise Refused
            self.commit(after)
            return
        if txn.owner != by or txn.state == "awaitingConfirm":
            raise Refused
        candidate = self._written(txn.candidate, pdu)
        if candidate != txn.candidate:
            txn.state = "open"
        txn.candidate = candidate
        created = [w.key[0] for w in pdu if w.table == VM and w.verb == "create"]
        self.next_vm = max([self.next_vm, *(number + 1 for number in created)])

    def _acted(self, now: float, write: TxnWrite) -> None:
        current = self.txn if self.txn is not None and self.txn.index == write.index else None
        if write.verb == "destroy":
            if current is not None:
                self.end()
            else:
                self.history = tuple(old for old in self.history if old[0] != write.index)
            return
        if write.action in (None, "none"):
            return
        waits = current is not None and current.state == "awaitingConfirm"
        legal = ("confirm", "abort") if waits else ("validate", "commit", "abort")
        if current is None or write.action not in legal:
            raise Refused
        if write.action == "abort":
            self.end()
        elif write.action == "confirm":
            self._finish("committed")
        elif not self.consistent(self.rows, current.candidate):
            current.state = "invalid"
        elif write.action == "validate":
            current.state = "valid"
        else:
            before = self.rows
            self.commit(current.candidate)
            if current.confirm == 0:
                self._finish("committed")
            else:
                current.state, current.before = "awaitingConfirm", before
                current.deadline = now + current.confirm

    def end(self, final: str | None = None) -> None:
        """Abort the transaction, or roll back its commit."""
        assert self.txn is not None
        before = self.txn.before
        if before is not None:
            self.commit(before)
        self._finish(final or ("aborted" if before is None else "rolledBack"))

    def fail(self, txn: Txn) -> None:
        """The host refused a commit."""
        self.txn = txn
        self._finish("failed")

    def _finish(self, final: str) -> None:
        assert self.txn is not None
        self.history = (*self.history, (self.txn.index, self.txn.owner, final))
        self.history = self.history[-self.history_size :]
        self.txn = None

    def restart(self) -> None:
        """What is open is forgotten, what awaits confirmation is undone, volatile rows are gone."""
        if self.txn is not None and self.txn.before is not None:
            self.end()
        self.txn = None
        self.commit(
            {p: r for p, r in self.rows.items() if r.storage_type is not StorageType.volatile}
        )

    def commit(self, after: Flat) -> None:
        """Make these the rows, and give numbers to what is new among them."""
        if after == self.rows:
            return
        before, self.rows = self.rows, after
        self.generation += 1
        self.vm_numbers, self.vif_numbers = dict(self.vm_numbers), dict(self.vif_numbers)
        for (table, key), row in after.items():
            if table == VM:
                self.vm_numbers[row.uuid] = key[0]
                self.next_vm = max(self.next_vm, key[0] + 1)
        owners = {number: uuid for uuid, number in self.vm_numbers.items()}
        for place, row in after.items():
            table, key = place
            if table != VIF:
                continue
            old = before.get(place)
            if old is not None and old.mac_address != row.mac_address:
                del self.vif_numbers[owners[key[0]], old.mac_address]
            self.vif_numbers[owners[key[0]], row.mac_address] = key[1]

    def found(self, guests: Mapping[str, tuple[str, bool, Sequence[str]]]) -> None:
        """The hypervisor reports these: UUID -> name, whether it runs, MAC addresses."""
        self.vm_numbers, self.vif_numbers = dict(self.vm_numbers), dict(self.vif_numbers)
        vms, vifs, running = {}, {}, set()
        for uuid, (name, runs, macs) in guests.items():
            if uuid not in self.vm_numbers:
                self.vm_numbers[uuid] = self.next_vm
                self.next_vm += 1
            number = self.vm_numbers[uuid]
            vms[number] = Vm(uuid=uuid, name=name)
            running |= {number} if runs else set()
            for mac in macs:
                if (uuid, mac) not in self.vif_numbers:
                    given = [n for (u, _), n in self.vif_numbers.items() if u == uuid]
                    self.vif_numbers[uuid, mac] = max(given, default=0) + 1
                vifs[number, self.vif_numbers[uuid, mac]] = mac
        self.vms, self.vifs, self.running = vms, vifs, frozenset(running)

    def discovers(self, place: Place) -> bool:
        """Whether a row exists because of the hypervisor."""
        table, key = place
        return (table == VM and key[0] in self.vms) or (
            table in (VIF, SHAPE) and key[:2] in self.vifs
        )

    def row(self, rows: Flat, place: Place) -> Any:
        """A row, configured or discovered, or None."""
        table, key = place
        if table == VM and key[0] in self.vms:
            known = self.vms[key[0]]
            return replace(rows[place], name=known.name) if place in rows else known
        if place in rows:
            return rows[place]
        if table == VIF:
            return Vif(mac_address=self.vifs[key]) if key in self.vifs else None
        if table == SHAPE:
            return None if self.row(rows, (VIF, key[:2])) is None else Shape()
        return None

    def _written(self, rows: Flat, pdu: Iterable[Write]) -> Flat:
        """The rows after a PDU; refused where a row by itself cannot take what it says."""
        after = dict(rows)
        ranks = {table: rank for rank, table in enumerate((VM, VIF))}
        for write in sorted(pdu, key=lambda w: ranks.get(w.table, 2)):
            place = (write.table, KEYS[write.table](*write.key))
            row = self.row(after, place)
            if write.verb == "destroy":
                if self.discovers(place):
                    raise Refused
                after.pop(place, None)
                continue
            if (row is None) != (write.verb == "create"):
                raise Refused
            if row is None:
                row = ROWS[write.table](**write.fields)
                if write.table == VM and write.key[0] != self.vm_numbers.get(
                    row.uuid, self.next_vm
                ):
                    raise Refused
            else:
                row = self._changed(place, row, write.fields)
            if write.table == SHAPE and row.jitter > row.delay:
                raise Refused
            after[place] = row
            if (self.discovers(place) or write.table == SHAPE) and self._is_plain(place, row):
                del after[place]
        return after

    def _changed(self, place: Place, row: Any, fields: Mapping[str, Any]) -> Any:
        table, key = place
        new = replace(row, **fields)
        if table == SWITCH and new.name != row.name:
            raise Refused
        if (
            table == VIF
            and new.mac_address != row.mac_address
            and (self.discovers(place) or key[0] in self.running)
        ):
            raise Refused
        return new

    def _is_plain(self, place: Place, row: Any) -> bool:
        plain: Mapping[str, Callable[[], Any]] = {
            VM: lambda: Vm(uuid=row.uuid, name=row.name),
            VIF: lambda: Vif(mac_address=row.mac_address),
            SHAPE: Shape,
        }
        return bool(row == plain[place[0]]())

    def targets(self, place: Place, row: Any) -> Iterable[tuple[str, Place]]:
        """The rows that a row needs, each with the column that names it, "" for its index."""
        table, key = place
        if table in (SHAPE, LINK):
            yield "", (VIF, key[:2])
        elif table == VIF:
            yield "", (VM, key[:1])
            if row.switch_index:
                yield "switch_index", (SWITCH, (row.switch_index,))
        if table in (VIF, SWITCH) and row.domain:
            yield "domain", (DOMAIN, (row.domain,))

    def consistent(self, before: Flat, after: Flat) -> bool:
        """Whether one set of rows may follow another; every rule, every row."""
        for place in {*before, *after}:
            old, row = self.row(before, place), self.row(after, place)
            if before.get(place) == after.get(place):
                continue
            if row is None:
                if any(t == place for p, r in after.items() for _, t in self.targets(p, r)):
                    return False
                continue
            for column, target in self.targets(place, row):
                unchanged = old is not None and (place in before or place[0] != SHAPE)
                if unchanged and (not column or getattr(old, column) == getattr(row, column)):
                    continue
                if self.row(after, target) is None:
                    return False
            if not self._unique(after, place, old, row) or not self._number_is_free(
                after, place, old, row
            ):
                return False
        return not self._outlived(after)

    def _unique(self, after: Flat, place: Place, old: Any, row: Any) -> bool:
        table, _ = place
        known: dict[Place, Any] = {p: self.row(after, p) for p in after if p[0] == table}
        known |= {(VM, (n,)): self.row(after, (VM, (n,))) for n in self.vms if table == VM}
        known |= {(VIF, k): self.row(after, (VIF, k)) for k in self.vifs if table == VIF}
        others = [other for p, other in known.items() if p != place]
        for column in ("name", "uuid", "mac_address"):
            value = getattr(row, column, None)
            fresh = old is None or getattr(old, column, None) != value
            if value and fresh and any(getattr(o, column) == value for o in others):
                return False
        return True

    def _number_is_free(self, after: Flat, place: Place, old: Any, row: Any) -> bool:
        table, key = place
        if self.discovers(place):
            return True
        if table == VM:
            return bool(self.vm_numbers.get(row.uuid, key[0]) == key[0])
        if table != VIF or (old is not None and old.mac_address == row.mac_address):
            return True
        uuid = self.row(after, (VM, key[:1])).uuid
        if self.vif_numbers.get((uuid, row.mac_address), key[1]) != key[1]:
            return False
        owners = {(u, number): mac for (u, mac), number in self.vif_numbers.items()}
        return old is not None or owners.get((uuid, key[1]), row.mac_address) == row.mac_address

    def _outlived(self, rows: Flat) -> bool:
        """Whether a row that survives a restart refers to one that does not."""
        return any(
            target in rows
            and rows[target].storage_type is StorageType.volatile
            and row.storage_type is not StorageType.volatile
            and not self.discovers(target)
            for place, row in rows.items()
            for _, target in self.targets(place, row)
        )

    def digest(self) -> bytes:
        """vmibTxnDigest, no row being discovered."""
        tables: dict[str, dict[tuple[Any, ...], Any]] = {}
        for (table, key), row in self.rows.items():
            tables.setdefault(table, {})[key] = row
        return digest(tables, {})
