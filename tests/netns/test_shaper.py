"""Shaping on the running kernel, judged by tc and by a clock."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from vmib.errors import Unavailable
from vmib.impairment import Impairment
from vmib_agent.netlink import Message, Rtnetlink, in_namespace
from vmib_agent.ports import ApplyError
from vmib_agent.qdiscs import EMPTY, Tree
from vmib_agent.shaper import ALL, Shaper
from vmib_agent.shaping import compile_tree
from vmib_agent.shapingstate import ShapedVif, VifState, diff

pytestmark = pytest.mark.netns

MTU = 1500
FRAME = 1514
UDP_HEADERS = 42


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Lab:
    """A host with the end `va` of a cable to a guest, each in a namespace of its own."""

    def __init__(self, name: str) -> None:
        self.host, self.guest = f"vmt-{name}-h", f"vmt-{name}-g"
        self.vif = ShapedVif("va", "vmifb-va")

    def __enter__(self) -> Lab:
        for namespace in (self.host, self.guest):
            run("ip", "netns", "add", namespace)
        run(
            "ip",
            "-n",
            self.host,
            "link",
            "add",
            "va",
            "type",
            "veth",
            "peer",
            "name",
            "vb",
            "netns",
            self.guest,
        )
        for namespace, device, number in ((self.host, "va", 1), (self.guest, "vb", 2)):
            run("ip", "-n", namespace, "addr", "add", f"10.0.0.{number}/8", "dev", device)
            run("ip", "-n", namespace, "addr", "add", f"fd00::{number}/64", "dev", device, "nodad")
            run("ip", "-n", namespace, "link", "set", device, "up")
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        macs = {
            namespace: json.loads(run("ip", "-j", "-n", namespace, "link", "show", "dev", device))
            for namespace, device in ((self.host, "va"), (self.guest, "vb"))
        }
        for address in ("10.0.0.2", "10.0.0.3", "10.0.7.7", "fd00::2", "fd00::3"):
            run(
                "ip",
                "-n",
                self.host,
                "neigh",
                "replace",
                address,
                "dev",
                "va",
                "lladdr",
                macs[self.guest][0]["address"],
            )
        for address in ("10.0.0.1", "fd00::1"):
            run(
                "ip",
                "-n",
                self.guest,
                "neigh",
                "replace",
                address,
                "dev",
                "vb",
                "lladdr",
                macs[self.host][0]["address"],
            )
        for address in ("10.0.0.3", "10.0.7.7", "fd00::3"):
            bits = "128" if ":" in address else "32"
            run(
                "ip",
                "-n",
                self.guest,
                "addr",
                "add",
                f"{address}/{bits}",
                "dev",
                "vb",
                *(["nodad"] if bits == "128" else []),
            )
        self.shaper = Shaper(Path("/run/netns") / self.host)
        return self

    def __exit__(self, *_: object) -> None:
        self.shaper.close()
        for namespace in (self.host, self.guest):
            run("ip", "netns", "del", namespace)

    def within(self, namespace: str, work: Callable[[], Any]) -> Any:
        return in_namespace(Path("/run/netns") / namespace, work)

    def socket(self, namespace: str, family: int = socket.AF_INET) -> socket.socket:
        made = self.within(namespace, lambda: socket.socket(family, socket.SOCK_DGRAM))
        assert isinstance(made, socket.socket)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        return made

    def tc(self, *command: str) -> Any:
        return json.loads(run("tc", "-j", "-s", "-n", self.host, *command) or "[]")

    def qdiscs(self, device: str = "va") -> dict[str, dict[str, Any]]:
        return {item["handle"]: item for item in self.tc("qdisc", "show", "dev", device)}

    def want(self, to_vm: Tree = EMPTY, from_vm: Tree = EMPTY) -> list[str]:
        """Make it so; returns the steps that were taken, and leaves none to take."""
        wanted = {self.vif: VifState(to_vm=to_vm, from_vm=from_vm)}
        steps = diff(wanted, self.shaper.read([self.vif]))
        self.shaper.apply(steps)
        there = self.shaper.read([self.vif])[self.vif]
        assert (there.to_vm, there.from_vm) == (to_vm, from_vm)
        assert diff(wanted, {self.vif: there}) == []
        return [step.describe() for step in steps]

    def flood(
        self, source: str, target: str, seconds: float, size: int = MTU - 28, port: int = 5001
    ) -> float:
        """Send UDP from a namespace as fast as it goes; layer-2 bit/s that arrive, steadily."""
        family = socket.AF_INET6 if ":" in target else socket.AF_INET
        headers = 62 if family == socket.AF_INET6 else 42
        other = self.guest if source == self.host else self.host
        receiver = self.socket(other, family)
        receiver.bind((target, port))
        receiver.setblocking(False)
        sender = self.socket(source, family)
        sender.connect((target, port))
        stop = threading.Event()
        payload = bytes(size - (headers - UDP_HEADERS))

        def send() -> None:
            while not stop.is_set():
                try:
                    sender.send(payload)
                except OSError:
                    time.sleep(0.001)

        thread = threading.Thread(target=send)
        thread.start()
        arrived: list[float] = []
        end = time.monotonic() + seconds
        try:
            while (now := time.monotonic()) < end:
                if select.select([receiver], [], [], end - now)[0]:
                    receiver.recv(2000)
                    arrived.append(time.monotonic())
        finally:
            stop.set()
            thread.join()
            sender.close()
            receiver.close()
        skip = len(arrived) // 5
        kept = arrived[skip:]
        octets = (len(kept) - 1) * (len(payload) + headers)
        return octets * 8 / (kept[-1] - kept[0])


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(str(os.getpid())) as made:
        yield made


def test_a_rate_alone_is_one_tbf_with_the_exact_values(lab: Lab) -> None:
    tree = compile_tree(Impairment(rate=10_000, burst=8000, queue_limit=30_001), {}, MTU)
    steps = lab.want(tree)
    assert len(steps) == 1
    shown = lab.qdiscs()["76f8:"]
    assert shown["kind"] == "tbf"
    assert shown["root"] is True
    assert shown["options"]["rate"] == 1_250_000
    assert shown["options"]["burst"] == 8000
    assert json.dumps(shown["options"]).count("lat") == 1


@pytest.mark.parametrize("kbps", [1000, 20_000])
def test_traffic_to_the_machine_has_the_rate(lab: Lab, kbps: int) -> None:
    lab.want(compile_tree(Impairment(rate=kbps), {}, MTU))
    assert lab.flood(lab.host, "10.0.0.2", 3) == pytest.approx(kbps * 1000, rel=0.02)


def test_traffic_from_the_machine_has_the_rate(lab: Lab) -> None:
    lab.want(from_vm=compile_tree(Impairment(rate=5000), {}, MTU))
    assert lab.flood(lab.guest, "10.0.0.1", 3) == pytest.approx(5_000_000, rel=0.02)
    assert lab.flood(lab.host, "10.0.0.2", 1) > 20_000_000


def test_from_vm_is_an_ifb_of_ours_behind_a_hook_of_ours(lab: Lab) -> None:
    lab.want(from_vm=compile_tree(Impairment(rate=5000), {}, MTU))
    link = json.loads(run("ip", "-j", "-d", "-n", lab.host, "link", "show", "dev", "vmifb-va"))[0]
    assert link["ifalias"] == "vmib:va"
    assert link["linkinfo"]["info_kind"] == "ifb"
    assert lab.qdiscs()["ffff:"]["kind"] == "ingress"
    assert lab.qdiscs()["ffff:"]["ingress_block"] >> 24 == 0x76
    assert "76f8:" in lab.qdiscs("vmifb-va")


def test_removal_leaves_nothing(lab: Lab) -> None:
    before = run("ip", "-n", lab.host, "-br", "link"), lab.tc("qdisc", "show")
    tree = compile_tree(Impairment(rate=5000), {ip_network("10.0.0.2"): Impairment(rate=1)}, MTU)
    lab.want(tree, tree)
    assert len(lab.tc("qdisc", "show")) > len(before[1])
    lab.want()
    assert run("ip", "-n", lab.host, "-br", "link") == before[0]
    after = lab.tc("qdisc", "show")
    assert [(item["kind"], item["dev"]) for item in after] == [
        (item["kind"], item["dev"]) for item in before[1]
    ]


def test_a_rate_change_keeps_the_queued_packets(lab: Lab) -> None:
    lab.want(compile_tree(Impairment(rate=8, queue_limit=200_000), {}, MTU))
    sender = lab.socket(lab.host)
    for _ in range(60):
        sender.sendto(bytes(1000), ("10.0.0.2", 9))
    before = lab.qdiscs()["76f8:"]
    assert before["qlen"] > 50
    steps = lab.want(compile_tree(Impairment(rate=9, queue_limit=210_000), {}, MTU))
    assert [step.split()[2] for step in steps] == ["change"]
    after = lab.qdiscs()["76f8:"]
    assert after["drops"] == before["drops"]
    assert before["qlen"] - after["qlen"] <= 1
    assert after["options"]["rate"] == 1125
    sender.close()


def test_a_change_of_one_link_keeps_the_queue_of_another(lab: Lab) -> None:
    links = {
        ip_network("10.0.0.2"): Impairment(rate=8, queue_limit=200_000),
        ip_network("10.0.0.3"): Impairment(rate=8, queue_limit=200_000),
    }
    lab.want(compile_tree(Impairment(), links, MTU))
    sender = lab.socket(lab.host)
    for _ in range(60):
        sender.sendto(bytes(1000), ("10.0.0.2", 9))
    before = lab.qdiscs()["76f7:"]["qlen"]
    assert before > 50
    links[ip_network("10.0.0.2")] = Impairment(rate=9, queue_limit=210_000)
    links[ip_network("10.0.0.3")] = Impairment(rate=100)
    links[ip_network("10.0.0.4")] = Impairment(rate=100)
    lab.want(compile_tree(Impairment(), links, MTU))
    assert before - lab.qdiscs()["76f7:"]["qlen"] <= 1
    sender.close()


def test_a_change_of_the_rate_above_links_keeps_their_queues(lab: Lab) -> None:
    links = {ip_network("10.0.0.2"): Impairment(rate=8, queue_limit=200_000)}
    lab.want(compile_tree(Impairment(rate=1000), links, MTU))
    sender = lab.socket(lab.host)
    for _ in range(60):
        sender.sendto(bytes(1000), ("10.0.0.2", 9))
    before = lab.qdiscs()["76f6:"]
    assert before["qlen"] > 50
    steps = lab.want(compile_tree(Impairment(rate=2000), links, MTU))
    assert [step.split(" limit")[0] for step in steps] == [
        "tc qdisc change dev va parent 76f0:1 handle 76f5: tbf rate 2000000bit burst 5000"
    ]
    after = lab.qdiscs()["76f6:"]
    assert after["drops"] == before["drops"]
    assert before["qlen"] - after["qlen"] <= 1
    sender.close()


def test_a_round_trip_under_load_takes_as_long_as_the_queue(lab: Lab) -> None:
    """10 Mbit/s and 62 500 octets: 50 ms; nothing is configured on the way back."""
    lab.want(compile_tree(Impairment(rate=10_000), {}, MTU))
    assert waiting(lab, lab.guest, "10.0.0.2") == pytest.approx(0.050, abs=0.0015)


def waiting(lab: Lab, other: str, target: str) -> float:
    """The median time a datagram takes through a queue that is kept full."""
    receiver = lab.socket(other)
    receiver.bind((target, 5002))
    receiver.settimeout(5)
    sender = lab.socket(lab.host)
    sender.connect((target, 5002))
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            sender.send(time.monotonic_ns().to_bytes(8, "big") + bytes(MTU - 36))
            time.sleep(0.0003)

    thread = threading.Thread(target=send)
    thread.start()
    times = []
    end = time.monotonic() + 2
    while time.monotonic() < end:
        sent = int.from_bytes(receiver.recv(2000)[:8], "big")
        times.append((time.monotonic_ns() - sent) / 1e9)
    stop.set()
    thread.join()
    sender.close()
    receiver.close()
    steady = sorted(times[len(times) // 2 :])
    return steady[len(steady) // 2]


def test_a_round_trip_over_a_loaded_link_takes_as_long_as_its_queue(lab: Lab) -> None:
    links = {ip_network("10.0.0.2"): Impairment(rate=10_000, queue_limit=50_000)}
    lab.want(compile_tree(Impairment(), links, MTU))
    assert waiting(lab, lab.guest, "10.0.0.2") == pytest.approx(0.040, abs=0.0015)


LINKS = {
    ip_network("0.0.0.0/0"): Impairment(rate=8000),
    ip_network("10.0.0.0/16"): Impairment(rate=4000),
    ip_network("10.0.0.2/32"): Impairment(rate=2000),
    ip_network("fd00::/64"): Impairment(rate=3000),
    ip_network("fd00::3/128"): Impairment(rate=1500),
}


@pytest.mark.parametrize(
    ("target", "kbps"),
    [("10.0.0.2", 2000), ("10.0.7.7", 4000), ("fd00::2", 3000), ("fd00::3", 1500)],
)
def test_the_longest_prefix_wins(lab: Lab, target: str, kbps: int) -> None:
    lab.want(compile_tree(Impairment(), LINKS, MTU))
    assert lab.flood(lab.host, target, 2) == pytest.approx(kbps * 1000, rel=0.03)


def test_what_no_link_matches_and_arp_are_in_the_default_class(lab: Lab) -> None:
    lab.want(compile_tree(Impairment(), {ip_network("10.0.0.3/32"): Impairment(rate=8)}, MTU))
    sender = lab.socket(lab.host)
    sender.sendto(b"x", ("10.0.0.2", 9))
    run("ip", "-n", lab.host, "neigh", "del", "10.0.7.7", "dev", "va")
    sender.sendto(b"x", ("10.0.7.7", 9))
    sender.sendto(b"x", ("10.0.0.3", 9))
    time.sleep(0.1)
    shown = run("tc", "-s", "-n", lab.host, "class", "show", "dev", "va", "classid", "76f7:1000")
    packets = int(shown.split(" pkt")[0].split()[-1])
    assert packets >= 3
    operational = lab.shaper.statistics([lab.vif])[lab.vif]
    assert operational.to_vm_links[ip_network("10.0.0.3/32")].packets == 1
    sender.close()


def test_links_within_a_rate_share_it(lab: Lab) -> None:
    links = {ip_network("10.0.0.2/32"): Impairment(rate=50_000)}
    lab.want(compile_tree(Impairment(rate=5000), links, MTU))
    assert lab.flood(lab.host, "10.0.0.2", 2) == pytest.approx(5_000_000, rel=0.03)


def test_a_tcp_sender_with_offload_gets_a_slow_links_rate(lab: Lab) -> None:
    """Without segmentation above it the octet queue would refuse 64 kB at a time."""
    lab.want(compile_tree(Impairment(), {ip_network("10.0.0.2/32"): Impairment(rate=5000)}, MTU))
    server = subprocess.Popen(
        ["ip", "netns", "exec", lab.guest, "iperf3", "-s", "-1", "-B", "10.0.0.2"],
        stdout=subprocess.DEVNULL,
    )
    time.sleep(0.3)
    report = json.loads(
        run(
            "ip", "netns", "exec", lab.host, "iperf3", "-c", "10.0.0.2", "-t", "4", "-l", "8K", "-J"
        )
    )
    server.wait(10)
    goodput = report["end"]["sum_received"]["bits_per_second"]
    assert goodput == pytest.approx(5_000_000 * 1448 / 1514, rel=0.08)


def test_statistics_are_those_of_tc(lab: Lab) -> None:
    lab.want(compile_tree(Impairment(rate=1000, queue_limit=6000), {}, MTU))
    sender = lab.socket(lab.host)
    for _ in range(50):
        sender.sendto(bytes(1000), ("10.0.0.2", 9))
    time.sleep(0.1)
    shown = lab.qdiscs()["76f8:"]
    read = lab.shaper.statistics([lab.vif])[lab.vif].to_vm
    assert (read.rate, read.burst, read.queue_limit) == (1000, 5000, 6000)
    assert (read.octets, read.packets) == (shown["bytes"], shown["packets"])
    assert read.drops == shown["drops"] > 30
    assert read.overlimits == shown["overlimits"] > 0
    sender.close()


def test_a_foreign_root_qdisc_is_untouched_and_named(lab: Lab) -> None:
    run(
        "tc",
        "-n",
        lab.host,
        "qdisc",
        "add",
        "dev",
        "va",
        "root",
        "handle",
        "1:",
        "tbf",
        "rate",
        "1mbit",
        "burst",
        "5000",
        "limit",
        "9000",
    )
    before = run("tc", "-n", lab.host, "qdisc", "show")
    with pytest.raises(Unavailable, match=r"qdisc tbf 1: on va root .* tc qdisc del dev va root"):
        lab.want(compile_tree(Impairment(rate=5), {}, MTU))
    lab.want()
    assert run("tc", "-n", lab.host, "qdisc", "show") == before


def test_a_noqueue_that_libvirt_gave_a_tap_device_is_nothing_in_the_way(lab: Lab) -> None:
    run("tc", "-n", lab.host, "qdisc", "add", "dev", "va", "root", "handle", "801b:", "noqueue")
    assert lab.want() == []
    (step,) = lab.want(compile_tree(Impairment(rate=5000), {}, MTU))
    assert step.startswith("tc qdisc replace dev va root")
    assert [item["kind"] for item in lab.qdiscs().values()] == ["tbf"]
    lab.want()
    assert "tbf" not in run("tc", "-n", lab.host, "qdisc", "show")


def test_a_foreign_qdisc_below_ours_is_untouched_and_named(lab: Lab) -> None:
    tree = compile_tree(Impairment(rate=5000), {}, MTU)
    lab.want(tree)
    run(
        "tc",
        "-n",
        lab.host,
        "qdisc",
        "add",
        "dev",
        "va",
        "parent",
        "76f8:1",
        "handle",
        "9:",
        "bfifo",
        "limit",
        "9000",
    )
    before = run("tc", "-n", lab.host, "qdisc", "show")
    with pytest.raises(Unavailable, match="parent 76f8:1"):
        lab.want()
    assert run("tc", "-n", lab.host, "qdisc", "show") == before


def test_a_foreign_ingress_hook_keeps_its_filters(lab: Lab) -> None:
    run("tc", "-n", lab.host, "qdisc", "add", "dev", "va", "ingress")
    run(
        "tc",
        "-n",
        lab.host,
        "filter",
        "add",
        "dev",
        "va",
        "ingress",
        "pref",
        "7",
        "protocol",
        "ipv6",
        "u32",
        "match",
        "u32",
        "0",
        "0",
        "action",
        "mirred",
        "egress",
        "mirror",
        "dev",
        "lo",
    )
    before = run("tc", "-n", lab.host, "filter", "show", "dev", "va", "ingress")
    lab.want(from_vm=compile_tree(Impairment(rate=5000), {}, MTU))
    assert lab.flood(lab.guest, "10.0.0.1", 2) == pytest.approx(5_000_000, rel=0.03)
    assert "pref 30448" in run("tc", "-n", lab.host, "filter", "show", "dev", "va", "ingress")
    lab.want()
    assert run("tc", "-n", lab.host, "filter", "show", "dev", "va", "ingress") == before
    assert "ffff:" in lab.qdiscs()


def test_a_foreign_device_with_the_ifbs_name_is_named_and_untouched(lab: Lab) -> None:
    run("ip", "-n", lab.host, "link", "add", "vmifb-va", "type", "ifb")
    with pytest.raises(Unavailable, match="device vmifb-va is not vMIB's"):
        lab.want(from_vm=compile_tree(Impairment(rate=5000), {}, MTU))
    lab.want()
    assert "vmifb-va" in run("ip", "-n", lab.host, "link")


def many_ifbs(lab: Lab, count: int) -> dict[ShapedVif, VifState]:
    """Machines' ends with shaping from the machine, each through an ifb."""
    tree = compile_tree(Impairment(rate=5000), {}, MTU)
    for number in range(count):
        run("ip", "-n", lab.host, "link", "add", f"w{number}", "type", "veth")
    vifs = [ShapedVif(f"w{number}", f"vmifb-w{number}") for number in range(count)]
    wanted = {vif: VifState(from_vm=tree) for vif in vifs}
    lab.shaper.apply(diff(wanted, lab.shaper.read(vifs)))
    return wanted


