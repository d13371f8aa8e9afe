"""A host of real guests for tests: a hypervisor, guests on its bridge, and the real agent.

The agent is asked by net-snmp's tools and by the manager, all on the host.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import libvirt

from vmib.snmp import usm
from vmib_agent import users
from vmib_agent.users import Role

from .. import pages
from .hypervisors import Guest, Hypervisor, Interface, run

ROOT = Path(__file__).resolve().parents[2]
BASE_MIBS = Path(os.environ.get("VMIB_BASE_MIBS", ROOT / ".cache" / "mibs"))
PASSPHRASES = ("auth pass phrase", "priv pass phrase")
ADDRESS = "127.31.0.1"
PORT = 1161
SETTINGS = "start_up = true"
"""Of the agent's [hypervisor], where nothing else is wanted."""

AGENT = """
listen = ["{address}:{port}"]
state_directory = "{state}"

{hypervisor}
{settings}
"""
CREDENTIALS = """
[h1]
auth = "{0}"
priv = "{1}"
"""


def uuid_of(number: int) -> str:
    """The UUID of guest `number`; guests count from 1."""
    return f"00000000-0000-4000-8000-3100000000{number:02}"


def mac_of(number: int, vif: int = 0) -> str:
    """The MAC address of a guest's interface."""
    return f"00:16:3e:31:{number:02x}:{vif:02x}"


