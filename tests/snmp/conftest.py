"""A real snmpd on a loopback port, with users of its own, for tests of anything that asks it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_SECONDS = 10.0

CONFIGURATION = """\
agentaddress udp:127.0.0.1:{port},udp6:[::1]:{port}
rouser reader priv .1.3.6.1.2.1.1
rwuser writer priv .1
rocommunity {community} 127.0.0.1
"""

USERS = """\
createUser writer SHA-256 {auth} AES {priv}
createUser reader SHA-256 {auth} AES {priv}
"""

CLIENT = """\
defVersion 3
defSecurityName writer
defSecurityLevel authPriv
defAuthType SHA-256
defPrivType AES
defAuthPassphrase {auth}
defPrivPassphrase {priv}
"""


def _secret() -> str:
    return secrets.token_hex(12)


def free_port() -> int:
    """A UDP port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Snmpd:
    """A running snmpd: users `writer` (everything) and `reader` (system group), both authPriv."""

    directory: Path
    port: int = field(default_factory=free_port)
    auth: str = field(default_factory=_secret, repr=False)
    priv: str = field(default_factory=_secret, repr=False)
    community: str = field(default_factory=_secret, repr=False)
    address: str = "127.0.0.1"
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        persistent = self.directory / "persistent"
        persistent.mkdir(mode=0o700, parents=True)
        text = CONFIGURATION.format(port=self.port, community=self.community)
        (self.directory / "agent.conf").write_text(text)
        users = USERS.format(auth=self.auth, priv=self.priv)
        (persistent / "snmpd.conf").write_text(users)
        client = self.directory / "client"
        client.mkdir(mode=0o700)
        (client / "snmp.conf").write_text(CLIENT.format(auth=self.auth, priv=self.priv))

    def start(self) -> None:
        """Start it and wait until it answers; every start adds one to its boots."""
        log = self.directory / "log"
        log.unlink(missing_ok=True)
        command = ["snmpd", "-f", "-r", "-c", str(self.directory / "agent.conf")]
        persistent = str(self.directory / "persistent")
        environment = {"SNMP_PERSISTENT_DIR": persistent, "SNMPCONFPATH": persistent, "MIBS": ""}
        self._process = subprocess.Popen([*command, "-Lf", str(log)], env=os.environ | environment)
        deadline = time.monotonic() + START_SECONDS
        while "NET-SNMP version" not in (log.read_text() if log.exists() else ""):
            assert self._process.poll() is None, f"snmpd ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"snmpd did not start in {START_SECONDS:g} s"
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it, in order, so that it keeps its state."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Let it answer nothing until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def tool(self, name: str, *arguments: str) -> str:
        """What one of net-snmp's tools prints about this agent; secrets stay in a file."""
        command = [name, "-On", f"127.0.0.1:{self.port}", *arguments]
        environment = os.environ | {"SNMPCONFPATH": str(self.directory / "client"), "MIBS": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def make_snmpd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Snmpd]]:
    """Makes a started snmpd; all are stopped at the end."""
    if shutil.which("snmpd") is None:
        pytest.skip("needs snmpd (Debian package snmpd)")
    made: list[Snmpd] = []

    def make() -> Snmpd:
        made.append(Snmpd(tmp_path_factory.mktemp("snmpd")))
        made[-1].start()
        return made[-1]

    yield make
    for snmpd in made:
        snmpd.stop()


@pytest.fixture(scope="session")
def snmpd(make_snmpd: Callable[[], Snmpd]) -> Snmpd:
    """One snmpd for all tests that leave it as they found it."""
    return make_snmpd()
