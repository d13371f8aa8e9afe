"""SNMPv3 through pysnmp: discovery, Reports and USM are its work, PDUs are ours.

pysnmp is used as a protocol engine without sockets, timers, views or MIB objects: a message goes
in, and comes out as the message to send back. Where 7.1 departs from the RFCs this module says so.
It answers whatever `vmib_agent.express` leaves to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pyasn1.type import univ
from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.proto import errind, rfc1902, rfc1905
from pysnmp.proto.api import v2c
from pysnmp.proto.error import StatusInformation
from pysnmp.proto.mpmod.cache import Cache as MessageCache
from pysnmp.proto.secmod.cache import Cache as SecurityCache
from pysnmp.proto.secmod.rfc3414.service import SnmpUSMSecurityModel

from vmib.snmp import ber
from vmib.snmp.message import MAX_DATAGRAM, PduType

from .identity import Identity
from .responders import Origin, Request
from .service import Value, VarBind
from .users import PRIV_KEY_OCTETS, User

Answer = Callable[[Request, str, Origin, int], bytes | None]
"""Request, securityName, origin and the most octets of the PDU -> contents of the Response-PDU."""

_AUTH = {
    "SHA-256": config.USM_AUTH_HMAC192_SHA256,
    "SHA-384": config.USM_AUTH_HMAC256_SHA384,
    "SHA-512": config.USM_AUTH_HMAC384_SHA512,
}
_PRIV = {"AES-128": config.USM_PRIV_CFB128_AES, "AES-256": config.USM_PRIV_CFB256_AES}

_KINDS = {
    rfc1905.GetRequestPDU.tagSet: PduType.GET,
    rfc1905.GetNextRequestPDU.tagSet: PduType.GET_NEXT,
    rfc1905.SetRequestPDU.tagSet: PduType.SET,
    rfc1905.GetBulkRequestPDU.tagSet: PduType.GET_BULK,
}

_COUNTED: Mapping[str, str] = {
    "snmpInASNParseErrs": "__SNMPv2-MIB",
    "snmpSilentDrops": "__SNMPv2-MIB",
    "snmpUnknownSecurityModels": "__SNMP-MPD-MIB",
    "snmpInvalidMsgs": "__SNMP-MPD-MIB",
    "snmpUnknownPDUHandlers": "__SNMP-MPD-MIB",
    "snmpUnknownContexts": "__SNMP-TARGET-MIB",
    "usmStatsUnsupportedSecLevels": "__SNMP-USER-BASED-SM-MIB",
    "usmStatsNotInTimeWindows": "__SNMP-USER-BASED-SM-MIB",
    "usmStatsUnknownUserNames": "__SNMP-USER-BASED-SM-MIB",
    "usmStatsUnknownEngineIDs": "__SNMP-USER-BASED-SM-MIB",
    "usmStatsWrongDigests": "__SNMP-USER-BASED-SM-MIB",
    "usmStatsDecryptionErrors": "__SNMP-USER-BASED-SM-MIB",
}

_SCOPED_PDU_OVERHEAD = 10
_MESSAGE_OVERHEAD = 200
"""More than version, header data and security parameters ever take around a scopedPDU."""


class _Clock(rfc1902.Integer32):  # type: ignore[misc]
    """snmpEngineTime: pysnmp asks for `clone()`, and by itself follows the wall clock."""

    uptime: Callable[[], float]

    def clone(self, *args: Any, **kwargs: Any) -> Any:
        return rfc1902.Integer32(*(args or (int(self.uptime()),)), **kwargs)


class _Encoded(univ.Any):  # type: ignore[misc]
    """A Response-PDU whose contents are encoded already."""

    tagSet = rfc1905.ResponsePDU.tagSet


class _Unsigned(StatusInformation):  # type: ignore[misc]
    """The refusal of a message, to be reported without authentication."""

    def __init__(self, refused: StatusInformation) -> None:
        super().__init__()
        self._refused = refused

    def __getitem__(self, key: str) -> Any:
        return 1 if key == "securityLevel" else self._refused[key]

    def __contains__(self, key: str) -> bool:
        return key in self._refused

    def get(self, key: str, default: Any = None) -> Any:
        return 1 if key == "securityLevel" else self._refused.get(key, default)


class _Usm(SnmpUSMSecurityModel):  # type: ignore[misc]
    """The User-based Security Model, closer to RFC 3414.

    An engine ID that is not ours, an empty user name, and any user name before there are users get
    their Report (sections 3.2.3, 3.2.4).
    A Report about a message that was not authenticated is not authenticated either: pysnmp would
    sign it with the user's key for anybody who asks, which is all an off-line search for the pass
    phrase needs.
    """

    names: frozenset[bytes] = frozenset()

    def process_incoming_message(
        self,
        engine: Any,
        processing_model: Any,
        max_size: Any,
        parameters: Any,
        security_model: Any,
        level: Any,
        whole: Any,
        message: Any,
    ) -> Any:
        octets = parameters.asOctets()
        engine_id, user = _engine_and_user(octets)
        if engine_id and engine_id != engine.snmpEngineID.asOctets():
            raise self._report(engine, "usmStatsUnknownEngineIDs", user, max_size, octets)
        if engine_id and user not in self.names:
            raise self._report(engine, "usmStatsUnknownUserNames", user, max_size, octets)
        try:
            return super().process_incoming_message(
                engine,
                processing_model,
                max_size,
                parameters,
                security_model,
                level,
                whole,
                message,
            )
        except StatusInformation as refused:
            if refused.get("errorIndication") == errind.notInTimeWindow:
                raise
            raise _Unsigned(refused) from None

    def _report(
        self, engine: Any, counter: str, user: bytes, max_size: Any, octets: bytes
    ) -> StatusInformation:
        symbol = _symbol(engine, counter)
        symbol.syntax += 1
        return StatusInformation(
            errorIndication=errind.unknownEngineID,
            oid=symbol.name,
            val=symbol.syntax,
            securityStateReference=self._cache.push(msgUserName=rfc1902.OctetString(user)),
            securityLevel=1,
            contextEngineId=engine.snmpEngineID,
            contextName=b"",
            maxSizeResponseScopedPDU=int(max_size) - len(octets) - 48,
        )


def _engine_and_user(octets: bytes) -> tuple[bytes, bytes]:
    start, stop = ber.expect(octets, 0, len(octets), ber.SEQUENCE)
    engine_id, at = ber.decode_octets(octets, start, stop)
    _, at = ber.decode_integer(octets, at, stop)
    _, at = ber.decode_integer(octets, at, stop)
    user, _ = ber.decode_octets(octets, at, stop)
    return engine_id, user


def _symbol(engine: Any, name: str) -> Any:
    return engine.get_mib_builder().import_symbols(_COUNTED[name], name)[0]


class Engine:
    """One SNMPv3 engine. Also serves pysnmp as its transport: what it sends is collected."""

    def __init__(
        self,
        identity: Identity,
        users: Iterable[User],
        answer: Answer,
        uptime: Callable[[], float],
    ) -> None:
        self._answer = answer
        self._sent: list[bytes] = []
        self._origin = Origin(("", 0), b"")
        self._engine = _make_engine(identity, uptime)
        self._engine.transport_dispatcher = self
        for kind in _KINDS:
            self._engine.message_dispatcher.register_context_engine_id(
                self._engine.snmpEngineID, (kind,), self._process
            )
        self._names: list[str] = []
        self.replace_users(users)

    def replace_users(self, users: Iterable[User]) -> None:
        """Make these the users, and no others."""
        for name in self._names:
            config.delete_v3_user(self._engine, name)
        self._names = []
        for user in users:
            self._names.append(user.name)
            config.add_v3_user(
                self._engine,
                user.name,
                _AUTH[user.auth],
                user.auth_key,
                _PRIV[user.priv],
                user.priv_key[: PRIV_KEY_OCTETS[user.priv]],
                authKeyType=config.USM_KEY_TYPE_LOCALIZED,
                privKeyType=config.USM_KEY_TYPE_LOCALIZED,
            )

        known = frozenset(name.encode() for name in self._names)
        self._engine.security_models[3].names = known

    def receive(self, origin: Origin) -> bytes | None:
        """The message that answers this one, or None. Raises whatever pysnmp trips over."""
        self._origin = origin
        try:
            self._engine.message_dispatcher.receive_message(
                self._engine, config.SNMP_UDP_DOMAIN, origin.source, origin.message
            )
            return self._sent[-1] if self._sent else None
        finally:
            self._sent.clear()
            self._forget()

    def counter(self, name: str) -> int:
        """What pysnmp has counted; 0 for what it does not count."""
        return int(_symbol(self._engine, name).syntax) if name in _COUNTED else 0

    def send_message(self, message: bytes, domain: object, address: object) -> None:
        """pysnmp's transport: keep what it sends."""
        self._sent.append(message)

    def get_timer_resolution(self) -> float:
        """pysnmp's transport: a tick that never comes; nothing here waits for one."""
        return 1.0

    def get_timer_ticks(self) -> int:
        """pysnmp's transport: no ticks."""
        return 0

    def _process(
        self,
        engine: Any,
        processing_model: Any,
        security_model: Any,
        security_name: Any,
        level: Any,
        context_engine_id: Any,
        context_name: Any,
        pdu_version: Any,
        pdu: Any,
        max_size: Any,
        state: Any,
    ) -> None:
        """pysnmp's `processPdu` (RFC 3413 section 3.2)."""
        response, report = pdu, {}
        if len(context_name):
            counter = _symbol(engine, "snmpUnknownContexts")
            counter.syntax += 1
            report = {"oid": counter.name, "val": counter.syntax, "securityLevel": level}
        else:
            names = len(context_engine_id) + len(context_name)
            room = min(int(max_size), MAX_DATAGRAM - _MESSAGE_OVERHEAD)
            contents = self._answer(
                to_request(pdu),
                str(security_name),
                self._origin,
                room - names - _SCOPED_PDU_OVERHEAD,
            )
            if contents is None:
                return
            response = _Encoded(contents)
        engine.message_dispatcher.return_response_pdu(
            engine,
            processing_model,
            security_model,
            security_name,
            level,
            context_engine_id,
            context_name,
            pdu_version,
            response,
            max_size,
            state,
            report,
        )

    def _forget(self) -> None:
        """Drop what pysnmp keeps about messages: all are answered, and strangers fill it too.

        It would hold the engine ID of each message for 300 s, and the state of many it refuses
        for good.
        """
        usm = self._engine.security_models[3]
        usm._cache = SecurityCache()
        usm._SnmpUSMSecurityModel__timeline.clear()
        usm._SnmpUSMSecurityModel__timelineExpQueue.clear()
        messages = self._engine.message_processing_subsystems[3]
        messages._cache = MessageCache()
        messages._SnmpV3MessageProcessingModel__engineIdCache.clear()
        messages._SnmpV3MessageProcessingModel__engineIdCacheExpQueue.clear()
        self._engine.message_dispatcher._MsgAndPduDispatcher__transportInfo.clear()


