"""The manager's client against a real snmpd."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from vmib.snmp import ErrorStatus, Value, VarBind, ber, usm
from vmib_manager.client import (
    Agent,
    AuthenticationFailed,
    Client,
    Community,
    CommunityWrite,
    Credentials,
    NotInView,
    SnmpError,
    Timeout,
    TooLarge,
    UnknownUser,
)

pytestmark = pytest.mark.snmp

SYSTEM = (1, 3, 6, 1, 2, 1, 1)
SYS_CONTACT = (*SYSTEM, 4, 0)
SYS_LOCATION = (*SYSTEM, 6, 0)
OR_TABLE = (*SYSTEM, 9, 1)
ENGINE_BOOTS = (1, 3, 6, 1, 6, 3, 10, 2, 1, 2, 0)
NOTIFY_ENTRY = (1, 3, 6, 1, 6, 3, 13, 1, 1, 1)

T = TypeVar("T")


def writer(snmpd: Any, **changed: str) -> Credentials:
    given = {"user": "writer", "auth": snmpd.auth, "priv": snmpd.priv} | changed
    return Credentials.from_passphrases(**given)


def ask(snmpd: Any, question: Callable[[Agent], Awaitable[T]], **options: Any) -> T:
    """The answer of one agent to one question, in a client of its own."""

    async def asked() -> T:
        credentials = options.pop("credentials", None) or writer(snmpd)
        address = options.pop("address", snmpd.address)
        async with Client() as client:
            return await question(client.agent(address, snmpd.port, credentials, **options))

    return asyncio.run(asked())


def notify_row(name: str, status: int) -> list[VarBind]:
    index = tuple(name.encode())
    return [
        VarBind((*NOTIFY_ENTRY, 2, *index), Value.octets(b"vmib")),
        VarBind((*NOTIFY_ENTRY, 3, *index), Value.integer(2)),
        VarBind((*NOTIFY_ENTRY, 5, *index), Value.integer(status)),
    ]


def as_printed(found: list[VarBind]) -> list[str]:
    """OIDs the way `snmpbulkwalk -On` prints them, without values."""
    return ["." + ".".join(map(str, oid)) for oid, _ in found]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_a_get_brings_values_and_exceptions_in_order(snmpd: Any, address: str) -> None:
    missing = (*SYSTEM, 6, 7)
    found = ask(
        snmpd, lambda agent: agent.get([SYS_CONTACT, missing, ENGINE_BOOTS]), address=address
    )
    assert [oid for oid, _ in found] == [SYS_CONTACT, missing, ENGINE_BOOTS]
    assert [value.kind for _, value in found] == ["OctetString", "noSuchInstance", "Integer32"]


def test_a_set_is_what_another_tool_reads(snmpd: Any) -> None:
    place = VarBind(SYS_LOCATION, Value.octets(b"rack 7"))
    assert ask(snmpd, lambda agent: agent.set([place])) == (place,)
    assert '"rack 7"' in snmpd.tool("snmpget", ".1.3.6.1.2.1.1.6.0")


def test_rows_are_made_and_destroyed_in_one_set_each(snmpd: Any) -> None:
    async def make_and_destroy(agent: Agent) -> tuple[list[VarBind], list[VarBind]]:
        for name in ("one", "two"):
            await agent.set(notify_row(name, 4))
        (made,) = await agent.walk((*NOTIFY_ENTRY, 2))
        for name in ("one", "two"):
            await agent.set(notify_row(name, 6)[2:])
        (left,) = await agent.walk((*NOTIFY_ENTRY, 2))
        return made, left

    made, left = ask(snmpd, make_and_destroy)
    assert {varbind.value for varbind in made} == {Value.octets(b"vmib")}
    assert {oid[-3:] for oid, _ in made} == {tuple(b"one"), tuple(b"two")}
    assert left == []


@pytest.mark.parametrize("root", [SYSTEM, OR_TABLE, (*OR_TABLE, 2), (1, 3, 6, 1, 6, 3)])
def test_a_walk_finds_what_snmpbulkwalk_finds(snmpd: Any, root: tuple[int, ...]) -> None:
    (found,) = ask(snmpd, lambda agent: agent.walk(root))
    printed = snmpd.tool("snmpbulkwalk", "." + ".".join(map(str, root)))
    lines = [line for line in printed.splitlines() if line.startswith(".")]
    assert as_printed(found) == [line.split(" = ")[0] for line in lines if "No more" not in line]
    assert len(found) > 3


def test_a_walk_brings_the_same_values_as_snmpbulkwalk(snmpd: Any) -> None:
    (found,) = ask(snmpd, lambda agent: agent.walk((*OR_TABLE, 3)))
    printed = snmpd.tool("snmpbulkwalk", "-Oqv", ".1.3.6.1.2.1.1.9.1.3")
    assert [f'"{value.value.decode()}"' for _, value in found] == printed.splitlines()


def test_columns_walked_side_by_side_are_those_walked_alone(snmpd: Any) -> None:
    columns = [(*OR_TABLE, column) for column in (2, 3, 4)]
    columns += [(1, 3, 6, 1, 2, 1, 2, 2, 1, column) for column in range(1, 23)]
    together = ask(snmpd, lambda agent: agent.walk(*columns))
    for column, found in zip(columns, together, strict=True):
        (alone,) = ask(snmpd, lambda agent, root=column: agent.walk(root))
        assert as_printed(alone) == as_printed(found)
    assert len(together[0]) == len(together[1]) == len(together[2]) > 3


def test_the_end_of_the_mib_ends_a_walk(snmpd: Any) -> None:
    last, nothing = ask(snmpd, lambda agent: agent.walk((1, 3, 6, 1, 6, 3), (1, 3, 6, 2)))
    assert last
    assert nothing == []


def test_a_community_reads_and_never_writes(snmpd: Any) -> None:
    community = Community(snmpd.community.encode())
    (found,) = ask(snmpd, lambda agent: agent.walk((*OR_TABLE, 2)), credentials=community)
    assert len(found) > 3
    with pytest.raises(CommunityWrite, match="reading only"):
        ask(
            snmpd,
            lambda agent: agent.set([VarBind(SYS_LOCATION, Value.octets(b"x"))]),
            credentials=community,
        )


def test_an_unknown_user_is_named_as_such(snmpd: Any) -> None:
    with pytest.raises(UnknownUser, match=r"127\.0\.0\.1:\d+: has no such user"):
        ask(snmpd, lambda agent: agent.get([SYS_CONTACT]), credentials=writer(snmpd, user="x"))


def test_a_wrong_authentication_pass_phrase_is_told(snmpd: Any) -> None:
    wrong = writer(snmpd, auth="not the pass phrase")
    with pytest.raises(AuthenticationFailed, match="another authentication pass phrase"):
        ask(snmpd, lambda agent: agent.get([SYS_CONTACT]), credentials=wrong)


def test_a_wrong_privacy_pass_phrase_is_told(snmpd: Any) -> None:
    wrong = writer(snmpd, priv="not the pass phrase")
    with pytest.raises((AuthenticationFailed, Timeout), match="privacy pass phrase"):
        ask(snmpd, lambda agent: agent.get([SYS_CONTACT]), credentials=wrong, timeout=1)


def test_another_hash_than_the_users_is_an_authentication_failure(snmpd: Any) -> None:
    wrong = Credentials.from_passphrases("writer", snmpd.auth, snmpd.priv, "SHA-512")
    with pytest.raises(AuthenticationFailed):
        ask(snmpd, lambda agent: agent.get([SYS_CONTACT]), credentials=wrong)


def test_a_user_without_privacy_is_told_to_use_it(snmpd: Any) -> None:
    bare = Credentials.from_passphrases("writer", snmpd.auth, None)
    with pytest.raises(NotInView) as caught:
        ask(snmpd, lambda agent: agent.get([SYS_CONTACT]), credentials=bare)
    assert caught.value.status_name == "authorizationError"


def test_a_refused_set_names_status_index_and_instance(snmpd: Any) -> None:
    read_only = (*SYSTEM, 1, 0)
    bad = [
        VarBind(SYS_LOCATION, Value.octets(b"elsewhere")),
        VarBind(read_only, Value.octets(b"mine")),
    ]
    with pytest.raises(
        SnmpError, match=r"notWritable at varbind 2, 1\.3\.6\.1\.2\.1\.1\.1\.0"
    ) as e:
        ask(snmpd, lambda agent: agent.set(bad))
    assert (e.value.status, e.value.index, e.value.oid) == (ErrorStatus.notWritable, 2, read_only)
    assert "elsewhere" not in snmpd.tool("snmpget", ".1.3.6.1.2.1.1.6.0")


def test_a_set_outside_the_view_is_not_in_view(snmpd: Any) -> None:
    place = [VarBind(SYS_LOCATION, Value.octets(b"x"))]
    with pytest.raises(NotInView, match="noAccess"):
        ask(snmpd, lambda agent: agent.set(place), credentials=writer(snmpd, user="reader"))


def test_a_set_too_large_for_a_message_is_not_sent(snmpd: Any) -> None:
    large = [VarBind(SYS_LOCATION, Value.octets(bytes(1472)))]

    async def sized(agent: Agent) -> None:
        assert not agent.fits(large)
        await agent.set(large)

    with pytest.raises(TooLarge, match="1472 fit") as caught:
        ask(snmpd, sized)
    assert caught.value.size > caught.value.limit == 1472


def test_the_estimated_size_is_never_below_the_real_one(snmpd: Any) -> None:
    async def largest(agent: Agent) -> int:
        octets = 0
        await agent.get([SYS_CONTACT])
        while agent.fits([VarBind(SYS_LOCATION, Value.octets(bytes(octets + 1)))]):
            octets += 1
        with pytest.raises(SnmpError, match="wrongLength"):
            await agent.set([VarBind(SYS_LOCATION, Value.octets(bytes(octets)))])
        return octets

    assert 1250 < ask(snmpd, largest) < 1472


def test_silence_is_a_timeout_that_names_the_way_out() -> None:
    async def asked() -> None:
        async with Client() as client:
            credentials = Credentials.from_passphrases("writer", "nothing secret", None)
            agent = client.agent("127.0.0.1", 9, credentials, timeout=0.3, retries=2)
            started = asyncio.get_running_loop().time()
            with pytest.raises(Timeout, match=r"127\.0\.0\.1:9: no answer to 3 requests in 0\.3 s"):
                await agent.get([SYS_CONTACT])
            assert 0.29 < asyncio.get_running_loop().time() - started < 1

    asyncio.run(asked())


def test_all_who_wait_for_the_same_silent_agent_are_told_at_once() -> None:
    async def asked() -> float:
        async with Client() as client:
            credentials = Credentials.from_passphrases("writer", "nothing secret", None)
            agent = client.agent("127.0.0.1", 9, credentials, timeout=0.2, retries=1)
            started = asyncio.get_running_loop().time()
            asking = [agent.get([SYS_CONTACT]) for _ in range(20)]
            answers = await asyncio.gather(*asking, return_exceptions=True)
            assert all(isinstance(answer, Timeout) for answer in answers)
            return asyncio.get_running_loop().time() - started

    assert asyncio.run(asked()) < 0.5


def test_many_requests_at_once_lose_nothing(snmpd: Any) -> None:
    async def flood(agent: Agent) -> int:
        found = await asyncio.gather(*(agent.walk((*OR_TABLE, 2)) for _ in range(1000)))
        assert len({len(columns[0]) for columns in found}) == 1
        return len(found)

    assert ask(snmpd, flood, retries=0, timeout=10) == 1000


def test_an_agent_that_pauses_gets_the_same_octets_again(snmpd: Any) -> None:
    async def paused(agent: Agent) -> None:
        before = await agent.get([SYS_CONTACT])
        snmpd.pause()
        try:
            asking = asyncio.ensure_future(agent.get([SYS_CONTACT]))
            await asyncio.sleep(0.5)
        finally:
            snmpd.resume()
        assert await asking == before
        assert await agent.get([SYS_CONTACT]) == before

    ask(snmpd, paused, timeout=3, retries=4)


def test_a_restarted_agent_is_followed_without_an_error(make_snmpd: Callable[[], Any]) -> None:
    snmpd = make_snmpd()

    async def across_a_restart(agent: Agent) -> tuple[Any, Any]:
        (before,) = await agent.get([ENGINE_BOOTS])
        snmpd.restart()
        await agent.set([VarBind(SYS_LOCATION, Value.octets(b"after"))])
        (after,) = await agent.get([ENGINE_BOOTS])
        return before.value.value, after.value.value

    before, after = ask(snmpd, across_a_restart)
    assert after == before + 1


def test_an_agent_installed_anew_is_discovered_again(make_snmpd: Callable[[], Any]) -> None:
    first, second = make_snmpd(), make_snmpd()
    first.stop()

    async def moved() -> tuple[VarBind, ...]:
        async with Client() as client:
            first.start()
            agent = client.agent("127.0.0.1", first.port, writer(second))
            with pytest.raises(AuthenticationFailed):
                await agent.get([SYS_CONTACT])
            first.stop()
            second.stop()
            config = second.directory / "agent.conf"
            config.write_text(config.read_text().replace(str(second.port), str(first.port)))
            second.start()
            return await agent.get([SYS_CONTACT])

    (answer,) = asyncio.run(moved())
    assert answer.value.tag == ber.OCTET_STRING


def test_pass_phrases_are_in_no_repr_and_no_log(
    snmpd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    credentials = writer(snmpd)
    ask(snmpd, lambda agent: agent.get([SYS_CONTACT]), credentials=credentials)
    keys = credentials.keys(bytes(12))
    shown = repr(credentials) + repr(keys) + repr(Community(b"hidden")) + caplog.text
    for secret in (snmpd.auth, snmpd.priv, "hidden", keys.auth_key.hex(), repr(keys.auth_key)):
        assert secret not in shown


def test_keys_are_made_once_for_a_user_and_an_engine(
    snmpd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []
    original = usm.passphrase_keys

    def counted(protocol: Any, engine_id: bytes, auth: bytes, priv: bytes | None = None) -> Any:
        made.append(engine_id)
        return original(protocol, engine_id, auth, priv)

    monkeypatch.setattr(usm, "passphrase_keys", counted)

    async def twice() -> None:
        async with Client() as client:
            credentials = writer(snmpd)
            for address in ("127.0.0.1", "::1"):
                agent = client.agent(address, snmpd.port, credentials)
                await asyncio.gather(*(agent.get([SYS_CONTACT]) for _ in range(5)))

    asyncio.run(twice())
    assert len(made) == 1