def test_many_ifbs_go_together_in_the_time_of_one(lab: Lab) -> None:
    wanted = many_ifbs(lab, 20)
    assert run("ip", "-n", lab.host, "link").count("vmifb-w") == 20
    began = time.monotonic()
    lab.shaper.apply(diff({}, lab.shaper.read(list(wanted))))
    assert time.monotonic() - began < 0.2
    assert "vmifb-w" not in run("ip", "-n", lab.host, "link")


def test_ifbs_do_not_take_a_strangers_device_with_them(lab: Lab) -> None:
    wanted = many_ifbs(lab, 3)
    run("ip", "-n", lab.host, "link", "add", "theirs", "group", str(0x76F1), "type", "ifb")
    lab.shaper.apply(diff({}, lab.shaper.read(list(wanted))))
    left = run("ip", "-n", lab.host, "link")
    assert "theirs" in left
    assert "vmifb-w" not in left


def test_a_device_that_took_an_ifbs_name_is_not_removed(lab: Lab) -> None:
    lab.want(from_vm=compile_tree(Impairment(rate=5000), {}, MTU))
    steps = diff({}, lab.shaper.read([lab.vif]))
    run("ip", "-n", lab.host, "link", "del", "vmifb-va")
    run("ip", "-n", lab.host, "link", "add", "vmifb-va", "type", "ifb")
    with pytest.raises(ApplyError, match="the device vmifb-va is not vMIB's"):
        lab.shaper.apply(steps)
    assert "vmifb-va" in run("ip", "-n", lab.host, "link")


