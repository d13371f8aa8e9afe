"""The packet filter in the running kernel, judged by iptables-legacy(8)."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TypeVar

import pytest

from vmib_agent import firewall, libiptc
from vmib_agent.firewall import Firewall, diff
from vmib_agent.firewall_plan import InsertRule, NewChain, PutJumps
from vmib_agent.iptables import JUMP_COMMENT, Chain, Rule, Ruleset, Unknown, comment_of
from vmib_agent.isolation import Domain, Filter, Member, Nat, Routed, compile_rules
from vmib_agent.netlink import in_namespace
from vmib_agent.ports import ApplyError

from .hosts import ROOT, run

pytestmark = pytest.mark.netns

T = TypeVar("T")

INPUT, FORWARD = Chain(4, "filter", "INPUT"), Chain(4, "filter", "FORWARD")
X, Y = Chain(4, "filter", "VMIB-X"), Chain(4, "filter", "VMIB-Y")
PLACES = [(family, table) for family in (4, 6) for table in ("filter", "nat")]


def owned(priority: int, **fields: object) -> Rule:
    return Rule("RETURN", comment=comment_of(("filter", 1, priority)), **fields)  # type: ignore[arg-type]


class Namespace:
    """A network namespace in which tools and this process's threads work."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.firewall = Firewall()

    def inside(self, *command: str, check: bool = True, **environment: str) -> str:
        words = [f"{name}={value}" for name, value in environment.items()]
        return run("ip", "netns", "exec", self.name, "env", *words, *command, check=check)

    def here(self, work: Callable[[], T]) -> T:
        return in_namespace(Path("/run/netns") / self.name, work)

    def read(self) -> Ruleset:
        return self.here(self.firewall.read)

    def become(self, wanted: Ruleset) -> None:
        self.here(lambda: self.firewall.apply(diff(wanted, self.firewall.read())))

    def listed(self, family: int, table: str = "filter") -> list[str]:
        """What iptables-legacy -S prints, without the policies."""
        tool = {4: "iptables-legacy", 6: "ip6tables-legacy"}[family]
        lines = self.inside(tool, "-t", table, "-S").splitlines()
        return [line for line in lines if not line.startswith("-P")]

    def counted(self, chain: str) -> dict[str, int]:
        """The packets of each rule of a chain, by its comment, as iptables-legacy counts them."""
        lines = self.inside("iptables-legacy", "-vS", chain).splitlines()
        found = (re.search(r'--comment "?([^ "]+)"? -c (\d+)', line) for line in lines)
        return {match[1]: int(match[2]) for match in found if match}

    def saved(self) -> str:
        """Everything of both families, as iptables-legacy-save has it, without times and counts."""
        text = "".join(
            self.inside(tool) for tool in ("iptables-legacy-save", "ip6tables-legacy-save")
        )
        return re.sub(r"#.*\n|\[\d+:\d+\]", "", text)


@pytest.fixture
def ns() -> Iterator[Namespace]:
    name = f"vmt-fw-{os.getpid()}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield Namespace(name)
    finally:
        run("ip", "netns", "del", name)


def members(count: int, domains: int) -> list[Member]:
    return [
        Member(
            device=f"vif{number}.0",
            mac=f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}",
            addresses=(
                ip_address(f"10.1.{number >> 8}.{number & 255}"),
                ip_address(f"fd00::{number:x}"),
            ),
            spoof_guard=True,
            domain=number % domains + 1,
            vm=number,
            vif=1,
            bridge=("br0", "nat0")[number % 2],
        )
        for number in range(1, count + 1)
    ]


