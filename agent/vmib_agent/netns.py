"""Machines made of network namespaces: the embedded default hypervisor.

The lab writes one file per machine (`vmib.machines`); this driver only reads them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vmib import machines
from vmib.errors import Unavailable, ValueRefused
from vmib.machines import Machine

from .delivery import Delivery
from .netlink import Rtnetlink
from .network import LOOPBACK, Link, Stack
from .network_kernel import carry_out, read_links, read_stack
from .network_plan import NetworkOperation
from .ports import ApplyError, Guest, GuestVif, Presence

_OWN_NAMESPACE = Path("/proc/self/ns/net")

Stamp = tuple[int, int, int]


def _stamp(entry: os.DirEntry[str]) -> Stamp:
    """What differs when a file has been written or replaced."""
    status = os.stat(entry.path)  # noqa: PTH116
    return status.st_ino, status.st_mtime_ns, status.st_size


def _of_namespaces() -> int:
    """The number of the file system that namespaces are on."""
    return _OWN_NAMESPACE.stat().st_dev


def _namespace(path: str, device: int) -> int:
    """The inode of the network namespace at a path, 0 when there is none.

    A name whose namespace is gone may stay behind as an empty file on another file system than
    the one of namespaces, whose number is `device`.
    """
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return 0
    return status.st_ino if status.st_dev == device else 0


@dataclass(frozen=True, slots=True)
class _View:
    """The definitions, and by UUID the namespace's inode and the host ends' ifIndexes."""

    machines: Mapping[str, Machine] = field(default_factory=dict)
    kernel: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


class NetnsHypervisor:
    """The machines defined in a directory. Implements `ports.Hypervisor`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, tuple[Stamp, Machine]] = {}
        self._view = _View()
        self._guests: Sequence[Guest] = ()

    @property
    def kind(self) -> str:
        """The driver's name."""
        return "netns"

    @property
    def version(self) -> str:
        """That of the kernel, whose the namespaces are."""
        return os.uname().release

    def guests(self) -> Sequence[Guest]:
        """All machines defined now, by name; the same object as long as nothing differs.

        Reads only files that changed. Raises `Unavailable` naming the directory or the file that
        cannot be read or is wrong.
        """
        view = self._look()
        if view != self._view:
            self._view = view
            self._guests = [self._guest(machine) for machine in view.machines.values()]
        return self._guests

    def changed(self) -> bool:
        """Whether `guests` would now tell something else than it last did, or of other namespaces.

        Raises as `guests`.
        """
        return self._look() != self._view

    def machine(self, uuid: str) -> Machine | None:
        """The definition behind a guest that `guests` last told of."""
        return self._view.machines.get(uuid)

    def _guest(self, machine: Machine) -> Guest:
        namespace, *devices = self._view.kernel[machine.uuid]
        return Guest(
            uuid=machine.uuid,
            name=machine.name,
            presence=Presence.RUNNING if namespace else Presence.DEFINED,
            vifs=tuple(
                GuestVif(vif.number, vif.mac, vif.host_device if index else "")
                for vif, index in zip(machine.vifs, devices, strict=True)
            ),
        )

    def _look(self) -> _View:
        self._read()
        defined: dict[str, Machine] = {}
        for name in sorted(self._files):
            machine = self._files[name][1]
            if machine.uuid in defined:
                other = defined[machine.uuid].name
                where = str(self._directory / name)
                raise Unavailable(where, f"its uuid {machine.uuid} is that of {other}")
            defined[machine.uuid] = machine
        devices = {name: index for index, name in socket.if_nameindex()}
        own = _of_namespaces()
        return _View(
            defined,
            {
                uuid: (
                    _namespace(machine.namespace, own),
                    *(devices.get(vif.host_device, 0) for vif in machine.vifs),
                )
                for uuid, machine in defined.items()
            },
        )

    def _read(self) -> None:
        try:
            with os.scandir(self._directory) as found:
                entries = [entry for entry in found if _is_definition(entry.name)]
        except OSError as error:
            reason = f"cannot be read: {error.strerror}"
            raise Unavailable(str(self._directory), reason) from error
        files: dict[str, tuple[Stamp, Machine]] = {}
        for entry in entries:
            try:
                stamp = _stamp(entry)
                known = self._files.get(entry.name)
                fresh = known is not None and known[0] == stamp
                loaded = known if fresh and known else (stamp, machines.load(Path(entry.path)))
                files[entry.name] = loaded
            except FileNotFoundError:
                continue
            except (OSError, ValueRefused) as error:
                raise Unavailable(entry.path, f"is no machine: {error}") from error
        self._files = files


def _is_definition(name: str) -> bool:
    return name.endswith(machines.SUFFIX) and not name.startswith(".")


class NamespaceGuests:
    """Delivers addresses and routes into the machines' namespaces.

    Implements `network_kernel.GuestNetwork`. Sockets are opened for each call: an open one would
    keep the namespace of a machine alive that has been removed.
    """

    def __init__(self, hypervisor: NetnsHypervisor) -> None:
        self._hypervisor = hypervisor

    @property
    def takes_entering(self) -> bool:
        """Yes."""
        return True

    def read(self, guest: Guest) -> Stack | None:
        """What the machine has now; None while its namespace does not exist."""
        machine = self._hypervisor.machine(guest.uuid)
        if machine is None or not _namespace(machine.namespace, _of_namespaces()):
            return None
        try:
            kernel = Rtnetlink(Path(machine.namespace))
        except OSError:
            return None
        with kernel:
            links = _links(machine)
            facts = [link for link in read_links(kernel) if link.name in links]
            stack = read_stack(kernel, {link.index: links[link.name] for link in facts})
            return Stack(
                stack.addresses,
                stack.routes,
                down=frozenset(links[link.name] for link in facts if not link.up),
                mtus={links[link.name]: link.mtu for link in facts},
            )

    def apply(self, place: str, operations: Sequence[NetworkOperation]) -> None:
        """Carry out operations of the machine with the UUID `place`; raises `ApplyError`."""
        machine = self._hypervisor.machine(place)
        if machine is None:
            raise ApplyError(0, operations[0].describe(), f"no machine has the UUID {place}")
        try:
            kernel = Rtnetlink(Path(machine.namespace))
        except OSError as error:
            reason = f"the namespace of {machine.name} cannot be entered: {error.strerror}"
            raise ApplyError(0, operations[0].describe(), reason) from error
        with kernel:
            links = _links(machine)
            indexes = {
                links[link.name]: link.index for link in read_links(kernel) if link.name in links
            }
            carry_out(kernel, operations, indexes.__getitem__)

    def wish(self, stacks: Callable[[], Mapping[str, Stack]]) -> None:
        """Nothing to remember: namespaces are changed at once."""

    def deliveries(self) -> Mapping[str, Delivery]:
        """None: namespaces are read when asked."""
        return {}


def _links(machine: Machine) -> dict[str, Link]:
    """A machine's links by the name of the device in it."""
    return {LOOPBACK: LOOPBACK} | {vif.guest_device: vif.number for vif in machine.vifs}
