"""What a lab consists of: hosts and machines to be made out of network namespaces."""

from __future__ import annotations

import hashlib
import json
import re
import uuid as uuids
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from vmib.errors import ValueRefused
from vmib.machines import Machine, MachineVif
from vmib.machines import dumps as dumps_machine
from vmib.machines import loads as loads_machine

from . import namespaces

ROOT = Path("/run/vmib/lab")
SWITCH = "switch"
DEFAULT_NAME = "lab"

_ONE_MAC = "each MAC address once in a lab"
_LAB = re.compile(r"[a-z][a-z0-9]{0,15}")
_MEMBER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DEVICE = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,15}")


@dataclass(frozen=True, slots=True)
class VifSpec:
    """An interface of a machine, on a bridge of its host.

    Without `mac` or `device` the lab chooses, always the same; without `bridge` it is the first
    uplink's.
    """

    number: int = 0
    mac: str = ""
    device: str = ""
    bridge: str = ""


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A machine; without `uuid` the lab chooses, always the same."""

    name: str
    vifs: tuple[VifSpec, ...] = (VifSpec(),)
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class PifSpec:
    """An uplink of a host: a cable to the switch, on a bridge of its own.

    Without `mac` the lab chooses, always the same.
    """

    name: str = "eth0"
    mac: str = ""
    bridge: str = "vmibbr0"


@dataclass(frozen=True, slots=True)
class HostSpec:
    """A host: where its agent answers on loopback, its machines and uplinks.

    `credential` names the agent's entry in the credentials file, by default `id`.
    """

    id: str
    address: str
    machines: tuple[MachineSpec, ...] = ()
    port: int = 1161
    pifs: tuple[PifSpec, ...] = (PifSpec(),)
    credential: str = ""


@dataclass(frozen=True, slots=True)
class LabSpec:
    """A lab: the unit that comes up and goes down, by name. `user` is whom the agents know."""

    name: str
    hosts: tuple[HostSpec, ...]
    user: str = "vmib"


@dataclass(frozen=True, slots=True)
class LabPaths:
    """The files of a lab."""

    directory: Path

    @property
    def record(self) -> Path:
        """The spec that the lab was made from."""
        return self.directory / "spec.json"

    @property
    def credentials(self) -> Path:
        """The manager's credentials file."""
        return self.directory / "credentials.toml"

    @property
    def snmp(self) -> Path:
        """The directory of an snmp.conf: what SNMPCONFPATH is for net-snmp's tools."""
        return self.directory / "snmp"


@dataclass(frozen=True, slots=True)
class HostPaths:
    """The files of one host; `log` has what its agent says."""

    directory: Path

    @property
    def state(self) -> Path:
        """What the agent keeps."""
        return self.directory / "state"

    @property
    def machines(self) -> Path:
        """The machines of the host (`vmib.machines`)."""
        return self.directory / "machines"

    @property
    def config(self) -> Path:
        """The agent's configuration."""
        return self.directory / "agent.toml"

    @property
    def log(self) -> Path:
        """The agent's output."""
        return self.directory / "agent.log"

    @property
    def pid(self) -> Path:
        """The agent's process: its id and start time."""
        return self.directory / "agent.pid"


def directory(lab: str) -> Path:
    """Where the files of a lab are; raises ValueRefused for a name no lab can have.

    Names have no hyphen, so that no lab's namespaces begin with the prefix of another's.
    """
    if not _LAB.fullmatch(lab):
        allowed = "1 to 16 lower-case letters and digits, the first a letter"
        raise ValueRefused("lab name", lab, allowed)
    return ROOT / lab


def paths(lab: str) -> LabPaths:
    """The files of a lab; raises ValueRefused as `directory`."""
    return LabPaths(directory(lab))


def host_paths(lab: str, host: str) -> HostPaths:
    """The files of a host."""
    return HostPaths(directory(lab) / "hosts" / host)


def credential(host: HostSpec) -> str:
    """The entry of a host's agent in the credentials file."""
    return host.credential or host.id


def bridges(host: HostSpec) -> tuple[str, ...]:
    """The bridges of a host: those of its uplinks and those of its machines."""
    named = [pif.bridge for pif in host.pifs]
    named += [vif.bridge for spec in host.machines for vif in spec.vifs if vif.bridge]
    return tuple(dict.fromkeys(named))


def bridge(host: HostSpec, vif: VifSpec) -> str:
    """The bridge of an interface of a host's machine."""
    return vif.bridge or host.pifs[0].bridge


def prefix(lab: str) -> str:
    """What the names of all namespaces of a lab begin with."""
    return f"vmib-{lab}-"


def namespace(lab: str, member: str) -> str:
    """The namespace of a host or machine, or of the `SWITCH` that joins the hosts."""
    return prefix(lab) + member


