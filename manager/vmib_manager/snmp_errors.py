"""What can go wrong between the manager and an agent; every error names the agent."""

from __future__ import annotations

from vmib.errors import VmibError
from vmib.schema import instance_name
from vmib.snmp import ErrorStatus, Oid


class AgentError(VmibError):
    """The base of what one agent answered, or failed to; `agent` is its address and port.

    `way_out` says what to do about it, or is empty.
    """

    def __init__(self, agent: str, problem: str, way_out: str = "") -> None:
        super().__init__(f"agent {agent}: {problem}{'; ' if way_out else ''}{way_out}")
        self.agent = agent
        self.problem = problem
        self.way_out = way_out


class Timeout(AgentError):
    """No answer, although the request was sent `attempts` times in `seconds`."""

    def __init__(self, agent: str, attempts: int, seconds: float, way_out: str) -> None:
        times = "1 request" if attempts == 1 else f"{attempts} requests"
        super().__init__(agent, f"no answer to {times} in {seconds:g} s", way_out)
        self.attempts = attempts
        self.seconds = seconds


class AuthenticationFailed(AgentError):
    """The agent could not authenticate or decrypt the request, or does not offer that."""


class UnknownUser(AgentError):
    """The agent has no such user."""


class BadReply(AgentError):
    """An authentic reply that is not an answer to what was asked."""


class NotIncreasing(AgentError):
    """A walk that would never end: the agent's next instance is not after the one asked."""

    def __init__(self, agent: str, asked: Oid, answered: Oid) -> None:
        super().__init__(agent, f"OID not increasing: {dotted(answered)} after {dotted(asked)}")
        self.asked = asked
        self.answered = answered


class SnmpError(AgentError):
    """An error-status of the agent; `index` counts the varbinds from 1, 0 is none of them."""

    def __init__(self, agent: str, status: int, index: int, oid: Oid | None) -> None:
        name = _STATUS_NAMES.get(status, f"error-status {status}")
        where = "" if oid is None else f" at varbind {index}, {instance_name(oid)}"
        super().__init__(agent, name + where, _WAYS_OUT.get(status, ""))
        self.status = status
        self.status_name = name
        self.index = index
        self.oid = oid


class NotInView(SnmpError):
    """noAccess or authorizationError: the view of the user does not allow it."""


class TooLarge(VmibError):
    """What does not fit in one message and is never split: `limit` of `size` `unit` fit."""

    def __init__(self, what: str, size: int, limit: int, unit: str) -> None:
        super().__init__(f"{what} needs {size} {unit}, {limit} fit in a message; send less at once")
        self.size = size
        self.limit = limit
        self.unit = unit


class CommunityWrite(VmibError):
    """A SET with SNMPv2c."""

    def __init__(self) -> None:
        super().__init__("SNMPv2c is for reading only; give a user and pass phrases to write")


def error_of(agent: str, status: int, index: int, oid: Oid | None) -> SnmpError:
    """The error for an error-status other than noError."""
    in_view = status not in (ErrorStatus.noAccess, ErrorStatus.authorizationError)
    return (SnmpError if in_view else NotInView)(agent, status, index, oid)


def dotted(oid: Oid) -> str:
    """An OID in dots, without a leading one."""
    return ".".join(map(str, oid))


_STATUS_NAMES = {int(status): status.name for status in ErrorStatus}

_WAYS_OUT = {
    int(ErrorStatus.noAccess): "the user's view on the agent does not allow it",
    int(ErrorStatus.authorizationError): "the agent gives this user no such access",
    int(ErrorStatus.tooBig): "ask for less at once",
}
