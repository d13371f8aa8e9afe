"""Numbers of machines and interfaces: given once, kept for ever, never given to another.

A machine's number belongs to its UUID, an interface's to the pair of UUID and MAC address. What
the hypervisor reports is numbered when first seen; what a manager creates, when its
configuration is committed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from vmib.needs import ROW_STATUS
from vmib.status import ErrorStatus

from .ports import Guest
from .state import Indexes, Intent, Key, State
from .world import VIF, VM, Problem, World, effective


def discovered(state: State, guests: Sequence[Guest]) -> State:
    """The state in which every guest and each of its interfaces has its number."""
    indexes = state.indexes
    vms, vifs, next_vm = dict(indexes.vms), dict(indexes.vifs), indexes.next_vm
    highest: dict[str, int] = {}
    for (uuid, _), number in vifs.items():
        highest[uuid] = max(number, highest.get(uuid, 0))
    for guest in guests:
        if guest.uuid not in vms:
            vms[guest.uuid] = next_vm
            next_vm += 1
        for vif in guest.vifs:
            if (guest.uuid, vif.mac) not in vifs:
                highest[guest.uuid] = highest.get(guest.uuid, 0) + 1
                vifs[guest.uuid, vif.mac] = highest[guest.uuid]
    if len(vms) == len(indexes.vms) and len(vifs) == len(indexes.vifs):
        return state
    return replace(state, indexes=Indexes(vms, vifs, next_vm))


def with_numbers(indexes: Indexes, guests: Sequence[Guest]) -> list[Guest]:
    """The guests that have a number, with those of their interfaces that have one."""
    return [
        replace(guest, vifs=tuple(v for v in guest.vifs if (guest.uuid, v.mac) in indexes.vifs))
        for guest in guests
        if guest.uuid in indexes.vms
    ]


def numbered(indexes: Indexes, before: Intent, after: Intent) -> Indexes:
    """The numbers once an intent has taken the place of another.

    A configured interface keeps its number when its MAC address changes; the number of a row
    that is gone stays given to what had it.
    """
    if before.get(VM) is after.get(VM) and before.get(VIF) is after.get(VIF):
        return indexes
    vms, vifs, next_vm = dict(indexes.vms), dict(indexes.vifs), indexes.next_vm
    for key, row in after.get(VM, {}).items():
        vms[row.uuid] = key[0]
        next_vm = max(next_vm, key[0] + 1)
    uuids = {number: uuid for uuid, number in vms.items()}
    former = before.get(VIF, {})
    for key, row in after.get(VIF, {}).items():
        old = former.get(key)
        if old is not None and old.mac_address != row.mac_address:
            vifs.pop((uuids[key[0]], old.mac_address), None)
        vifs[uuids[key[0]], row.mac_address] = key[1]
    return Indexes(vms, vifs, next_vm)


def conflicts(
    indexes: Indexes,
    before: Intent,
    after: Intent,
    touched: Collection[tuple[str, Key]],
    world: World,
) -> Iterator[Problem]:
    """New rows of machines and interfaces whose numbers contradict those given before."""
    owners: Mapping[tuple[str, int], str] | None = None
    for table, key in touched:
        if table not in (VM, VIF) or world.discovers(table, key):
            continue
        row, old = after.get(table, {}).get(key), before.get(table, {}).get(key)
        if row is None:
            continue
        if table == VM:
            number = indexes.vms.get(row.uuid, key[0])
            if number != key[0]:
                yield _taken(table, key, "uuid", f"this machine has the number {number}")
            continue
        vm = effective(after, world, VM, (key[0],))
        if vm is None or (old is not None and old.mac_address == row.mac_address):
            continue
        number = indexes.vifs.get((vm.uuid, row.mac_address), key[1])
        if number != key[1]:
            yield _taken(table, key, "mac_address", f"this interface has the number {number}")
        if old is None:
            if owners is None:
                owners = {(uuid, n): mac for (uuid, mac), n in indexes.vifs.items()}
            owner = owners.get((vm.uuid, key[1]), row.mac_address)
            if owner != row.mac_address:
                status = ErrorStatus.inconsistentName
                reason = f"the number {key[1]} was given to the interface {owner}"
                yield Problem(table, key, ROW_STATUS, status, reason)


def _taken(table: str, key: Key, field: str, reason: str) -> Problem:
    return Problem(table, key, field, ErrorStatus.inconsistentValue, reason)
