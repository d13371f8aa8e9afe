"""Hypervisors that the same tests run under: QEMU here, in namespaces of its own; Xen in a dom0.

Which one is said by $VMIB_LAB_HYPERVISOR: qemu (the default) or xen.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import libvirt

from . import cache
from .guest_image import GuestImage, of_qemu

BRIDGE = "vmlab0"
SHELL_SECONDS = 30.0
BOOT_SECONDS = 120.0
LIBVIRTD_SECONDS = 120.0


def run(*command: str, check: bool = True, **more: Any) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of a guest."""

    mac: str

    def xml(self, script: str = "") -> str:
        """The interface for libvirt, on the lab's bridge."""
        model = "" if script else "<model type='virtio'/>"
        return (
            f"<interface type='bridge'><mac address='{self.mac}'/><source bridge='{BRIDGE}'/>"
            f"{script}{model}</interface>"
        )


class Hypervisor(Protocol):
    """What a test has to know of the hypervisor below it."""

    @property
    def uri(self) -> str:
        """The agent's way to libvirtd."""

    @property
    def kind(self) -> str:
        """xen or qemu."""

    @property
    def has_guest_agent(self) -> bool:
        """Whether guests can be told their addresses by the QEMU guest agent."""

    def inside(self, *command: str) -> list[str]:
        """A command as it is run on the host."""

    def connect(self) -> Any:
        """A connection of the test to libvirtd."""

    def domain_xml(
        self, name: str, uuid: str, vifs: Sequence[Interface], words: str, agent: bool
    ) -> str:
        """A guest for libvirt; `words` are of its command line, `agent` whether it has one."""

    def interface_xml(self, vif: Interface) -> str:
        """An interface for libvirt."""

    def kill_libvirtd(self, number: int = signal.SIGKILL) -> None:
        """End libvirtd as a crash does, or send it another signal."""

    def start_libvirtd(self) -> None:
        """Start it, and wait until it answers."""


# The first process of the namespaces: it waits for ever, and no child of it remains as a zombie.
_INIT = """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    signal.pause()
"""


class Qemu:
    """QEMU guests (emulated) under a libvirtd of the test's own: nothing of the computer's libvirt
    is seen or touched, because mounts, network and processes are in namespaces that end with it."""

    kind = "qemu"
    uri = "qemu:///system"
    has_guest_agent = True

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._image: GuestImage = of_qemu()
        # The namespaces live as long as this process, and it as long as the test's.
        self._holder = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork",
             "--kill-child", "--mount-proc", sys.executable, "-c", _INIT],
        )  # fmt: skip
        self._init = _child_of(self._holder.pid)
        self._libvirtd: subprocess.Popen[bytes] | None = None
        try:
            self._prepare()
            self._virtlogd = self._start("virtlogd")
            self.start_libvirtd()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        for place in ("/etc/libvirt", "/var/lib/libvirt", "/run/libvirt"):
            Path(place).mkdir(parents=True, exist_ok=True)
            run(*self.inside("mount", "-t", "tmpfs", "tmpfs", place))
        # What QEMU can do takes a minute to find out; libvirtd keeps it for this QEMU.
        known = cache.place() / "libvirtd"
        for path in (known, Path("/var/cache/libvirt")):
            path.mkdir(parents=True, exist_ok=True)
        run(*self.inside("mount", "--bind", str(known), "/var/cache/libvirt"))
        # A privileged libvirtd does not start without the user of Debian's package for systems.
        for name, line in (
            ("passwd", "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin"),
            ("group", "libvirt-qemu:x:64055:"),
        ):
            private = self._directory / name
            private.write_text(f"{Path('/etc', name).read_text()}{line}\n")
            run(*self.inside("mount", "--bind", str(private), f"/etc/{name}"))
        settings = 'user = "root"\ngroup = "root"\nsecurity_driver = "none"\nnamespaces = []\n'
        settings += "cgroup_controllers = []\nremember_owner = 0\n"
        run(*self.inside("tee", "/etc/libvirt/qemu.conf"), input=settings)
        run(*self.inside("ip", "link", "set", "lo", "up"))

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        with (self._directory / f"{name}.log").open("ab") as log:
            command = self.inside(name, "--pid-file", f"/run/libvirt/lab-{name}.pid")
            return subprocess.Popen(command, stdout=log, stderr=log)

    def inside(self, *command: str) -> list[str]:
        return ["nsenter", "-t", str(self._init), "-m", "-n", "-p", *command]

    def connect(self) -> Any:
        socket = f"/proc/{self._init}/root/run/libvirt/libvirt-sock"
        return libvirt.open(f"qemu+unix:///system?socket={socket}")

    def interface_xml(self, vif: Interface) -> str:
        return vif.xml()

    def domain_xml(
        self, name: str, uuid: str, vifs: Sequence[Interface], words: str, agent: bool
    ) -> str:
        interfaces = "".join(map(self.interface_xml, vifs))
        name_of = "org.qemu.guest_agent.0"
        channel = f"<channel type='unix'><target type='virtio' name='{name_of}'/></channel>"
        return f"""
<domain type='qemu'>
  <name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>160</memory><vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{self._image.kernel}</kernel><initrd>{self._image.initrd}</initrd>
    <cmdline>console=ttyS0 quiet panic=-1 {words}</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='custom' match='exact'><model fallback='allow'>Nehalem</model></cpu>
  <on_reboot>restart</on_reboot>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {interfaces}
    <console type='pty'/>
    {channel if agent else ""}
    <memballoon model='none'/>
  </devices>
</domain>"""

    def kill_libvirtd(self, number: int = signal.SIGKILL) -> None:
        pid = run(*self.inside("cat", "/run/libvirt/lab-libvirtd.pid")).strip()
        run(*self.inside("kill", f"-{number}", pid))
        assert self._libvirtd is not None
        if number == signal.SIGKILL:
            self._libvirtd.wait(10)
        elif number == signal.SIGCONT:  # nsenter(1) stops together with what it runs
            self._libvirtd.send_signal(number)

    def start_libvirtd(self) -> None:
        self._libvirtd = self._start("libvirtd")
        _wait_for_libvirtd(self)

    def close(self) -> None:
        """End everything that runs in the namespaces."""
        self._holder.kill()
        self._holder.wait(10)
        for process in (self._libvirtd, getattr(self, "_virtlogd", None)):
            if process is not None:
                process.wait(10)


