"""The documentation as a site: built without a warning, its references complete."""

from __future__ import annotations

import subprocess
import sys
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vmib import objects
from vmib.smi import Column, Notification, Scalar, Table

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / ".cache" / "mibs"
SCHEMA = ROOT / "manager" / "vmib_manager" / "vmib.xsd"
DOCS = ROOT / "packaging" / "docs"

pytestmark = pytest.mark.skipif(
    not BASE.is_dir(), reason="needs base MIB modules in .cache/mibs; packaging/setup.sh puts them"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(ROOT / "packaging" / "site" / "build.py"), str(BASE), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def text_of(site: Path, page: str) -> str:
    return unescape((site / f"{page}.html").read_text())


def test_every_page_is_there_and_reached_from_the_first(site: Path) -> None:
    first = text_of(site, "index")
    pages = {page.stem for page in DOCS.glob("*.md")}
    for page in pages | {"mib-reference", "xml-reference", "vmib.1", "vmib-agent.8", "python"}:
        assert (site / f"{page}.html").is_file()
        assert f'href="{page}.html"' in first


def test_the_reference_of_the_mib_has_every_object_and_notification(site: Path) -> None:
    text = text_of(site, "mib-reference")
    symbols = [
        each
        for each in vars(objects).values()
        if isinstance(each, Column | Notification | Scalar | Table)
    ]
    assert len(symbols) > 250
    for each in symbols:
        assert f">{each.name}<" in text, each.name


def test_the_reference_of_the_files_has_every_element_and_attribute(site: Path) -> None:
    text = text_of(site, "xml-reference")
    schema = ElementTree.parse(SCHEMA).getroot()
    for kind, form in (("element", ">&lt;{}&gt;<"), ("attribute", ">{}<")):
        for each in schema.iter(f"{{http://www.w3.org/2001/XMLSchema}}{kind}"):
            assert unescape(form).format(each.get("name")) in text, each.get("name")


def test_the_reference_of_python_has_all_that_the_manager_offers(site: Path) -> None:
    import vmib_manager

    text = text_of(site, "python")
    for name in vmib_manager.__all__:
        assert f'id="vmib_manager.{name}"' in text, name
