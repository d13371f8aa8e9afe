"""Requests as datagrams, built before they are sent, and the program in C that sends them."""

from __future__ import annotations

import itertools
import random
import secrets
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_peers import COMMUNITY, PASSPHRASES, USER, Peer, row_oid

from vmib import objects
from vmib.rows import RowStatus
from vmib.schema import instance
from vmib.smi import Oid
from vmib.snmp import usm
from vmib.snmp.ber import Value, VarBind
from vmib.snmp.message import (
    AUTH,
    MAX_INT,
    PRIV,
    REPORTABLE,
    CommunityMessage,
    Pdu,
    PduType,
    ScopedPdu,
    UsmParameters,
    V3Message,
    decode_message,
    decode_scoped,
    encode_community,
    encode_scoped,
    encode_v3,
)

DISTINCT = 2000
"""Different requests of one kind; they ask for cells drawn at random."""
LAST_COLUMN = 13
RATE_COLUMN = 2
TRANSACTION = 4711
IDLE_SECONDS = 3600

_SPIN_LOCK: Oid = (*objects.vmibTxnSpinLock.oid, 0)
_OPER_COLUMNS = objects.vmibShapeOperTable.columns


@dataclass(frozen=True, slots=True)
class Load:
    """How many answers came to a stream of requests, and how long it took."""

    answers: int
    lost: int
    errors: int
    seconds: float


def run(loadgen: Path, peer: Peer, window: int, seconds: float, datagrams: Sequence[bytes]) -> Load:
    """Send datagrams for so long, with 0 each once. The generator runs on the second CPU."""
    file = loadgen.with_name(f"{peer.port}.datagrams")
    file.write_bytes(b"".join(struct.pack("=I", len(one)) + one for one in datagrams))
    command = [str(loadgen), str(peer.port), str(window), str(seconds), str(file)]
    done = subprocess.run(["taskset", "-c", "1", *command], check=True, capture_output=True)
    answers, lost, errors, _, nanoseconds = map(int, done.stdout.split())
    return Load(answers, lost, errors, nanoseconds / 1e9)


