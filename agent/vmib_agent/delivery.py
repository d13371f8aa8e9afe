"""How addresses and routes get into guests that are slow to reach, and how far they have got.

A namespace is read and changed at once. A guest behind a guest agent, a DHCP server or its own
start-up configuration is told what to have, and has it some time later: its rows are waiting
until it was seen there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from vmib.errors import Unavailable

from . import network_plan
from .network import Stack, State


class Way(Enum):
    """How a guest gets what it is to have, in words for people."""

    KERNEL = "the kernel of this host"
    GUEST_AGENT = "guest agent"
    DHCP = "DHCP"
    START_UP = "start-up configuration"
    ITSELF = "the machine itself"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How far a guest's addresses and routes have got.

    `have` is what was last seen there, None while nothing was; `reason` why that is not what is
    wished, "" if nothing is known to stand in the way.
    """

    way: Way
    have: Stack | None = None
    reason: str = ""


def missing(place: str, wanted: Stack, delivery: Delivery) -> Mapping[str, str]:
    """What of a wish a guest does not have: the subject of the step that is missing -> why.

    The subject is the guest itself where nothing is known of it.
    """
    words = f"{delivery.way.value}: {{}}".format
    if delivery.have is None:
        wishes = wanted.addresses or wanted.routes
        return {place: words(delivery.reason or "not asked yet")} if wishes else {}
    try:
        steps = network_plan.diff(
            State(stacks={place: wanted}), State(stacks={place: delivery.have})
        )
    except Unavailable as refusal:
        return {refusal.name: words(refusal.reason)}
    found: dict[str, str] = {}
    for step in steps:
        found.setdefault(step.subject, words(delivery.reason or f"missing: {step.describe()}"))
    return found
