"""What has to change on every host: the difference between rows wanted and rows there.

Pure. A plan is data: it prints (`plan_text`), becomes JSON, and is what `apply` carries out.
The two files own the configuration tables of the hosts that they name: what stands there and is
not wanted goes, except rows whose StorageType forbids it, which are left and listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from vmib import canonical, rows
from vmib.schema import CONFIGURATION, FIXED
from vmib.smi import Table

from .findings import Finding, Severity
from .model import Source
from .seen import SHAPE, Key, Labels, Names, OutOfSync, Reading, Tables, configured, labels_of

_PROTECTED = frozenset({rows.StorageType.permanent, rows.StorageType.readOnly})
_DETERMINED_FIELDS = {
    table.name: frozenset(c.field for c in table.columns if c.name in canonical.DETERMINED)
    for table in CONFIGURATION
}


class Kind(Enum):
    """What happens to a row. `REPLACE` is a delete and a create: a column that never changes
    differs."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Change:
    """One row that changes; `before` or `after` is None where there is none.

    `fields` are those written: of a new row the ones that differ from the default.
    """

    kind: Kind
    table: Table
    key: Key
    before: Any
    after: Any
    fields: tuple[str, ...]
    source: Source | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class HostPlan:
    """What changes on one host.

    `generation` and `spin_lock` are those of the configuration that was compared; `before` and
    `digest` are vmibTxnDigest as it was and as it will be, and `after` the rows then. `kept` are
    rows that are not wanted and cannot be removed. `drifted` are rows that differ in the system
    alone: any transaction sets them right, also one without changes.
    """

    host: str
    changes: tuple[Change, ...]
    generation: int
    spin_lock: int
    before: bytes
    digest: bytes
    names: Names
    labels: Labels
    kept: tuple[tuple[Table, Key], ...] = ()
    drifted: tuple[OutOfSync, ...] = ()
    after: Tables = field(default_factory=dict, repr=False, compare=False)

    @property
    def touched(self) -> bool:
        """Whether it takes a transaction."""
        return bool(self.changes or self.drifted)

    def count(self, kind: Kind) -> int:
        """The number of changes of a kind."""
        return sum(change.kind is kind for change in self.changes)

    def backwards(self, generation: int, spin_lock: int) -> HostPlan:
        """The plan that takes this one back, from a host where it has been carried out."""
        changes = tuple(_reversed(change) for change in reversed(self.changes))
        return replace(
            self,
            changes=changes,
            generation=generation,
            spin_lock=spin_lock,
            before=self.digest,
            digest=self.before,
            drifted=(),
            after={},
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What changes on all hosts, and what was found on the way.

    A plan with errors among its findings is not carried out. `unreachable` are the hosts whose
    agents could not be asked, which is an error too.
    """

    hosts: Mapping[str, HostPlan]
    findings: tuple[Finding, ...] = ()
    unreachable: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[HostPlan, ...]:
        """The hosts on which anything changes or is set right."""
        return tuple(host for host in self.hosts.values() if host.touched)

    @property
    def ok(self) -> bool:
        """Whether it can be carried out."""
        return all(found.severity is not Severity.ERROR for found in self.findings)

    def count(self, kind: Kind) -> int:
        """The number of changes of a kind on all hosts."""
        return sum(host.count(kind) for host in self.hosts.values())


def wanted_digest(wanted: Tables, names: Names) -> bytes:
    """vmibTxnDigest of a host that has just these rows."""
    return canonical.digest(wanted, names.discovered)


def host_plan(
    host: str,
    wanted: Tables,
    reading: Reading,
    sources: Mapping[tuple[str, Key], Source] | None = None,
) -> HostPlan:
    """The plan of one host; `sources` are the lines that ask for rows, for messages.

    Where the rows were not read because their digest is the wanted one, nothing changes.
    """
    names, scalars = reading.names, reading.scalars
    discovered = {table: frozenset(keys) for table, keys in names.discovered.items()}
    actual = wanted if reading.rows is None else reading.rows
    changes: list[Change] = []
    kept: list[tuple[Table, Key]] = []
    after: dict[str, dict[Key, Any]] = {}
    for table in CONFIGURATION:
        found = discovered.get(table.name, frozenset())
        there, asked = actual.get(table.name, {}), wanted.get(table.name, {})
        rows_after = dict(there)
        for key in _ordered(table, {*there, *asked}):
            source = None if sources is None else sources.get((table.name, key))
            before, row = there.get(key), asked.get(key)
            if row is None and _is_kept(table, before, key in found):
                kept.append((table, key))
                continue
            change = _change(table, key, before, row, key in found, source)
            if change is None:
                continue
            changes.append(change)
            if change.after is None:
                del rows_after[key]
            else:
                rows_after[key] = change.after
        after[table.name] = configured(table, rows_after, names)
    return HostPlan(
        host=host,
        changes=tuple(changes),
        generation=scalars.generation,
        spin_lock=scalars.spin_lock,
        before=scalars.digest,
        digest=canonical.digest(after, names.discovered) if changes else scalars.digest,
        names=names,
        labels=labels_of(actual, wanted),
        kept=tuple(kept),
        drifted=reading.drifted,
        after=after,
    )


def _ordered(table: Table, keys: set[Key]) -> list[Key]:
    return sorted(keys, key=table.encode_index)


def _change(
    table: Table, key: Key, before: Any, after: Any, discovered: bool, source: Source | None
) -> Change | None:
    if discovered or table.name == SHAPE:
        return _change_of_discovered(table, key, before, after, source)
    if before is None:
        return Change(Kind.CREATE, table, key, None, after, _given(table, after), source)
    if after is None:
        return Change(Kind.DELETE, table, key, before, None, (), source)
    after = _stored_as(before, after)
    fields = tuple(_differing(table, before, after))
    if not fields:
        return None
    if FIXED.get(table.name, frozenset()).isdisjoint(fields):
        return Change(Kind.UPDATE, table, key, before, after, fields, source)
    return Change(Kind.REPLACE, table, key, before, after, _given(table, after), source)


def _is_kept(table: Table, before: Any, discovered: bool) -> bool:
    """Whether a row that nobody wants stays: permanent rows may change, but not go (RFC 2579)."""
    if before.storage_type is rows.StorageType.readOnly:
        return True
    goes = not discovered and table.name != SHAPE
    return goes and before.storage_type is rows.StorageType.permanent


def _stored_as(before: Any, after: Any) -> Any:
    """The row after, with the StorageType from before where that never changes (RFC 2579)."""
    if before.storage_type not in _PROTECTED:
        return after
    return replace(after, storage_type=before.storage_type)


def _change_of_discovered(
    table: Table, key: Key, before: Any, after: Any, source: Source | None
) -> Change | None:
    """A row that is always there: where it is not mentioned it has its defaults."""
    before = _default(table, after) if before is None else before
    after = _stored_as(before, _default(table, before) if after is None else after)
    determined = _DETERMINED_FIELDS[table.name]
    fields = tuple(name for name in _differing(table, before, after) if name not in determined)
    if not fields:
        return None
    return Change(Kind.UPDATE, table, key, before, after, fields, source)


def _default(table: Table, like: Any) -> Any:
    """The row without configuration; what has no default is as in `like`."""
    values = {
        column.field: column.default if column.has_default else getattr(like, column.field)
        for column in table.writable
    }
    return rows.ROWS[table.name](**values)


def _given(table: Table, row: Any) -> tuple[str, ...]:
    return tuple(
        column.field
        for column in table.writable
        if not column.has_default or getattr(row, column.field) != column.default
    )


def _differing(table: Table, before: Any, after: Any) -> Iterator[str]:
    for column in table.writable:
        if getattr(before, column.field) != getattr(after, column.field):
            yield column.field


def _reversed(change: Change) -> Change:
    kinds = {Kind.CREATE: Kind.DELETE, Kind.DELETE: Kind.CREATE}
    fields = change.fields
    if change.kind is not Kind.UPDATE:
        fields = () if change.before is None else _given(change.table, change.before)
    return Change(
        kinds.get(change.kind, change.kind),
        change.table,
        change.key,
        change.after,
        change.before,
        fields,
        change.source,
    )
