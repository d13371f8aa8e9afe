"""The kernel's octets of a rule: struct ipt_entry and ip6t_entry of <linux/netfilter_ipv[46]>.

python-iptables can make them from words, but redirects the process's standard output to read a
match back, keeps one parser state per library and takes some 100 microseconds for a rule; the
structures are ABI and few, so they are written here, with the revision each match has had since
Linux 3. Numbers have the byte order of the machine, addresses and MACs that of the network.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network
from typing import Any, NamedTuple

from .iptables import (
    ANY_PORTS,
    ANY_PROTOCOL,
    TCP,
    UDP,
    Entry,
    Network,
    Ports,
    Rule,
    Unknown,
)

_ALIGNMENT = ctypes.alignment(ctypes.c_uint64)
_EXTENSION = struct.Struct("=H29sB")
_STANDARD_TARGETS = ("ACCEPT", "DROP", "RETURN")
_INVERT_OUT = 0x02
_PHYSDEV_IN, _PHYSDEV_OUT, _PHYSDEV_BRIDGED = 0x01, 0x02, 0x04


class _Family(NamedTuple):
    """What differs between ipt_entry and ip6t_entry; `size` is that of the entry's own part."""

    header: struct.Struct
    tail: struct.Struct
    size: int
    nowhere: bytes
    network: Callable[[Any], Network]
    goto: int
    has_protocol: int
    rejects: dict[str, int]
    masquerade: bytes


_FAMILIES = {
    4: _Family(
        header=struct.Struct("=4s4s4s4s16s16s16s16sHBB"),
        tail=struct.Struct("=IHHIQQ"),
        size=112,
        nowhere=bytes(4),
        network=IPv4Network,
        goto=0x02,
        has_protocol=0,
        rejects={"icmp-port-unreachable": 3, "tcp-reset": 7},
        masquerade=struct.pack("=IIIIHH", 1, 0, 0, 0, 0, 0),
    ),
    6: _Family(
        header=struct.Struct("=16s16s16s16s16s16s16s16sHxBBxxx"),
        tail=struct.Struct("=IHHI4xQQ"),
        size=168,
        nowhere=bytes(16),
        network=IPv6Network,
        goto=0x04,
        has_protocol=0x01,
        rejects={"icmp6-port-unreachable": 4, "tcp-reset": 6},
        masquerade=bytes(40),
    ),
}


class Extension(NamedTuple):
    """A match or target: its name, its revision and its padded structure."""

    name: str
    revision: int
    data: bytes

    def octets(self) -> bytes:
        """struct xt_entry_match, which struct xt_entry_target equals."""
        header = _EXTENSION.pack(
            _EXTENSION.size + len(self.data), self.name.encode(), self.revision
        )
        return header + self.data


class Counters(NamedTuple):
    """What a rule has matched; octets are those of layer 3."""

    packets: int
    octets: int


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNMENT)


def _extension(name: str, data: bytes, revision: int = 0) -> Extension:
    return Extension(name, revision, _padded(data))


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode("ascii", "backslashreplace")


def _device(name: str) -> tuple[bytes, bytes]:
    """A device name and its mask, which includes the NUL that ends a whole name.

    iptables(8) leaves the "+" of a pattern in the name, and prints it from there.
    """
    if name.endswith("+"):
        return name.encode(), b"\xff" * (len(name) - 1)
    return name.encode(), b"\xff" * (len(name) + 1) if name else b""


def _physdev(rule: Rule) -> Iterator[Extension]:
    bits = (
        (_PHYSDEV_IN if rule.physdev_in else 0)
        | (_PHYSDEV_OUT if rule.physdev_out else 0)
        | (_PHYSDEV_BRIDGED if rule.bridged is not None else 0)
    )
    if bits:
        names = (*_device(rule.physdev_in), *_device(rule.physdev_out))
        inverted = _PHYSDEV_BRIDGED if rule.bridged is False else 0
        yield _extension("physdev", struct.pack("=16s16s16s16sBB", *names, inverted, bits))


