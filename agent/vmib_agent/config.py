"""The configuration of the agent: a TOML file, strictly read, and what stands where it is silent.

Every key has a default; what is not known is refused together with what is. Nothing listens
beyond loopback, and nobody has access, unless the file or the user list says so.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple

from vmib.errors import ValueRefused, VmibError
from vmib.snmp.usm import AUTH_PROTOCOLS, SHA256

from .logs import LEVELS

DEFAULT_PATH = Path("/etc/vmib/agent.toml")
DRIVERS = ("netns", "libvirt")

_LIBVIRT_URI = re.compile(r"(xen|qemu)(\+unix)?:///system(\?\S*)?|test:///\S+")
_UNIX_PATH_OCTETS = 107
_OF_INFORMS = ("timeout", "retries", "auth", "passphrase_file")

Network = IPv4Network | IPv6Network


class ConfigRefused(VmibError):
    """A configuration that is not taken; names the file, the key, and what is allowed."""


class Endpoint(NamedTuple):
    """A numeric address and a UDP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class HypervisorConfig:
    """Where machines come from: `machines_directory` is for netns, the rest for libvirt.

    With `control` a manager may start and stop machines. `start_up` lets the agent write addresses
    and routes into the command line of the kernels that libvirt starts; `dhcp_directory` is where
    dnsmasq looks for what it is to give, "" where it does not.
    """

    driver: str = "netns"
    machines_directory: Path = Path("/etc/vmib/machines")
    uri: str = ""
    control: bool = False
    start_up: bool = False
    dhcp_directory: str = ""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for."""

    max_varbinds_per_set: int = 1024


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """sysContact, sysName and sysLocation; the host's name where `name` is empty."""

    contact: str = ""
    name: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class Communities:
    """SNMPv2c, read-only: the community and the networks that requests may come from."""

    community: str = field(repr=False)
    sources: tuple[Network, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Where notifications go: by a v3 user (authPriv) or by a v2c community; one is empty.

    An inform is sent again, at most `retries` times, after each `timeout` seconds without an
    acknowledgement. The keys of an inform's user are those of the receiver's engine, so they are
    made from pass phrases (`passphrase_file`, with `auth` as the protocol).
    """

    address: Endpoint
    user: str = ""
    community: str = field(default="", repr=False)
    inform: bool = False
    timeout: int = 5
    retries: int = 3
    auth: str = SHA256.name
    passphrase_file: Path | None = None


@dataclass(frozen=True, slots=True)
class AgentxConfig:
    """Whether to be a subagent, and of which master: a UNIX socket or a TCP port.

    `timeout` in seconds; of two subagents for one subtree the lower `priority` wins.
    """

    enabled: bool = False
    address: Path | Endpoint = Path("/var/agentx/master")
    timeout: int = 5
    priority: int = 127
    allow_remote: bool = False


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. `listen` may only be empty where AgentX is enabled."""

    listen: tuple[Endpoint, ...] = (Endpoint("127.0.0.1", 161), Endpoint("::1", 161))
    state_directory: Path = Path("/var/lib/vmib")
    log_level: str = "info"
    system: SystemConfig = SystemConfig()
    hypervisor: HypervisorConfig = HypervisorConfig()
    limits: Limits = Limits()
    v2c: Communities | None = None
    notifications: tuple[Target, ...] = ()
    agentx: AgentxConfig = AgentxConfig()


def parse_endpoint(text: str) -> Endpoint:
    """`127.0.0.1:161` or `[::1]:161`; names are not looked up. Raises `ValueRefused`."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
        number = int(port)
        good = bracketed == (address.version == 6) and bool(colon) and 0 < number < 65536
    except ValueError:
        good = False
    if not good:
        raise ValueRefused("address", text, "ADDRESS:PORT or [IPV6-ADDRESS]:PORT, in numbers")
    return Endpoint(str(address), number)


def load(path: Path, required: bool = True) -> Config:
    """The configuration in a file; the defaults where it is absent and not required.

    Raises `ConfigRefused`.
    """
    try:
        with path.open("rb") as file:
            shared = file_is_for_all(file.fileno())
            text = file.read().decode()
    except FileNotFoundError:
        if required:
            raise ConfigRefused(f"{path}: no such file") from None
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigRefused(f"{path}: {error}") from None
    config = parse(text, str(path))
    if shared and (config.v2c or any(target.community for target in config.notifications)):
        raise ConfigRefused(f"{path}: holds a community but everybody can read it; chmod 0600")
    return config


def file_is_for_all(fd: int) -> bool:
    """Whether users other than owner and group can read an open file."""
    return bool(Path(f"/proc/self/fd/{fd}").stat().st_mode & stat.S_IROTH)


def parse(text: str, name: str = "agent.toml") -> Config:
    """The configuration in a text; `name` stands for it in errors. Raises `ConfigRefused`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigRefused(f"{name}: {error}") from None
    try:
        config = Config(**_section(document, "", _TOP))
        if not config.listen and not config.agentx.enabled:
            raise ValueRefused("listen", [], "a list that is not empty, unless agentx.enabled")
        return config
    except ValueRefused as refused:
        raise ConfigRefused(f"{name}: {refused}") from None


_Reader = Callable[[str, Any], Any]


def _section(document: Any, where: str, readers: Mapping[str, _Reader]) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueRefused(where, document, "a table")
    prefix = f"{where}." if where else ""
    for key in document:
        if key not in readers:
            raise ValueRefused("key", f"{prefix}{key}", ", ".join(prefix + k for k in readers))
    return {key: readers[key](f"{prefix}{key}", value) for key, value in document.items()}


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or len(value.encode()) > 255 or not (value + " ").isprintable():
        raise ValueRefused(name, value, "a text of at most 255 octets without control characters")
    return value


def _secret(name: str, value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= 255:
        raise ValueRefused(name, "(not shown)", "a text of 1 to 255 octets")
    return value


def _absolute(name: str, value: Any) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise ValueRefused(name, value, "an absolute path")
    return Path(value)


def _one_of(allowed: tuple[str, ...]) -> _Reader:
    def read(name: str, value: Any) -> str:
        if value not in allowed:
            raise ValueRefused(name, value, ", ".join(allowed))
        return str(value)

    return read


def _whole(low: int, high: int) -> _Reader:
    def read(name: str, value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueRefused(name, value, f"{low} to {high}")
        return value

    return read


def _endpoint(name: str, value: Any) -> Endpoint:
    return parse_endpoint(_text(name, value))


def _network(name: str, value: Any) -> Network:
    try:
        return ip_network(_text(name, value))
    except ValueError as error:
        raise ValueRefused(name, value, f"a network such as 192.0.2.0/24 ({error})") from None


def _some(read: _Reader, least: int = 1) -> _Reader:
    def read_all(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise ValueRefused(name, value, "a list that is not empty" if least else "a list")
        return tuple(read(name, item) for item in value)

    return read_all


def _v2c(name: str, value: Any) -> Communities:
    section = _section(value, name, {"community": _secret, "sources": _some(_network)})
    for key in ("community", "sources"):
        if key not in section:
            raise ValueRefused(name, "absent", f"{name}.{key} is required")
    return Communities(**section)


def _target(name: str, value: Any) -> Target:
    readers = {
        "address": _endpoint,
        "user": _text,
        "community": _secret,
        "inform": _yes_or_no,
        "timeout": _whole(1, 60),
        "retries": _whole(0, 10),
        "auth": _one_of(tuple(AUTH_PROTOCOLS)),
        "passphrase_file": _absolute,
    }
    section = _section(value, name, readers)
    if "address" not in section or bool(section.get("user")) == bool(section.get("community")):
        raise ValueRefused(name, sorted(section), "an address and either a user or a community")
    target = Target(**section)
    if not target.inform and section.keys() & _OF_INFORMS:
        allowed = f"{', '.join(_OF_INFORMS)} only together with inform = true"
        raise ValueRefused(name, sorted(section), allowed)
    if target.inform and bool(target.user) != bool(target.passphrase_file):
        raise ValueRefused(name, sorted(section), "a passphrase_file with each inform by a user")
    return target


def _notifications(name: str, value: Any) -> tuple[Target, ...]:
    section = _section(value, name, {"targets": _some(_target)})
    return tuple(section.get("targets", ()))


def _system(name: str, value: Any) -> SystemConfig:
    return SystemConfig(
        **_section(value, name, {"contact": _text, "name": _text, "location": _text})
    )


def _hypervisor(name: str, value: Any) -> HypervisorConfig:
    readers = {
        "driver": _one_of(DRIVERS),
        "machines_directory": _absolute,
        "uri": _libvirt_uri,
        "control": _yes_or_no,
        "start_up": _yes_or_no,
        "dhcp_directory": lambda key, path: str(_absolute(key, path)) if path else "",
    }
    section = HypervisorConfig(**_section(value, name, readers))
    if bool(section.uri) != (section.driver == "libvirt"):
        raise ValueRefused(f"{name}.uri", section.uri, 'one with driver = "libvirt", none without')
    return section


def _libvirt_uri(name: str, value: Any) -> str:
    if value == "":  # the default
        return ""
    if not isinstance(value, str) or not _LIBVIRT_URI.fullmatch(value):
        allowed = "xen:///system, qemu:///system, test:///default or test:///PATH: of this host"
        raise ValueRefused(name, value, allowed)
    return value


def _limits(name: str, value: Any) -> Limits:
    return Limits(**_section(value, name, {"max_varbinds_per_set": _whole(1, 4096)}))


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueRefused(name, value, "true or false")
    return value


def _master(name: str, value: Any) -> Path | Endpoint:
    text = _text(name, value)
    if text.startswith("tcp:"):
        return parse_endpoint(text.removeprefix("tcp:"))
    if not text.startswith("/") or len(text.encode()) > _UNIX_PATH_OCTETS:
        allowed = f"an absolute path of at most {_UNIX_PATH_OCTETS} octets, or tcp:ADDRESS:PORT"
        raise ValueRefused(name, value, allowed)
    return Path(text)


def _agentx(name: str, value: Any) -> AgentxConfig:
    readers = {
        "enabled": _yes_or_no,
        "address": _master,
        "timeout": _whole(1, 255),
        "priority": _whole(1, 255),
        "allow_remote": _yes_or_no,
    }
    section = AgentxConfig(**_section(value, name, readers))
    address = section.address
    is_remote = isinstance(address, Endpoint) and not ip_address(address.host).is_loopback
    if is_remote and not section.allow_remote:
        allowed = f"loopback, unless {name}.allow_remote = true: AgentX is not authenticated"
        raise ValueRefused(f"{name}.address", str(address), allowed)
    return section


_TOP: Mapping[str, _Reader] = {
    "listen": _some(_endpoint, 0),
    "state_directory": _absolute,
    "log_level": _one_of(tuple(LEVELS)),
    "system": _system,
    "hypervisor": _hypervisor,
    "limits": _limits,
    "v2c": _v2c,
    "notifications": _notifications,
    "agentx": _agentx,
}
