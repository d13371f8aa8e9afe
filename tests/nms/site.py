"""What every management station watches in these tests: a running lab of two hosts on loopback.

Agents are asked by a user who may only read, as a station should; changes are made with `vmib`,
with net-snmp's tools, or behind the agents' back.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vmib_manager import credentials_file, lab, lab_spec
from vmib_manager.credentials_file import Entry

BIN = Path(sys.executable).parent
# Several runs at once do not meet.
NAME = f"nms{os.getpid()}"
NETWORK = f"127.37.{os.getpid() % 250}"
"""Agents are at .1 and .2 of it; from .10 on it is free for the servers of a station."""
HOSTS = ("h1", "h2")
PORT = 1161
READER = "monitor"
"""The user who may read."""
REAL = f"""<real xmlns="urn:vmib:1">
  <host id="h1" hypervisor="netns">
    <agent address="{NETWORK}.1" port="{PORT}" user="vmib"/>
    <pif name="eth0" speed="1Gbit"/>
    <machine name="alice"><vif mac="02:76:6d:37:00:01"/></machine>
    <machine name="bob"><vif mac="02:76:6d:37:00:02"/></machine>
  </host>
  <host id="h2" hypervisor="netns">
    <agent address="{NETWORK}.2" port="{PORT}" user="vmib"/>
    <pif name="eth0" speed="1Gbit"/>
    <machine name="carol"><vif mac="02:76:6d:37:00:03"/></machine>
  </host>
  <switch id="sw"/>
  <cable a="h1" b="sw" capacity="1Gbit"/>
  <cable a="h2" b="sw" capacity="1Gbit"/>
</real>
"""
VIRTUAL = """<virtual xmlns="urn:vmib:1">
  <site id="lan" subnet="10.37.0.0/24">
    <member machine="alice" address="10.37.0.1"><up rate="20Mbit"/></member>
    <member machine="bob" address="10.37.0.2"><down rate="10Mbit"/></member>
    <member machine="carol" address="10.37.0.3"><down rate="10Mbit"/></member>
  </site>
  <link a="alice" b="bob" rate="5Mbit"/>
</virtual>
"""
ADDRESSES = {"alice": "10.37.0.1", "bob": "10.37.0.2", "carol": "10.37.0.3"}
DEVICES = {"alice": "vif1.0", "bob": "vif2.0", "carol": "vif1.0"}
"""The host's ends of the machines' interfaces."""
SOURCE = """
import socket, sys, time
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
made.connect((sys.argv[1], 9))
size, rate, until = 1400, float(sys.argv[2]), time.monotonic() + float(sys.argv[3])
sent = time.monotonic()
while sent < until:
    try:
        made.send(bytes(size))
    except OSError:
        pass
    sent += (size + 42) * 8 / rate
    time.sleep(max(0, sent - time.monotonic()))
"""
"""Sends datagrams at so many bit/s of layer 2 for so many seconds."""


def eventually(condition: Callable[[], object], seconds: float = 20) -> bool:
    """Whether a condition comes true in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def said(headline: str, lines: str | Sequence[str]) -> None:
    """Print what a server itself reports, for who runs this by hand."""
    text = lines if isinstance(lines, str) else "\n".join(lines)
    print(f"\n--- {headline}\n{text}")


class Site:
    """A lab that is up, and configured as `VIRTUAL` says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.paths = lab_spec.paths(NAME)
        self.reader = Entry(secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        self.credentials = directory / "credentials.toml"
        """The file of the reader's pass phrases, for check_vmib and the manager."""
        credentials_file.save(self.credentials, {READER: self.reader})
        (directory / "real.xml").write_text(REAL)
        (directory / "virtual.xml").write_text(VIRTUAL)

    @staticmethod
    def address(host: str) -> str:
        """Where the agent of a host is, at `PORT`."""
        return f"{NETWORK}.{HOSTS.index(host) + 1}"

    def up(self) -> None:
        """Make the lab, let the reader in, and configure it."""
        self.vmib("lab", "up", "real.xml", "--name", NAME)
        for host in HOSTS:
            config = str(lab_spec.host_paths(NAME, host).config)
            words = ["user", "add", READER, "--role", "read"]
            subprocess.run(
                [BIN / "vmib-agent", *words, "--config", config, "--passphrase-file", "-"],
                input=f"{self.reader.auth}\n{self.reader.priv}\n",
                text=True,
                check=True,
                stdout=subprocess.DEVNULL,
            )
            os.kill(self.pid(host), signal.SIGHUP)
        self.as_described()

    def down(self) -> None:
        """Remove it."""
        self.vmib("lab", "down", "--name", NAME)

    def vmib(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the command in the directory of `real.xml` and `virtual.xml`."""
        done = subprocess.run(
            [BIN / "vmib", *words], cwd=self.directory, capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def as_described(self) -> None:
        """Make everything as the files say, also what somebody has changed."""
        self.vmib("apply", "real.xml", "virtual.xml")

    def inside(self, member: str, *words: str) -> str:
        """What a command prints that runs in a host or machine."""
        line = lab.command(NAME, member, words)
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    def drift(self, machine: str = "bob", host: str = "h1") -> None:
        """Take the shaping towards a machine away, behind the agent's back."""
        self.inside(host, "tc", "qdisc", "del", "dev", DEVICES[machine], "root")

    @contextmanager
    def traffic(
        self, source: str, destination: str, rate: float, seconds: float
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Datagrams between machines, at `rate` bit/s of layer 2, until the block ends."""
        words = [sys.executable, "-c", SOURCE, ADDRESSES[destination], str(rate), str(seconds)]
        process = subprocess.Popen(lab.command(NAME, source, words))
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def snmp(self, tool: str, host: str, *words: str) -> list[str]:
        """The lines that a tool of net-snmp prints; who asks may write. Names are VMIB-MIB's."""
        scoped = [f"VMIB-MIB::{word}" if word.startswith("vmib") else word for word in words]
        done = subprocess.run(
            [tool, "-OQsU", f"{self.address(host)}:{PORT}", *scoped],
            env=os.environ | {"SNMPCONFPATH": str(self.paths.snmp)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    def probe(self, machine: str, target: str, host: str = "h1") -> str:
        """Let an agent probe every second; the index of the row in vmibProbeTable."""
        (line,) = self.snmp("snmpwalk", host, f'vmibVifLookupVmIndex."{machine}"')
        row = f"{line.split()[-1]}.1.ipv4.4.{target}"
        cells = {"Interval": ("u", "1"), "Count": ("u", "2"), "RowStatus": ("i", "createAndGo")}
        words = [f"vmibProbe{n}.{row} {kind} {v}".split() for n, (kind, v) in cells.items()]
        self.snmp("snmpset", host, *(word for each in words for word in each))
        return row

    def value(self, host: str, name: str) -> str:
        """The value of one instance."""
        (line,) = self.snmp("snmpget", host, name)
        return line.partition(" = ")[2]

    def pid(self, host: str) -> int:
        """The process of a host's agent."""
        found = next(each for each in lab.status(NAME).hosts if each.id == host)
        assert found.agent.pid is not None
        return found.agent.pid

    @contextmanager
    def silent(self, host: str) -> Iterator[None]:
        """A host whose agent is stopped, and goes on at the end."""
        pid = self.pid(host)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def running(directory: Path) -> Iterator[Site]:
    """A site that is up, and goes at the end."""
    made = Site(directory)
    try:
        made.up()
        yield made
    finally:
        made.down()


@contextmanager
def server(
    words: Sequence[str | Path], log: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server of a station: a process of its own that is ended at the end."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=os.environ | environment,
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()
