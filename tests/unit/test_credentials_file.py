"""The credentials file: where it is looked for, what it may hold, who may read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.snmp import usm
from vmib_manager import credentials_file
from vmib_manager.credentials_file import CredentialsRefused, Entry, credentials_for
from vmib_manager.model import Real

from .real_files import described, host

ONE = '[host1]\nauth = "auth pass phrase"\npriv = "priv pass phrase"\n'
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def private(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "credentials.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def real(*hosts: str) -> Real:
    return described("\n".join(host(name, number) for number, name in enumerate(hosts, 2)))


def test_a_host_s_agent_is_asked_with_the_entry_of_its_name(tmp_path: Path) -> None:
    found = credentials_for(real("host1"), private(tmp_path, ONE))
    assert list(found) == ["host1"]
    known = found["host1"]
    assert known.user == "vmib"
    assert known.auth() == b"auth pass phrase"
    assert known.priv is not None
    assert known.priv() == b"priv pass phrase"
    assert known.auth_protocol is usm.SHA256


def test_hosts_may_share_an_entry_by_its_name(tmp_path: Path) -> None:
    agent = '<agent address="127.0.0.{}" user="ann" credential="all"/>'
    both = described(
        "".join(f'<host id="h{n}" hypervisor="netns">{agent.format(n)}</host>' for n in (1, 2))
    )
    path = private(tmp_path, ONE.replace("host1", "all") + 'auth_protocol = "SHA-512"\n')
    found = credentials_for(both, path)
    assert set(found) == {"h1", "h2"}
    assert found["h2"].auth_protocol is usm.SHA512


def test_a_missing_entry_is_named_with_its_host_and_what_to_write(tmp_path: Path) -> None:
    path = private(tmp_path, ONE)
    with pytest.raises(CredentialsRefused) as refused:
        credentials_for(real("host1", "host2"), path)
    message = str(refused.value)
    assert message.startswith(f"{path}: no entry 'host2', which the agent of host2 (real.xml:3)")
    assert '[host2] with auth = "..." and priv = "..."' in message


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = private(tmp_path, ONE, mode)
    with pytest.raises(CredentialsRefused, match=f"chmod 600 {path}"):
        credentials_file.load(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CredentialsRefused, match=f"{tmp_path}/none: no such file; name another"):
        credentials_file.load(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[host1]\nauth = 'hidden'\npass = 'hidden'\n", "[host1] pass: unknown key; allowed: auth"),
        ("[host1]\nauth = 'hidden'\n", "[host1] priv: missing"),
        ("[host1]\nauth = ''\npriv = 'hidden'\n", "[host1] auth: allowed: a text, not empty"),
        ("[host1]\nauth = 12\npriv = 'hidden'\n", "[host1] auth: allowed: a text, not empty"),
        ("host1 = 'hidden'\n", "host1: no table"),
        (ONE + "auth_protocol = 'MD5'\n", "'MD5' is not allowed; allowed: SHA-256"),
        (ONE + "auth_protocol = ['MD5']\n", "[host1] auth_protocol: allowed: a text"),
        ("[host1\nauth = 'hidden'", "file.toml: "),
        (ONE + "auth = 'hidden'\n", "file.toml: "),
    ],
)
def test_what_is_wrong_is_named_and_no_secret_is_shown(text: str, message: str) -> None:
    with pytest.raises(CredentialsRefused) as refused:
        credentials_file.parse(text, "file.toml")
    assert message in str(refused.value)
    assert "hidden" not in str(refused.value)


def test_octets_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = private(tmp_path, "")
    path.write_bytes(b"[\xff]")
    with pytest.raises(CredentialsRefused, match="UTF-8"):
        credentials_file.load(path)


def test_secrets_are_not_in_the_representation() -> None:
    (entry,) = credentials_file.parse(ONE, "file.toml").values()
    assert "phrase" not in repr(entry)


def test_what_is_saved_is_private_and_loads_again(tmp_path: Path) -> None:
    path = private(tmp_path, "", 0o644)
    entries = {"host1": Entry("a", "b"), "two words": Entry("c", "d", "SHA-384")}
    credentials_file.save(path, entries)
    assert path.stat().st_mode & 0o777 == 0o600
    assert credentials_file.load(path) == entries
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@given(st.dictionaries(TEXT, st.builds(Entry, TEXT, TEXT), max_size=3))
def test_every_pass_phrase_survives_being_written(entries: dict[str, Entry]) -> None:
    assert credentials_file.parse(credentials_file.dumps(entries), "file.toml") == entries


def test_the_search_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given, chosen = Path("given.toml"), {"VMIB_CREDENTIALS": "/chosen.toml"}
    path = credentials_file.default_path
    assert path(given, "lab", chosen) == given
    assert path(None, "lab", chosen) == Path("/chosen.toml")
    assert path(None, "lab", {}) == Path("/run/vmib/lab/lab/credentials.toml")
    assert path(None, None, {}) == tmp_path / ".config/vmib/credentials.toml"
    assert path(None, None, {"XDG_CONFIG_HOME": "/x"}) == Path("/x/vmib/credentials.toml")
