"""Plans of shaping: minimal, in an order that works, and refused where strangers stand."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmib.errors import Unavailable
from vmib.impairment import Impairment
from vmib_agent.ports import Operation
from vmib_agent.qdiscs import (
    EMPTY,
    ROOT,
    Htb,
    HtbClass,
    Netem,
    Other,
    Qdisc,
    Rule,
    Table,
    Tbf,
    Tree,
    make_tree,
)
from vmib_agent.shaping import compile_tree
from vmib_agent.shapingstate import Obstacle, Owner, ShapedVif, VifState, diff
from vmib_agent.steps import TcStep, Verb
from vmib_agent.treediff import diff_trees

MTU = 1500
VIF = ShapedVif("vif1.0", "vmifb-1")
SLOW = compile_tree(Impairment(rate=1000), {}, MTU)
FAST = compile_tree(Impairment(rate=2000), {}, MTU)
LINKED = compile_tree(Impairment(rate=1000), {ip_network("10.0.0.1"): Impairment(rate=9)}, MTU)
DELAYED = compile_tree(Impairment(rate=1000, delay=20_000), {}, MTU)


class Kernel:
    """What the kernel does with steps, as far as order and existence go."""

    def __init__(self, tree: Tree) -> None:
        self.qdiscs = {item.parent: item for item in tree.qdiscs}
        self.classes = {item.classid: item for item in tree.classes}
        self.tables = set(tree.tables)
        self.rules = {self._id(item): item for item in tree.rules}

    @staticmethod
    def _id(rule: Rule) -> tuple[int, int, int, int]:
        return rule.protocol, rule.table, rule.bucket, rule.node

    def tree(self) -> Tree:
        return make_tree(
            self.qdiscs.values(), self.classes.values(), self.tables, self.rules.values()
        )

    def take(self, step: TcStep) -> None:
        self._take(step)
        netems = [q.options for q in self.qdiscs.values() if isinstance(q.options, Netem)]
        assert len(netems) < 2 or not any(netem.duplicate for netem in netems)

    def _take(self, step: TcStep) -> None:
        match step.item:
            case Qdisc():
                self._qdisc(step.verb, step.item)
            case HtbClass(classid):
                assert (classid in self.classes) == (step.verb is not Verb.ADD)
                if step.verb is Verb.DELETE:
                    assert all(rule.classid != classid for rule in self.rules.values())
                    del self.classes[classid]
                    self._forget(classid)
                else:
                    self.classes[classid] = step.item
            case Table():
                assert step.verb is Verb.ADD
                self.tables.add(step.item)
            case Rule():
                self._rule(step.verb, step.item)

    def _rule(self, verb: Verb, rule: Rule) -> None:
        if verb is Verb.DELETE:
            assert self.rules.pop(self._id(rule)) == rule
            return
        assert verb is Verb.ADD
        assert self._id(rule) not in self.rules
        assert not rule.classid or rule.classid in self.classes
        if rule.hash_on:
            assert Table(rule.protocol, rule.hash_on.table) in self.tables
        assert not rule.table or Table(rule.protocol, rule.table) in self.tables
        self.rules[self._id(rule)] = rule

    def _forget(self, parent: int) -> None:
        gone = self.qdiscs.pop(parent, None)
        if gone is None:
            return
        self._forget(gone.handle | 1)
        if isinstance(gone.options, Htb):
            for classid in list(self.classes):
                self._forget(classid)
            self.classes, self.tables, self.rules = {}, set(), {}

    def _qdisc(self, verb: Verb, item: Qdisc) -> None:
        old = self.qdiscs.get(item.parent)
        if verb is Verb.DELETE:
            assert old == item
            self._forget(item.parent)
        elif verb is Verb.CHANGE:
            assert old is not None
            assert old.handle == item.handle
            assert type(old.options) is type(item.options)
            assert not isinstance(item.options, Htb)
            self.qdiscs[item.parent] = item
        else:
            assert (old is None) == (verb is Verb.ADD)
            handles = {other.handle for other in self.qdiscs.values()}
            assert item.handle not in handles, "Cannot move an existing qdisc"
            self._forget(item.parent)
            self.qdiscs[item.parent] = item


shapes = st.builds(
    Impairment,
    rate=st.sampled_from([0, 64, 10_000]),
    delay=st.sampled_from([0, 1000, 2000]),
    loss=st.sampled_from([0, 5]),
)
destinations = st.sampled_from(
    [ip_network((0x0A000000 + n, 32)) for n in range(40)]
    + [ip_network("10.0.0.0/24"), ip_network("0.0.0.0/0"), ip_network("fd00::/8")]
)
rates = st.builds(Impairment, rate=st.sampled_from([0, 64]))
duplicating = st.just(Impairment(duplicate=20_000, rate=64))
trees = st.builds(
    lambda shape, links: compile_tree(shape, links, MTU),
    shapes,
    st.dictionaries(destinations, shapes, max_size=25),
) | st.one_of(
    st.builds(
        lambda shape, links: compile_tree(shape, links, MTU),
        duplicating,
        st.dictionaries(destinations, rates, max_size=3),
    ),
    st.builds(
        lambda shape, links, one, link: compile_tree(shape, links | {one: link}, MTU),
        rates,
        st.dictionaries(destinations, rates, max_size=3),
        destinations,
        duplicating,
    ),
)
"""Of a tree that duplicates, the one netem does: the kernel mixes it with no other."""


@settings(max_examples=300, deadline=None)
@given(trees, trees)
def test_the_steps_lead_from_any_tree_to_any_other_in_an_order_the_kernel_takes(old, new) -> None:
    kernel = Kernel(old)
    for step in diff_trees("d", new, old):
        assert step.describe().startswith("tc ")
        assert isinstance(step, Operation)
        kernel.take(step)
    assert kernel.tree() == new
    assert list(diff_trees("d", new, kernel.tree())) == []


def words(old: Tree, new: Tree) -> list[str]:
    return [step.describe() for step in diff_trees("vif1.0", new, old)]


def test_a_rate_is_changed_in_place() -> None:
    assert words(SLOW, FAST) == [
        "tc qdisc change dev vif1.0 root handle 76f8: tbf rate 2000000bit burst 5000 limit 15140"
    ]


def test_a_delay_is_changed_in_place() -> None:
    new = compile_tree(Impairment(rate=1000, delay=30_000, loss=10_000), {}, MTU)
    assert words(DELAYED, new) == [
        "tc qdisc change dev vif1.0 parent 76f0:1 handle 76f1: netem limit 1000"
        " delay 30000us loss 1%"
    ]


def test_the_rate_of_a_link_is_changed_in_place() -> None:
    new = compile_tree(Impairment(rate=1000), {ip_network("10.0.0.1"): Impairment(rate=7)}, MTU)
    assert words(LINKED, new) == [
        "tc class change dev vif1.0 parent 76f6: classid 76f6:158d"
        " htb rate 7000bit burst 5000 quantum 1514"
    ]


def test_tbf_gets_its_own_queue_back_when_the_links_go() -> None:
    coarse = compile_tree(Impairment(rate=1000, burst=9000, queue_limit=2000), {}, MTU)
    linked = compile_tree(
        Impairment(rate=1000, burst=9000, queue_limit=2000), {ip_network("::/0"): Impairment()}, MTU
    )
    verbs = [(step.verb, step.item) for step in diff_trees("d", coarse, linked)]
    assert [verb for verb, _ in verbs] == [Verb.DELETE, Verb.CHANGE]
    assert isinstance(verbs[1][1], Qdisc)
    assert isinstance(verbs[1][1].options, Tbf)


def test_what_is_as_wanted_takes_no_step() -> None:
    assert diff({VIF: VifState(to_vm=LINKED)}, {VIF: VifState(to_vm=LINKED)}) == []


def test_from_vm_takes_an_ifb_a_hook_and_a_redirection_and_gives_them_back() -> None:
    wanted = {VIF: VifState(from_vm=SLOW)}
    done = {VIF: VifState(from_vm=SLOW, ifb=Owner.VMIB, hook=Owner.VMIB, is_redirected=True)}
    assert [step.describe().split(" root ")[0] for step in diff(wanted, {VIF: VifState()})] == [
        "ip link add vmifb-1 alias vmib:vif1.0 type ifb && ip link set vmifb-1 up",
        "tc qdisc add dev vmifb-1",
        "tc qdisc add dev vif1.0 handle ffff: ingress",
        "tc filter add dev vif1.0 ingress pref 30448 protocol all u32 match u32 0 0"
        " action mirred egress redirect dev vmifb-1",
    ]
    assert diff(wanted, done) == []
    assert [step.describe() for step in diff({}, done)] == [
        "tc qdisc del dev vif1.0 handle ffff: ingress",
        "ip link del vmifb-1",
    ]


def test_in_a_foreign_hook_only_our_filter_comes_and_goes() -> None:
    there = VifState(hook=Owner.FOREIGN)
    steps = [step.describe() for step in diff({VIF: VifState(from_vm=SLOW)}, {VIF: there})]
    assert not any("ingress" in step and "qdisc" in step for step in steps)
    done = VifState(hook=Owner.FOREIGN, is_redirected=True, ifb=Owner.VMIB, from_vm=SLOW)
    assert [step.describe() for step in diff({}, {VIF: done})] == [
        "tc filter del dev vif1.0 ingress pref 30448",
        "ip link del vmifb-1",
    ]


STRANGER = Obstacle("vif1.0", "qdisc netem 8001: on vif1.0 root", "tc qdisc del dev vif1.0 root")


def test_a_foreign_root_is_refused_with_its_name_and_the_way_out() -> None:
    there = VifState(to_vm_obstacles=(STRANGER,))
    with pytest.raises(Unavailable) as refused:
        diff({VIF: VifState(to_vm=SLOW)}, {VIF: there})
    assert str(refused.value) == (
        "vif1.0: qdisc netem 8001: on vif1.0 root is not vMIB's and in the way;"
        " remove it with: tc qdisc del dev vif1.0 root"
    )


def test_a_foreign_root_is_left_alone_when_nothing_is_wanted() -> None:
    assert diff({VIF: VifState()}, {VIF: VifState(to_vm_obstacles=(STRANGER,))}) == []


def test_a_device_that_does_not_exist_is_refused_only_if_something_is_wanted() -> None:
    absent = {VIF: VifState(is_present=False)}
    assert diff({VIF: VifState()}, absent) == []
    with pytest.raises(Unavailable, match="no such device"):
        diff({VIF: VifState(to_vm=SLOW)}, absent)


def test_options_a_stranger_changed_beyond_ours_are_made_new() -> None:
    spoilt = make_tree([Qdisc(SLOW.qdiscs[0].handle, ROOT, Other("tbf"))])
    assert [step.verb for step in diff_trees("d", SLOW, spoilt)] == [Verb.DELETE, Verb.ADD]


def test_removal_of_everything_is_one_step() -> None:
    assert words(LINKED, EMPTY) == ["tc qdisc del dev vif1.0 root handle 76f0:"]


def test_an_ifb_that_is_down_is_set_up() -> None:
    wanted, there = VifState(from_vm=SLOW), VifState(from_vm=SLOW, ifb=Owner.VMIB)
    hooked = replace(there, hook=Owner.VMIB, is_redirected=True)
    assert diff({VIF: wanted}, {VIF: hooked}) == []
    steps = diff({VIF: wanted}, {VIF: replace(hooked, ifb_is_down=True)})
    assert [step.describe() for step in steps] == ["ip link set vmifb-1 up"]
