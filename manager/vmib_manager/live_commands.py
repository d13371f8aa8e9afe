"""The words of `vmib` that go on until they are ended: `watch` and `serve`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import NoReturn

from vmib.errors import VmibError

from . import checks, commands, terminal
from .compile import HostRows
from .credentials_file import credentials_for, default_path
from .description import load
from .exit_status import ExitStatus
from .findings import Severity
from .http_server import Server
from .lab import serving
from .manager import AsyncManager
from .model import Model, Real
from .network_document import happening
from .serve_site import NetworkSite
from .terminal_screen import TerminalScreen
from .visible import visible
from .watch_text import happening_line, screen
from .watcher import Watcher

Show = Callable[[argparse.Namespace, Watcher], Awaitable[None]]


class NotServed(VmibError):
    """An address that cannot be served, or that is not served without being told so."""


class NotFollowed(VmibError):
    """Files that have changed so that they cannot be followed."""


_FILES_EVERY = 1.0
"""Seconds between two looks at the files."""


def watch(options: argparse.Namespace) -> ExitStatus:
    """Show the network in the terminal, or print what happens."""
    on_screen = sys.stdout.isatty() and not options.lines
    return _live(options, _on_screen if on_screen else _in_lines)


def serve(options: argparse.Namespace) -> ExitStatus:
    """Show the network as a page."""
    address, _ = options.listen
    if not ip_address(address).is_loopback:
        everybody = "everybody who reaches it can read the network, without password or encryption"
        if not options.allow_remote:
            raise NotServed(f"{address} is no loopback address: {everybody}; see --allow-remote")
        print(f"vmib: {address}: {everybody}", file=sys.stderr)
    return _live(options, _as_page)


def _live(options: argparse.Namespace, show: Show) -> ExitStatus:
    model = load(options.real, options.virtual)
    wanted = checks.examine(model).rows
    if wanted is None:
        return commands.say_findings(options, model)
    path = default_path(options.credentials, serving(model.real))
    credentials = credentials_for(model.real, path)

    async def run() -> None:
        async with AsyncManager(model.real, credentials, timeout=options.timeout) as manager:
            watcher = Watcher(manager, model, wanted, options.interval)
            tasks = {
                asyncio.ensure_future(watcher.run()),
                asyncio.ensure_future(_follow_files(options, model.real, watcher)),
                asyncio.ensure_future(show(options, watcher)),
            }
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            for task in done:
                task.result()

    asyncio.run(run())
    return ExitStatus.DONE


async def _follow_files(options: argparse.Namespace, real: Real, watcher: Watcher) -> NoReturn:
    """Read the files again when they change."""
    files = options.real, options.virtual
    before = [_stamp(file) for file in files]
    while True:
        await asyncio.sleep(_FILES_EVERY)
        now = [_stamp(file) for file in files]
        if now == before:
            continue
        before = now
        try:
            watcher.describe(*_read_again(options, real))
        except VmibError as error:
            watcher.refuse(error)


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """What is another for another content; None where there is no file."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _read_again(options: argparse.Namespace, real: Real) -> tuple[Model, HostRows]:
    model = load(options.real, options.virtual)
    agents = [{host.id: host.agent for host in each.hosts} for each in (real, model.real)]
    if agents[0] != agents[1]:
        raise NotFollowed("there are other hosts or agents; end this and begin again")
    examined = checks.examine(model)
    if examined.rows is None:
        wrong = next(f for f in examined.findings if f.severity is Severity.ERROR)
        raise NotFollowed(str(wrong))
    return model, examined.rows


async def _on_screen(options: argparse.Namespace, watcher: Watcher) -> None:
    paint = terminal.painter(options.color, sys.stdout)
    agents = len(watcher.agents)
    waiting = f"Asking {agents} agent{'s' * (agents != 1)} …"
    with TerminalScreen() as screened:
        screened.show(lambda width, height: [waiting])
        ended = asyncio.ensure_future(screened.ended.wait())
        number = 0
        while not screened.ended.is_set():
            news = asyncio.ensure_future(watcher.after(number))
            await asyncio.wait((news, ended), return_when=asyncio.FIRST_COMPLETED)
            if not news.done():
                news.cancel()
                continue
            view, history = news.result(), watcher.history
            number = view.number
            screened.show(lambda width, height: screen(view, history, width, height, paint))  # noqa: B023


async def _in_lines(options: argparse.Namespace, watcher: Watcher) -> None:
    """A line for each thing that happens, as long as somebody reads them."""
    paint = terminal.painter(options.color, sys.stdout)
    number = told = 0
    read = True
    while read:
        number = (await watcher.after(number)).number
        found, told = watcher.happened(told)
        if options.lines:
            lines = [json.dumps(happening(each)) for each in found]
        else:
            lines = [happening_line(each, paint) for each in found]
        read = terminal.say(lines)


async def _as_page(options: argparse.Namespace, watcher: Watcher) -> None:
    address, wanted = options.listen
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        listener = socket.create_server((address, wanted), family=family)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        message = f"{address} port {wanted}: {reason}; choose another with --listen"
        raise NotServed(message) from None
    port = listener.getsockname()[1]
    site = NetworkSite(watcher, port, {"localhost", socket.gethostname().lower()})
    async with await Server(site).start(listener) as server:
        host = f"[{address}]" if ":" in address else address
        files = f"{options.virtual} on {options.real}"
        terminal.say([visible(f"http://{host}:{port}/ shows {files}; Ctrl-C ends it")])
        await server.serve_forever()
