"""What a client of a real dnsmasq gets of what the agent has written for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from vmib_agent.dhcp_courier import DhcpCourier
from vmib_agent.domains import Domain, DomainVif
from vmib_agent.ledger import Ledger
from vmib_agent.network import Address, Route, Stack
from vmib_agent.ports import Presence

pytestmark = pytest.mark.netns

MAC = "00:16:3e:00:00:01"
DOMAIN = Domain(
    "6695eb01-f6a4-8304-79aa-97f2502e193f",
    "web",
    Presence.RUNNING,
    3,
    (DomainVif(0, MAC, "vnet0"),),
)
FIRST, SECOND = (Address(0, ip_interface(f"192.0.2.{n}/24")) for n in (1, 7))
ROUTE = Route(ip_network("203.0.113.0/24"), via=ip_address("192.0.2.9"))
ON_LINK = Route(ip_network("10.0.0.0/8"), link=0)

CLIENT = """#!/bin/sh
[ "$1" != bound ] || echo "$ip $staticroutes"
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture
def lease(tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A real dnsmasq; called, the fixture tells what it gives to a client."""
    if not shutil.which("dnsmasq") or not shutil.which("busybox"):
        pytest.skip("needs dnsmasq and busybox (Debian: dnsmasq-base, busybox-static)")
    for kind in ("hosts", "options"):
        (tmp_path / "dhcp" / kind).mkdir(parents=True)
    script = tmp_path / "client"
    script.write_text(CLIENT)
    script.chmod(0o755)
    server, client = (f"vmtd-{os.getpid()}-{end}" for end in "sc")
    inside = ("ip", "netns", "exec")
    command = [*inside, server, "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null"]
    command += ["--port=0", "--log-facility=-", "--user=root", "--interface=va"]
    command += ["--bind-interfaces", "--dhcp-range=192.0.2.0,static", "--pid-file"]
    command += [f"--dhcp-leasefile={tmp_path / 'leases'}"]
    command += [f"--dhcp-hostsdir={tmp_path}/dhcp/hosts", f"--dhcp-optsdir={tmp_path}/dhcp/options"]
    process = None
    try:
        for name in (server, client):
            run("ip", "netns", "add", name)
        peer = ("peer", "name", "vb", "address", MAC, "netns", client)
        run("ip", "-n", server, "link", "add", "va", "type", "veth", *peer)
        run("ip", "-n", server, "addr", "add", "192.0.2.254/24", "dev", "va")
        run("ip", "-n", server, "link", "set", "va", "up")
        run("ip", "-n", client, "link", "set", "vb", "up")
        with (tmp_path / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        asks = (
            "busybox",
            "udhcpc",
            "-n",
            "-q",
            "-f",
            "-i",
            "vb",
            "-s",
            script,
            "-t",
            "3",
            "-T",
            "1",
        )
        yield lambda: run(*inside, client, *asks, "-O", "staticroutes")
        assert process.poll() is None, (tmp_path / "log").read_text()
    finally:
        if process is not None:
            process.kill()
            process.wait(10)
        for name in (server, client):
            run("ip", "netns", "del", name)


def test_a_client_of_a_real_dnsmasq_gets_what_was_written_last(
    tmp_path: Path, lease: Callable[[], str]
) -> None:
    def gets(words: str) -> None:
        end = time.monotonic() + 20
        while words not in (found := lease()):
            assert time.monotonic() < end, found + (tmp_path / "log").read_text()

    (tmp_path / "state").mkdir(mode=0o700)
    ledger = Ledger(tmp_path / "state" / "guests.json")
    sent = DhcpCourier(tmp_path / "dhcp", ledger, lambda it: it, lambda *_: True)
    sent.bring(DOMAIN, Stack(frozenset({FIRST}), frozenset({ROUTE})))
    gets("192.0.2.1 203.0.113.0/24 192.0.2.9\n")
    sent.bring(DOMAIN, Stack(frozenset({SECOND}), frozenset({ON_LINK})))
    gets("192.0.2.7 10.0.0.0/8 0.0.0.0\n")
    sent.bring(DOMAIN, Stack(frozenset({SECOND})))
    gets("192.0.2.7 \n")
