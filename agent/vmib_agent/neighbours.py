"""Whether a guest has an address: it is asked over its own interface, as a neighbour would be.

The host needs no address for that. A question can never be taken for an address conflict
(RFC 5227 section 2.1.1, RFC 4862 section 5.4.3): that for an IPv4 address bears the guest's own
hardware address, that for an IPv6 address a sender.
"""

from __future__ import annotations

import socket
import struct
import time
from ipaddress import IPv4Address, IPv6Address

from .network import IpAddress

PATIENCE = 0.4
"""Seconds that a neighbour has for an answer."""

_ETH_P_ALL = 3
_ETH_P_ARP, _ETH_P_IPV6 = 0x0806, 0x86DD
_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
_ASKER = bytes.fromhex("02766d000000")
_ASKER_IP = IPv6Address("fe80::76:6dff:fe00:0")


def octets_of(mac: str) -> bytes:
    """A MAC address in octets."""
    return bytes.fromhex(mac.replace(":", ""))


def question(address: IpAddress, mac: str) -> bytes:
    """The frame that asks the guest with this MAC address for an address."""
    if address.version == 4:
        guest = octets_of(mac)
        request = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + guest + bytes(4) + bytes(6)
        return guest + _ASKER + struct.pack("!H", _ETH_P_ARP) + request + address.packed
    body = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + address.packed + b"\1\1" + _ASKER
    sent = struct.pack("!IHBB", 6 << 28, len(body), _ICMPV6, 255)
    sent += _ASKER_IP.packed + address.packed
    body = body[:2] + _checksum(_ASKER_IP, address, body) + body[4:]
    return octets_of(mac) + _ASKER + struct.pack("!H", _ETH_P_IPV6) + sent + body


def is_answer(frame: bytes, address: IpAddress, mac: str) -> bool:
    """Whether a frame that came from the guest tells that it has the address."""
    kind = frame[12:14]
    if frame[6:12] != octets_of(mac):
        return False
    if isinstance(address, IPv4Address):
        return kind == b"\x08\x06" and frame[20:22] == b"\0\2" and frame[28:32] == address.packed
    is_icmp = kind == b"\x86\xdd" and frame[20:21] == bytes([_ICMPV6])
    is_advertisement = is_icmp and frame[54:55] == bytes([_ADVERTISEMENT])
    return is_advertisement and frame[62:78] == address.packed


def has_address(device: str, mac: str, address: IpAddress, patience: float = PATIENCE) -> bool:
    """Whether the guest behind a host end answers for an address; raises OSError."""
    # With all protocols the socket hears before the ingress hook, which redirects everything.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as asking:
        asking.bind((device, _ETH_P_ALL))
        asking.send(question(address, mac))
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            asking.settimeout(left)
            try:
                frame, (_, _, direction, *_) = asking.recvfrom(2048)
            except TimeoutError:
                return False
            if direction != socket.PACKET_OUTGOING and is_answer(frame, address, mac):
                return True
    return False


def _checksum(source: IPv6Address, target: IpAddress, body: bytes) -> bytes:
    """That of ICMPv6 (RFC 4443 section 2.3) over a body of an even length."""
    whole = source.packed + target.packed + struct.pack("!II", len(body), _ICMPV6) + body
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
