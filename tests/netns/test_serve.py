"""`vmib serve` on a lab of two hosts: the page in Chromium, and what else is served."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from . import browser as chromium
from .browser import Browser
from .command_lab import ALICE, NAME, VMIB, Net, eventually
from .hosts import ROOT

pytestmark = [pytest.mark.netns, pytest.mark.snmp]

AXE = ROOT / ".cache" / "axe" / "axe.min.js"
ADDRESS = f"127.38.{os.getpid() % 250}.1"
INTERVAL = 0.5


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    net = Net(tmp_path_factory.mktemp("serve"))
    try:
        up = net.installed("lab", "up", "real.xml", "--name", NAME)
        assert up.returncode == 0, up.stderr
        yield net
    finally:
        down = net.installed("lab", "down", "--name", NAME)
        assert down.returncode == 0, down.stderr


class Served:
    """A running `vmib serve`."""

    def __init__(self, net: Net, port: int = 0) -> None:
        words = (*("--interval", str(INTERVAL)), "--timeout", "1")
        self.process = subprocess.Popen(
            [VMIB, "serve", "real.xml", "10Mbit.xml", "--listen", f"{ADDRESS}:{port}", *words],
            cwd=net.directory,
            env=net.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        matched = re.match(rf"http://{re.escape(ADDRESS)}:(\d+)/ ", self.said)
        assert matched, self.said
        self.port = int(matched[1])
        self.url = f"http://{ADDRESS}:{self.port}"

    def ask(self, path: str, method: str = "GET", **fields: str) -> tuple[int, Any, bytes]:
        """Status, header fields and body of an answer."""
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=10)
        try:
            connection.request(method, path, headers=fields)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def now(self) -> Any:
        """The network as JSON."""
        status, _, body = self.ask("/api/network")
        return json.loads(body) if status == 200 else None

    def flow(self, subject: str) -> Any:
        return next(each for each in self.now()["flows"] if each["subject"] == subject)

    def end(self, by: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Exit status and standard error."""
        if self.process.poll() is None:
            self.process.send_signal(by)
        _, err = self.process.communicate(timeout=15)
        return self.process.returncode, err


@contextmanager
def serving(net: Net, port: int = 0) -> Iterator[Served]:
    found = Served(net, port)
    try:
        assert eventually(lambda: found.now() is not None)
        yield found
    finally:
        if found.process.poll() is None:
            found.end(signal.SIGKILL)


@pytest.fixture
def net(made: Net) -> Net:
    """The lab with 10 Mbit/s towards alice and carol."""
    made.vmib("abort", "real.xml")
    made.as_described()
    return made


@pytest.fixture
def served(net: Net) -> Iterator[Served]:
    with serving(net) as found:
        yield found


def drift(net: Net, rate: str = "5mbit") -> None:
    """A stranger makes alice slow."""
    (root,) = json.loads(net.inside("h1", "tc", "-j", "qdisc", "show", "dev", ALICE))[:1]
    words = ("tc", "qdisc", "change", "dev", ALICE, "root", "handle", root["handle"], "tbf")
    net.inside("h1", *words, "rate", rate, "burst", "5000", "limit", "20000")