def test_a_device_that_goes_between_reading_and_applying_is_an_error_with_its_place(
    lab: Lab,
) -> None:
    wanted = {lab.vif: VifState(to_vm=compile_tree(Impairment(rate=5000), {}, MTU))}
    steps = diff(wanted, lab.shaper.read([lab.vif]))
    run("ip", "-n", lab.host, "link", "del", "va")
    with pytest.raises(ApplyError, match="no device va") as refused:
        lab.shaper.apply(steps)
    assert refused.value.index == 0
    assert not lab.shaper.read([lab.vif])[lab.vif].is_present


def test_a_refusal_names_the_step_and_the_kernels_reason(lab: Lab) -> None:
    wanted = {lab.vif: VifState(to_vm=compile_tree(Impairment(rate=5000), LINKS, MTU))}
    steps = diff(wanted, lab.shaper.read([lab.vif]))
    with pytest.raises(ApplyError) as refused:
        lab.shaper.apply([*steps[:5], steps[4], *steps[5:]])
    assert refused.value.index == 5
    assert refused.value.operation == steps[4].describe()


def test_the_changes_of_others_are_noticed_and_our_own_are_not(lab: Lab) -> None:
    lab.shaper.read([lab.vif])
    lab.shaper.poll_foreign_changes()
    lab.want(compile_tree(Impairment(rate=5000), {}, MTU))
    assert lab.shaper.poll_foreign_changes() == set()
    run(
        "tc",
        "-n",
        lab.host,
        "qdisc",
        "change",
        "dev",
        "va",
        "root",
        "handle",
        "76f8:",
        "tbf",
        "rate",
        "1mbit",
        "burst",
        "5000",
        "limit",
        "9000",
    )
    assert select.select([lab.shaper], [], [], 1)[0]
    assert lab.shaper.poll_foreign_changes() == {"va"}
    steps = lab.want(compile_tree(Impairment(rate=5000), {}, MTU))
    assert [step.split()[2] for step in steps] == ["change"]


