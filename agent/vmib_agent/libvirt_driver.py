"""Machines of libvirt: Xen and QEMU/KVM (and libvirt's own test driver)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from vmib.errors import Unavailable

from .agent_courier import AgentCourier, Connections
from .config import HypervisorConfig
from .couriers import Courier, Couriers
from .delivery import Way
from .dhcp_courier import DhcpCourier
from .domain_watch import DomainWatch, Open
from .domains import Domain, machines, with_xen_devices
from .ledger import Ledger
from .libvirt_api import with_events
from .life_cycle import LibvirtLifeCycle
from .ports import Guest
from .start_up_courier import StartUpCourier

LEDGER = "guests.json"
"""The file in the state directory that says what was put into guests."""
PATIENCE = 5.0
"""Seconds that the agent waits at its start for the first answer of libvirtd."""


class LibvirtHypervisor:
    """The domains of one libvirtd. Implements `ports.Hypervisor`."""

    def __init__(self, uri: str, watch: DomainWatch) -> None:
        self._uri = uri
        self._watch = watch

    @property
    def kind(self) -> str:
        """The scheme of the URI: xen, qemu or test."""
        return self._uri.partition(":")[0].partition("+")[0]

    @property
    def version(self) -> str:
        """The hypervisor's version, "" while it is not known."""
        return self._watch.version

    def guests(self) -> Sequence[Guest]:
        """All domains, by name, as last seen; raises `Unavailable` while libvirtd is lost."""
        sight = self._watch.sight
        if sight.fault:
            raise Unavailable(self._uri, sight.fault)
        return machines(self.kind, sight.domains, [name for _, name in socket.if_nameindex()])

    def with_devices(self, domain: Domain) -> Domain:
        """The domain with the host ends that libvirt does not tell of."""
        if self.kind != "xen":
            return domain
        return with_xen_devices(domain, [name for _, name in socket.if_nameindex()])


class LibvirtDriver:
    """Implements `drivers.Driver`. `opener` stands in for libvirt.open."""

    def __init__(
        self, config: HypervisorConfig, state_directory: Path, opener: Open | None = None
    ) -> None:
        library = with_events()
        self._wake: Callable[[], None] = _nobody
        self._watch = DomainWatch(config.uri, self._domains_changed, opener or library.open)
        self._hypervisor = LibvirtHypervisor(config.uri, self._watch)
        self._devices = set(socket.if_nameindex())
        ledger = Ledger(state_directory / LEDGER)
        connections = Connections(config.uri, opener or library.open)
        self._life_cycle = (
            LibvirtLifeCycle(connections, self._something_new) if config.control else None
        )
        ways: list[tuple[Way, Courier]] = [(Way.GUEST_AGENT, AgentCourier(connections, ledger))]
        if config.start_up:
            start_up = StartUpCourier(connections, ledger, self._hypervisor.with_devices)
            ways.append((Way.START_UP, start_up))
        if config.dhcp_directory:
            dhcp = DhcpCourier(Path(config.dhcp_directory), ledger, self._hypervisor.with_devices)
            ways.append((Way.DHCP, dhcp))
        self._couriers = Couriers(
            ways,
            lambda: self._watch.sight.domains,
            ledger,
            self._something_new,
        )

    @property
    def hypervisor(self) -> LibvirtHypervisor:
        """Where machines come from."""
        return self._hypervisor

    @property
    def guests(self) -> Couriers:
        """How they get addresses and routes."""
        return self._couriers

    @property
    def life_cycle(self) -> LibvirtLifeCycle | None:
        """What starts and stops machines, None where that is not switched on."""
        return self._life_cycle

    def start(self, wake: Callable[[], None]) -> None:
        """Begin to watch libvirtd; waits for its first answer, but not long."""
        self._watch.start(PATIENCE)
        self._wake = wake
        self._couriers.domains_changed()
        self._couriers.start()
        if self._life_cycle is not None:
            self._life_cycle.start()

    def devices_changed(self) -> None:
        """Have libvirtd asked about devices that are new: it may tell of them only later."""
        now = set(socket.if_nameindex())
        if now - self._devices:
            self._watch.look_again()
        self._devices = now

    def close(self) -> None:
        """Stop, and leave machines as they are."""
        self._wake = _nobody
        self._couriers.close()
        self._watch.close()

    def _domains_changed(self) -> None:
        self._couriers.domains_changed()
        self._wake()

    def _something_new(self) -> None:
        self._wake()


def _nobody() -> None:
    """Whom to wake before the start and after the end."""
