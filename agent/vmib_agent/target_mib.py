"""The configured targets as SNMP-TARGET-MIB and SNMP-NOTIFICATION-MIB tell them (RFC 3413).

All rows are readOnly: targets are configured in a file. A community is not told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from vmib.smi import Oid, Tag

from .access import NOTIFY, TARGET
from .config import Endpoint, Target
from .service import Value

_ADDRESSES: Oid = (*TARGET, 2, 1)
_PARAMETERS: Oid = (*TARGET, 3, 1)
_NOTIFY: Oid = (*NOTIFY, 1, 1)

COLUMNS: Sequence[Oid] = (
    *((*_ADDRESSES, number) for number in range(2, 10)),
    *((*_PARAMETERS, number) for number in range(2, 8)),
    *((*_NOTIFY, number) for number in range(2, 6)),
)
"""The readable columns of snmpTargetAddrTable, snmpTargetParamsTable and snmpNotifyTable."""

_UDP_DOMAINS: Mapping[int, Oid] = {4: (1, 3, 6, 1, 6, 1, 1), 6: (1, 3, 6, 1, 2, 1, 100, 1, 2)}
"""snmpUDPDomain (RFC 3417), transportDomainUdpIpv6 (RFC 3419)."""
_V2C_NAME = "v2c"
_TRAP, _INFORM = "trap", "inform"
_NOTIFY_TYPES = {_TRAP: 1, _INFORM: 2}
_READ_ONLY, _ACTIVE = 5, 1


def instances(targets: Sequence[Target]) -> dict[Oid, Value]:
    """All instances of the three tables; a target is named by its place in the configuration."""
    found: dict[Oid, Value] = {}
    size = len(str(len(targets)))
    for number, target in enumerate(targets, 1):
        name = f"target{number:0{size}}"  # all of one length: numbers are in order then
        found |= _row(_ADDRESSES, name, _address_row(target, name))
        found |= _row(_PARAMETERS, name, _parameters_row(target))
    for tag in sorted({_tag(target) for target in targets}):
        found |= _row(_NOTIFY, tag, [_text(tag), _number(_NOTIFY_TYPES[tag]), *_ROW])
    return found


def _address_row(target: Target, name: str) -> list[Value]:
    domain = _UDP_DOMAINS[ip_address(target.address.host).version]
    return [
        Value(Tag.OBJECT_IDENTIFIER, domain),
        Value(Tag.OCTET_STRING, _transport_address(target.address)),
        _number(target.timeout * 100 if target.inform else 0),
        _number(target.retries if target.inform else 0),
        _text(_tag(target)),
        _text(name),
        *_ROW,
    ]


def _parameters_row(target: Target) -> list[Value]:
    """Message processing model, security model, name and level (RFC 3411)."""
    if target.user:
        return [_number(3), _number(3), _text(target.user), _number(3), *_ROW]
    return [_number(1), _number(2), _text(_V2C_NAME), _number(1), *_ROW]


def _transport_address(address: Endpoint) -> bytes:
    return ip_address(address.host).packed + address.port.to_bytes(2)


def _tag(target: Target) -> str:
    return _INFORM if target.inform else _TRAP


def _row(entry: Oid, name: str, values: Sequence[Value]) -> dict[Oid, Value]:
    """A row whose first column is its IMPLIED index, from its second column on."""
    return {(*entry, column, *name.encode()): value for column, value in enumerate(values, 2)}


def _text(text: str) -> Value:
    return Value(Tag.OCTET_STRING, text.encode())


def _number(number: Any) -> Value:
    return Value(Tag.INTEGER, number)


_ROW = (_number(_READ_ONLY), _number(_ACTIVE))
"""StorageType and RowStatus."""
