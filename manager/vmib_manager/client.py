"""The manager's SNMP client: asyncio, one UDP socket per address family for many agents.

    async with Client() as client:
        agent = client.agent("192.0.2.1", 161, Credentials.from_passphrases("admin", auth, priv))
        await agent.set([VarBind(oid, Value.unsigned32(1000))])

SNMPv3 with a user for everything; SNMPv2c for reading, when a Community is given instead.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self, TypeVar

from vmib.snmp import ErrorStatus, Oid, PduType, Value, VarBind, ber

from .credentials import Community, Credentials
from .session import Patience, Session, Shared
from .snmp_errors import (
    AgentError,
    AuthenticationFailed,
    BadReply,
    CommunityWrite,
    NotIncreasing,
    NotInView,
    SnmpError,
    Timeout,
    TooLarge,
    UnknownUser,
)

__all__ = [
    "MAX_VARBINDS",
    "Agent",
    "AgentError",
    "AuthenticationFailed",
    "BadReply",
    "Client",
    "Community",
    "CommunityWrite",
    "Credentials",
    "NotInView",
    "NotIncreasing",
    "SnmpError",
    "Timeout",
    "TooLarge",
    "UnknownUser",
]

MAX_VARBINDS = 1024
"""Varbinds in one SET that agents take by default; the message's size is met long before."""

_VARBINDS_PER_REPLY = 48
_COLUMNS_TOGETHER = 8
_LONGER_HEADERS = 10
"""Octets that the five lengths around the varbinds take more in a full message than in none."""

_LONGER_RESPONSE = 32
"""Octets by which agents take the response, which repeats the varbinds, to be longer at most."""

_TOO_MUCH = (ErrorStatus.tooBig, ErrorStatus.genErr)

_Group = TypeVar("_Group", bound=Sequence[VarBind])