def machine(lab: str, host: HostSpec, position: int) -> Machine:
    """The definition of a host's machine at a position; its devices count from 1, as Xen's do."""
    spec = host.machines[position]
    return Machine(
        uuid=spec.uuid or str(uuids.uuid5(uuids.NAMESPACE_OID, f"vmib-lab/{lab}/{spec.name}")),
        name=spec.name,
        namespace=str(namespaces.path(namespace(lab, spec.name))),
        vifs=tuple(
            MachineVif(
                number=vif.number,
                mac=vif.mac or _mac(lab, spec.name, vif.number),
                host_device=vif.device or f"vif{position + 1}.{vif.number}",
                guest_device=f"eth{vif.number}",
            )
            for vif in spec.vifs
        ),
    )


def uplink_mac(lab: str, host: HostSpec, position: int) -> str:
    """The MAC address of the uplink of a host at a position."""
    return host.pifs[position].mac or _mac(lab, host.id, -1 - position)


def _mac(lab: str, member: str, number: int) -> str:
    digest = hashlib.sha256(f"{lab}/{member}/{number}".encode()).digest()
    return "02:" + ":".join(f"{octet:02x}" for octet in digest[:5])


def check(spec: LabSpec) -> None:
    """Raise ValueRefused for a lab that cannot be: a bad name or value, or anything there twice."""
    directory(spec.name)
    if not spec.hosts:
        raise ValueRefused(f"lab {spec.name}", "no hosts", "at least one host")
    names: set[str] = {SWITCH}
    for member in members(spec):
        if not _MEMBER.fullmatch(member) or len(namespace(spec.name, member)) > 255:
            allowed = "1 to 63 letters, digits, '_', '.', '-', the first a letter or digit"
            raise ValueRefused("name of a host or machine", member, allowed)
        _once(names, member, f"each name once in a lab, and not {SWITCH!r}")
    endpoints: set[str] = set()
    macs: set[str] = set()
    for host in spec.hosts:
        _check_endpoint(host)
        _once(endpoints, f"{host.address}:{host.port}", "each agent at an address of its own")
        _check_devices(spec.name, host, macs)


def _check_endpoint(host: HostSpec) -> None:
    try:
        local = ip_address(host.address).is_loopback
    except ValueError:
        local = False
    if not local:
        allowed = "an address of loopback, such as 127.18.0.1"
        raise ValueRefused(f"address of the agent of {host.id}", host.address, allowed)
    if not 0 < host.port < 65536:
        raise ValueRefused(f"port of the agent of {host.id}", host.port, "1 to 65535")


def _check_devices(lab: str, host: HostSpec, macs: set[str]) -> None:
    if not host.pifs:
        raise ValueRefused(f"host {host.id}", "no uplink", "at least one")
    devices = {"lo"}
    once = f"each device once on {host.id}"
    for device in (*bridges(host), *(pif.name for pif in host.pifs)):
        if not _DEVICE.fullmatch(device):
            allowed = "1 to 15 letters, digits, '_', '.', '-'"
            raise ValueRefused(f"device of {host.id}", device, allowed)
        _once(devices, device, once)
    uplinks: set[str] = set()
    for position, pif in enumerate(host.pifs):
        _once(uplinks, pif.bridge, f"one uplink on a bridge of {host.id}: two would make a loop")
        _once(macs, uplink_mac(lab, host, position), _ONE_MAC)
    for position in range(len(host.machines)):
        made = machine(lab, host, position)
        loads_machine(dumps_machine(made), f"machine {made.name}")
        for vif in made.vifs:
            _once(devices, vif.host_device, once)
            _once(macs, vif.mac, _ONE_MAC)


def members(spec: LabSpec) -> Iterator[str]:
    """The names of all hosts and machines."""
    for host in spec.hosts:
        yield host.id
        yield from (machine.name for machine in host.machines)


def _once(seen: set[str], value: str, allowed: str) -> None:
    if value in seen:
        raise ValueRefused("lab", value, allowed)
    seen.add(value)


def dumps(spec: LabSpec) -> str:
    """The text of a spec; equal specs have equal texts."""
    return json.dumps(asdict(spec), indent=1) + "\n"


def loads(text: str) -> LabSpec:
    """The spec of a text that `dumps` made; raises ValueError for another text."""
    try:
        document = json.loads(text)
        hosts = tuple(_host(host) for host in document.pop("hosts"))
        return LabSpec(hosts=hosts, **document)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no spec of a lab: {error}") from None


def _host(document: dict[str, Any]) -> HostSpec:
    machines = tuple(_machine(machine) for machine in document.pop("machines"))
    pifs = tuple(PifSpec(**pif) for pif in document.pop("pifs"))
    return HostSpec(machines=machines, pifs=pifs, **document)


def _machine(document: dict[str, Any]) -> MachineSpec:
    return MachineSpec(vifs=tuple(VifSpec(**vif) for vif in document.pop("vifs")), **document)
