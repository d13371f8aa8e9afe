"""The answer to: is the network as described? Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vmib.errors import VmibError

from .plan import Plan
from .status import Deviation


@dataclass(frozen=True, slots=True)
class Verification:
    """What keeps the network from being as described.

    `plan` has the findings and what hosts are not yet told; `deviations`, by host, what they are
    told and do not do; `unreachable` the hosts that could not be asked.
    """

    plan: Plan
    deviations: Mapping[str, Sequence[Deviation]]
    unreachable: Mapping[str, str]

    @property
    def ok(self) -> bool:
        """Whether everything is as described; rows that wait for a machine do not count."""
        return (
            self.plan.ok
            and not self.plan.changed
            and not self.unreachable
            and not any(found.is_wrong for rows in self.deviations.values() for found in rows)
        )


def verified(
    plan: Plan,
    deviations: Mapping[str, Sequence[Deviation]],
    failed: Mapping[str, VmibError],
) -> Verification:
    """Everything together."""
    return Verification(plan, deviations, {host: str(error) for host, error in failed.items()})
