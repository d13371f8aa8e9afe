"""Starting, pausing and stopping libvirt's machines, in a thread of its own.

A state is asked for once, when it is set. What the machine does later is its own affair.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any

from vmib.rows import VmAdminState

from .agent_courier import Connections
from .libvirt_api import load
from .logs import event, log


class LibvirtLifeCycle:
    """Implements `ports.LifeCycle`. `refused` is called, in its thread, after each refusal."""

    def __init__(self, connections: Connections, refused: Callable[[], None]) -> None:
        self._connections = connections
        self._refused = refused
        self._library = load()
        self._asked: queue.SimpleQueue[tuple[str, VmAdminState]] = queue.SimpleQueue()
        self._refusals: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._run, name="vmib-life-cycle", daemon=True).start()

    def ask(self, uuid: str, state: VmAdminState) -> None:
        """Have a machine brought to a state, soon."""
        self._asked.put((uuid, state))

    def refusals(self) -> Sequence[tuple[str, str]]:
        """What could not be done since the last call: UUID and reason."""
        found = []
        while not self._refusals.empty():
            found.append(self._refusals.get())
        return found

    def _run(self) -> None:
        while True:
            uuid, state = self._asked.get()
            try:
                self._bring(self._connections.domain(uuid), state)
            except self._library.libvirtError as error:
                log.error(event("machine-not-controlled", uuid=uuid, state=state.name, error=error))
                self._refusals.put((uuid, f"{state.name}: {error}"))
                self._refused()

    def _bring(self, domain: Any, state: VmAdminState) -> None:
        """Ask libvirt for what leads to a state; nothing where the machine is in it."""
        library = self._library
        now, _ = domain.state()
        is_active = bool(domain.isActive())
        is_paused = is_active and now == library.VIR_DOMAIN_PAUSED
        match state:
            case VmAdminState.running if not is_active:
                domain.create()
            case VmAdminState.running if is_paused:
                domain.resume()
            case VmAdminState.paused if not is_active:
                domain.createWithFlags(library.VIR_DOMAIN_START_PAUSED)
            case VmAdminState.paused if not is_paused:
                domain.suspend()
            case VmAdminState.suspended if is_active:
                domain.managedSave(0)
            case VmAdminState.shutdown if is_active:
                domain.shutdown()
