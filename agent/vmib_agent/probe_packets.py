"""The frames of probes: what the host hands a machine, and what of its answers to look at.

A machine's own address is asked for by an ARP request from 0.0.0.0 (RFC 826; RFC 5227, section
2.1.1: nobody's cache learns from it) or a neighbour solicitation (RFC 4861, section 4.3) from the
link-local address of the host end. Any other address asks by an ICMP echo request (RFC 792, RFC
4443) in its own name, whose data hold which packet it is. Pure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

IpAddress = IPv4Address | IPv6Address

_ETHERNET = struct.Struct("!6s6sH")
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")
_ECHO = struct.Struct("!BBHHH")
_DATA = struct.Struct("!8sII")
_DISCOVERY = struct.Struct("!BBHI16sBB6s")
_PSEUDO = struct.Struct("!16s16sII")

_IP, _ARP_TYPE, _IP6 = 0x0800, 0x0806, 0x86DD
_ICMP, _ICMPV6 = 1, 58
_REQUEST, _REPLY = 1, 2
_ECHO_REQUEST, _ECHO_REPLY = {4: 8, 6: 128}, {4: 0, 6: 129}
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_LINK_LAYER = 1
_NOBODY = bytes(4)
_DONT_FRAGMENT = 0x4000
_TTL, _HOPS_OF_DISCOVERY = 64, 255


@dataclass(frozen=True, slots=True)
class Question:
    """To whom a probe goes: the MAC addresses of the host end and of the machine's interface, the
    machine's address, and in whose name it is asked (the machine's own: who has it?)."""

    host_mac: str
    mac: str
    machine: IpAddress
    dest: IpAddress


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the machine with this MAC address.

    `address` is what was asked for; `packet` is None, or the probe and the number of its packet
    that an echo reply repeats.
    """

    mac: str
    address: IpAddress
    packet: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """What tells the echo requests of one agent from all others."""

    identifier: int
    token: bytes


def frame(question: Question, signature: Signature, probe: int, number: int) -> bytes:
    """The frame of a probe's packet."""
    if question.machine != question.dest:
        return _echo(question, signature, probe, number)
    if question.machine.version == 4:
        return _arp(question)
    return _solicitation(question)


def parse(octets: bytes, signature: Signature) -> Answer | None:
    """The answer in a frame, or None."""
    if len(octets) < _ETHERNET.size:
        return None
    _, source, kind = _ETHERNET.unpack_from(octets)
    body = octets[_ETHERNET.size :]
    try:
        if kind == _ARP_TYPE:
            return _parse_arp(body)
        if kind == _IP and body[0] >> 4 == 4 and body[9] == _ICMP:
            address = IPv4Address(body[12:16])
            return _parse_echo(source, address, body[4 * (body[0] & 0x0F) :], signature)
        if kind == _IP6 and body[0] >> 4 == 6 and body[6] == _ICMPV6:
            message = body[_IPV6.size :]
            if message[0] == _ADVERTISEMENT:
                return Answer(source.hex(":"), IPv6Address(message[8:24]), None)
            return _parse_echo(source, IPv6Address(body[8:24]), message, signature)
    except (IndexError, ValueError, struct.error):
        pass  # cut off
    return None


def link_local(mac: str) -> IPv6Address:
    """The link-local address made from a MAC address (RFC 4291, appendix A)."""
    octets = _mac(mac)
    interface = bytes([octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:]])
    return IPv6Address(b"\xfe\x80" + bytes(6) + interface)