def everything() -> Ruleset:
    """The rules of a host on which every kind of rule is needed."""
    filters = [
        Filter(0, 1, "fromVm", "accept", protocol=1),
        Filter(0, 2, "toVm", "drop", src=ip_network("192.0.2.0/24")),
        Filter(1, 1, "fromVm", "reject", protocol=6, dst_ports=(25, 25)),
        Filter(1, 2, "fromVm", "reject", protocol=17, src_ports=(1, 1023), dst_ports=(0, 99)),
        Filter(1, 3, "toVm", "accept", vm=2, protocol=132, src_ports=(5, 5), dst_ports=(1, 2)),
        Filter(1, 4, "toVm", "reject", dst=ip_network("fd00::/64")),
        Filter(2, 1, "fromVm", "accept", vm=1, vif=1, protocol=136, dst_ports=(7, 7)),
        Filter(2, 2, "toVm", "accept", family=4),
    ]
    return compile_rules(
        members(24, 2),
        [Domain(1, "a", "drop"), Domain(2, "b", "accept")],
        filters,
        [Nat("nat0", ip_network("10.1.0.0/16")), Nat("nat6", ip_network("fd01::/64"))],
        [Routed("rt0", ip_network("fd02::/64"))],
        ["closed0"],
    )


@pytest.mark.parametrize(("family", "table"), PLACES)
def test_iptables_lists_what_was_wanted_character_by_character(
    ns: Namespace, family: int, table: str
) -> None:
    wanted = everything()
    ns.become(wanted)
    lines = list(wanted.lines(family, table))
    assert len(lines) > 2
    assert ns.listed(family, table) == lines


def test_every_protocol_has_the_name_that_iptables_gives_it(ns: Namespace) -> None:
    rules = tuple(Rule("RETURN", protocol=number) for number in range(1, 256))
    wanted = Ruleset({X: rules, Chain(6, "filter", "VMIB-X"): rules})
    ns.become(wanted)
    for family in (4, 6):
        assert ns.listed(family) == list(wanted.lines(family, "filter"))
    assert diff(wanted, ns.read()) == []


def test_what_was_written_is_read_again_and_needs_no_change(ns: Namespace) -> None:
    wanted = everything()
    ns.become(wanted)
    found = ns.read()
    assert found.chains == wanted.chains
    assert diff(wanted, found) == []
    for name, value in wanted.sysctls.items():
        assert ns.inside("sysctl", "-n", name).strip() == str(value)


def test_reading_alone_makes_no_table(ns: Namespace) -> None:
    assert ns.read().chains == {}
    assert ns.inside("cat", "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names") == ""


def make_foreign_rules(ns: Namespace) -> None:
    for place in PLACES:
        assert ns.listed(*place) == []
    for command in (
        "-N FOREIGN",
        "-A FOREIGN -m limit --limit 5/min -j LOG --log-prefix foreign",
        "-A FOREIGN -j RETURN",
        "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        "-A FORWARD -s 192.0.2.0/24 -j FOREIGN",
        '-A INPUT -m comment --comment "vmib:jump" -j FOREIGN',
        "-A OUTPUT -p tcp ! --dport 80 -j ACCEPT",
        "-P OUTPUT DROP",
    ):
        for tool in ("iptables-legacy", "ip6tables-legacy"):
            ns.inside(tool, *command.replace('"', "").replace(
                "192.0.2.0/24", "192.0.2.0/24" if tool[2] == "t" else "2001:db8::/32"
            ).split())  # fmt: skip
    ns.inside("iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-o", "eth9", "-j", "MASQUERADE")


def test_foreign_rules_chains_and_policies_survive_change_and_cleanup(ns: Namespace) -> None:
    make_foreign_rules(ns)
    before = ns.saved()
    ns.become(everything())
    during = [line for line in ns.saved().splitlines() if "VMIB-" not in line]
    assert during == before.splitlines()
    ns.become(Ruleset())
    assert ns.saved() == before


