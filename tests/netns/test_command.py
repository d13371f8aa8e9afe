"""The command `vmib` as people and scripts use it, on a lab of two hosts."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vmib_manager import credentials_file, lab
from vmib_manager.credentials_file import Entry
from vmib_manager.description import load_real
from vmib_manager.graph import FORMATS

from .command_lab import (
    ALICE,
    HOSTS,
    NAME,
    NETWORK,
    REAL,
    RELAYS,
    VIRTUAL,
    VMIB,
    Net,
    eventually,
    relayed,
)

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

STRANGER = (
    *("tc", "qdisc", "add", "dev", "vif2.0", "root", "handle", "77:"),
    *("tbf", "rate", "1mbit", "burst", "5000", "limit", "50000"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    net = Net(tmp_path_factory.mktemp("command"))
    try:
        up = net.installed("lab", "up", "real.xml", "--name", NAME)
        assert up.returncode == 0, up.stderr
        assert f"SNMPCONFPATH={net.paths.snmp} snmpwalk {NETWORK}.1:1161 vmib" in up.stdout
        yield net
    finally:
        down = net.installed("lab", "down", "--name", NAME)
        assert down.returncode == 0, down.stderr


@pytest.fixture
def net(made: Net) -> Net:
    """The lab with 10 Mbit/s towards alice and carol."""
    made.as_described()
    return made


def test_a_plan_tells_what_changes_and_sends_nothing(net: Net) -> None:
    before = net.counters()
    done = net.vmib("plan", "real.xml", "20Mbit.xml")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        "h1  1 row to change\n"
        "  ~ shape alice:0 receives  rate 10Mbit → 20Mbit\n"
        "h2  1 row to change\n"
        "  ~ shape carol:0 receives  rate 10Mbit → 20Mbit\n"
        "Plan: 2 rows to change, on 2 of 2 hosts.\n"
    )
    dry = net.vmib("apply", "real.xml", "20Mbit.xml", "--dry-run")
    assert (dry.status, dry.out) == (0, done.out)
    detailed = net.vmib("plan", "real.xml", "20Mbit.xml", "--brief", "--detailed-exitcode")
    assert detailed.status == 3
    assert detailed.out == (
        "h1  1 row to change\nh2  1 row to change\nPlan: 2 rows to change, on 2 of 2 hosts.\n"
    )
    assert net.counters() == before
    assert net.rates() == [10_000, 10_000]


def test_what_was_applied_is_there_and_verified(net: Net) -> None:
    done = net.vmib("apply", "real.xml", "20Mbit.xml", "--description", "twice as fast")
    assert (done.status, done.err) == (0, "")
    assert "h1: 1 row confirmed\nh2: 1 row confirmed\n" in done.out
    assert net.rates() == [20_000, 20_000]
    assert net.states("h1") == {"committed"}
    assert "twice as fast" in net.snmp("snmpwalk", "h2", "vmibTxnDescription")
    assert net.vmib("verify", "real.xml", "20Mbit.xml").status == 0
    assert net.vmib("verify", "real.xml", "10Mbit.xml").status == 3
    assert net.vmib("diff", "real.xml").status == 0
    status = net.vmib("status", "real.xml")
    assert status.status == 0
    assert re.fullmatch(
        r"h1  normal  netns up  2 machines  generation \d+ +in sync\n"
        r"h2  normal  netns up  1 machine   generation \d+ +in sync\n",
        status.out,
    )


def test_what_is_as_described_gets_no_set(net: Net) -> None:
    before = net.counters()
    done = net.vmib("apply", "real.xml", "10Mbit.xml")
    assert (done.status, done.out) == (0, "No changes: 2 hosts are as described.\n")
    document = net.vmib("apply", "real.xml", "10Mbit.xml", "--json").document
    assert (document["schema"], document["outcome"]) == ("vmib.apply/1", "unchanged")
    assert net.counters() == before


def drift(net: Net) -> None:
    """A stranger makes alice slow."""
    (handle,) = {
        qdisc["handle"]
        for qdisc in json.loads(net.inside("h1", "tc", "-j", "qdisc", "show", "dev", ALICE))
        if qdisc.get("root")
    }
    words = ("tc", "qdisc", "change", "dev", ALICE, "root", "handle", handle, "tbf")
    net.inside("h1", *words, "rate", "5mbit", "burst", "5000", "limit", "20000")
    assert eventually(lambda: net.snmp("snmpget", "h1", "vmibHostRowsOutOfSync.0") == ["1"])


def test_drift_is_told_with_its_values_and_set_right_by_apply(net: Net) -> None:
    drift(net)
    for words in (("verify", "real.xml", "10Mbit.xml"), ("diff", "real.xml")):
        done = net.vmib(*words)
        assert done.status == 3
        assert "h1: shape alice:0 receives rate 10Mbit, reads back 5Mbit drifted: " in done.out
        assert "carol" not in done.out
    (found,) = net.vmib("diff", "real.xml", "--json").document["hosts"]["h1"]
    assert (found["subject"], found["sync"]) == ("shape alice:0 receives", "drifted")
    assert (found["field"], found["configured"], found["actual"]) == ("rate", "10Mbit", "5Mbit")
    plan = net.vmib("plan", "real.xml", "10Mbit.xml", "--detailed-exitcode")
    assert plan.status == 3
    assert "  ! shape alice:0 receives  drifted: " in plan.out
    assert plan.out.endswith("Plan: 1 row to set right, on 1 of 2 hosts.\n")
    before = net.counters()
    done = net.vmib("apply", "real.xml", "10Mbit.xml")
    assert done.status == 0, done
    assert "h1: 1 drifted row confirmed\n" in done.out
    assert net.rate() == 10_000
    assert net.vmib("verify", "real.xml", "10Mbit.xml").status == 0
    after = net.counters()
    assert after[1] == before[1]
    assert after[0][1:] == before[0][1:]


def test_a_commit_waits_for_somebody_to_confirm_it(net: Net) -> None:
    words = ("apply", "real.xml", "20Mbit.xml", "--no-confirm")
    done = net.vmib(*words)
    assert done.status == 0
    assert done.out.endswith("Within 600 s: vmib confirm real.xml; otherwise all is undone.\n")
    status = net.vmib("status", "real.xml").out
    assert "of vmib (vmib apply) awaits confirmation, " in status
    assert "confirm or abort it (vmib confirm, vmib abort), or wait\n" in status
    refused = net.vmib("clear", "real.xml")
    assert refused.status == 4
    assert "confirm or abort it" in refused.out
    done = net.vmib("abort", "real.xml")
    assert done.status == 0
    assert re.fullmatch(r"(h\d: transaction \d+ is rolledBack\n){2}", done.out)
    assert net.rates() == [10_000, 10_000]
    assert net.vmib(*words).status == 0
    done = net.vmib("confirm", "real.xml")
    assert re.fullmatch(r"(h\d: transaction \d+ is committed\n){2}", done.out)
    assert net.vmib("confirm", "real.xml").out == "h1: nothing to do\nh2: nothing to do\n"
    assert net.rates() == [20_000, 20_000]


def test_what_nobody_confirms_is_taken_back_in_time(net: Net) -> None:
    words = ("apply", "real.xml", "20Mbit.xml", "--no-confirm", "--confirm-timeout", "1")
    done = net.vmib(*words, "--json")
    assert (done.status, done.document["outcome"]) == (0, "awaiting confirmation")
    transaction = done.document["hosts"]["h1"]["transaction"]
    assert net.state("h1", transaction) == "awaitingConfirm"
    assert eventually(lambda: net.state("h1", transaction) == "rolledBack")
    assert eventually(lambda: net.rates() == [10_000, 10_000])


def test_everything_is_removed_and_that_again_is_nothing(net: Net) -> None:
    assert net.vmib("clear", "real.xml", "--dry-run").out.count("  - ") >= 4
    done = net.vmib("clear", "real.xml")
    assert done.status == 0
    assert net.rates() == [0, 0]
    assert "vmib clear" in net.snmp("snmpwalk", "h1", "vmibTxnDescription")
    assert net.vmib("clear", "real.xml").out == "No changes: 2 hosts are as described.\n"


def test_what_is_discovered_loads_and_plans_without_a_word(net: Net) -> None:
    done = net.vmib("discover", "real.xml", "-o", "found.xml")
    assert (done.status, done.out, done.err) == (0, "", "")
    plan = net.vmib("plan", "found.xml", "10Mbit.xml")
    assert (plan.status, plan.out) == (0, "No changes: 2 hosts are as described.\n")
    again = net.vmib("discover", "found.xml")
    assert again.out == (net.directory / "found.xml").read_text()


def test_hosts_are_discovered_by_the_addresses_of_their_agents(net: Net) -> None:
    done = net.vmib("discover", f"h1={NETWORK}.1:1161", f"h2={NETWORK}.2:1161")
    assert (done.status, done.err) == (0, "")
    assert "add switches and cables" in done.out
    (net.directory / "bare.xml").write_text(done.out)
    plan = net.vmib("plan", "bare.xml", "10Mbit.xml")
    assert plan.status == 0
    assert [line for line in plan.out.splitlines() if "no cables lead" not in line] == [
        "No changes: 2 hosts are as described."
    ]


def test_pictures_are_written_in_each_format(net: Net) -> None:
    for form in FORMATS:
        done = net.vmib("graph", "real.xml", "10Mbit.xml", "-o", f"picture.{form}")
        assert (done.status, done.out, done.err) == (0, "", "")
        piped = net.vmib("graph", "real.xml", "10Mbit.xml", "--format", form)
        assert piped.out == (net.directory / f"picture.{form}").read_text()
        assert "carol" in piped.out
    root = ElementTree.parse(net.directory / "picture.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"


def test_an_agent_that_does_not_answer_is_named(net: Net) -> None:
    quick = ("--timeout", "0.4")
    with net.silent("h2"):
        status = net.vmib("status", "real.xml", *quick)
        assert status.status == 5
        first, second = status.out.splitlines()
        assert first.startswith("h1  normal")
        assert second.startswith(
            f"h2  unreachable  agent {NETWORK}.2:1161: no answer to 5 requests"
        )
        for word in ("plan", "apply", "verify"):
            done = net.vmib(word, "real.xml", "20Mbit.xml", *quick)
            assert done.status == 5
            assert f"real.xml:8: error: h2: agent {NETWORK}.2:1161: no answer" in done.out
        diff = net.vmib("diff", "real.xml", *quick)
        assert (diff.status, diff.out.split(": no")[0]) == (
            5,
            f"h2: unreachable: agent {NETWORK}.2:1161",
        )
        assert net.vmib("confirm", "real.xml", *quick).status == 5
        discover = net.vmib("discover", "real.xml", *quick)
        assert (discover.status, discover.out) == (5, "")
        assert discover.err.startswith("vmib: h2: unreachable: ")
        graph = net.vmib("graph", "real.xml", "10Mbit.xml", *quick)
        assert graph.status == 5
        assert ElementTree.fromstring(graph.out).tag.endswith("svg")
        assert graph.err.startswith("vmib: h2: unreachable: ")
        document = net.vmib("status", "real.xml", *quick, "--json").document
        assert document["hosts"]["h2"]["reachable"] is False
    assert net.rates() == [10_000, 10_000]


@pytest.mark.parametrize(
    ("words", "schema"),
    [
        (("check", "real.xml", "10Mbit.xml"), "vmib.check/1"),
        (("plan", "real.xml", "20Mbit.xml"), "vmib.plan/1"),
        (("apply", "real.xml", "20Mbit.xml", "-n"), "vmib.plan/1"),
        (("verify", "real.xml", "10Mbit.xml"), "vmib.verify/1"),
        (("status", "real.xml"), "vmib.status/1"),
        (("diff", "real.xml"), "vmib.diff/1"),
        (("confirm", "real.xml"), "vmib.transactions/1"),
        (("abort", "real.xml"), "vmib.transactions/1"),
        (("lab", "status", "--name", NAME), "vmib.lab/1"),
        (("lab", "list"), "vmib.labs/1"),
    ],
    ids=lambda each: " ".join(each[:2]) if isinstance(each, tuple) else "",
)
def test_every_reader_has_one_document(made: Net, words: tuple[str, ...], schema: str) -> None:
    done = made.vmib(*words, "--json")
    assert (done.status, done.err) == (0, "")
    assert done.document["schema"] == schema


def test_a_user_who_may_not_write_is_told_so(net: Net) -> None:
    entry = Entry("reader's auth phrase", "reader's priv phrase")
    for host in HOSTS:
        add = ("user", "add", "reader", "--role", "read", "--passphrase-file", "-")
        subprocess.run(
            [Path(VMIB).with_name("vmib-agent"), *add, "--config", str(net.configuration(host))],
            input=f"{entry.auth}\n{entry.priv}\n",
            text=True,
            capture_output=True,
            check=True,
        )
        os.kill(net.pid(host), signal.SIGHUP)
    (net.directory / "reader.xml").write_text(REAL.replace('user="vmib"', 'user="reader"'))
    credentials_file.save(net.directory / "reader.toml", dict.fromkeys(HOSTS, entry))
    quick = ("--credentials", "reader.toml")
    assert eventually(lambda: net.vmib("status", "reader.xml", *quick).status == 0)
    done = net.vmib("apply", "reader.xml", "20Mbit.xml", *quick)
    assert done.status == 4
    assert "noAccess at varbind 1, vmibTxnSpinLock.0; the user's view" in done.out
    assert "every host is as before" in done.out
    failed = net.vmib("apply", "reader.xml", "20Mbit.xml", *quick, "--json")
    assert (failed.status, failed.document["failed"]) == (4, "stage")
    assert net.vmib("abort", "reader.xml", *quick).out == "h1: nothing to do\nh2: nothing to do\n"
    assert net.rates() == [10_000, 10_000]


def test_a_wrong_pass_phrase_is_told_with_the_way_out(net: Net) -> None:
    wrong = credentials_file.load(net.paths.credentials) | {"h1": Entry("wrong " * 4, "wrong " * 4)}
    credentials_file.save(net.directory / "wrong.toml", wrong)
    done = net.vmib("plan", "real.xml", "10Mbit.xml", "--credentials", "wrong.toml")
    assert done.status == 5
    assert (
        f"real.xml:2: error: h1: agent {NETWORK}.1:1161: has another authentication pass phrase or "
        "protocol for this user; correct its entry in the credentials file"
    ) in done.out
    assert "h2" not in done.out


def test_a_machine_that_the_agent_does_not_have_is_told_with_its_line(net: Net) -> None:
    (net.directory / "stranger.xml").write_text(REAL.replace("carol", "carlo"))
    text = VIRTUAL.format(rate="10Mbit").replace("carol", "carlo")
    (net.directory / "strangers.xml").write_text(text)
    done = net.vmib("plan", "stranger.xml", "strangers.xml")
    assert done.status == 1
    assert (
        "stranger.xml:11: error: the agent of h2 reports no machine carlo; did you mean carol?"
    ) in done.out


def test_a_host_that_cannot_do_it_leaves_all_as_before_and_names_the_line(net: Net) -> None:
    text = VIRTUAL.format(rate="20Mbit").replace(
        '"10.7.0.2"/>', '"10.7.0.2"><down rate="1Mbit"/></member>'
    )
    (net.directory / "refused.xml").write_text(text)
    net.inside("h1", *STRANGER)
    try:
        done = net.vmib("apply", "real.xml", "refused.xml")
    finally:
        net.inside("h1", "tc", "qdisc", "del", "dev", "vif2.0", "root")
    assert done.status == 4
    assert "every host is as before" in done.out
    assert "  refused.xml:4: vmibShape" in done.out
    assert net.rates() == [10_000, 10_000]


@pytest.mark.parametrize("status", [0, 7, 130])
def test_the_exit_status_of_a_member_s_command_is_passed_on(made: Net, status: int) -> None:
    words = ("lab", "exec", "--name", NAME, "alice", "--", "sh", "-c", f"hostname; exit {status}")
    done = made.vmib(*words)
    assert (done.status, done.err) == (status, "")
    assert done.out


def test_a_member_s_command_is_inside_of_it(made: Net) -> None:
    done = made.vmib("lab", "exec", "--name", NAME, "carol", "cat", "/sys/class/net/eth0/address")
    assert done.out == "02:76:6d:21:07:03\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("exec", "--name", NAME, "dave", "ls"), "no host or machine 'dave'; there are: alice, "),
        (("exec", "--name", "nowhere", "alice", "ls"), "there is no lab 'nowhere'; there are: "),
        (("status", "--name", "nowhere"), "there is no lab 'nowhere'; there are: "),
        (("up", "real.xml", "--name", "other"), f"{NETWORK}.1 port 1161: lab {NAME} has it"),
    ],
)
def test_what_is_not_there_is_told_with_what_is(
    made: Net, words: tuple[str, ...], message: str
) -> None:
    done = made.vmib("lab", *words)
    assert (done.status, done.out) == (1, "")
    assert message in done.err
    assert done.err.startswith("vmib: ")


def interrupted(
    net: Net,
    when: bytes,
    act: Callable[[], None],
    *more: str,
    by: signal.Signals = signal.SIGINT,
) -> tuple[int, str]:
    """Exit status and last words of an apply on a terminal that gets a signal, Ctrl-C's unless
    told otherwise, when its progress has come so far."""
    words = [VMIB, "apply", "relayed.xml", "20Mbit.xml", *more]
    words += ["--credentials", str(net.paths.credentials)]
    leader, terminal = pty.openpty()
    said = net.directory / "said"
    try:
        with said.open("wb") as out:
            process = subprocess.Popen(
                words,
                cwd=net.directory,
                env=net.environment | {"TERM": "xterm"},
                stdin=terminal,
                stdout=out,
                stderr=terminal,
                start_new_session=True,
            )
        os.close(terminal)
        seen = b""
        pressed = False
        with suppress(OSError):  # EIO: the process has ended
            while octets := os.read(leader, 4096):
                seen += octets
                if when in seen and not pressed:
                    pressed = True
                    act()
                    process.send_signal(by)
        assert pressed, (seen, said.read_text())
        return process.wait(30), seen.decode().replace("\r", "\n").strip().splitlines()[-1]
    finally:
        os.close(leader)


@pytest.mark.parametrize("phase", [b"stage: ", b"commit: ", b"verify: "])
def test_ctrl_c_takes_back_what_was_done(net: Net, phase: bytes) -> None:
    with relayed(net, 0.05):
        status, last = interrupted(net, phase, lambda: None)
    assert (status, last) == (130, "vmib: interrupted; every host is as before")
    assert net.rates() == [10_000, 10_000]
    assert not {"open", "valid", "awaitingConfirm"} & net.states("h1")
    assert net.vmib("verify", "real.xml", "10Mbit.xml").status == 0


def test_an_apply_that_is_asked_to_end_takes_back_what_was_done(net: Net) -> None:
    with relayed(net, 0.05):
        status, last = interrupted(net, b"verify: ", lambda: None, by=signal.SIGTERM)
    assert (status, last) == (130, "vmib: interrupted; every host is as before")
    assert net.rates() == [10_000, 10_000]


def test_ctrl_c_names_the_host_that_could_not_be_taken_back(net: Net) -> None:
    with relayed(net, 0) as (_, two):

        def lose() -> None:
            two.lost = True

        more = ("--timeout", "2", "--confirm-timeout", "2")
        status, last = interrupted(net, b"verify: ", lose, *more)
    assert status == 130
    assert f"interrupted; h2: agent {RELAYS}.2:1161: no answer" in last
    assert "it takes back what it did within 60 s" in last
    assert net.rate() == 10_000
    assert eventually(lambda: net.rates() == [10_000, 10_000])


def test_on_a_terminal_there_are_colours_unless_they_are_not_wanted(net: Net) -> None:
    def shown(*words: str, **environment: str) -> bytes:
        leader, terminal = pty.openpty()
        environment = net.environment | {"TERM": "xterm"} | environment
        process = subprocess.Popen(
            [VMIB, *words], cwd=net.directory, env=environment, stdout=terminal
        )
        os.close(terminal)
        seen = b""
        with suppress(OSError):
            while octets := os.read(leader, 4096):
                seen += octets
        os.close(leader)
        assert process.wait(10) == 0
        return seen

    words = ("plan", "real.xml", "20Mbit.xml")
    assert b"\x1b[33m~\x1b[0m shape alice" in shown(*words)
    assert b"\x1b[" not in shown(*words, NO_COLOR="1")
    assert b"\x1b[" not in shown(*words, "--color", "never")
    assert "\x1b[33m~\x1b[0m" in net.vmib(*words, "--color", "always").out


def test_a_reader_that_has_seen_enough_keeps_nothing_from_being_applied(net: Net) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = net.installed("apply", "real.xml", "20Mbit.xml", stdout=closed)
    assert (done.returncode, done.stderr) == (0, "")
    assert net.rates() == [20_000, 20_000]


def test_a_lab_s_real_file_is_the_one_that_it_was_made_from(made: Net) -> None:
    assert lab.serving(load_real(made.directory / "real.xml")) == NAME
    assert made.vmib("lab", "up", "real.xml", "--name", NAME).out.endswith(
        f"lab {NAME} is up already, nothing to do\n"
    )
