"""The files for Prometheus and Grafana name what there is, and are what Grafana knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from vmib.schema import COLUMNS, CONFIGURATION, SCALARS, SYNC, TABLES

PROMETHEUS = Path(__file__).resolve().parents[2] / "packaging" / "prometheus"
OBJECT = re.compile(r"\bvmib[A-Z]\w*")
DASHBOARD = PROMETHEUS / "vmib-dashboard.json"


def metrics() -> set[str]:
    """The metrics that the exporter makes."""
    text = (PROMETHEUS / "snmp.yml").read_text()
    return set(re.findall(r"^    - name: (\w+)$", text, re.MULTILINE))


def labels() -> set[str]:
    """The labels that they have; a state is a label by the name of its metric."""
    text = (PROMETHEUS / "snmp.yml").read_text()
    return set(re.findall(r"labelname: (\w+)$", text, re.MULTILINE)) | metrics()


def test_all_that_is_walked_is_in_the_mib() -> None:
    assert len(metrics()) > 60
    assert metrics() <= COLUMNS.keys() | SCALARS.keys()


def test_every_sync_object_is_watched() -> None:
    rules = (PROMETHEUS / "vmib-rules.yml").read_text()
    for name, column in SYNC.items():
        assert column.name in metrics()
        assert f'{column.name}{{{column.name}="failed"}}' in rules
        if TABLES[name] in CONFIGURATION:
            assert f'{column.name}{{{column.name}="drifted"}}' in rules


@pytest.mark.parametrize("name", ["vmib-rules.yml", "vmib-dashboard.json"])
def test_rules_and_panels_ask_for_metrics_and_labels_that_there_are(name: str) -> None:
    named = set(OBJECT.findall((PROMETHEUS / name).read_text()))
    assert len(named) > 20
    assert named <= metrics() | labels()


def test_no_file_has_a_pass_phrase() -> None:
    for file in PROMETHEUS.glob("*.yml"):
        for line in file.read_text().splitlines():
            if "password:" in line:
                assert line.partition(": ")[2].startswith("the pass phrase for ")


def lost(given: Any, known: Any, path: str = "") -> Iterator[str]:
    """What of a document is not in another."""
    if isinstance(given, dict) and isinstance(known, dict):
        for key, value in given.items():
            if key in known:
                yield from lost(value, known[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(given, list) and isinstance(known, list) and len(given) == len(known):
        for number, pair in enumerate(zip(given, known, strict=True)):
            yield from lost(*pair, f"{path}[{number}]")
    elif given != known:
        yield f"{path}: {given!r} is {known!r}"


def read_by_grafana(document: Any) -> Any:
    """A dashboard as Grafana's own model of it has it, which drops what it does not know."""
    register_default_plugins()
    return json.loads(JSONEncoder(sort_keys=True).encode(Dashboard.from_json(document)))


def test_grafana_knows_everything_in_the_dashboard() -> None:
    document = json.loads(DASHBOARD.read_text())
    assert list(lost(document, read_by_grafana(document))) == []
    assert list(lost(document | {"panles": []}, read_by_grafana(document))) == [".panles"]


def test_everything_asks_the_data_source_that_the_viewer_chooses() -> None:
    document = json.loads(DASHBOARD.read_text())
    chosen, *variables = document["templating"]["list"]
    assert (chosen["type"], chosen["query"]) == ("datasource", "prometheus")
    asking = [*variables, *document["panels"]]
    asking += [target for panel in document["panels"] for target in panel["targets"]]
    assert {json.dumps(each["datasource"], sort_keys=True) for each in asking} == {
        json.dumps({"type": "prometheus", "uid": f"${{{chosen['name']}}}"})
    }
    for panel in document["panels"]:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)


def test_panels_have_places_and_numbers_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken
        taken |= cells
