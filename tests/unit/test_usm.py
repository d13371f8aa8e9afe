"""USM: keys, digests, privacy and time windows, against pysnmp and the RFCs."""

from __future__ import annotations

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.type import univ
from pysnmp.proto.secmod.rfc3414 import localkey
from pysnmp.proto.secmod.rfc3826.priv import aes
from pysnmp.proto.secmod.rfc7860.auth import hmacsha2

from vmib.errors import ValueRefused
from vmib.snmp import Pdu, PduType, Value, VarBind, message, usm

ENGINE = bytes.fromhex("000000000000000000000002")
PASSPHRASE = b"maplesyrup"
PROTOCOLS = list(usm.AUTH_PROTOCOLS.values())
PYSNMP_AUTH = {
    name: (1, 3, 6, 1, 6, 3, 10, 1, 1, number)
    for name, number in (("SHA-256", 5), ("SHA-384", 6), ("SHA-512", 7))
}

protocols = st.sampled_from(PROTOCOLS)
seconds = st.integers(0, 2**31 - 1)


def keys_of(protocol: usm.AuthProtocol, engine_id: bytes = ENGINE) -> usm.Keys:
    return usm.passphrase_keys(protocol, engine_id, PASSPHRASE, b"another secret")


KEYS = {protocol.name: keys_of(protocol) for protocol in PROTOCOLS}


def sealed(keys: usm.Keys, flags: int, time: int = 7) -> tuple[bytes, bytes]:
    """A datagram and the ScopedPDU in it."""
    varbind = VarBind((1, 3, 6, 1), Value.octets(b"x" * 40))
    scoped = message.encode_scoped(message.ScopedPdu(ENGINE, b"", Pdu(PduType.SET, 1, (varbind,))))
    parameters = message.UsmParameters(ENGINE, 3, time, b"admin", b"", b"")
    return usm.seal(
        message.V3Message(9, 1472, flags, parameters, scoped), keys, b"12345678"
    ), scoped


def received(datagram: bytes) -> message.V3Message:
    found = message.decode_message(datagram)
    assert isinstance(found, message.V3Message)
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
def test_keys_are_those_that_pysnmp_makes(protocol: usm.AuthProtocol) -> None:
    service = hmacsha2.HmacSha2(PYSNMP_AUTH[protocol.name])
    master = service.hash_passphrase(univ.OctetString(PASSPHRASE))
    theirs = bytes(service.localize_key(master, univ.OctetString(ENGINE)))
    assert usm.password_to_key(protocol, PASSPHRASE) == bytes(master)
    assert usm.localised_key(protocol, PASSPHRASE, ENGINE) == theirs


def test_the_algorithm_gives_the_sha_1_vector_of_rfc_3414_a_3_2() -> None:
    sha1 = usm.AuthProtocol("SHA", "sha1", 12, 64)
    key = usm.password_to_key(sha1, PASSPHRASE)
    assert key.hex() == "9fb5cc0381497b3793528939ff788d5d79145211"
    local = usm.localise(sha1, key, ENGINE)
    assert local.hex() == "6695febc9288e36282235fc7151f128497b38f3f"
    assert localkey.localize_key_sha(univ.OctetString(key), univ.OctetString(ENGINE)) == local


@given(protocols, st.binary(max_size=300))
def test_a_digest_is_the_truncated_hmac(protocol: usm.AuthProtocol, octets: bytes) -> None:
    keys = KEYS[protocol.name]
    whole = hmac.digest(keys.auth_key, octets, protocol.hash_name)
    assert keys.digest(octets) == whole[: protocol.digest_size]
    assert keys.digest(octets) == whole[: protocol.digest_size], "a second use is as the first"


@given(seconds, seconds, st.binary(min_size=8, max_size=8), st.binary(max_size=200))
def test_privacy_is_that_of_pysnmp(boots: int, time: int, salt: bytes, octets: bytes) -> None:
    keys = KEYS["SHA-256"]
    assert keys.priv_key is not None
    encrypted = keys.encrypt(boots, time, salt, octets)
    parameters = message.UsmParameters(ENGINE, boots, time, b"admin", b"", salt)
    assert keys.decrypt(parameters, encrypted) == octets
    if octets:
        theirs = aes.Aes().decrypt_data(
            univ.OctetString(keys.priv_key[:16]),
            (boots, time, univ.OctetString(salt)),
            univ.OctetString(encrypted),
        )
        assert bytes(theirs)[: len(octets)] == octets


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**31 - 1),
            st.integers(0, 2**31 - 1),
            st.binary(min_size=8, max_size=8),
            st.binary(max_size=100),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_messages_that_one_key_encrypts_after_each_other_do_not_depend_on_each_other(
    messages: list[tuple[int, int, bytes, bytes]],
) -> None:
    key = bytes(range(32))
    keys = usm.Keys(usm.SHA256, key, key)
    for boots, time, salt, octets in messages:
        alone = usm.Keys(usm.SHA256, key, key).encrypt(boots, time, salt, octets)
        assert keys.encrypt(boots, time, salt, octets) == alone
        assert keys.decrypted(boots, time, salt, alone) == octets


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)
@pytest.mark.parametrize("flags", [message.AUTH, message.AUTH | message.PRIV])
def test_a_sealed_message_is_verified_and_opened(protocol: usm.AuthProtocol, flags: int) -> None:
    keys = KEYS[protocol.name]
    datagram, scoped = sealed(keys, flags)
    found = received(datagram)
    usm.verify(found, datagram, keys)
    assert usm.open_data(found, keys) == scoped
    assert (scoped in datagram) is not bool(flags & message.PRIV)


