"""rtnetlink messages about devices: their names, and the making of ifbs (rtnetlink(7))."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vmib_agent.netlink import NLM_F_CREATE, NLM_F_EXCL, Request
from vmib_agent.tc import attr, attributes

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18

OWN_GROUP = 0x76F0
"""The group of an ifb of ours from its first moment on; its alias follows."""
OWN_ALIAS = "vmib:"
LEAVING_GROUP = 0x76F1
"""Where ifbs of ours go to be removed together: one by one the kernel takes 20 ms for each."""

_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 3, 4, 18
_IFLA_IFALIAS, _IFLA_GROUP, _IFLA_EXT_MASK = 20, 27, 29
_DEVICE = frozenset({_IFLA_IFNAME, _IFLA_MTU, _IFLA_IFALIAS, _IFLA_GROUP})
_SKIP_STATS = 8
_IFF_UP = 1
_IFINFO = struct.Struct("=BxHiII")
_U32 = struct.Struct("=I")


@dataclass(frozen=True, slots=True)
class Device:
    """A network device; `is_ours` says that vMIB made it, `is_up` that it is to carry packets."""

    index: int
    name: str
    mtu: int
    group: int
    is_ours: bool
    is_up: bool = True


def _name(kind: int, name: str) -> bytes:
    return attr(kind, name.encode() + b"\0")


def list_devices() -> bytes:
    """The body of a RTM_GETLINK dump without statistics."""
    return _IFINFO.pack(0, 0, 0, 0, 0) + attr(_IFLA_EXT_MASK, _U32.pack(_SKIP_STATS))


def decode_device(body: bytes) -> Device | None:
    """Read a RTM_NEWLINK or RTM_DELLINK message; None if it is about a bridge's port."""
    family, _, index, flags, _ = _IFINFO.unpack_from(body)
    if family:
        return None
    found = dict(attributes(memoryview(body)[_IFINFO.size :], _DEVICE))
    alias = found.get(_IFLA_IFALIAS, b"").decode("utf-8", "replace")
    (group,) = _U32.unpack(found.get(_IFLA_GROUP, bytes(4)))
    (mtu,) = _U32.unpack(found.get(_IFLA_MTU, bytes(4)))
    name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode("utf-8", "replace")
    is_ours = group == OWN_GROUP or alias.startswith(OWN_ALIAS)
    return Device(index, name, mtu, group, is_ours, bool(flags & _IFF_UP))


def make_ifb(name: str, device: str) -> list[Request]:
    """An ifb of ours for `device`, up."""
    info = attr(_IFLA_LINKINFO, attr(1, b"ifb\0"))
    group = attr(_IFLA_GROUP, _U32.pack(OWN_GROUP))
    made = _IFINFO.pack(0, 0, 0, 0, 0) + _name(_IFLA_IFNAME, name) + group + info
    marked = _IFINFO.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _name(_IFLA_IFNAME, name)
    marked += attr(_IFLA_IFALIAS, f"{OWN_ALIAS}{device}".encode())
    return [
        Request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, made),
        Request(RTM_NEWLINK, 0, marked),
    ]


def set_up(index: int) -> Request:
    """The setting up of a device."""
    return Request(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP))


def remove_device(index: int) -> Request:
    """The removal of a device."""
    return Request(RTM_DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0))


def leave(index: int) -> Request:
    """The move of a device to the group that is to be removed."""
    body = _IFINFO.pack(0, 0, index, 0, 0) + attr(_IFLA_GROUP, _U32.pack(LEAVING_GROUP))
    return Request(RTM_NEWLINK, 0, body)


def remove_leaving() -> Request:
    """The removal of every device of that group."""
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attr(_IFLA_GROUP, _U32.pack(LEAVING_GROUP))
    return Request(RTM_DELLINK, 0, body)
