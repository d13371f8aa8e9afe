"""Agents that take less in a SET than the manager sends: everything is applied, or nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .hosts import PASSPHRASES, PORT, Host, host

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

VIRTUAL = """\
<virtual xmlns="urn:vmib:1">
  <site id="a" subnet="10.1.0.0/24">
    <member machine="m1" address="10.1.0.1"><down rate="3Mbit"/></member>
  </site>
  <site id="b" subnet="10.2.0.0/24">
    <member machine="m2" address="10.2.0.1"><up rate="4Mbit"/></member>
  </site>
</virtual>
"""

Vmib = Callable[..., str]


@contextmanager
def managed(place: Path, most: int) -> Iterator[tuple[Host, Vmib]]:
    """A host whose agent takes so many varbinds in a SET, and the command beside it."""
    credentials = place / "credentials.toml"
    credentials.touch(mode=0o600)
    auth, priv = PASSPHRASES
    entry = f'auth = "{auth}"\npriv = "{priv}"\n'
    credentials.write_text(f"[h1]\n{entry}[admin]\n{entry}")
    (place / "virtual.xml").write_text(VIRTUAL)
    with host(2, f"[limits]\nmax_varbinds_per_set = {most}\n") as running:

        def vmib(*words: str, check: bool = True) -> str:
            program = str(Path(sys.executable).with_name("vmib"))
            named = [str(place / word) if word.endswith(".xml") else word for word in words]
            options = ["--credentials", str(credentials)]
            return running.inside(program, *named, *options, check=check)

        vmib("discover", f"h1=127.0.0.1:{PORT}", "--user", "admin", "-o", "real.xml")
        yield running, vmib


def sets(running: Host) -> list[tuple[int, str]]:
    """How many varbinds each SET had, and what the agent said to it."""
    log = (running.directory / "agent.log").read_text()
    found = re.findall(r"event=set user=\S+ source=\S+ varbinds=(\d+) status=(\w+)", log)
    return [(int(count), status) for count, status in found]


@pytest.mark.parametrize("most", [7, 11])
def test_what_is_too_big_is_sent_in_halves_and_takes_effect_at_once(
    tmp_path: Path, most: int
) -> None:
    with managed(tmp_path, most) as (running, vmib):
        assert "rows confirmed" in vmib("apply", "real.xml", "virtual.xml")
        assert "1 host verified" in vmib("verify", "real.xml", "virtual.xml")
        assert running.rate("vif1.0") == 3000
        said = sets(running)
        assert (most, "noError") >= max(one for one in said if one[1] == "noError")
        too_big = [count for count, status in said if status == "tooBig"]
        assert too_big
        assert min(too_big) > most
        generations = running.value("vmibTxnGeneration.0")
        assert generations == "1"


def test_probes_that_are_too_many_for_one_set_are_made_in_halves(tmp_path: Path) -> None:
    with managed(tmp_path, 7) as (running, vmib):
        vmib("apply", "real.xml", "virtual.xml")
        before = len(sets(running))
        said = vmib("verify", "real.xml", "virtual.xml", "--measure", "--packets", "2")
        assert "tooBig" not in said
        assert [one for one in sets(running)[before:] if one[1] == "tooBig"] == [(11, "tooBig")]
        assert running.value("vmibTxnCurrent.0") == "0"


def test_where_not_even_one_row_fits_nothing_is_applied(tmp_path: Path) -> None:
    with managed(tmp_path, 4) as (running, vmib):
        said = vmib("apply", "real.xml", "virtual.xml", check=False)
        assert "tooBig" in said
        assert running.value("vmibTxnGeneration.0") == "0"
        assert running.value("vmibTxnCurrent.0") == "0"
        assert running.rate("vif1.0") is None
