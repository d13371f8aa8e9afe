"""The HTTP server on real sockets: one answer for each connection, and limits on all."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

import pytest

from vmib_manager import http_server
from vmib_manager.http_message import END, MAX_HEAD, Request, RequestRefused, Response
from vmib_manager.http_server import Server

GET = "GET {} HTTP/1.1\r\nHost: here\r\n\r\n"


class Site:
    """Answers /, streams /events, refuses the rest; knows whether a stream has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.more = asyncio.Event()

    def answer(self, request: Request) -> Response | AsyncIterator[bytes]:
        if request.path == "/":
            return Response("text/plain", b"well")
        if request.path == "/events":
            return self._events()
        raise RequestRefused(HTTPStatus.NOT_FOUND, "nothing here")

    async def _events(self) -> AsyncIterator[bytes]:
        try:
            yield b"data: 1\n\n"
            await self.more.wait()
            yield b"data: 2\n\n"
        finally:
            self.ended.set()


Ask = Callable[[bytes], Awaitable[bytes]]


def served(test: Callable[[Site, int], Awaitable[None]]) -> None:
    """Run a test with a server on a free port."""

    async def run() -> None:
        site = Site()
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        async with await Server(site).start(listener):
            await test(site, port)

    asyncio.run(asyncio.wait_for(run(), 20))


async def told(port: int, octets: bytes) -> bytes:
    """Everything that is answered to octets, until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(octets)
    try:
        return await reader.read()
    finally:
        writer.close()


async def status(port: int, octets: bytes) -> int:
    return int((await told(port, octets)).split()[1])


def test_a_request_is_answered_and_the_connection_closed() -> None:
    async def test(_: Site, port: int) -> None:
        head, body = (await told(port, GET.format("/").encode())).split(END)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body == b"well"
        bodyless = GET.format("/").replace("GET", "HEAD").encode()
        assert await told(port, bodyless) == head + END

    served(test)


def test_what_is_refused_is_told_why() -> None:
    async def test(_: Site, port: int) -> None:
        answer = await told(port, GET.format("/none").encode())
        assert answer.endswith(b"404 Not Found: nothing here\n")
        assert await status(port, b"nonsense\r\n\r\n") == 400
        answer = await told(port, b"POST / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"405 Method Not Allowed" in answer
        assert b"\r\nAllow: GET, HEAD\r\n" in answer

    served(test)


def test_a_head_without_end_is_refused() -> None:
    async def test(_: Site, port: int) -> None:
        assert await status(port, b"GET / HTTP/1.1\r\nA: " + b"a" * MAX_HEAD + END) == 431
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HT")
        writer.write_eof()
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()

    served(test)


def test_whoever_says_nothing_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "PATIENCE", 0.2)

    async def test(_: Site, port: int) -> None:
        assert await status(port, b"GET /") == 408

    served(test)


def test_there_is_an_end_to_the_number_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CONNECTIONS", 3)

    async def test(_: Site, port: int) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        await asyncio.sleep(0.1)
        answer = await told(port, GET.format("/").encode())
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: 5\r\n" in answer
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.1)
        assert await status(port, GET.format("/").encode()) == 200

    served(test)


def test_a_stream_goes_on_until_there_is_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SILENCE", 0.1)

    async def test(site: Site, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET.format("/events").encode())
        head = await reader.readuntil(END)
        assert b"\r\nContent-Type: text/event-stream\r\n" in head
        assert b"Content-Length" not in head
        assert await reader.readuntil(b"\n\n") == b"data: 1\n\n"
        assert await reader.readuntil(b"\n\n") == b":\n\n"  # still there
        site.more.set()
        assert (await reader.read()).endswith(b"data: 2\n\n")
        assert site.ended.is_set()
        writer.close()

    served(test)


def test_a_stream_ends_when_its_reader_goes() -> None:
    async def test(site: Site, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET.format("/events").encode())
        await reader.readuntil(b"data: 1\n\n")
        writer.close()
        await asyncio.wait_for(site.ended.wait(), 5)

    served(test)


def test_a_reader_who_takes_nothing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "PATIENCE", 0.3)

    async def test(site: Site, port: int) -> None:
        async def flood() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"data: " + b"x" * 100_000 + b"\n\n"
            finally:
                site.ended.set()

        monkeypatch.setattr(site, "_events", flood)
        stuck = socket.create_connection(("127.0.0.1", port))
        stuck.sendall(GET.format("/events").encode())
        await asyncio.wait_for(site.ended.wait(), 10)
        stuck.close()

    served(test)
