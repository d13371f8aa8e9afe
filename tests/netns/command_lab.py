"""The command `vmib` on a lab of two hosts, for tests: processes, files, and what agents count."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from vmib_manager import cli, lab, lab_spec
from vmib_manager.lab_spec import LabPaths

VMIB = str(Path(sys.executable).with_name("vmib"))
# Several runs at once do not meet.
_NUMBER = os.getpid() % 120
NAME = f"command{os.getpid()}"
NETWORK = f"127.21.{_NUMBER}"
"""Where the agents are, from .1 on."""
RELAYS = f"127.21.{_NUMBER + 120}"
"""The same for relays."""
HOSTS = ("h1", "h2")
REAL = f"""<real xmlns="urn:vmib:1">
  <host id="h1" hypervisor="netns">
    <agent address="{NETWORK}.1" port="1161" user="vmib"/>
    <pif name="eth0" speed="1Gbit"/>
    <machine name="alice"><vif mac="02:76:6d:21:07:01"/></machine>
    <machine name="bob"><vif mac="02:76:6d:21:07:02"/></machine>
  </host>
  <host id="h2" hypervisor="netns">
    <agent address="{NETWORK}.2" port="1161" user="vmib"/>
    <pif name="eth0" speed="1Gbit"/>
    <machine name="carol"><vif mac="02:76:6d:21:07:03"/></machine>
  </host>
  <switch id="sw"/>
  <cable a="h1" b="sw" capacity="1Gbit"/>
  <cable a="h2" b="sw" capacity="1Gbit"/>
</real>
"""
VIRTUAL = """<virtual xmlns="urn:vmib:1">
  <site id="lan" subnet="10.7.0.0/24">
    <member machine="alice" address="10.7.0.1"><down rate="{rate}"/></member>
    <member machine="bob" address="10.7.0.2"/>
    <member machine="carol" address="10.7.0.3"><down rate="{rate}"/></member>
  </site>
</virtual>
"""
ALICE = "vif1.0"
"""The host end of alice on h1."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


def forked(words: Sequence[str], directory: Path, environment: Mapping[str, str]) -> Done:
    """A process that is what `vmib` is, without the time that it takes to load its modules."""
    with TemporaryFile() as out, TemporaryFile() as err:
        pid = os.fork()
        if not pid:
            status = 99
            try:
                os.chdir(directory)
                for number, file in (1, out), (2, err):
                    os.dup2(file.fileno(), number)
                sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
                os.environ.clear()
                os.environ.update(environment)
                sys.argv = ["vmib", *words]
                status = cli.main()
                sys.stderr.flush()
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(status)
        _, waited = os.waitpid(pid, 0)
        out.seek(0)
        err.seek(0)
        return Done(os.waitstatus_to_exitcode(waited), out.read().decode(), err.read().decode())


class Net:
    """A lab of two hosts, and its files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.paths: LabPaths = lab_spec.paths(NAME)
        (directory / "real.xml").write_text(REAL)
        for rate in ("10Mbit", "20Mbit"):
            (directory / f"{rate}.xml").write_text(VIRTUAL.format(rate=rate))
        self.environment = {
            key: value
            for key, value in os.environ.items()
            if key not in ("VMIB_CREDENTIALS", "NO_COLOR", "COLUMNS")
        }

    def vmib(self, *words: str, **environment: str) -> Done:
        """Run the command in the directory of the files."""
        return forked(words, self.directory, self.environment | environment)

    def installed(self, *words: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        """Run the command as it is installed, to see that this is the same."""
        settings = {"stdout": subprocess.PIPE, "text": True} | settings
        return subprocess.run(
            [VMIB, *words],
            cwd=self.directory,
            env=self.environment,
            stderr=subprocess.PIPE,
            check=False,
            **settings,
        )

    def as_described(self, rate: str = "10Mbit") -> None:
        """Make the hosts as a file describes."""
        done = self.vmib("apply", "real.xml", f"{rate}.xml")
        assert done.status == 0, done

    def inside(self, host: str, *words: str) -> str:
        return subprocess.run(
            lab.command(NAME, host, words), capture_output=True, text=True, check=True
        ).stdout

    def rate(self, device: str = ALICE, host: str = "h1") -> int:
        """kbit/s of the TBF at the root of a device as tc tells it, 0 without one."""
        qdiscs: list[dict[str, Any]] = json.loads(
            self.inside(host, "tc", "-j", "qdisc", "show", "dev", device)
        )
        return sum(q["options"]["rate"] * 8 // 1000 for q in qdiscs if q["kind"] == "tbf")

    def rates(self) -> list[int]:
        return [self.rate(), self.rate(host="h2")]

    def pid(self, host: str) -> int:
        found = next(each for each in lab.status(NAME).hosts if each.id == host)
        assert found.agent.pid is not None
        return found.agent.pid

    def configuration(self, host: str) -> Path:
        return lab_spec.host_paths(NAME, host).config

    def counters(self) -> list[list[str]]:
        """What every SET of a manager changes, of each host, as snmpget tells it."""
        names = ("vmibTxnSpinLock.0", "vmibTxnGeneration.0", "vmibTxnLastChange.0")
        return [self.snmp("snmpget", host, *names) for host in HOSTS]

    def state(self, host: str, transaction: int) -> str:
        """The state of a transaction, as snmpget tells it."""
        (state,) = self.snmp("snmpget", host, f"vmibTxnState.{transaction}")
        return state

    def states(self, host: str) -> set[str]:
        """The states of all transactions, as snmpwalk tells them."""
        return set(self.snmp("snmpwalk", host, "vmibTxnState"))

    def snmp(self, tool: str, host: str, *names: str) -> list[str]:
        address = f"{NETWORK}.{HOSTS.index(host) + 1}:1161"
        scoped = [f"VMIB-MIB::{name}" if name.startswith("vmib") else name for name in names]
        done = subprocess.run(
            [tool, "-OqvU", address, *scoped],
            env=self.environment | {"SNMPCONFPATH": str(self.paths.snmp)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    @contextmanager
    def silent(self, host: str) -> Iterator[None]:
        """A host whose agent is stopped, and goes on at the end."""
        pid = self.pid(host)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


class Relay:
    """UDP between the command and an agent, slow or lossy; `delay` in seconds."""

    def __init__(self, address: str, agent: str, delay: float) -> None:
        self.lost = False
        self._delay = delay
        self._outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._outside.bind((address, 1161))
        self._inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._inside.connect((agent, 1161))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._outside.close()
        self._inside.close()

    def _run(self) -> None:
        peer = None
        while not self._stop.is_set():
            ready, _, _ = select.select([self._outside, self._inside], [], [], 0.1)
            for sock in ready:
                octets, sender = sock.recvfrom(65535)
                if self.lost:
                    continue
                if sock is self._outside:
                    peer = sender
                    time.sleep(self._delay)
                    self._inside.send(octets)
                elif peer is not None:
                    self._outside.sendto(octets, peer)


@contextmanager
def relayed(net: Net, delay: float) -> Iterator[tuple[Relay, ...]]:
    """A real file by which agents are asked through relays."""
    (net.directory / "relayed.xml").write_text(REAL.replace(NETWORK, RELAYS))
    with (
        Relay(f"{RELAYS}.1", f"{NETWORK}.1", delay) as one,
        Relay(f"{RELAYS}.2", f"{NETWORK}.2", delay) as two,
    ):
        yield one, two
