"""What else could shape the interfaces of a host: `tc -batch`, `snmpset` processes, Mininet."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from common import Lab

from vmib import objects
from vmib_manager import lab_spec
from vmib_manager.sync import Manager

BURST, QUEUE = 5000, 62_500
"""Octets of the bucket and of the queue that vMIB gives 10 Mbit/s by itself."""

Queues = Counter[tuple[Any, ...]]


class OtherResult(Exception):
    """Two ways that were to do the same did not."""


def queues(host: Lab) -> Queues:
    """What is shaped on a host: every TBF with its parameters, every ingress qdisc and redirect."""
    found: Queues = Counter()
    for qdisc in json.loads(host.inside("tc", "-j", "qdisc", "show")):
        if qdisc["kind"] == "tbf":
            options = qdisc["options"]
            kept = [options.get(name) for name in ("rate", "burst", "lat")]
            found["tbf", qdisc["handle"], "root" in qdisc, *kept] += 1
        elif block := qdisc.get("ingress_block"):
            found["ingress",] += 1
            filters = host.inside("tc", "filter", "show", "block", str(block))
            found["redirect",] += filters.count("mirred (Egress Redirect to device")
    return found


def _batches(machines: int) -> tuple[str, str]:
    """For `ip -batch` the ifbs, for `tc -batch` qdiscs and redirects."""
    devices, shapes = [], []
    for n in range(1, machines + 1):
        vif, ifb, block = f"vif{n}.0", f"bench{n}", 1000 + n
        tbf = f"handle 76f8: tbf rate 10mbit burst {BURST} limit {QUEUE}"
        devices += [f"link add name {ifb} type ifb", f"link set {ifb} up group 77 alias {vif}"]
        shapes += [
            f"qdisc add dev {vif} root {tbf}",
            f"qdisc add dev {ifb} root {tbf}",
            f"qdisc add dev {vif} ingress_block {block} ingress",
            f"filter add block {block} protocol all pref 30448 u32 match u32 0 0"
            f" action mirred egress redirect dev {ifb}",
        ]
    return "\n".join(devices) + "\n", "\n".join(shapes) + "\n"


def tc_batch(host: Lab, machines: int, repeats: int, expected: Queues) -> dict[str, float]:
    """The median of shaping by batches, on a host without agent and without shaping.

    Raises `OtherResult` unless the kernel then has what is expected.
    """
    devices, shapes = host.directory / "ip.batch", host.directory / "tc.batch"
    texts = _batches(machines)
    devices.write_text(texts[0])
    shapes.write_text(texts[1])
    removal = [
        f"qdisc del dev vif{n}.0 {place}"
        for n in range(1, machines + 1)
        for place in ("root", "ingress")
    ]
    (host.directory / "removal").write_text("\n".join(removal) + "\n")
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        host.inside("sh", "-ec", f"ip -batch {devices}; tc -batch {shapes}")
        times.append(time.perf_counter() - began)
        if queues(host) != expected:
            raise OtherResult(f"tc -batch made {queues(host)}, vmib {expected}")
        host.inside("tc", "-batch", str(host.directory / "removal"))
        host.inside("ip", "link", "del", "group", "77")
    return {"seconds": median(times)}


def snmpset(host: Lab, manager: Manager, text: str) -> float:
    """The seconds that all rates of a virtual file take, a process of net-snmp for each row."""
    (plan,) = manager.plan(host.model(text)).changed
    shapes = [change for change in plan.changes if change.table.name == "vmibShapeTable"]
    agent = host.real.hosts[0].agent
    with TemporaryDirectory(prefix="vmib-bench-") as directory:
        environment = os.environ | {"SNMPCONFPATH": _without_mibs(host, Path(directory))}
        began = time.perf_counter()
        for change in shapes:
            suffix = change.table.encode_index(change.key)
            instance = ".".join(map(str, (*objects.vmibShapeRate.oid, *suffix)))
            value = str(change.after.rate)
            where = f"{agent.address}:{agent.port}"
            command = ["snmpset", "-m", "", "-On", where, f".{instance}", "u", value]
            subprocess.run(command, check=True, capture_output=True, env=environment)
        return time.perf_counter() - began


def _without_mibs(host: Lab, directory: Path) -> str:
    """A directory with the lab's snmp.conf, which makes the tools read no MIB modules."""
    lines = (lab_spec.paths(host.name).snmp / "snmp.conf").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("mib")]
    (directory / "snmp.conf").write_text("\n".join(kept) + "\n")
    return str(directory)


def mininet(machines: int) -> dict[str, float] | None:
    """The seconds that Mininet takes for so many links; None where it is not installed."""
    python = Path("/usr/bin/python3")
    if shutil.which("mn") is None or not python.exists():
        return None
    script = Path(__file__).with_name("mininet_peer.py")
    done = subprocess.run(
        ["unshare", "--net", str(python), str(script), str(machines)],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
    )
    times: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return times
