"""What is read of libvirt's XML, and what of it the agent knows as machines."""

from __future__ import annotations

import pytest

from vmib_agent.domains import AgentChannel, Domain, DomainVif, machines, parse_domain
from vmib_agent.ports import GuestVif, Presence

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"
RUNNING, PAUSED, SHUT_OFF = 1, 3, 5


def xml(inside: str = "", number: int | None = 3, kind: str = "qemu", devices: str = "") -> str:
    active = "" if number is None else f" id='{number}'"
    return (
        f"<domain type='{kind}'{active}><name>web</name><uuid>{UUID.upper()}</uuid>{inside}"
        f"<devices>{devices}</devices></domain>"
    )


def interface(mac: str, device: str = "", source: str = "bridge='br0'") -> str:
    target = f"<target dev='{device}'/>" if device else ""
    return (
        f"<interface type='bridge'><mac address='{mac}'/><source {source}/>{target}"
        "<model type='virtio'/></interface>"
    )


def test_a_running_machine_has_its_interfaces_by_mac_with_their_host_ends() -> None:
    devices = interface("52:54:00:AA:00:01", "vnet0") + interface("52:54:00:aa:00:02", "vnet1")
    domain = parse_domain(xml(devices=devices), RUNNING)
    assert (domain.uuid, domain.name, domain.number) == (UUID, "web", 3)
    assert domain.presence is Presence.RUNNING
    assert domain.vifs == (
        DomainVif(0, "52:54:00:aa:00:01", "vnet0", model="virtio"),
        DomainVif(1, "52:54:00:aa:00:02", "vnet1", model="virtio"),
    )


def test_a_machine_that_is_off_has_no_host_ends_even_where_they_have_names_already() -> None:
    domain = parse_domain(
        xml(number=None, devices=interface("52:54:00:aa:00:01", "tap7")), SHUT_OFF
    )
    assert domain.presence is Presence.DEFINED
    assert domain.vifs[0].device == ""


@pytest.mark.parametrize(
    ("state", "presence"),
    [
        (PAUSED, Presence.PAUSED),
        (0, Presence.RUNNING),
        (2, Presence.RUNNING),
        (4, Presence.RUNNING),
    ],
)
def test_a_machine_that_is_blocked_or_shutting_down_runs_still(state: int, presence: str) -> None:
    assert parse_domain(xml(), state).presence is presence


@pytest.mark.parametrize(
    ("state", "channel"),
    [("connected", AgentChannel.CONNECTED), ("disconnected", AgentChannel.SILENT)],
)
def test_the_channel_of_the_guest_agent_is_found_by_its_name(
    state: str, channel: AgentChannel
) -> None:
    other = "<channel type='unix'><target type='virtio' name='org.other.0'/></channel>"
    agent = (
        "<channel type='unix'>"
        f"<target type='virtio' name='org.qemu.guest_agent.0' state='{state}'/></channel>"
    )
    assert parse_domain(xml(devices=other)).agent is AgentChannel.NONE
    assert parse_domain(xml(devices=other + agent)).agent is channel


def test_direct_kernel_boot_and_libvirts_networks_are_told() -> None:
    boot = "<os><type>linux</type><kernel>/boot/k</kernel><cmdline>quiet ip=dhcp</cmdline></os>"
    devices = interface("52:54:00:aa:00:01", "vnet0", "network='lan' bridge='virbr0'")
    domain = parse_domain(xml(boot, devices=devices))
    assert (domain.kernel, domain.command_line) == ("/boot/k", "quiet ip=dhcp")
    assert domain.vifs[0].network == "lan"


def test_a_mac_address_that_a_machine_has_twice_names_its_first_interface() -> None:
    twice = interface("52:54:00:aa:00:01", "vnet0") + interface("52:54:00:aa:00:01", "vnet1")
    assert [vif.device for vif in parse_domain(xml(devices=twice)).vifs] == ["vnet0"]


@pytest.mark.parametrize("text", ["", "<domain>", "<network/>", "<domain><name>x</name></domain>"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        parse_domain(text)


def test_no_entity_of_the_xml_is_looked_up() -> None:
    text = '<!DOCTYPE d [<!ENTITY e SYSTEM "file:///etc/hostname">]>'
    named = f"{text}<domain><name>a&e;b</name><uuid>{UUID}</uuid></domain>"
    assert parse_domain(named).name in ("a", "ab")


def test_xens_own_domain_is_no_machine() -> None:
    control = Domain("00000000-0000-0000-0000-000000000000", "Domain-0", Presence.RUNNING, 0)
    assert machines("xen", {control.uuid: control}, ["lo"]) == []


def test_interfaces_plugged_into_a_xen_machine_have_the_host_ends_that_are_left() -> None:
    vifs = (
        DomainVif(0, "00:16:3e:00:00:01", "vif7.0"),
        DomainVif(1, "00:16:3e:00:00:02"),
        DomainVif(2, "00:16:3e:00:00:03"),
        DomainVif(3, "00:16:3e:00:00:04"),
    )
    domain = Domain(UUID, "web", Presence.RUNNING, 7, vifs)
    devices = ["vif7.10", "vif7.0", "vif7.2", "vif77.1", "vif7.1-emu", "eth0"]
    (guest,) = machines("xen", {UUID: domain}, devices)
    assert guest.vifs == (
        GuestVif(0, "00:16:3e:00:00:01", "vif7.0"),
        GuestVif(1, "00:16:3e:00:00:02", "vif7.2"),
        GuestVif(2, "00:16:3e:00:00:03", "vif7.10"),
        GuestVif(3, "00:16:3e:00:00:04", ""),
    )


def test_the_host_end_of_a_fully_virtualized_xen_machine_is_that_of_its_own_driver() -> None:
    devices = interface("00:16:3e:00:00:01", "vif7.0-emu")
    assert parse_domain(xml(kind="xen", devices=devices)).vifs[0].device == "vif7.0"
