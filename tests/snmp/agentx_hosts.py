"""The whole agent under a real snmpd, in one network namespace; what stands between the two; and
other subagents.

The agent answers by itself, too, so that every question can be put both ways.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masters import Master

from vmib.schema import COLUMNS, SCALARS
from vmib.smi import Oid, Tag
from vmib.status import ErrorStatus
from vmib_agent.agentx import PduType
from vmib_agent.agentx_link import Subagent
from vmib_agent.agentx_session import Role
from vmib_agent.config import AgentxConfig
from vmib_agent.service import Missing, SetRefused, Value, VarBind

from ..netns.hosts import PORT, Host, host

MASTER_PORT = 1261
DIRECT, SNMPD = PORT, MASTER_PORT
RATE, RATE2 = "vmibShapeRate.1.1.2", "vmibShapeRate.2.1.2"
LOST_ROUTE = (
    *("vmibRouteNextHop.0.1.4.10.9.0.0.16.0", "x", "C0000201"),
    *("vmibRouteRowStatus.0.1.4.10.9.0.0.16.0", "i", "4"),
)
"""A row that passes every test, and whose next hop the kernel finds unreachable."""


def dotted(name: str) -> str:
    """An instance by the MIB's name and a numeric index, as numbers; numbers stay."""
    object_name, _, index = name.partition(".")
    if object_name in SCALARS:
        oid = SCALARS[object_name].oid
    elif object_name in COLUMNS:
        oid = COLUMNS[object_name][1].oid
    else:
        return name
    return "." + ".".join(map(str, oid)) + (f".{index}" if index else "")


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return False


@dataclass
class Both:
    """A host whose agent answers by itself and through snmpd."""

    host: Host
    master: Master

    def ask(self, program: str, *arguments: str, port: int = SNMPD, **more: Any) -> str:
        """What a tool of net-snmp prints; words that are names of the MIB are made numbers."""
        words = [dotted(word) for word in arguments]
        return self.master.tool(program, *words, port=port, **more)

    def value(self, name: str, port: int = SNMPD) -> str:
        """The value of one instance."""
        return self.ask("snmpget", name, port=port, options=("-On", "-Oqv")).strip()

    def start(self) -> None:
        """Start snmpd and wait until the agent has registered."""
        self.master.start()
        assert self.is_registered(), self.agent_log

    def is_registered(self) -> bool:
        """Whether snmpd comes to answer for the agent in time."""
        mode = "vmibHostAgentMode.0"
        return eventually(lambda: self.value(mode) == self.value(mode, DIRECT))

    @property
    def agent_log(self) -> str:
        """What the agent has said."""
        return (self.host.directory / "agent.log").read_text()


def set_directly(agent: Both, *words: str) -> None:
    """A SET that the agent takes itself."""
    assert "Error" not in agent.ask("snmpset", *words, port=DIRECT)


def put(agent: Both, *words: str) -> tuple[str, str]:
    """A SET through snmpd: the reason why it failed and the object that it names, or nothing."""
    said = agent.ask("snmpset", *words)
    reason = re.search(r"Reason: \(?(\w+)", said)
    failed = re.search(r"Failed object: (\S+)", said)
    assert reason or " = " in said, said
    return (reason[1] if reason else "", failed[1] if failed else "")


def rates(agent: Both) -> tuple[str, int | None]:
    """The rate to machine 1 as the MIB has it, and as the kernel."""
    return agent.value(RATE), agent.host.rate("vif1.0")


@contextmanager
def both(
    place: Path, timeout: int = 5, more: str = "", through: Path | None = None, limits: str = ""
) -> Iterator[Both]:
    """A host with two machines, its agent, and snmpd with `more` configuration in `place`.

    The agent goes to the socket `through`, or straight to snmpd. Each waits `timeout` seconds
    for the other.
    """
    socket_path = through or place / "master" / "agentx"
    settings = f'{limits}[agentx]\nenabled = true\naddress = "{socket_path}"\n'
    with host(2, f"{settings}timeout = {timeout}\n") as made:
        master = Master(place / "master", MASTER_PORT, made.name, timeout, more)
        found = Both(made, master)
        try:
            found.start()
            yield found
        finally:
            master.end()