def test_lost_events_mean_that_everything_may_have_changed(lab: Lab) -> None:
    lab.shaper.read([lab.vif])
    lab.shaper.poll_foreign_changes()
    lab.shaper._netlink._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    for rate in range(1, 40):
        run(
            "tc",
            "-n",
            lab.host,
            "qdisc",
            "replace",
            "dev",
            "va",
            "root",
            "handle",
            "1:",
            "tbf",
            "rate",
            f"{rate}mbit",
            "burst",
            "5000",
            "limit",
            "9000",
        )
    assert lab.shaper.poll_foreign_changes() is ALL
    assert lab.shaper.read([lab.vif])[lab.vif].to_vm_obstacles


def test_a_state_is_not_read_again_until_something_changes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    dumps: list[int] = []
    dump = Rtnetlink.dump

    def counted(self: Rtnetlink, kind: int, body: bytes) -> list[Message]:
        dumps.append(kind)
        return dump(self, kind, body)

    monkeypatch.setattr(Rtnetlink, "dump", counted)
    first = lab.shaper.read([lab.vif])
    assert dumps
    dumps.clear()
    run("tc", "-n", lab.host, "qdisc", "add", "dev", "lo", "root", "handle", "1:", "htb")
    run("ip", "-n", lab.host, "link", "set", "va", "promisc", "on")
    assert lab.shaper.read([lab.vif]) == first
    assert not dumps
    run("tc", "-n", lab.host, "qdisc", "add", "dev", "va", "root", "handle", "1:", "htb")
    assert lab.shaper.read([lab.vif])[lab.vif].to_vm_obstacles
    assert dumps


