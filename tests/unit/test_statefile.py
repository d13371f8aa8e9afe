"""The state on disk: what is saved is loaded, and what cannot be trusted is refused."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.rows import (
    Addr,
    AddrKey,
    Direction,
    Distribution,
    InetAddressType,
    Link,
    LinkKey,
    Probe,
    ProbeKey,
    Shape,
    ShapeKey,
    StorageType,
    TxnErrorStage,
    TxnState,
    Vif,
    VifKey,
)
from vmib_agent import journal
from vmib_agent.state import Indexes, State, Transaction, TxnError
from vmib_agent.statecodec import to_json
from vmib_agent.statefile import SHORT, StateFile, StateUnreadable, decode, encode

SHAPE = ShapeKey(3, 1, Direction.toVm)
LINK = LinkKey(3, 1, InetAddressType.ipv6, IPv6Address("fd00::"), 64)
FULL = State(
    spin_lock=7,
    intent={
        "vmibShapeTable": {SHAPE: Shape(rate=1000, delay=20, distribution=Distribution.normal)},
        "vmibLinkTable": {LINK: Link(loss=10, storage_type=StorageType.volatile)},
        "vmibVifTable": {VifKey(3, 1): Vif(mac_address="02:00:00:00:00:01", spoof_guard=False)},
        "vmibAddrTable": {
            AddrKey(3, 1, InetAddressType.ipv4, IPv4Address("10.0.0.1")): Addr(prefix_length=24)
        },
    },
    indexes=Indexes({"u": 3}, {("u", "02:00:00:00:00:01"): 1}, 4),
    generation=5,
    last_change=12.5,
    last_change_by="ann",
    current=Transaction(
        9, "ann", TxnState.awaitingConfirm, 60, 300, "d", 1.0, before={}, wall_deadline=99.0
    ),
    history=(
        Transaction(
            8,
            "bob",
            TxnState.failed,
            0,
            300,
            "",
            0.5,
            closed=0.6,
            errors=(TxnError((1, 3, 6), TxnErrorStage.apply, "no"),),
        ),
    ),
    notify_enable=frozenset({"drift"}),
)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    assert file.load() is None
    file.save(FULL)
    assert file.load() == FULL
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_enumerations_and_addresses_come_back_as_they_were() -> None:
    loaded = decode(encode(FULL))
    assert loaded.intent["vmibShapeTable"][SHAPE].distribution is Distribution.normal
    key = next(iter(loaded.intent["vmibLinkTable"]))
    assert key.dest == IPv6Address("fd00::")


def test_a_save_writes_what_has_changed(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.save(FULL)
    written = file.path.read_bytes()
    shapes = {"vmibShapeTable": {SHAPE: Shape(rate=2000)}}
    assert FULL.current is not None
    current = replace(FULL.current, before=FULL.intent)
    after = replace(FULL, intent={**FULL.intent, **shapes}, current=current)
    for state in (after, FULL, replace(after, current=None), FULL, FULL):
        file.save(state)
        assert file.path.read_bytes() == written
        assert StateFile(tmp_path).load() == state
    assert file.journal.stat().st_mode & 0o777 == 0o600
    assert file.journal.read_bytes().count(b"\n") == 4


def test_a_new_process_writes_everything_and_keeps_what_was_there(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.save(FULL)
    file.save(replace(FULL, generation=6))
    file = StateFile(tmp_path)
    file.save(replace(FULL, generation=7))
    assert decode(file.path.read_bytes()).generation == 7
    assert load_previous(tmp_path).generation == 6
    file.save(replace(FULL, generation=8))
    assert load_previous(tmp_path).generation == 6
    assert StateFile(tmp_path).load() == replace(FULL, generation=8)


def load_previous(directory: Path) -> State:
    """What is had by following the advice about a file that cannot be read."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place, "state")
        shutil.copytree(directory, copy)
        file = StateFile(copy)
        shutil.copy(file.previous, file.path)
        if file.previous_journal.exists():
            shutil.copy(file.previous_journal, file.journal)
        loaded = file.load()
    assert loaded is not None
    return loaded


