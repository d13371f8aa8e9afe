"""`vmib watch` on a lab of two hosts: what happens is told as it happens, drawn or in lines."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from pathlib import Path
from typing import Any

import pytest

from .command_lab import ALICE, NAME, NETWORK, REAL, VIRTUAL, VMIB, Net, eventually

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

QUICK = ("--interval", "0.5", "--timeout", "1")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    net = Net(tmp_path_factory.mktemp("watch"))
    try:
        up = net.installed("lab", "up", "real.xml", "--name", NAME)
        assert up.returncode == 0, up.stderr
        yield net
    finally:
        down = net.installed("lab", "down", "--name", NAME)
        assert down.returncode == 0, down.stderr


@pytest.fixture
def net(made: Net) -> Net:
    """The lab with 10 Mbit/s towards alice and carol."""
    made.vmib("abort", "real.xml")
    made.as_described()
    return made


class Lines:
    """What a command that goes on prints, line by line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait(self, *patterns: str, seconds: float = 15) -> list[str]:
        """The first line with each of these, in any order; they and all before them are taken."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            lines = list(self.lines)
            found = [
                next((n for n, line in enumerate(lines) if re.search(pattern, line)), None)
                for pattern in patterns
            ]
            places = [n for n in found if n is not None]
            if len(places) == len(patterns):
                del self.lines[: max(places) + 1]
                return [lines[n] for n in places]
            time.sleep(0.05)
        raise AssertionError(f"not all of {patterns} in {seconds} s, but {self.lines}")

    def end(self, by: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Exit status and standard error after a signal."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        status = self.process.wait(15)
        self._thread.join(5)
        assert self.process.stderr is not None
        return status, self.process.stderr.read()


@contextmanager
def watching(net: Net, *words: str) -> Iterator[Lines]:
    """`vmib watch` with its lines, once it has told how all is."""
    process = subprocess.Popen(
        [VMIB, "watch", "real.xml", "10Mbit.xml", *QUICK, *words],
        cwd=net.directory,
        env=net.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines = Lines(process)
    try:
        yield lines
    finally:
        if process.poll() is None:
            lines.end(signal.SIGKILL)


def test_what_managers_and_strangers_do_is_told_as_it_happens(net: Net) -> None:
    with watching(net) as lines:
        lines.wait(r"2 of 2 hosts answer  as described, and in sync$")
        assert net.vmib("apply", "real.xml", "20Mbit.xml").status == 0
        told = "rate 10Mbit → 20Mbit by vmib$"
        lines.wait(
            f"h1  shape alice:0 receives  {told}",
            f"h2  shape carol:0 receives  {told}",
            "h1  configuration  1 row not as described$",
            "h2  configuration  1 row not as described$",
        )
        net.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "10000")
        lines.wait(
            "h1  shape alice:0 receives  rate 20Mbit → 10Mbit by vmib$",
            "h1  configuration  as described$",
        )
        (root,) = json.loads(net.inside("h1", "tc", "-j", "qdisc", "show", "dev", ALICE))[:1]
        words = ("tc", "qdisc", "change", "dev", ALICE, "root", "handle", root["handle"], "tbf")
        net.inside("h1", *words, "rate", "5mbit", "burst", "5000", "limit", "20000")
        lines.wait(r"h1  shape alice:0 receives  drifted: rate 10Mbit, reads back 5Mbit: ")
        net.as_described()
        lines.wait(r"h1  shape alice:0 receives  in sync again$")
        assert lines.end() == (130, "vmib: interrupted\n")


def test_a_host_that_is_lost_is_told_and_so_is_its_return(net: Net) -> None:
    with watching(net) as lines:
        lines.wait("2 of 2 hosts answer")
        with net.silent("h2"):
            lines.wait(r"h2  unreachable: agent [\d.]+:1161: no answer to 5 requests in 1 s")
            net.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "7000")
            lines.wait(r"h1  shape alice:0 receives  rate 10Mbit → 7Mbit", seconds=2)
        lines.wait(r"h2  answers again$")
        os.kill(net.pid("h2"), signal.SIGKILL)
        lines.wait(r"h2  unreachable")
        assert net.vmib("lab", "up", "real.xml", "--name", NAME).status == 0
        lines.wait(r"h2  answers again$")
        assert lines.end(signal.SIGTERM) == (130, "vmib: interrupted\n")


def test_a_machine_that_is_switched_off_and_on_is_told(net: Net) -> None:
    with watching(net) as lines:
        lines.wait("2 of 2 hosts answer")
        subprocess.run(["ip", "netns", "del", f"vmib-{NAME}-bob"], check=True)
        lines.wait(r"h1  machine bob  not running: its rows wait for it$")
        assert net.vmib("lab", "up", "real.xml", "--name", NAME).status == 0
        lines.wait(r"h1  machine bob  runs$")


def test_a_commit_that_waits_is_told_and_so_is_its_end(net: Net) -> None:
    with watching(net, "--json") as lines:
        first = json.loads(*lines.wait("watching"))
        assert (first["schema"], first["severity"]) == ("vmib.happening/1", None)
        assert net.vmib("apply", "real.xml", "20Mbit.xml", "--no-confirm").status == 0
        begins = json.loads(*lines.wait('"h1".* awaits confirmation'))
        assert (begins["what"], begins["host"], begins["severity"]) == ("begins", "h1", "warning")
        assert begins["text"] == "of vmib (vmib apply) awaits confirmation"
        assert net.vmib("abort", "real.xml").status == 0
        over = json.loads(*lines.wait('"h1".*is over'))
        assert over["subject"] == begins["subject"]


def test_files_are_read_anew_when_they_change(net: Net) -> None:
    file = net.directory / "10Mbit.xml"
    before = file.read_text()
    try:
        with watching(net) as lines:
            lines.wait("as described, and in sync")
            file.write_text(before.replace("10Mbit", "20Mbit"))
            lines.wait(r"10Mbit.xml  is read anew$")
            lines.wait("h1  configuration  1 row not as described$")
            file.write_text(before.replace("alice", "nobody"))
            lines.wait(r"10Mbit.xml  is not read anew: .*10Mbit.xml:\d+: .*nobody.* holds$")
            file.unlink()
            lines.wait(r"10Mbit.xml  is not read anew: .*10Mbit.xml.* holds$")
            file.write_text(before)
            lines.wait("10Mbit.xml  is read anew$")
            lines.wait("h1  configuration  as described$")
            (net.directory / "real.xml").write_text(REAL.replace(f"{NETWORK}.2", f"{NETWORK}.3"))
            lines.wait("10Mbit.xml  is not read anew: there are other hosts or agents; ")
    finally:
        file.write_text(before)
        (net.directory / "real.xml").write_text(REAL)


def test_a_reader_who_has_seen_enough_ends_it(net: Net) -> None:
    with watching(net) as lines:
        lines.wait("2 of 2 hosts answer")
        process = lines.process
        reader, writer = os.pipe()
        quiet = subprocess.Popen(
            [VMIB, "watch", "real.xml", "10Mbit.xml", *QUICK],
            cwd=net.directory,
            env=net.environment,
            stdout=writer,
            stderr=subprocess.PIPE,
        )
        os.close(writer)
        assert os.read(reader, 4096)
        os.close(reader)
        net.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "3000")
        lines.wait("rate 10Mbit → 3Mbit")
        assert process.poll() is None
        assert quiet.communicate(timeout=15)[1] == b""
        assert quiet.returncode == 0


def test_files_that_are_wrong_and_credentials_that_are_missing_are_told(net: Net) -> None:
    for word in ("watch", "serve"):
        wrong = net.vmib(word, "real.xml", "real.xml")
        assert wrong.status == 1
        assert wrong.err.startswith("real.xml:1: ")
        (net.directory / "nobody.xml").write_text(
            VIRTUAL.format(rate="1Mbit").replace("alice", "nobody")
        )
        unknown = net.vmib(word, "real.xml", "nobody.xml")
        assert (unknown.status, unknown.err) == (1, "")
        assert "nobody.xml:3: error: " in unknown.out
        lost = net.vmib(word, "real.xml", "10Mbit.xml", "--credentials", "none.toml")
        assert (lost.status, lost.out) == (1, "")
        assert "none.toml: no such file" in lost.err


class Terminal:
    """`vmib watch` on a terminal of a size; `seen` is everything that it wrote."""

    def __init__(self, net: Net, columns: int, rows: int) -> None:
        self.leader, self._inner = pty.openpty()
        ioctl(self.leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.before = termios.tcgetattr(self._inner)
        self.seen = b""
        self.process = subprocess.Popen(
            [VMIB, "watch", "real.xml", "10Mbit.xml", *QUICK],
            cwd=net.directory,
            env=net.environment | {"TERM": "xterm", "LANG": "C.UTF-8"},
            stdin=self._inner,
            stdout=self._inner,
            stderr=self._inner,
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):
            while octets := os.read(self.leader, 65536):
                self.seen += octets

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._inner)

    def shown(self) -> list[str]:
        """The lines of the last screen that was drawn, without colours."""
        last = self.seen.decode(errors="replace").rpartition("\x1b[H")[2]
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\r", "", last).split("\n")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._inner)
        self._thread.join(5)
        os.close(self.leader)


@pytest.fixture
def terminal(net: Net) -> Iterator[Terminal]:
    found = Terminal(net, 100, 30)
    try:
        assert eventually(lambda: "Hosts" in found.shown())
        yield found
    finally:
        found.close()


def test_on_a_terminal_the_network_is_drawn_in_place(net: Net, terminal: Terminal) -> None:
    assert terminal.seen.startswith(b"\x1b[?1049h\x1b[?25l")
    assert terminal.modes != terminal.before
    lines = terminal.shown()
    assert lines[1] == "✓ as described, and in sync"
    assert any(re.match(r" +alice:0 receives +10Mbit +10Mbit +0 ", line) for line in lines)
    net.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "4000")
    told = re.compile(r"! +alice:0 receives +4Mbit \(described: 10Mbit\) +4Mbit ")
    assert eventually(lambda: any(map(told.match, terminal.shown())))
    words = ("ping", "-q", "-i", "0.002", "-w", "6", "-s", "1400", "10.7.0.1")
    pinging = subprocess.Popen(
        [VMIB, "lab", "exec", "--name", NAME, "carol", "--", *words], stdout=subprocess.DEVNULL
    )
    busy = re.compile(r"! +alice:0 receives .* [1-9][\d.]*Mbit  █")
    assert eventually(lambda: any(map(busy.match, terminal.shown())))
    pinging.wait(15)


def test_a_terminal_of_another_size_is_drawn_anew_at_once(terminal: Terminal) -> None:
    ioctl(terminal.leader, termios.TIOCSWINSZ, struct.pack("HHHH", 9, 50, 0, 0))
    terminal.process.send_signal(signal.SIGWINCH)
    assert eventually(lambda: len(terminal.shown()) <= 9 and max(map(len, terminal.shown())) <= 50)


@pytest.mark.parametrize(("how", "status"), [("q", 0), ("\x03", 130), ("TERM", 130)])
def test_the_terminal_is_as_before_however_it_ends(
    terminal: Terminal, how: str, status: int
) -> None:
    if how == "TERM":
        terminal.process.terminate()
    elif how == "\x03":
        os.killpg(terminal.process.pid, signal.SIGINT)
    else:
        os.write(terminal.leader, how.encode())
    assert terminal.process.wait(15) == status
    assert terminal.modes == terminal.before
    assert eventually(lambda: b"\x1b[?25h\x1b[?1049l" in terminal.seen)
    assert b"Traceback" not in terminal.seen


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(terminal: Terminal) -> None:
    terminal.process.send_signal(signal.SIGTSTP)
    stat = Path(f"/proc/{terminal.process.pid}/stat")
    assert eventually(lambda: stat.read_text().split(") ")[1].startswith("T"))
    assert terminal.modes == terminal.before
    assert eventually(lambda: terminal.seen.endswith(b"\x1b[?25h\x1b[?1049l"))
    terminal.process.send_signal(signal.SIGCONT)
    assert eventually(lambda: terminal.modes != terminal.before)
    assert eventually(lambda: terminal.seen.count(b"\x1b[?1049h") == 2)
    assert eventually(lambda: "Hosts" in terminal.shown())
