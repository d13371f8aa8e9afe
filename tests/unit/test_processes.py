"""Processes are told apart by their start time and ended for certain, and no other is."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmib_manager import processes
from vmib_manager.processes import Process

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


def found(pid: int) -> Process:
    process = processes.current(pid)
    assert process is not None
    return process


def test_a_process_is_known_by_what_it_noted_itself(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = 'read -r stat </proc/$$/stat && echo "$stat" >"$0" && exec sleep 60'
    with subprocess.Popen(["sh", "-c", script, note]) as process:
        while (noted := processes.recorded(note)) is None:
            time.sleep(0.01)
        assert noted == found(process.pid)
        assert noted.alive
        assert 0 <= noted.uptime < 30
        process.kill()


@pytest.mark.parametrize("text", ["", "12", "12 (sh) S 1", "x (sh) " + "1 " * 30])
def test_a_note_that_is_not_whole_tells_of_no_process(tmp_path: Path, text: str) -> None:
    note = tmp_path / "pid"
    note.write_text(text)
    assert processes.recorded(note) is None
    assert processes.recorded(tmp_path / "none") is None


def test_the_name_of_a_program_does_not_confuse(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    note.write_text("7 (a) b) 3 (c) S " + " ".join(str(n) for n in range(1, 30)))
    assert processes.recorded(note) == Process(7, 19)


def test_a_process_with_the_id_of_an_older_one_is_left_alone(
    sleeper: subprocess.Popen[bytes],
) -> None:
    now = found(sleeper.pid)
    older = Process(now.pid, now.start - 1)
    assert not older.alive
    processes.stop([older], 0)
    assert now.alive


def test_what_is_asked_to_end_is_gone_on_return(sleeper: subprocess.Popen[bytes]) -> None:
    process = found(sleeper.pid)
    processes.stop([process, process], 5)
    assert not process.alive
    assert sleeper.wait(5) == -signal.SIGTERM
    processes.stop([process], 5)


def test_what_does_not_end_when_asked_is_killed() -> None:
    with subprocess.Popen(["sh", "-c", STUBBORN], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        process = found(stubborn.pid)
        begun = time.monotonic()
        processes.stop([process], 0.2)
        assert 0.2 <= time.monotonic() - begun < 5
        assert processes.current(process.pid) is None


def test_a_process_that_has_ended_is_not_alive_before_it_is_reaped() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        process = found(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not process.alive


def test_processes_are_found_by_their_network_namespace(
    sleeper: subprocess.Popen[bytes],
) -> None:
    assert found(sleeper.pid) in processes.inside({processes.namespace("self")})
    assert processes.inside(set()) == []


def test_a_session_is_found_by_its_leader() -> None:
    script = "sleep 60 & echo ready; wait"
    with subprocess.Popen(
        ["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        process = found(leader.pid)
        members = processes.session(process)
        assert len(members) == 2
        assert process in members
        assert processes.program(process) == "sh"
        assert processes.session(Process(process.pid, process.start - 1)) == []
        processes.stop(members, 5)
        assert processes.session(process) == []
        leader.wait(5)
        assert processes.program(process) == ""