@contextmanager
def traffic(towards: str = "10.7.0.1", machine: str = "carol") -> Iterator[None]:
    """Some Mbit/s from one machine to another."""
    words = ("ping", "-q", "-i", "0.002", "-s", "1400", towards)
    process = subprocess.Popen(
        [VMIB, "lab", "exec", "--name", NAME, machine, "--", *words], stdout=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(15)


def test_values_move_when_the_network_changes(net: Net, served: Served) -> None:
    assert served.now()["worst"] is None
    found = served.flow("shape alice:0 receives")
    assert found["described"]["rate"] == found["configured"]["rate"] == 10_000
    assert found["actual"]["rate"] == 10_000
    net.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "4000")

    def set_by_hand() -> bool:
        found = served.flow("shape alice:0 receives")
        same = found["configured"]["rate"] == found["actual"]["rate"] == 4_000
        return same and not found["as_described"] and found["sync"] == "inSync"

    assert eventually(set_by_hand)
    assert [each["trouble"] for each in served.now()["problems"]] == ["not as described"]
    net.as_described()
    assert eventually(lambda: served.now()["worst"] is None)
    with traffic():
        assert eventually(
            lambda: served.flow("shape alice:0 receives")["counters"]["achieved_rate"] > 500
        )
    drift(net)
    assert eventually(lambda: served.flow("shape alice:0 receives")["sync"] == "drifted")
    assert served.flow("shape alice:0 receives")["actual"]["rate"] == 5_000
    texts = [each["text"] for each in served.now()["history"]]
    assert any(text.startswith("drifted: rate 10Mbit, reads back 5Mbit") for text in texts)


def test_a_host_that_does_not_answer_is_told_apart_and_comes_back(net: Net, served: Served) -> None:
    with net.silent("h2"):
        assert eventually(lambda: not served.now()["hosts"]["h2"]["reachable"])
        document = served.now()
        assert document["hosts"]["h1"]["reachable"]
        assert [each["trouble"] for each in document["problems"]] == ["unreachable"]
        assert served.flow("shape carol:0 receives")["counters"] is None
        net.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "4000")
        assert eventually(
            lambda: served.flow("shape alice:0 receives")["configured"]["rate"] == 4_000, 2
        )
    assert eventually(lambda: served.now()["hosts"]["h2"]["reachable"])


def test_a_transaction_that_is_open_is_told_with_its_end(net: Net, served: Served) -> None:
    assert net.vmib("apply", "real.xml", "20Mbit.xml", "--no-confirm").status == 0
    assert eventually(lambda: served.now()["hosts"]["h1"]["transaction"] is not None)
    transactions = [e for e in served.now()["problems"] if e["trouble"] == "transaction"]
    assert [each["host"] for each in transactions] == ["h1", "h2"]
    assert 0 < transactions[0]["seconds_left"] <= 600
    assert net.vmib("abort", "real.xml").status == 0
    assert eventually(lambda: served.now()["worst"] is None)


def test_probes_are_shown_beside_what_is_described(net: Net, served: Served) -> None:
    row = "1.1.ipv4.4.10.7.0.3"
    made = (f"vmibProbeRowStatus.{row}", "i", "createAndGo", f"vmibProbeInterval.{row}", "u", "1")
    net.snmp("snmpset", "h1", *made)
    try:
        assert eventually(lambda: any(each["measured"] for each in served.now()["probes"]))
        (probe,) = served.now()["probes"]
        assert (probe["machine"], probe["dest"], probe["peer"]) == ("alice", "10.7.0.3", "carol")
        assert 0 < probe["rtt_avg"] < 1_000_000
        assert probe["loss"] == 0
    finally:
        net.snmp("snmpset", "h1", f"vmibProbeRowStatus.{row}", "i", "destroy")


def packets(net: Net, host: str) -> int:
    """What the agent has received (snmpInPkts)."""
    (count,) = net.snmp("snmpget", host, ".1.3.6.1.2.1.11.1.0")
    return int(count)


def received(net: Net, seconds: float) -> int:
    """What an agent receives in a time, without the question itself."""
    before = packets(net, "h1")
    time.sleep(seconds)
    return packets(net, "h1") - before


def test_many_readers_cost_the_agents_as_much_as_one(net: Net, served: Served) -> None:
    alone = received(net, 4)
    assert alone > 20
    gone = threading.Event()

    def read() -> None:
        with urllib.request.urlopen(f"{served.url}/api/events") as stream:
            while not gone.is_set() and stream.readline():
                pass

    readers = [threading.Thread(target=read) for _ in range(10)]
    for reader in readers:
        reader.start()
    try:
        together = received(net, 4)
    finally:
        gone.set()
        for reader in readers:
            reader.join()
    assert together < alone * 1.3


