"""A host for tests: a kernel in memory below the agent's real adapters' plans, a disk whose system
calls can fail, machines that come and go, and an agent that can be killed between any two steps."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from vmib.errors import Unavailable
from vmib.rows import KEYS
from vmib.schema import COLUMNS, SCALARS
from vmib_agent import firewall_plan, network_plan, shapingstate
from vmib_agent.delivery import Delivery
from vmib_agent.desired import RowKey, wish
from vmib_agent.firewall_plan import (
    DeleteChain,
    DeleteRule,
    FlushChain,
    InsertRule,
    NewChain,
    PutJumps,
    SetSysctl,
)
from vmib_agent.host import Host
from vmib_agent.inventory import Device
from vmib_agent.iptables import BRIDGE_SYSCTLS, FORWARDING_SYSCTLS, TAG_SYSCTLS, Ruleset
from vmib_agent.kernel import HostKernel
from vmib_agent.network import HOST, Bridge, Port, Stack, parse_alias
from vmib_agent.network import State as NetworkState
from vmib_agent.network_plan import (
    AddAddress,
    AddBridge,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    PutRoute,
    SetLink,
    SetPort,
)
from vmib_agent.ports import ApplyError, Guest, GuestVif, LifeCycle, Presence
from vmib_agent.qdiscs import EMPTY, Htb, HtbClass, Qdisc, Rule, Table, Tree, make_tree
from vmib_agent.scope import Target
from vmib_agent.service import SetRefused, Value, VarBind
from vmib_agent.shapingstate import Obstacle, Owner, ShapedVif, VifState
from vmib_agent.state import Now, State
from vmib_agent.statefile import StateFile
from vmib_agent.steps import IfbStep, IngressStep, RedirectStep, TcStep, Verb
from vmib_agent.target import TargetCache, compile_target

_CHANGING = ("write", "fsync", "link", "rename", "unlink", "ftruncate")
"""System calls that change files."""


class Killed(BaseException):
    """The agent's process is gone."""


@dataclass
class Faults:
    """What goes wrong, counted in steps from the last `clear`.

    Steps are system calls on the state directory and operations on the kernel. `kill_at` is the
    step before which the agent is killed; `refuse_at` the operations that the kernel refuses;
    `disk_full` whether nothing more can be written.
    """

    kill_at: int | None = None
    refuse_at: frozenset[int] = frozenset()
    refuse_from: int | None = None
    disk_full: bool = False
    steps: int = 0
    operations: int = 0

    def clear(self) -> None:
        self.kill_at, self.refuse_at, self.refuse_from = None, frozenset(), None
        self.disk_full = False
        self.steps = self.operations = 0

    def step(self) -> None:
        """One step is about to be taken."""
        if self.kill_at is not None and self.steps >= self.kill_at:
            raise Killed
        self.steps += 1

    def operation(self) -> bool:
        """An operation is about to be tried; whether the kernel takes it."""
        self.step()
        number, self.operations = self.operations, self.operations + 1
        late = self.refuse_from is not None and number >= self.refuse_from
        return not (late or number in self.refuse_at)

    @contextmanager
    def disk(self) -> Iterator[None]:
        """System calls that change files are steps, too, and fail on a full disk.

        fsync is none but a step: no power fails here.
        """

        def faulty(call: Callable[..., Any], writes: bool) -> Callable[..., Any]:
            def made(*arguments: Any, **named: Any) -> Any:
                self.step()
                if writes and self.disk_full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return call(*arguments, **named)

            return made

        known = {name: getattr(os, name) for name in _CHANGING}
        for name, call in (known | {"fsync": lambda _: None}).items():
            setattr(os, name, faulty(call, name in ("write", "fsync", "link")))
        try:
            yield
        finally:
            for name, call in known.items():
                setattr(os, name, call)


@dataclass
class Device0:
    """A device of the host: what is shaped on it and which bridge it is a port of."""

    index: int
    tree: Tree = EMPTY
    foreign: str = ""
    mtu: int = 1500
    up: bool = True


