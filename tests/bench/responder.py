"""Stands for many agents that do nothing: one process, an SNMP engine on each of its ports.

    responder.py COUNT

It prints its ports, tells its engine IDs to whoever asks for them, and answers every authentic
request with what was asked, which is the answer to a SET.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

from agent_peers import PASSPHRASES, USER

from vmib.snmp import ber, usm
from vmib.snmp.channel import Channel, NotPlain, outline
from vmib.snmp.message import (
    AUTH,
    PRIV,
    Pdu,
    PduType,
    ScopedPdu,
    UsmParameters,
    V3Message,
    decode_message,
    encode_scoped,
    encode_v3,
)

MAX_SIZE = 65507
_UNKNOWN_ENGINE_IDS = (1, 3, 6, 1, 6, 3, 15, 1, 1, 4, 0)


class Engine:
    """One SNMP engine."""

    def __init__(self, number: int, keys: tuple[bytes, bytes]) -> None:
        self.engine_id = b"\x80\0\0\0\5" + number.to_bytes(4)
        localised = (usm.localise(usm.SHA256, key, self.engine_id) for key in keys)
        self._channel = Channel(
            self.engine_id, USER.encode(), usm.Keys(usm.SHA256, *localised), MAX_SIZE, AUTH | PRIV
        )
        self._salt = 0

    def answer(self, datagram: bytes) -> bytes:
        """The answer to a datagram."""
        try:
            found = outline(datagram)
            boots, now, scoped, at = self._channel.open(datagram, found)
        except NotPlain:
            return self._told(datagram)
        self._salt += 1
        pdu = bytes((PduType.RESPONSE,)) + scoped[at + 1 :]
        return self._channel.seal(found.msg_id, boots, now, self._salt.to_bytes(8), pdu)

    def _told(self, datagram: bytes) -> bytes:
        message = decode_message(datagram)
        assert isinstance(message, V3Message)
        counted = (ber.VarBind(_UNKNOWN_ENGINE_IDS, ber.Value.counter32(1)),)
        report = ScopedPdu(self.engine_id, b"", Pdu(PduType.REPORT, 0, counted))
        parameters = UsmParameters(self.engine_id, 1, int(time.monotonic()), b"", b"", b"")
        told = V3Message(message.msg_id, MAX_SIZE, 0, parameters, encode_scoped(report))
        return encode_v3(told)[0]


def main() -> None:
    """Answer until the end."""
    selector = selectors.DefaultSelector()
    auth, priv = (usm.password_to_key(usm.SHA256, phrase.encode()) for phrase in PASSPHRASES)
    ports = []
    for number in range(1, int(sys.argv[1]) + 1):
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind(("127.0.0.1", 0))
        ports.append(listener.getsockname()[1])
        selector.register(listener, selectors.EVENT_READ, Engine(number, (auth, priv)))
    print(*ports, flush=True)
    while True:
        for key, _ in selector.select():
            listener = key.fileobj
            assert isinstance(listener, socket.socket)
            datagram, peer = listener.recvfrom(MAX_SIZE)
            listener.sendto(key.data.answer(datagram), peer)


if __name__ == "__main__":
    main()
