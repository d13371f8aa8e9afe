"""From rows to the packet filter: members, inherited domains, and what stands in the way."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from vmib.rows import (
    Addr,
    Domain,
    DomainKey,
    Filter,
    FilterAction,
    FilterKey,
    InetAddressType,
    Switch,
    SwitchKey,
    SwitchMode,
    Vif,
    VifKey,
)
from vmib_agent.desired import RowKey, wish
from vmib_agent.inventory import Inventory, Rows, VifFacts
from vmib_agent.iptables import Chain
from vmib_agent.target import TargetCache, compile_target


def mac(number: int) -> str:
    return f"02:00:00:00:00:{number:02x}"


def rows(
    tables: dict[str, dict[Any, Any]], devices: tuple[str, ...] = ("vif1.0", "vif2.0")
) -> Rows:
    """Rows on a host with machines 1, 2, ... of one interface each."""
    facts = {
        VifKey(number, 1): VifFacts(
            f"uuid{number}", mac(number), 0, device, number, 1500, True, True
        )
        for number, device in enumerate(devices, 1)
    }
    vifs = {VifKey(1, 1): Vif(mac_address=mac(1), domain=1)}
    domains = {DomainKey(1): Domain(name="a")}
    return Rows({"vmibDomainTable": domains, "vmibVifTable": vifs} | tables, Inventory(vifs=facts))


def compiled(given: Rows, cache: TargetCache | None = None) -> Any:
    return compile_target(given, wish(given, {}), cache or TargetCache())


def lines(given: Rows, family: int = 4, table: str = "filter") -> list[str]:
    target, obstructions = compiled(given)
    assert obstructions == []
    return list(target.rules.lines(family, table))


def test_a_member_is_known_by_its_device_its_mac_address_and_its_addresses() -> None:
    key = (1, 1, InetAddressType.ipv4, ip_address("10.0.0.1"))
    found = lines(rows({"vmibAddrTable": {key: Addr(prefix_length=24)}}))
    assert "-A VMIB-FROM -m physdev --physdev-in vif1.0 -g VMIB-L1" in found
    assert "-A VMIB-G1.1 -s 10.0.0.1/32 -j RETURN" in found
    assert any(f"! --mac-source {mac(1)}" in line for line in found)
    assert not any("vif2.0" in line for line in found)


def test_an_interface_without_a_domain_takes_that_of_its_switch() -> None:
    switch = Switch(name="sw7", domain=1, mode=SwitchMode.bridged)
    vif = Vif(mac_address=mac(2), switch_index=7)
    given = rows({"vmibSwitchTable": {SwitchKey(7): switch}})
    given.intent["vmibVifTable"][VifKey(2, 1)] = vif  # type: ignore[index]
    assert "-A VMIB-FROM -m physdev --physdev-in vif2.0 -g VMIB-L1" in lines(given)


def test_the_guard_acts_on_interfaces_of_a_domain_that_want_it() -> None:
    given = rows({})
    assert any(line == "-N VMIB-GUARD" for line in lines(given))
    vif = given.intent["vmibVifTable"][VifKey(1, 1)]
    for change in ({"spoof_guard": False}, {"domain": 0}):
        free = {VifKey(1, 1): replace(vif, **change)}
        assert not any("GUARD" in line for line in lines(rows({"vmibVifTable": free})))


def test_the_modes_of_a_switch_become_nat_forwarding_or_closed_doors() -> None:
    def switch(mode: SwitchMode, octet: int) -> Switch:
        if mode is SwitchMode.isolated:
            return Switch(name=mode.name, mode=mode)
        address = ip_address(f"10.{octet}.0.254")
        return Switch(
            name=mode.name, mode=mode, addr_type=InetAddressType.ipv4, addr=address, addr_prefix=24
        )

    modes = (SwitchMode.nat, SwitchMode.routed, SwitchMode.isolated)
    switches = {SwitchKey(index): switch(mode, index) for index, mode in enumerate(modes, 1)}
    given = rows({"vmibSwitchTable": switches, "vmibDomainTable": {}, "vmibVifTable": {}})
    assert lines(given, table="nat")[-1] == (
        "-A VMIB-POSTROUTING -s 10.1.0.0/24 ! -o nat -j MASQUERADE"
    )
    assert lines(given)[-2:] == [
        "-A VMIB-FORWARD -i isolated -m physdev ! --physdev-is-bridged -j DROP",
        "-A VMIB-FORWARD -o isolated -m physdev ! --physdev-is-bridged -j DROP",
    ]
    target, _ = compiled(given)
    assert target.rules.sysctls == {"net.ipv4.ip_forward": 1}


def test_a_filter_that_cannot_be_is_laid_to_its_row_and_the_others_are_compiled() -> None:
    filters = {
        FilterKey(1, 10): Filter(action=FilterAction.drop, protocol=0),
        FilterKey(1, 20): Filter(action=FilterAction.drop, protocol=47),
    }
    target, (found,) = compiled(rows({"vmibFilterTable": filters}))
    assert found.row == RowKey("vmibFilterTable", FilterKey(1, 10))
    assert found.unavailable
    assert "vmibFilterProtocol.1.10" in found.message
    comments = [rule.comment for rule in target.rules.chains[Chain(4, "filter", "VMIB-L1")]]
    assert "vmib:f1.20" in comments
    assert "vmib:f1.10" not in comments


def test_an_interface_that_no_rule_can_name_is_laid_to_its_row() -> None:
    target, (found,) = compiled(rows({}, devices=("vif 1", "vif2.0")))
    assert found.row == RowKey("vmibVifTable", VifKey(1, 1))
    assert "vmibVifHostName.1.1" in found.message
    assert target.rules.chains == {}


def test_the_same_rows_are_compiled_once() -> None:
    cache, given = TargetCache(), rows({})
    first, _ = compiled(given, cache)
    again, _ = compiled(rows({}), cache)
    assert again.rules is first.rules
    more = {FilterKey(1, 1): Filter(action=FilterAction.drop)}
    other, _ = compiled(rows({"vmibFilterTable": more}), cache)
    assert other.rules != first.rules
