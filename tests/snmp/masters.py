"""A real snmpd as AgentX master, and net-snmp's tools to ask it; everything in one directory.

It can be killed and started again; its users and their keys stay.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PASSPHRASES = ("auth pass phrase", "priv pass phrase")
START_SECONDS = 10.0
USERS = ("admin", "read", "vmib-admin", "vmib-shape", "vmib-read")

CONFIGURATION = """\
agentaddress {address}
master agentx
agentXSocket {socket}
agentXPerms 0700 0700
agentXTimeout {timeout}
agentXRetries 1
rwuser admin priv .1
rouser read priv .1
{more}
"""


@dataclass
class Master:
    """snmpd in the network namespace `inside`, with `USERS`: `admin` may do everything, `read` read
    everything, the others nothing unless `more` says so.

    `more` are lines of configuration, `also` further addresses to listen on.
    """

    directory: Path
    port: int
    inside: str = ""
    timeout: int = 5
    more: str = ""
    also: str = ""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        persistent = self.directory / "persistent"
        persistent.mkdir(mode=0o700)
        users = "".join(
            f'createUser {name} SHA-256 "{PASSPHRASES[0]}" AES "{PASSPHRASES[1]}"\n'
            for name in USERS
        )
        (persistent / "snmpd.conf").write_text(users)
        for name in USERS:
            home = self.directory / name
            home.mkdir()
            (home / "snmp.conf").write_text(
                f"defVersion 3\ndefSecurityName {name}\ndefSecurityLevel authPriv\n"
                "defAuthType SHA-256\ndefPrivType AES\n"
                f'defAuthPassphrase "{PASSPHRASES[0]}"\ndefPrivPassphrase "{PASSPHRASES[1]}"\n'
            )

    @property
    def socket(self) -> str:
        """Where it is an AgentX master."""
        return str(self.directory / "agentx")

    @property
    def log(self) -> str:
        """What snmpd has said since it was started."""
        return (self.directory / "log").read_text()

    def _prefix(self) -> list[str]:
        return ["ip", "netns", "exec", self.inside] if self.inside else []

    def start(self) -> None:
        """Start it and wait until it listens."""
        text = CONFIGURATION.format(
            address=f"udp:127.0.0.1:{self.port}" + self.also,
            socket=self.socket,
            timeout=self.timeout,
            more=self.more,
        )
        file = self.directory / "agent.conf"
        file.write_text(text)
        log = self.directory / "log"
        log.unlink(missing_ok=True)
        persistent = str(self.directory / "persistent")
        environment = {"SNMP_PERSISTENT_DIR": persistent, "SNMPCONFPATH": persistent, "MIBS": ""}
        files = f"{file},{persistent}/snmpd.conf"
        command = [*self._prefix(), "snmpd", "-f", "-r", "-C", "-c", files]
        self.process = subprocess.Popen([*command, "-Lf", str(log)], env=os.environ | environment)
        deadline = time.monotonic() + START_SECONDS
        while "NET-SNMP version" not in (log.read_text() if log.exists() else ""):
            assert self.process.poll() is None, f"snmpd ended: {log.read_text()}"
            assert time.monotonic() < deadline, f"snmpd did not start in {START_SECONDS:g} s"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def tool(
        self,
        program: str,
        *arguments: str,
        user: str = "admin",
        options: Sequence[str] = ("-On",),
        seconds: int = 8,
        port: int = 0,
        where: str = "",
    ) -> str:
        """What a tool of net-snmp prints, also where it fails; secrets stay in a file."""
        where = where or f"127.0.0.1:{port or self.port}"
        command = [*self._prefix(), program, *options, "-r", "0", "-t", str(seconds), where]
        environment = os.environ | {"SNMPCONFPATH": str(self.directory / user), "MIBS": ""}
        done = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr
