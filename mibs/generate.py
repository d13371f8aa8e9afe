"""Generate `vmib/objects.py` and `vmib/rows.py` from the MIB text, through pysmi.

    python mibs/generate.py BASE_MIB_DIRECTORY [OUTPUT_DIRECTORY]

BASE_MIB_DIRECTORY holds SNMPv2-SMI, SNMPv2-TC, SNMPv2-CONF, SNMP-FRAMEWORK-MIB and
INET-ADDRESS-MIB. The generated files are committed; a test generates them anew and compares.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
MODULES = ("VMIB-ROOT-MIB", "VMIB-MIB")

BASE_TAGS = {
    "INTEGER": "INTEGER",
    "Integer32": "INTEGER",
    "Unsigned32": "UNSIGNED32",
    "Gauge32": "UNSIGNED32",
    "Counter32": "COUNTER32",
    "Counter64": "COUNTER64",
    "TimeTicks": "TIMETICKS",
    "OCTET STRING": "OCTET_STRING",
    "Bits": "OCTET_STRING",
    "BITS": "OCTET_STRING",
    "OBJECT IDENTIFIER": "OBJECT_IDENTIFIER",
}
KINDS = {
    "TruthValue": "BOOL",
    "SnmpAdminString": "TEXT",
    "MacAddress": "MAC",
    "VmibUuid": "UUID",
    "VmibUuidOrZero": "UUID",
    "InetAddress": "INET",
}
PYTHON_TYPES = {
    "INT": "int",
    "NAMED": "int",
    "BOOL": "bool",
    "TEXT": "str",
    "MAC": "str",
    "UUID": "str",
    "INET": "IpAddress | None",
    "BITS": "frozenset[str]",
    "OCTETS": "bytes",
    "OID": "Oid",
}
WHOLE_RANGE = {"Integer32": (-(2**31), 2**31 - 1), "Unsigned32": (0, 2**32 - 1)}


def snake(name: str) -> str:
    """`QueueLimit` -> `queue_limit`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def compile_mibs(base: Path) -> dict[str, dict[str, Any]]:
    """All symbols of our modules and of those they import, as pysmi describes them."""
    with tempfile.TemporaryDirectory() as out:
        program = Path(sys.executable).with_name("mibdump")
        command = [
            str(program),
            f"--mib-source=file://{base.resolve()}",
            f"--mib-source=file://{HERE}",
            "--mib-borrower=/nonexistent",
            "--mib-stub=RFC-1212",
            "--destination-format=json",
            f"--destination-directory={out}",
            "--generate-mib-texts",
            "--rebuild",
            *MODULES,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not re.search(r"^Failed MIBs: $", done.stderr, re.MULTILINE):
            raise SystemExit(f"mibdump failed:\n{done.stderr}")
        return {p.stem: json.loads(p.read_text()) for p in sorted(Path(out).glob("*.json"))}


class Compiler:
    """Turns pysmi's description into the two Python modules."""

    def __init__(self, modules: dict[str, dict[str, Any]]) -> None:
        self.mib = modules["VMIB-MIB"]
        self.types = {
            name: symbol["type"]
            for module in modules.values()
            for name, symbol in module.items()
            if isinstance(symbol, dict) and symbol.get("class") in ("textualconvention", "type")
        }
        self.root = modules["VMIB-ROOT-MIB"]["vmib"]["oid"]
        self.entries = {n: s for n, s in self.mib.items() if self._node(s) == "row"}
        self.objects = {n: s for n, s in self.mib.items() if self._node(s) in ("column", "scalar")}

    @staticmethod
    def _node(symbol: Any) -> str:
        return symbol.get("nodetype", "") if isinstance(symbol, dict) else ""

    def syntax(self, name: str) -> dict[str, Any]:
        """Tag, kind, convention, ranges and names of one object."""
        declared = self.objects[name]["syntax"]
        convention = declared["type"]
        ranges: list[tuple[int, int]] = []
        names: dict[str, int] = {}
        current: dict[str, Any] = declared
        while True:
            constraints = current.get("constraints", {})
            if not ranges:
                spans = constraints.get("range") or constraints.get("size") or []
                ranges = [(s["min"], s["max"]) for s in spans]
            names = names or constraints.get("enumeration", {}) or current.get("bits", {})
            if current["type"] in BASE_TAGS:
                break
            current = self.types[current["type"]]
        base = current["type"]
        kind = KINDS.get(convention)
        if kind is None:
            kind = {"OBJECT IDENTIFIER": "OID", "Bits": "BITS", "BITS": "BITS"}.get(base)
        if kind is None and base == "OCTET STRING":
            kind = "OCTETS"
        if kind is None:
            kind = "NAMED" if names else "INT"
        return {
            "tag": BASE_TAGS[base],
            "kind": kind,
            "convention": {"Bits": "BITS"}.get(convention, convention),
            "ranges": tuple(ranges),
            "names": dict(sorted(names.items(), key=lambda item: item[1])),
        }

    def default(self, name: str) -> str | None:
        """The DEFVAL as Python source, or None."""
        clause = self.objects[name].get("default")
        if not clause:
            return None
        given = clause["default"]
        kind = self.syntax(name)["kind"]
        if given["format"] == "bits":
            bits = sorted(given["value"]["bits"], key=given["value"]["bits"].__getitem__)
            return "frozenset({" + ", ".join(f'"{bit}"' for bit in bits) + "})"
        if kind == "BOOL":
            return str(given["value"] == "1")
        if given["format"] == "decimal":
            return str(given["value"])
        if given["value"] != "":
            raise SystemExit(f"{name}: no rule for DEFVAL {given}")
        return {"INET": "None", "OCTETS": 'b""'}.get(kind, '""')

    def relative(self, oid: str) -> str:
        """An OID as Python source, relative to the root."""
        rest = oid.removeprefix(self.root + ".")
        return f"(*ROOT, {', '.join(rest.split('.'))})"

    def field(self, name: str, prefix: str) -> str:
        """The Python name of an object of the table or group with this prefix."""
        stripped = name.removeprefix(prefix)
        plain = stripped if stripped not in ("", "Index") else name.removeprefix("vmib")
        return snake(plain)

    def table_prefix(self, entry: str) -> str:
        return entry.removesuffix("Entry")

    def columns_of(self, entry: str) -> list[str]:
        under = self.entries[entry]["oid"] + "."
        found = [
            name
            for name, symbol in self.objects.items()
            if symbol["nodetype"] == "column" and symbol["oid"].startswith(under)
        ]
        return sorted(found, key=lambda name: int(self.objects[name]["oid"].rsplit(".", 1)[1]))

    def index_of(self, entry: str) -> list[str]:
        symbol = self.entries[entry]
        if "augmention" in symbol:
            return self.index_of(symbol["augmention"]["object"])
        return [index["object"] for index in symbol["indices"]]

    def ordered_entries(self) -> list[str]:
        return sorted(
            self.entries, key=lambda n: [int(x) for x in self.entries[n]["oid"].split(".")]
        )

    def scalars(self) -> list[str]:
        found = [n for n, s in self.objects.items() if s["nodetype"] == "scalar"]
        return sorted(found, key=lambda n: [int(x) for x in self.objects[n]["oid"].split(".")])

    def object_source(self, name: str, prefix: str, cls: str) -> str:
        symbol = self.objects[name]
        syntax = self.syntax(name)
        parts = [f"Tag.{syntax['tag']}", f"Kind.{syntax['kind']}", f'"{syntax["convention"]}"']
        if syntax["ranges"] or syntax["names"]:
            parts.append(repr(syntax["ranges"]))
        if syntax["names"]:
            parts.append(json.dumps(syntax["names"]))
        if syntax["kind"] == "NAMED":
            parts.append(f"enum=rows.{self._enum_name(name)}")
        access = symbol["maxaccess"].replace("accessible-for-notify", "notify")
        source = [
            f'"{name}"',
            f'"{self.field(name, prefix)}"',
            self.relative(symbol["oid"]),
            f"Syntax({', '.join(parts)})",
            f"Access.{access.upper().replace('-', '_')}",
        ]
        default = self.default(name)
        if default is not None:
            source += [f"default={default}", "has_default=True"]
        if symbol.get("units"):
            source.append(f'units="{symbol["units"]}"')
        return f"{cls}({', '.join(source)})"

    def objects_module(self) -> str:
        """Source of `vmib/objects.py`."""
        lines = [
            "# fmt: off",
            "# ruff: noqa: E501",
            '"""The objects of VMIB-MIB as data. Generated by mibs/generate.py; do not edit."""',
            "",
            "from __future__ import annotations",
            "",
            "from . import rows",
            "from .smi import Access, Column, Kind, Notification, Oid, Scalar, Syntax, Table, Tag",
            "",
            f"ROOT: Oid = ({', '.join(self.root.split('.'))})",
            f"VMIB_MIB: Oid = {self.relative(self.mib['vmibMIB']['oid'])}",
            "SYS_OBJECT_ID: Oid = (*ROOT, 2, 1)",
            "",
        ]
        columns: list[str] = []
        for entry in self.ordered_entries():
            prefix = self.table_prefix(entry)
            for name in self.columns_of(entry):
                columns.append(f"{name} = {self.object_source(name, prefix, 'Column')}")
        lines += columns
        for name in self.scalars():
            group = re.match(r"vmib[A-Z][a-z]*", name)
            prefix = group.group(0) if group else "vmib"
            lines.append(f"{name} = {self.object_source(name, prefix, 'Scalar')}")
        tables = []
        for entry in self.ordered_entries():
            symbol = self.entries[entry]
            table = f"{self.table_prefix(entry)}Table"
            index = "".join(f"{name}, " for name in self.index_of(entry))
            cols = "".join(f"{name}, " for name in self.columns_of(entry))
            oid = self.relative(symbol["oid"].rsplit(".", 1)[0])
            source = f'{table} = Table("{table}", {oid}, ({index}), ({cols})'
            if "augmention" in symbol:
                source += f', augments="{self.table_prefix(symbol["augmention"]["object"])}Table"'
            lines.append(source + ")")
            tables.append(table)
        notifications = []
        for name, symbol in self.mib.items():
            if isinstance(symbol, dict) and symbol.get("class") == "notificationtype":
                of = "".join(f'"{o["object"]}", ' for o in symbol["objects"])
                lines.append(
                    f'{name} = Notification("{name}", {self.relative(symbol["oid"])}, ({of}))'
                )
                notifications.append(name)
        lines += [
            "",
            f"TABLES: tuple[Table, ...] = ({', '.join(tables)},)",
            f"SCALARS: tuple[Scalar, ...] = ({', '.join(self.scalars())},)",
            f"NOTIFICATIONS: tuple[Notification, ...] = ({', '.join(notifications)},)",
        ]
        return "\n".join(lines) + "\n"

    def rows_module(self) -> str:
        """Source of `vmib/rows.py`."""
        lines = [
            '"""Rows of VMIB-MIB as typed data. Generated by mibs/generate.py; do not edit.',
            "",
            "For each table: its key (the INDEX) and its row (what a SET may write). Units are",
            "those of the MIB object.",
            '"""',
            "",
            "from __future__ import annotations",
            "",
            "from dataclasses import dataclass",
            "from enum import IntEnum",
            "from typing import Any, NamedTuple",
            "",
            "from .smi import IpAddress",
            "",
        ]
        lines += self._enumerations()
        keys: list[str] = []
        rows: list[str] = []
        for entry in self.ordered_entries():
            prefix = self.table_prefix(entry)
            base = prefix.removeprefix("vmib")
            own = self.columns_of(entry)
            if "augmention" not in self.entries[entry]:
                lines += [f"class {base}Key(NamedTuple):", f'    """Index of {prefix}Table."""', ""]
                for name in self.index_of(entry):
                    owner = next(
                        p for p in self._prefixes() if name in self.columns_of(p + "Entry")
                    )
                    lines.append(f"    {self.field(name, owner)}: {self._type(name, in_key=True)}")
                lines.append("")
                keys.append(f'    "{prefix}Table": {base}Key,')
            writable = [
                name
                for name in own
                if self.objects[name]["maxaccess"] in ("read-create", "read-write")
                and self.syntax(name)["convention"] != "RowStatus"
            ]
            if writable:
                lines += self._dataclass(
                    base, prefix, f"Writable columns of {prefix}Table.", writable
                )
                rows.append(f'    "{prefix}Table": {base},')
        lines += ["KEYS: dict[str, type[tuple[Any, ...]]] = {", *keys, "}"]
        lines += ["ROWS: dict[str, type[Any]] = {", *rows, "}"]
        return "\n".join(lines) + "\n"

    def _prefixes(self) -> list[str]:
        return [self.table_prefix(entry) for entry in self.ordered_entries()]

    def _dataclass(self, cls: str, prefix: str, text: str, names: list[str]) -> list[str]:
        lines = ["@dataclass(frozen=True, slots=True, kw_only=True)", f"class {cls}:"]
        lines += [f'    """{text}"""', ""]
        for name in names:
            default = self.default(name)
            if default is not None and self.syntax(name)["kind"] == "NAMED":
                default = self._enum_default(name, default)
            source = f"    {self.field(name, prefix)}: {self._type(name)}"
            lines.append(source + (f" = {default}" if default is not None else ""))
        lines.append("")
        return lines

    def _enum_name(self, name: str) -> str:
        convention = self.syntax(name)["convention"]
        if convention in ("INTEGER",):
            return name.removeprefix("vmib").replace("Link", "").replace("Shape", "")
        return convention.removeprefix("Vmib")

    def _enum_default(self, name: str, default: str) -> str:
        names = self.syntax(name)["names"]
        label = next(label for label, number in names.items() if number == int(default))
        return f"{self._enum_name(name)}.{label}"

    def _type(self, name: str, *, in_key: bool = False) -> str:
        kind = self.syntax(name)["kind"]
        if kind == "NAMED":
            return self._enum_name(name)
        if kind == "INET" and in_key:
            return "IpAddress"
        return PYTHON_TYPES[kind]

    def _enumerations(self) -> list[str]:
        found: dict[str, dict[str, int]] = {}
        for entry in self.ordered_entries():
            for name in self.columns_of(entry):
                if self.syntax(name)["kind"] == "NAMED":
                    found.setdefault(self._enum_name(name), self.syntax(name)["names"])
        for name in self.scalars():
            if self.syntax(name)["kind"] == "NAMED":
                found.setdefault(self._enum_name(name), self.syntax(name)["names"])
        lines: list[str] = []
        for enum, names in sorted(found.items()):
            lines += [f"class {enum}(IntEnum):", f'    """Values of {enum}."""', ""]
            lines += [f"    {label} = {number}" for label, number in names.items()] + [""]
        return lines


def main() -> None:
    base = Path(sys.argv[1])
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "vmib"
    compiler = Compiler(compile_mibs(base))
    for name, source in (
        ("objects.py", compiler.objects_module()),
        ("rows.py", compiler.rows_module()),
    ):
        target = out / name
        target.write_text(source)
        ruff = str(Path(sys.executable).with_name("ruff"))
        config = f"--config={HERE.parent / 'pyproject.toml'}"
        subprocess.run([ruff, "format", "-q", config, str(target)], check=True)


if __name__ == "__main__":
    main()
