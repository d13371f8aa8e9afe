"""What `vmib serve` shows of a watched network: a page, its picture, and the same as JSON."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from importlib import resources

from .documents import Document
from .graph import svg
from .graph_svg import STYLE
from .http_message import Request, RequestRefused, Response, is_own_host
from .network_document import network, trends
from .network_view import NetworkView
from .watcher import Watcher

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_STYLE_HASH = b64encode(sha256(STYLE.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; script-src 'self'; style-src 'self' 'sha256-{_STYLE_HASH}'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What the page may do: nothing but this site's own files, and the style of the picture."""

_SHOWN = 200
"""Happenings in a document."""

_JSON = "application/json"
_SVG = "image/svg+xml"


@dataclass(frozen=True, slots=True)
class _Shown:
    """One view as it is sent, to everybody the same."""

    number: int
    document: bytes
    picture: bytes


class NetworkSite:
    """Serves what a watcher sees; `names` are those of this computer, `port` where it listens."""

    def __init__(self, watcher: Watcher, port: int, names: Collection[str]) -> None:
        self._watcher = watcher
        self._port = port
        self._names = names
        self._shown = _Shown(0, b"", b"")
        page = resources.files(__package__) / "page"
        self._files = {
            path: Response(kind, (page / name).read_bytes(), fields=_fields_of(kind))
            for path, (name, kind) in _FILES.items()
        }

    def answer(self, request: Request) -> Response | AsyncIterator[bytes]:
        """A file, the network now, or one event for each view."""
        if not is_own_host(request.host, self._port, self._names):
            status = HTTPStatus.MISDIRECTED_REQUEST
            raise RequestRefused(status, "the Host field names another computer; use an address")
        if request.path in self._files:
            return self._files[request.path]
        match request.path:
            case "/api/network":
                return Response(_JSON, self._now().document)
            case "/api/trends":
                return Response(_JSON, _compact(trends(self._view(), self._watcher.trends)))
            case "/picture.svg":
                return Response(_SVG, self._now().picture, fields=_fields_of(_SVG))
            case "/api/events":
                return self._events()
            case _:
                raise RequestRefused(HTTPStatus.NOT_FOUND, "there is no such page")

    def _now(self) -> _Shown:
        return self._showing(self._view())

    def _view(self) -> NetworkView:
        view = self._watcher.view
        if view is None:
            wait = {"Retry-After": "1"}
            status = HTTPStatus.SERVICE_UNAVAILABLE
            raise RequestRefused(status, "not all hosts have been asked yet", wait)
        return view

    def _showing(self, view: NetworkView) -> _Shown:
        if self._shown.number != view.number:
            picture = svg(view.graph, titled=False).encode()
            found = network(view, self._watcher.interval, self._watcher.history[-_SHOWN:])
            document = {**found, "picture": sha256(picture).hexdigest()[:16]}
            self._shown = _Shown(view.number, _compact(document), picture)
        return self._shown

    async def _events(self) -> AsyncIterator[bytes]:
        number = 0
        while True:
            view = await self._watcher.after(number)
            number = view.number
            yield b"event: network\ndata: " + self._showing(view).document + b"\n\n"


def _compact(document: Document) -> bytes:
    """A document in one line."""
    return json.dumps(document, separators=(",", ":")).encode()


def _fields_of(kind: str) -> dict[str, str]:
    """Documents that browsers show say what they may do."""
    return {"Content-Security-Policy": _POLICY} if kind.startswith(("text/html", _SVG)) else {}
