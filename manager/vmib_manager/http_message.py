"""Requests and responses of HTTP/1.1 (RFC 9112), as far as a page that is only read needs them.

Pure and strict: what a browser would not send is refused, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address

from vmib.errors import VmibError

MAX_HEAD = 8192
"""Octets of a request with all its header fields."""
MAX_FIELDS = 64
METHODS = ("GET", "HEAD")

END = b"\r\n\r\n"
"""What a head ends with."""

_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST = re.compile(rf"({_NAME}) (/[!-~]*) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rf"({_NAME}):[ \t]*([ -~\t]*?)[ \t]*")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[0-9A-Za-z._-]{1,253})(?::([0-9]{1,5}))?")
_BY_DEFAULT = {
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class RequestRefused(VmibError):
    """A request that is not answered with what it asks for; `fields` go into the response."""

    def __init__(
        self, status: HTTPStatus, reason: str, fields: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.fields = {} if fields is None else fields


@dataclass(frozen=True, slots=True)
class Request:
    """A request without content; `path` is as it was sent, without the query."""

    method: str
    path: str
    host: str


@dataclass(frozen=True, slots=True)
class Response:
    """What a request is answered with; `fields` win over those that every response has."""

    kind: str
    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    fields: Mapping[str, str] | None = None


def parse(head: bytes) -> Request:
    """The request of a head, which ends with `END`; raises RequestRefused."""
    bad = HTTPStatus.BAD_REQUEST
    try:
        first, *lines = head.removesuffix(END).decode("ascii").split("\r\n")
    except UnicodeDecodeError:
        raise RequestRefused(bad, "the head is not ASCII") from None
    matched = _REQUEST.fullmatch(first)
    if matched is None:
        raise RequestRefused(bad, "the request line is none of HTTP/1.1")
    method, target, major, _ = matched.groups()
    if major != "1":
        raise RequestRefused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is spoken here")
    fields = _fields(lines)
    if method not in METHODS:
        allow = {"Allow": ", ".join(METHODS)}
        raise RequestRefused(HTTPStatus.METHOD_NOT_ALLOWED, "this page is only read", allow)
    if "transfer-encoding" in fields or fields.get("content-length", "0") != "0":
        raise RequestRefused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "requests have no content here")
    if "host" not in fields:
        raise RequestRefused(bad, "the Host field is missing")
    return Request(method, target.partition("?")[0], fields["host"])


def _fields(lines: list[str]) -> dict[str, str]:
    if len(lines) > MAX_FIELDS:
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        raise RequestRefused(status, f"more than {MAX_FIELDS} header fields")
    fields: dict[str, str] = {}
    for line in lines:
        matched = _FIELD.fullmatch(line)
        if matched is None:
            raise RequestRefused(HTTPStatus.BAD_REQUEST, "a header field is malformed")
        name = matched[1].lower()
        if name in fields and name in ("host", "content-length", "transfer-encoding"):
            raise RequestRefused(HTTPStatus.BAD_REQUEST, f"the field {name} is there twice")
        fields[name] = matched[2]
    return fields


def is_own_host(host: str, port: int, names: Collection[str]) -> bool:
    """Whether a Host field names this computer by an address, or by one of its names.

    A name of somebody else is the sign of DNS rebinding: a page of that name asks, in the browser
    of somebody who may see this one.
    """
    matched = _HOST.fullmatch(host)
    if matched is None or int(matched[2] or 80) != port:
        return False
    name = matched[1].lower().strip("[]")
    if name in names:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def encode(response: Response, *, with_body: bool) -> bytes:
    """A whole response; without its body for HEAD."""
    head = encode_head(
        response.status,
        {
            "Content-Type": response.kind,
            "Content-Length": str(len(response.body)),
            **(response.fields or {}),
        },
    )
    return head + response.body if with_body else head


def encode_head(status: HTTPStatus, fields: Mapping[str, str]) -> bytes:
    """The head of a response, with the fields that all have."""
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in {**_BY_DEFAULT, **fields}.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii")
