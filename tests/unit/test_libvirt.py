"""The driver for libvirt over libvirt's own test driver: the real library, its real events."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import libvirt
import pytest

from vmib.errors import Unavailable
from vmib.rows import VmAdminState
from vmib_agent import domain_watch
from vmib_agent.config import HypervisorConfig
from vmib_agent.delivery import Way
from vmib_agent.domains import Domain, parse_domain
from vmib_agent.libvirt_driver import LibvirtDriver
from vmib_agent.network import Address, Stack
from vmib_agent.ports import Guest, Presence

UUIDS = [f"6695eb01-f6a4-8304-79aa-97f2502e193{n}" for n in range(3)]
ALONE = """
<node>
  <domain type='test'>
    <name>web</name><uuid>{uuids[0]}</uuid><memory>1024</memory><os><type>hvm</type></os>
    <devices>
      <interface type='bridge'><mac address='52:54:00:aa:00:01'/><source bridge='br0'/></interface>
      <interface type='bridge'><mac address='52:54:00:aa:00:02'/><source bridge='br0'/></interface>
    </devices>
  </domain>
  <domain type='test'>
    <name>db</name><uuid>{uuids[1]}</uuid><memory>1024</memory><os><type>hvm</type></os>
  </domain>
</node>
"""
NEW = f"""
<domain type='test'>
  <name>new</name><uuid>{UUIDS[2]}</uuid><memory>1024</memory><os><type>hvm</type></os>
  <devices>
    <interface type='bridge'><mac address='52:54:00:aa:00:09'/><source bridge='br0'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
  </devices>
</domain>
"""


class Counting:
    """A connection that counts how often all domains are asked for."""

    def __init__(self, libvirtd: Libvirtd, connection: Any) -> None:
        self._libvirtd = libvirtd
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        if name == "listAllDomains":
            self._libvirtd.looks += 1
        return getattr(self._connection, name)


class Libvirtd:
    """Opens connections, remembers them, and is sometimes not there."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.connection: Any = None
        self.is_dead = False
        self.connections: list[Any] = []
        self.looks = 0
        self.attempts: list[float] = []

    def open(self, uri: str) -> Any:
        self.attempts.append(time.monotonic())
        if self.is_dead:
            return libvirt.open("test:///there/is/no/such/file")
        self.connection = libvirt.open(uri)
        self.connections.append(Counting(self, self.connection))
        return self.connections[-1]


class Driven:
    """A driver that has started, and how often it has woken the agent."""

    def __init__(self, libvirtd: Libvirtd, state: Path, **settings: bool) -> None:
        self.libvirtd = libvirtd
        config = replace(HypervisorConfig("libvirt", uri=libvirtd.uri), **settings)
        self.driver = LibvirtDriver(config, state, lambda uri: libvirtd.open(uri))
        self.woken = threading.Semaphore(0)
        self.driver.start(self.woken.release)

    def guests(self) -> dict[str, Guest]:
        return {guest.name: guest for guest in self.driver.hypervisor.guests()}

    def until(self, holds: Callable[[], bool]) -> None:
        """Look whenever the driver says that there is something new."""
        deadline = time.monotonic() + 10
        while not holds():
            assert self.woken.acquire(timeout=max(deadline - time.monotonic(), 0)), "nothing came"


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what the driver need not wake the agent for."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def machines(tmp_path: Path) -> Path:
    path = tmp_path / "machines.xml"
    path.write_text(ALONE.format(uuids=UUIDS))
    return path


@pytest.fixture
def driven(tmp_path: Path, machines: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Driven]:
    monkeypatch.setattr(domain_watch, "FIRST_RETRY", 0.02)
    found = Driven(Libvirtd(f"test://{machines}"), tmp_path)
    yield found
    found.driver.close()


def domain(driven: Driven, name: str) -> Any:
    return driven.libvirtd.connection.lookupByName(name)


def test_the_machines_of_libvirt_are_known_with_uuid_and_mac_addresses(driven: Driven) -> None:
    guests = driven.guests()
    assert list(guests) == ["db", "web"]
    web = guests["web"]
    assert (web.uuid, web.presence) == (UUIDS[0], Presence.RUNNING)
    assert [vif.mac for vif in web.vifs] == ["52:54:00:aa:00:01", "52:54:00:aa:00:02"]
    assert driven.driver.hypervisor.kind == "test"
    eventually(lambda: driven.driver.hypervisor.version == "0.0.2")


