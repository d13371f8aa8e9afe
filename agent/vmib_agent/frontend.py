"""The stand-alone SNMP front end: a datagram goes in, the datagram that answers it comes out.

SNMPv3 is for the users of the list, SNMPv2c (read-only) only where the configuration names a
community and the networks it may come from, SNMPv1 for nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from vmib.errors import VmibError
from vmib.snmp import ber
from vmib.snmp.channel import NotPlain
from vmib.snmp.message import V2C, V3, CommunityMessage, PduType, decode_message

from . import access, fastpath, standard
from .community import CommunityAccess
from .config import Communities, Limits
from .engine import Engine
from .express import Express
from .identity import LATCHED, Identity
from .logs import RateLimit, event, log
from .pages import PagedSource, Pages
from .quickset import QuickService
from .responders import ANSWERED, Origin, Request, Responder, request_of
from .sealing import Sealer
from .service import MibService
from .standard import SystemFacts
from .users import User
from .view import View

_READER = access.community_principal("v2c")
_SHORTEST = 16


class FrontEnd:
    """Answers datagrams on behalf of one `MibService`; plain ones from a view of it, if given."""

    def __init__(
        self,
        service: MibService,
        identity: Identity,
        users: Iterable[User],
        facts: SystemFacts,
        limits: Limits,
        communities: Communities | None,
        sealer: Sealer,
        uptime: Callable[[], float],
        view: View[PagedSource] | None = None,
        quick: QuickService | None = None,
    ) -> None:
        self._community = None if communities is None else CommunityAccess(communities)
        self._received = 0
        self._counted: Counter[str] = Counter()
        self._complaints = RateLimit()
        own = standard.standard_objects(facts, uptime, self.counter)
        mib = standard.Merged(own, service)
        self._responder = Responder(mib, limits.max_varbinds_per_set, uptime, quick)
        self._principals: dict[str, access.Principal] = {}
        self._pages = None if view is None else Pages(own, view, access.READ)
        self.engine = Engine(identity, (), self._answer_user, uptime)
        self._express = Express(sealer, self._answer_plain, self._set_plain, self._answer_user)
        self.replace_users(users)
        if identity.boots == LATCHED:
            log.error(event("boots-latched", way_out="new engine identity and users"))

    def replace_users(self, users: Iterable[User]) -> None:
        """Make these the users, and no others."""
        known = tuple(users)
        self.engine.replace_users(known)
        self._express.replace_users(known)
        self._principals = {user.name: access.principal(user.name, user.role) for user in known}

    def counter(self, name: str) -> int:
        """One of `standard.COUNTERS`, by name."""
        if name == "snmpInPkts":
            return self._received
        return self._counted[name] + self.engine.counter(name)

    def handle(self, datagram: bytes, source: tuple[str, int]) -> bytes | None:
        """The answer to a datagram, or None. Never raises: nothing from outside ends the agent."""
        self._received += 1
        try:
            try:
                return self._handle_plain(datagram, source)
            except NotPlain:
                return self._handle_any(Origin(source, datagram))
        except Exception as error:
            self._counted["snmpInASNParseErrs"] += 1
            self._complain("malformed", source, error)
        return None

    def _handle_plain(self, datagram: bytes, source: tuple[str, int]) -> bytes | None:
        """The answer to a message of the usual form; raises `NotPlain` for any other."""
        if len(datagram) < _SHORTEST:
            raise NotPlain
        version = 4 if datagram[1] < 0x80 else 4 + (datagram[1] & 3)
        if datagram[version] == V3:
            return self._express.receive(datagram, source)
        if self._community is None:
            raise NotPlain
        at = self._community.pdu_of(datagram, source)
        return self._community.response(self._answered(datagram, at, _READER, self._community.room))

    def _handle_any(self, origin: Origin) -> bytes | None:
        version = _version(origin.message)
        if version == V3:
            return self.engine.receive(origin)
        if version == V2C and self._community is not None:
            return self._handle_v2c(origin, self._community)
        self._counted["snmpInBadVersions"] += 1
        return None

    def _complain(self, kind: str, source: tuple[str, int], error: Exception) -> None:
        suppressed = self._complaints.suppressed_before(kind)
        if suppressed is not None:
            reason = str(error) if isinstance(error, VmibError) else type(error).__name__
            facts = {"source": source[0], "reason": reason[:200], "suppressed": suppressed}
            log.warning(event(kind, **facts))

    def _handle_v2c(self, origin: Origin, community: CommunityAccess) -> bytes | None:
        message = decode_message(origin.message)
        assert isinstance(message, CommunityMessage)
        if not community.admits(message.community, origin.source):
            self._counted["snmpInBadCommunityNames"] += 1
            return None
        if message.pdu.type not in ANSWERED:
            self._counted["snmpUnknownPDUHandlers"] += 1
            return None
        if message.pdu.type is PduType.SET:
            self._counted["snmpInBadCommunityUses"] += 1
        contents = self._responder.respond(request_of(message.pdu), _READER, origin, community.room)
        if contents is None:
            self._counted["snmpSilentDrops"] += 1
            return None
        return community.response(contents)

    def _answer_plain(self, data: bytes, at: int, name: str, room: int) -> bytes:
        return self._answered(data, at, self._principals[name], room)

    def _set_plain(self, data: bytes, at: int, name: str, origin: Origin, room: int) -> bytes:
        return self._responder.set_quickly(data, at, self._principals[name], origin, room)

    def _answered(self, data: bytes, at: int, principal: access.Principal, room: int) -> bytes:
        if self._pages is None or principal.read is not access.READ:
            raise NotPlain
        return fastpath.respond(self._pages, data, at, len(data), room)

    def _answer_user(self, request: Request, name: str, origin: Origin, room: int) -> bytes | None:
        contents = self._responder.respond(request, self._principals[name], origin, room)
        if contents is None:
            self._counted["snmpSilentDrops"] += 1
        return contents


def _version(datagram: bytes) -> int:
    """The version number of an SNMP message of any version. Raises `DecodeError`."""
    start, stop = ber.expect(datagram, 0, len(datagram), ber.SEQUENCE)
    ber.at_end(stop, len(datagram))
    return ber.decode_integer(datagram, start, stop)[0]
