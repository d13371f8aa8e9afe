"""Reading files: closed to the outside, strict, and every fault named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmib_manager import xmlload
from vmib_manager.description import load, load_real, load_virtual
from vmib_manager.xmlload import DescriptionRefused, Problem

REAL = """<real xmlns="urn:vmib:1">
  <host id="h" hypervisor="netns">
    <agent address="127.0.0.1" user="u"/>
    <machine name="m"><vif mac="02:00:00:00:00:01"/></machine>
  </host>
</real>"""


def virtual(body: str) -> str:
    return f'<virtual xmlns="urn:vmib:1">\n{body}\n</virtual>'


def problems(tmp_path: Path, text: str | bytes) -> tuple[Problem, ...]:
    path = tmp_path / "v.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DescriptionRefused) as refused:
        load_virtual(path)
    return refused.value.problems


def only(tmp_path: Path, text: str | bytes) -> Problem:
    found = problems(tmp_path, text)
    assert len(found) == 1, [str(problem) for problem in found]
    return found[0]


@pytest.mark.parametrize(
    "prolog",
    [
        "<!DOCTYPE virtual>",
        '<?xml version="1.0"?>\n<!-- <virtual> -->\n<!DOCTYPE virtual [<!ENTITY a "b">]>',
        '\ufeff<!DOCTYPE virtual SYSTEM "http://127.0.0.1:1/x.dtd">',
        '<?xml version="1.0" encoding="UTF-7"?><!DOCTYPE virtual [<!ENTITY a "b">]>',
    ],
)
def test_a_document_type_declaration_is_refused(tmp_path: Path, prolog: str) -> None:
    problem = only(tmp_path, prolog + virtual(""))
    assert "document type declaration" in problem.allowed


def test_a_comment_may_speak_of_document_types(tmp_path: Path) -> None:
    path = tmp_path / "v.xml"
    path.write_text("<!-- no <!DOCTYPE here -->" + virtual(""))
    assert load_virtual(path).sites == ()


def test_an_endless_prolog_is_scanned_in_linear_time(tmp_path: Path) -> None:
    assert "is no XML" in problems(tmp_path, "<!-- a -->" * 100_000 + "<!--")[0].allowed


def test_what_is_not_utf8_is_refused_with_its_line(tmp_path: Path) -> None:
    problem = only(tmp_path, b"<virtual>\n\xff</virtual>")
    assert (problem.line, problem.allowed) == (2, "is not UTF-8")
    assert "UTF-8" in only(tmp_path, virtual("").encode("utf-16")).allowed


def test_a_file_over_16_mib_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xmlload, "MAX_OCTETS", 64)
    problem = only(tmp_path, virtual("<!--" + "x" * 64 + "-->"))
    assert problem.allowed == "is larger than 64B"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DescriptionRefused, match=r"none\.xml: cannot be read: No such"):
        load_virtual(tmp_path / "none.xml")


def test_broken_xml_is_refused_with_its_line(tmp_path: Path) -> None:
    problem = problems(tmp_path, virtual("<site>"))[0]
    assert problem.line == 3
    assert problem.allowed.startswith("is no XML: Opening and ending tag mismatch: site")


def test_the_wrong_file_is_recognized(tmp_path: Path) -> None:
    problem = only(tmp_path, REAL)
    assert "<virtual xmlns='urn:vmib:1'>" in problem.allowed


SITE = '<site id="s" subnet="10.0.0.0/24"/>'


@pytest.mark.parametrize(
    ("body", "place", "allowed"),
    [
        ('<link a="x" b="y" rate="1Mbps"/>', ("link", "rate", "1Mbps"), "bits or bytes"),
        ('<link a="x" b="y" rate="1mbit"/>', ("link", "rate", "1mbit"), "case counts: 'Mbit'"),
        ('<link a="x" b="y" rate="1.5kbit"/>', ("link", "rate", "1.5kbit"), "whole number of kb"),
        ('<link a="x" b="y"><ab delay="20"/></link>', ("ab", "delay", "20"), "unit is missing"),
        ('<link a="x" b="y" loss="101%"/>', ("link", "loss", "101%"), "at most 100%"),
        ('<link a="x" b="y" burst="9"/>', ("link", "burst", "9"), "B, kB, MB"),
        (
            '<link a="x" b="y" distribution="gauss"/>',
            ("link", "distribution", "gauss"),
            "allowed: uniform, normal, pareto, paretoNormal",
        ),
        ('<link a="x y" b="y"/>', ("link", "a", "x y"), "machine:vif"),
        ('<link a="x" b="y" weight="-1"/>', ("link", "weight", "-1"), "0 to 1000000"),
        ('<link a="x" b="y" profile="p"/>', ("link", "profile", "p"), "there is no <profile>"),
        ('<site id="s" subnet="10.0.0.1/24"/>', ("site", "subnet", "10.0.0.1/24"), "10.0.0.0/24"),
        ('<site id="s" subnet="10.0.0.0"/>', ("site", "subnet", "10.0.0.0"), "10.1.0.0/24"),
        (
            '<site id="s" subnet="10.0.0.0/24"><member machine="m" address="10.0.0.999"/></site>',
            ("member", "address", "10.0.0.999"),
            "IPv4 or IPv6 address",
        ),
        (
            '<site id="s" subnet="10.0.0.0/24"><member machine="m" address="224.0.0.1"/></site>',
            ("member", "address", "224.0.0.1"),
            "unicast",
        ),
        (
            '<site id="s" subnet="10.0.0.0/24" isolation="some"/>',
            ("site", "isolation", "some"),
            "allowed: strict, none",
        ),
        ('<site id="s" subnet="10.0.0.0/24" vlan="3"/>', ("site", "vlan", "3"), "attribute switch"),
        ('<route on="m" to="10.0.0.0/8"/>', ("route", "via", ""), "on-link='true'"),
        ('<route on="m" to="default" on-link="1"/>', ("route", "to", "default"), "0.0.0.0/0"),
        ('<route on="m" to="::/0" via="10.0.0.1"/>', ("route", "via", "10.0.0.1"), "IPv6 address"),
        (
            '<route on="m" to="10.0.0.0/8" via="10.0.0.1" type="blackhole"/>',
            ("route", "type", "blackhole"),
            "no via",
        ),
        ('<rule action="allow"/>', ("rule", "action", "allow"), "accept, drop, reject"),
        ('<rule action="drop" ports="22"/>', ("rule", "ports", "22"), "protocol tcp"),
        (
            '<rule action="drop" protocol="tcp" ports="9-8"/>',
            ("rule", "ports", "9-8"),
            "lower end of a range first",
        ),
        (
            '<rule action="drop" protocol="0"/>',
            ("rule", "protocol", "0"),
            "1 to 255",
        ),
        ('<rule action="drop" from="a:b"/>', ("rule", "from", "a:b"), "machine:vif"),
        ('<rule action="drop" symmetric="yes"/>', ("rule", "symmetric", "yes"), "true or false"),
        ('<router id="r"/><switch id="s"/>', ("switch", "", ""), "is not expected here"),
        ('<router id="r" colour="red"/>', ("router", "", ""), "no attribute 'colour'; allowed: id"),
        ("<router/>", ("router", "", ""), "the attribute 'id' is missing"),
    ],
)
def test_a_fault_names_element_attribute_value_and_what_is_allowed(
    tmp_path: Path, body: str, place: tuple[str, str, str], allowed: str
) -> None:
    problem = problems(tmp_path, virtual(body))[0]
    found = problem.element, problem.attribute, " ".join(problem.value.split())
    assert found == place
    assert allowed in problem.allowed
    assert problem.line == 2
    assert str(problem).startswith(f"{problem.file}:2: <{place[0]}>")


def test_all_faults_of_a_file_are_shown(tmp_path: Path) -> None:
    body = """<link a="x" b="y" rate="1Mbps" delay="5"/>
