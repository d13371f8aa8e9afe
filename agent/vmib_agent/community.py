"""Who may ask by SNMPv2c: the community and the networks that the configuration names."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from vmib.snmp import ber
from vmib.snmp.channel import NotPlain, inside
from vmib.snmp.message import MAX_DATAGRAM, V2C, PduType

from .config import Communities

_AROUND_PDU = 24
_KNOWN_ADDRESSES = 4096


class CommunityAccess:
    """The one community there is."""

    def __init__(self, allowed: Communities) -> None:
        self._community = allowed.community.encode()
        self._sources = allowed.sources
        self._head = ber.encode_integer(V2C) + ber.tlv(ber.OCTET_STRING, self._community)
        self._known: dict[str, bool] = {}
        self.room = MAX_DATAGRAM - _AROUND_PDU - len(self._community)
        """The most octets of a PDU in an answer."""

    def admits(self, community: bytes, source: tuple[str, int]) -> bool:
        """Whether a message of this community may come from there."""
        known = hmac.compare_digest(community, self._community)
        return known and self._admits_address(source[0])

    def pdu_of(self, datagram: bytes, source: tuple[str, int]) -> int:
        """Where the PDU starts that takes the rest of an admitted message; raises `NotPlain`."""
        at = inside(datagram, 0, len(datagram), ber.SEQUENCE)
        stop = at + len(self._head)
        if not hmac.compare_digest(datagram[at:stop], self._head):
            raise NotPlain
        if not self._admits_address(source[0]):
            raise NotPlain
        return stop

    def response(self, contents: bytes) -> bytes:
        """The message around the contents of a Response-PDU."""
        return ber.tlv(ber.SEQUENCE, self._head + ber.tlv(PduType.RESPONSE, contents))

    def _admits_address(self, text: str) -> bool:
        admitted = self._known.get(text)
        if admitted is None:
            address = ip_address(text.partition("%")[0])
            admitted = any(address in network for network in self._sources)
            if len(self._known) >= _KNOWN_ADDRESSES:
                self._known.clear()
            self._known[text] = admitted
        return admitted
