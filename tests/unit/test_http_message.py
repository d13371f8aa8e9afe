"""Requests are read strictly, and answered with what keeps a page to itself."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vmib_manager.http_message import (
    END,
    MAX_FIELDS,
    Request,
    RequestRefused,
    Response,
    encode,
    is_own_host,
    parse,
)


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode("latin-1") + END


HOST = "Host: 127.0.0.1:8161"


def test_what_browsers_send_is_read() -> None:
    sent = head("GET /api/network?now HTTP/1.1", HOST, "Accept: text/html, */*;q=0.8", "DNT:1")
    assert parse(sent) == Request("GET", "/api/network", "127.0.0.1:8161")
    assert parse(head("HEAD / HTTP/1.0", "host:\tlocalhost ")).host == "localhost"
    assert parse(head("GET / HTTP/1.1", HOST, "Content-Length: 0")).method == "GET"


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("",), 400),
        (("GET / HTTP/1.1",), 400),
        (("GET /", HOST), 400),
        (("GET  / HTTP/1.1", HOST), 400),
        (("GET / HTTP/1.1 ", HOST), 400),
        (("GET http://127.0.0.1/ HTTP/1.1", HOST), 400),
        (("GET * HTTP/1.1", HOST), 400),
        (("GET /\x7f HTTP/1.1", HOST), 400),
        (("GET /\xe9 HTTP/1.1", HOST), 400),
        (("GET / HTTP/2.0", HOST), 505),
        (("GET / http/1.1", HOST), 400),
        (("GET / HTTP/1.1", HOST, HOST), 400),
        (("GET / HTTP/1.1", "Host : 127.0.0.1"), 400),
        (("GET / HTTP/1.1", HOST, " folded: yes"), 400),
        (("GET / HTTP/1.1", HOST, "no colon"), 400),
        (("GET / HTTP/1.1", HOST, "a: \x00"), 400),
        (("GET / HTTP/1.1", HOST, "a: b\rc: d"), 400),
        (("GET / HTTP/1.1", HOST, "a: b\nc: d"), 400),
        (("GET / HTTP/1.1\n" + HOST,), 400),
        (("POST / HTTP/1.1", HOST), 405),
        (("get / HTTP/1.1", HOST), 405),
        (("GET / HTTP/1.1", HOST, "Content-Length: 5"), 413),
        (("GET / HTTP/1.1", HOST, "Content-Length: 0", "content-length: 5"), 400),
        (("GET / HTTP/1.1", HOST, "Transfer-Encoding: chunked"), 413),
        (("GET / HTTP/1.1", HOST, *["a: b"] * MAX_FIELDS), 431),
    ],
)
def test_everything_else_is_refused(lines: tuple[str, ...], status: int) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse(head(*lines))
    assert refused.value.status == status
    assert str(refused.value)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(END)
def test_no_octets_do_more_than_be_refused(octets: bytes) -> None:
    for sent in (octets, head("GET / HTTP/1.1", HOST) + octets, b"GET / HTTP/1.1\r\n" + octets):
        with suppress(RequestRefused):
            assert parse(sent).path.startswith("/")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8161", "127.9.9.9:8161", "[::1]:8161", "192.0.2.1:8161", "LocalHost:8161"],
)
def test_a_host_of_this_computer_is_its_own(host: str) -> None:
    assert is_own_host(host, 8161, {"localhost"})


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example:8161",
        "localhost.example:8161",
        "127.0.0.1.example:8161",
        "127.0.0.1",
        "127.0.0.1:80",
        "127.0.0.1:",
        "user@127.0.0.1:8161",
        "[::1:8161",
        "[localhost]:8161",
        "2130706433:8161",
        "0x7f.1:8161",
        "",
        "a" * 300,
    ],
)
def test_the_name_of_somebody_else_is_not(host: str) -> None:
    assert not is_own_host(host, 8161, {"localhost"})


def test_the_default_port_need_not_be_said() -> None:
    assert is_own_host("localhost", 80, {"localhost"})


def test_a_response_closes_and_says_what_may_be_done_with_it() -> None:
    answer = Response("text/plain", b"yes", fields={"Cache-Control": "max-age=1"})
    sent, body = encode(answer, with_body=True).split(END)
    lines = sent.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert body == b"yes"
    assert {
        "Content-Type: text/plain",
        "Content-Length: 3",
        "Cache-Control: max-age=1",
        "Connection: close",
        "X-Content-Type-Options: nosniff",
        "Content-Security-Policy: default-src 'none'; frame-ancestors 'none'",
    } <= set(lines)
    assert encode(answer, with_body=False) == sent + END
