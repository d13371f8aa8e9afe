"""The reference of the two files' elements in Markdown, from the XML schema."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from lxml import etree

XS = "{http://www.w3.org/2001/XMLSchema}"

_INTRODUCTION = """\
# Elements and attributes

Of [the two files](xml.md), from the schema [`vmib.xsd`](../../manager/vmib_manager/vmib.xsd) by
`make generated`. Beside an attribute stands what kind of [value](#values) it has.
"""


def reference(schema: Path) -> str:
    """The page of a schema."""
    root = etree.parse(str(schema)).getroot()
    parts = [_INTRODUCTION.rstrip()]
    for element in root.iterchildren(f"{XS}element"):
        parts += _element(root, element, "")
    parts += [_IMPAIRMENTS, *_table(root, root.find(f"{XS}attributeGroup"))]
    parts += ["## Values", "| | | |\n|--|--|--|\n" + "\n".join(_types(root))]
    return "\n\n".join(parts) + "\n"


_IMPAIRMENTS = "## Impairments"


def _element(root: etree._Element, element: etree._Element, above: str) -> Iterator[str]:
    name = str(element.get("name"))
    inside = _type_of(root, element)
    children = _children(inside)
    yield f"### `<{name}>` in `<{above}>`" if above else f"## `<{name}>`"
    words = [_documentation(element)]
    if children:
        found = ", ".join(f"`<{each.get('name')}>`{_how_often(each)}" for each in children)
        words.append(f"Children: {found}.")
    if inside.find(f"{XS}attributeGroup") is not None:
        own = inside.find(f"{XS}attribute") is not None
        words.append(f"Attributes{' besides these' if own else ''}: [impairments](#impairments).")
    yield textwrap.fill(" ".join(words), 100, break_long_words=False, break_on_hyphens=False)
    yield from _table(root, inside)
    for child in children:
        yield from _element(root, child, name)


def _table(root: etree._Element, inside: etree._Element) -> Iterator[str]:
    rows = []
    for each in inside.iterchildren(f"{XS}attribute"):
        needed = " Required." if each.get("use") == "required" else ""
        named = each.get("type")
        type_ = _words(each.find(f"{XS}simpleType")) if named is None else _link(named)
        meaning = _cell(_documentation(each)) + needed
        rows.append(f"| `{each.get('name')}` | {type_} | {meaning} |")
    if rows:
        yield "\n".join(["| | | |", "|--|--|--|", *rows])


def _documentation(thing: etree._Element) -> str:
    """What the schema says of a thing; raises ValueError where it says nothing."""
    found = thing.find(f"{XS}annotation/{XS}documentation")
    if found is None or not (found.text or "").strip():
        raise ValueError(f"no documentation: line {thing.sourceline} of the schema")
    return " ".join(found.text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _type_of(root: etree._Element, element: etree._Element) -> etree._Element:
    named = element.get("type")
    if named is None:
        return element.find(f"{XS}complexType")
    return root.find(f"{XS}complexType[@name='{named}']")


def _children(inside: etree._Element) -> list[etree._Element]:
    """The elements directly below, through sequences and choices."""
    found: list[etree._Element] = []
    for group in ("sequence", "choice", "all"):
        for each in inside.iterchildren(XS + group):
            found += [*each.iterchildren(f"{XS}element"), *_children(each)]
    return found


def _how_often(element: etree._Element) -> str:
    """How often an element may stand, with what its choice allows."""
    group = element.getparent()
    least = 0 if "0" in (element.get("minOccurs"), group.get("minOccurs")) else 1
    many = "unbounded" in (element.get("maxOccurs"), group.get("maxOccurs"))
    words = {(0, True): "any number", (1, True): "at least one", (0, False): "at most one"}
    return f" ({words.get((least, many), 'one')})"


_OWN = {"xs:boolean": "`true` or `false`", "xs:token": "a text", "xs:unsignedShort": "to 65535"}
_OWN["xs:unsignedInt"] = "to 4294967295"
"""Types of XML Schema itself, in words."""


def _link(named: str) -> str:
    """A type of the schema by the link to what it allows; one of XML Schema's own in words."""
    return _OWN.get(named, f"[{named}](#values)")


def _types(root: etree._Element) -> Iterator[str]:
    for each in root.iterchildren(f"{XS}simpleType"):
        yield f"| {each.get('name')} | {_words(each)} | {_cell(_documentation(each))} |"


def _words(simple: etree._Element) -> str:
    """What a simple type allows, in words."""
    [kind] = [each for each in simple if each.tag != f"{XS}annotation"]
    inner = kind.find(f"{XS}simpleType")
    if kind.tag == f"{XS}list":
        of = _words(inner) if inner is not None else _link(kind.get("itemType"))
        return f"a list, separated by spaces, of {of}"
    if kind.tag == f"{XS}union":
        types = [_link(each) for each in kind.get("memberTypes", "").split()]
        return " or ".join([*types, *(_words(each) for each in kind.iterchildren())])
    allowed = [f"`{each.get('value')}`" for each in kind.iterchildren(f"{XS}enumeration")]
    if allowed:
        return ", ".join(allowed)
    facets = {etree.QName(each).localname: each.get("value") for each in kind if each is not inner}
    if "pattern" in facets:
        return f"as `{facets['pattern']}`".replace("|", "\\|")
    words = "a number" if inner is None else _words(inner)
    for facet, text in (
        ("minInclusive", "from"),
        ("maxInclusive", "to"),
        ("minLength", "at least"),
    ):
        if facet in facets:
            words += f" {text} {facets[facet]}"
    return words