def eventually(
    holds: Callable[[], Any], what: str | Callable[[], str], seconds: float = 10.0
) -> Any:
    """Wait until something holds, and what it then is; `what` is told when it does not come."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:g} s: {told}")
        time.sleep(0.02)
    return found


class HostLab:
    """The host; guest `number` is called m1, m2 and so on."""

    def __init__(
        self, hypervisor: Hypervisor, directory: Path, settings: str, address: str = ADDRESS
    ) -> None:
        self.hypervisor = hypervisor
        self.directory = directory
        self.address = address
        self.guests: dict[int, Guest] = {}
        self.connection = hypervisor.connect()
        self._process: subprocess.Popen[bytes] | None = None
        self._prepare(settings)

    def _prepare(self, settings: str) -> None:
        state = self.directory / "state"
        state.mkdir(mode=0o700)
        users.add_user(state, "admin", Role("admin"), *PASSPHRASES)
        home = self.directory / "snmp"
        home.mkdir()
        # Keys, as each pass phrase would cost an emulated processor the hash of a megabyte.
        auth, priv = (
            usm.password_to_key(usm.SHA256, phrase.encode()).hex() for phrase in PASSPHRASES
        )
        self._secret(
            home / "snmp.conf",
            "defVersion 3\ndefSecurityName admin\ndefSecurityLevel authPriv\n"
            "defAuthType SHA-256\ndefPrivType AES\n"
            f"defAuthMasterKey 0x{auth}\ndefPrivMasterKey 0x{priv}\n",
        )
        self._secret(self.directory / "credentials.toml", CREDENTIALS.format(*PASSPHRASES))
        self.configure(settings)

    def configure(self, settings: str) -> None:
        """Write the agent's configuration, with settings of its [hypervisor]."""
        (of_xen,) = pages.blocks("libvirt.md", "toml")
        self._settings = settings
        text = AGENT.format(
            address=self.address,
            port=PORT,
            state=self.directory / "state",
            hypervisor=of_xen.text.replace("xen:///system", self.hypervisor.uri),
            settings=settings,
        )
        self._secret(self.directory / "agent.toml", text)

    def _secret(self, path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text)

    def inside(self, *command: str, check: bool = True, **more: Any) -> str:
        """What a command prints on the host."""
        return run(*self.hypervisor.inside(*command), check=check, **more)

    def define(
        self,
        number: int,
        vifs: int = 1,
        words: str = "",
        agent: bool | None = None,
        name: str = "",
    ) -> Guest:
        """Define guest `number` with some interfaces, without starting it.

        It has a guest agent where it can, and the name that all have, unless it is told otherwise.
        """
        interfaces = [Interface(mac_of(number, vif)) for vif in range(vifs)]
        has_agent = self.hypervisor.has_guest_agent if agent is None else agent
        known = name or f"m{number}"
        xml = self.hypervisor.domain_xml(known, uuid_of(number), interfaces, words, has_agent)
        log = self.directory / f"{known}.console.log"
        self.guests[number] = Guest(self.connection.defineXML(xml), log)
        return self.guests[number]

    def boot(self, *numbers: int) -> None:
        """Start guests, and wait until they take commands."""
        for number in numbers:
            self.start(number)
        for number in numbers:
            self.guests[number].is_ready()

    def start(self, number: int) -> None:
        """Start a guest."""
        self.guests[number].domain.create()
        self.guests[number].listen()

    def reboot(self, number: int) -> None:
        """Have a guest reboot by itself, and wait until it takes commands again."""
        guest = self.guests[number]
        before = guest.domain.ID()
        guest.tell("reboot -f")
        if self.hypervisor.kind == "xen":  # to Xen it is another domain then
            uuid = guest.domain.UUIDString()
            eventually(
                lambda: self.connection.lookupByUUIDString(uuid).ID() not in (-1, before),
                "it runs again",
                60,
            )
            guest.domain = self.connection.lookupByUUIDString(uuid)
            guest.listen()
        guest.is_ready()

    def reconnect(self) -> None:
        """Know libvirtd anew after it has been killed."""
        self.connection = self.hypervisor.connect()
        for guest in self.guests.values():
            guest.domain = self.connection.lookupByUUIDString(guest.domain.UUIDString())

    def start_agent(self) -> None:
        """Start the agent and wait until it answers."""
        parts = (str(ROOT / part) for part in ("agent", "mibs"))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(parts)}
        command = [sys.executable, "-m", "vmib_agent", "run"]
        command += ["--config", str(self.directory / "agent.toml")]
        with (self.directory / "agent.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.hypervisor.inside(*command), stdout=log, stderr=log, env=environment
            )
        eventually(self._answers, "the agent answers", 180)
        eventually(self._has_recovered, "it has recovered", 180)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.directory / "agent.log").read_text())
        return bool(self.inside("ss", "-Hlun", f"sport = :{PORT}"))

    def _has_recovered(self) -> bool:
        return self.snmp("snmpget", "-Ov", "vmibHostAgentMode.0", check=False).strip() == "normal"

    def use(self, settings: str) -> None:
        """Have the agent started anew where it has other settings."""
        if settings != self._settings:
            self.end_agent()
            self.configure(settings)
            self.start_agent()

    def end_agent(self, number: int = signal.SIGKILL) -> None:
        """End the agent by a signal."""
        if self._process is not None and self._process.poll() is None:
            self._signal(number)
            self._process.wait(10)

    def _signal(self, number: int) -> None:
        """To the agent itself: between it and this process may be an nsenter(1)."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(children[0]) if children else pid, number)

    def snmp(self, tool: str, *arguments: str, check: bool = True) -> str:
        """What a tool of net-snmp prints; names are those of VMIB-MIB."""
        environment = {
            "SNMPCONFPATH": str(self.directory / "snmp"),
            "MIBDIRS": f"{BASE_MIBS}:{ROOT / 'mibs'}",
            "MIBS": "VMIB-MIB",
            "PATH": os.environ["PATH"],
        }
        scoped = [f"VMIB-MIB::{word}" if word.startswith("vmib") else word for word in arguments]
        command = [tool, "-OQsU", "-r", "1", "-t", "5", f"{self.address}:{PORT}", *scoped]
        return self.inside(*command, check=check, env=environment)

    def set(self, *triples: str, check: bool = True) -> str:
        """snmpset: OID, type, value, again and again."""
        return self.snmp("snmpset", *triples, check=check)

    def value(self, name: str) -> str:
        """The value of one instance as snmpget prints it."""
        return self.snmp("snmpget", "-Ov", name).strip()

    def vm(self, number: int) -> int:
        """The vmibVmIndex of guest `number`, by its UUID."""
        return int(self.value(f"vmibVmLookupIndex.'{uuid_of(number)}'"))

    def device(self, number: int, vif: int = 0) -> str:
        """The host end of a guest's interface as the agent tells it, "" while there is none."""
        mac = mac_of(number, vif)
        listed = self.snmp("snmpwalk", f"vmibVifMacAddress.{self.vm(number)}")
        for line in listed.splitlines():
            name, _, address = line.partition(" = ")
            if [int(part, 16) for part in address.split(":")] == [
                int(part, 16) for part in mac.split(":")
            ]:
                index = name.partition(".")[2]
                return self.value(f"vmibVifHostName.{index}").strip('"')
        return ""

    def vmib(self, *words: str, status: int | None = 0) -> str:
        """What the manager prints."""
        parts = (str(ROOT / part) for part in ("manager", "mibs"))
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(parts)}
        program = "import sys; from vmib_manager.cli import main; sys.exit(main())"
        # nsenter(1) changes the directory
        given = [str(self.directory / word) if word.endswith(".xml") else word for word in words]
        command = self.hypervisor.inside(sys.executable, "-c", program, *given)
        credentials = ("--credentials", str(self.directory / "credentials.toml"))
        done = subprocess.run(
            [*command, *credentials],
            env=environment, cwd=self.directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def qdiscs(self, device: str) -> list[dict[str, Any]]:
        """The qdiscs of a device as tc tells them."""
        text = self.inside("tc", "-s", "-j", "qdisc", "show", "dev", device)
        found: list[dict[str, Any]] = json.loads(text)
        return found

    def rate(self, device: str) -> int | None:
        """The rate in kbit/s of the TBF at the root of a device, as tc tells it."""
        for qdisc in self.qdiscs(device) if device else []:
            if qdisc["kind"] == "tbf" and qdisc.get("root"):
                return int(qdisc["options"]["rate"] * 8 / 1000)
        return None

    def devices(self) -> dict[str, int]:
        """The host's devices and their numbers."""
        listed = json.loads(self.inside("ip", "-j", "link", "show"))
        return {link["ifname"]: link["ifindex"] for link in listed}

    def close(self) -> None:
        """Remove the guests and end the agent."""
        self.end_agent()
        for guest in self.guests.values():
            guest.deafen()
            with suppress(libvirt.libvirtError):
                guest.domain.destroy()
            with suppress(libvirt.libvirtError):
                guest.domain.undefine()
        with suppress(libvirt.libvirtError):
            self.connection.close()
