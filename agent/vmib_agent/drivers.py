"""The drivers of hypervisors: which of them a configuration means, and what each has to offer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .config import Config, HypervisorConfig
from .netns import NamespaceGuests, NetnsHypervisor
from .network_kernel import GuestNetwork
from .ports import Hypervisor, LifeCycle


class Driver(Protocol):
    """A hypervisor, and how addresses and routes get into its guests."""

    @property
    def hypervisor(self) -> Hypervisor:
        """Where machines come from."""

    @property
    def guests(self) -> GuestNetwork:
        """How they get addresses and routes."""

    @property
    def life_cycle(self) -> LifeCycle | None:
        """What starts and stops machines, None where that is not switched on."""

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to watch; `wake` is called, in any thread, when there is something new."""

    def devices_changed(self) -> None:
        """The host's network devices may have changed."""

    def close(self) -> None:
        """Stop, and leave machines as they are."""


class NetnsDriver:
    """Machines made of network namespaces: looked at when asked, in no thread of its own."""

    def __init__(self, config: HypervisorConfig) -> None:
        self._hypervisor = NetnsHypervisor(config.machines_directory)
        self._guests = NamespaceGuests(self._hypervisor)

    @property
    def hypervisor(self) -> NetnsHypervisor:
        """Where machines come from."""
        return self._hypervisor

    @property
    def guests(self) -> NamespaceGuests:
        """How they get addresses and routes."""
        return self._guests

    @property
    def life_cycle(self) -> None:
        """None: the lab makes and removes machines."""

    def start(self, wake: Callable[[], None]) -> None:
        """Nothing to begin."""

    def devices_changed(self) -> None:
        """Nothing to do: every look is a new one."""

    def close(self) -> None:
        """Nothing to stop."""


def driver_of(config: Config) -> Driver:
    """The driver that a configuration means; raises `Unavailable` where its library is missing."""
    if config.hypervisor.driver == "libvirt":
        from .libvirt_driver import LibvirtDriver

        return LibvirtDriver(config.hypervisor, config.state_directory)
    return NetnsDriver(config.hypervisor)