def test_a_device_that_is_renamed_is_gone_under_its_old_name(lab: Lab) -> None:
    tree = compile_tree(Impairment(rate=5000), {}, MTU)
    lab.want(tree)
    run("ip", "-n", lab.host, "link", "set", "va", "name", "vc")
    assert not lab.shaper.read([lab.vif])[lab.vif].is_present
    renamed = ShapedVif("vc", "vmifb-vc")
    assert lab.shaper.read([renamed])[renamed].to_vm == tree
    run("ip", "-n", lab.host, "link", "add", "va", "type", "ifb")
    assert lab.shaper.read([lab.vif])[lab.vif].to_vm == EMPTY


def test_an_ifb_that_somebody_removed_is_made_again_and_found(lab: Lab) -> None:
    tree = compile_tree(Impairment(rate=5000), {}, MTU)
    lab.want(from_vm=tree)
    lab.shaper.poll_foreign_changes()
    run("ip", "-n", lab.host, "link", "del", "vmifb-va")
    assert lab.shaper.poll_foreign_changes() == {"vmifb-va"}
    lab.want(from_vm=tree)
    assert lab.flood(lab.guest, "10.0.0.1", 2) == pytest.approx(5_000_000, rel=0.03)


def test_a_redirection_that_somebody_removed_is_made_again(lab: Lab) -> None:
    tree = compile_tree(Impairment(rate=5000), {}, MTU)
    lab.want(from_vm=tree)
    lab.shaper.poll_foreign_changes()
    block = str(lab.qdiscs()["ffff:"]["ingress_block"])
    run("tc", "-n", lab.host, "filter", "del", "block", block, "pref", "30448")
    assert lab.shaper.poll_foreign_changes() == {"va"}
    assert lab.want(from_vm=tree) == [
        "tc filter add dev va ingress pref 30448 protocol all u32 match u32 0 0"
        " action mirred egress redirect dev vmifb-va"
    ]


