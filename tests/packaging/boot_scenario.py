"""What happens in the emulated machine: the agent is used under systemd, and facts are noted.

It is started by a unit of its own, leaves its facts as JSON on the last disk and switches off.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path

UNIT = "vmib-agent.service"
DROP_INS = Path("/etc/systemd/system/vmib-agent.service.d")
EXAMPLES = Path("/usr/share/doc/vmib-agent/examples")
RESULTS = Path("/run/results")
SHOWN = ("ActiveState", "SubState", "StatusText", "User", "NRestarts", "Result", "MainPID")


def run(*command: str, text: str = "", check: bool = True) -> str:
    """What a command prints."""
    done = subprocess.run(
        command,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stdout}")
    return done.stdout.strip()


def shown() -> dict[str, str]:
    """What systemd says of the agent."""
    lines = run("systemctl", "show", "-p", ",".join(SHOWN), UNIT).splitlines()
    return dict(line.split("=", 1) for line in lines)


def wait(found: Callable[[], bool], seconds: float) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, run("journalctl", "-u", UNIT, "-o", "cat")
        time.sleep(0.2)


def snmp(tool: str, *arguments: str) -> str:
    """What a tool of net-snmp prints; an emulated processor takes its time."""
    return run(tool, "-OQUs", "-r", "2", "-t", "20", "127.0.0.1", *arguments)


def add_machine(number: int, name: str) -> None:
    """A machine made of a namespace."""
    mac, device = f"02:00:00:00:00:0{number}", f"vif{number}.0"
    run("ip", "netns", "add", name)
    peer = ("peer", "name", "eth0", "address", mac, "netns", name)
    run("ip", "link", "add", device, "type", "veth", *peer)
    run("ip", "link", "set", device, "master", "br0", "up")
    for inside in ("lo", "eth0"):
        run("ip", "-n", name, "link", "set", inside, "up")
    vif = {"number": 0, "mac": mac, "host_device": device, "guest_device": "eth0"}
    machine = {"uuid": f"00000000-0000-4000-8000-{number:012d}", "name": name}
    machine |= {"namespace": f"/run/netns/{name}", "vifs": [vif]}
    Path(f"/etc/vmib/machines/{name}.json").write_text(json.dumps(machine))


def booted() -> dict[str, object]:
    """The agent as the boot has left it."""
    pid = shown()["MainPID"]
    status = Path(f"/proc/{pid}/status").read_text()
    wanted = ("Uid", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp")
    lines = (line.split(":") for line in status.splitlines())
    return {
        "shown": shown(),
        "process": {name: value.split() for name, value in lines if name in wanted},
        "uid": run("id", "-u", "_vmib"),
        "modules": run("lsmod").split("\n"),
        "bridged": run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables"),
    }


def reloaded() -> dict[str, object]:
    """The users are read again; the process stays."""
    before = shown()
    run("systemctl", "reload", UNIT)
    return {
        "before": before,
        "after": shown(),
        "mode": snmp("snmpget", "-Ov", "vmibHostAgentMode.0"),
    }


def used() -> dict[str, object]:
    """It does all that takes no entering of namespaces."""
    run("ip", "link", "add", "br0", "up", "type", "bridge")
    add_machine(1, "alice")
    wait(lambda: "alice" in snmp("snmpwalk", "vmibVmName"), 30)
    for direction in ("toVm", "fromVm"):
        snmp("snmpset", f"vmibShapeRate.1.1.{direction}", "u", "5000")
    snmp("snmpset", "vmibShapeDelay.1.1.toVm", "u", "20000")
    domain = ("vmibDomainName.1", "s", "lan", "vmibDomainDefaultAction.1", "i", "drop")
    row = ("vmibDomainRowStatus.1", "i", "createAndGo", "vmibVifDomain.1.1", "u", "1")
    snmp("snmpset", *domain, *row)
    return {
        "queues": run("tc", "qdisc", "show"),
        "rules": run("iptables-legacy", "-S", "FORWARD"),
        "bridged": run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables"),
        "sync": snmp("snmpget", "-Ov", "vmibDomainSync.1"),
        "capabilities": run("snmpget", "-Ov", "-t", "20", "127.0.0.1", "vmibHostCapabilities.0"),
    }


def ended_by_the_watchdog() -> dict[str, object]:
    """An agent that hangs is ended and started anew, with what its unit says by then."""
    DROP_INS.mkdir(exist_ok=True)
    (DROP_INS / "netns.conf").write_text((EXAMPLES / "netns.conf").read_text())
    run("systemctl", "daemon-reload")
    before = shown()
    os.kill(int(before["MainPID"]), signal.SIGSTOP)
    wait(lambda: shown()["NRestarts"] == "1" and shown()["ActiveState"] == "active", 300)
    return {
        "before": before,
        "after": shown(),
        "journal": run("journalctl", "-u", UNIT, "-o", "cat"),
        "queues": run("tc", "qdisc", "show"),
        "mode": snmp("snmpget", "-Ov", "vmibHostAgentMode.0"),
    }


def with_machines_of_namespaces() -> dict[str, object]:
    """With the drop-in it enters machines, also such as are made while it runs."""
    add_machine(2, "bob")
    wait(lambda: "bob" in snmp("snmpwalk", "vmibVmName"), 60)
    row = "2.1.ipv4.4.10.0.0.2"
    columns = (f"vmibAddrPrefixLength.{row}", "u", "24", f"vmibAddrRowStatus.{row}", "i", "4")
    snmp("snmpset", *columns)
    return {"addresses": run("ip", "-n", "bob", "-br", "address", "show", "eth0")}


def stopped() -> dict[str, object]:
    """Stopped, it leaves the network as it is."""
    run("systemctl", "stop", UNIT)
    return {
        "shown": shown(),
        "queues": run("tc", "qdisc", "show", "dev", "vif1.0"),
        "rules": run("iptables-legacy", "-S", "FORWARD"),
        "timeouts": run("journalctl", "-u", UNIT, "-o", "cat").count("Watchdog timeout"),
    }


def hypervisor_status() -> str:
    """What the agent says, or why it does not."""
    asked = ("snmpget", "-OQUs", "-t", "20", "127.0.0.1", "-Ov", "vmibHostHypervisorStatus.0")
    return run(*asked, check=False)


def with_libvirt() -> dict[str, object]:
    """The agent of a host of QEMU: libvirtd answers the agent's user, as a member of its group."""
    with Path("/etc/vmib/agent.toml").open("a") as config:
        config.write(Path("/root/hypervisor.toml").read_text())
    run("systemctl", "restart", UNIT)
    wait(lambda: hypervisor_status() == "down", 200)
    run("sh", "/root/use-libvirt")
    wait(lambda: hypervisor_status() == "up", 200)
    return {
        "kind": snmp("snmpget", "-Ov", "vmibHostHypervisor.0"),
        "groups": run("id", "-nG", "_vmib"),
        "mode": snmp("snmpget", "-Ov", "vmibHostAgentMode.0"),
        "shown": shown(),
        "libvirtd": run("systemctl", "is-active", "libvirtd.service"),
    }


def main() -> None:
    """All of it, in this order."""
    facts: dict[str, object] = {}
    parts = (booted, reloaded, used, ended_by_the_watchdog, with_machines_of_namespaces, stopped)
    for part in (*parts, with_libvirt):
        begun = time.monotonic()
        facts[part.__name__] = part()
        print(f"{part.__name__}: {time.monotonic() - begun:.1f} s", flush=True)
        (RESULTS / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    RESULTS.mkdir()
    try:
        main()
    except Exception:
        traceback.print_exc()
        (RESULTS / "failed").write_text(traceback.format_exc())
    (RESULTS / "journal").write_text(run("journalctl", "-b", "--no-pager"))
    subprocess.run(["tar", "-C", str(RESULTS), "-cf", "/dev/vdb", "."], check=False)
    subprocess.run(["systemctl", "poweroff", "--force", "--force"], check=False)