@pytest.mark.parametrize("size", [*range(49), 64])
def test_a_digest_of_any_other_length_is_refused(size: int) -> None:
    keys = KEYS["SHA-256"]
    found = received(sealed(keys, message.AUTH)[0])
    told = found.usm
    zeroed = message.UsmParameters(told.engine_id, 3, 7, told.user, bytes(size), b"")
    datagram, at = message.encode_v3(
        message.V3Message(found.msg_id, found.max_size, found.flags, zeroed, found.data)
    )
    whole = hmac.digest(keys.auth_key, datagram, "sha256").ljust(64, b"\0")
    datagram = datagram[:at] + whole[:size] + datagram[at + size :]
    if size == usm.SHA256.digest_size:
        usm.verify(received(datagram), datagram, keys)
    else:
        with pytest.raises(usm.WrongDigest):
            usm.verify(received(datagram), datagram, keys)


def test_one_changed_bit_anywhere_is_noticed() -> None:
    keys = KEYS["SHA-256"]
    datagram, _ = sealed(keys, message.AUTH | message.PRIV)
    passed = []
    for bit in range(8 * len(datagram)):
        octets = bytearray(datagram)
        octets[bit // 8] ^= 1 << bit % 8
        try:
            usm.verify(received(bytes(octets)), bytes(octets), keys)
        except (message.DecodeError, usm.WrongDigest):
            continue
        passed.append(bit)
    assert passed == []


def test_keys_of_another_engine_do_not_verify() -> None:
    datagram, _ = sealed(KEYS["SHA-256"], message.AUTH)
    other = keys_of(usm.SHA256, bytes(12))
    with pytest.raises(usm.WrongDigest):
        usm.verify(received(datagram), datagram, other)


@pytest.mark.parametrize("salt", [b"", b"1234567", b"123456789"])
def test_a_salt_that_is_not_8_octets_is_refused(salt: bytes) -> None:
    parameters = message.UsmParameters(ENGINE, 1, 1, b"admin", b"", salt)
    with pytest.raises(usm.DecryptionError, match="AES has 8"):
        KEYS["SHA-256"].decrypt(parameters, b"octets")


def test_a_user_without_privacy_opens_nothing_encrypted() -> None:
    datagram, _ = sealed(KEYS["SHA-256"], message.AUTH | message.PRIV)
    bare = usm.passphrase_keys(usm.SHA256, ENGINE, PASSPHRASE)
    with pytest.raises(usm.DecryptionError):
        usm.open_data(received(datagram), bare)
    with pytest.raises(usm.DecryptionError):
        sealed(bare, message.AUTH | message.PRIV)


@pytest.mark.parametrize("name", ["MD5", "SHA", "SHA-1", "SHA-224", "none", ""])
def test_weak_authentication_is_refused(name: str) -> None:
    with pytest.raises(ValueRefused, match="SHA-256, SHA-384, SHA-512"):
        usm.auth_protocol(name)


@pytest.mark.parametrize("name", ["DES", "3DES", "AES-256", "none"])
def test_other_privacy_than_aes_128_is_refused(name: str) -> None:
    with pytest.raises(ValueRefused, match="AES-128"):
        usm.require_priv_protocol(name)


def test_a_short_pass_phrase_is_refused_and_not_shown() -> None:
    with pytest.raises(ValueRefused) as caught:
        usm.password_to_key(usm.SHA256, b"seventy")
    assert "seventy" not in str(caught.value) + repr(caught.value)


def test_a_key_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueRefused, match="32 octets"):
        usm.Keys(usm.SHA256, bytes(20))


def test_no_key_is_in_a_repr() -> None:
    keys = KEYS["SHA-256"]
    assert keys.priv_key is not None
    for secret in (keys.auth_key, keys.priv_key):
        assert repr(secret) not in repr(keys)
        assert secret.hex() not in repr(keys)


@pytest.mark.parametrize(
    ("boots", "time", "accepted"),
    [
        (5, 1000, True),
        (5, 1150, True),
        (5, 850, True),
        (5, 1151, False),
        (5, 849, False),
        (4, 1000, False),
        (6, 1000, False),
    ],
)
def test_the_authoritative_window_is_150_seconds(boots: int, time: int, accepted: bool) -> None:
    assert usm.in_own_window(5, 1000, boots, time) is accepted


def test_latched_boots_accept_nothing() -> None:
    latched = message.MAX_INT
    assert not usm.in_own_window(latched, 10, latched, 10)
    assert not usm.in_peer_window(usm.EngineClock(latched, 10, 0.0), latched, 10, 0.0)


def test_a_peers_clock_runs_on_and_old_messages_are_refused() -> None:
    clock = usm.learn_clock(None, 2, 100, 50.0)
    assert clock.time_at(60.5) == 110
    assert usm.in_peer_window(clock, 2, 100, 200.0)
    assert not usm.in_peer_window(clock, 2, 100, 201.0)
    assert usm.in_peer_window(clock, 2, 10_000, 201.0)


def test_a_peers_clock_never_goes_back() -> None:
    clock = usm.learn_clock(None, 2, 100, 50.0)
    assert usm.learn_clock(clock, 2, 99, 60.0) is clock
    assert usm.learn_clock(clock, 1, 500, 60.0) is clock
    assert usm.learn_clock(clock, 3, 0, 60.0) == usm.EngineClock(3, 0, 60.0)
    assert not usm.in_peer_window(clock, 1, 500, 60.0)


def test_engine_time_stops_at_its_end() -> None:
    assert usm.EngineClock(1, message.MAX_INT - 1, 0.0).time_at(100.0) == message.MAX_INT
