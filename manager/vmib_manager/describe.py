"""Rows and changes as people read them: machines by name, quantities with units. Pure.

What agents call things is made `visible`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vmib import rows, units
from vmib.schema import describe_key
from vmib.smi import Column, Table

from .model import ANY_PROTOCOL
from .parsers import PROTOCOLS
from .plan import Change, Kind
from .seen import Key, Labels, Names
from .visible import visible

_UNITS: Mapping[str, Callable[[int], str]] = {
    "kilobits per second": units.format_rate,
    "microseconds": units.format_time,
    "parts per million": units.format_probability,
}
_SIZES = frozenset({"burst", "queue_limit"})
_ANY_PORTS = (0, 65535)
_PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}


class Describer:
    """Names things of one host."""

    def __init__(self, names: Names, labels: Labels) -> None:
        self._names = names
        self._labels = labels

    def machine(self, index: int) -> str:
        """A machine by its vmibVmIndex; one that is not known by its number."""
        vm = self._names.vms.get(index)
        return f"#{index}" if vm is None else visible(vm.name)

    def vif(self, vm: int, index: int) -> str:
        """An interface as `machine:number`."""
        vif = self._names.vifs.get(rows.VifKey(vm, index))
        number = f"vif {index}" if vif is None or vif.number < 0 else str(vif.number)
        return f"{self.machine(vm)}:{number}"

    def pif(self, index: int) -> str:
        """A physical interface by its ifIndex; one that is not known by its number."""
        pif = self._names.pifs.get(index)
        return f"#{index}" if pif is None else visible(pif.name)

    def domain(self, index: int) -> str:
        """A domain by its index."""
        return self._label("vmibDomainTable", index)

    def switch(self, index: int) -> str:
        """A switch by its index."""
        return self._label("vmibSwitchTable", index)

    def _label(self, table: str, index: int) -> str:
        if not index:
            return "none"
        return visible(self._labels.get(table, {}).get(index, str(index)))

    def subject(self, table: Table, key: Key, row: Any = None) -> str:
        """What a row is about, such as `link web:0 to 10.2.0.1`."""
        match table.name:
            case "vmibVmTable":
                unknown = key[0] not in self._names.vms and row is not None
                return f"machine {visible(row.name) if unknown else self.machine(key[0])}"
            case "vmibVifTable":
                return f"vif {self.vif(*key)}"
            case "vmibAddrTable":
                prefix = "" if row is None else f"/{row.prefix_length}"
                return f"address {self.vif(key[0], key[1])} {key[3]}{prefix}"
            case "vmibShapeTable":
                way = "sends" if key[2] == rows.Direction.fromVm else "receives"
                return f"shape {self.vif(key[0], key[1])} {way}"
            case "vmibLinkTable":
                return f"link {self.vif(key[0], key[1])} to {_network(key[3], key[4])}"
            case "vmibDomainTable":
                return f"domain {self.domain(key[0])}"
            case "vmibSwitchTable":
                return f"switch {self.switch(key[0])}"
            case "vmibRouteTable":
                whose = self.machine(key[0]) if key[0] else "host"
                metric = f" metric {key[4]}" if key[4] else ""
                return f"route {whose} to {_network(key[2], key[3])}{metric}"
            case "vmibFilterTable":
                return f"filter {self.domain(key[0])} {key[1]}"
            case "vmibProbeTable":
                return f"probe {self.vif(key[0], key[1])} to {key[3]}"
            case _:
                return f"{table.name} {describe_key(table, key)}"

    def value(self, column: Column, value: Any) -> str:
        """A value of a column."""
        if column.units in _UNITS:
            return _UNITS[column.units](value)
        if column.field in _SIZES:
            return units.format_size(value)
        if column.field == "domain":
            return self.domain(value)
        if column.field == "switch_index":
            return self.switch(value)
        if column.field in ("if_index", "uplink_if_index"):
            return self.pif(value) if value else "none"
        if column.field.endswith("_index") and not value:
            return "none"
        return visible(column.syntax.name_of(value)) or "none"

    def what(self, change: Change) -> str:
        """What a change does to its row."""
        table = change.table
        if change.kind is Kind.DELETE or table.name == "vmibAddrTable":
            return ""
        if table.name == "vmibFilterTable" and change.kind is not Kind.UPDATE:
            return self._filter(change.after)
        return ", ".join(self._parts(change))

    def _parts(self, change: Change) -> Iterator[str]:
        columns = {column.field: column for column in change.table.writable}
        fields = change.fields
        if change.kind is Kind.REPLACE:
            before, after = change.before, change.after
            fields = tuple(
                name for name in columns if getattr(before, name) != getattr(after, name)
            )
        for name in fields:
            new = self._cell(change, columns[name], change.after)
            if change.before is not None:
                old = self._cell(change, columns[name], change.before)
                yield f"{_word(name)} {old} → {new}"
            elif name == "vif_index":
                yield f"through {new}"
            elif name != "name":
                yield f"{_word(name)} {new}"

    def _cell(self, change: Change, column: Column, row: Any) -> str:
        value = getattr(row, column.field)
        if not value:
            return self.value(column, value)
        if column.field == "vif_index":
            return self.vif(getattr(row, "vm_index", 0) or change.key[0], value)
        if column.field == "vm_index":
            return self.machine(value)
        return self.value(column, value)

    def _filter(self, row: rows.Filter) -> str:
        """Such as `accept leaving from 10.1.0.0/24 to any tcp to port 80`."""
        way = "leaving" if row.direction is rows.Direction.fromVm else "entering"
        if row.vm_index:
            whose = self.vif(row.vm_index, row.vif_index) if row.vif_index else None
            way += f" {whose or self.machine(row.vm_index)}"
        source = "any" if row.src is None else _network(row.src, row.src_prefix)
        target = "any" if row.dst is None else _network(row.dst, row.dst_prefix)
        named = _PROTOCOL_NAMES.get(row.protocol, f"protocol {row.protocol}")
        protocol = "" if row.protocol == ANY_PROTOCOL else f" {named}"
        ports = _span("from", row.src_port_min, row.src_port_max)
        ports += _span("to", row.dst_port_min, row.dst_port_max)
        return f"{row.action.name} {way} from {source} to {target}{protocol}{ports}"


def _span(word: str, low: int, high: int) -> str:
    if (low, high) == _ANY_PORTS:
        return ""
    return f" {word} port {low}" if low == high else f" {word} ports {low}-{high}"


def _network(address: Any, prefix: int) -> str:
    return str(address) if prefix == address.max_prefixlen else f"{address}/{prefix}"


def _word(field: str) -> str:
    return field.removesuffix("_index").replace("_", "-")