def test_whether_a_machine_stays_and_starts_with_the_host_is_known(driven: Driven) -> None:
    assert (driven.guests()["web"].is_persistent, driven.guests()["web"].autostart) == (True, False)
    domain(driven, "web").setAutostart(1)
    driven.driver._watch.look_again()
    driven.until(lambda: driven.guests()["web"].autostart is True)
    driven.libvirtd.connection.createXML(NEW, 0)
    driven.until(lambda: "new" in driven.guests())
    assert not driven.guests()["new"].is_persistent


def test_a_machine_that_is_destroyed_and_started_again_is_followed(driven: Driven) -> None:
    domain(driven, "web").destroy()
    driven.until(lambda: driven.guests()["web"].presence is Presence.DEFINED)
    domain(driven, "web").create()
    driven.until(lambda: driven.guests()["web"].presence is Presence.RUNNING)


def test_a_machine_that_is_paused_and_resumed_is_followed(driven: Driven) -> None:
    domain(driven, "db").suspend()
    driven.until(lambda: driven.guests()["db"].presence is Presence.PAUSED)
    domain(driven, "db").resume()
    driven.until(lambda: driven.guests()["db"].presence is Presence.RUNNING)


def test_machines_come_and_go(driven: Driven) -> None:
    new = driven.libvirtd.connection.createXML(NEW, 0)
    driven.until(lambda: "new" in driven.guests())
    new.destroy()
    driven.until(lambda: "new" not in driven.guests())


