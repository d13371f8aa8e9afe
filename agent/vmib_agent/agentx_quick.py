"""The short way of answering a master: plain Get and GetNext, from octets to octets.

What is asked for is looked up by the octets that it has in a PDU, in varbinds that are encoded
already (`pages`). Whatever is not plain (other PDUs, contexts, what does not exist, the end of a
range, anything malformed) is None here, and goes the long way to the same answer.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from vmib import objects
from vmib.smi import Oid
from vmib.snmp import ber
from vmib.vm_mib import VM_MIB

from .access import Subtrees
from .agentx import Header, PduType
from .agentx_codec import NETWORK_BYTE_ORDER, VERSION
from .agentx_fields import HEADER_OCTETS, NETWORK, Writer
from .pages import NoPage, PagedSource, Pages
from .view import View

_GET, _GET_NEXT = int(PduType.GET), int(PduType.GET_NEXT)
_RESPONSE = int(PduType.RESPONSE)
_NO_ERROR = bytes(8)
_INTERNET = struct.pack(">4I", 1, 3, 6, 1)
_PREFIXED = [b""] + [_INTERNET + prefix.to_bytes(4) for prefix in range(1, 256)]
_MOST = 4 * ber.MAX_SUBIDS


class Words:
    """OIDs as AgentX has them in network byte order, but without their abbreviation of the start:
    four octets for each sub-identifier."""

    def start(self, oid: Oid) -> bytes:
        """The octets of an OID, or of the start of one."""
        return struct.pack(f">{len(oid)}I", *oid)

    def rest(self, suffix: Oid) -> bytes:
        """The octets of sub-identifiers that do not begin an OID."""
        return self.start(suffix)

    def parse(self, octets: bytes) -> Oid:
        """The OID with these octets."""
        return struct.unpack(f">{len(octets) // 4}I", octets)

    def varbind(self, octets: bytes, tag: int, raw: Any) -> bytes:
        """The varbind of the instance with these octets."""
        writer = Writer(NETWORK)
        writer.number(NETWORK.two_u16, tag, 0)
        if octets.startswith(_INTERNET) and not any(octets[16:19]) and octets[19]:
            writer.octets(len(octets) // 4 - 5, octets[19], 0, 0)
            writer.parts.append(octets[20:])
        else:
            writer.oid(self.parse(octets))
        writer.value(tag, raw)
        return b"".join(writer.parts)


class Quick:
    """Answers plain requests for what a view has."""

    def __init__(self, view: View[PagedSource]) -> None:
        self._pages = Pages(None, view, Subtrees((VM_MIB, objects.VMIB_MIB)), Words())

    def answer(self, octets: bytes, header: Header) -> bytes | None:
        """The answer to the PDU with this header, or None where the long way has to find it."""
        if header.flags != NETWORK_BYTE_ORDER:
            return None
        find: Callable[[bytes, bytes], bytes]
        if header.type == _GET:
            find = self._get
        elif header.type == _GET_NEXT:
            find = self._following
        else:
            return None
        at, end = HEADER_OCTETS, len(octets)
        found = []
        try:
            self._pages.renew()
            while at < end:
                stop = at + 4 + 4 * octets[at]
                name = _PREFIXED[octets[at + 1]] + octets[at + 4 : stop]
                after = stop + 4 + 4 * octets[stop]
                bound = _PREFIXED[octets[stop + 1]] + octets[stop + 4 : after]
                if octets[at + 2] or octets[stop + 2] or after > end:
                    return None
                if len(name) > _MOST or len(bound) > _MOST:
                    return None
                found.append(find(name, bound))
                at = after
        except Exception:  # a fault of ours, too: the long way meets it again, tells and logs it
            return None
        varbinds = b"".join(found)
        numbers = header.session_id, header.transaction_id, header.packet_id
        size = len(_NO_ERROR) + len(varbinds)
        head = NETWORK.header.pack(VERSION, _RESPONSE, NETWORK_BYTE_ORDER, 0, *numbers, size)
        return head + _NO_ERROR + varbinds

    def _get(self, name: bytes, _: bytes) -> bytes:
        return self._pages.get(name)

    def _following(self, name: bytes, end: bytes) -> bytes:
        """The varbind after a name and before the end, if there is one."""
        (found,) = self._pages.following(name, 1)
        if end and _name_of(found) >= end:
            raise NoPage
        return found


def _name_of(varbind: bytes) -> bytes:
    """The octets of the instance of a varbind."""
    count, prefix = varbind[4], varbind[5]
    return _PREFIXED[prefix] + varbind[8 : 8 + 4 * count]
