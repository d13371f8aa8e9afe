"""Plain requests answered from octets to octets.

Plain is a GET, GETNEXT or GETBULK as managers write them: OIDs with NULL for values, whose answer
is a varbind for each and fits. `Pages` has the varbinds encoded. Whatever is not plain (what does
not exist, does not fit, ends the MIB view, is malformed) raises `NotPlain`, and the `Responder`
answers as RFC 3416 says; what is answered here, it would answer with the same octets.
"""

from __future__ import annotations

from itertools import chain

from vmib.snmp import ber
from vmib.snmp.channel import NotPlain, inside, integer_end
from vmib.snmp.message import PduType

from .pages import Pages
from .responders import BULK_OVERHEAD, LONGEST_HEADER, MAX_BULK_VARBINDS, header_size

_NO_ERROR = b"\2\1\0\2\1\0"
_NULL = b"\5\0"
_SMALLEST_VARBIND = 8
_GET, _GET_NEXT, _GET_BULK = int(PduType.GET), int(PduType.GET_NEXT), int(PduType.GET_BULK)


def respond(pages: Pages, data: bytes, at: int, end: int, room: int) -> bytes:
    """The contents of the Response-PDU to the PDU that fills `data` from `at` to `end`.

    `room` is the most octets that the PDU with its tag may take. Raises `NotPlain`.
    """
    try:
        kind = data[at]
        start = inside(data, at, end, kind)
        stop = integer_end(data, start)
        request_id = data[start:stop]
        if kind == _GET_BULK:
            varbinds = _bulk(pages, data, stop, end, room)
        elif data[stop : stop + 6] == _NO_ERROR:
            names = _names(data, stop + 6, end)
            pages.renew()
            if kind == _GET:
                varbinds = b"".join(map(pages.get, names))
            elif kind == _GET_NEXT:
                varbinds = b"".join([pages.following(name, 1)[0] for name in names])
            else:
                raise NotPlain
        else:
            raise NotPlain
    except NotPlain:
        raise
    except Exception:  # also a fault of ours: the responder meets it again, tells and logs it
        raise NotPlain from None
    contents = request_id + _NO_ERROR + ber.tlv(ber.SEQUENCE, varbinds)
    if len(contents) > room - LONGEST_HEADER and header_size(len(contents)) + len(contents) > room:
        raise NotPlain
    return contents


def _names(data: bytes, at: int, end: int) -> list[bytes]:
    """The contents of the OIDs of a VarBindList without values. Raises `NotPlain`."""
    at = inside(data, at, end, ber.SEQUENCE)
    found = []
    while at < end:
        name = at + 4
        stop = name + data[at + 3]
        if data[at] != ber.SEQUENCE or data[at + 2] != ber.OBJECT_IDENTIFIER:
            raise NotPlain
        if data[at + 1] != stop - at or data[at + 1] >= 0x80 or data[stop : stop + 2] != _NULL:
            raise NotPlain
        found.append(data[name:stop])
        at = stop + 2
    if at != end:
        raise NotPlain
    return found


def _bulk(pages: Pages, data: bytes, at: int, end: int, room: int) -> bytes:
    """The varbinds of a GETBULK (RFC 3416 section 4.2.3): as many as are asked for and fit."""
    given, at = ber.decode_integer(data, at, end)
    repetitions, at = ber.decode_integer(data, at, end)
    names = _names(data, at, end)
    first = min(max(given, 0), len(names))
    pages.renew()
    found = [pages.following(name, 1)[0] for name in names[:first]]
    repeated = names[first:]
    limit = max(MAX_BULK_VARBINDS, len(names))
    if repeated and repetitions > 0:
        most = min(limit, room // _SMALLEST_VARBIND) // len(repeated) + 1
        columns = [pages.following(name, min(repetitions, most)) for name in repeated]
        found += (
            columns[0] if len(columns) == 1 else chain.from_iterable(zip(*columns, strict=True))
        )
    octets = b"".join(found)
    if len(found) <= limit and len(octets) <= room - BULK_OVERHEAD:
        return octets
    return _as_many_as_fit(found[:limit], room - BULK_OVERHEAD)


def _as_many_as_fit(varbinds: list[bytes], room: int) -> bytes:
    fitting = bytearray()
    for varbind in varbinds:
        if len(fitting) + len(varbind) > room:
            break
        fitting += varbind
    if not fitting:
        raise NotPlain
    return bytes(fitting)
