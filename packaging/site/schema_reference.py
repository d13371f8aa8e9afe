"""The reference of the two files' elements in Markdown, from the XML schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lxml import etree

XS = "{http://www.w3.org/2001/XMLSchema}"

_INTRODUCTION = """\
# Elements of the two files

Made from [the schema](files/vmib.xsd): which elements there are, where they stand, and what their
attributes may say. What they mean is told in [the two files](xml.md).
"""


def reference(schema: Path) -> str:
    """The page of a schema."""
    root = etree.parse(str(schema)).getroot()
    parts = [_INTRODUCTION]
    for element in root.iterchildren(f"{XS}element"):
        parts += _element(root, element, ())
    parts += ["## Types", *_types(root)]
    return "\n\n".join(parts) + "\n"


def _element(
    root: etree._Element, element: etree._Element, above: tuple[str, ...]
) -> Iterator[str]:
    name = str(element.get("name"))
    path = (*above, name)
    inside = _type_of(root, element)
    children = _children(inside)
    yield f"{'#' * min(2 + len(above), 4)} `<{name}>`" + (f" in `<{above[-1]}>`" if above else "")
    if children:
        found = ", ".join(f"`<{each.get('name')}>`{_how_often(each)}" for each in children)
        yield f"Children: {found}."
    attributes = list(_attributes(root, inside))
    if attributes:
        yield "\n".join(["| attribute | type | |", "|--|--|--|", *attributes])
    for child in children:
        yield from _element(root, child, path)


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


def _attributes(root: etree._Element, inside: etree._Element) -> Iterator[str]:
    for each in inside.iterchildren(f"{XS}attribute", f"{XS}attributeGroup"):
        if each.tag == f"{XS}attributeGroup":
            yield from _attributes(
                root, root.find(f"{XS}attributeGroup[@name='{each.get('ref')}']")
            )
            continue
        named = each.get("type")
        type_ = _words(each.find(f"{XS}simpleType")) if named is None else _link(named)
        yield f"| `{each.get('name')}` | {type_} | {each.get('use', '')} |"


def _link(named: str) -> str:
    """A type of the schema by the link to what it allows; one of XML's own by its name."""
    return f"`{named}`" if named.startswith("xs:") else f"[{named}](#type-{named})"


def _types(root: etree._Element) -> Iterator[str]:
    for each in root.iterchildren(f"{XS}simpleType"):
        name = each.get("name")
        yield f"(type-{name})=\n**{name}**: {_words(each)}"


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
    words = f"`{kind.get('base')}`" if inner is None else _words(inner)
    for facet, text in (
        ("minInclusive", "from"),
        ("maxInclusive", "to"),
        ("minLength", "at least"),
    ):
        if facet in facets:
            words += f" {text} {facets[facet]}"
    return words
