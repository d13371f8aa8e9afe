"""A real snmptrapd on loopback, for traps and informs of one agent by SNMPv3 and SNMPv2c."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMUNITY = "ears"
TRAP_USER, INFORM_USER = "admin", "listener"
INFORM_PASSPHRASES = ("what is on the air", "what nobody hears")


def wait_for(found: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether a condition comes true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found():
            return True
        time.sleep(0.05)
    return False


@dataclass
class Trapd:
    """The daemon; its lines begin with the kind of the PDU and how it was secured."""

    directory: Path
    port: int
    engine_id: bytes
    passphrases: tuple[str, str]
    namespace: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What it has printed."""
        return self.directory / "log"

    @property
    def targets(self) -> str:
        """Targets of an agent's configuration: both kinds by both versions, at this daemon."""
        address = f'address = "127.0.0.1:{self.port}"'
        file = self.directory / "passphrases"
        by_user = f'user = "{INFORM_USER}", passphrase_file = "{file}"'
        return (
            "[notifications]\ntargets = [\n"
            f'  {{ {address}, community = "{COMMUNITY}" }},\n'
            f'  {{ {address}, user = "{TRAP_USER}" }},\n'
            f'  {{ {address}, inform = true, timeout = 1, community = "{COMMUNITY}" }},\n'
            f"  {{ {address}, inform = true, timeout = 1, {by_user} }},\n]\n"
        )

    def prepare(self) -> None:
        """Its configuration, and the file of pass phrases for the agent."""
        (self.directory / "persistent").mkdir(parents=True, exist_ok=True)
        secret = self.directory / "passphrases"
        secret.touch(mode=0o600)
        secret.write_text("\n".join(INFORM_PASSPHRASES) + "\n")
        file = self.directory / "snmptrapd.conf"
        file.touch(mode=0o600)

        def user(name: str, phrases: tuple[str, str], engine: str = "") -> str:
            return f'createUser {engine}{name} SHA-256 "{phrases[0]}" AES "{phrases[1]}"\n'

        file.write_text(
            user(TRAP_USER, self.passphrases, f"-e 0x{self.engine_id.hex()} ")
            + user(INFORM_USER, INFORM_PASSPHRASES)
            + f"authUser log {TRAP_USER} priv\nauthUser log {INFORM_USER} priv\n"
            f"authCommunity log {COMMUNITY}\nformat2 %s %P %v\\t\\n\nformat1 %v\\t\\n\n"
        )

    def start(self) -> None:
        """Start it and wait until it listens."""
        seen = self.log.read_text().count("NET-SNMP version") if self.log.exists() else 0
        environment = os.environ | {
            "SNMPCONFPATH": str(self.directory),
            "SNMP_PERSISTENT_DIR": str(self.directory / "persistent"),
        }
        inside = ["ip", "netns", "exec", self.namespace] if self.namespace else []
        command = ["snmptrapd", "-f", "-A", "-Lf", str(self.log), "-On", "-m", ""]
        self.process = subprocess.Popen(
            [*inside, *command, f"udp:127.0.0.1:{self.port}"],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        assert wait_for(
            lambda: self.log.exists() and self.log.read_text().count("NET-SNMP version") > seen
        )

    def stop(self) -> None:
        """End it in order, so that its boots count."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(10)

    def lines(self, kind: str = "") -> list[str]:
        """What has come, of a kind such as `TRAP2` or `INFORM` and of a version."""
        return [line for line in self.log.read_text().splitlines() if kind in line]


@contextmanager
def trapd(
    directory: Path,
    port: int,
    engine_id: bytes,
    passphrases: tuple[str, str],
    namespace: str = "",
) -> Iterator[Trapd]:
    """A running daemon for the agent with this engine ID, whose user has these pass phrases."""
    made = Trapd(directory, port, engine_id, passphrases, namespace)
    made.prepare()
    made.start()
    try:
        yield made
    finally:
        made.stop()