def test_a_journal_that_has_become_long_is_folded_into_the_file(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    state = FULL
    file.save(state)
    while not file.journal.exists() or file.journal.stat().st_size <= SHORT:
        file.tidy()
        assert decode(file.path.read_bytes()) == FULL
        state = replace(state, generation=state.generation + 1, last_change_by="x" * 2000)
        file.save(state)
        state = replace(state, last_change_by="y" * 2000)
        file.save(state)
    file.tidy()
    assert decode(file.path.read_bytes()) == state
    assert StateFile(tmp_path).load() == state
    file.save(FULL)
    assert file.journal.stat().st_size < SHORT
    assert StateFile(tmp_path).load() == FULL


def test_files_that_somebody_took_away_are_written_anew(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    for number, name in enumerate(("state.json", "state.journal", "state.json"), 10):
        file.save(FULL)
        file.save(replace(FULL, generation=number))
        (tmp_path / name).unlink()
        file.save(replace(FULL, generation=number + 10))
        assert StateFile(tmp_path).load() == replace(FULL, generation=number + 10)


@given(st.data())
def test_a_damaged_file_is_refused_and_never_guessed(data: st.DataObject) -> None:
    good = encode(FULL)
    position = data.draw(st.integers(0, len(good) - 2))
    octet = data.draw(st.integers(0, 255).filter(lambda value: value != good[position]))
    damaged = good[:position] + bytes([octet]) + good[position + 1 :]
    try:
        assert decode(damaged) == FULL
    except (ValueError, KeyError, TypeError, AttributeError):
        return


def test_a_row_of_before_a_column_was_there_has_its_default() -> None:
    key = ProbeKey(3, 1, InetAddressType.ipv4, IPv4Address("10.0.0.1"))
    rows = {"vmibProbeTable": {key: Probe(interval=7, lifetime=9)}}
    document = json.loads(encode(replace(FULL, intent=rows)))
    ((_, fields),) = document["state"]["intent"]["vmibProbeTable"]
    assert fields.pop("lifetime") == 9
    document["sha256"] = journal.checksum(to_json(document["state"]))
    assert decode(json.dumps(document).encode()).intent == {
        "vmibProbeTable": {key: Probe(interval=7)}
    }


def test_a_cut_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.save(FULL)
    file.path.write_bytes(file.path.read_bytes()[:-100])
    with pytest.raises(StateUnreadable, match=r"state\.previous\.json"):
        file.load()


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(encode(FULL))
    (tmp_path / "state.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateUnreadable):
        StateFile(tmp_path).load()


@pytest.mark.parametrize("is_new", [True, False])
def test_a_full_disk_leaves_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    file = StateFile(tmp_path)
    file.save(replace(FULL, generation=1))
    file.save(FULL)
    if is_new:
        file = StateFile(tmp_path)

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        file.save(replace(FULL, generation=6))
    monkeypatch.undo()
    assert file.load() == FULL


def test_a_disk_that_fails_after_the_rename_still_has_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = StateFile(tmp_path)
    file.save(FULL)
    StateFile(tmp_path).save(FULL)
    failing = iter([OSError(5, "Input/output error")])

    def fail_once(_: Path) -> None:
        for error in failing:
            raise error

    monkeypatch.setattr("vmib_agent.statefile._sync_directory", fail_once)
    with pytest.raises(OSError, match="Input/output"):
        file.save(replace(FULL, generation=6))
    assert file.load() == FULL


def test_the_state_before_the_last_save_can_be_had_back(tmp_path: Path) -> None:
    file = StateFile(tmp_path)
    file.save(FULL)
    file.save(replace(FULL, generation=6))
    file.restore()
    assert file.load() == FULL
