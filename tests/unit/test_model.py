"""The model: what elements say, by which precedence, and where they stand."""

from __future__ import annotations

from pathlib import Path

from vmib.impairment import Impairment
from vmib.rows import Distribution
from vmib_manager.description import load_real
from vmib_manager.model import End

from .descriptions import described, model_of, real_xml

EXAMPLES = Path(__file__).parents[2] / "manager" / "examples"


def test_a_direction_outranks_the_element_and_the_element_its_profile() -> None:
    body = """<profile id="p" rate="1Mbit" delay="1ms" loss="1%"><down delay="2ms"/></profile>
    <link a="a" b="b" profile="p" loss="2%"><ab rate="3Mbit"/></link>"""
    (link,) = model_of("a b", body).virtual.links
    assert link.ab == Impairment(rate=3000, delay=1000, loss=20_000)
    assert link.ba == Impairment(rate=1000, delay=2000, loss=20_000)


def test_a_member_takes_the_profile_of_its_site_unless_it_has_its_own() -> None:
    body = """<profile id="p" rate="1Mbit"/><profile id="q" delay="1ms"/>
    <site id="x" subnet="10.0.0.0/24" profile="p"><member machine="a"/>
      <member machine="b" profile="q"/>
      <member machine="c"><up rate="unlimited"/></member></site>"""
    a, b, c = described(real_xml("a b c"), body).virtual.sites[0].members
    assert (a.up, a.down) == (Impairment(rate=1000), Impairment(rate=1000))
    assert (b.up, b.down) == (Impairment(delay=1000), Impairment(delay=1000))
    assert (c.up, c.down) == (Impairment(), Impairment(rate=1000))


def test_objects_know_their_lines_and_compare_without_them() -> None:
    one = model_of("a b", '<router id="r"/>\n<router id="r"/>').virtual.routers
    assert [router.source.line for router in one] == [4, 5]
    assert one[0] == one[1]


def test_every_attribute_of_an_impairment_is_read() -> None:
    body = """<link a="a" b="b" rate="1Mbit" burst="5kB" queue-limit="1KiB" delay="4us" jitter="3us"
      distribution="paretoNormal" loss="1%" loss-correlation="2%" duplicate="3%" corrupt="4%"
      reorder="5%"/>"""
    (link,) = model_of("a b", body).virtual.links
    assert link.ab == Impairment(
        rate=1000,
        burst=5000,
        queue_limit=1024,
        delay=4,
        jitter=3,
        distribution=Distribution.paretoNormal,
        loss=10_000,
        loss_correlation=20_000,
        duplicate=30_000,
        corrupt=40_000,
        reorder=50_000,
    )


def test_a_credential_has_the_name_of_its_host_unless_it_is_named() -> None:
    (host,) = load_real(EXAMPLES / "two-machines-real.xml").hosts
    assert (host.agent.credential, host.agent.user, host.agent.port) == ("host1", "vmib", 1161)


def test_interfaces_are_numbered_in_their_order() -> None:
    model = model_of("a/3", "")
    assert [vif.number for vif in model.machines["a"].vifs] == [0, 1, 2]


def test_an_end_stands_for_one_interface_or_none() -> None:
    model = model_of("a b/2", "")
    assert model.attached(End("a")) is model.attachments["a"][0]
    assert model.attached(End("b")) is None
    assert model.attached(End("b", 1)) is model.attachments["b"][1]
    assert model.attached(End("z")) is None
