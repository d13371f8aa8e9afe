"""The packages on a Debian 12 that has nothing else: installed, used, removed, purged."""

from __future__ import annotations

import json

import pytest

from vmib import machines
from vmib.machines import Machine, MachineVif

from . import asking, debian_tree, units
from .agent_process import agent, logged
from .asking import add_user, put
from .debian_tree import Tree

pytestmark = pytest.mark.packaging

MACHINES = ("alice", "bob")
REAL = """\
<real xmlns="urn:vmib:1">
  <host id="here" hypervisor="netns">
    <agent address="127.0.0.1" user="ann"/>
    <machine name="alice"><vif mac="02:00:00:00:00:01"/></machine>
    <machine name="bob"><vif mac="02:00:00:00:00:02"/></machine>
  </host>
</real>
"""
VIRTUAL = """\
<virtual xmlns="urn:vmib:1">
  <site id="lan" subnet="10.0.0.0/24">
    <member machine="alice" address="10.0.0.1"/>
    <member machine="bob" address="10.0.0.2"/>
  </site>
  <link a="alice" b="bob" rate="10Mbit"/>
</virtual>
"""
CREDENTIALS = '[here]\nauth = "a long pass phrase"\npriv = "another long one"\n'


@pytest.fixture(scope="module")
def installed(tree: Tree) -> Tree:
    """The tree with two machines made of namespaces, and what asks the agent."""
    asking.equip(tree)
    tree.run("systemd-tmpfiles", "--create", "vmib-agent.conf")  # as every boot does
    put(tree, "/root/real.xml", REAL)
    put(tree, "/root/virtual.xml", VIRTUAL)
    put(tree, "/root/credentials.toml", CREDENTIALS)
    tree.run("ip", "link", "add", "br0", "up", "type", "bridge")
    for number, name in enumerate(MACHINES, 1):
        add_machine(tree, number, name)
    return tree


def add_machine(tree: Tree, number: int, name: str) -> None:
    mac, device = f"02:00:00:00:00:0{number}", f"vif{number}.0"
    tree.run("ip", "netns", "add", name)
    peer = ("peer", "name", "eth0", "address", mac, "netns", name)
    tree.run("ip", "link", "add", device, "type", "veth", *peer)
    tree.run("ip", "link", "set", device, "master", "br0", "up")
    for inside in ("lo", "eth0"):
        tree.run("ip", "-n", name, "link", "set", inside, "up")
    uuid = f"00000000-0000-4000-8000-{number:012d}"
    vif = MachineVif(0, mac, device, "eth0")
    text = machines.dumps(Machine(uuid, name, f"/run/netns/{name}", (vif,)))
    put(tree, f"/etc/vmib/machines/{name}.json", text, 0o644)


def snmp(tree: Tree, tool: str, *arguments: str, check: bool = True) -> str:
    options = ("-OQUs", "-r", "1", "-t", "5")
    return tree.run(tool, *options, "127.0.0.1", *arguments, check=check).strip()


def stat(tree: Tree, path: str) -> str:
    return tree.run("stat", "-c", "%A %U:%G", path).strip()


def test_what_the_agent_owns_is_its_own_and_what_it_reads_is_not(installed: Tree) -> None:
    assert stat(installed, "/var/lib/vmib") == "drwx------ _vmib:_vmib"
    assert stat(installed, "/etc/vmib/agent.toml") == "-rw-r----- root:_vmib"
    assert stat(installed, "/run/xtables.lock") == "-rw-r----- root:_vmib"
    assert installed.run("getent", "passwd", "_vmib").strip().endswith("/usr/sbin/nologin")
    assert installed.run("systemctl", "is-enabled", "vmib-agent").strip() == "enabled"


def test_commands_pages_completion_and_modules_are_where_they_are_looked_for(
    installed: Tree,
) -> None:
    for command in ("vmib", "vmib-agent", "/usr/lib/nagios/plugins/check_vmib"):
        assert installed.run(command, "--version")
    for page in ("man1/vmib.1", "man8/vmib-agent.8", "man5/vmib-agent.toml.5"):
        assert installed.file(f"/usr/share/man/{page}.gz").is_file()
    assert installed.run("vmib", "mib-path").strip() == "/usr/share/snmp/mibs"
    translated = installed.run("snmptranslate", "-On", "VMIB-MIB::vmibHostAgentMode.0")
    assert translated.startswith(".1.3.6.1.4.1.")
    assert "agent.toml" in installed.file("/var/lib/dpkg/info/vmib-agent.conffiles").read_text()
    assert "listen: 127.0.0.1:161" in installed.run("vmib-agent", "check-config")


def test_python_finds_the_manager_and_debians_own_pysnmp_stays_debians(installed: Tree) -> None:
    installed.run("python3", "-c", "from vmib_manager import Manager, load")
    asked = "import importlib.util as u; print(u.find_spec('pysnmp'))"
    assert installed.run("python3", "-c", asked).strip() == "None"