def internet_checksum(octets: bytes) -> int:
    """The checksum of RFC 1071 of an even number of octets."""
    words: tuple[int, ...] = struct.unpack(f"!{len(octets) // 2}H", octets)
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def answer_filter(identifier: int) -> tuple[tuple[int, int, int, int], ...]:
    """A classic BPF program (socket(7), SO_ATTACH_FILTER) that lets answers pass, as (code, jt,
    jf, k): ARP replies to 0.0.0.0, neighbour advertisements, echo replies with the identifier."""
    return (
        (0x28, 0, 0, 12),  # the type of the frame
        (0x15, 0, 4, _ARP_TYPE),
        (0x28, 0, 0, 20),  # the operation
        (0x15, 0, 19, _REPLY),
        (0x20, 0, 0, 38),  # the address asked from
        (0x15, 16, 17, 0),
        (0x15, 0, 7, _IP),
        (0x30, 0, 0, 23),  # the protocol
        (0x15, 0, 14, _ICMP),
        (0xB1, 0, 0, 14),  # X: the length of the header
        (0x50, 0, 0, 14),  # the type of the message
        (0x15, 0, 11, _ECHO_REPLY[4]),
        (0x48, 0, 0, 18),  # the identifier
        (0x15, 8, 9, identifier),
        (0x15, 0, 8, _IP6),
        (0x30, 0, 0, 20),  # the next header
        (0x15, 0, 6, _ICMPV6),
        (0x30, 0, 0, 54),  # the type of the message
        (0x15, 3, 0, _ADVERTISEMENT),
        (0x15, 0, 3, _ECHO_REPLY[6]),
        (0x28, 0, 0, 58),  # the identifier
        (0x15, 0, 1, identifier),
        (0x06, 0, 0, 0x40000),
        (0x06, 0, 0, 0),
    )


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ethernet(question: Question, kind: int) -> bytes:
    return _ETHERNET.pack(_mac(question.mac), _mac(question.host_mac), kind)


def _arp(question: Question) -> bytes:
    ours = _mac(question.host_mac)
    target = question.machine.packed
    body = _ARP.pack(1, _IP, 6, 4, _REQUEST, ours, _NOBODY, bytes(6), target)
    return _ethernet(question, _ARP_TYPE) + body


def _solicitation(question: Question) -> bytes:
    source, target = link_local(question.host_mac).packed, question.machine.packed
    option = (_SOURCE_LINK_LAYER, 1, _mac(question.host_mac))
    message = _checked6(source, target, _DISCOVERY.pack(_SOLICITATION, 0, 0, 0, target, *option))
    return _ethernet(question, _IP6) + _ipv6(source, target, message, _HOPS_OF_DISCOVERY)


def _echo(question: Question, signature: Signature, probe: int, number: int) -> bytes:
    source, target = question.dest.packed, question.machine.packed
    version = question.dest.version
    head = (_ECHO_REQUEST[version], 0, 0, signature.identifier, number & 0xFFFF)
    message = _ECHO.pack(*head) + _DATA.pack(signature.token, probe, number)
    if version == 6:
        message = _checked6(source, target, message)
        return _ethernet(question, _IP6) + _ipv6(source, target, message, _TTL)
    message = _checked(message, internet_checksum(message))
    length = _IPV4.size + len(message)
    header = _IPV4.pack(0x45, 0, length, 0, _DONT_FRAGMENT, _TTL, _ICMP, 0, source, target)
    checksum = internet_checksum(header).to_bytes(2)
    return _ethernet(question, _IP) + header[:10] + checksum + header[12:] + message


def _ipv6(source: bytes, target: bytes, message: bytes, hops: int) -> bytes:
    return _IPV6.pack(6 << 28, len(message), _ICMPV6, hops, source, target) + message


def _checked6(source: bytes, target: bytes, message: bytes) -> bytes:
    pseudo = _PSEUDO.pack(source, target, len(message), _ICMPV6)
    return _checked(message, internet_checksum(pseudo + message))


def _checked(message: bytes, checksum: int) -> bytes:
    return message[:2] + checksum.to_bytes(2) + message[4:]


def _parse_arp(body: bytes) -> Answer | None:
    *_, operation, mac, address, _, asker = _ARP.unpack_from(body)
    if operation != _REPLY or asker != _NOBODY:
        return None
    return Answer(mac.hex(":"), IPv4Address(address), None)


def _parse_echo(
    source: bytes, address: IpAddress, message: bytes, signature: Signature
) -> Answer | None:
    kind, _, _, identifier, _ = _ECHO.unpack_from(message)
    token, probe, number = _DATA.unpack_from(message, _ECHO.size)
    expected = (_ECHO_REPLY[address.version], signature.identifier, signature.token)
    if (kind, identifier, token) != expected:
        return None
    return Answer(source.hex(":"), address, (probe, number))
