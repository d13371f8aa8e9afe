"""The standard objects every agent serves: SNMPv2-MIB, SNMP-FRAMEWORK-MIB, the targets of
notifications, and the counters of SNMP-MPD-MIB, SNMP-TARGET-MIB and SNMP-USER-BASED-SM-MIB. All of
them read-only here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vmib import __version__, objects
from vmib.smi import Oid, Tag
from vmib.status import ErrorStatus
from vmib.vm_mib import VM_MIB

from . import target_mib
from .access import ENGINE, MPD_STATS, SNMP, SYSTEM, TARGET, USM_STATS
from .config import Target
from .service import MibService, Missing, PreparedSet, SetRefused, Value, VarBind

Reader = Callable[[], Value]

SYS_UP_TIME: Oid = (*SYSTEM, 3, 0)
SNMP_TRAP_OID: Oid = (1, 3, 6, 1, 6, 3, 1, 1, 4, 1, 0)

_APPLICATION_AND_INTERNET = 72
"""sysServices of a host (RFC 3418)."""

COUNTERS: Mapping[str, Oid] = {
    "snmpInPkts": (*SNMP, 1, 0),
    "snmpInBadVersions": (*SNMP, 3, 0),
    "snmpInBadCommunityNames": (*SNMP, 4, 0),
    "snmpInBadCommunityUses": (*SNMP, 5, 0),
    "snmpInASNParseErrs": (*SNMP, 6, 0),
    "snmpSilentDrops": (*SNMP, 31, 0),
    "snmpProxyDrops": (*SNMP, 32, 0),
    "snmpUnknownSecurityModels": (*MPD_STATS, 1, 0),
    "snmpInvalidMsgs": (*MPD_STATS, 2, 0),
    "snmpUnknownPDUHandlers": (*MPD_STATS, 3, 0),
    "snmpUnavailableContexts": (*TARGET, 4, 0),
    "snmpUnknownContexts": (*TARGET, 5, 0),
    "usmStatsUnsupportedSecLevels": (*USM_STATS, 1, 0),
    "usmStatsNotInTimeWindows": (*USM_STATS, 2, 0),
    "usmStatsUnknownUserNames": (*USM_STATS, 3, 0),
    "usmStatsUnknownEngineIDs": (*USM_STATS, 4, 0),
    "usmStatsWrongDigests": (*USM_STATS, 5, 0),
    "usmStatsDecryptionErrors": (*USM_STATS, 6, 0),
}


class Module(NamedTuple):
    """A row of sysORTable."""

    oid: Oid
    description: str


CAPABILITIES = Module(
    (*objects.ROOT, 3, 1, 1), f"VMIB-MIB as vmib-agent {__version__} implements it"
)
"""vmibAgentV0 of VMIB-CAPABILITIES-MIB."""

MODULES: Sequence[Module] = (
    Module((1, 3, 6, 1, 6, 3, 1), "The MIB module for SNMP entities (RFC 3418)"),
    Module((1, 3, 6, 1, 6, 3, 10, 3, 1, 1), "SNMP-FRAMEWORK-MIB (RFC 3411)"),
    Module((1, 3, 6, 1, 6, 3, 11, 3, 1, 1), "SNMP-MPD-MIB (RFC 3412)"),
    Module((1, 3, 6, 1, 6, 3, 12, 3), "SNMP-TARGET-MIB, read-only (RFC 3413)"),
    Module((1, 3, 6, 1, 6, 3, 13, 3), "SNMP-NOTIFICATION-MIB, read-only (RFC 3413)"),
    Module((1, 3, 6, 1, 6, 3, 15, 2, 1, 1), "SNMP-USER-BASED-SM-MIB, counters (RFC 3414)"),
    Module(VM_MIB, "VM-MIB (RFC 7666): machines and their interfaces, read-only"),
    CAPABILITIES,
)


class SystemFacts(NamedTuple):
    """What stays the same while the agent runs."""

    description: str
    contact: str
    name: str
    location: str
    engine_id: bytes
    engine_boots: int
    max_message_size: int
    targets: tuple[Target, ...] = ()


def standard_objects(
    facts: SystemFacts,
    uptime: Callable[[], float],
    counter: Callable[[str], int],
) -> Objects:
    """The standard objects; `uptime` is in seconds, `counter` reads one of `COUNTERS` by name."""

    def text(value: str) -> Reader:
        return lambda: Value(Tag.OCTET_STRING, value.encode())

    def integer(value: int) -> Reader:
        return lambda: Value(Tag.INTEGER, value)

    def count(name: str) -> Reader:
        return lambda: Value(Tag.COUNTER32, counter(name) % 2**32)

    instances: dict[Oid, Reader] = {
        (*SYSTEM, 1, 0): text(facts.description),
        (*SYSTEM, 2, 0): lambda: Value(Tag.OBJECT_IDENTIFIER, objects.SYS_OBJECT_ID),
        SYS_UP_TIME: lambda: ticks(uptime()),
        (*SYSTEM, 4, 0): text(facts.contact),
        (*SYSTEM, 5, 0): text(facts.name),
        (*SYSTEM, 6, 0): text(facts.location),
        (*SYSTEM, 7, 0): integer(_APPLICATION_AND_INTERNET),
        (*SYSTEM, 8, 0): lambda: ticks(0),
        (*SNMP, 30, 0): integer(2),  # snmpEnableAuthenTraps: disabled
        (*ENGINE, 1, 0): lambda: Value(Tag.OCTET_STRING, facts.engine_id),
        (*ENGINE, 2, 0): integer(facts.engine_boots),
        (*ENGINE, 3, 0): lambda: Value(Tag.INTEGER, int(uptime())),
        (*ENGINE, 4, 0): integer(facts.max_message_size),
    }
    for number, module in enumerate(MODULES, 1):
        instances[(*SYSTEM, 9, 1, 2, number)] = _constant(Tag.OBJECT_IDENTIFIER, module.oid)
        instances[(*SYSTEM, 9, 1, 3, number)] = text(module.description)
        instances[(*SYSTEM, 9, 1, 4, number)] = lambda: ticks(0)
    instances |= {oid: count(name) for name, oid in COUNTERS.items()}
    for oid, value in target_mib.instances(facts.targets).items():
        instances[oid] = _constant(*value)
    return Objects(instances, target_mib.COLUMNS)


def ticks(seconds: float) -> Value:
    """Seconds as TimeTicks."""
    return Value(Tag.TIMETICKS, int(seconds * 100) % 2**32)


def _constant(tag: int, raw: Any) -> Reader:
    return lambda: Value(tag, raw)


class Objects:
    """A fixed set of instances, each with a function that reads it.

    What is one sub-identifier shorter than an instance is a column, and so are `columns`.
    """

    def __init__(self, instances: Mapping[Oid, Reader], columns: Iterable[Oid] = ()) -> None:
        self._instances = instances
        self.order: Sequence[Oid] = sorted(instances)
        """The instances."""
        self._columns = {oid[:-1] for oid in instances} | set(columns)

    def get(self, oid: Oid) -> Value | Missing:
        """The value of one instance."""
        reader = self._instances.get(oid)
        if reader is not None:
            return reader()
        return Missing(instance=any(oid[:n] in self._columns for n in range(len(oid) + 1)))

    def read(self, oid: Oid) -> Value:
        """The value of an instance that there is."""
        return self._instances[oid]()

    def following(self, oid: Oid) -> Oid | None:
        """The first instance after this OID, or None."""
        position = bisect_right(self.order, oid)
        return self.order[position] if position < len(self.order) else None

    def get_next(self, oid: Oid) -> VarBind | None:
        """The first instance after this OID and its value, or None."""
        found = self.following(oid)
        return None if found is None else VarBind(found, self._instances[found]())

    def set(self, varbinds: Sequence[VarBind], principal: str) -> None:
        """Refused."""
        raise SetRefused(ErrorStatus.notWritable, 1, "read-only")


class Merged:
    """The standard objects and the agent's own as one MIB; SETs go to the agent's own."""

    def __init__(self, standard: Objects, own: MibService) -> None:
        self._standard = standard
        self._own = own
        self._spans = [(root, (*root[:-1], root[-1] + 1)) for root in (VM_MIB, objects.VMIB_MIB)]

    def get(self, oid: Oid) -> Value | Missing:
        """The value of one instance."""
        own = any(start <= oid < end for start, end in self._spans)
        return self._own.get(oid) if own else self._standard.get(oid)

    def get_next(self, oid: Oid) -> VarBind | None:
        """The first instance of either after this OID, or None."""
        following = self._standard.following(oid)
        for start, end in self._spans:
            if oid < end and (following is None or start < following):
                found = self._own.get_next(oid)
                if found is not None and (following is None or found.oid < following):
                    return found
                break
        return self._standard.get_next(oid)

    def prepare(self, varbinds: Sequence[VarBind], principal: str) -> PreparedSet:
        """The first half of `set`; raises `SetRefused`."""
        return self._own.prepare(varbinds, principal)

    def set(self, varbinds: Sequence[VarBind], principal: str) -> None:
        """All of the varbinds or none; raises `SetRefused`."""
        self._own.set(varbinds, principal)
