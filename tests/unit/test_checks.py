"""Checks across elements and files: what is wrong is found, with its line and a way out."""

from __future__ import annotations

import pytest

from vmib_manager.capabilities import check_capabilities
from vmib_manager.checks import check, has_errors
from vmib_manager.compile import compile_rows
from vmib_manager.findings import Finding, Severity
from vmib_manager.model import Model

from .descriptions import described, model_of, real_xml

SITE = '<site id="x" subnet="10.9.0.0/24">{}</site>'
CABLES = """
<switch id="sw" capacity="1Gbit"/>
<cable a="host1" b="sw" capacity="10Mbit" delay="1ms"/>
<cable a="host2" b="sw" capacity="100Mbit" delay="1ms"/>"""


def messages(model: Model, severity: Severity = Severity.ERROR) -> list[str]:
    return [finding.message for finding in check(model) if finding.severity is severity]


def test_a_sound_model_has_no_findings() -> None:
    assert check(model_of("a b", '<link a="a" b="b" rate="1Mbit" delay="1ms"/>')) == []


@pytest.mark.parametrize(
    ("machines", "body", "message", "way_out"),
    [
        ("a b", '<link a="a" b="bb"/>', "no machine or virtual router bb", "did you mean b?"),
        ("a b", '<link a="a" b="s1"/>', "s1 is a site", "name machines"),
        ("a b", '<link a="a" b="a"/>', "joins a to itself", "two ends"),
        ("a b/2", '<link a="a" b="b"/>', "does not say which interface", "b:0 or b:1"),
        ("a b", '<link a="a" b="b:7"/>', "does not say which interface", "b:0"),
        ("a b", '<path from="a" to="r"/><router id="r"/>', "no machine or virtual router r", ""),
        ("a b", '<link id="l" a="a" b="b"/><link id="l" a="b" b="a"/>', "link id l", "own id"),
        ("a b", '<router id="s0"/>', "the id s0 is already used", "own id"),
        ("a b", '<router id="a"/>', "a is also the name of a machine", "another id"),
        ("a b", '<path from="a" to="b"/><path from="b" to="a"/>', "path b to a", "keep one"),
        ("a b", '<link a="a" b="b" jitter="2ms" delay="1ms"/>', "jitter 2ms exceeds", "1ms"),
        ("a b", '<link a="a" b="b"><ba reorder="1%"/></link>', "b to a: reorder", "add a delay"),
        ("a b", '<link a="a" b="b" loss-correlation="1%"/>', "loss-correlation needs", "add a l"),
        ("a b", '<link a="a" b="b" burst="5kB"/>', "burst needs a rate", "add a rate"),
        ("a b", '<link a="a" b="b" rate="1Mbit" burst="1kB"/>', "no full frame", "1514B"),
        ("a b", '<link a="a" b="b" queue-limit="1513B"/>', "a queue-limit of 1513", "1514B"),
        ("a b", SITE.format('<member machine="z"/>'), "there is no machine z", "define it"),
        ("a b", SITE.format('<member machine="a" vif="1"/>'), "a has no vif 1", "it has 0"),
        ("a b", SITE.format('<member machine="a"/>'), "interface a:0 is already used", "one site"),
        ("a b", '<site id="x" subnet="10.0.0.128/25"/>', "overlap", "its own range"),
        ("a b", '<site id="x" subnet="10.9.0.0/24 10.8.0.0/24"/>', "two IPv4 subnets", "two sites"),
        (
            "a b",
            '<site id="x" subnet="10.9.0.0/24" default-route="gateway"/>',
            "no gateway",
            "role",
        ),
        ("a b", '<site id="x" subnet="10.9.0.0/24" domain="1"/>' * 2, "the domain 1 is alr", ""),
        ("a b", '<route on="z" to="10.0.0.0/8" via="10.0.0.1"/>', "no machine z", ""),
        ("a b", '<route on="a" to="10.9.0.0/24" via="10.1.0.1"/>', "next hop 10.1.0.1", "link it"),
        ("a/2 b", '<route on="a" to="10.9.0.0/24" on-link="1"/>', "several", "one of 0, 1"),
        ("a b", '<route on="a" to="10.9.0.0/24" vif="4" via="10.0.0.9"/>', "vif 4 of a", "0 is"),
        (
            "a b",
            '<route on="a" to="10.9.0.0/24" via="10.0.0.1"/>' * 2,
            "route of a to 10.9.0.0/24",
            "",
        ),
        ("a b", '<rule action="drop" from="z"/>', "no site or machine z", ""),
        ("a b", '<rule action="drop" from="a:3"/>', "a:3 has no address", "name a network"),
        (
            "a b",
            '<router id="r"/><link a="a" b="r" delay="4000s"/><link a="r" b="b" delay="4000s"/>',
            "more than the MIB can hold",
            "4294967295us",
        ),
    ],
)
def test_a_fault_is_an_error_with_a_way_out(
    machines: str, body: str, message: str, way_out: str
) -> None:
    found = check(model_of(machines, body))
    errors = [finding for finding in found if finding.severity is Severity.ERROR]
    matching = [e for e in errors if message in e.message and way_out in e.way_out]
    assert matching, [str(finding) for finding in found]
    assert all(finding.file == "virtual.xml" and finding.line > 1 for finding in errors)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("10.8.0.1", "10.8.0.1 is outside x"),
        ("10.9.0.0", "is the network address"),
        ("10.9.0.255", "is the broadcast address"),
        ("10.9.0.5 10.9.0.5", "the address 10.9.0.5 is already used"),
    ],
)
def test_an_address_must_be_one_of_its_subnet_and_used_once(address: str, message: str) -> None:
    member = f'<member machine="a" address="{address}"/>'
    model = described(real_xml("a"), SITE.format(member))
    assert [text for text in messages(model) if message in text]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name="b"', 'name="a"', "the machine a is already used at real.xml:1"),
        ("02:00:00:00:01:00", "02:00:00:00:00:00", "the MAC address 02:00:00:00:00:00"),
        ("000000000002", "000000000001", "the UUID 00000000-"),
        ("</real>", '<switch id="host1"/></real>', "the id host1 is already used"),
        ("</real>", '<cable a="host1" b="sw"/></real>', "there is no host, switch or router sw"),
        ("</real>", '<cable a="host1" b="host1"/></real>', "joins host1 to itself"),
        ('<pif name="eth0"/>', '<pif name="eth0"/>' * 2, "the interface eth0"),
    ],
)
def test_names_and_addresses_of_the_real_file_are_used_once(
    old: str, new: str, message: str
) -> None:
    text = real_xml("a b")
    assert old in text
    model = described(text.replace(old, new), "")
    assert [found for found in messages(model) if message in found], messages(model)


