"""What README and documentation name is there: files, links, commands, options, objects, XML."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from vmib import objects
from vmib_agent import commands as agent_commands
from vmib_manager import arguments, check_arguments, description, topology
from vmib_manager.graph import render
from vmib_manager.topology import HostStates

from ..pages import DOCS, FENCE, FOLLOWED, MADE_BY, PAGES, ROOT, RUN_BY, blocks

EXAMPLES = ROOT / "manager" / "examples"
SCHEMA = ROOT / "manager" / "vmib_manager" / "vmib.xsd"
XS = "{http://www.w3.org/2001/XMLSchema}"
GENERATED = ("xml-reference.md", "agent-speed.md")
TOP = ("agent/", "manager/", "mibs/", "packaging/", "tests/", ".cache/")

LINK = re.compile(r"\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")
OBJECT = re.compile(r"\bvmib[A-Z]\w*")


def text_of(page: str) -> str:
    return PAGES[page].read_text()


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text_of(page))


def fences(page: str, language: str) -> list[str]:
    return [block.text for block in blocks(page, language)]


def command_lines(page: str) -> list[list[str]]:
    """The words of each command in blocks for a shell."""
    lines = "\n".join(fences(page, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def mentions(page: str) -> Iterator[list[str]]:
    """The words of code in running text and in blocks that nobody runs."""
    code = SPAN.findall(prose(page))
    code += [line for block in fences(page, "text") for line in block.splitlines()]
    for text in code:
        yield text.split()


def parsers_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: made
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, made in action.choices.items()
    }


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    found = {option for action in parser._actions for option in action.option_strings}
    return found.union(*map(options_of, parsers_of(parser).values()))


def check_mention(words: list[str], parser: argparse.ArgumentParser) -> None:
    """Sub-commands are those of the parser, options those of the sub-command."""
    while words and (known := parsers_of(parser)) and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        assert words[0] in known, words
        parser, words = known[words[0]], words[1:]
    for word in words:
        if word.startswith("--"):
            assert word in options_of(parser), words


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_by_a_test(page: str) -> None:
    """Or written to where a page that is run says, or looked for in what is printed."""
    run_by = RUN_BY.get(page, {})
    others = (block for block in blocks(page) if not re.fullmatch(r"(make .*\n)+", block.text))
    assert {block.language for block in others} == set(run_by)
    for test in set(run_by.values()):
        text = (ROOT / test).read_text()
        assert page in text or test == FOLLOWED, f"{test} runs nothing of {page}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_in_blocks_or_in_the_running_text(page: str) -> None:
    for line in re.findall(r"^ {4,}(.*)", prose(page), re.MULTILINE):
        first = line.split()[0]
        assert first not in PROGRAMS, line
        assert not re.match(r"snmp|make|apt|systemctl", first), line


def test_what_pages_have_made_is_made_by_a_test() -> None:
    asked = {words[1] for page in PAGES for words in command_lines(page) if words[0] == "make"}
    assert asked == set(MADE_BY)
    assert all((ROOT / test).exists() for test in MADE_BY.values())


def test_configurations_of_the_page_on_nagios_are_in_the_files_that_are_run() -> None:
    places = ("nagios/vmib.cfg", "nagios/example.cfg", "icinga2/vmib.conf", "icinga2/example.conf")
    files = [(ROOT / "packaging" / place).read_text() for place in places]
    known = {" ".join(line.split()) for text in files for line in text.splitlines()}
    for block in fences("nagios.md", "cfg"):
        lines = {" ".join(line.split()) for line in block.splitlines()}
        assert lines <= known, lines - known


PROGRAMS = {
    "vmib": arguments.parser(),
    "vmib-agent": agent_commands.parser(),
    "check_vmib": check_arguments.parser(),
}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_of_the_tree(page: str) -> None:
    for target in LINK.findall(text_of(page)):
        if not re.match(r"https?:", target):
            assert (PAGES[page].parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_paths_that_are_named_exist(page: str) -> None:
    for span in SPAN.findall(prose(page)):
        if span.startswith(TOP) and not span.startswith(".cache/"):
            assert (ROOT / span).exists(), span
        if re.fullmatch(r"[\w-]+\.xml", span) and span not in ("real.xml", "virtual.xml"):
            assert (EXAMPLES / span).exists(), span


@pytest.mark.parametrize("page", PAGES)
def test_commands_to_be_run_are_taken(page: str) -> None:
    for words in command_lines(page):
        for end in ("||", "|", "&"):
            words = words[: words.index(end)] if end in words else words
        if words[0] in PROGRAMS:
            PROGRAMS[words[0]].parse_args(words[1:])
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        for word in words[1:]:
            if word.endswith(".xml"):
                assert (EXAMPLES / word).exists(), word


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_running_text_have_these_words_and_options(page: str) -> None:
    for words in mentions(page):
        if words and words[0] in PROGRAMS:
            check_mention(words[1:], PROGRAMS[words[0]])


def test_an_option_that_stands_alone_is_one_of_the_programs() -> None:
    known = set().union(*map(options_of, PROGRAMS.values())) | {"--out"}
    for page in PAGES:
        for words in mentions(page):
            if words and words[0].startswith("--"):
                assert words[0] in known, (page, words)


@pytest.mark.parametrize("page", PAGES)
def test_objects_of_the_mib_are_spelled_as_there(page: str) -> None:
    known = set(OBJECT.findall((ROOT / "mibs" / "VMIB-MIB.txt").read_text()))
    assert objects.vmibLinkTable.name in known
    assert set(OBJECT.findall(text_of(page))) <= known


def test_the_guide_names_no_element_that_the_schema_lacks() -> None:
    schema = ElementTree.parse(SCHEMA).getroot()
    elements = {f"<{element.get('name')}>" for element in schema.iter(f"{XS}element")}
    named = set(re.findall(r"<[a-z]+>", text_of("xml.md")))
    assert len(named) > 15
    assert named <= elements


def test_xml_of_the_readme_is_that_of_the_examples() -> None:
    real, virtual = fences("README.md", "xml")
    for text, file in ((real, "two-machines-real.xml"), (virtual, "two-machines-virtual.xml")):
        assert (EXAMPLES / file).read_text().endswith(text)


def test_python_of_the_pages_uses_what_there_is() -> None:
    import vmib_manager

    for page in PAGES:
        for block in fences(page, "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module == "vmib_manager":
                    assert {name.name for name in node.names} <= set(vmib_manager.__all__)


def test_the_picture_is_what_is_drawn_of_the_grid_in_sync() -> None:
    model = description.load(EXAMPLES / "grid-real.xml", EXAMPLES / "grid-virtual.xml")
    found = {
        host.id: HostStates(frozenset(machine.name for machine in host.machines))
        for host in model.real.hosts
    }
    drawn = render(topology.graph(model, found), "svg")
    assert (DOCS / "topology.svg").read_text() == drawn, (
        "copy what `make demo` writes: cp out/topology.svg packaging/docs/"
    )


@pytest.mark.parametrize("page", PAGES)
def test_pages_are_short_and_their_lines_fit(page: str) -> None:
    lines = text_of(page).splitlines()
    assert len(lines) <= 200 or page in GENERATED
    for line in lines:
        assert len(line) <= 100 or line.startswith("|"), line
