"""Hosts whose machines are configured and asked in few words, by snmpset and real traffic."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from .hosts import Host, host, run

SERVER = """
import select, socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listening = {}
for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
    for port in map(int, sys.argv[2:]):
        made = socket.socket(family, kind)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((sys.argv[1], port))
        if kind is socket.SOCK_STREAM:
            made.listen()
        listening[made] = kind
print("ready", flush=True)
while True:
    for ready in select.select(list(listening), [], [])[0]:
        if listening[ready] is socket.SOCK_STREAM:
            accepted, peer = ready.accept()
            accepted.sendall(peer[0].encode())
            accepted.close()
        else:
            _, peer = ready.recvfrom(100)
            ready.sendto(peer[0].encode(), peer)
"""

CLIENT = """
import socket, sys
kind = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}[sys.argv[1]]
made = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, kind)
made.settimeout(1)
try:
    made.connect((sys.argv[2], int(sys.argv[3])))
    if kind is socket.SOCK_DGRAM:
        made.send(b"?")
    print(made.recv(100).decode())
except ConnectionRefusedError:
    print("refused")
except TimeoutError:
    print("nothing")
"""


SEND = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as made:
    made.bind(("eth0", 0))
    made.send(bytes.fromhex(sys.argv[1]))
"""

SNIFF = """
import socket, time
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as made:
    made.bind(("eth0", 3))
    made.settimeout(1)
    print("ready", flush=True)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        try:
            frame = made.recv(2000)
        except TimeoutError:
            break
        if bytes([10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 9]) in frame:
            print("arrived")
            break
"""


@contextmanager
def server(namespace: str, address: str, *ports: int) -> Iterator[None]:
    """A server that tells everyone by TCP and UDP from which address they came."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", SERVER, address]
    with subprocess.Popen([*command, *map(str, ports)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.kill()


class Site(Host):
    """A host whose machines are configured and asked in few words."""

    def ask(self, number: int, kind: str, address: str, port: int) -> str:
        """What a server tells a machine: the machine's address, or "refused" or "nothing"."""
        client = (sys.executable, "-c", CLIENT, kind, address, str(port))
        return self.in_machine(number, *client).strip()

    def pings(self, number: int, address: str, *options: str) -> bool:
        """Whether a machine gets an answer from an address."""
        ping = ("ping", "-c", "1", "-W", "1", *options, address)
        return "1 received" in self.in_machine(number, *ping, check=False)

    def address(self, number: int, text: str, prefix: int = 24) -> None:
        """Give a machine's interface an address."""
        row = f"{number}.1.{inet(text)}"
        self.set(
            f"vmibAddrPrefixLength.{row}", "u", str(prefix),
            f"vmibAddrRowStatus.{row}", "i", "createAndGo",
        )  # fmt: skip

    def domain(self, index: int, *numbers: int, default: str = "drop") -> None:
        """A domain with these machines in it."""
        members = [word for n in numbers for word in (f"vmibVifDomain.{n}.1", "u", str(index))]
        self.set(
            f"vmibDomainName.{index}", "s", f"site{index}",
            f"vmibDomainDefaultAction.{index}", "i", default,
            f"vmibDomainRowStatus.{index}", "i", "createAndGo",
            *members,
        )  # fmt: skip

    def filter(self, domain: int, priority: int, action: str, **columns: int | str) -> None:
        """A row of vmibFilterTable; the columns are those of its names that differ."""
        row = f"{domain}.{priority}"
        given: list[str] = []
        for name, value in columns.items():
            kind = "i" if name in ("Direction", "AddrType") else "u"
            kind = "x" if name in ("Src", "Dst") else kind
            given += [f"vmibFilter{name}.{row}", kind, str(value)]
        self.set(
            f"vmibFilterAction.{row}", "i", action, *given,
            f"vmibFilterRowStatus.{row}", "i", "createAndGo",
        )  # fmt: skip

    def packets(self, domain: int, priority: int) -> int:
        """vmibFilterPackets of a filter, by a fresh reading."""
        time.sleep(0.6)
        return int(self.value(f"vmibFilterPackets.{domain}.{priority}"))

    def switch(self, index: int, mode: str, address: str, *numbers: int) -> None:
        """A switch with the host's address on it and these machines."""
        members = [word for n in numbers for word in (f"vmibVifSwitchIndex.{n}.1", "u", str(index))]
        hosts = []
        if address:
            packed = ip_address(address).packed
            hosts = [
                f"vmibSwitchAddrType.{index}", "i", "ipv4" if len(packed) == 4 else "ipv6",
                f"vmibSwitchAddr.{index}", "x", packed.hex(),
                f"vmibSwitchAddrPrefix.{index}", "u", "24" if len(packed) == 4 else "64",
            ]  # fmt: skip
        self.set(
            f"vmibSwitchName.{index}", "s", f"sw{index}",
            f"vmibSwitchMode.{index}", "i", mode, *hosts,
            f"vmibSwitchRowStatus.{index}", "i", "createAndGo", *members,
        )  # fmt: skip

    def default_route(self, number: int, gateway: str) -> None:
        """A machine's way to everywhere else."""
        family = ip_address(gateway).version
        anywhere = {4: "0.0.0.0", 6: "::"}[family]
        row = f"{number}.{inet(anywhere)}.0.0"
        self.set(
            f"vmibRouteNextHop.{row}", "x", ip_address(gateway).packed.hex(),
            f"vmibRouteRowStatus.{row}", "i", "createAndGo",
        )  # fmt: skip

    @contextmanager
    def outside(self) -> Iterator[str]:
        """A network beyond the host: 192.0.2.1 is the host, 192.0.2.2 somebody else."""
        name = f"{self.name}-out"
        run("ip", "netns", "add", name)
        try:
            peer = ("type", "veth", "peer", "name", "eth0", "netns", name)
            self.inside("ip", "link", "add", "up0", *peer)
            self.inside("ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
            self.inside("ip", "link", "set", "up0", "up")
            run("ip", "-n", name, "addr", "add", "192.0.2.2/24", "dev", "eth0")
            run("ip", "-n", name, "link", "set", "eth0", "up")
            yield name
        finally:
            run("ip", "netns", "del", name)


def inet(text: str) -> str:
    """An address in an index: its type, its length and its octets."""
    packed = ip_address(text).packed
    kind = "ipv4" if len(packed) == 4 else "ipv6"
    return ".".join([kind, str(len(packed)), *map(str, packed)])


def eventually(check: Callable[[], bool], seconds: float = 12.0) -> bool:
    """Whether a condition comes true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return False


@contextmanager
def site_of(count: int, settings: str = "") -> Iterator[Site]:
    """A site whose machine n has the address 10.0.0.n."""
    with host(count, settings) as made:
        site = Site(made.name, made.directory, made.machine_names, made.process)
        try:
            for number in range(1, count + 1):
                site.address(number, f"10.0.0.{number}")
            yield site
        finally:
            made.process = site.process
