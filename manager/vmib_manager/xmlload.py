"""Reading a description: parse without any door to the outside, validate, report every fault.

Faults carry file, line, element, attribute, value and what is allowed; libxml2's messages are
translated into that form. Documents with a document type declaration are refused, so that no
entity is ever expanded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from lxml import etree

from vmib import units
from vmib.errors import ValueRefused, VmibError

from .model import Source

NAMESPACE = "urn:vmib:1"
MAX_OCTETS = 16 * 1024 * 1024

ValueT = TypeVar("ValueT")
DefaultT = TypeVar("DefaultT")

_SCHEMA_FILE = Path(__file__).with_name("vmib.xsd")
_XS = "{http://www.w3.org/2001/XMLSchema}"
_DOCTYPE = re.compile(r"\ufeff?(?:\s++|<\?(?>.*?\?>)|<!--(?>.*?-->))*+<!DOCTYPE", re.DOTALL)
_MESSAGE = re.compile(r"Element '(?P<element>[^']*)'(?:, attribute '(?P<attribute>[^']*)')?: ")
_VALUE = re.compile(r"(?:^|The value )'(?P<value>.*?)' (?:is|has)", re.DOTALL)
_SET = re.compile(r"is not an element of the set \{(.*)\}")
_UNKNOWN = re.compile(r"The attribute '[^']*' is not allowed")
_MISSING = re.compile(r"The attribute '(?P<attribute>[^']*)' is required but missing")
_QUOTE = "'"

_ALLOWED = {
    "rate": units.RATE.allowed,
    "time": units.TIME.allowed,
    "probability": units.PROBABILITY.allowed,
    "size": units.SIZE.allowed,
    "name": "a name of 1 to 63 letters, digits, '_', '.' and '-', not beginning with '.' or '-'",
    "device": "a device name of 1 to 15 letters, digits, '_', '.' and '-'",
    "end": "the name of a machine or virtual router, or machine:vif, such as 'gw:1'",
    "mac": "a MAC address such as 02:00:00:00:00:01",
    "uuid": "a UUID such as 6ba7b810-9dad-41d1-80b4-00c04fd430c8",
    "address": "an IPv4 or IPv6 address",
    "addresses": "IPv4 or IPv6 addresses separated by spaces, without prefix length",
    "prefix": "a network such as 10.1.0.0/24 or fd00:1::/64",
    "prefixes": "networks such as 10.1.0.0/24, separated by spaces",
    "ports": "ports and ranges separated by spaces, such as '22 8000-8080'",
    "protocol": "any, tcp, udp, icmp, icmpv6, sctp or a number from 1 to 255",
    "vlan": "1 to 4094",
    "domain": "1 to 2147483647",
    "number": "0 to 9999",
    "weight": "0 to 1000000, decimals allowed",
    "": "a network such as 10.1.0.0/24, or default",
    "xs:token": "text",
    "xs:boolean": "true or false",
    "xs:unsignedShort": "0 to 65535",
    "xs:unsignedInt": "0 to 4294967295",
}
_QUANTITIES: Mapping[str, units.Quantity] = {
    "rate": units.RATE,
    "time": units.TIME,
    "probability": units.PROBABILITY,
    "size": units.SIZE,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault of a file. `attribute` and `value` are empty where the fault is the element's.

    `line` is 0 where the file as a whole is at fault.
    """

    file: str
    line: int
    element: str
    attribute: str
    value: str
    allowed: str

    def __str__(self) -> str:
        if not self.line:
            return f"{self.file}: {self.allowed}"
        where = f"<{self.element}>" if self.element else "the file"
        if self.attribute:
            where += f' {self.attribute}="{self.value}"'
        return f"{self.file}:{self.line}: {where}: {self.allowed}"


class DescriptionRefused(VmibError):
    """Files that cannot be read as a description; `problems` has every fault found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        rest = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{problems[0]}{rest}")
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Reader:
    """Turns attributes into values, collecting what is refused instead of stopping there."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def source(self, element: etree._Element) -> Source:
        """Where an element is."""
        return Source(self.file, _line(element))

    def refuse(self, element: etree._Element, attribute: str, value: str, allowed: str) -> None:
        """Note a fault."""
        self.problems.append(
            Problem(
                self.file, _line(element), local(element), attribute, value, f"allowed: {allowed}"
            )
        )

    def read(
        self,
        element: etree._Element,
        attribute: str,
        parse: Callable[[str, str], ValueT],
        default: DefaultT,
    ) -> ValueT | DefaultT:
        """The parsed value of an attribute; `default` where it is absent or refused."""
        text = element.get(attribute)
        if text is None:
            return default
        text = " ".join(text.split())
        try:
            return parse(text, attribute)
        except ValueRefused as refused:
            self.refuse(element, attribute, text, refused.allowed)
            return default


def _line(element: etree._Element) -> int:
    line = element.sourceline
    return line if isinstance(line, int) else 0


def local(element: etree._Element) -> str:
    """The name of an element without its namespace."""
    return etree.QName(element).localname


def children(element: etree._Element, *names: str) -> Iterator[etree._Element]:
    """The child elements with one of these names."""
    for child in element.iterchildren("{*}*"):
        if local(child) in names:
            yield child


