"""The stand-alone SNMP front end: a datagram goes in, the datagram that answers it comes out.

SNMPv3 is for the users of the list, SNMPv2c (read-only) only where the configuration names a
community and the networks it may come from, SNMPv1 for nobody.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from vmib.errors import VmibError
from vmib.snmp import ber
from vmib.snmp.message import MAX_DATAGRAM, V2C, V3, CommunityMessage, PduType, decode_message

from . import access, standard
from .config import Communities, Limits
from .engine import Engine
from .express import Express, NotPlain
from .identity import LATCHED, Identity
from .logs import RateLimit, event, log
from .responders import ANSWERED, Origin, Request, Responder, community_message, request_of
from .sealing import Sealer
from .service import MibService
from .standard import SystemFacts
from .users import User

_V2C_OVERHEAD = 24
_V2C_NAME = "v2c"


class FrontEnd:
    """Answers datagrams on behalf of one `MibService`."""

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
    ) -> None:
        self._communities = communities
        self._counted: Counter[str] = Counter()
        self._complaints = RateLimit()
        mib = standard.Merged(standard.standard_objects(facts, uptime, self.counter), service)
        self._responder = Responder(mib, limits.max_varbinds_per_set, uptime)
        self._principals: dict[str, access.Principal] = {}
        self.engine = Engine(identity, (), self._answer_user, uptime)
        self._express = Express(sealer, self._answer_user)
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
        return self._counted[name] + self.engine.counter(name)

    def handle(self, datagram: bytes, source: tuple[str, int]) -> bytes | None:
        """The answer to a datagram, or None. Never raises: nothing from outside ends the agent."""
        self._counted["snmpInPkts"] += 1
        try:
            version = _version(datagram)
            if version == V3:
                return self._handle_v3(Origin(source, datagram))
            if version == V2C and self._communities is not None:
                return self._handle_v2c(Origin(source, datagram), self._communities)
            self._counted["snmpInBadVersions"] += 1
        except Exception as error:
            self._counted["snmpInASNParseErrs"] += 1
            self._complain("malformed", source, error)
        return None

    def _complain(self, kind: str, source: tuple[str, int], error: Exception) -> None:
        suppressed = self._complaints.suppressed_before(kind)
        if suppressed is not None:
            reason = str(error) if isinstance(error, VmibError) else type(error).__name__
            facts = {"source": source[0], "reason": reason[:200], "suppressed": suppressed}
            log.warning(event(kind, **facts))

    def _handle_v3(self, origin: Origin) -> bytes | None:
        try:
            return self._express.receive(origin)
        except NotPlain:
            return self.engine.receive(origin)

    def _handle_v2c(self, origin: Origin, allowed: Communities) -> bytes | None:
        message = decode_message(origin.message)
        assert isinstance(message, CommunityMessage)
        known = hmac.compare_digest(message.community, allowed.community.encode())
        address = ip_address(origin.source[0].partition("%")[0])
        if not known or not any(address in network for network in allowed.sources):
            self._counted["snmpInBadCommunityNames"] += 1
            return None
        if message.pdu.type not in ANSWERED:
            self._counted["snmpUnknownPDUHandlers"] += 1
            return None
        if message.pdu.type is PduType.SET:
            self._counted["snmpInBadCommunityUses"] += 1
        principal = access.community_principal(_V2C_NAME)
        room = MAX_DATAGRAM - _V2C_OVERHEAD - len(message.community)
        contents = self._responder.respond(request_of(message.pdu), principal, origin, room)
        if contents is None:
            self._counted["snmpSilentDrops"] += 1
            return None
        return community_message(message.community, PduType.RESPONSE, contents)

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