class Xen:
    """Paravirtual guests under the libvirtd of a dom0, which is the lab's own."""

    kind = "xen"
    uri = "xen:///system"
    has_guest_agent = False
    _SCRIPT = "<script path='vif-bridge'/>"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._image = GuestImage(
            Path(os.environ.get("VMIB_LAB_GUEST_KERNEL", "/boot/vmlinuz")),
            Path(os.environ.get("VMIB_LAB_GUEST_INITRD", "/boot/guest.gz")),
        )

    def inside(self, *command: str) -> list[str]:
        return list(command)

    def connect(self) -> Any:
        return libvirt.open(self.uri)

    def interface_xml(self, vif: Interface) -> str:
        return vif.xml(self._SCRIPT)

    def domain_xml(
        self, name: str, uuid: str, vifs: Sequence[Interface], words: str, agent: bool
    ) -> str:
        assert not agent, "paravirtual guests have no such channel"
        interfaces = "".join(map(self.interface_xml, vifs))
        return f"""
<domain type='xen'>
  <name>{name}</name><uuid>{uuid}</uuid><memory unit='MiB'>128</memory><vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='xenpv'>linux</type>
    <kernel>{self._image.kernel}</kernel><initrd>{self._image.initrd}</initrd>
    <cmdline>console=hvc0 quiet panic=-1 {words}</cmdline>
  </os>
  <on_reboot>restart</on_reboot>
  <devices>{interfaces}<console type='pty'/></devices>
</domain>"""

    def kill_libvirtd(self, number: int = signal.SIGKILL) -> None:
        for pid in run("pidof", "libvirtd").split():
            os.kill(int(pid), number)
        while number == signal.SIGKILL and run("pidof", "libvirtd", check=False).strip():
            time.sleep(0.05)

    def start_libvirtd(self) -> None:
        with (self._directory / "libvirtd.log").open("ab") as log:
            subprocess.Popen(["libvirtd"], stdout=log, stderr=log)
        _wait_for_libvirtd(self)

    def close(self) -> None:
        """Nothing is the test's own."""


libvirt.registerErrorHandler(lambda *_: None, None)  # errors are raised as well


