"""An agent on pysnmp alone: its engine, its responders, and a controller over a sorted list.

pysnmp_agent.py PORT VIFS
"""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_right
from typing import Any

from agent_peers import COMMUNITY, PASSPHRASES, USER
from pysnmp.carrier.asyncio.dgram import udp
from pysnmp.entity import config, engine
from pysnmp.entity.rfc3413 import cmdrsp, context
from pysnmp.proto.api import v2c
from pysnmp.proto.rfc1905 import endOfMibView, noSuchInstance
from pysnmp.smi.instrum import AbstractMibInstrumController
from shape_rows import cells

from vmib.smi import Oid, Tag


class Table(AbstractMibInstrumController):
    """The cells, in memory."""

    def __init__(self, vifs: int) -> None:
        kinds = {Tag.INTEGER: v2c.Integer32, Tag.UNSIGNED32: v2c.Unsigned32}
        found = cells(vifs)
        self._values = {oid: kinds[tag](value) for oid, tag, value in found}
        self._order: list[Oid] = [oid for oid, _, _ in found]

    def read_variables(self, *varbinds: Any, **_: Any) -> Any:
        return [(name, self._values.get(tuple(name), noSuchInstance)) for name, _ in varbinds]

    def read_next_variables(self, *varbinds: Any, **_: Any) -> Any:
        return [self._after(tuple(name)) for name, _ in varbinds]

    def write_variables(self, *varbinds: Any, **_: Any) -> Any:
        self._values.update({tuple(name): value for name, value in varbinds})
        return varbinds

    def _after(self, oid: Oid) -> Any:
        position = bisect_right(self._order, oid)
        if position == len(self._order):
            return v2c.ObjectIdentifier(oid), endOfMibView
        found = self._order[position]
        return v2c.ObjectIdentifier(found), self._values[found]


def main() -> None:
    """Serve until the end."""
    port, vifs = map(int, sys.argv[1:])
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    snmp = engine.SnmpEngine()
    transport = udp.UdpTransport().open_server_mode(("127.0.0.1", port))
    config.add_transport(snmp, config.SNMP_UDP_DOMAIN, transport)
    config.add_v1_system(snmp, "area", COMMUNITY)
    config.add_v3_user(
        snmp,
        USER,
        config.USM_AUTH_HMAC192_SHA256,
        PASSPHRASES[0],
        config.USM_PRIV_CFB128_AES,
        PASSPHRASES[1],
    )
    config.add_vacm_user(snmp, 2, "area", "noAuthNoPriv", (1, 3, 6), (1, 3, 6))
    config.add_vacm_user(snmp, 3, USER, "authPriv", (1, 3, 6), (1, 3, 6))
    served = context.SnmpContext(snmp)
    served.unregister_context_name(b"")
    served.register_context_name(b"", Table(vifs))
    for responder in (
        cmdrsp.GetCommandResponder,
        cmdrsp.SetCommandResponder,
        cmdrsp.NextCommandResponder,
        cmdrsp.BulkCommandResponder,
    ):
        responder(snmp, served)
    snmp.transport_dispatcher.job_started(1)
    loop.run_forever()


if __name__ == "__main__":
    main()
