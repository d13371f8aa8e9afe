"""The steps of a shaping plan, and how tc(8) and ip(8) would say them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from vmib_agent.classifier import destination
from vmib_agent.qdiscs import (
    INGRESS_HANDLE,
    ROOT,
    Bfifo,
    Htb,
    HtbClass,
    Ingress,
    Netem,
    Options,
    Other,
    Qdisc,
    Rule,
    Table,
    Tbf,
    handle_text,
)

_DISTRIBUTION_NAMES = {1: "uniform", 2: "normal", 3: "pareto", 4: "paretonormal"}
_PROTOCOL_NAMES = {0x0003: "all", 0x0800: "ip", 0x86DD: "ipv6"}


class Verb(Enum):
    """What is done to an object; `CHANGE` keeps the packets it holds."""

    ADD = "add"
    CHANGE = "change"
    REPLACE = "replace"
    DELETE = "del"


def _netem_text(options: Netem) -> str:
    words = [f"netem limit {options.limit}"]
    if options.delay or options.jitter:
        words.append(f"delay {options.delay}us")
    if options.jitter:
        words.append(f"{options.jitter}us")
        if options.distribution != 1:
            words.append(f"distribution {_DISTRIBUTION_NAMES[options.distribution]}")
    if options.loss:
        words.append(f"loss {options.loss / 10_000:g}%")
        if options.loss_correlation:
            words.append(f"{options.loss_correlation / 10_000:g}%")
    for name in ("duplicate", "corrupt", "reorder"):
        if value := getattr(options, name):
            words.append(f"{name} {value / 10_000:g}%")
    return " ".join(words)


def options_text(options: Options) -> str:
    """Kind and options of a qdisc, as tc takes them."""
    match options:
        case Tbf(rate, burst, limit):
            return f"tbf rate {rate * 8}bit burst {burst} limit {limit}"
        case Netem():
            return _netem_text(options)
        case Htb(default):
            return f"htb default {default:x}"
        case Bfifo(limit):
            return f"bfifo limit {limit}"
        case Ingress(block):
            return f"ingress_block {block} ingress" if block else "ingress"
        case Other(kind):
            return kind


def _place(parent: int) -> str:
    return "root" if parent == ROOT else f"parent {handle_text(parent)}"


def _rule_text(rule: Rule) -> str:
    where = f"ht {rule.table:x}:{rule.bucket:x}: order {rule.node:#x} u32"
    matches = " ".join(
        f"match u32 {key.value:#010x} {key.mask:#010x} at {key.offset}" for key in rule.keys
    )
    network = destination(rule)
    if network:
        family = "ip" if network.version == 4 else "ip6"
        matches = f"match {family} dst {network}"
    if rule.hash_on:
        mask, offset = rule.hash_on.mask, rule.hash_on.offset
        return f"{where} link {rule.hash_on.table:x}: hashkey mask {mask:#010x} at {offset}"
    return f"{where} {matches} flowid {handle_text(rule.classid)}"


@dataclass(frozen=True, slots=True)
class TcStep:
    """A change of one qdisc, class or filter below the root of a device.

    `parent` is the HTB qdisc a filter belongs to.
    """

    device: str
    verb: Verb
    item: Qdisc | HtbClass | Table | Rule
    parent: int = 0

    @property
    def subject(self) -> str:
        """The device."""
        return self.device

    def describe(self) -> str:
        """The step as a tc command."""
        verb, device = self.verb.value, self.device
        match self.item:
            case Qdisc(handle, parent, options):
                text = f"tc qdisc {verb} dev {device} {_place(parent)} handle {handle_text(handle)}"
                return text if self.verb is Verb.DELETE else f"{text} {options_text(options)}"
            case HtbClass(classid, rate, burst, quantum):
                place = f"parent {handle_text(self.item.parent)} classid {handle_text(classid)}"
                text = f"tc class {verb} dev {device} {place}"
                values = f"htb rate {rate * 8}bit burst {burst} quantum {quantum}"
                return text if self.verb is Verb.DELETE else f"{text} {values}"
            case Table(protocol, number):
                rest = f"handle {number:x}: u32 divisor 256"
            case Rule(protocol):
                rest = _rule_text(self.item)
        name = _PROTOCOL_NAMES[protocol]
        return f"tc filter {verb} dev {device} {_place(self.parent)} protocol {name} {rest}"


@dataclass(frozen=True, slots=True)
class IfbStep:
    """The making (`ADD`), setting up (`CHANGE`) or removal of the ifb that shapes what comes from
    `device`."""

    device: str
    verb: Verb
    ifb: str

    @property
    def subject(self) -> str:
        """The device whose traffic goes through the ifb; the ifb where there is none."""
        return self.device or self.ifb

    def describe(self) -> str:
        """The step as an ip command."""
        if self.verb is Verb.DELETE:
            return f"ip link del {self.ifb}"
        if self.verb is Verb.CHANGE:
            return f"ip link set {self.ifb} up"
        return (
            f"ip link add {self.ifb} alias vmib:{self.device} type ifb && ip link set {self.ifb} up"
        )


@dataclass(frozen=True, slots=True)
class IngressStep:
    """The hook that takes what comes from a device: an ingress qdisc with a block of ours."""

    device: str
    verb: Verb

    @property
    def subject(self) -> str:
        """The device."""
        return self.device

    def describe(self) -> str:
        """The step as a tc command."""
        where = f"dev {self.device} handle {handle_text(INGRESS_HANDLE)}"
        return f"tc qdisc {self.verb.value} {where} ingress"


@dataclass(frozen=True, slots=True)
class RedirectStep:
    """The filter that sends what comes from `device` through `ifb`.

    `shared` says that the ingress hook is somebody else's and only the filter ours.
    """

    device: str
    verb: Verb
    ifb: str
    shared: bool

    @property
    def subject(self) -> str:
        """The device."""
        return self.device

    def describe(self) -> str:
        """The step as a tc command."""
        text = f"tc filter {self.verb.value} dev {self.device} ingress pref 30448"
        if self.verb is Verb.DELETE:
            return text
        return f"{text} protocol all u32 match u32 0 0 action mirred egress redirect dev {self.ifb}"


Step = TcStep | IfbStep | IngressStep | RedirectStep