def _mac(rule: Rule) -> Iterator[Extension]:
    if rule.not_mac:
        address = bytes.fromhex(rule.not_mac.replace(":", ""))
        yield _extension("mac", struct.pack("=6sxxi", address, 1))


def _multiport(flag: int, ports: Ports) -> Extension:
    """Revision 1: a list of ports in which a flag says that the next one ends a range."""
    low, high = ports
    listed = [low] if low == high else [low, high]
    flags = [0] if low == high else [1, 0]
    numbers = struct.pack("=15H", *listed, *[0] * (15 - len(listed)))
    return _extension(
        "multiport", bytes([flag, len(listed)]) + numbers + bytes(flags).ljust(16, b"\0"), 1
    )


def _ports(rule: Rule) -> Iterator[Extension]:
    if (rule.src_ports, rule.dst_ports) == (ANY_PORTS, ANY_PORTS):
        return
    if rule.protocol == TCP:
        yield _extension("tcp", struct.pack("=4H4B", *rule.src_ports, *rule.dst_ports, 0, 0, 0, 0))
    elif rule.protocol == UDP:
        yield _extension("udp", struct.pack("=4HBx", *rule.src_ports, *rule.dst_ports, 0))
    else:
        for flag, ports in enumerate((rule.src_ports, rule.dst_ports)):
            if ports != ANY_PORTS:
                yield _multiport(flag, ports)


def _icmp6(rule: Rule) -> Iterator[Extension]:
    if rule.icmp6_type is not None:
        yield _extension("icmp6", bytes([rule.icmp6_type, 0, 255, 0]))


def _comment(rule: Rule) -> Iterator[Extension]:
    if rule.comment:
        yield _extension("comment", rule.comment.encode().ljust(256, b"\0"))


_MATCHES = (_physdev, _mac, _ports, _icmp6, _comment)
"""In the order in which they are tried for a packet and printed; what costs least comes first."""


def _target(rule: Rule, family: _Family) -> Extension:
    match rule.target:
        case "REJECT":
            return _extension("REJECT", struct.pack("=I", family.rejects[rule.reject]))
        case "MASQUERADE":
            return _extension("MASQUERADE", family.masquerade)
        case name:
            return _extension(name, bytes(4))


def _header(rule: Rule, family: _Family) -> bytes:
    nowhere = (family.nowhere, family.nowhere)
    src, src_mask, dst, dst_mask = (
        part
        for network in (rule.src, rule.dst)
        for part in (
            (network.network_address.packed, network.netmask.packed) if network else nowhere
        )
    )
    in_name, in_mask = _device(rule.in_device)
    out_name, out_mask = _device(rule.out_device or rule.not_out_device)
    has_protocol = rule.protocol != ANY_PROTOCOL
    return family.header.pack(
        src,
        dst,
        src_mask,
        dst_mask,
        in_name,
        out_name,
        in_mask,
        out_mask,
        rule.protocol if has_protocol else 0,
        (family.goto if rule.goto else 0) | (family.has_protocol if has_protocol else 0),
        _INVERT_OUT if rule.not_out_device else 0,
    )


def encode(rule: Rule, family: int) -> bytes:
    """The entry that libiptc takes; a chain's name stands where the kernel has an offset."""
    form = _FAMILIES[family]
    matches = b"".join(match.octets() for part in _MATCHES for match in part(rule))
    target = _target(rule, form).octets()
    target_at = form.size + len(matches)
    tail = form.tail.pack(0, target_at, target_at + len(target), 0, 0, 0)
    return _header(rule, form) + tail + matches + target


def counters(raw: bytes, family: int) -> Counters:
    """What the entry has matched."""
    form = _FAMILIES[family]
    return Counters(*form.tail.unpack_from(raw, form.header.size)[4:6])


def _extensions(raw: bytes, start: int, end: int) -> Iterator[Extension]:
    while start < end:
        size, name, revision = _EXTENSION.unpack_from(raw, start)
        yield Extension(_text(name), revision, raw[start + _EXTENSION.size : start + size])
        start += size