def test_there_is_an_event_for_each_reading(served: Served) -> None:
    with urllib.request.urlopen(f"{served.url}/api/events", timeout=10) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        numbers = []
        while len(numbers) < 3:
            line = stream.readline()
            if line.startswith(b"data: "):
                numbers.append(json.loads(line[6:])["number"])
    assert numbers == sorted(set(numbers))


def test_nothing_can_be_changed_and_only_this_computer_is_meant(served: Served) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "CONNECT"):
        status, fields, _ = served.ask("/", method)
        assert (status, fields["Allow"]) == (405, "GET, HEAD")
    status, _, body = served.ask("/api/network", Host=f"rebound.example:{served.port}")
    assert (status, b"hosts" in body) == (421, False)
    status, fields, body = served.ask("/", "HEAD")
    assert (status, body) == (200, b"")
    assert fields["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")


def test_no_authentication_data_is_served(net: Net, served: Served) -> None:
    secrets = re.findall(r'"(.{8,})"', net.paths.credentials.read_text())
    assert secrets
    for path in ("/", "/page.js", "/api/network", "/picture.svg"):
        body = served.ask(path)[2].decode()
        assert not [secret for secret in secrets if secret in body]


def test_it_ends_as_others_do(net: Net) -> None:
    for by in (signal.SIGINT, signal.SIGTERM):
        with serving(net) as found:
            assert found.end(by) == (130, "vmib: interrupted\n")


def test_it_ends_when_asked_to_in_the_background_of_a_script(net: Net) -> None:
    words = [VMIB, "serve", "real.xml", "10Mbit.xml", "--listen", f"{ADDRESS}:0"]
    process = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *words],
        cwd=net.directory,
        env=net.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://")
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.terminate()
    assert process.communicate(timeout=15)[1] == "vmib: interrupted\n"
    assert process.returncode == 130


def test_an_address_for_everybody_takes_a_word_and_is_warned_of(net: Net) -> None:
    words = ("serve", "real.xml", "10Mbit.xml", "--listen", "0.0.0.0:0")
    refused = net.vmib(*words)
    assert (refused.status, refused.out) == (1, "")
    assert "0.0.0.0 is no loopback address: everybody who reaches it can read" in refused.err
    assert "see --allow-remote" in refused.err
    process = subprocess.Popen(
        [VMIB, *words, "--allow-remote"],
        cwd=net.directory,
        env=net.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://0.0.0.0:")
    process.terminate()
    err = process.communicate(timeout=15)[1]
    assert "0.0.0.0: everybody who reaches it can read the network, without password" in err


def test_an_address_that_is_taken_is_told(net: Net) -> None:
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        done = net.vmib("serve", "real.xml", "10Mbit.xml", "--listen", f"{ADDRESS}:{port}")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f"vmib: {ADDRESS} port {port}: Address already in use; choose another with --listen\n"
    )


needs_chromium = pytest.mark.skipif(
    not chromium.is_there(), reason="needs Chromium (Debian packages chromium, chromium-driver)"
)
WIDE, NARROW = (1280, 900), (320, 640)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with chromium.browser(port, tmp_path_factory.mktemp("chromium") / "profile") as found:
        yield found


@pytest.fixture
def page(opened: Browser, served: Served) -> Browser:
    """The page when it has shown the network for the first time, wide and light."""
    opened.resize(*WIDE)
    opened.prefer(prefers_color_scheme="light", prefers_reduced_motion="no-preference")
    opened.go(served.url)
    opened.wait("return document.querySelectorAll('#hosts tbody tr').length == 2")
    opened.log()
    return opened


def text_of(page: Browser, selector: str) -> str:
    found: str = page.run(
        "const node = document.querySelector(arguments[0]); return node ? node.innerText : ''",
        selector,
    )
    return found


