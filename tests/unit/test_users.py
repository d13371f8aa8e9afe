"""Users: localised keys, rules for pass phrases, and the file they are kept in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pysnmp.proto.rfc1902 import OctetString
from pysnmp.proto.secmod.rfc3414 import localkey

from vmib import objects
from vmib.errors import ValueRefused
from vmib_agent import access, identity
from vmib_agent.durable import StateUnusable
from vmib_agent.users import (
    FILE_NAME,
    Role,
    UserUnknown,
    add_user,
    load_users,
    make_user,
    remove_user,
)

ENGINE_ID = bytes.fromhex("80007ed905000102030405060708090a0b")
PHRASES = ("correct horse", "battery staple")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


def test_keys_are_those_that_pysnmp_derives() -> None:
    from hashlib import sha256, sha384, sha512

    for name, function in {"SHA-256": sha256, "SHA-384": sha384, "SHA-512": sha512}.items():
        user = make_user(ENGINE_ID, "a", Role.READ, *PHRASES, auth=name)
        for phrase, key in zip(PHRASES, (user.auth_key, user.priv_key), strict=True):
            expected = localkey.password_to_key(phrase, OctetString(ENGINE_ID), function)
            assert key == expected.asOctets()


@pytest.mark.parametrize("position", [0, 1])
def test_a_pass_phrase_of_eleven_characters_is_refused_without_showing_it(position: int) -> None:
    phrases = list(PHRASES)
    phrases[position] = "eleven char"
    with pytest.raises(ValueRefused, match="at least 12 characters") as refused:
        make_user(ENGINE_ID, "a", Role.READ, phrases[0], phrases[1])
    assert "eleven char" not in str(refused.value)


@pytest.mark.parametrize("auth", ["MD5", "SHA", "SHA-1", "SHA-224", "sha-256", ""])
def test_weak_and_unknown_authentication_is_refused(auth: str) -> None:
    with pytest.raises(ValueRefused, match="SHA-256, SHA-384, SHA-512"):
        make_user(ENGINE_ID, "a", Role.READ, *PHRASES, auth=auth)


@pytest.mark.parametrize("priv", ["DES", "3DES", "AES-192", "none", ""])
def test_weak_and_unknown_privacy_is_refused(priv: str) -> None:
    with pytest.raises(ValueRefused, match="AES-128, AES-256"):
        make_user(ENGINE_ID, "a", Role.READ, *PHRASES, priv=priv)


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 33, "a/b", "ä"])
def test_a_name_that_could_confuse_is_refused(name: str) -> None:
    with pytest.raises(ValueRefused, match="user name"):
        make_user(ENGINE_ID, name, Role.READ, *PHRASES)


def test_users_are_kept_and_found_again(directory: Path) -> None:
    added = [
        add_user(directory, "zoe", Role.ADMIN, *PHRASES),
        add_user(directory, "amy", Role.SHAPE, *PHRASES, auth="SHA-512", priv="AES-256"),
    ]
    assert load_users(directory) == tuple(sorted(added, key=lambda user: user.name))


def test_only_the_owner_can_read_the_file_and_it_holds_no_pass_phrase(directory: Path) -> None:
    add_user(directory, "zoe", Role.ADMIN, *PHRASES)
    file = directory / FILE_NAME
    assert file.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    assert not any(phrase in file.read_text() for phrase in PHRASES)


def test_keys_are_not_in_the_representation(directory: Path) -> None:
    user = add_user(directory, "zoe", Role.ADMIN, *PHRASES)
    assert user.auth_key.hex() not in repr(user)
    assert repr(user.priv_key) not in repr(user)


def test_adding_again_replaces(directory: Path) -> None:
    add_user(directory, "zoe", Role.ADMIN, *PHRASES)
    add_user(directory, "zoe", Role.READ, *PHRASES)
    assert [user.role for user in load_users(directory)] == [Role.READ]


def test_removing_who_is_not_there_names_who_is(directory: Path) -> None:
    add_user(directory, "zoe", Role.ADMIN, *PHRASES)
    with pytest.raises(UserUnknown, match="zoe"):
        remove_user(directory, "amy")
    remove_user(directory, "zoe")
    assert load_users(directory) == ()


@pytest.mark.parametrize(
    "damage",
    [
        "[",
        "[]",
        '{"zoe": {}}',
        '{"zoe": {"role": "root", "auth": "SHA-256", "priv": "AES-128"}}',
        "keys",
    ],
)
def test_a_damaged_file_is_not_taken_for_an_empty_one(directory: Path, damage: str) -> None:
    add_user(directory, "zoe", Role.ADMIN, *PHRASES)
    file = directory / FILE_NAME
    if damage == "keys":
        records = json.loads(file.read_text())
        records["zoe"]["auth_key"] = "00"
        damage = json.dumps(records)
    file.write_text(damage)
    with pytest.raises(StateUnusable, match="not a list of users"):
        load_users(directory)
    with pytest.raises(StateUnusable):
        add_user(directory, "amy", Role.READ, *PHRASES)
    assert file.read_text() == damage


def test_a_link_in_place_of_the_file_is_not_followed(directory: Path, tmp_path: Path) -> None:
    identity.load(directory)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("{}")
    (directory / FILE_NAME).symlink_to(elsewhere)
    with pytest.raises(StateUnusable):
        load_users(directory)


def test_a_directory_that_others_can_write_is_refused(directory: Path) -> None:
    identity.load(directory)
    directory.chmod(0o777)
    with pytest.raises(StateUnusable, match="chmod 0700"):
        load_users(directory)


def test_roles_open_what_they_name_and_no_more() -> None:
    reader, shaper, admin = (access.principal("x", role) for role in Role)
    rate = (*objects.vmibShapeRate.oid, 1, 1, 2)
    inside = {
        rate: {"shape", "admin"},
        (*objects.vmibLinkDelay.oid, 1): {"shape", "admin"},
        (*objects.vmibProbeInterval.oid, 1): {"shape", "admin"},
        (*objects.vmibTxnSpinLock.oid, 0): {"shape", "admin"},
        (*objects.vmibTxnRowStatus.oid, 1): {"shape", "admin"},
        (*objects.vmibVmName.oid, 1): {"admin"},
        (*objects.vmibSwitchName.oid, 1): {"admin"},
        (*objects.vmibFilterAction.oid, 1): {"admin"},
        (*objects.vmibNotifyEnable.oid, 0): {"admin"},
        (1, 3, 6, 1, 2, 1, 1, 4, 0): set(),
        (1, 3, 6, 1, 6, 3, 15, 1, 2, 2, 1, 3): set(),
        (1, 3, 6, 1, 6, 3, 16, 1, 4, 1, 4): set(),
    }
    for oid, allowed in inside.items():
        known = {"read": reader, "shape": shaper, "admin": admin}
        assert {name for name, who in known.items() if who.write.includes(oid)} == allowed
    assert not access.community_principal("c").write.includes(rate)
    assert admin.read.includes(rate)
    assert not admin.read.includes((1, 3, 6, 1, 6, 3, 15, 1, 2, 2, 1, 3))
