"""The page of `vmib serve` and what it is made of: files, picture, JSON, events."""

from __future__ import annotations

import asyncio
import json
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import vmib_manager
from vmib_manager.happenings import Happening, happenings
from vmib_manager.http_message import Request, RequestRefused, Response
from vmib_manager.network_view import NetworkView
from vmib_manager.observation import LINK
from vmib_manager.serve_site import NetworkSite

from .watched import WELL, silent, view_of

PORT = 8161
PAGE = Path(vmib_manager.__file__).parent / "page"


class Views:
    """A watcher that is told what it sees."""

    interval = 2.0

    def __init__(self, *views: NetworkView) -> None:
        self.views = list(views)
        self.view = views[0] if views else None
        self.history: tuple[Happening, ...] = ()
        self.trends = {("host1", LINK, "1.1"): (5, None)}

    async def after(self, number: int) -> NetworkView:
        for view in self.views:
            if view.number > number:
                self.view = view
                return view
        return await asyncio.Future()


ONE = view_of()
TWO = view_of(number=2, host2=silent(WELL["host2"]))


def site(*views: NetworkView) -> NetworkSite:
    watcher: Any = Views(*views)
    watcher.history = tuple(happenings(None, views[0])) if views else ()
    return NetworkSite(watcher, PORT, {"localhost"})


def got(found: NetworkSite, path: str, host: str = f"127.0.0.1:{PORT}") -> Response:
    answer = found.answer(Request("GET", path, host))
    assert isinstance(answer, Response)
    return answer


def test_the_page_has_no_resources_but_its_own() -> None:
    for file in PAGE.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text), file
    page = (PAGE / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert got(site(ONE), f"/{name}").status is HTTPStatus.OK
    assert "style=" not in page
    assert "<script>" not in page


def test_every_file_of_the_page_is_served_and_packed() -> None:
    served = [got(site(), path).body for path in ("/", "/page.css", "/page.js", "/icon.svg")]
    assert sorted(served) == sorted(file.read_bytes() for file in PAGE.iterdir())
    setup = (Path(__file__).resolve().parents[2] / "setup.cfg").read_text()
    assert re.search(r"^vmib_manager = .*\bpage/\*", setup, re.MULTILINE)


def test_the_page_may_do_nothing_but_what_it_needs() -> None:
    fields = got(site(), "/").fields or {}
    policy = fields["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy
    picture = ElementTree.fromstring(got(site(ONE), "/picture.svg").body)
    style = next(picture.iter("{http://www.w3.org/2000/svg}style")).text or ""
    assert f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy


def test_the_document_is_that_of_the_view_with_its_history_and_picture() -> None:
    document = json.loads(got(site(ONE), "/api/network").body)
    assert document["schema"] == "vmib.network/1"
    assert (document["number"], document["worst"]) == (1, None)
    assert [each["what"] for each in document["history"]] == ["watching"]
    picture = got(site(ONE), "/picture.svg").body
    assert document["picture"] == sha256(picture).hexdigest()[:16]
    assert b"phrase" not in got(site(ONE), "/api/network").body


def test_trends_end_with_the_readings_of_their_hosts() -> None:
    found = json.loads(got(site(ONE), "/api/trends").body)
    assert found == {
        "schema": "vmib.trends/1",
        "readings": {"host1": 0, "host2": 0},
        "trends": [{"host": "host1", "table": LINK, "index": "1.1", "rates": [5, None]}],
    }


def test_before_the_first_view_everybody_is_asked_to_come_again() -> None:
    for path in ("/api/network", "/api/trends", "/picture.svg"):
        with pytest.raises(RequestRefused) as refused:
            got(site(), path)
        assert refused.value.status is HTTPStatus.SERVICE_UNAVAILABLE
        assert refused.value.fields == {"Retry-After": "1"}
    assert got(site(), "/").status is HTTPStatus.OK


@pytest.mark.parametrize("path", ["/index.html", "/../setup.cfg", "/%2e%2e/", "//", "/API"])
def test_there_is_nothing_else(path: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        got(site(ONE), path)
    assert refused.value.status is HTTPStatus.NOT_FOUND


def test_a_name_of_somebody_else_leads_nowhere() -> None:
    for path in ("/", "/api/network", "/api/events", "/none"):
        with pytest.raises(RequestRefused) as refused:
            got(site(ONE), path, host=f"rebound.example:{PORT}")
        assert refused.value.status is HTTPStatus.MISDIRECTED_REQUEST


def events(found: NetworkSite, count: int) -> list[bytes]:
    """The first events of a stream."""

    async def take() -> list[bytes]:
        stream = found.answer(Request("GET", "/api/events", "localhost:8161"))
        assert isinstance(stream, AsyncIterator)
        return [await anext(stream) for _ in range(count)]

    return asyncio.run(take())


def test_there_is_an_event_for_each_view() -> None:
    one, two = events(site(ONE, TWO), 2)
    for number, event in ((1, one), (2, two)):
        name, data, *rest = event.decode().split("\n")
        assert name == "event: network"
        assert json.loads(data.removeprefix("data: "))["number"] == number
        assert rest == ["", ""]


def test_a_view_is_put_into_words_once_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    from vmib_manager import serve_site

    drawn: list[int] = []
    monkeypatch.setattr(serve_site, "svg", lambda graph, titled: drawn.append(1) or "<svg/>")
    found = site(ONE)
    for _ in range(5):
        events(found, 1)
        got(found, "/api/network")
        got(found, "/picture.svg")
    assert drawn == [1]