def test_a_device_that_appears_is_a_reason_to_look_again(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = driven.libvirtd.looks
    driven.driver.devices_changed()
    monkeypatch.setattr("socket.if_nameindex", lambda: [(1, "lo"), (99_999, "late0")])
    assert driven.libvirtd.looks == looks
    driven.driver.devices_changed()
    eventually(lambda: driven.libvirtd.looks > looks)


def test_a_libvirtd_that_is_lost_is_told_and_found_again_less_and_less_often(
    driven: Driven,
) -> None:

    def is_lost() -> bool:
        try:
            driven.guests()
        except Unavailable as error:
            return "no such file" in str(error).lower() or "failed to" in str(error).lower()
        return False

    libvirtd = driven.libvirtd
    libvirtd.is_dead = True
    libvirtd.attempts.clear()
    driven.driver._watch._closed(None, 0, libvirtd.connections[-1])
    driven.until(is_lost)
    eventually(lambda: len(libvirtd.attempts) >= 5)
    pauses = [b - a for a, b in zip(libvirtd.attempts, libvirtd.attempts[1:], strict=False)]
    assert pauses[3] > pauses[1]
    libvirtd.is_dead = False
    driven.until(lambda: not is_lost())
    assert list(driven.guests()) == ["db", "web"]


def test_a_machine_that_cannot_be_looked_at_is_as_it_was_last_seen(
    driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domain_watch, "SOON", 0.05)
    real, troubled = domain_watch.parse_domain, [UUIDS[0]]

    def parse(text: str, state: int = 0) -> Domain:
        found = real(text, state)
        if found.uuid in troubled:
            raise ValueError("the machine is busy")
        return found

    monkeypatch.setattr(domain_watch, "parse_domain", parse)
    domain(driven, "web").suspend()
    domain(driven, "db").suspend()
    driven.until(lambda: driven.guests()["db"].presence is Presence.PAUSED)
    assert driven.guests()["web"].presence is Presence.RUNNING
    troubled.clear()
    driven.until(lambda: driven.guests()["web"].presence is Presence.PAUSED)


def test_a_libvirtd_that_is_not_there_yet_is_no_reason_to_wait_for_ever(tmp_path: Path) -> None:
    libvirtd = Libvirtd("test:///default")
    libvirtd.is_dead = True
    began = time.monotonic()
    driven = Driven(libvirtd, tmp_path)
    with pytest.raises(Unavailable, match=r"test:///default"):
        driven.guests()
    assert time.monotonic() - began < 4
    libvirtd.is_dead = False
    eventually(lambda: driven.driver.hypervisor.version != "")
    assert "test" in driven.guests()
    driven.driver.close()


def test_an_address_waits_for_a_guest_agent_that_does_not_run(driven: Driven) -> None:
    driven.libvirtd.connection.createXML(NEW, 0)
    driven.until(lambda: "new" in driven.guests())
    wishes = {UUIDS[2]: wanted(0), UUIDS[0]: wanted(0), UUIDS[1]: Stack()}
    driven.driver.guests.wish(lambda: wishes)

    def reason(uuid: str) -> str:
        found = driven.driver.guests.deliveries().get(uuid)
        return found.reason if found else ""

    driven.until(lambda: reason(UUIDS[2]) == "it is not running in the machine")
    driven.until(lambda: reason(UUIDS[0]).startswith("it has no channel for a guest agent"))
    deliveries = driven.driver.guests.deliveries()
    assert {uuid: found.way for uuid, found in deliveries.items()} == {
        UUIDS[2]: Way.GUEST_AGENT,
        UUIDS[0]: Way.ITSELF,
    }
    domain(driven, "new").destroy()
    driven.until(lambda: UUIDS[2] not in driven.driver.guests.deliveries())


BOOTED = f"""
<domain type='test'>
  <name>booted</name><uuid>{UUIDS[2]}</uuid><memory>1024</memory>
  <os><type>hvm</type><kernel>/boot/vmlinuz</kernel><cmdline>quiet</cmdline></os>
  <devices>
    <interface type='bridge'><mac address='52:54:00:aa:00:09'/><source bridge='br0'/></interface>
  </devices>
</domain>
"""


def test_a_machine_is_told_its_addresses_on_the_command_line_of_its_next_start(
    tmp_path: Path, machines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(Libvirtd(f"test://{machines}"), tmp_path, start_up=True)
    shared = driven.libvirtd.connection
    monkeypatch.setattr(driven.libvirtd, "open", lambda _: shared)
    booted = shared.defineXML(BOOTED)
    driven.until(lambda: "booted" in driven.guests())
    driven.driver.guests.wish(lambda: {UUIDS[2]: wanted(0)})

    def line() -> str:
        return parse_domain(booted.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).command_line

    words = "vmib.begin ifname=vif0:52:54:00:aa:00:09 ip=192.0.2.1:::24::vif0:none vmib.end"
    eventually(lambda: line() == f"quiet {words}")
    driven.driver.guests.wish(lambda: {UUIDS[2]: Stack()})
    eventually(lambda: line() == "quiet")
    driven.driver.close()


def wanted(link: int) -> Stack:
    return Stack(frozenset({Address(link, ip_interface("192.0.2.1/24"))}))


def test_without_the_library_the_way_out_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    config = HypervisorConfig("libvirt", uri="test:///default")
    with pytest.raises(Unavailable, match=r"apt-get install python3-libvirt, or pip install"):
        LibvirtDriver(config, tmp_path)


def test_an_agent_for_namespaces_never_loads_libvirt() -> None:
    program = "import sys, vmib_agent.assembly; sys.exit('libvirt' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_machines_are_started_paused_and_stopped_where_that_is_switched_on(
    tmp_path: Path, machines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven = Driven(Libvirtd(f"test://{machines}"), tmp_path, control=True)
    shared = driven.libvirtd.connection
    monkeypatch.setattr(driven.libvirtd, "open", lambda _: shared)
    cycle = driven.driver.life_cycle
    assert cycle is not None

    def becomes(state: VmAdminState, presence: Presence) -> None:
        cycle.ask(UUIDS[0], state)
        driven.until(lambda: driven.guests()["web"].presence is presence)

    becomes(VmAdminState.paused, Presence.PAUSED)
    becomes(VmAdminState.running, Presence.RUNNING)
    becomes(VmAdminState.shutdown, Presence.DEFINED)
    becomes(VmAdminState.running, Presence.RUNNING)
    becomes(VmAdminState.suspended, Presence.DEFINED)
    becomes(VmAdminState.running, Presence.RUNNING)
    assert cycle.refusals() == []
    cycle.ask(UUIDS[2], VmAdminState.running)
    found: list[tuple[str, str]] = []

    def is_told() -> bool:
        found.extend(cycle.refusals())
        return bool(found)

    driven.until(is_told)
    assert found[0][0] == UUIDS[2]
    assert "Domain not found" in found[0][1]
    driven.driver.close()


def test_machines_are_not_controlled_unless_that_is_switched_on(driven: Driven) -> None:
    assert driven.driver.life_cycle is None