class FakeKernel:
    """A kernel in memory. Stands for `kernel.HostKernel`'s three adapters."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.devices: dict[str, Device0] = {}
        self.ifbs: dict[str, Tree] = {}
        self.redirects: dict[str, str] = {}
        self.bridges: dict[str, Bridge] = {"br0": Bridge("br0", ours=False)}
        self.ports: dict[str, Port] = {}
        self.stacks: dict[str, Stack] = {HOST: Stack()}
        self.slow: dict[str, Delivery] = {}
        self.rules: dict[Any, tuple[Any, ...]] = {}
        settings = (*BRIDGE_SYSCTLS.values(), *TAG_SYSCTLS, *FORWARDING_SYSCTLS.values())
        self.sysctls = dict.fromkeys(settings, 0)
        self.changed: set[str] = set()
        self.next_index = 10

    def add_device(self, name: str) -> None:
        """A host end appears, as a port of the bridge that was there before vMIB."""
        self.next_index += 1
        self.devices[name] = Device0(self.next_index)
        self.ports[name] = Port(name, bridge="br0", mtu=1500, up=True)
        self.changed.add(name)

    def remove_device(self, name: str) -> None:
        """A host end goes, and all that was on it."""
        del self.devices[name], self.ports[name]
        self.redirects.pop(name, None)
        self.changed.add(name)

    def snapshot(self) -> tuple[Any, ...]:
        """All that vMIB may change, to be compared."""
        return (
            {name: replace(device, index=0) for name, device in self.devices.items()},
            dict(self.ifbs),
            dict(self.redirects),
            dict(self.bridges),
            dict(self.ports),
            {place: (stack.addresses, stack.routes) for place, stack in self.stacks.items()},
            dict(self.rules),
        )

    def differences(self, target: Target, guests: Sequence[Guest]) -> list[str]:
        """What is not as a target says, in the words of the tools."""
        shaping = self.read_shaping(target.shaping)
        rules = firewall_plan.diff(target.rules, self.read_rules())
        network = network_plan.diff(target.network, self.read_network(guests))
        steps = [*shapingstate.diff(target.shaping, shaping), *network, *rules]
        stray = self.ifbs.keys() - {vif.ifb for vif in target.shaping}
        return [step.describe() for step in steps] + [f"stray {name}" for name in stray]

    def read_shaping(self, vifs: Iterable[ShapedVif]) -> dict[ShapedVif, VifState]:
        return {vif: self._vif(vif) for vif in vifs}

    def _vif(self, vif: ShapedVif) -> VifState:
        ifb = Owner.VMIB if vif.ifb in self.ifbs else Owner.NOBODY
        device = self.devices.get(vif.device)
        if device is None:
            return VifState(is_present=False, ifb=ifb)
        what = f"qdisc {device.foreign} on {vif.device} root"
        obstacle = Obstacle(vif.device, what, f"tc qdisc del dev {vif.device} root")
        redirect = self.redirects.get(vif.device)
        right = redirect == vif.ifb and ifb is Owner.VMIB
        return VifState(
            to_vm=device.tree,
            from_vm=self.ifbs.get(vif.ifb, EMPTY),
            mtu=device.mtu,
            hook=Owner.NOBODY if redirect is None else Owner.VMIB,
            is_redirected=right,
            is_misdirected=bool(redirect) and not right,
            ifb=ifb,
            to_vm_obstacles=(obstacle,) if device.foreign else (),
        )

    def read_network(self, guests: Iterable[Guest]) -> NetworkState:
        places = {HOST, *(guest.uuid for guest in guests)}
        return NetworkState(
            bridges=dict(self.bridges),
            ports=dict(self.ports),
            stacks={
                place: stack
                for place, stack in self.stacks.items()
                if place in places and place not in self.slow
            },
        )

    def read_rules(self) -> Ruleset:
        return Ruleset(dict(self.rules), dict(self.sysctls))

    def _take(self, operations: Sequence[Any], change: Callable[[Any], None]) -> None:
        for position, step in enumerate(operations):
            if not self.faults.operation():
                raise ApplyError(position, step.describe(), "No buffer space available")
            try:
                change(step)
            except (AssertionError, KeyError) as error:
                raise ApplyError(position, step.describe(), f"impossible: {error!r}") from error

    def shape(self, operations: Sequence[Any]) -> None:
        self._take(operations, self._shape)

    def _shape(self, step: Any) -> None:
        match step:
            case IfbStep(_, Verb.ADD, ifb):
                assert ifb not in self.ifbs
                self.ifbs[ifb] = EMPTY
            case IfbStep(_, _, ifb):
                del self.ifbs[ifb]
            case IngressStep(device, Verb.ADD):
                assert device in self.devices
                self.redirects[device] = ""
            case IngressStep(device, _):
                del self.redirects[device]
            case RedirectStep(device, Verb.ADD, ifb):
                assert ifb in self.ifbs
                self.redirects[device] = ifb
            case RedirectStep(device, _, _):
                self.redirects[device] = ""
            case TcStep(device) if device in self.ifbs:
                self.ifbs[device] = changed_tree(self.ifbs[device], step)
            case TcStep(device):
                there = self.devices[device]
                assert not there.foreign
                there.tree = changed_tree(there.tree, step)

    def wire(self, operations: Sequence[Any]) -> None:
        self._take(operations, self._wire)

    def _wire(self, step: Any) -> None:
        match step:
            case AddBridge(name, mtu):
                assert name not in self.bridges
                self.bridges[name] = Bridge(name, mtu, up=False)
            case DeleteLink(device):
                del self.bridges[device]
                for name, port in self.ports.items():
                    if port.bridge == device:
                        self.ports[name] = replace(port, bridge="", isolated=False)
            case SetLink(place, link, mtu, up) if place == HOST:
                known: dict[Any, Any] = self.bridges if link in self.bridges else self.ports
                there = known[link]
                wanted = {"mtu": mtu or there.mtu, "up": there.up if up is None else up}
                known[link] = replace(there, **wanted)
                if link in self.devices:
                    self.devices[str(link)].mtu = wanted["mtu"]
            case SetPort(device, bridge, isolated, alias):
                self._set_port(device, bridge, isolated, alias)
            case AddAddress(place, address):
                stack = self.stacks[place]
                self.stacks[place] = replace(stack, addresses=stack.addresses | {address})
            case DeleteAddress(place, address):
                stack = self.stacks[place]
                assert address in stack.addresses
                self.stacks[place] = replace(stack, addresses=stack.addresses - {address})
            case PutRoute(place, route):
                stack = self.stacks[place]
                others = {other for other in stack.routes if other.destination != route.destination}
                self.stacks[place] = replace(stack, routes=frozenset({*others, route}))
            case DeleteRoute(place, route):
                stack = self.stacks[place]
                assert route in stack.routes
                self.stacks[place] = replace(stack, routes=stack.routes - {route})
            case _:
                raise AssertionError(step)

    def _set_port(
        self, device: str, bridge: str | None, isolated: bool | None, alias: str | None
    ) -> None:
        port = self.ports[device]
        if bridge is not None:
            assert not bridge or bridge in self.bridges
            port = replace(port, bridge=bridge, isolated=False)
        if isolated is not None:
            port = replace(port, isolated=isolated)
        if alias is not None:
            home, own, uplink = parse_alias(alias)
            port = replace(port, home=home, alias=own, uplink=uplink)
        self.ports[device] = port

    def filter(self, operations: Sequence[Any]) -> None:
        """All steps of a call at once or none, as libiptc does it for a table."""
        before = dict(self.rules), dict(self.sysctls)
        try:
            self._take(operations, self._filter)
        except ApplyError:
            self.rules, self.sysctls = before
            raise

    def _filter(self, step: Any) -> None:
        match step:
            case NewChain(chain):
                assert chain not in self.rules
                self.rules[chain] = ()
            case InsertRule(chain, position, entry):
                there = self.rules[chain]
                self.rules[chain] = (*there[:position], entry, *there[position:])
            case DeleteRule(chain, position, entry):
                there = self.rules[chain]
                assert there[position] == entry
                self.rules[chain] = (*there[:position], *there[position + 1 :])
            case PutJumps(chain, _, after):
                self.rules[chain] = after
                if not after:
                    del self.rules[chain]
            case FlushChain(chain):
                self.rules[chain] = ()
            case DeleteChain(chain):
                assert self.rules.pop(chain) == ()
            case SetSysctl(name, value):
                self.sysctls[name] = value


def changed_tree(tree: Tree, step: TcStep) -> Tree:
    """A tree of qdiscs after one step of tc."""
    qdiscs = {item.parent: item for item in tree.qdiscs}
    classes = {item.classid: item for item in tree.classes}
    tables, rules = set(tree.tables), set(tree.rules)

    def forget(parent: int) -> None:
        gone = qdiscs.pop(parent, None)
        if gone is None:
            return
        forget(gone.handle | 1)
        if isinstance(gone.options, Htb):
            for classid in list(classes):
                forget(classid)
            classes.clear()
            tables.clear()
            rules.clear()

    item, verb = step.item, step.verb
    match item:
        case Qdisc():
            assert (item.parent in qdiscs) == (verb is not Verb.ADD)
            if verb is not Verb.CHANGE:
                forget(item.parent)
            if verb is not Verb.DELETE:
                qdiscs[item.parent] = item
        case HtbClass(classid):
            assert (classid in classes) == (verb is not Verb.ADD)
            if verb is Verb.DELETE:
                del classes[classid]
                forget(classid)
            else:
                classes[classid] = item
        case Table():
            tables.add(item)
        case Rule() if verb is Verb.DELETE:
            rules.remove(item)
        case Rule():
            assert item not in rules
            rules.add(item)
    return make_tree(qdiscs.values(), classes.values(), tables, rules)


class FakeShaper:
    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self.apply = kernel.shape

    def capabilities(self) -> Sequence[str]:
        return ("shapeToVm", "shapeFromVm", "links", "ipv6", "netem")

    def clock_resolution_us(self) -> int:
        return 1

    def poll_foreign_changes(self) -> set[str]:
        changed, self._kernel.changed = self._kernel.changed, set()
        return changed

    def read(self, vifs: Iterable[ShapedVif]) -> Mapping[ShapedVif, VifState]:
        return self._kernel.read_shaping(vifs)

    def statistics(self, _: Iterable[ShapedVif]) -> Mapping[ShapedVif, Any]:
        return {}


class FakeNetwork:
    def __init__(self, kernel: FakeKernel) -> None:
        self.read = kernel.read_network
        self.apply = kernel.wire
        self.deliveries = lambda: dict(kernel.slow)
        self.wished: Mapping[str, Stack] = {}

    def wish(self, stacks: Callable[[], Mapping[str, Stack]]) -> None:
        self.wished = stacks()

    def capabilities(self) -> Sequence[str]:
        return ("switches", "vlans", "addresses", "routes", "ipv6")

    def pifs(self, _: Iterable[str]) -> list[Any]:
        return []


class FakeFirewall:
    def __init__(self, kernel: FakeKernel) -> None:
        self.read = kernel.read_rules
        self.apply = kernel.filter

    def capabilities(self) -> Sequence[str]:
        return ("filters", "nat")

    def counters(self) -> Mapping[tuple[int, int], tuple[int, int]]:
        return {}


@dataclass
class FakeHypervisor:
    """Machines that run, each with interfaces whose host ends are devices of the kernel."""

    kernel: FakeKernel
    kind: str = "fake"
    version: str = "1"
    is_down: bool = False
    machines: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    def guests(self) -> Sequence[Guest]:
        if self.is_down:
            raise Unavailable("hypervisor", "does not answer")
        return [
            Guest(
                uuid,
                name,
                Presence.RUNNING,
                tuple(GuestVif(number, mac, f"vif{mac[-2:]}") for number, mac in enumerate(macs)),
            )
            for uuid, (name, macs) in self.machines.items()
        ]

    def start(self, uuid: str, name: str, *macs: str) -> None:
        self.machines[uuid] = name, macs
        for mac in macs:
            self.kernel.add_device(f"vif{mac[-2:]}")
        links: dict[str | int, int] = dict.fromkeys(range(len(macs)), 1500)
        self.kernel.stacks[uuid] = Stack(mtus=links)

    def stop(self, uuid: str) -> None:
        _, macs = self.machines.pop(uuid)
        for mac in macs:
            self.kernel.remove_device(f"vif{mac[-2:]}")
        del self.kernel.stacks[uuid]

    def devices(self) -> dict[str, Device]:
        return {
            name: Device(device.index, device.mtu, self.kernel.ports[name].up is not False)
            for name, device in self.kernel.devices.items()
        }


class FakeAgent:
    """The real `host.Host` over all of this, with a clock that the test sets.

    `sent` are the notifications; a process that was killed leaves the directory and the kernel.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.faults = Faults()
        self.kernel = FakeKernel(self.faults)
        self.hypervisor = FakeHypervisor(self.kernel)
        self.sent: list[str] = []
        self.now = 1000.0
        self.life_cycle: LifeCycle | None = None
        self.host = self._new()

    def _new(self) -> Host:
        shaper, network = FakeShaper(self.kernel), FakeNetwork(self.kernel)
        adapters: Any = (shaper, network, FakeFirewall(self.kernel))
        return Host(
            HostKernel(*adapters),
            self.hypervisor,
            self.hypervisor.devices,
            StateFile(self.directory),
            lambda name, _: self.sent.append(name),
            lambda: self.now,
            self.clock,
            life_cycle=self.life_cycle,
        )

    def clock(self) -> Now:
        """The time as the agent sees it."""
        return Now(1_000_000 + self.now, self.now)

    def start(self) -> None:
        """A new process over what the last one left."""
        self.host = self._new()
        with self.faults.disk():
            self.host.start()

    def set(self, *varbinds: VarBind, by: str = "ann") -> None:
        with self.faults.disk():
            self.host.set(varbinds, by)

    def refuses(self, *varbinds: VarBind, by: str = "ann") -> tuple[str, int]:
        """The error-status and error-index of a SET."""
        with pytest.raises(SetRefused) as caught:
            self.set(*varbinds, by=by)
        return caught.value.status.name, caught.value.index

    def wait(self, seconds: float = 1) -> None:
        """Time passes at once, and the agent looks."""
        self.now += seconds
        with self.faults.disk():
            self.host.kernel_event()
            self.host.tick()

    def sync(self, table: str, *key: Any) -> str:
        """Whether the system matches a row."""
        return self.host.sync(RowKey(table, KEYS[table](*key)))[0].name

    @property
    def mode(self) -> str:
        """vmibHostAgentMode."""
        return self.host.mode.name

    @property
    def on_disk(self) -> State:
        """The state as another process would load it."""
        loaded = StateFile(self.directory).load()
        assert loaded is not None
        return loaded

    def differences(self) -> list[str]:
        """What of the kernel is not as the rows say."""
        host = self.host
        names = {device.if_index: name for name, device in self.hypervisor.devices().items()}
        wanted = wish(host.rows, names)
        target, obstructions = compile_target(host.rows, wanted, TargetCache())
        assert not obstructions
        return self.kernel.differences(target, self.hypervisor.guests())


def vb(name: str, key: Sequence[Any], value: Any) -> VarBind:
    """A varbind by the names of the MIB and values of Python."""
    if name in SCALARS:
        leaf = SCALARS[name]
        return VarBind((*leaf.oid, 0), Value(leaf.syntax.tag, leaf.syntax.encode(value)))
    table, column = COLUMNS[name]
    oid = (*column.oid, *table.encode_index(key))
    return VarBind(oid, Value(column.syntax.tag, column.syntax.encode(value)))