class Client:
    """The sockets and the cached keys that many agents share; use it as a context manager.

    At most `max_in_flight` requests per socket are on their way, fewer when the kernel grants a
    smaller receive buffer than asked (net.core.rmem_max); the others wait their turn.
    """

    def __init__(self, *, max_in_flight: int = 256, receive_buffer: int = 4 << 20) -> None:
        self._shared = Shared(max_in_flight, receive_buffer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._shared.close()

    @property
    def dropped(self) -> int:
        """Datagrams that answered nothing: late, malformed, not authentic or from elsewhere."""
        return self._shared.dropped

    def agent(
        self,
        address: str,
        port: int,
        credentials: Credentials | Community,
        *,
        timeout: float = 5.0,
        retries: int = 4,
        max_message: int | None = None,
        context: str = "",
    ) -> Agent:
        """A session with one agent, at an address or a name; nothing is sent yet.

        `timeout` is for one request with all its `retries`, in seconds. `max_message` is the
        largest message sent and the largest reply asked for, by default one Ethernet frame.
        """
        patience = Patience(timeout, retries)
        return Agent(
            Session(self._shared, address, port, credentials, patience, max_message, context)
        )


class Agent:
    """One agent; made by `Client.agent`.

    Every operation raises an AgentError: Timeout, AuthenticationFailed, UnknownUser, BadReply,
    NotInView or another SnmpError.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def name(self) -> str:
        """Its address and port, as errors name it."""
        return self._session.name

    async def get(self, oids: Iterable[Oid]) -> tuple[VarBind, ...]:
        """The values of instances, in order; one that is missing has an exception as its value."""
        return await self._same_oids(PduType.GET, _unset(oids))

    async def set(self, varbinds: Iterable[VarBind], *, longer: float = 0.0) -> tuple[VarBind, ...]:
        """Set all the varbinds or none, in one message; raises TooLarge rather than split it.

        `longer` seconds more than for other requests are waited for the answer.
        """
        if isinstance(self._session.credentials, Community):
            raise CommunityWrite
        return await self._same_oids(PduType.SET, tuple(varbinds), longer)

    async def getbulk(
        self, oids: Iterable[Oid], *, non_repeaters: int = 0, max_repetitions: int = 10
    ) -> tuple[VarBind, ...]:
        """GetBulk of RFC 3416 section 4.2.3, as the agent answers it."""
        pdu = await self._session.request(
            PduType.GET_BULK, _unset(oids), non_repeaters, max_repetitions
        )
        return pdu.varbinds

    async def walk(self, *roots: Oid) -> list[list[VarBind]]:
        """All instances under each root, in order: one list per root.

        Neighbouring columns share requests, and several requests are on their way at once. Raises
        NotIncreasing when the agent goes backwards.
        """
        parts = [
            roots[at : at + _COLUMNS_TOGETHER] for at in range(0, len(roots), _COLUMNS_TOGETHER)
        ]
        walked = await asyncio.gather(*map(self._walk_together, parts), return_exceptions=True)
        found: list[list[VarBind]] = []
        for part in walked:
            if isinstance(part, BaseException):
                raise part
            found += part
        return found

    async def _walk_together(self, roots: Sequence[Oid]) -> list[list[VarBind]]:
        found: list[list[VarBind]] = [[] for _ in roots]
        last = list(roots)
        live = list(range(len(roots)))
        wanted = _VARBINDS_PER_REPLY
        while live:
            asked = self._columns_that_fit(live[:wanted], last)
            repetitions = max(1, wanted // len(asked))
            try:
                reply = await self.getbulk(
                    [last[column] for column in asked], max_repetitions=repetitions
                )
            except SnmpError as error:
                # net-snmp 5.9 says genErr where RFC 3416 makes it shorten a reply that is too big.
                if error.status not in _TOO_MUCH or wanted == 1:
                    raise
                wanted //= 2
                continue
            if not reply:
                raise BadReply(self.name, "answered a GetBulk with nothing at all")
            for varbind, column in zip(reply, itertools.cycle(asked), strict=False):
                root = roots[column]
                if column not in live:
                    continue
                if varbind.value.tag == ber.END_OF_MIB_VIEW or varbind.oid[: len(root)] != root:
                    live.remove(column)
                elif varbind.oid <= last[column]:
                    raise NotIncreasing(self.name, last[column], varbind.oid)
                else:
                    found[column].append(varbind)
                    last[column] = varbind.oid
        return found

    @property
    def max_size(self) -> int:
        """The octets of the largest message to this agent, as far as known now."""
        return self._session.max_size

    def encoded_size(self, varbinds: Iterable[VarBind]) -> int:
        """The octets of a SET of these varbinds at most, whatever its numbers turn out to be."""
        return self._session.encoded_size(varbinds)

    def fits(self, varbinds: Iterable[VarBind]) -> bool:
        """Whether one message carries them."""
        return self.encoded_size(varbinds) <= self.max_size

    def batches(
        self,
        groups: Sequence[_Group],
        *,
        head: Sequence[VarBind] = (),
        max_varbinds: int = MAX_VARBINDS,
    ) -> list[list[_Group]]:
        """The groups (rows) in order, packed whole into as few messages as they fit in.

        Every message has room for the varbinds of `head` before the groups. Raises TooLarge for a
        group that no message carries.
        """
        empty = self.encoded_size(()) + _LONGER_HEADERS + _LONGER_RESPONSE
        empty += ber.varbinds_size(head)
        room, places = self.max_size - empty, max_varbinds - len(head)
        packed: list[list[_Group]] = []
        octets = count = 0
        for group in groups:
            size = ber.varbinds_size(group)
            if len(group) > places:
                raise TooLarge("a group", len(group), places, "varbinds")
            if size > room:
                raise TooLarge("a group", empty + size, self.max_size, "octets")
            if not packed or octets + size > room or count + len(group) > places:
                packed.append([])
                octets = count = 0
            packed[-1].append(group)
            octets += size
            count += len(group)
        return packed

    def _columns_that_fit(self, live: list[int], last: list[Oid]) -> list[int]:
        asked = list(live)
        while len(asked) > 1 and not self.fits(_unset(last[column] for column in asked)):
            asked.pop()
        return asked

    async def _same_oids(
        self, kind: PduType, varbinds: tuple[VarBind, ...], longer: float = 0.0
    ) -> tuple[VarBind, ...]:
        reply = (await self._session.request(kind, varbinds, longer=longer)).varbinds
        if [oid for oid, _ in reply] != [oid for oid, _ in varbinds]:
            raise BadReply(self.name, "answered about other instances than were asked")
        return reply


def _unset(oids: Iterable[Oid]) -> tuple[VarBind, ...]:
    return tuple(VarBind(tuple(oid), Value.null()) for oid in oids)
