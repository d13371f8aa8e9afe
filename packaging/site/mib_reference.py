"""The reference of VMIB-MIB in Markdown, from what pysmi reads in the module itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Symbol = Mapping[str, Any]

_INTRODUCTION = """\
# VMIB-MIB

Made from [the module](files/VMIB-MIB.txt). {description}

Each object has its syntax, its unit, its access and its default. Objects of a row are `read-create`
where SETs make and remove rows, `read-write` where rows come and go with what they describe.
"""


def reference(mib: Mapping[str, Any]) -> str:
    """The page; `mib` has the symbols of the module by name, as pysmi's JSON has them."""
    symbols = {name: each for name, each in mib.items() if isinstance(each, dict)}
    identity = next(each for each in symbols.values() if each.get("class") == "moduleidentity")
    parts = [_INTRODUCTION.format(description=_text(identity["description"]))]
    parts += ["## Scalars", _objects(_of(symbols, nodetype="scalar"))]
    parts.append("## Tables")
    for table in _of(symbols, nodetype="table"):
        parts += _table(symbols, table)
    parts.append("## Notifications")
    for each in _of(symbols, **{"class": "notificationtype"}):
        objects = ", ".join(f"`{one['object']}`" for one in each["objects"])
        parts.append(f"({each['name']})=\n### {each['name']}")
        parts.append(f"`{each['oid']}`")
        parts.append(f"{_text(each['description'])} With: {objects}.")
    parts += ["## Textual conventions", _conventions(symbols)]
    parts.append("## Conformance")
    for each in _of(symbols, **{"class": "modulecompliance"}):
        groups = ", ".join(f"`{one['object']}`" for one in each["modulecompliance"])
        parts.append(f"`{each['name']}`: {_text(each['description'])} {groups}.")
    return "\n\n".join(parts) + "\n"


def _of(symbols: Mapping[str, Symbol], **wanted: str) -> list[Symbol]:
    """The symbols with these properties, by OID."""
    found = [each for each in symbols.values() if wanted.items() <= each.items()]
    return sorted(found, key=lambda each: [int(arc) for arc in each["oid"].split(".")])


def _table(symbols: Mapping[str, Symbol], table: Symbol) -> Iterator[str]:
    entry = next(
        each
        for each in _of(symbols, nodetype="row")
        if each["oid"].rpartition(".")[0] == table["oid"]
    )
    yield f"({table['name']})=\n### {table['name']}"
    yield f"`{table['oid']}`. {_text(table['description'])}"
    if "augmention" in entry:
        other = entry["augmention"]["object"].removesuffix("Entry") + "Table"
        yield f"A row for each one of [{other}](#{other}). {_text(entry['description'])}"
    else:
        index = ", ".join(f"`{each['object']}`" for each in entry["indices"])
        yield f"Index: {index}. {_text(entry['description'])}"
    under = entry["oid"] + "."
    yield _objects(
        [each for each in _of(symbols, nodetype="column") if each["oid"].startswith(under)]
    )


def _objects(objects: list[Symbol]) -> str:
    return "\n\n".join(
        f"`{each['name']}`\n"
        f": {_syntax(each['syntax'])}{_units(each)}; {each['maxaccess']}{_default(each)}\n\n"
        f"  {_text(each['description'])}"
        for each in objects
    )


def _units(symbol: Symbol) -> str:
    return f", {symbol['units']}" if "units" in symbol else ""


def _default(symbol: Symbol) -> str:
    clause = symbol.get("default")
    if not clause:
        return ""
    value = clause["default"]["value"]
    if clause["default"]["format"] == "bits":
        value = ", ".join(sorted(value["bits"], key=value["bits"].__getitem__)) or "none"
    return f"; default `{value}`" if value != "" else "; default empty"


def _syntax(syntax: Symbol) -> str:
    """A syntax in words: its type, and the values or sizes that it allows."""
    constraints = syntax.get("constraints", {})
    names = constraints.get("enumeration") or syntax.get("bits") or {}
    parts = [f"`{syntax['type']}`"]
    if names:
        ordered = sorted(names.items(), key=lambda item: item[1])
        parts.append(", ".join(f"`{name}`&nbsp;({number})" for name, number in ordered))
    for what, word in (("range", ""), ("size", "size ")):
        if what in constraints:
            spans = ", ".join(_span(each) for each in constraints[what])
            parts.append(f"{word}{spans}")
    return " ".join(parts)


def _span(bounds: Mapping[str, int]) -> str:
    low, high = bounds["min"], bounds["max"]
    return str(low) if low == high else f"{low} to {high}"


def _conventions(symbols: Mapping[str, Symbol]) -> str:
    return "\n\n".join(
        f"`{each['name']}`\n: {_syntax(each['type'])}\n\n  {_text(each['description'])}"
        for each in sorted(symbols.values(), key=lambda one: str(one.get("name")))
        if each.get("class") == "textualconvention"
    )


def _text(description: str) -> str:
    """A description as a paragraph that says what the module says, to the letter."""
    plain = " ".join(description.split())
    return "".join(f"\\{c}" if c in "\\`*_<>[]#" else c for c in plain)