class Relay:
    """Stands between agents and their master, hears every PDU, and may keep it back.

    `rule` is called with the sender ("master" or "agent") and the type of the PDU, and tells
    whether it is passed on; it may take its time.
    """

    def __init__(self, path: Path, master: Path) -> None:
        self.rule: Callable[[str, PduType], bool] = lambda _, __: True
        self.heard: list[tuple[str, PduType, int]] = []
        self._master = master
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def count(self, sender: str, kind: PduType) -> int:
        """How many PDUs of a type were heard from a side."""
        return sum(1 for who, what, _ in self.heard if (who, what) == (sender, kind))

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                agent, _ = self._listener.accept()
                master = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                try:
                    master.connect(str(self._master))
                except OSError:
                    agent.close()
                    continue
                for sender, source, sink in (("agent", agent, master), ("master", master, agent)):
                    arguments = (sender, source, sink)
                    threading.Thread(target=self._pass, args=arguments, daemon=True).start()

    def _pass(self, sender: str, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError), source.makefile("rb") as stream:
            while header := stream.read(20):
                order = "big" if header[2] & 0x10 else "little"
                length = int.from_bytes(header[16:20], order)  # type: ignore[arg-type]
                packet = int.from_bytes(header[12:16], order)  # type: ignore[arg-type]
                body = stream.read(length)
                kind = PduType(header[1])
                self.heard.append((sender, kind, packet))
                if self.rule(sender, kind):
                    sink.sendall(header + body)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


UNTESTABLE, UNCOMMITTABLE, NOT_UNDOABLE = 13, 14, 15
"""Values that `Numbers` refuses in one phase or another."""


class Numbers:
    """The MIB of another subagent: integers below one OID."""

    def __init__(self, root: Oid, count: int = 3) -> None:
        self.values = {(*root, number): number * 100 for number in range(1, count + 1)}
        self.calls: list[str] = []

    def get(self, oid: Oid) -> Value | Missing:
        if oid in self.values:
            return Value(Tag.INTEGER, self.values[oid])
        return Missing(instance=True)

    def get_next(self, oid: Oid) -> VarBind | None:
        later = [known for known in sorted(self.values) if known > oid]
        return VarBind(later[0], Value(Tag.INTEGER, self.values[later[0]])) if later else None

    def prepare(self, varbinds: Sequence[VarBind], principal: str) -> Change:
        self.calls.append("prepare")
        for position, varbind in enumerate(varbinds, 1):
            if varbind.value.raw == UNTESTABLE:
                raise SetRefused(ErrorStatus.wrongValue, position, "on purpose")
        return Change(self, varbinds)

    def set(self, varbinds: Sequence[VarBind], principal: str) -> None:
        raise NotImplementedError


class Change:
    """A SET of `Numbers`."""

    def __init__(self, numbers: Numbers, varbinds: Sequence[VarBind]) -> None:
        self._numbers = numbers
        self._varbinds = varbinds
        self._before = dict(numbers.values)

    def commit(self) -> None:
        self._numbers.calls.append("commit")
        for position, (oid, value) in enumerate(self._varbinds, 1):
            if value.raw == UNCOMMITTABLE:
                raise SetRefused(ErrorStatus.commitFailed, position, "on purpose")
            assert isinstance(value.raw, int)
            self._numbers.values[oid] = value.raw

    def undo(self) -> None:
        self._numbers.calls.append("undo")
        if any(varbind.value.raw == NOT_UNDOABLE for varbind in self._varbinds):
            raise SetRefused(ErrorStatus.undoFailed, 0, "on purpose")
        self._numbers.values = self._before

    def release(self) -> None:
        self._numbers.calls.append("release")


@contextmanager
def another(master: Master, numbers: Numbers, root: Oid) -> Iterator[Subagent]:
    """A second subagent that serves numbers, registered until the end of the block."""
    loop = asyncio.new_event_loop()
    config = AgentxConfig(True, Path(master.socket))
    subagent = Subagent(loop, config, Role(root, "numbers", root, (*root, 99), "numbers"))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    loop.call_soon(subagent.serve, numbers, 100)
    thread.start()
    try:
        assert eventually(lambda: subagent.is_connected)
        yield subagent
    finally:
        asyncio.run_coroutine_threadsafe(subagent.close(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()