@pytest.mark.netem
def test_copies_of_frames_are_redirected_where_that_is_wanted(lab: Lab) -> None:
    """It needs act_gact, which kernels have that have netem."""
    tree = compile_tree(Impairment(rate=5000), {}, MTU)
    lab.want(from_vm=tree)
    lab.shaper.close()
    lab.shaper = Shaper(Path("/run/netns") / lab.host, copying=True)
    assert len(lab.want(from_vm=tree)) == 2
    assert lab.flood(lab.guest, "10.0.0.1", 2) == pytest.approx(5_000_000, rel=0.03)
    block = str(lab.qdiscs()["ffff:"]["ingress_block"])
    shown = run("tc", "-n", lab.host, "filter", "show", "block", block)
    assert [word for word in shown.split() if word in ("mirred", "gact")] == ["mirred", "gact"]
    lab.want()


def test_making_and_removing_an_ifb_is_not_taken_for_a_strangers_doing(lab: Lab) -> None:
    lab.want()
    lab.shaper.poll_foreign_changes()
    lab.want(from_vm=compile_tree(Impairment(rate=5000), {}, MTU))
    time.sleep(0.5)
    lab.shaper.read([lab.vif])
    assert lab.shaper.poll_foreign_changes() <= {"vmifb-va"}
    lab.want()