class Requests:
    """Makes the datagrams for one agent; learns its engine ID and its time first."""

    def __init__(self, peer: Peer, seed: int = 1) -> None:
        self._peer = peer
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self._salts = itertools.count(secrets.randbits(63))
        told = self._discovered()
        self._engine = told
        self._keys = usm.passphrase_keys(
            usm.SHA256, told.engine_id, *(phrase.encode() for phrase in PASSPHRASES)
        )

    def cells(self, count: int) -> list[Oid]:
        """Random cells of vmibShapeTable."""
        return [
            row_oid(
                self._random.randint(RATE_COLUMN, LAST_COLUMN),
                self._random.randint(1, self._peer.vifs),
                self._random.randint(1, 2),
            )
            for _ in range(count)
        ]

    def live_cells(self, count: int) -> list[Oid]:
        """Random cells of vmibShapeOperTable, which nobody configures."""
        return [
            (
                *self._random.choice(_OPER_COLUMNS).oid,
                *row_oid(RATE_COLUMN, self._random.randint(1, self._peer.vifs), 1)[-3:],
            )
            for _ in range(count)
        ]

    def asking(
        self,
        version: int,
        kind: PduType,
        oids: Iterable[Oid],
        varbinds: int = 1,
        numbers: tuple[int, int] = (0, 0),
    ) -> list[bytes]:
        """One request for every so many of the OIDs."""
        unset = [VarBind(oid, Value.null()) for oid in oids]
        groups = [unset[at : at + varbinds] for at in range(0, len(unset), varbinds)]
        if version == 3:
            return [self.v3(kind, group, numbers) for group in groups]
        return [self.v2c(kind, group, numbers) for group in groups]

    def v2c(
        self, kind: PduType, varbinds: Iterable[VarBind], numbers: tuple[int, int] = (0, 0)
    ) -> bytes:
        """A request by community."""
        pdu = Pdu(kind, next(self._numbers), tuple(varbinds), *numbers)
        return encode_community(CommunityMessage(COMMUNITY.encode(), pdu))

    def v3(
        self, kind: PduType, varbinds: Iterable[VarBind], numbers: tuple[int, int] = (0, 0)
    ) -> bytes:
        """A request by the user, in the agent's time of now."""
        number = next(self._numbers)
        engine = self._engine
        scoped = ScopedPdu(engine.engine_id, b"", Pdu(kind, number, tuple(varbinds), *numbers))
        parameters = UsmParameters(
            engine.engine_id, engine.boots, engine.time, USER.encode(), b"", b""
        )
        flags = AUTH | PRIV | REPORTABLE
        message = V3Message(number, 65507, flags, parameters, encode_scoped(scoped))
        return usm.seal(message, self._keys, next(self._salts).to_bytes(8))

    def settled(self) -> None:
        """Learn the time anew, so that what is built now is in time for two minutes more."""
        self._engine = self._discovered()

    def columns_set(self, count: int) -> list[bytes]:
        """SETs of vmibShapeRate, each once; what they write differs every time."""
        value = self._random.randint(1, 10**6)
        cells = [
            row_oid(RATE_COLUMN, self._random.randint(1, self._peer.vifs), 2) for _ in range(count)
        ]
        return [
            self.v3(PduType.SET, [VarBind(oid, Value.unsigned32(value + number))])
            for number, oid in enumerate(cells)
        ]

    def spin_locks(self, count: int) -> list[bytes]:
        """SETs of vmibTxnSpinLock that follow one another; they hold in this order alone."""
        (found,) = self.ask(self.v3(PduType.GET, [VarBind(_SPIN_LOCK, Value.null())])).varbinds
        lock = found.value.value
        assert isinstance(lock, int)
        return [
            self.v3(PduType.SET, [VarBind(_SPIN_LOCK, Value.integer((lock + number) % 2**31))])
            for number in range(count)
        ]

    def open_transaction(self) -> None:
        """Open a transaction in which rows are staged; raises when it is refused."""
        table = objects.vmibTxnTable
        varbinds = [
            VarBind(
                instance(table, "idle_timeout", (TRANSACTION,)), Value.unsigned32(IDLE_SECONDS)
            ),
            VarBind(
                instance(table, "row_status", (TRANSACTION,)),
                Value.integer(RowStatus.createAndGo),
            ),
        ]
        self.ask(self.v3(PduType.SET, varbinds))

    def abort_transaction(self) -> None:
        """Take back what is staged, and then the transaction out of the history."""
        cell = instance(objects.vmibTxnTable, "row_status", (TRANSACTION,))
        for _ in range(2):
            self.ask(self.v3(PduType.SET, [VarBind(cell, Value.integer(RowStatus.destroy))]))

    def ask(self, datagram: bytes) -> Pdu:
        """The response to one request; raises RuntimeError unless it is without error."""
        answer = self.answer(datagram)
        if answer.error_status:
            raise RuntimeError(f"{self._peer.name} answers {answer}")
        return answer

    def answer(self, datagram: bytes) -> Pdu:
        """The response to one request; raises RuntimeError for a Report."""
        message = decode_message(self._exchange(datagram))
        if isinstance(message, V3Message):
            usm.verify(message, self._last, self._keys)
            answer = decode_scoped(usm.open_data(message, self._keys)).pdu
        else:
            answer = message.pdu
        if answer.type is not PduType.RESPONSE:
            raise RuntimeError(f"{self._peer.name} answers {answer}")
        return answer

    def _exchange(self, datagram: bytes) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(10)
            client.connect(("127.0.0.1", self._peer.port))
            client.send(datagram)
            self._last = client.recv(65535)
        return self._last

    def _discovered(self) -> UsmParameters:
        scoped = encode_scoped(ScopedPdu(b"", b"", Pdu(PduType.GET, 0)))
        nobody = UsmParameters(b"", 0, 0, b"", b"", b"")
        asked = encode_v3(V3Message(1, 65507, REPORTABLE, nobody, scoped))[0]
        message = decode_message(self._exchange(asked))
        assert isinstance(message, V3Message)
        assert message.usm.time < MAX_INT
        return message.usm