def to_request(pdu: Any) -> Request:
    """A request as pysnmp decoded it. Raises `DecodeError` for an OID that SNMP cannot carry."""
    kind = _KINDS[pdu.tagSet]
    varbinds = []
    for name, value in v2c.apiPDU.get_varbinds(pdu):
        oid = tuple(name)
        if not 2 <= len(oid) <= ber.MAX_SUBIDS:
            raise ber.DecodeError(f"an OID of {len(oid)} sub-identifiers", 0)
        if max(oid) > ber.MAX_SUBID:
            raise ber.DecodeError(f"a sub-identifier above {ber.MAX_SUBID}", 0)
        varbinds.append(VarBind(oid, to_value(value)))
    numbers = int(pdu[1]), int(pdu[2])
    return Request(kind, int(pdu[0]), *numbers, varbinds)


def to_value(value: Any) -> Value:
    """A value as pysnmp decoded it."""
    identifier = value.tagSet.superTags[0]
    tag = identifier.tagClass | identifier.tagFormat | identifier.tagId
    if isinstance(value, univ.ObjectIdentifier):
        return Value(tag, tuple(value))
    if isinstance(value, univ.OctetString):
        return Value(tag, value.asOctets())
    if isinstance(value, univ.Integer):
        return Value(tag, int(value))
    return Value(tag, b"")


def _make_engine(identity: Identity, uptime: Callable[[], float]) -> Any:
    """An engine with our identity.

    Given an engine ID, pysnmp would keep its boots in the directory for temporary files, where
    anybody may put them first; so the ID is set after it has been made without one.
    """
    engine = SnmpEngine(maxMessageSize=MAX_DATAGRAM)
    builder = engine.get_mib_builder()
    names = ("snmpEngineID", "snmpEngineBoots", "snmpEngineTime")
    engine_id, boots, time = builder.import_symbols("__SNMP-FRAMEWORK-MIB", *names)
    engine_id.syntax = engine_id.syntax.clone(identity.engine_id)
    engine.snmpEngineID = engine_id.syntax
    boots.syntax = boots.syntax.clone(identity.boots)
    clock = _Clock(0)
    clock.uptime = uptime
    time.syntax = clock
    engine.security_models[3] = _Usm()
    return engine
