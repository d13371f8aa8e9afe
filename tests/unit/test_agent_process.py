"""What surrounds the front end: the log, rate limits, memories of outcomes, systemd."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import pytest

from vmib_agent import systemd
from vmib_agent.logs import RateLimit, configure, event, info, log, together
from vmib_agent.recent import Recent
from vmib_agent.systemd import NotASocket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_name_cannot_forge_a_line_or_steer_a_terminal() -> None:
    line = event("vm", name='a\nlevel=error event="x" \x1b[31m\u202e\\n')
    assert line.isprintable()
    assert line == r'event=vm name="a\nlevel=error event=\"x\" \x1b[31m\u202e\\n"'


def test_lines_carry_the_journals_priority(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:2")
    configure("info")
    log.debug("hidden")
    log.warning(event("careful"))
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        log.exception("failed")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "<4>level=warning event=careful"
    assert all(line.startswith("<3>") for line in lines[1:])
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)


def test_lines_that_belong_together_are_written_in_order(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("info")
    with together:
        info("first")
        assert capsys.readouterr().err == ""
        log.warning("second")
        assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == [
            "first",
            "second",
        ]
        info("third")
        info("fourth")
    info("fifth")
    words = [line.split()[-1] for line in capsys.readouterr().err.splitlines()]
    assert words == ["third", "fourth", "fifth"]
    log.handlers.clear()
    log.propagate = True
    log.setLevel(logging.NOTSET)


def test_a_flood_is_counted_not_logged() -> None:
    clock = Clock()
    limit = RateLimit(burst=2, period=60, clock=clock)
    assert [limit.suppressed_before("x") for _ in range(5)] == [0, 0, None, None, None]
    assert limit.suppressed_before("y") == 0
    clock.now = 60
    assert [limit.suppressed_before("x") for _ in range(3)] == [3, 0, None]


def test_outcomes_are_remembered_for_their_time_and_within_bounds() -> None:
    clock = Clock()
    recent: Recent[int] = Recent(30, clock, capacity=3)
    recent.remember(b"a", 1)
    recent.remember(b"a", 2)
    assert recent.find(b"a") == 1
    clock.now = 30
    assert recent.find(b"a") is None
    for number in range(4):
        recent.remember(bytes([number]), number)
    assert [recent.find(bytes([number])) for number in range(4)] == [None, 1, 2, 3]


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        systemd.notify("READY=1", "STATUS=fine", environment={"NOTIFY_SOCKET": path})
        assert manager.recv(100) == b"READY=1\nSTATUS=fine"
    systemd.notify("READY=1", environment={"NOTIFY_SOCKET": path})
    systemd.notify("READY=1", environment={})


def test_a_reload_is_told_when_it_begins_and_when_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        with systemd.reloading():
            begun, when = manager.recv(100).decode().split("\n")
            assert begun == "RELOADING=1"
            assert when.startswith("MONOTONIC_USEC=")
        assert manager.recv(100) == b"READY=1"


def test_the_watchdog_is_fed_twice_as_often_as_it_bites() -> None:
    assert systemd.watchdog_seconds({"WATCHDOG_USEC": "30000000"}) == 15
    assert systemd.watchdog_seconds({}) is None
    elsewhere = {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}
    assert systemd.watchdog_seconds(elsewhere) is None


def test_sockets_for_another_process_are_not_taken() -> None:
    environment = {"LISTEN_PID": str(os.getpid() + 1), "LISTEN_FDS": "1"}
    assert systemd.inherited_sockets(environment) == []
    assert environment == {}


def test_a_descriptor_that_is_no_udp_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (socket.SOCK_STREAM, None):
        if kind is None:
            fd = os.open("/dev/null", os.O_RDONLY)
        else:
            fd = socket.socket(socket.AF_INET, kind).detach()
        monkeypatch.setattr(systemd, "FIRST_FD", fd)
        environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
        with pytest.raises(NotASocket, match=f"descriptor {fd}"):
            systemd.inherited_sockets(environment)