def test_peers_of_different_families_cannot_be_linked() -> None:
    body = """<site id="x" subnet="10.0.0.0/24"><member machine="a" address="10.0.0.1"/></site>
    <site id="y" subnet="fd00::/64"><member machine="b" address="fd00::1"/></site>
    <link a="a" b="b"/>"""
    model = described(real_xml("a b"), body)
    assert messages(model) == ["a and b have no addresses of the same family"]


def test_a_link_faster_than_the_cables_below_it_is_an_error() -> None:
    model = model_of("a b@2", '<link a="a" b="b" rate="11Mbit"/>', CABLES)
    assert any("joined by 10Mbit" in message for message in messages(model))
    assert not has_errors(check(model_of("a b@2", '<link a="a" b="b" rate="10Mbit"/>', CABLES)))


def test_a_link_on_one_host_is_not_limited_by_cables() -> None:
    assert check(model_of("a b", '<link a="a" b="b" rate="11Gbit"/>', "")) == []


def test_a_delay_below_that_of_the_cables_is_an_error() -> None:
    model = model_of("a b@2", '<link a="a" b="b" delay="1999us"/>', CABLES)
    assert any("takes 2ms" in message for message in messages(model))
    assert not has_errors(check(model_of("a b@2", '<link a="a" b="b" delay="2ms"/>', CABLES)))


def test_links_that_together_exceed_a_cable_are_a_warning_at_the_cable() -> None:
    links = '<link a="a" b="b" rate="6Mbit"/><link a="c" b="b" rate="5Mbit"/>'
    found = check(model_of("a b@2 c", links, CABLES))
    warnings = [finding for finding in found if finding.severity is Severity.WARNING]
    assert len(warnings) == 2
    assert {finding.file for finding in warnings} == {"real.xml"}
    assert "add up to 11Mbit, the cable carries 10Mbit" in warnings[0].message


def test_a_site_over_hosts_without_cables_is_a_warning() -> None:
    body = SITE.format('<member machine="a"/><member machine="b"/>')
    found = check(described(real_xml("a b@2", hosts=2), body))
    assert [finding.severity for finding in found] == [Severity.WARNING]
    assert "no cables lead from host1 to host2" in found[0].message


def test_links_that_serve_nobody_and_links_that_many_share_are_pointed_out() -> None:
    idle = check(model_of("a", '<router id="r"/><router id="q"/><link a="a" b="r"/>'))
    assert [finding.severity for finding in idle] == [Severity.WARNING] * 2
    star = "".join(f'<link a="{name}" b="r" rate="1Mbit"/>' for name in "abc")
    shared = check(model_of("a b c", f'<router id="r"/>{star}'))
    assert [finding.severity for finding in shared] == [Severity.NOTE]
    assert "paths share 3 links" in shared[0].message


