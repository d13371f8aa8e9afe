"""rtnetlink messages of traffic control: exact bytes out, exact values in.

`encode_*` give what follows the netlink header (struct tcmsg and attributes) and `decode` turns
such a message back into the same dataclasses. Options that vMIB never sets decode as `Other`, so
that whoever compares notices. Times, bursts and probabilities keep their value through the kernel;
see `vmib_agent.psched`. Layouts: linux/pkt_sched.h, linux/pkt_cls.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from vmib_agent import distributions, psched
from vmib_agent.qdiscs import (
    INGRESS_PARENT,
    Bfifo,
    Filter,
    HashOn,
    Htb,
    HtbClass,
    Ingress,
    Key,
    Netem,
    Options,
    Other,
    Qdisc,
    Rule,
    Table,
    Tbf,
)

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTCLASS, RTM_DELTCLASS, RTM_GETTCLASS = 40, 41, 42
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD
BLOCK_DEVICE_INDEX = -1
"""Takes the place of the device when a filter block is meant by its index."""

_TCA_KIND, _TCA_OPTIONS, _TCA_STATS2 = 1, 2, 7
_TCA_INGRESS_BLOCK = 13
_ETHERNET = 1
_FIRST_ROOT_TABLE = 0x800
_NESTED = 0x8000
_ALL_ONES = 0xFFFF_FFFF
_MILLION = 1_000_000

_TCMSG = struct.Struct("=BBHiIII")
_ATTR = struct.Struct("=HH")
_RATESPEC = struct.Struct("=BBHhHI")
_TBF_PARMS = struct.Struct("=12s12sIII")
_NETEM_PARMS = struct.Struct("=IIIIII")
_NETEM_RATE = struct.Struct("=IiIi")
_HTB_GLOBAL = struct.Struct("=IIIII")
_HTB_PARMS = struct.Struct("=12s12sIIIII")
_SELECTOR = struct.Struct("=BBBxHHhh4s")
_KEY = struct.Struct("=4s4sii")
_MIRRED = struct.Struct("=IIiiiiI")
_GACT = struct.Struct("=IIiii")
_PIPE, _STOLEN = 3, 4
_BASIC = struct.Struct("=QI")
_QUEUE = struct.Struct("=IIIII")


class Tcmsg(NamedTuple):
    """The fixed part of a message."""

    device: int
    handle: int
    parent: int
    info: int = 0

    def pack(self) -> bytes:
        """As bytes, of family AF_UNSPEC."""
        return _TCMSG.pack(0, 0, 0, self.device, self.handle, self.parent, self.info)


@dataclass(frozen=True, slots=True)
class Counters:
    """TCA_STATS2 of a qdisc or class; what the kernel does not say is 0."""

    octets: int = 0
    packets: int = 0
    drops: int = 0
    overlimits: int = 0
    backlog: int = 0
    qlen: int = 0


@dataclass(frozen=True, slots=True)
class Found:
    """One decoded message: where it belongs, what it is and its counters.

    `item` is None for the messages that only announce a filter's existence.
    """

    header: Tcmsg
    item: Qdisc | HtbClass | Filter | None
    kind: str
    counters: Counters


class _NotOursError(Exception):
    """Options vMIB never sets."""


def attr(kind: int, payload: bytes) -> bytes:
    """A netlink attribute, padded."""
    length = 4 + len(payload)
    return _ATTR.pack(length, kind) + payload + bytes(-length % 4)


def _u32(kind: int, value: int) -> bytes:
    return attr(kind, value.to_bytes(4, sys.byteorder))


def _u64(kind: int, value: int) -> bytes:
    return attr(kind, value.to_bytes(8, sys.byteorder))


def attributes(
    data: bytes | memoryview, wanted: Container[int] | None = None
) -> Iterator[tuple[int, bytes]]:
    """The attributes in a buffer, as (type without flags, payload); all, or those wanted."""
    offset, end = 0, len(data)
    while offset + 4 <= end:
        length, kind = _ATTR.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise ValueError(f"attribute of {length} octets at {offset} of {end}")
        if wanted is None or kind & 0x3FFF in wanted:
            yield kind & 0x3FFF, bytes(data[offset + 4 : offset + length])
        offset += length + (-length % 4)


def _int(payload: bytes) -> int:
    return int.from_bytes(payload, sys.byteorder)


def _probability(ppm: int) -> int:
    """Parts per million of 2^32 - 1, the kernel's certainty."""
    return (ppm * _ALL_ONES + _MILLION // 2) // _MILLION


def _ppm(raw: int) -> int:
    value = (raw * _MILLION + _ALL_ONES // 2) // _ALL_ONES
    if _probability(value) != raw:
        raise _NotOursError
    return value


def _ratespec(rate: int) -> bytes:
    return _RATESPEC.pack(0, _ETHERNET, 0, 0, 0, min(rate, _ALL_ONES))


def _plain_rate(spec: bytes, rate64: bytes | None) -> int:
    """A rate without overhead, minimum size or cell alignment."""
    _, linklayer, overhead, _, mpu, rate = _RATESPEC.unpack(spec)
    if overhead or mpu or linklayer not in (0, _ETHERNET):
        raise _NotOursError
    return _int(rate64) if rate64 is not None else int(rate)


def _tbf(options: Tbf) -> bytes:
    """TCA_TBF_PARMS 1, RATE64 4, BURST 6; the exact burst makes rate tables needless."""
    ticks = psched.ticks_down(options.rate, options.burst)
    parms = _TBF_PARMS.pack(_ratespec(options.rate), bytes(12), options.limit, ticks, 0)
    rate64 = _u64(4, options.rate) if options.rate > _ALL_ONES else b""
    return attr(1, parms) + rate64 + _u32(6, options.burst)


def _read_tbf(data: bytes) -> Tbf:
    found = dict(attributes(data))
    spec, peak, limit, ticks, _ = _TBF_PARMS.unpack(found[1])
    rate = _plain_rate(spec, found.get(4))
    if peak[8:] != bytes(4) or 5 in found or not rate:
        raise _NotOursError
    return Tbf(rate, psched.least_octets(rate, ticks), limit)


def _netem(options: Netem, change: bool) -> bytes:
    """TCA_NETEM: CORR 1, DELAY_DIST 2, REORDER 3, CORRUPT 4, RATE 6, LATENCY64 10, JITTER64 11.

    The kernel does not report the distribution. It is written a second time, into the correlation
    of corruption, where distribution - 1 means at most one part in 10^9. Everything that could be
    left over from a stranger's change is set back to nothing.
    """
    gap = 1 if options.reorder else 0
    delay_ns, jitter_ns = options.delay * 1000, options.jitter * 1000
    parms = _NETEM_PARMS.pack(
        min(delay_ns >> psched.TICK_SHIFT, _ALL_ONES),
        options.limit,
        _probability(options.loss),
        gap,
        _probability(options.duplicate),
        min(jitter_ns >> psched.TICK_SHIFT, _ALL_ONES),
    )
    body = parms + attr(10, struct.pack("=q", delay_ns)) + attr(11, struct.pack("=q", jitter_ns))
    body += attr(1, struct.pack("=III", 0, _probability(options.loss_correlation), 0))
    body += attr(3, struct.pack("=II", _probability(options.reorder), 0))
    body += attr(4, struct.pack("=II", _probability(options.corrupt), options.distribution - 1))
    body += attr(6, _NETEM_RATE.pack(0, 0, 0, 0))
    if options.distribution != distributions.UNIFORM or (change and options.jitter):
        body += attr(2, distributions.table(options.distribution))
    return body


def _read_netem(data: bytes) -> Netem:
    _, limit, loss, gap, duplicate, _ = _NETEM_PARMS.unpack_from(data)
    found = dict(attributes(data[_NETEM_PARMS.size :]))
    delay_ns, jitter_ns = _int(found[10]), _int(found[11])
    delay_correlation, loss_correlation, duplicate_correlation = struct.unpack("=III", found[1])
    reorder, reorder_correlation = struct.unpack("=II", found[3])
    corrupt, mark = struct.unpack("=II", found[4])
    foreign = (
        delay_correlation or duplicate_correlation or reorder_correlation,
        delay_ns % 1000 or jitter_ns % 1000,
        gap != (1 if reorder else 0),
        mark >= len(distributions.DISTRIBUTIONS),
        any(found.get(6, b"")),
        5 in found or 12 in found,
        _int(found.get(7, b"")),
    )
    if any(foreign):
        raise _NotOursError
    return Netem(
        limit=limit,
        delay=delay_ns // 1000,
        jitter=jitter_ns // 1000,
        distribution=mark + 1,
        loss=_ppm(loss),
        loss_correlation=_ppm(loss_correlation),
        duplicate=_ppm(duplicate),
        corrupt=_ppm(corrupt),
        reorder=_ppm(reorder),
    )


def _htb(options: Htb) -> bytes:
    """TCA_HTB_INIT 2: version 3, rate2quantum 10 (unused, every class has its quantum)."""
    return attr(2, _HTB_GLOBAL.pack(3, 10, options.default, 0, 0))


def _read_htb(data: bytes) -> Htb:
    return Htb(int(_HTB_GLOBAL.unpack(dict(attributes(data))[2])[2]))


def _bfifo(options: Bfifo) -> bytes:
    return struct.pack("=I", options.limit)


def _read_bfifo(data: bytes) -> Bfifo:
    return Bfifo(int(struct.unpack_from("=I", data)[0]))


_READERS: dict[str, Callable[[bytes], Options]] = {
    "tbf": _read_tbf,
    "netem": _read_netem,
    "htb": _read_htb,
    "bfifo": _read_bfifo,
}


def _kind(name: str) -> bytes:
    return attr(_TCA_KIND, name.encode() + b"\0")


def kind_of(options: Options) -> str:
    """The kernel's name of a qdisc with these options."""
    return options.kind if isinstance(options, Other) else type(options).__name__.lower()


def _options(options: Options, change: bool) -> bytes:
    match options:
        case Tbf():
            return _tbf(options)
        case Netem():
            return _netem(options, change)
        case Htb():
            return _htb(options)
        case Bfifo():
            return _bfifo(options)
        case _:
            raise TypeError(f"{kind_of(options)}: read-only")


def encode_qdisc(device: int, qdisc: Qdisc, *, change: bool = False) -> bytes:
    """A RTM_NEWQDISC message, for a new qdisc or for the change of one."""
    header = Tcmsg(device, qdisc.handle, qdisc.parent).pack()
    if isinstance(qdisc.options, Ingress):
        block = _u32(_TCA_INGRESS_BLOCK, qdisc.options.block) if qdisc.options.block else b""
        return header + _kind("ingress") + block
    body = attr(_TCA_OPTIONS, _options(qdisc.options, change))
    return header + _kind(kind_of(qdisc.options)) + body


def encode_class(device: int, item: HtbClass) -> bytes:
    """A RTM_NEWTCLASS message. TCA_HTB: PARMS 1, RATE64 6, CEIL64 7."""
    spec = _ratespec(item.rate)
    ticks = psched.ticks_up(item.rate, item.burst)
    options = attr(1, _HTB_PARMS.pack(spec, spec, ticks, ticks, item.quantum, 0, 0))
    if item.rate > _ALL_ONES:
        options += _u64(6, item.rate) + _u64(7, item.rate)
    header = Tcmsg(device, item.classid, item.parent).pack()
    return header + _kind("htb") + attr(_TCA_OPTIONS, options)


def _read_class(header: Tcmsg, data: bytes) -> HtbClass:
    """A class; with rate 0, which no class has, when it is not as vMIB sets one."""
    try:
        found = dict(attributes(data))
        spec, ceiling, ticks, ceiling_ticks, quantum, _, priority = _HTB_PARMS.unpack(found[1])
        rate = _plain_rate(spec, found.get(6))
        if _plain_rate(ceiling, found.get(7)) != rate or ticks != ceiling_ticks or priority:
            raise _NotOursError
        return HtbClass(header.handle, rate, psched.most_octets(rate, ticks), quantum)
    except (_NotOursError, KeyError, struct.error):
        return HtbClass(header.handle, 0, 0, 0)


def filter_info(protocol: int, preference: int) -> int:
    """tcm_info of a filter: preference and protocol (network order)."""
    return preference << 16 | (protocol & 0xFF) << 8 | protocol >> 8


def encode_filter(device: int, parent: int, preference: int, item: Filter) -> bytes:
    """A RTM_NEWTFILTER message; `parent` is a qdisc's handle or a block's index.

    TCA_U32: CLASSID 1, HASH 2, LINK 3, DIVISOR 4, SEL 5, ACT 7.
    """
    info = filter_info(item.protocol, preference)
    if isinstance(item, Table):
        header = Tcmsg(device, item.number << 20, parent, info)
        return header.pack() + _kind("u32") + attr(_TCA_OPTIONS, _u32(4, 256))
    header = Tcmsg(device, rule_handle(item), parent, info)
    hash_on = item.hash_on
    selector = _SELECTOR.pack(
        0 if hash_on else 1,
        0,
        len(item.keys),
        0,
        0,
        0,
        hash_on.offset if hash_on else 0,
        (hash_on.mask if hash_on else 0).to_bytes(4, "big"),
    )
    selector += b"".join(
        _KEY.pack(mask.to_bytes(4, "big"), value.to_bytes(4, "big"), offset, 0)
        for offset, mask, value in item.keys
    )
    options = attr(5, selector)
    if item.classid:
        options += _u32(1, item.classid)
    if item.table:
        options += _u32(2, item.table << 20 | item.bucket << 12)
    if hash_on:
        options += _u32(3, hash_on.table << 20)
    if item.redirect:
        options += attr(7, _redirect(item.redirect, item.copying))
    return header.pack() + _kind("u32") + attr(_TCA_OPTIONS, options)


def rule_handle(item: Rule) -> int:
    """tcm_handle of a u32 rule: table, bucket, node; the root table's number is the kernel's."""
    return item.table << 20 | item.bucket << 12 | item.node


def _redirect(device: int, copying: bool) -> bytes:
    """act_mirred, TCA_EGRESS_REDIR 1; to copy, it goes on (TC_ACT_PIPE) to act_gact, which ends.

    The kernel redirects the frame itself only where nothing can come after it.
    """
    parms = _MIRRED.pack(0, 0, _PIPE if copying else _STOLEN, 0, 0, 1, device)
    actions = _action(1, b"mirred\0", parms)
    return actions + _action(2, b"gact\0", _GACT.pack(0, 0, _STOLEN, 0, 0)) * copying


def _action(order: int, kind: bytes, parms: bytes) -> bytes:
    return attr(order, attr(1, kind) + attr(2 | _NESTED, attr(2, parms)))


def _read_redirect(data: bytes) -> tuple[int, bool]:
    """The device, and whether what goes there is a copy."""
    actions = [dict(attributes(payload)) for _, payload in attributes(data)]
    kinds = [action[1] for action in actions]
    if kinds not in ([b"mirred\0"], [b"mirred\0", b"gact\0"]):
        raise _NotOursError
    copying = len(kinds) == 2
    found = [dict(attributes(action[2]))[2] for action in actions]
    parms = _MIRRED.unpack(found[0])
    if parms[2] != (_PIPE if copying else _STOLEN) or parms[5] != 1:
        raise _NotOursError
    if copying and _GACT.unpack(found[1])[2] != _STOLEN:
        raise _NotOursError
    return int(parms[6]), copying


def _read_filter(header: Tcmsg, data: bytes) -> Filter | None:
    """A table or rule; a rule that vMIB would not write leads nowhere."""
    found = dict(attributes(data))
    protocol = (header.info & 0xFF) << 8 | (header.info >> 8 & 0xFF)
    number = header.handle >> 20
    if 4 in found:
        return Table(protocol, number) if number < _FIRST_ROOT_TABLE else None
    if 5 not in found:
        return None
    table = number if number < _FIRST_ROOT_TABLE else 0
    empty = Rule(protocol, table, header.handle >> 12 & 0xFF, header.handle & 0xFFF)
    try:
        return _read_rule(empty, found)
    except (_NotOursError, KeyError, struct.error):
        return empty


def _read_rule(empty: Rule, found: dict[int, bytes]) -> Rule:
    flags, shift, count, _, _, _, hash_offset, hash_mask = _SELECTOR.unpack_from(found[5])
    keys = [_KEY.unpack_from(found[5], _SELECTOR.size + 16 * index) for index in range(count)]
    if flags & ~1 or shift or any(key[3] for key in keys):
        raise _NotOursError
    hash_on = None
    if 3 in found:
        hash_on = HashOn(_int(found[3]) >> 20, hash_offset, int.from_bytes(hash_mask, "big"))
    redirect, copying = _read_redirect(found[7]) if 7 in found else (0, False)
    return replace(
        empty,
        keys=tuple(
            Key(offset, int.from_bytes(mask, "big"), int.from_bytes(value, "big"))
            for mask, value, offset, _ in keys
        ),
        classid=_int(found.get(1, b"")),
        hash_on=hash_on,
        redirect=redirect,
        copying=copying,
    )


def _read_qdisc(header: Tcmsg, kind: str, found: dict[int, bytes]) -> Qdisc:
    options: Options
    try:
        if header.parent == INGRESS_PARENT:
            is_plain = kind == "ingress"
            block = _int(found.get(_TCA_INGRESS_BLOCK, b""))
            options = Ingress(block) if is_plain else Other(kind)
        else:
            reader = _READERS.get(kind)
            options = reader(found[_TCA_OPTIONS]) if reader else Other(kind)
    except (_NotOursError, KeyError, struct.error):
        options = Other(kind)
    return Qdisc(header.handle, header.parent, options)


def _read_counters(data: bytes) -> Counters:
    """TCA_STATS: BASIC 1, QUEUE 3, PKT64 8."""
    found = dict(attributes(data))
    octets, packets = _BASIC.unpack_from(found[1]) if 1 in found else (0, 0)
    queue = _QUEUE.unpack_from(found[3]) if 3 in found else (0, 0, 0, 0, 0)
    qlen, backlog, drops, _, overlimits = queue
    if 8 in found:
        packets = _int(found[8])
    return Counters(octets, packets, drops, overlimits, backlog, qlen)


def decode_header(data: bytes) -> Tcmsg:
    """The fixed part of a message. Raises `ValueError` if it is too short."""
    try:
        return Tcmsg(*_TCMSG.unpack_from(data)[3:])
    except struct.error as error:
        raise ValueError(str(error)) from error


def decode(message: int, data: bytes) -> Found:
    """Read one message of a dump or an event; `message` is its RTM_ number.

    Raises `ValueError` for octets that are no such message.
    """
    header = decode_header(data)
    found = dict(attributes(data[_TCMSG.size :]))
    kind = found.get(_TCA_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
    counters = _read_counters(found[_TCA_STATS2]) if _TCA_STATS2 in found else Counters()
    item: Qdisc | HtbClass | Filter | None = None
    if message in (RTM_NEWQDISC, RTM_DELQDISC):
        return Found(header, _read_qdisc(header, kind, found), kind, counters)
    options = found.get(_TCA_OPTIONS, b"")
    if message in (RTM_NEWTCLASS, RTM_DELTCLASS) and kind == "htb":
        item = _read_class(header, options)
    elif message in (RTM_NEWTFILTER, RTM_DELTFILTER) and kind == "u32":
        item = _read_filter(header, options)
    return Found(header, item, kind, counters)
