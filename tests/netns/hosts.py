"""A whole host for tests: a network namespace with machines, a bridge, and the real agent in it.

Everything is asked with other people's tools: net-snmp's, tc, ip, iptables-legacy.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmib import machines
from vmib.machines import Machine, MachineVif
from vmib_agent import users
from vmib_agent.statefile import StateFile, encode
from vmib_agent.users import Role

ROOT = Path(__file__).resolve().parents[2]
BASE_MIBS = Path(os.environ.get("VMIB_BASE_MIBS", ROOT / ".cache" / "mibs"))
PASSPHRASES = ("auth pass phrase", "priv pass phrase")
PORT = 1161


def run(*command: str, check: bool = True) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


@dataclass
class Host:
    """A namespace with machines, and the agent that runs in it."""

    name: str
    directory: Path
    machine_names: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    def inside(self, *command: str, check: bool = True) -> str:
        """What a command prints that runs in the host's namespace."""
        return run("ip", "netns", "exec", self.name, *command, check=check)

    def in_machine(self, number: int, *command: str, check: bool = True) -> str:
        """What a command prints that runs in a machine's namespace; machines count from 1."""
        return run("ip", "netns", "exec", self.machine_names[number - 1], *command, check=check)

    def on_disk(self) -> str:
        """The text of the state that an agent would start from."""
        state = StateFile(self.directory / "state").load()
        return "" if state is None else encode(state).decode()

    def start(self) -> None:
        """Start the agent and wait until it answers."""
        log = (self.directory / "agent.log").open("ab")
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("agent", "mibs"))
        }
        command = ["ip", "netns", "exec", self.name, sys.executable, "-m", "vmib_agent", "run"]
        command += ["--config", str(self.directory / "agent.toml")]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        deadline = time.monotonic() + 20
        while not self.inside("ss", "-Hlun", f"sport = :{PORT}"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.directory / "agent.log").read_text())
            time.sleep(0.05)
        self.value("vmibHostAgentMode.0")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the agent by a signal."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(10)

    def snmp(
        self,
        tool: str,
        *arguments: str,
        user: str = "admin",
        check: bool = True,
        options: tuple[str, ...] = ("-OQsU", "-r", "1", "-t", "5"),
    ) -> str:
        """What a tool of net-snmp prints; names are those of VMIB-MIB."""
        environment = {
            "SNMPCONFPATH": str(self.directory / user),
            "MIBDIRS": f"{BASE_MIBS}:{ROOT / 'mibs'}",
            "MIBS": "VMIB-MIB",
            "PATH": os.environ["PATH"],
        }
        scoped = [f"VMIB-MIB::{word}" if word.startswith("vmib") else word for word in arguments]
        command = ["ip", "netns", "exec", self.name, tool, *options]
        done = subprocess.run(
            [*command, f"127.0.0.1:{PORT}", *scoped],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        return done.stdout + done.stderr

    def set(self, *triples: str, check: bool = True, **named: Any) -> str:
        """snmpset; the arguments are OID, type, value, again and again; others are `snmp`'s."""
        return self.snmp("snmpset", *triples, check=check, **named)

    def value(self, name: str) -> str:
        """The value of one instance as snmpget prints it."""
        return self.snmp("snmpget", "-Ov", name).strip()

    def qdiscs(self, device: str) -> list[dict[str, Any]]:
        """The qdiscs of a device as tc tells them."""
        found: list[dict[str, Any]] = json.loads(
            self.inside("tc", "-s", "-j", "qdisc", "show", "dev", device)
        )
        return found

    def rate(self, device: str) -> int | None:
        """The rate in kbit/s of the TBF at the root of a device, as tc tells it."""
        for qdisc in self.qdiscs(device):
            if qdisc["kind"] == "tbf" and qdisc.get("root"):
                return int(qdisc["options"]["rate"] * 8 / 1000)
        return None

    def rules(self) -> str:
        """The packet filter as iptables-legacy tells it."""
        return self.inside("iptables-legacy", "-S")


def _make(host: Host, count: int, settings: str) -> None:
    run("ip", "netns", "add", host.name)
    host.inside("ip", "link", "set", "lo", "up")
    host.inside("ip", "link", "add", "br0", "type", "bridge")
    host.inside("ip", "link", "set", "br0", "up")
    (host.directory / "machines").mkdir()
    (host.directory / "state").mkdir(mode=0o700)
    for number in range(1, count + 1):
        add_machine(host, number)
    for role in Role:
        users.add_user(host.directory / "state", role.value, role, *PASSPHRASES)
        home = host.directory / role.value
        home.mkdir()
        conf = home / "snmp.conf"
        conf.touch(mode=0o600)
        conf.write_text(
            f"defVersion 3\ndefSecurityName {role.value}\ndefSecurityLevel authPriv\n"
            "defAuthType SHA-256\ndefPrivType AES\n"
            f'defAuthPassphrase "{PASSPHRASES[0]}"\ndefPrivPassphrase "{PASSPHRASES[1]}"\n'
        )
    config = host.directory / "agent.toml"
    config.touch(mode=0o600)
    config.write_text(
        f'listen = ["127.0.0.1:{PORT}"]\nstate_directory = "{host.directory / "state"}"\n'
        f'[hypervisor]\nmachines_directory = "{host.directory / "machines"}"\n{settings}'
    )


def add_machine(host: Host, number: int) -> None:
    """Make machine `number`: its namespace, its link, its definition."""
    name = host.machine_names[number - 1]
    mac = f"02:00:00:00:00:{number:02x}"
    device = f"vif{number}.0"
    run("ip", "netns", "add", name)
    peer = ["type", "veth", "peer", "name", "eth0", "address", mac, "netns", name]
    host.inside("ip", "link", "add", device, *peer)
    host.inside("ip", "link", "set", device, "master", "br0", "up")
    run("ip", "-n", name, "link", "set", "lo", "up")
    run("ip", "-n", name, "link", "set", "eth0", "up")
    machine = Machine(
        f"00000000-0000-4000-8000-{number:012d}",
        f"m{number}",
        f"/run/netns/{name}",
        (MachineVif(0, mac, device, "eth0"),),
    )
    (host.directory / "machines" / f"m{number}.json").write_text(machines.dumps(machine))


@contextmanager
def host(count: int = 2, settings: str = "") -> Iterator[Host]:
    """A host with `count` machines and a running agent, removed at the end of the block.

    `settings` are further lines of the agent's configuration.
    """
    with tempfile.TemporaryDirectory() as place:
        name = f"vmt-{os.getpid()}"
        made = Host(name, Path(place), tuple(f"{name}-m{n}" for n in range(1, count + 1)))
        try:
            _make(made, count, settings)
            made.start()
            yield made
        finally:
            if made.process is not None:
                made.kill()
            for namespace in (*made.machine_names, made.name):
                run("ip", "netns", "del", namespace, check=False)
