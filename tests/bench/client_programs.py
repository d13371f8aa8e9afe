"""SETs to many agents by one of several clients, each in a process of its own.

    client_programs.py CLIENT COUNT AT_ONCE PORT...

Every SET writes vmibShapeRate of one row, by the user of `agent_peers`. COUNT of them are made in
all, AT_ONCE at a time to each agent, after one to each that nobody counts (it finds out the
engine). Prints how many succeeded, the seconds, and the CPU seconds of this process and its
children. The names and pass phrases come from the environment, so that nothing of vMIB is needed
for the clients that are not its own.
"""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

USER, AUTH, PRIV = (os.environ.get(f"BENCH_{name}", "") for name in ("USER", "AUTH", "PRIV"))
OID = os.environ.get("BENCH_OID", "")
THREADS = 16


def cpu_seconds() -> float:
    """What this process and its ended children have used."""
    used = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        used += usage.ru_utime + usage.ru_stime
    return used


def tell(began: float, used: float, count: int) -> None:
    """The result, on one line."""
    print(count, time.perf_counter() - began, cpu_seconds() - used)


async def spread(
    ask: Callable[[int, int], Awaitable[object]], agents: int, count: int, at_once: int
) -> None:
    """Warm up, then ask in turn; `ask` gets the number of the agent and a value."""
    await asyncio.gather(*(ask(agent, 1) for agent in range(agents)))
    began, used = time.perf_counter(), cpu_seconds()
    each = max(1, count // (agents * at_once))

    async def keep_asking(agent: int, lane: int) -> None:
        for number in range(each):
            await ask(agent, lane * each + number + 2)

    lanes = [keep_asking(agent, lane) for agent in range(agents) for lane in range(at_once)]
    await asyncio.gather(*lanes)
    tell(began, used, each * len(lanes))


def vmib(ports: Sequence[int], count: int, at_once: int) -> None:
    """vMIB's own client."""
    from vmib.snmp import Value, VarBind
    from vmib_manager.client import Client, Credentials

    oid = tuple(map(int, OID.split(".")))

    async def main() -> None:
        async with Client() as client:
            credentials = Credentials.from_passphrases(USER, AUTH, PRIV)
            agents = [client.agent("127.0.0.1", port, credentials) for port in ports]

            async def ask(agent: int, value: int) -> object:
                return await agents[agent].set([VarBind(oid, Value.unsigned32(value))])

            await spread(ask, len(ports), count, at_once)

    asyncio.run(main())


def pysnmp(ports: Sequence[int], count: int, at_once: int) -> None:
    """pysnmp's high-level API, one engine for all agents."""
    from pysnmp.hlapi.v3arch import asyncio as hlapi

    async def main() -> None:
        engine = hlapi.SnmpEngine()
        user = hlapi.UsmUserData(
            USER,
            AUTH,
            PRIV,
            authProtocol=hlapi.USM_AUTH_HMAC192_SHA256,
            privProtocol=hlapi.USM_PRIV_CFB128_AES,
        )
        targets = [
            await hlapi.UdpTransportTarget.create(("127.0.0.1", port), timeout=5, retries=2)
            for port in ports
        ]
        context = hlapi.ContextData()
        name = hlapi.ObjectIdentity(OID)

        async def ask(agent: int, value: int) -> object:
            indication, status, _, _ = await hlapi.set_cmd(
                engine,
                user,
                targets[agent],
                context,
                hlapi.ObjectType(name, hlapi.Unsigned32(value)),
                lookupMib=False,
            )
            if indication or status:
                raise RuntimeError(f"{indication} {status}")
            return None

        await spread(ask, len(ports), count, at_once)

    asyncio.run(main())


def ezsnmp(ports: Sequence[int], count: int, at_once: int) -> None:
    """ezsnmp, which is net-snmp's library; a session for each agent, in threads."""
    from ezsnmp import Session

    def session(port: int) -> Session:
        return Session(
            hostname="127.0.0.1",
            port_number=str(port),
            version="3",
            security_level="authPriv",
            security_username=USER,
            auth_protocol="SHA-256",
            auth_passphrase=AUTH,
            privacy_protocol="AES",
            privacy_passphrase=PRIV,
        )

    sessions = [session(port) for port in ports]
    for agent in sessions:
        agent.set(["." + OID, "u", "1"])
    began, used = time.perf_counter(), cpu_seconds()
    each = max(1, count // len(sessions))

    def keep_asking(agent: Session) -> None:
        for number in range(each):
            agent.set(["." + OID, "u", str(number + 2)])

    with ThreadPoolExecutor(min(THREADS, len(sessions))) as pool:
        list(pool.map(keep_asking, sessions))
    tell(began, used, each * len(sessions))


def snmpset(ports: Sequence[int], count: int, at_once: int) -> None:
    """A process of net-snmp's snmpset for each SET, one after the other."""

    def once(port: int, value: int) -> None:
        command = ["snmpset", "-t", "5", f"127.0.0.1:{port}", "." + OID, "u", str(value)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    for port in ports[:1]:
        once(port, 1)
    began, used = time.perf_counter(), cpu_seconds()
    for number in range(count):
        once(ports[number % len(ports)], number + 2)
    tell(began, used, count)


CLIENTS = {"vmib": vmib, "pysnmp": pysnmp, "ezsnmp": ezsnmp, "snmpset": snmpset}


def main() -> None:
    """Run one client."""
    client, count, at_once, *ports = sys.argv[1:]
    CLIENTS[client](list(map(int, ports)), int(count), int(at_once))


if __name__ == "__main__":
    main()