def test_rules_of_the_nft_variant_are_not_ours_to_touch(ns: Namespace) -> None:
    if not shutil.which("iptables-nft"):
        pytest.skip("needs iptables-nft")
    ns.inside("iptables-nft", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP")
    before = ns.inside("iptables-nft", "-S")
    ns.become(everything())
    assert ns.inside("iptables-nft", "-S").splitlines()[: len(before.splitlines())] == (
        before.splitlines()
    )
    ns.become(Ruleset())
    assert "192.0.2.1/32" in ns.inside("iptables-nft", "-S")


def loopback(*rules: Rule) -> Ruleset:
    """Rules that packets from the host to itself meet."""
    return Ruleset({INPUT: (Rule("VMIB-X", comment=JUMP_COMMENT),), X: rules})


def test_counters_are_kept_over_changes_around_a_rule(ns: Namespace) -> None:
    ns.inside("iptables-legacy", "-A", "INPUT", "-m", "comment", "--comment", "foreign")
    ping = [owned(number, protocol=1) for number in (10, 20, 30)]
    other = owned(99, protocol=6)
    first = replace(ping[0], target="VMIB-Y")
    ns.become(Ruleset(loopback(first, other, ping[2]).chains | {Y: ()}))
    ns.inside("ping", "-c", "3", "-i", "0.2", "127.0.0.1")
    assert ns.counted("VMIB-X") == {"vmib:f1.10": 6, "vmib:f1.99": 0, "vmib:f1.30": 6}
    ns.become(Ruleset(loopback(owned(5, protocol=6), first, ping[1], ping[2]).chains | {Y: ()}))
    assert ns.counted("VMIB-X") == {
        "vmib:f1.5": 0,
        "vmib:f1.10": 6,
        "vmib:f1.20": 0,
        "vmib:f1.30": 6,
    }
    assert ns.counted("INPUT")["foreign"] == 6
    assert ns.here(ns.firewall.counters) == {
        (1, 5): (0, 0),
        (1, 10): (6, 6 * 84),
        (1, 20): (0, 0),
        (1, 30): (6, 6 * 84),
    }


def test_counters_of_a_filter_are_summed_over_its_rules_and_both_families(ns: Namespace) -> None:
    rule = owned(7)
    chains = {
        Chain(6, "filter", "INPUT"): (Rule("VMIB-X", comment=JUMP_COMMENT),),
        Chain(6, "filter", "VMIB-X"): (rule,),
    }
    many = (replace(rule, target="VMIB-Y", protocol=1), rule)
    ns.become(Ruleset({**loopback(*many).chains, Y: (), **chains}))
    ns.inside("ping", "-c", "1", "127.0.0.1")
    ns.inside("ping", "-c", "1", "::1")
    packets, octets = ns.here(ns.firewall.counters)[1, 7]
    assert (packets, octets) == (4 + 2, 4 * 84 + 2 * 104)


def test_a_table_that_the_kernel_refuses_stays_as_it_was(ns: Namespace) -> None:
    ns.become(loopback(owned(1)))
    before = ns.saved()
    wrong = Rule("REJECT", protocol=17, reject="tcp-reset")
    steps = [InsertRule(X, 0, owned(2)), InsertRule(X, 1, wrong), NewChain(Y)]
    with pytest.raises(ApplyError, match="iptables -t filter: Invalid argument") as refused:
        ns.here(lambda: ns.firewall.apply(steps))
    assert refused.value.index == 0
    assert ns.saved() == before


def test_a_step_that_cannot_be_made_is_named_and_nothing_is_changed(ns: Namespace) -> None:
    ns.become(loopback(owned(1)))
    before = ns.listed(4)
    steps = [NewChain(Chain(6, "filter", "VMIB-Z")), InsertRule(X, 0, owned(2)), NewChain(X)]
    with pytest.raises(ApplyError, match="iptables -N VMIB-X: Chain already exists") as refused:
        ns.here(lambda: ns.firewall.apply(steps[1:]))
    assert refused.value.index == 1
    with pytest.raises(ApplyError) as refused:
        ns.here(lambda: ns.firewall.apply(steps))
    assert refused.value.index == 2, "counted over all tables"
    assert ns.listed(4) == before
    assert ns.listed(6) == ["-N VMIB-Z"], "tables are changed one by one"


def test_our_chain_to_which_a_foreign_rule_jumps_stays_and_the_reason_is_told(
    ns: Namespace,
) -> None:
    ns.become(loopback(owned(1)))
    ns.inside("iptables-legacy", "-A", "OUTPUT", "-j", "VMIB-X")
    before = ns.saved()
    with pytest.raises(ApplyError, match="-X VMIB-X: a rule of somebody else jumps to VMIB-X"):
        ns.become(Ruleset())
    assert ns.saved() == before


def test_a_foreign_rule_before_our_jump_is_seen_and_overtaken(ns: Namespace) -> None:
    wanted = loopback(owned(1))
    ns.become(wanted)
    ns.inside("iptables-legacy", "-I", "INPUT", "1", "-s", "192.0.2.1", "-j", "ACCEPT")
    found = ns.read()
    assert found.overruled == {INPUT}
    (step,) = diff(wanted, found)
    assert isinstance(step, PutJumps)
    ns.become(wanted)
    assert ns.listed(4)[1:3] == [
        '-A INPUT -m comment --comment "vmib:jump" -j VMIB-X',
        "-A INPUT -s 192.0.2.1/32 -j ACCEPT",
    ]


def test_a_foreign_rule_in_our_chain_goes_and_the_way_back_brings_it_again(ns: Namespace) -> None:
    wanted = loopback(owned(1), owned(2))
    ns.become(wanted)
    for rule in (
        "-p icmp -m limit --limit 5/min -j LOG --log-prefix strange",
        "-m conntrack ! --ctstate NEW -j ACCEPT",
        "-f ! -s 192.0.2.1/32 -j VMIB-X2",
    ):
        ns.inside("iptables-legacy", "-N", "VMIB-X2", check=False)
        ns.inside("iptables-legacy", "-I", "VMIB-X", "2", *rule.split())
    before, text = ns.read(), ns.saved()
    assert sum(isinstance(entry, Unknown) for entry in before.chains[X]) == 3
    ns.become(wanted)
    assert ns.listed(4) == list(wanted.lines(4, "filter"))
    ns.become(before)
    assert ns.saved() == text


def test_a_change_by_somebody_without_the_lock_is_not_lost(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    carry_out = firewall._Edit.carry_out
    interrupted = []

    def interrupt(edit: firewall._Edit, steps: list[firewall.Step]) -> None:
        carry_out(edit, steps)
        if not interrupted:
            foreign = ("iptables-legacy", "-A", "FORWARD", "-s", "192.0.2.7", "-j", "DROP")
            interrupted.append(ns.inside(*foreign, XTABLES_LOCKFILE=str(tmp_path / "lock")))

    monkeypatch.setattr(firewall._Edit, "carry_out", interrupt)
    wanted = loopback(owned(1))
    ns.become(wanted)
    assert interrupted
    assert set(ns.listed(4)) == {*wanted.lines(4, "filter"), "-A FORWARD -s 192.0.2.7/32 -j DROP"}


def test_a_chain_that_somebody_changed_between_plan_and_change_is_left_alone(
    ns: Namespace,
) -> None:
    ns.become(loopback(owned(1), owned(2)))
    steps = diff(loopback(owned(2)), ns.read())
    ns.inside("iptables-legacy", "-I", "VMIB-X", "1", "-j", "ACCEPT")
    before = ns.saved()
    with pytest.raises(ApplyError, match="somebody else has changed the chain"):
        ns.here(lambda: ns.firewall.apply(steps))
    assert ns.saved() == before


def test_iptables_users_and_vmib_wait_for_each_other(ns: Namespace) -> None:
    script = (
        "for n in $(seq 40); do iptables-legacy -w -A FORWARD -s 192.0.2.$n -j DROP || exit 1; done"
    )
    command = ["ip", "netns", "exec", ns.name, "sh", "-c", script]
    with subprocess.Popen(command) as stranger:
        changes = 0
        while stranger.poll() is None:
            ns.become(loopback(*(owned(number) for number in range(changes % 7))))
            changes += 1
        assert stranger.returncode == 0
    assert changes > 3
    foreign = [line for line in ns.listed(4) if line.startswith("-A FORWARD")]
    assert foreign == [f"-A FORWARD -s 192.0.2.{number}/32 -j DROP" for number in range(1, 41)]


def test_a_lock_that_is_never_let_go_is_an_error_and_no_endless_wait(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libiptc, "LOCK_PATIENCE", 0.1)
    with Path("/run/xtables.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ApplyError, match="another program holds /run/xtables"):
            ns.become(loopback(owned(1)))
    assert ns.read().chains == {}


def test_capabilities_are_found_without_a_trace(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ns.here(ns.firewall.capabilities) == {"filters", "nat"}
    assert ns.read().missing == {}
    assert ns.inside("cat", "/proc/net/ip_tables_names") == ""
    monkeypatch.setattr(firewall, "in_new_namespace", lambda work: None)
    assert ns.here(ns.firewall.capabilities) == {"filters", "nat"}
    assert not any(ns.listed(*place) for place in PLACES)


def test_who_may_not_read_which_tables_there_are_asks_for_each(
    ns: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    ns.become(loopback(owned(1)))
    there = ns.read()

    def refuse(*_: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(firewall, "_sysctls", lambda: there.sysctls)
    assert ns.read() == there
    assert ns.here(lambda: libiptc.existing_tables(4, ("filter", "nat", "none"))) == {
        "filter",
        "nat",
    }


WITHOUT_LIBIPTC = """
import sys
sys.modules["iptc"] = None
from vmib.errors import Unavailable
from vmib_agent.firewall import Firewall, diff
from vmib_agent.iptables import Chain, Ruleset
firewall = Firewall()
assert firewall.capabilities() == set()
assert diff(Ruleset(), firewall.read()) == []
try:
    diff(Ruleset({Chain(4, "filter", "VMIB-X"): ()}), firewall.read())
except Unavailable as refusal:
    print(refusal)
"""

QUIETLY = """
from vmib_agent.firewall import Firewall, diff
from vmib_agent.iptables import Chain, Rule, Ruleset
firewall = Firewall()
firewall.capabilities()
firewall.apply(diff(Ruleset({Chain(4, "filter", "VMIB-X"): (Rule("DROP"),)}), firewall.read()))
firewall.counters()
"""


def python(ns: Namespace, script: str) -> str:
    """What a script prints on both outputs."""
    path = os.pathsep.join(str(ROOT / part) for part in ("agent", "mibs"))
    return ns.inside(sys.executable, "-c", script, PYTHONPATH=path)


def test_a_host_without_libiptc_can_do_the_rest(ns: Namespace) -> None:
    printed = python(ns, WITHOUT_LIBIPTC)
    assert printed.startswith("iptables -t filter: python-iptables cannot load libiptc")


def test_nothing_is_printed(ns: Namespace) -> None:
    assert python(ns, QUIETLY) == ""
    assert ns.listed(4) == ["-N VMIB-X", "-A VMIB-X -j DROP"]


def test_256_interfaces_are_read_and_changed_fast_enough_to_look_often(ns: Namespace) -> None:
    domains = [Domain(number, f"d{number}", "drop") for number in range(1, 17)]
    filters = [
        Filter(domain, 10 * n, "fromVm", "accept", protocol=6, dst_ports=(n, n))
        for domain in range(1, 17)
        for n in range(1, 9)
    ]
    times: dict[str, float] = {}

    def timed(what: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        done = work()
        times[what] = 1000 * (time.perf_counter() - start)
        return done

    def work() -> None:
        kernel = ns.firewall
        wanted = timed("compile", lambda: compile_rules(members(256, 16), domains, filters))
        nothing = kernel.read()
        steps = timed("diff from nothing", lambda: diff(wanted, nothing))
        timed("apply", lambda: kernel.apply(steps))
        kernel.read()
        found = timed("read", kernel.read)
        assert timed("diff", lambda: diff(wanted, found)) == []
        timed("counters", kernel.counters)
        more = compile_rules(members(257, 16), domains, filters)
        steps = timed("diff of one more", lambda: diff(more, found))
        assert len(steps) < 60
        timed("apply one more", lambda: kernel.apply(steps))
        assert diff(more, kernel.read()) == []

    ns.here(work)
    print(", ".join(f"{what} {taken:.1f} ms" for what, taken in times.items()))