def _child_of(parent: int) -> int:
    """The only child of a process, once it is what it is to be."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for number in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            with suppress(OSError):
                if "signal.pause" in Path(f"/proc/{number}/cmdline").read_text():
                    return int(number)
        time.sleep(0.02)
    raise AssertionError("no namespaces were made")


def _wait_for_libvirtd(hypervisor: Hypervisor) -> None:
    deadline = time.monotonic() + LIBVIRTD_SECONDS
    while True:
        try:
            hypervisor.connect().close()
        except libvirt.libvirtError:
            assert time.monotonic() < deadline, "libvirtd does not answer"
            time.sleep(0.2)
        else:
            return


@dataclass
class Guest:
    """A guest whose console is listened to, and takes commands."""

    domain: Any
    log: Path
    _said: str = ""
    _number: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _terminal: int = -1
    _thread: threading.Thread | None = None

    def listen(self) -> None:
        """Follow the console of the machine that was just started."""
        self.deafen()
        path = _terminal_of(self.domain)
        self._said, self._stop = "", threading.Event()
        self._terminal = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._terminal, termios.TCSANOW)
        self._thread = threading.Thread(target=self._follow, args=(self._stop,), daemon=True)
        self._thread.start()

    def deafen(self) -> None:
        """Follow it no more."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            os.close(self._terminal)
            self._thread = None

    def _follow(self, stop: threading.Event) -> None:
        with self.log.open("ab") as log:
            while not stop.is_set():
                if not select.select([self._terminal], [], [], 0.05)[0]:
                    continue
                try:
                    data = os.read(self._terminal, 4096)
                except OSError:  # the machine is gone
                    time.sleep(0.05)
                    continue
                log.write(data)
                log.flush()
                self._said += data.decode(errors="replace")

    def _until(self, words: str, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while words not in self._said:
            assert time.monotonic() < deadline, (
                f"no {words!r} in {seconds:g} s: {self._said[-2000:]}"
            )
            time.sleep(0.02)
        before, _, self._said = self._said.partition(words)
        return before

    def is_ready(self) -> None:
        """Wait until it has booted."""
        self._until("guest is ready", BOOT_SECONDS)

    def run(self, command: str, seconds: float = SHELL_SECONDS, check: bool = True) -> str:
        """What a command prints in the guest."""
        self._number += 1
        begin, end = f"<<{self._number}:", f":{self._number}>>"
        # The words are in two parts, so that their echo is not taken for them.
        line = f"echo '<''<{self._number}:'; {command}; echo :$?':{self._number}>''>'\n"
        os.write(self._terminal, line.encode())
        self._until(begin, seconds)
        text = self._until(end, seconds).replace("\r", "").strip("\n")
        output, _, status = text.rpartition(":")
        assert not check or status == "0", f"{command}: {text}"
        return output.strip("\n")

    def tell(self, command: str) -> None:
        """Give a command without waiting for its end."""
        os.write(self._terminal, f"{command}\n".encode())

    def pings(self, address: str, tries: int = 5) -> bool:
        """Whether an address answers; a busy computer may need several tries."""
        command = f"ping -c 1 -W 2 {address}"
        return any("1 packets received" in self.run(command, check=False) for _ in range(tries))


def _terminal_of(domain: Any) -> str:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        console = ElementTree.fromstring(domain.XMLDesc(0)).find("devices/console")
        found = None if console is None else console.get("tty")
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("the machine has no console")


@contextmanager
def hypervisor(directory: Path) -> Iterator[Qemu | Xen]:
    """The hypervisor that the tests run under, with the lab's bridge."""
    kind = os.environ.get("VMIB_LAB_HYPERVISOR", "qemu")
    made: Qemu | Xen = Xen(directory) if kind == "xen" else Qemu(directory)
    try:
        run(*made.inside("ip", "link", "add", BRIDGE, "type", "bridge"))
        run(*made.inside("ip", "link", "set", BRIDGE, "up"))
        yield made
    finally:
        run(*made.inside("ip", "link", "del", BRIDGE), check=False)
        made.close()


def missing() -> str | None:
    """What the lab lacks here, or None."""
    if os.geteuid() != 0:
        return "needs root: makes machines"
    if os.environ.get("VMIB_LAB_HYPERVISOR", "qemu") == "xen":
        return None
    programs = ("libvirtd", "virtlogd", "qemu-system-x86_64", "busybox", "cpio", "modprobe")
    absent = [name for name in programs if shutil.which(name) is None]
    return f"needs {', '.join(absent)} (see packaging/setup.sh)" if absent else None
