"""Which objects a user may read and write (views in the sense of RFC 3415).

Reads see everything the agent serves; keys, users and views are not among it. Users exist only
with authentication and privacy, so every write has both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass

from vmib import objects
from vmib.smi import Oid
from vmib.vm_mib import VM_MIB

from .users import Role


@dataclass(frozen=True, slots=True)
class Subtrees:
    """A view: a set of subtrees, in order, none inside another."""

    roots: tuple[Oid, ...] = ()

    def includes(self, oid: Oid) -> bool:
        """Whether an instance lies in one of the subtrees."""
        before = bisect_right(self.roots, oid)
        return before > 0 and oid[: len(self.roots[before - 1])] == self.roots[before - 1]

    def following(self, oid: Oid) -> Oid | None:
        """The first subtree that starts after this OID."""
        return next((root for root in self.roots if root > oid), None)


@dataclass(frozen=True, slots=True)
class Principal:
    """On whose behalf a request is carried out: a securityName and its views."""

    name: str
    read: Subtrees
    write: Subtrees


SYSTEM: Oid = (1, 3, 6, 1, 2, 1, 1)
SNMP: Oid = (1, 3, 6, 1, 2, 1, 11)
ENGINE: Oid = (1, 3, 6, 1, 6, 3, 10, 2, 1)
MPD_STATS: Oid = (1, 3, 6, 1, 6, 3, 11, 2, 1)
TARGET: Oid = (1, 3, 6, 1, 6, 3, 12, 1)
NOTIFY: Oid = (1, 3, 6, 1, 6, 3, 13, 1)
USM_STATS: Oid = (1, 3, 6, 1, 6, 3, 15, 1, 1)

NONE = Subtrees()

READ = Subtrees(
    tuple(
        sorted(
            [
                *(SYSTEM, SNMP, ENGINE, MPD_STATS, TARGET, NOTIFY, USM_STATS),
                *(VM_MIB, objects.VMIB_MIB),
            ]
        )
    )
)
"""vmibRead."""

SHAPE_WRITE = Subtrees(
    tuple(
        sorted(
            [
                objects.vmibShapeTable.oid,
                objects.vmibLinkTable.oid,
                objects.vmibProbeTable.oid,
                objects.vmibTxnTable.oid[:-1],  # the table and the scalars beside it
            ]
        )
    )
)
"""vmibShapeWrite."""

ADMIN_WRITE = Subtrees((VM_MIB, objects.VMIB_MIB))
"""vmibAdminWrite; of VM-MIB nothing is writable, and a SET says so."""

WRITE: Mapping[Role, Subtrees] = {
    Role.READ: NONE,
    Role.SHAPE: SHAPE_WRITE,
    Role.ADMIN: ADMIN_WRITE,
}


def principal(name: str, role: Role) -> Principal:
    """The principal of a user."""
    return Principal(name, READ, WRITE[role])


def community_principal(community_name: str) -> Principal:
    """The principal of SNMPv2c: reads, never writes."""
    return Principal(community_name, READ, NONE)
