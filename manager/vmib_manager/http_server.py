"""A small HTTP server on asyncio: one request for each connection, limits on everything.

It knows nothing of what it serves: a `Site` answers requests, at once or as a stream of events.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus
from typing import Protocol

from .http_message import (
    END,
    MAX_HEAD,
    Request,
    RequestRefused,
    Response,
    encode,
    encode_head,
    parse,
)

MAX_CONNECTIONS = 64
PATIENCE = 10.0
"""Seconds that a client has to send its request, and to take each part of the answer."""
LINGER = 1.0
"""Seconds for which what a client sends is taken after it has been refused."""
SILENCE = 15.0
"""Seconds after which a stream without events says that it is still there."""

_EVENTS = "text/event-stream"
_COMMENT = b":\n\n"


class Site(Protocol):
    """What is served."""

    def answer(self, request: Request) -> Response | AsyncIterator[bytes]:
        """The response to a request, or events of a stream; raises RequestRefused."""


class Server:
    """Serves a site."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._connections = 0

    async def start(self, listener: socket.socket) -> asyncio.Server:
        """Serve who connects to a socket that listens; the caller closes."""
        return await asyncio.start_server(self._connected, sock=listener, limit=MAX_HEAD)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            # Whoever is gone, or too slow, has no use for an answer.
            with suppress(ConnectionError, TimeoutError):
                await self._serve(reader, writer)
        finally:
            self._connections -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with_body = True
        try:
            if self._connections > MAX_CONNECTIONS:
                busy = HTTPStatus.SERVICE_UNAVAILABLE
                raise RequestRefused(busy, "too many connections", {"Retry-After": "5"})
            request = await _request(reader)
            with_body = request.method == "GET"
            answer = self._site.answer(request)
        except RequestRefused as refused:
            body = f"{refused.status.value} {refused.status.phrase}: {refused}\n".encode()
            answer = Response("text/plain", body, refused.status, refused.fields)
            await _send(writer, encode(answer, with_body=with_body))
            await _linger(reader, writer)
            return
        if isinstance(answer, Response):
            await _send(writer, encode(answer, with_body=with_body))
            return
        await _send(writer, encode_head(HTTPStatus.OK, {"Content-Type": _EVENTS}))
        if with_body:
            await _stream(reader, writer, answer)


async def _request(reader: asyncio.StreamReader) -> Request:
    try:
        async with asyncio.timeout(PATIENCE):
            head = await reader.readuntil(END)
    except asyncio.IncompleteReadError as incomplete:
        if not incomplete.partial:
            raise ConnectionResetError from None
        raise RequestRefused(HTTPStatus.BAD_REQUEST, "the head ends too soon") from None
    except asyncio.LimitOverrunError:
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        raise RequestRefused(status, f"the head is longer than {MAX_HEAD} octets") from None
    except TimeoutError:
        raise RequestRefused(HTTPStatus.REQUEST_TIMEOUT, "the request did not come") from None
    return parse(head)


async def _send(writer: asyncio.StreamWriter, octets: bytes) -> None:
    writer.write(octets)
    async with asyncio.timeout(PATIENCE):
        await writer.drain()


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what the client still sends, for a while: closing at once would lose the answer, which
    a reset by TCP overtakes (RFC 9112 section 9.6)."""
    writer.write_eof()
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while await reader.read(MAX_HEAD):
                pass


async def _stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, events: AsyncIterator[bytes]
) -> None:
    """Send events as they come, until there are no more or the client goes."""
    gone = asyncio.ensure_future(reader.read(1))
    event = asyncio.ensure_future(anext(events))
    try:
        while True:
            done, _ = await asyncio.wait(
                (gone, event), timeout=SILENCE, return_when=asyncio.FIRST_COMPLETED
            )
            if gone in done:
                return
            if event not in done:
                await _send(writer, _COMMENT)
                continue
            try:
                octets = event.result()
            except StopAsyncIteration:
                return
            await _send(writer, octets)
            event = asyncio.ensure_future(anext(events))
    finally:
        for task in (gone, event):
            task.cancel()
        await asyncio.gather(gone, event, return_exceptions=True)
