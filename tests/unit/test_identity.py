"""The engine's identity: made once, counted up before every start, never guessed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vmib import objects
from vmib_agent import identity
from vmib_agent.durable import StateUnusable
from vmib_agent.identity import FILE_NAME, LATCHED


def test_an_engine_id_is_of_the_roots_enterprise_and_format_5() -> None:
    made = {identity.new_engine_id() for _ in range(50)}
    assert len(made) == 50
    for engine_id in made:
        enterprise = int.from_bytes(engine_id[:4])
        assert enterprise == 0x80000000 + objects.ROOT[6]
        assert engine_id[4] == 5
        assert 5 <= len(engine_id) <= 32


def test_the_engine_id_stays_and_boots_count(tmp_path: Path) -> None:
    known = identity.load(tmp_path / "state")
    assert known.boots == 0
    for boots in 1, 2, 3:
        started = identity.start(tmp_path / "state")
        assert started == identity.Identity(known.engine_id, boots)
        assert identity.load(tmp_path / "state") == started


def test_boots_are_on_the_disk_before_the_start_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "state"
    identity.load(directory)
    calls: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def seen_fsync(fd: int) -> None:
        calls.append("directory" if Path(f"/proc/self/fd/{fd}").resolve().is_dir() else "file")
        fsync(fd)

    def seen_rename(self: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(Path, "rename", seen_rename)
    identity.start(directory)
    assert calls == ["file", "rename", "directory"]


def test_boots_latch_and_do_not_begin_again(tmp_path: Path) -> None:
    engine_id = identity.load(tmp_path / "state").engine_id
    file = tmp_path / "state" / FILE_NAME
    file.write_text(f'{{"engine_id": "{engine_id.hex()}", "boots": {LATCHED - 1}}}')
    for _ in range(3):
        assert identity.start(tmp_path / "state").boots == LATCHED


@pytest.mark.parametrize(
    "contents",
    [
        "",
        "null",
        "{}",
        '{"engine_id": "80", "boots": 1}',
        '{"engine_id": "zz", "boots": 1}',
        '{"engine_id": "80007ed90500", "boots": -1}',
        '{"engine_id": "80007ed90500", "boots": 2147483648}',
        '{"engine_id": "80007ed90500", "boots": true}',
        '{"engine_id": "80007ed90500", "boots": "1"}',
    ],
)
def test_a_damaged_identity_is_refused_and_kept(tmp_path: Path, contents: str) -> None:
    identity.load(tmp_path / "state")
    file = tmp_path / "state" / FILE_NAME
    file.write_text(contents)
    with pytest.raises(StateUnusable, match="restore it"):
        identity.start(tmp_path / "state")
    assert file.read_text() == contents


def test_a_link_in_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    identity.load(tmp_path / "state")
    (tmp_path / "link").symlink_to(tmp_path / "state")
    with pytest.raises(StateUnusable):
        identity.load(tmp_path / "link")


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: gives a directory to another user")
    identity.load(tmp_path / "state")
    os.chown(tmp_path / "state", 12345, 12345)
    with pytest.raises(StateUnusable, match="belongs to uid 12345"):
        identity.start(tmp_path / "state")