def shows(page: Browser, selector: str, *words: str) -> None:
    """Wait until an element has all these words."""
    script = """
        const node = document.querySelector(arguments[0]);
        return Boolean(node) && arguments[1].every((word) => node.innerText.includes(word));
    """
    page.wait(script, selector, list(words))


@needs_chromium
def test_the_page_shows_everything_and_updates_by_itself(
    net: Net, served: Served, page: Browser
) -> None:
    assert text_of(page, "#title") == "10Mbit.xml on real.xml"
    assert "as described, and in sync" in text_of(page, "#summary")
    assert not page.run("return document.querySelector('#attention').checkVisibility()")
    shows(page, "#interfaces", "alice:0", "receives", "10Mbit", "in sync")
    shows(page, "#hosts", "h1", "h2", "netns up")
    net.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "4000")
    shows(page, "#problems", "not as described", "shape alice:0 receives", "rate 4Mbit → 10Mbit")
    shows(page, "#interfaces", "4Mbit", "described: 10Mbit", "not as described")
    shows(page, "#summary", "1 warning")
    assert page.run("return document.title") == "(1 warning) 10Mbit.xml on real.xml - vMIB"
    shows(page, "#history", "rate 10Mbit → 4Mbit by vmib")
    page.wait("return document.querySelector('#picture').shadowRoot.textContent.includes('≠')")
    with traffic():
        page.wait(
            """return [...document.querySelectorAll('#interfaces tbody tr')].some((row) =>
                row.innerText.includes('alice:0') && /[1-9.]+Mbit\\s+\\d+ %/.test(row.innerText))"""
        )
    net.as_described()
    shows(page, "#summary", "as described, and in sync")
    assert page.log() == []


@needs_chromium
def test_hosts_that_are_lost_and_a_server_that_ends_are_told(
    net: Net, served: Served, page: Browser
) -> None:
    drift(net)
    shows(page, "#interfaces", "5Mbit", "drifted", "missing: tc qdisc change")
    net.as_described()
    with net.silent("h2"):
        shows(page, "#problems", "unreachable", "h2")
        shows(page, "#history .text.bad", "unreachable: agent ")
        shows(page, "#interfaces", "carol:0", "unreachable")
        assert "?" in page.run("return document.querySelector('#picture').shadowRoot.textContent")
    shows(page, "#summary", "as described, and in sync")
    served.end()
    shows(page, "#summary", "vmib serve does not answer")
    with serving(net, served.port):
        page.wait("return document.querySelector('#summary').className == 'state good'", seconds=20)


def connections(port: int) -> int:
    """The connections that are open to a port (proc_net_tcp.txt of Linux: state 01)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    found = [line.split() for line in lines]
    return sum(line[1].endswith(f":{port:04X}") and line[3] == "01" for line in found)


@needs_chromium
def test_a_page_that_nobody_sees_holds_no_connection_and_still_learns(
    net: Net, served: Served, page: Browser
) -> None:
    def hide(hidden: str) -> None:
        page.run(
            f"""Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}});
            document.dispatchEvent(new Event('visibilitychange'))"""
        )

    assert eventually(lambda: connections(served.port) == 1)
    net.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "4000")
    shows(page, "#summary", "1 warning")
    hide("true")
    assert eventually(lambda: connections(served.port) == 0)
    net.as_described()
    assert eventually(lambda: served.now()["worst"] is None)
    page.wait("return !document.title.includes('warning')", seconds=15)
    hide("false")
    assert eventually(lambda: connections(served.port) == 1)


@needs_chromium
def test_the_page_asks_nobody_else(page: Browser, served: Served) -> None:
    asked = page.run("return performance.getEntriesByType('resource').map((each) => each.name)")
    assert asked
    assert {url for url in asked if not url.startswith(f"{served.url}/")} == set()
    assert page.run("return [document.cookie, localStorage.length]") == ["", 0]
    script = "const s = document.createElement('script'); s.textContent = 'window.told = 1';"
    assert page.run(f"{script} document.body.append(s); return window.told") is None
    (refused,) = page.log()
    assert "violates the following Content Security Policy directive" in refused["message"]


@needs_chromium
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_read_by_everybody(
    net: Net, page: Browser, size: tuple[int, int], scheme: str, tmp_path: Path
) -> None:
    """By axe-core's rules (WCAG 2.2 A and AA, and good practice), well and in all trouble."""
    if not AXE.exists():
        pytest.skip("needs axe-core: make page-tools (npm)")
    page.resize(*size)
    page.prefer(prefers_color_scheme=scheme)
    page.run(AXE.read_text())

    def violations() -> list[str]:
        found = page.run("return axe.run()")
        assert len(found["passes"]) > 20
        return [
            f"{each['id']} ({each['impact']}): {node['html']}"
            for each in found["violations"]
            for node in each["nodes"]
        ]

    assert violations() == []
    drift(net)
    assert net.vmib("apply", "real.xml", "20Mbit.xml", "--no-confirm").status == 0
    with net.silent("h2"):
        shows(page, "#problems", "unreachable", "transaction", "not as described")
        time.sleep(3)  # until what has changed is no longer marked: colours are judged
        assert violations() == []
        page.picture(tmp_path / f"{scheme}-{size[0]}.png", whole=True)
    width = page.run("return [document.scrollingElement.scrollWidth, innerWidth]")
    assert width == [size[0], size[0]]


