"""What can go wrong with a lab; every error says what to do."""

from __future__ import annotations

from collections.abc import Iterable

from vmib.errors import VmibError


class LabError(VmibError):
    """The base of what a lab refuses or fails to do."""


class NotRoot(LabError):
    """Somebody other than root asks for namespaces."""

    def __init__(self) -> None:
        super().__init__("network namespaces are for root alone; run this with sudo")


class NotMade(LabError):
    """A lab that the kernel does not let us make; what was made of it is gone again."""

    def __init__(self, lab: str, problem: str) -> None:
        needs = "it takes network namespaces, veth and bridges in the kernel, and space in /run"
        super().__init__(f"lab {lab} cannot be made: {problem}; {needs}")
        self.lab = lab


class UnknownLab(LabError):
    """A lab that is not there."""

    def __init__(self, lab: str, known: Iterable[str]) -> None:
        super().__init__(f"there is no lab {lab!r}; there are: {', '.join(known) or 'none'}")
        self.lab = lab


class UnknownMember(LabError):
    """A name that no host and no machine of the lab has."""

    def __init__(self, lab: str, member: str, known: Iterable[str]) -> None:
        there = ", ".join(known) or "nobody"
        super().__init__(f"lab {lab} has no host or machine {member!r}; there are: {there}")
        self.lab = lab
        self.member = member


class LabUnusable(LabError):
    """A lab of that name, or what is left of one, with which nothing can be done but removal."""

    def __init__(self, lab: str, problem: str) -> None:
        super().__init__(f"lab {lab}: {problem}; take it down first: vmib lab down --name {lab}")
        self.lab = lab


class InsideLab(LabError):
    """Whoever takes a lab down is in one of its namespaces."""

    def __init__(self, lab: str) -> None:
        super().__init__(f"lab {lab} cannot be taken down from inside; leave its namespaces first")
        self.lab = lab


class AddressTaken(LabError):
    """An address of an agent that the kernel does not give to us."""

    def __init__(self, host: str, address: str, port: int, reason: str) -> None:
        way_out = "end what uses it, or give the agent another address or port"
        super().__init__(f"host {host}: {address} port {port}: {reason}; {way_out}")
        self.host = host


class AgentFailed(LabError):
    """An agent that does not serve: it ended, or answers something else than it should."""

    def __init__(self, host: str, problem: str, log: object) -> None:
        super().__init__(f"agent of host {host}: {problem}; its log is {log}")
        self.host = host
        self.problem = problem


class ProcessStays(LabError):
    """A process that does not end although it was killed."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"process {pid} does not end; wait for it, then try again")
        self.pid = pid
