"""The difference between two rulesets: it leads from one to the other, and touches no more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmib.errors import Unavailable
from vmib_agent.firewall_plan import (
    DeleteChain,
    DeleteRule,
    FlushChain,
    InsertRule,
    NewChain,
    PutJumps,
    SetSysctl,
    Step,
    diff,
)
from vmib_agent.iptables import JUMP_COMMENT, Chain, Rule, Ruleset, Unknown, comment_of

FORWARD = Chain(4, "filter", "FORWARD")
A, B = Chain(4, "filter", "VMIB-A"), Chain(4, "filter", "VMIB-B")
NAT = Chain(6, "nat", "VMIB-N")
JUMP = Rule("VMIB-A", comment=JUMP_COMMENT)
SYSCTL = "net.bridge.bridge-nf-call-iptables"


def numbered(*numbers: int) -> tuple[Rule, ...]:
    return tuple(Rule("DROP", comment=comment_of(("filter", 1, number))) for number in numbers)


def carried_out(steps: list[Step], before: Ruleset) -> tuple[Ruleset, dict[Chain, list[int]]]:
    """What the steps make of a ruleset, and which rules of each chain were there all the time."""
    chains: dict[Chain, list[Any]] = {
        chain: list(enumerate(rules)) for chain, rules in before.chains.items()
    }
    sysctls, overruled = dict(before.sysctls), set(before.overruled)
    for step in steps:
        match step:
            case NewChain(chain):
                assert chain not in chains
                chains[chain] = []
            case InsertRule(chain, position, entry):
                assert 0 <= position <= len(chains[chain])
                chains[chain].insert(position, (None, entry))
            case DeleteRule(chain, position, entry):
                assert chains[chain].pop(position)[1] == entry
            case FlushChain(chain):
                chains[chain] = []
            case DeleteChain(chain):
                assert chains.pop(chain) == []
            case PutJumps(chain, _, after):
                chains[chain] = [(None, entry) for entry in after]
                overruled.discard(chain)
                if not after:
                    del chains[chain]
            case SetSysctl(name, value):
                sysctls[name] = value
    kept = {c: [n for n, _ in rules if n is not None] for c, rules in chains.items()}
    plain = {chain: tuple(entry for _, entry in rules) for chain, rules in chains.items()}
    return Ruleset(plain, sysctls, frozenset(overruled)), kept


own_rules = st.lists(st.integers(0, 5), max_size=8).map(lambda found: numbered(*found))
rulesets = st.builds(
    lambda own, has_jump, sysctl: Ruleset(
        own | ({FORWARD: (JUMP,)} if has_jump else {}), {SYSCTL: sysctl}
    ),
    st.dictionaries(st.sampled_from([A, B, NAT]), own_rules),
    st.booleans(),
    st.integers(0, 1),
)


@given(wanted=rulesets, actual=rulesets, overruled=st.booleans())
def test_the_steps_lead_from_what_is_to_what_is_wanted(
    wanted: Ruleset, actual: Ruleset, overruled: bool
) -> None:
    if overruled and FORWARD in actual.chains:
        actual = replace(actual, overruled=frozenset([FORWARD]))
    found, _ = carried_out(list(diff(wanted, actual)), actual)
    assert found == wanted
    assert list(diff(wanted, found)) == []


@given(
    st.lists(st.integers(0, 99), unique=True, max_size=30).map(sorted),
    st.lists(st.integers(0, 99), unique=True, max_size=30).map(sorted),
)
def test_rules_that_stay_are_not_touched(before: list[int], after: list[int]) -> None:
    wanted, actual = Ruleset({A: numbered(*after)}), Ruleset({A: numbered(*before)})
    _, kept = carried_out(list(diff(wanted, actual)), actual)
    assert [before[position] for position in kept[A]] == sorted({*before} & {*after})


def test_steps_of_one_table_are_in_a_row_and_settings_come_last() -> None:
    wanted = Ruleset({A: (), NAT: (), FORWARD: (JUMP,)}, {SYSCTL: 1})
    steps = diff(wanted, Ruleset({B: numbered(1)}, {SYSCTL: 0}))
    assert steps == [
        NewChain(A),
        PutJumps(FORWARD, (), (JUMP,)),
        FlushChain(B),
        DeleteChain(B),
        NewChain(NAT),
        SetSysctl(SYSCTL, 1),
    ]
    assert {step.subject for step in steps} == {"firewall"}


def test_a_jump_behind_a_foreign_rule_is_put_before_it() -> None:
    actual = Ruleset({A: (), FORWARD: (JUMP,)}, overruled=frozenset([FORWARD]))
    wanted = replace(actual, overruled=frozenset())
    assert diff(wanted, actual) == [PutJumps(FORWARD, (JUMP,), (JUMP,))]
    assert diff(actual, actual) == [], "the way back needs no step"


def test_the_steps_read_as_commands() -> None:
    (rule,) = numbered(7)
    jump = f'-m comment --comment "{JUMP_COMMENT}" -j VMIB-A'
    assert [
        step.describe()
        for step in (
            NewChain(NAT),
            InsertRule(A, 2, rule),
            DeleteRule(A, 0, rule),
            DeleteRule(A, 0, Unknown(b"12345678")),
            PutJumps(FORWARD, (JUMP,), (JUMP,)),
            FlushChain(NAT),
            DeleteChain(A),
            SetSysctl(SYSCTL, 1),
        )
    ] == [
        "ip6tables -t nat -N VMIB-N",
        'iptables -I VMIB-A 3 -m comment --comment "vmib:f1.7" -j DROP',
        'iptables -D VMIB-A -m comment --comment "vmib:f1.7" -j DROP',
        "iptables -D VMIB-A 1",
        f"iptables -D FORWARD {jump} && iptables -I FORWARD 1 {jump}",
        "ip6tables -t nat -F VMIB-N",
        "iptables -X VMIB-A",
        "sysctl -w net.bridge.bridge-nf-call-iptables=1",
    ]


def test_a_step_about_one_rule_knows_whose_it_is() -> None:
    (rule,) = numbered(7)
    assert InsertRule(A, 0, rule).owner == DeleteRule(A, 0, rule).owner == ("filter", 1, 7)
    assert DeleteRule(A, 0, Unknown(b"")).owner is None
    assert PutJumps(FORWARD, (), (JUMP,)).owner is None


def test_a_table_that_the_host_does_not_have_is_named_with_the_reason() -> None:
    actual = Ruleset(missing={(6, "nat"): "Table does not exist"})
    assert diff(Ruleset({A: ()}), actual) == [NewChain(A)]
    with pytest.raises(Unavailable, match="ip6tables -t nat: Table does not exist"):
        diff(Ruleset({NAT: ()}), actual)


def test_a_setting_that_the_kernel_does_not_have_is_named_with_its_module() -> None:
    with pytest.raises(Unavailable, match=rf"{SYSCTL}: .*load the module br_netfilter"):
        diff(Ruleset(sysctls={SYSCTL: 1}), Ruleset())
