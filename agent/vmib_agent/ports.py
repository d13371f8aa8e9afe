"""What the core needs of the world, as small Protocols; adapters implement them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, runtime_checkable

from vmib.errors import VmibError
from vmib.rows import VmAdminState


class ApplyError(VmibError):
    """The kernel (or the firewall, or a guest) refused an operation.

    `index` is the position of the first refused operation in the sequence given to `apply`. What
    came before it has taken effect; what follows may have been tried, so read before undoing.
    """

    def __init__(self, index: int, operation: str, reason: str) -> None:
        super().__init__(f"{operation}: {reason}")
        self.index = index
        self.operation = operation
        self.reason = reason


@runtime_checkable
class Operation(Protocol):
    """One idempotent step of a plan."""

    @property
    def subject(self) -> str:
        """What it changes: a device, a bridge, a table; the key that leads back to a row."""

    def describe(self) -> str:
        """The step in the words of tc(8), ip(8) or iptables(8)."""


class Presence(Enum):
    """Values of vmibVmPresence, by name."""

    ABSENT = "absent"
    DEFINED = "defined"
    RUNNING = "running"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class GuestVif:
    """A guest's interface as the hypervisor reports it.

    `mac` is lower-case, colon-separated; `device` is the host end's name, or "" while it does
    not exist; `number` counts the machine's interfaces from 0, in the hypervisor's order. `model`
    is the emulated hardware's, "" if none is told.
    """

    number: int
    mac: str
    device: str
    model: str = ""


@dataclass(frozen=True, slots=True)
class Guest:
    """A machine as the hypervisor reports it; `uuid` is the usual lower-case text form.

    `is_persistent` tells whether its definition stays when it stops, `autostart` whether it starts
    with the host, None where that is not known.
    """

    uuid: str
    name: str
    presence: Presence
    vifs: tuple[GuestVif, ...]
    is_persistent: bool = True
    autostart: bool | None = None


class Hypervisor(Protocol):
    """Where machines come from."""

    @property
    def kind(self) -> str:
        """The driver's name: netns, xen, qemu."""

    @property
    def version(self) -> str:
        """The hypervisor's version, "" while it is not known."""

    def guests(self) -> Sequence[Guest]:
        """All machines it knows now. Raises `Unavailable` when it cannot be asked."""


class LifeCycle(Protocol):
    """Where machines can be started and stopped, if that is switched on."""

    def ask(self, uuid: str, state: VmAdminState) -> None:
        """Have a machine brought to a state, soon; does not wait."""

    def refusals(self) -> Sequence[tuple[str, str]]:
        """What could not be done since the last call: UUID and reason."""
