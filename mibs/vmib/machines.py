"""Machines made of network namespaces, as files: what a lab writes and the netns driver reads.

One directory per host, one JSON file per machine, named after it and written whole (temporary
file and rename), so that a reader never sees half of one:

    {"uuid": "...", "name": "web", "namespace": "/run/netns/vmib-lab-web",
     "vifs": [{"number": 0, "mac": "02:...", "host_device": "vif1.0", "guest_device": "eth0"}]}
"""

from __future__ import annotations

import json
import os
import re
import uuid as uuids
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import ValueRefused

SUFFIX = ".json"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DEVICE = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9_.-]{1,15}")
_MAC = re.compile(r"[0-9a-f][02468ace](:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class MachineVif:
    """An interface of a machine: its end in the host's namespace and its end in the machine's.

    `number` counts from 0; `mac` is the guest's, lower-case and colon-separated.
    """

    number: int
    mac: str
    host_device: str
    guest_device: str


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine made of the network namespace at the path `namespace`."""

    uuid: str
    name: str
    namespace: str
    vifs: tuple[MachineVif, ...]


def dumps(machine: Machine) -> str:
    """The text of a machine's file."""
    return json.dumps(asdict(machine), indent=2) + "\n"


def loads(text: str, source: str) -> Machine:
    """The machine that `text` defines; `source` begins the names in errors.

    Raises `ValueRefused` naming the member that is wrong, missing or unknown.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueRefused(source, f"line {error.lineno}: {error.msg}", "JSON text") from None
    members = _object(source, document, ("uuid", "name", "namespace", "vifs"))
    vifs = _array(f"{source}: vifs", members["vifs"])
    machine = Machine(
        uuid=_text(f"{source}: uuid", members["uuid"], _is_uuid, "a lower-case UUID"),
        name=_text(
            f"{source}: name",
            members["name"],
            _NAME.fullmatch,
            "1 to 63 letters, digits, '_', '.', '-', the first a letter or digit",
        ),
        namespace=_text(
            f"{source}: namespace", members["namespace"], _is_absolute, "an absolute path"
        ),
        vifs=tuple(_vif(f"{source}: vifs[{n}]", vif) for n, vif in enumerate(vifs)),
    )
    for member in ("number", "mac", "host_device", "guest_device"):
        values = [getattr(vif, member) for vif in machine.vifs]
        _all_different(f"{source}: vifs[].{member}", values)
    return machine


def load(path: Path) -> Machine:
    """The machine that the file at `path` defines; its name must be the file's.

    Raises `ValueRefused` when the contents are wrong and OSError when it cannot be read.
    """
    machine = loads(path.read_text(encoding="utf-8", errors="replace"), str(path))
    if path.name != machine.name + SUFFIX:
        raise ValueRefused(f"{path}: name", machine.name, f"the name of the file, {path.stem!r}")
    return machine


def save(directory: Path, machine: Machine) -> Path:
    """Write a machine's file as a whole and return its path.

    Raises `ValueRefused` for a machine that `load` would refuse, before anything is written.
    """
    text = dumps(machine)
    loads(text, machine.name)
    path = directory / (machine.name + SUFFIX)
    temporary = directory / f".{machine.name}.{os.getpid()}.tmp"
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _object(name: str, value: object, members: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueRefused(name, value, f"an object with {', '.join(members)}")
    for member in members:
        if member not in value:
            raise ValueRefused(name, f"without {member}", f"an object with {', '.join(members)}")
    for member in value:
        if member not in members:
            raise ValueRefused(f"{name}: {member}", value[member], f"only {', '.join(members)}")
    return value


def _array(name: str, value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueRefused(name, value, "an array")
    return value


def _text(name: str, value: object, accepts: Callable[[str], object], allowed: str) -> str:
    if not isinstance(value, str) or not accepts(value):
        raise ValueRefused(name, value, allowed)
    return value


def _vif(name: str, value: object) -> MachineVif:
    members = _object(name, value, ("number", "mac", "host_device", "guest_device"))
    number = members["number"]
    if type(number) is not int or not 0 <= number <= 999:
        raise ValueRefused(f"{name}: number", number, "0 to 999")
    device = "1 to 15 letters, digits, '_', '.', '-'"
    return MachineVif(
        number=number,
        mac=_text(
            f"{name}: mac",
            members["mac"],
            _is_mac,
            "a unicast address, six lower-case hexadecimal octets joined by ':'",
        ),
        host_device=_text(
            f"{name}: host_device", members["host_device"], _DEVICE.fullmatch, device
        ),
        guest_device=_text(
            f"{name}: guest_device", members["guest_device"], _DEVICE.fullmatch, device
        ),
    )


def _is_mac(text: str) -> bool:
    return bool(_MAC.fullmatch(text)) and text != "00:00:00:00:00:00"


def _is_uuid(text: str) -> bool:
    try:
        return str(uuids.UUID(text)) == text
    except ValueError:
        return False


def _is_absolute(text: str) -> bool:
    return text.startswith("/") and "\0" not in text


def _all_different(name: str, values: Iterable[object]) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise ValueRefused(name, value, "each value once in a machine")
        seen.add(value)