def load(path: Path | str, root: str) -> tuple[etree._Element, Reader]:
    """The validated root element `root` of a file and the reader for it.

    Raises `DescriptionRefused` where the file cannot be read, is no XML, has a document type
    declaration, is over 16 MiB or is against the schema.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as stream:
            octets = stream.read(MAX_OCTETS + 1)
    except OSError as error:
        raise _refused(name, f"cannot be read: {error.strerror}") from None
    return parse(octets, name, root)


def parse(octets: bytes, name: str, root: str) -> tuple[etree._Element, Reader]:
    """As `load`, for a file's content; `name` is what messages call it."""
    if len(octets) > MAX_OCTETS:
        raise _refused(name, f"is larger than {units.format_size(MAX_OCTETS)}")
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise _refused(name, "is not UTF-8", line) from None
    if _DOCTYPE.match(text):
        raise _refused(name, "has a document type declaration, which is not allowed: remove it")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )
    try:
        document = etree.fromstring(octets, parser)
    except etree.XMLSyntaxError:
        raise DescriptionRefused(
            [Problem(name, e.line, "", "", "", f"is no XML: {e.message}") for e in parser.error_log]
        ) from None
    if document.tag != f"{{{NAMESPACE}}}{root}":
        raise _refused(name, f"{_other_root(document)}; allowed: <{root} xmlns='{NAMESPACE}'>", 1)
    schema = _schema()
    if not schema.validate(document):
        raise DescriptionRefused(_translated(name, document, schema.error_log))
    return document, Reader(name)


def _other_root(document: etree._Element) -> str:
    found = etree.QName(document)
    if found.namespace == NAMESPACE:
        return f"is a {found.localname} file"
    return f"begins with <{found.localname}> in the namespace '{found.namespace or ''}'"


def _refused(name: str, allowed: str, line: int = 0) -> DescriptionRefused:
    return DescriptionRefused([Problem(name, line, "", "", "", allowed)])


@cache
def _schema() -> etree.XMLSchema:
    return etree.XMLSchema(etree.parse(_SCHEMA_FILE))


@dataclass(frozen=True, slots=True)
class _Declared:
    """What the schema says of elements of one name: their attributes' types, their children."""

    attributes: Mapping[str, str]
    children: tuple[str, ...]


@cache
def _declared(element: str) -> _Declared:
    schema = etree.parse(_SCHEMA_FILE).getroot()
    group = next(schema.iterchildren(f"{_XS}attributeGroup"))
    impairment = {a.get("name", ""): a.get("type", "") for a in group}
    attributes: dict[str, str] = {}
    inside: list[str] = []
    for declared in schema.iter(f"{_XS}element"):
        if declared.get("name") != element:
            continue
        for body in declared.iterchildren(f"{_XS}complexType"):
            for attribute in body.iterchildren(f"{_XS}attribute"):
                attributes[attribute.get("name", "")] = attribute.get("type", "")
            if body.find(f"{_XS}attributeGroup") is not None:
                attributes |= impairment
            for particle in body.iterchildren(f"{_XS}choice", f"{_XS}sequence", f"{_XS}all"):
                inside += [child.get("name", "") for child in _particles(particle)]
        if declared.get("type"):
            attributes |= impairment
    return _Declared(attributes, tuple(dict.fromkeys(inside)))


def _particles(particle: etree._Element) -> Iterator[etree._Element]:
    for child in particle:
        if child.tag == f"{_XS}element":
            yield child
        else:
            yield from _particles(child)


def _plain(name: str | None) -> str:
    return (name or "").rsplit("}", 1)[-1]


def _translated(name: str, document: etree._Element, log: etree._ListErrorLog) -> list[Problem]:
    """The faults in our words, each once: the validator may say of a value why and then that."""
    problems: dict[tuple[int, str, str], Problem] = {}
    for entry in log:
        matched = _MESSAGE.match(entry.message)
        element = _plain(matched["element"]) if matched else ""
        attribute = _plain(matched["attribute"]) if matched else ""
        rest = entry.message[matched.end() :] if matched else entry.message
        problem = _translate(Problem(name, entry.line, element, attribute, "", rest))
        if "This element is not expected" in rest:
            problem = _misplaced(problem, document, entry.path or "")
        what = problem.attribute or problem.allowed
        problems.setdefault((problem.line, problem.element, what), problem)
    return list(problems.values())


def _translate(raw: Problem) -> Problem:
    element, attribute, message = raw.element, raw.attribute, raw.allowed
    if _UNKNOWN.search(message):
        known = ", ".join(_declared(element).attributes) or "none"
        return replace(raw, attribute="", allowed=f"no attribute '{attribute}'; allowed: {known}")
    if attribute:
        found = _VALUE.search(message)
        value = found["value"] if found else ""
        if choices := _SET.search(message):
            return replace(raw, value=value, allowed=f"allowed: {choices[1].replace(_QUOTE, '')}")
        kind = _declared(element).attributes.get(attribute, "")
        return replace(raw, value=value, allowed=f"allowed: {_allowed(kind, value)}")
    if found := _MISSING.search(message):
        return replace(raw, allowed=f"the attribute '{found['attribute']}' is missing")
    if "Missing child" in message:
        known = ", ".join(f"<{child}>" for child in _declared(element).children)
        return replace(raw, allowed=f"has too little inside; allowed: {known}")
    return raw


def _misplaced(problem: Problem, document: etree._Element, path: str) -> Problem:
    nodes = document.xpath(path) if path else []
    node = nodes[0] if isinstance(nodes, list) and nodes else None
    parent = node.getparent() if isinstance(node, etree._Element) else None
    inside = _declared(local(parent)).children if parent is not None else ()
    known = ", ".join(f"<{child}>" for child in inside) or "no elements"
    return replace(problem, allowed=f"is not expected here; allowed in order and number: {known}")


def _allowed(kind: str, value: str) -> str:
    quantity = _QUANTITIES.get(kind)
    if quantity is not None:
        try:
            quantity.parse(value, kind)
        except ValueRefused as refused:
            return refused.allowed
    return _ALLOWED[kind]