def test_what_works_here_is_found_by_trying(lab: Lab) -> None:
    before = run("ip", "netns", "list"), run("ip", "-br", "link")
    found = set(lab.shaper.capabilities())
    assert {"shapeToVm", "shapeFromVm", "links", "ipv6"} <= found
    assert (run("ip", "netns", "list"), run("ip", "-br", "link")) == before
    assert lab.shaper.clock_resolution_us() == 1


def test_links_come_and_go_without_leaving_rules(lab: Lab) -> None:
    """Many links make tables; with them gone, one rule and its class are left."""
    many = {ip_network((0x0A000000 + n, 32)): Impairment(rate=n + 1) for n in range(600)}
    few = {ip_network("10.0.0.3/32"): Impairment(rate=7)}
    for links in (many, few, many, few):
        lab.want(compile_tree(Impairment(rate=5000), links, MTU))
    shown = run("tc", "-n", lab.host, "filter", "show", "dev", "va", "parent", "76f6:")
    assert shown.count("flowid 76f6:") == 1
    classes = run("tc", "-n", lab.host, "class", "show", "dev", "va")
    assert classes.count("class htb") == 2


@pytest.mark.netem
def test_a_delay_delays_and_reads_back(lab: Lab) -> None:
    shape = Impairment(rate=10_000, delay=20_000, jitter=1000, distribution=2, loss=1)
    lab.want(compile_tree(shape, {}, MTU))
    shown = lab.qdiscs()["76f1:"]["options"]
    assert shown["delay"]["delay"] == pytest.approx(0.02)
    lab.want(compile_tree(Impairment(delay=30_000), {}, MTU))
    pings = run("ip", "netns", "exec", lab.guest, "ping", "-c", "5", "-i", "0.2", "-q", "10.0.0.1")
    assert float(pings.rsplit("/", 3)[1]) == pytest.approx(30, abs=2)


@pytest.mark.netem
def test_every_distribution_and_its_change_is_taken_by_the_kernel(lab: Lab) -> None:
    for distribution in (2, 1, 3, 4, 1):
        shape = Impairment(delay=20_000, jitter=1000, distribution=distribution)
        lab.want(compile_tree(shape, {}, MTU))