<link a="x" b="y" colour="red" shape="round"/>
<site id="s" subnet="10.0.0.0/24"><member/></site>"""
    found = problems(tmp_path, virtual(body))
    assert [(problem.line, problem.attribute) for problem in found] == [
        (2, "rate"),
        (2, "delay"),
        (3, ""),
        (3, ""),
        (4, ""),
    ]


def test_faults_that_the_schema_cannot_see_are_collected_too(tmp_path: Path) -> None:
    body = """<link a="x" b="y" rate="1.5kbit" delay="0.5us"/>
<site id="s" subnet="10.0.0.1/24"/>"""
    found = problems(tmp_path, virtual(body))
    assert sorted((problem.line, problem.attribute) for problem in found) == [
        (2, "delay"),
        (2, "rate"),
        (3, "subnet"),
    ]


def test_the_faults_of_both_files_come_together(tmp_path: Path) -> None:
    real, wanted = tmp_path / "r.xml", tmp_path / "v.xml"
    real.write_text(REAL.replace("02:00", "01:00").replace("netns", "vmware"))
    wanted.write_text(virtual('<link a="x" b="y" rate="1M"/>'))
    with pytest.raises(DescriptionRefused, match="and 1 more") as refused:
        load(real, wanted)
    assert [(p.file, p.attribute, p.value) for p in refused.value.problems] == [
        (str(real), "hypervisor", "vmware"),
        (str(wanted), "rate", "1M"),
    ]


def test_a_multicast_mac_address_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.xml"
    path.write_text(REAL.replace("02:00", "01:00"))
    with pytest.raises(DescriptionRefused, match="first octet even"):
        load_real(path)


def test_a_secret_has_no_place_in_the_real_file(tmp_path: Path) -> None:
    path = tmp_path / "r.xml"
    path.write_text(REAL.replace('user="u"', 'user="u" password="x"'))
    with pytest.raises(DescriptionRefused, match=r"no attribute 'password'.*credential"):
        load_real(path)


def test_entities_are_not_expanded_even_in_attributes(tmp_path: Path) -> None:
    body = virtual('<router id="&a;"/>')
    assert "a" in problems(tmp_path, body)[0].allowed


def test_every_refusal_of_an_attribute_says_what_is_allowed(tmp_path: Path) -> None:
    """Give each attribute of each element of the schema a value that nothing allows."""
    elements = ("link", "site", "route", "rule", "profile", "path")
    for element in elements:
        typed = xmlload._declared(element).attributes
        for attribute in (name for name in typed if typed[name] != "xs:token"):
            found = problems(tmp_path, virtual(f'<{element} {attribute}="&lt;&quot; &gt;"/>'))
            said = [problem.allowed for problem in found if problem.attribute == attribute]
            assert len(said) == 1, (element, attribute)
            assert said[0].startswith("allowed: ")
            assert len(said[0]) > 12
