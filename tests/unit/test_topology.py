"""From a model and what agents report of it to a picture: who is in it, and in what state."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from vmib_manager.graph import Graph, NodeState, dot, svg
from vmib_manager.model import Model
from vmib_manager.seen import Names, SeenVm
from vmib_manager.topology import HostStates, graph, host_states, label, worst

from .descriptions import described, model_of, real_xml

BODY = """
<site id="lan" subnet="10.1.0.0/24">
  <member machine="a" address="10.1.0.1" role="gateway"/>
  <member machine="b" address="10.1.0.2"/>
</site>
<site id="far" subnet="10.2.0.0/24"><member machine="c" address="10.2.0.1"/></site>
<router id="core"/>
<link a="a" b="core" rate="10Mbit" delay="5ms"/>
<link a="core" b="c"><ab rate="20Mbit" loss="1%"/><ba rate="1Mbit"/></link>
"""
MODEL = described(real_xml("a b c@2", hosts=2), BODY)
WELL = {
    "host1": HostStates(frozenset({"a", "b"})),
    "host2": HostStates(frozenset({"c"})),
}


def machine_states(found: Graph) -> dict[str, NodeState]:
    return {m.name: m.state for site in found.sites for m in site.machines}


def link_states(found: Graph) -> dict[tuple[str, str], NodeState]:
    return {(link.a, link.b): link.state for link in found.links}


def test_everything_of_the_virtual_file_is_in_the_picture() -> None:
    found = graph(MODEL)
    assert found.title == "virtual.xml on real.xml"
    assert [(site.name, site.subnet) for site in found.sites] == [
        ("lan", "10.1.0.0/24"),
        ("far", "10.2.0.0/24"),
    ]
    assert [
        (m.name, m.host, m.address, m.gateway) for site in found.sites for m in site.machines
    ] == [
        ("a", "host1", "10.1.0.1", True),
        ("b", "host1", "10.1.0.2", False),
        ("c", "host2", "10.2.0.1", True),
    ]
    assert found.routers == ("core",)
    assert [(link.a, link.b, link.label) for link in found.links] == [
        ("a", "core", "10Mbit 5ms"),
        ("core", "c", "20Mbit 1% loss / 1Mbit"),
    ]


def test_without_agents_everything_is_planned() -> None:
    found = graph(MODEL)
    assert {*machine_states(found).values(), *link_states(found).values()} == {NodeState.PLANNED}


def test_what_agents_do_not_complain_of_is_in_sync() -> None:
    found = graph(MODEL, WELL)
    assert {*machine_states(found).values(), *link_states(found).values()} == {NodeState.IN_SYNC}


def test_a_machine_has_the_state_of_its_rows() -> None:
    ill = HostStates(frozenset({"a", "b"}), rows={"b": NodeState.DRIFTED})
    found = graph(MODEL, WELL | {"host1": ill})
    assert machine_states(found) == {
        "a": NodeState.IN_SYNC,
        "b": NodeState.DRIFTED,
        "c": NodeState.IN_SYNC,
    }


def test_a_link_has_the_worst_state_of_the_paths_through_it() -> None:
    ill = HostStates(frozenset({"c"}), links={("c", "10.1.0.1"): NodeState.DRIFTED})
    assert link_states(graph(MODEL, WELL | {"host2": ill})) == {
        ("a", "core"): NodeState.DRIFTED,
        ("core", "c"): NodeState.DRIFTED,
    }


def test_what_a_host_has_that_does_not_answer_is_told_apart_from_what_failed() -> None:
    found = graph(MODEL, {"host1": WELL["host1"]}, {"host2": "no answer"})
    assert machine_states(found)["c"] is NodeState.SILENT
    assert machine_states(found)["a"] is NodeState.IN_SYNC
    assert set(link_states(found).values()) == {NodeState.SILENT}
    assert found.unreachable == {"host2": "no answer"}


def test_a_machine_that_does_not_run_waits() -> None:
    vms = {1: SeenVm("", "a", present=True, running=False), 2: SeenVm("", "b", present=True)}
    found = graph(MODEL, WELL | {"host1": host_states(Names(vms), [])})
    assert machine_states(found)["a"] is NodeState.WAITING
    assert machine_states(found)["b"] is NodeState.IN_SYNC


def test_a_label_has_everything_that_a_link_does() -> None:
    (link,) = model_of(
        "a b",
        '<link a="a" b="b" rate="1Mbit" delay="20ms" jitter="2ms" loss="1%" duplicate="2%" '
        'corrupt="3%" reorder="4%"/>',
    ).virtual.links
    assert label(link) == "1Mbit 20ms±2ms 1% loss 2% twice 3% corrupt 4% reordered"


def test_a_machine_that_its_host_does_not_have_has_failed() -> None:
    found = graph(MODEL, WELL | {"host1": HostStates(frozenset({"a"}))})
    assert machine_states(found)["b"] is NodeState.FAILED


def test_of_several_states_the_worst_is_shown() -> None:
    assert worst([]) is NodeState.PLANNED
    assert worst([NodeState.IN_SYNC, NodeState.WAITING]) is NodeState.WAITING
    assert worst(NodeState) is NodeState.FAILED


def test_a_link_that_does_nothing_says_so() -> None:
    (link,) = model_of("a b", '<link a="a" b="b"/>').virtual.links
    assert label(link) == "unlimited"


def pictured(model: Model) -> tuple[str, ElementTree.Element]:
    text = svg(graph(model, WELL))
    return text, ElementTree.fromstring(text)


def test_the_picture_of_a_model_is_xml_and_names_its_machines_links_and_states() -> None:
    _, root = pictured(MODEL)
    words = " ".join(text for text in root.itertext())
    for name in ("a", "b", "c", "lan", "far", "core", "10.1.0.1", "10Mbit 5ms", "in sync"):
        assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words), name
    classes = {each.get("class", "") for each in root.iter()}
    assert any(NodeState.IN_SYNC.value in each.split() for each in classes)


def test_the_same_model_is_drawn_for_graphviz_with_a_colour_for_each_state() -> None:
    drawn = dot(graph(MODEL, {"host1": WELL["host1"]}))
    assert '"a" -- "core"' in drawn
    assert re.search(r'"a" \[.*forestgreen', drawn)
    assert re.search(r'"c" \[.*mediumvioletred', drawn)
