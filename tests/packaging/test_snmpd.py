"""The packaged agent below Debian's snmpd: neither is root, and nobody else gets at the socket."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from . import asking
from .agent_process import agent, logged
from .debian_tree import Tree

pytestmark = pytest.mark.packaging

EXAMPLE = "usr/share/doc/vmib-agent/examples/snmpd/vmib.conf"
PORT = 1610
CREATE = 'createUser vmib-admin SHA-256 "a long pass phrase" AES "another long one"\n'


@pytest.fixture(scope="module")
def master(tree: Tree) -> Iterator[Tree]:
    """A tree in which snmpd runs with the drop-in as the package wants it."""
    tree.run("apt-get", "-qq", "-y", "install", "snmpd")
    asking.equip(tree)
    tree.run("systemd-tmpfiles", "--create", "vmib-agent.conf")
    text = (tree.plain / EXAMPLE).read_text()
    ours = text.replace("agentXPerms 0700 0700\n", "").replace("#agentXPerms", "agentXPerms")
    drop_in = f"{ours}\nagentAddress udp:127.0.0.1:{PORT}\n"
    asking.put(tree, "/etc/snmp/snmpd.conf.d/vmib.conf", drop_in, 0o644)
    asking.put(tree, "/var/lib/snmp/snmpd.conf", CREATE)
    tree.run("chown", "-R", "Debian-snmp:Debian-snmp", "/var/lib/snmp")
    with (tree.plain / "etc/vmib/agent.toml").open("a") as config:
        config.write("listen = []\n[agentx]\nenabled = true\n")
    options = ("-LE", "i", "-u", "Debian-snmp", "-g", "Debian-snmp", "-f")
    process = subprocess.Popen(tree.inside("snmpd", *options), stderr=subprocess.DEVNULL)
    try:
        yield tree
    finally:
        tree.run("pkill", "-TERM", "-u", "Debian-snmp", "snmpd", check=False)
        process.wait(20)


def test_the_agent_registers_at_a_socket_that_only_it_and_root_reach(master: Tree) -> None:
    with agent(master):
        deadline = time.monotonic() + 30
        while "event=agentx-connected" not in logged(master):
            assert time.monotonic() < deadline, logged(master)
            time.sleep(0.2)
        address = f"127.0.0.1:{PORT}"
        asked = ("snmpget", "-OQUs", "-t", "5", "-u", "vmib-admin", address)
        assert "= normal" in master.run(*asked, "vmibHostAgentMode.0")
    owners = master.run("stat", "-c", "%A %U:%G", "/var/agentx", "/var/agentx/master")
    assert owners == "drwxr-x--- root:_vmib\nsrwxrwx--- Debian-snmp:_vmib\n"