def test_a_fresh_agent_answers_nobody_until_somebody_is_added(installed: Tree) -> None:
    with agent(installed):
        assert "no users, so nobody is answered" in logged(installed)
        assert "Unknown user name" in snmp(installed, "snmpget", "vmibHostAgentMode.0", check=False)
        heard_at = installed.run("ss", "-Hlun", "sport = :161").split()
        assert {"127.0.0.1:161", "[::1]:161"} <= set(heard_at)
        assert "0.0.0.0:161" not in heard_at
        add_user(installed)
        installed.run("pkill", "-HUP", "-u", "_vmib", "-f", "vmib-agent run")
        assert snmp(installed, "snmpget", "-Ov", "vmibHostAgentMode.0") == "normal"


def test_without_the_lock_of_iptables_there_are_no_filters_and_it_says_why(
    installed: Tree,
) -> None:
    installed.run("chgrp", "root", "/run/xtables.lock")
    with agent(installed):
        reason = "/run/xtables.lock cannot be opened: Permission denied"
        assert f'event=no-table table="iptables -t filter" reason="{reason}"' in logged(installed)
        found = logged(installed).partition('found="')[2].partition('"')[0].split()
        assert "links" in found
        assert "filters" not in found
    installed.run("systemd-tmpfiles", "--create", "vmib-agent.conf")


def test_with_the_units_capabilities_it_shapes_filters_and_says_what_it_cannot(
    installed: Tree,
) -> None:
    add_user(installed)
    with agent(installed):
        told = installed.run("snmpget", "-Ov", "127.0.0.1", "vmibHostCapabilities.0")
        for name in ("shapeToVm", "shapeFromVm", "links", "switches", "filters", "nat", "routes"):
            assert f" {name}(" in told
        assert "addresses(" not in told
        assert "addresses" in logged(installed).rpartition("lacking=")[2].partition("\n")[0]
        for direction in ("toVm", "fromVm"):
            snmp(installed, "snmpset", f"vmibShapeRate.1.1.{direction}", "u", "5000")
        (queue,) = json.loads(installed.look("tc", "-j", "qdisc", "show", "dev", "vif1.0", "root"))
        assert (queue["kind"], queue["options"]["rate"]) == ("tbf", 625_000)
        domain = ("vmibDomainName.1", "s", "lan", "vmibDomainDefaultAction.1", "i", "drop")
        row = ("vmibDomainRowStatus.1", "i", "createAndGo", "vmibVifDomain.1.1", "u", "1")
        snmp(installed, "snmpset", *domain, *row)
        assert "-j VMIB-" in installed.look("iptables-legacy", "-S", "FORWARD")
        assert snmp(installed, "snmpget", "-Ov", "vmibDomainSync.1") == "inSync"
        bridged = "/proc/sys/net/bridge/bridge-nf-call-iptables"
        assert installed.run("cat", bridged).strip() == "1"
        refused = ("vmibAddrPrefixLength.1.1.ipv4.4.10.0.0.1", "u", "24")
        refused += ("vmibAddrRowStatus.1.1.ipv4.4.10.0.0.1", "i", "createAndGo")
        assert "resourceUnavailable" in snmp(installed, "snmpset", *refused, check=False)


def test_with_the_drop_in_for_namespaces_machines_get_their_addresses(installed: Tree) -> None:
    add_user(installed)
    files = ("/root/real.xml", "/root/virtual.xml")
    credentials = ("--credentials", "/root/credentials.toml")
    with agent(installed, units.FOR_NAMESPACES):
        installed.run("vmib", "apply", *credentials, *files)
        installed.run("vmib", "verify", *credentials, *files)
        alice = f"--net={installed.root}/run/netns/alice"
        pinged = installed.look("nsenter", alice, "ping", "-c", "1", "-W", "2", "10.0.0.2")
        assert " 0% packet loss" in pinged


def test_removed_it_leaves_the_network_or_takes_it_along_as_is_answered(installed: Tree) -> None:
    question = "vmib-agent vmib-agent/clean-up boolean"
    installed.run("apt-get", "-qq", "-y", "remove", "vmib-agent")
    assert "VMIB-" in installed.look("iptables-legacy", "-S")
    assert stat(installed, "/var/lib/vmib/state.json").endswith("_vmib:_vmib")
    assert stat(installed, "/etc/vmib/agent.toml")
    debian_tree.install(installed)
    with agent(installed, units.FOR_NAMESPACES):
        assert "lan" in snmp(installed, "snmpwalk", "vmibDomainName")
    installed.run("debconf-set-selections", text=f"{question} true\n")
    installed.run("apt-get", "-qq", "-y", "remove", "vmib-agent")
    assert "VMIB-" not in installed.look("iptables-legacy", "-S")
    assert "tbf" not in installed.look("tc", "qdisc", "show")


def test_purged_it_leaves_nothing_but_its_user(installed: Tree) -> None:
    installed.run("sh", "-c", "rm -f /etc/vmib/machines/*.json")
    installed.run("apt-get", "-qq", "-y", "purge", "vmib-agent", "vmib")
    left = installed.run("find", "/etc", "/usr", "/lib", "/var", "-name", "*vmib*").split()
    ours = [path for path in left if not path.startswith(("/var/cache", "/var/lib/systemd"))]
    assert ours == []