def _read_physdev(data: bytes) -> dict[str, Any]:
    in_name, _, out_name, _, inverted, bits = struct.unpack_from("=16s16s16s16sBB", data)
    return {
        "physdev_in": _text(in_name),
        "physdev_out": _text(out_name),
        "bridged": not inverted & _PHYSDEV_BRIDGED if bits & _PHYSDEV_BRIDGED else None,
    }


def _read_ports(data: bytes) -> dict[str, Any]:
    low, high, to_low, to_high = struct.unpack_from("=4H", data)
    return {"src_ports": (low, high), "dst_ports": (to_low, to_high)}


def _read_multiport(data: bytes) -> dict[str, Any]:
    low, high = struct.unpack_from("=2H", data, 2)
    return {("src_ports", "dst_ports")[data[0] & 1]: (low, high if data[1] == 2 else low)}


_READERS: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "physdev": _read_physdev,
    "mac": lambda data: {"not_mac": data[:6].hex(":")},
    "tcp": _read_ports,
    "udp": _read_ports,
    "multiport": _read_multiport,
    "icmp6": lambda data: {"icmp6_type": data[0]},
    "comment": lambda data: {"comment": _text(data)},
}


def _read_header(raw: bytes, form: _Family) -> dict[str, Any]:
    *addresses, in_name, out_name, _, _, protocol, flags, inverted = form.header.unpack_from(raw)
    src, dst, src_mask, dst_mask = addresses
    out = "not_out_device" if inverted & _INVERT_OUT else "out_device"
    return {
        "src": None if src_mask == form.nowhere else _network(src, src_mask, form),
        "dst": None if dst_mask == form.nowhere else _network(dst, dst_mask, form),
        "in_device": _text(in_name),
        out: _text(out_name),
        "protocol": protocol or ANY_PROTOCOL,
        "goto": bool(flags & form.goto),
    }


def _network(address: bytes, mask: bytes, form: _Family) -> Network:
    return form.network((address, int.from_bytes(mask, "big").bit_count()))


@lru_cache(maxsize=256)
def _named(target: str) -> bytes:
    """The target of a verdict or a jump as `encode` writes it."""
    return _extension(target, bytes(4)).octets()


def decode(raw: bytes, target: str, family: int) -> Entry:
    """The rule of an entry as libiptc hands it out, `target` being what iptc_get_target says.

    Whatever would not come out of `encode` in the same way is `Unknown`, with the name of the
    target put back into the octets so that they can be inserted again.
    """
    form = _FAMILIES[family]
    _, target_at, end, *_ = form.tail.unpack_from(raw, form.header.size)
    matches = _clean(raw, form.size, target_at)
    named = _clean(raw, target_at, end)
    if _text(named[2:31]) in ("", *_STANDARD_TARGETS):
        named = _named(target)
    tail = form.tail.pack(0, target_at, target_at + len(named), 0, 0, 0)
    return _entry(raw[: form.header.size] + tail + matches + named, family)


def _clean(raw: bytes, start: int, end: int) -> bytes:
    """Matches or a target without what the kernel leaves as it was behind their names."""
    parts = []
    while start < end:
        size, name, revision = _EXTENSION.unpack_from(raw, start)
        parts.append(_EXTENSION.pack(size, name.partition(b"\0")[0], revision))
        parts.append(raw[start + _EXTENSION.size : start + size])
        start += size
    return b"".join(parts)


@lru_cache(maxsize=65536)
def _entry(plain: bytes, family: int) -> Entry:
    """The rule of these octets; kept, because most rules are read again and again."""
    form = _FAMILIES[family]
    _, target_at, end, *_ = form.tail.unpack_from(plain, form.header.size)
    try:
        fields: dict[str, Any] = _read_header(plain, form)
        for match in _extensions(plain, form.size, target_at):
            fields |= _READERS[match.name](match.data)
        (target,) = _extensions(plain, target_at, end)
        if target.name == "REJECT":
            (code,) = struct.unpack_from("=I", target.data)
            fields["reject"] = {number: name for name, number in form.rejects.items()}[code]
        rule = Rule(target=target.name, **fields)
        return rule if encode(rule, family) == plain else Unknown(plain)
    except (KeyError, ValueError, struct.error):
        return Unknown(plain)