@needs_chromium
def test_colours_follow_the_reader_s_scheme(page: Browser) -> None:
    def ground() -> str:
        found: str = page.run("return getComputedStyle(document.body).backgroundColor")
        return found

    assert ground() == "rgb(246, 246, 243)"
    page.prefer(prefers_color_scheme="dark")
    assert ground() == "rgb(21, 24, 28)"


@needs_chromium
@pytest.mark.parametrize(
    ("motion", "animation"), [("no-preference", "changed"), ("reduce", "none")]
)
def test_what_changes_is_marked_but_not_for_who_wants_no_motion(
    net: Net, page: Browser, motion: str, animation: str
) -> None:
    page.prefer(prefers_reduced_motion=motion)
    net.snmp("snmpset", "h1", "vmibShapeRate.1.1.toVm", "u", "4000")
    page.wait("return document.querySelector('.changed')")
    style = "return getComputedStyle(document.querySelector('.changed')).animationName"
    assert page.run(style) == animation


@needs_chromium
def test_the_page_can_be_used_with_the_keyboard(page: Browser) -> None:
    def press(key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            code = {"Tab": 9, "Enter": 13, " ": 32}[key]
            page.develop("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code)

    def focused() -> str:
        script = "const at = document.activeElement; return at.id || at.className || at.tagName"
        found: str = page.run(script)
        return found

    order = []
    for _ in range(5):
        press("Tab")
        order.append(focused())
    assert order == ["skip", "picture", "words", "all", "A"]
    page.run("document.querySelector('.skip').focus()")
    outline: str = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


@needs_chromium
def test_rows_are_found_by_words(page: Browser) -> None:
    def rows() -> list[str]:
        found: list[str] = page.run(
            """return [...document.querySelectorAll('#interfaces tbody tr')].map((row) =>
                row.innerText.split('\\n')[0] + ' ' + row.cells[1].innerText)"""
        )
        return found

    def enter(words: str) -> None:
        page.run(
            """const field = document.querySelector('#words'); field.value = arguments[0];
            field.dispatchEvent(new Event('input', {bubbles: true}))""",
            words,
        )

    assert rows() == ["alice:0 receives", "carol:0 receives"]
    page.run("document.querySelector('#all').click()")
    assert len(rows()) == 6
    enter("H2 receives")
    assert rows() == ["carol:0 receives"]
    enter("nothing like it")
    assert rows() == []
    assert "No row has all these words." in text_of(page, "section:has(#interfaces)")
    enter("")
    page.run("document.querySelector('#all').click()")
