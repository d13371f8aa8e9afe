"""Rows and changes as people read them: machines by name, quantities with units. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vmib import rows, units
from vmib.schema import describe_key
from vmib.smi import Column, Table

from .plan import Change, Kind
from .seen import Key, Names

_UNITS: Mapping[str, Callable[[int], str]] = {
    "kilobits per second": units.format_rate,
    "microseconds": units.format_time,
    "parts per million": units.format_probability,
}
_SIZES = frozenset({"burst", "queue_limit"})
_ANY_PORTS = (0, 65535)


class Describer:
    """Names things of one host; `labels` are the names of domains by vmibDomainIndex."""

    def __init__(self, names: Names, labels: Mapping[int, str]) -> None:
        self._names = names
        self._labels = labels

    def machine(self, index: int) -> str:
        """A machine by its vmibVmIndex."""
        vm = self._names.vms.get(index)
        return f"machine {index}" if vm is None else vm.name

    def vif(self, vm: int, index: int) -> str:
        """An interface as `machine:number`."""
        vif = self._names.vifs.get(rows.VifKey(vm, index))
        number = f"vif {index}" if vif is None or vif.number < 0 else str(vif.number)
        return f"{self.machine(vm)}:{number}"

    def domain(self, index: int) -> str:
        """A domain by its index."""
        return self._labels.get(index, str(index)) if index else "none"

    def subject(self, table: Table, key: Key, row: Any = None) -> str:
        """What a row is about, such as `link web:0 to 10.2.0.1`."""
        match table.name:
            case "vmibVmTable":
                return f"machine {self.machine(key[0])}"
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
                return f"switch {getattr(row, 'name', key[0])}"
            case "vmibRouteTable":
                whose = self.machine(key[0]) if key[0] else "host"
                metric = f" metric {key[4]}" if key[4] else ""
                return f"route {whose} to {_network(key[2], key[3])}{metric}"
            case "vmibFilterTable":
                return f"filter {self.domain(key[0])} {key[1]}"
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
        return column.syntax.name_of(value) or "none"

    def what(self, change: Change) -> str:
        """What a change does to its row."""
        table, row = change.table, change.after
        if change.kind is Kind.DELETE or table.name == "vmibAddrTable":
            return ""
        if table.name == "vmibFilterTable" and change.kind is not Kind.UPDATE:
            return describe_filter(row)
        columns = {column.field: column for column in table.writable}
        parts = []
        for name in change.fields:
            new = self.value(columns[name], getattr(row, name))
            if change.kind is Kind.UPDATE or (change.before is not None and name in columns):
                old = self.value(columns[name], getattr(change.before, name))
                parts.append(f"{_word(name)} {old} → {new}")
            elif name == "vif_index" and change.key[0]:
                parts.append(f"through {self.vif(change.key[0], row.vif_index)}")
            elif name != "name":
                parts.append(f"{_word(name)} {new}")
        return ", ".join(parts)


def describe_filter(row: rows.Filter) -> str:
    """A filter in one line, such as `accept from 10.1.0.0/24 to any tcp 80`."""
    way = "leaving" if row.direction is rows.Direction.fromVm else "entering"
    source = "any" if row.src is None else _network(row.src, row.src_prefix)
    target = "any" if row.dst is None else _network(row.dst, row.dst_prefix)
    protocol = "" if row.protocol == 256 else f" protocol {row.protocol}"
    ports = ""
    for word, span in (
        ("from port", (row.src_port_min, row.src_port_max)),
        ("to port", (row.dst_port_min, row.dst_port_max)),
    ):
        if span != _ANY_PORTS:
            low, high = span
            ports += f" {word} {low}" if low == high else f" {word} {low}-{high}"
    return f"{row.action.name} {way} from {source} to {target}{protocol}{ports}"


def _network(address: Any, prefix: int) -> str:
    return str(address) if prefix == address.max_prefixlen else f"{address}/{prefix}"


def _word(field: str) -> str:
    return field.replace("_", "-")
