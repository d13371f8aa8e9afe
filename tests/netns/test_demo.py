"""The demonstration does what it says, and leaves nothing behind however it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vmib_manager import load_real

from .hosts import ROOT

pytestmark = [
    pytest.mark.netns,
    pytest.mark.snmp,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

DEMO = ROOT / "manager" / "examples" / "demo.py"
REAL = ROOT / "manager" / "examples" / "grid-real.xml"


@pytest.fixture(autouse=True)
def _addresses_are_free() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for host in load_real(REAL).hosts:
            try:
                probe.bind((str(host.agent.address), host.agent.port))
            except OSError:
                pytest.skip(f"{host.agent.address} port {host.agent.port} is in use")
            break


def traces() -> list[str]:
    """What there is of the lab of the demonstration."""
    found = [str(path) for path in Path("/run/netns").glob("vmib-demo-*")]
    found += [str(path) for path in Path("/run/vmib/lab").glob("demo*")]
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"/run/vmib/lab/demo/" in line.read_bytes():
                found.append(str(line))
        except OSError:
            continue
    return found


@contextmanager
def running(out: Path) -> Iterator[subprocess.Popen[str]]:
    """The demonstration, as it writes to a pipe."""
    process = subprocess.Popen(
        [sys.executable, "-u", str(DEMO), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def read_until(process: subprocess.Popen[str], words: str) -> None:
    assert process.stdout is not None
    assert any(words in line for line in process.stdout), f"ended before {words!r}"


def test_the_grid_is_made_measured_and_removed(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        text, _ = process.communicate(timeout=180)
    assert process.returncode == 0, text
    assert "992 of 992 pairs" in text
    assert "VMIB-MIB::vmibLinkOperSync." in text
    assert max(map(len, text.splitlines())) <= 100
    results = json.loads((tmp_path / "demo.json").read_text())
    assert results["reachability"] == {"pairs": 992, "reached": 324, "disagreements": []}
    assert {transfer["rate"] for transfer in results["transfers"]} == {1_000, 100_000}
    assert [rate["configured"] for rate in results["rates"]][-1] == 100_000
    picture = ElementTree.parse(tmp_path / "topology.svg").getroot()
    names = {element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"vmgridpeer1", "vmgrid212", "in sync"} <= names
    assert {path.name for path in tmp_path.iterdir()} == {
        "demo.json",
        "topology.svg",
        "topology.dot",
        "transfer.svg",
        "transfer.png",
    }
    assert traces() == []


@pytest.mark.parametrize("moment", ["its own agent", "Apply:", "over TCP"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    with running(tmp_path) as process:
        read_until(process, moment)
        process.send_signal(number)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert traces() == []


def test_a_reader_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        read_until(process, "Plan:")
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) == 1
    assert traces() == []


def test_others_than_root_are_told_the_way_out() -> None:
    command = ["setpriv", "--reuid", "65534", "--clear-groups", sys.executable, str(DEMO)]
    environment = {"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if "Permission denied" in done.stderr:
        pytest.skip("others than root may not read this tree")
    assert done.returncode == 1
    assert done.stderr == "demo: network namespaces are for root alone; run: sudo make demo\n"
