"""Putting the agent's parts together, and taking from the host what is the agent's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

from vmib.rows import VifKey

from .cells import Cells
from .config import Config
from .drivers import Driver, driver_of
from .durable import make_directory
from .firewall import Firewall
from .host import Host
from .inventory import Device
from .kernel import HostKernel
from .netlink import Rtnetlink
from .network_kernel import HostNetwork, read_links
from .notices import Send
from .prober import Prober
from .scope import Scope, Target
from .shaper import Shaper
from .shapingstate import ShapedVif
from .statefile import StateFile
from .target import ifb_name
from .view import View

TICK = 1.0
"""Seconds between two looks at machines, deadlines and a share of what may have drifted."""


class RunningHost:
    """A host with its timer and its ears, inside an event loop."""

    def __init__(
        self,
        host: Host,
        kernel: HostKernel,
        driver: Driver,
        prober: Prober,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._host = host
        self._prober = prober
        self._kernel = kernel
        self._driver = driver
        self._loop = loop
        loop.add_reader(kernel.shaper.fileno(), self._kernel_event)
        self._timer = loop.call_later(TICK, self._tick)

    @property
    def service(self) -> Host:
        """What answers requests."""
        return self._host

    @property
    def view(self) -> View[Cells]:
        """What is read of it."""
        return self._host.view

    @property
    def quick(self) -> Host:
        """The short way for SETs."""
        return self._host

    def close(self) -> None:
        """Stop, and leave the network as it is."""
        self._timer.cancel()
        self._driver.close()
        self._prober.close()
        self._loop.remove_reader(self._kernel.shaper.fileno())
        self._kernel.shaper.close()

    def _kernel_event(self) -> None:
        self._host.kernel_event()
        self._driver.devices_changed()

    def _tick(self) -> None:
        self._timer = self._loop.call_later(TICK, self._tick)
        self._host.tick()


def start(
    config: Config, loop: asyncio.AbstractEventLoop, send: Send, uptime: Callable[[], float]
) -> RunningHost:
    """The host of a configuration, its kernel in agreement with its state."""
    make_directory(config.state_directory)
    driver = driver_of(config)
    links = Rtnetlink()
    shaper = Shaper(copying=driver.hypervisor.kind == "xen")
    kernel = HostKernel(shaper, HostNetwork(links, driver.guests), Firewall())

    def devices() -> Mapping[str, Device]:
        return {
            link.name: Device(link.index, link.mtu, link.running, link.master)
            for link in read_links(links)
        }

    state_file = StateFile(config.state_directory)
    prober = Prober(loop)
    host = Host(
        kernel,
        driver.hypervisor,
        devices,
        state_file,
        send,
        uptime,
        probes=prober,
        life_cycle=driver.life_cycle,
    )
    prober.tell = host.probe_crossed
    driver.start(_waking(loop, host.hypervisor_event))
    host.start()
    return RunningHost(host, kernel, driver, prober, loop)


def _waking(loop: asyncio.AbstractEventLoop, event: Callable[[], None]) -> Callable[[], None]:
    """From any thread: have `event` handled in the loop, once for many calls that come together."""
    is_due = threading.Event()

    def handle() -> None:
        is_due.clear()
        event()

    def wake() -> None:
        if not is_due.is_set():
            is_due.set()
            with suppress(RuntimeError):  # the loop is closed: the agent ends
                loop.call_soon_threadsafe(handle)

    return wake


def clean_up(config: Config) -> list[str]:
    """Remove from this host what the agent made there, and nothing else; says what it did.

    The state stays: an agent that starts again makes everything anew.
    """
    driver = driver_of(config)
    kernel = HostKernel(Shaper(), HostNetwork(Rtnetlink(), driver.guests), Firewall())
    state = StateFile(config.state_directory).load()
    driver.start(_ignored)
    try:
        guests = {guest.uuid: guest for guest in driver.hypervisor.guests()}
    finally:
        driver.close()
    vifs: list[ShapedVif] = []
    if state is not None:
        for (uuid, mac), number in state.indexes.vifs.items():
            found = [vif for vif in guests[uuid].vifs if vif.mac == mac] if uuid in guests else []
            name = ifb_name(VifKey(state.indexes.vms[uuid], number))
            vifs.append(ShapedVif(found[0].device if found else "", name))
    scope = Scope(tuple(vifs), tuple(guests.values()), network=True, rules=True)
    change = kernel.prepare(Target(), scope)
    kernel.carry_out(change)
    return [step.describe() for step in change.operations]


def _ignored() -> None:
    """What wakes nobody."""
