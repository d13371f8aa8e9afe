"""Requests by SNMPv2c that net-snmp's tools cannot make: very many of them, or very large ones.

    python stopwatch.py PORT COMMUNITY watch SECONDS    GETs of sysUpTime: how long they took
    python stopwatch.py PORT COMMUNITY set              a SET of the varbinds on standard input

Varbinds are lines of OID, tag and value; what comes out is a line of JSON.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Iterable

from vmib.snmp.ber import Value, VarBind
from vmib.snmp.message import CommunityMessage, Pdu, PduType, decode_message, encode_community

SYS_UP_TIME = (1, 3, 6, 1, 2, 1, 1, 3, 0)


def ask(asking: socket.socket, community: bytes, kind: PduType, *varbinds: VarBind) -> Pdu:
    """The answer to a request."""
    asking.send(encode_community(CommunityMessage(community, Pdu(kind, 1, varbinds))))
    message = decode_message(asking.recv(65535))
    assert isinstance(message, CommunityMessage)
    return message.pdu


def watch(asking: socket.socket, community: bytes, seconds: float) -> dict[str, float]:
    """How long a GET takes at most, and usually, in milliseconds."""
    taken = []
    end = time.monotonic() + seconds
    while (started := time.monotonic()) < end:
        ask(asking, community, PduType.GET, VarBind(SYS_UP_TIME, Value.null()))
        taken.append((time.monotonic() - started) * 1000)
        time.sleep(0.001)
    taken.sort()
    return {"asked": len(taken), "median_ms": taken[len(taken) // 2], "max_ms": taken[-1]}


def put(asking: socket.socket, community: bytes, lines: Iterable[str]) -> dict[str, float]:
    """What comes of a SET, and how long it takes in milliseconds."""
    varbinds = []
    for line in lines:
        oid, tag, value = line.split()
        name = tuple(map(int, oid.strip(".").split(".")))
        varbinds.append(VarBind(name, Value(int(tag), int(value))))
    started = time.monotonic()
    answer = ask(asking, community, PduType.SET, *varbinds)
    taken = (time.monotonic() - started) * 1000
    status, index = int(answer.error_status), answer.error_index
    return {"varbinds": len(varbinds), "status": status, "index": index, "ms": taken}


def main() -> None:
    port, community, what = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(("127.0.0.1", port))
        asking.settimeout(30)
        if what == "watch":
            print(json.dumps(watch(asking, community, float(sys.argv[4]))))
        else:
            print(json.dumps(put(asking, community, sys.stdin)))


if __name__ == "__main__":
    main()