def test_switches_of_sites_are_checked_against_the_hosts() -> None:
    site = '<site id="{}" subnet="10.{}.0.0/24" switch="br" {}><member machine="{}"/></site>'
    one, other = site.format("x", 1, 'vlan="5"', "a"), site.format("y", 2, "", "b")
    assert any(
        "described differently" in m for m in messages(described(real_xml("a b"), one + other))
    )
    lost = site.format("x", 1, 'uplink="eth9"', "a")
    assert any("has no interface eth9" in m for m in messages(described(real_xml("a"), lost)))


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ('mode="nat"', "needs the host's address"),
        ('mode="routed" addr="10.8.0.1"', "10.8.0.1 is outside x"),
        ('mode="routed" addr="10.9.0.1"', "10.9.0.1 is the address of a"),
        ('mode="nat" addr="10.9.0.254" uplink="eth0"', "a switch of mode nat has no uplink"),
        ('mode="isolated" addr="10.9.0.254"', "has no address of the host"),
        ('mode="bridged" default-route="switch"', "wants default routes to a switch of mode"),
    ],
)
def test_a_switch_through_the_host_has_one_address_in_its_site(attributes: str, said: str) -> None:
    body = f'<site id="x" subnet="10.9.0.0/24" switch="br" {attributes}>'
    body += '<member machine="a" address="10.9.0.1"/></site>'
    assert any(said in message for message in messages(described(real_xml("a"), body)))


def test_a_default_route_to_a_switch_needs_a_switch() -> None:
    body = '<site id="x" subnet="10.9.0.0/24" default-route="switch"/>'
    assert "x wants default routes to a switch and has none" in messages(
        described(real_xml("a"), body)
    )


def test_duplication_tolerates_no_other_impairment_of_what_a_machine_sends() -> None:
    link = '<link a="a" b="b"><ab duplicate="1%"/></link>'
    one = '<site id="x" subnet="10.0.0.0/24"><member machine="a" address="10.0.0.1">{}</member>'
    two = '<member machine="b" address="10.0.0.2"/></site>' + link
    alone = described(real_xml("a b"), one.format('<up rate="1Mbit"/>') + two)
    beside = described(real_xml("a b"), one.format('<up loss="1%"/>') + two)
    assert messages(alone) == []
    assert messages(beside) == ["what a sends is duplicated and also impaired towards others"]


def test_links_between_switches_that_nothing_joins_are_errors() -> None:
    site = (
        '<site id="{}" subnet="10.{}.0.0/24" switch="{}"><member machine="{}" address="{}"/></site>'
    )
    link = '<link a="a" b="b"/>'
    one = site.format("x", 1, "br1", "a", "10.1.0.1")
    apart = one + site.format("y", 2, "br2", "b", "10.2.0.1") + link
    joined = one + site.format("y", 2, "br1", "b", "10.2.0.1") + link
    assert messages(described(real_xml("a b"), apart)) == ["nothing joins the switches of x and y"]
    assert messages(described(real_xml("a b"), joined)) == []


def test_findings_come_in_the_order_of_the_files() -> None:
    body = '<link a="a" b="y"/>\n<link a="z" b="b"/>\n<rule action="drop" from="w"/>'
    found = check(model_of("a b", body))
    assert [finding.line for finding in found] == sorted(finding.line for finding in found)
    assert len(found) == 3
    assert str(found[0]).startswith("virtual.xml:4: error: there is no machine or virtual router y")


EVERYTHING = frozenset(
    {"shapeToVm", "shapeFromVm", "links", "routes", "filters", "addresses", "ipv6", "netem"}
)


def missing(model: Model, *without: str) -> list[Finding]:
    rows = compile_rows(model)
    return check_capabilities(rows, dict.fromkeys(rows, EVERYTHING.difference(without)))


def test_a_host_without_netem_can_limit_rates_but_not_delay() -> None:
    rates = model_of("a b", '<link a="a" b="b" rate="1Mbit"/>')
    delays = model_of("a b", '\n<link a="a" b="b" delay="1ms"/>')
    assert missing(rates, "netem") == []
    assert missing(delays) == []
    (finding,) = missing(delays, "netem")
    assert finding.line == 5
    assert finding.message == "host1 has no netem (4 rows need it)"
    assert "sch_netem" in finding.way_out


@pytest.mark.parametrize("name", ["links", "routes", "filters", "addresses", "ipv6"])
def test_a_missing_capability_that_rows_need_is_an_error(name: str) -> None:
    model = model_of("a b", '<link a="a" b="b" rate="1Mbit"/>')
    assert [finding.message.split(" (")[0] for finding in missing(model, name)] == [
        f"host1 has no {name}"
    ]


def test_shaping_of_one_direction_needs_only_that_direction() -> None:
    member = '<member machine="a" address="10.9.0.1"><down rate="1Mbit"/></member>'
    model = described(real_xml("a"), SITE.format(member))
    assert missing(model, "shapeFromVm", "switches") == []
    assert [f.message for f in missing(model, "shapeToVm")] == ["host1 has no shapeToVm"]


def test_hosts_that_did_not_answer_are_left_out() -> None:
    assert check_capabilities(compile_rows(model_of("a b", '<link a="a" b="b"/>')), {}) == []
