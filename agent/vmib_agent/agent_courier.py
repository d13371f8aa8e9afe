"""Into guests by their QEMU guest agent, through libvirtd (virDomainQemuAgentCommand)."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from vmib.errors import Unavailable

from . import network_plan
from .delivery import Delivery, Way
from .domain_watch import Open
from .domains import AgentChannel, Domain
from .guest_agent import GuestAgent, GuestRefused, words_of
from .ledger import Ledger, put_of
from .libvirt_api import load
from .network import Link, Stack, State
from .network_plan import NetworkOperation

ANSWER_TIME = 5
"""Seconds that a guest agent has for an answer."""


class Connections:
    """A connection of their own for those who wait for guests; opened when needed, and anew."""

    def __init__(self, uri: str, opener: Open) -> None:
        self._uri = uri
        self._open = opener
        self._lock = threading.Lock()
        self._connection: Any = None

    def domain(self, uuid: str) -> Any:
        """The domain with this UUID; raises libvirtError."""
        return self._opened().lookupByUUIDString(uuid)

    def define(self, xml: str) -> None:
        """Define a domain anew; raises libvirtError."""
        self._opened().defineXML(xml)

    def _opened(self) -> Any:
        with self._lock:
            if self._connection is None or not self._connection.isAlive():
                self._connection = self._open(self._uri)
            return self._connection


class AgentCourier:
    """Implements `couriers.Courier`."""

    works_ahead = False

    def __init__(self, connections: Connections, ledger: Ledger) -> None:
        self._connections = connections
        self._ledger = ledger
        self._library = load()
        self._command = importlib.import_module("libvirt_qemu").qemuAgentCommand

    def serves(self, domain: Domain) -> bool:
        """Whether the domain has a channel for a guest agent."""
        return domain.agent is not AgentChannel.NONE

    def bring(self, domain: Domain, wanted: Stack) -> Delivery:
        """Make the guest's addresses and routes as wanted; raises `GuestRefused`."""
        if domain.agent is AgentChannel.SILENT:
            raise GuestRefused("it is not running in the machine")
        try:
            handle = self._connections.domain(domain.uuid)
        except self._library.libvirtError as error:
            raise GuestRefused(str(error)) from error
        return self._bring(domain, wanted, GuestAgent(self._asking(handle)))

    def _asking(self, handle: Any) -> Callable[[str], str]:
        def ask(command: str) -> str:
            try:
                return str(self._command(handle, command, ANSWER_TIME, 0))
            except self._library.libvirtError as error:
                raise GuestRefused(str(error)) from error

        return ask

    def _bring(self, domain: Domain, wanted: Stack, agent: GuestAgent) -> Delivery:
        numbers: Mapping[str, Link] = {vif.mac: vif.number for vif in domain.vifs}
        macs: Mapping[Link, str] = {number: mac for mac, number in numbers.items()}
        uuid = domain.uuid

        def look() -> tuple[Stack, Mapping[Link, str]]:
            there, found = agent.read(numbers)
            return self._ledger.put(uuid).marked(there, macs), found

        have, names = look()
        try:
            steps = network_plan.diff(State(stacks={uuid: wanted}), State(stacks={uuid: have}))
        except Unavailable as refusal:
            return Delivery(Way.GUEST_AGENT, have, str(refusal))
        if not steps:
            return Delivery(Way.GUEST_AGENT, have)
        self._ledger.record(uuid, self._ledger.put(uuid) | put_of(wanted, macs))
        reason = _carried_out(agent, steps, names)
        have, _ = look()
        self._ledger.record(uuid, put_of(have, macs))
        return Delivery(Way.GUEST_AGENT, have, reason)


def _carried_out(
    agent: GuestAgent, steps: list[NetworkOperation], names: Mapping[Link, str]
) -> str:
    """Take the steps in a guest, as far as it goes; the first reason why not, or ""."""
    reason = ""
    for step in steps:
        try:
            for words in words_of(step, names):
                agent.ip(*words)
        except GuestRefused as refused:
            reason = reason or str(refused)
        except KeyError:
            reason = reason or f"{step.describe()}: the machine has no such interface yet"
    return reason
