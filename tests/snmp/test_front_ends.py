"""One table of requests, put to the agent itself and through snmpd: the answers are the same."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from vmib import objects
from vmib.vm_mib import VM_MIB

from .agentx_hosts import DIRECT, SNMPD, Both, both


def dotted(oid: tuple[int, ...]) -> str:
    """An OID as net-snmp's tools take and print it."""
    return "." + ".".join(map(str, oid))


pytestmark = [
    pytest.mark.snmp,
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("snmpd") is None, reason="needs snmpd (Debian package snmpd)"),
]

VMIB = "." + ".".join(map(str, objects.VMIB_MIB))
VM = "." + ".".join(map(str, VM_MIB))
RATE, RATE2, DELAY = "vmibShapeRate.1.1.2", "vmibShapeRate.2.1.2", "vmibShapeDelay.1.1.2"
HOST_UUID, LOCK = "vmibHostUuid.0", "vmibTxnSpinLock.0"
ADDRESS = "1.1.1.4.10.0.0.1"
MAX_VARBINDS = 20
MAX = str(2**32 - 1)


class Case(NamedTuple):
    """A request; `undo` is a SET that takes back what it did."""

    program: str
    words: tuple[str, ...]
    undo: tuple[str, ...] = ()


def get(*words: str) -> Case:
    return Case("snmpget", words)


def following(*words: str) -> Case:
    return Case("snmpgetnext", words)


def bulk(*words: str) -> Case:
    return Case("snmpbulkget", words)


def put(words: str, undo: str = "") -> Case:
    return Case("snmpset", tuple(words.split()), tuple(undo.split()))


MALFORMED = [
    "vmibShapeRate",
    "vmibShapeRate.1",
    "vmibShapeRate.1.1",
    "vmibShapeRate.1.1.3",
    "vmibShapeRate.1.1.2.0",
    "vmibShapeRate.0.1.2",
    f"vmibShapeRate.{MAX}.1.2",
    f"vmibShapeRate.1.1.{MAX}",
    "vmibAddrPrefixLength.1.1.1.4.10.0.0",
    "vmibAddrPrefixLength.1.1.1.5.10.0.0.1",
    "vmibAddrPrefixLength.1.1.1.4.10.0.0.256",
    "vmibAddrPrefixLength.1.1.9.4.10.0.0.1",
    f"vmibAddrPrefixLength.1.1.1.{MAX}.10.0.0.1",
    "vmibAddrPrefixLength.1.1.2.16" + ".255" * 15,
    "vmibVmLookupIndex" + ".300" * 36,
    "vmibVmLookupIndex" + ".48" * 36,
    "vmibVifLookupVmIndex.9.1.1",
    "vmibTxnSpinLock",
    "vmibTxnSpinLock.1",
    "vmibTxnSpinLock.0.0",
    "vmibShapeDirection.1.1.2",
    "vmibNotifyObject.0",
    VMIB,
    f"{VMIB}.1",
    f"{VMIB}.1.4.1.1.99.1.1.2",
    f"{VMIB}.77.1",
    f"{VMIB}.0",
    f"{VMIB}.1.4.1.1.2" + ".1" * 110,
]

BEFORE_THE_UPTIME = f"{VM}.1.1.3.0"

OF_VM_MIB = [
    VM,
    f"{VM}.1.1.1.0",
    BEFORE_THE_UPTIME,
    f"{VM}.1.2.0",
    f"{VM}.1.2",
    f"{VM}.1.4.1.1.1",
    *(f"{VM}.1.4.1.{column}.{row}" for column in (2, 3, 4, 5, 6, 7, 8, 9) for row in (1, 2)),
    f"{VM}.1.4.1.2.9",
    f"{VM}.1.4.1.2.1.1",
    f"{VM}.1.8.1.2.1",
    *(f"{VM}.1.8.1.{column}.1.1" for column in (1, 2, 3, 4, 6)),
    f"{VM}.1.9.0",
]

AFTER_THE_LAST = ("vmibNotifyObject.0", f"{VMIB}.77.1")

READS = [
    *(get(oid) for oid in MALFORMED),
    *(following(oid) for oid in MALFORMED if oid not in AFTER_THE_LAST),
    *(bulk("-Cr3", oid) for oid in MALFORMED[:12]),
    *(get(oid) for oid in OF_VM_MIB),
    *(following(oid) for oid in OF_VM_MIB if oid != BEFORE_THE_UPTIME),
    get(f"{VM}.1.4.1.2.1", RATE, f"{VM}.1.8.1.5.2.1"),
    bulk("-Cr20", f"{VM}.1.4"),
    get(HOST_UUID, RATE, RATE2, "vmibVmName.1", "vmibVifMacAddress.2.1"),
    get(RATE, "vmibShapeRate.9.1.2", f"{VMIB}.77.1", DELAY, RATE),
    get("vmibHostCapabilities.0", "vmibTxnDigest.0", "vmibTxnGeneration.0"),
    get(".1.3.6.1.4.1.99999.1.0"),
    following(RATE, RATE, RATE2),
    following(dotted(objects.ROOT[:7]), dotted((*objects.ROOT, 1, 1, 9))),
    bulk("-Cn1", "-Cr2", RATE, DELAY, RATE2),
    bulk("-Cn5", "-Cr2", RATE, DELAY),
    bulk("-Cr0", RATE),
    bulk("-Cr30", "vmibShapeRate", "vmibShapeDelay", "vmibVmName"),
]

WRONG_TYPES = [
    f"{RATE} {kind} {value}"
    for kind, value in {
        "i": "5", "s": "x", "x": "00", "o": ".1.3.6", "a": "192.0.2.1", "t": "5",
        "n": "0", "U": "5", "I": "5", "F": "5", "D": "5",
    }.items()
]  # fmt: skip

DOMAIN = "vmibDomainName.5 s site vmibDomainRowStatus.5 i 4"
NO_DOMAIN = "vmibDomainRowStatus.5 i 6"
SWITCH = "vmibSwitchName.1 s vmx1 vmibSwitchRowStatus.1 i 4"
NO_SWITCH = "vmibSwitchRowStatus.1 i 6"
LOST_ROUTE = (
    "vmibRouteNextHop.0.1.4.10.9.0.0.16.0 x C0000201 vmibRouteRowStatus.0.1.4.10.9.0.0.16.0 i 4"
)

WRITES = [
    put(f"{RATE} u 700", f"{RATE} u 0"),
    put(f"{RATE} u 700 {RATE2} u 800 vmibShapeRate.1.1.1 u 900",
        f"{RATE} u 0 {RATE2} u 0 vmibShapeRate.1.1.1 u 0"),
    put(DOMAIN, NO_DOMAIN),
    put(f"{DOMAIN} vmibVifDomain.1.1 u 5", f"vmibVifDomain.1.1 u 0 {NO_DOMAIN}"),
    put(f"vmibDomainRowStatus.5 i 4 {RATE} u 700 vmibDomainName.5 s site",
        f"{NO_DOMAIN} {RATE} u 0"),
    put(SWITCH, NO_SWITCH),
    put(f"vmibAddrPrefixLength.{ADDRESS} u 24 vmibAddrRowStatus.{ADDRESS} i 4",
        f"vmibAddrRowStatus.{ADDRESS} i 6"),
    put("vmibNotifyMinInterval.0 u 30", "vmibNotifyMinInterval.0 u 10"),
    put("vmibDomainRowStatus.9 i 6"),
    put(f"{RATE} u 0 {RATE} u 0"),
]  # fmt: skip

REFUSED = [
    *(put(words) for words in WRONG_TYPES),
    *(put(f"{RATE2} u 5 {words}") for words in WRONG_TYPES[:3]),
    put(f"{HOST_UUID} x {'00' * 16}"),
    put("vmibShapeDirection.1.1.2 i 1"),
    put(f"{VMIB}.77.1 i 1"),
    put(f"{VM}.1.4.1.2.1 s other"),
    put(f"{VM}.1.9.0 i 1"),
    put(f"{VM}.1.1.3.0 o .1.3.6"),
    put(f"{RATE} u 5 {VM}.1.4.1.5.1 i 4"),
    put(f"{LOCK[:-1]}1 i 1"),
    put(f"{LOCK} i 1"),
    put(f"{LOCK} i -1"),
    put(f"{RATE} u 5 {LOCK} i 1 {RATE2} u 5"),
    put(f"{RATE} u 5 {RATE} u 6"),
    put(f"{RATE} u 5 vmibShapeDelay.2.1.2 u 4294967295"),
    put(f"vmibShapeLoss.1.1.2 u 1000001 {RATE} u 5"),
    put("vmibShapeRate.1.1.3 u 5"),
    put("vmibShapeRate.9.1.2 u 5"),
    put(f"{RATE} u 5 vmibShapeRate.9.1.2 u 5"),
    put("vmibShapeRate.1.1 u 5"),
    put(f"vmibShapeRate.{MAX}.1.2 u 5"),
    put("vmibAddrPrefixLength.1.1.1.5.10.0.0.1 u 24"),
    put("vmibAddrPrefixLength.1.1.1.4.10.0.0.256 u 24"),
    put(f"vmibAddrPrefixLength.{ADDRESS} u 33 vmibAddrRowStatus.{ADDRESS} i 4"),
    put(f"vmibAddrRowStatus.{ADDRESS} i 1"),
    put(f"vmibAddrRowStatus.{ADDRESS} i 2"),
    put(f"vmibAddrRowStatus.{ADDRESS} i 5"),
    put(f"vmibAddrRowStatus.{ADDRESS} i 9"),
    put("vmibDomainRowStatus.5 i 4"),
    put("vmibDomainName.5 s site"),
    put(f"{DOMAIN} vmibDomainName.5 s other"),
    put(f"{NO_DOMAIN} vmibDomainName.5 s site"),
    put("vmibVifDomain.1.1 u 7"),
    put("vmibVmName.1 s other"),
    put("vmibVmRowStatus.1 i 6"),
    put("vmibVmName.7 s new vmibVmRowStatus.7 i 4"),
    put(f"vmibDomainName.5 s {'x' * 300} vmibDomainRowStatus.5 i 4"),
    put("vmibDomainName.5 x FF vmibDomainRowStatus.5 i 4"),
    put(f"vmibSwitchName.1 s {'x' * 20} vmibSwitchRowStatus.1 i 4"),
    put("vmibSwitchName.1 s a/b vmibSwitchRowStatus.1 i 4"),
    put(f"{SWITCH} vmibVifDomain.1.1 u 9"),
    put("vmibTxnAction.5 i 2"),
    put("vmibTxnRowStatus.5 i 1"),
    put("vmibTxnRowStatus.5 i 5"),
    put("vmibNotifyMinInterval.0 u 4000000"),
    put("vmibNotifyEnable.0 x FFFFFF"),
    put(LOST_ROUTE),
    put(f"{RATE} u 700 {LOST_ROUTE} {RATE2} u 700"),
]

DIFFERENT = {
    "the end of VMIB-MIB: what comes next is another agent's": (
        following("vmibNotifySuppressed.0"),
        (".1.3.6.1.6.3.10.2.1.1.0 = ", ".1.3.6.1.6.3.1.1.6.1.0 = "),
    ),
    "the system group: the master serves its own, and lets some of it be set": (
        put(".1.3.6.1.2.1.1.6.0 s here"),
        ("Reason: noAccess", '.1.3.6.1.2.1.1.6.0 = STRING: "here"'),
    ),
    "an object of nobody: views end the SET here, registrations there": (
        put(".1.3.6.1.4.1.99999.1.0 i 1"),
        ("Reason: noAccess", "Reason: notWritable"),
    ),
    "too many varbinds: an error-index of 0 would be made genErr by the master": (
        put(" ".join(f"vmibShapeRate.1.1.2 u {n}" for n in range(MAX_VARBINDS + 1))),
        ("Reason: (tooBig)", f"Failed object: {dotted(objects.ROOT)}"),
    ),
}


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with both(
        tmp_path_factory.mktemp("both"), limits=f"[limits]\nmax_varbinds_per_set = {MAX_VARBINDS}\n"
    ) as made:
        yield made


def answers(agent: Both, case: Case) -> list[str]:
    """What the agent itself answers, and what snmpd."""
    found = []
    for port in (DIRECT, SNMPD):
        options = [word for word in case.words if word.startswith("-C")]
        words = [word for word in case.words if not word.startswith("-C")]
        found.append(agent.ask(case.program, *words, port=port, options=("-On", *options)))
        if case.undo:
            undone = agent.ask("snmpset", *case.undo, port=DIRECT)
            assert "Error" not in undone
    return found


def name(case: Case) -> str:
    return " ".join((case.program, *case.words))[:60]


@pytest.mark.parametrize("case", READS, ids=name)
def test_reads_are_answered_alike(agent: Both, case: Case) -> None:
    direct, through = answers(agent, case)
    assert direct == through


@pytest.mark.parametrize("case", WRITES, ids=name)
def test_sets_succeed_alike(agent: Both, case: Case) -> None:
    direct, through = answers(agent, case)
    assert direct == through
    assert "Error" not in direct


@pytest.mark.parametrize("case", REFUSED, ids=name)
def test_sets_are_refused_alike_and_have_no_effect(agent: Both, case: Case) -> None:
    direct, through = answers(agent, case)
    assert direct == through
    assert "Reason: " in direct
    assert "genErr" not in direct


@pytest.mark.parametrize("reason", DIFFERENT)
def test_where_snmpd_differs_it_does_so_by_design(agent: Both, reason: str) -> None:
    case, (here, there) = DIFFERENT[reason]
    direct, through = answers(agent, case)
    assert here in direct, direct
    assert there in through, through
    assert direct != through


def test_a_long_getbulk_is_shorter_through_snmpd(agent: Both) -> None:
    case = bulk("-Cr40", "vmibShapeRate", "vmibShapeDelay", "vmibVmName")
    direct, through = (answer.splitlines() for answer in answers(agent, case))
    assert len(direct) == 120
    assert len(through) == 99, "snmpd's maxGetbulkResponses is 100"
    assert through == direct[:99]


def test_nothing_is_left_of_all_this(agent: Both) -> None:
    for port in (DIRECT, SNMPD):
        assert agent.value("vmibHostRowsOutOfSync.0", port) == "0"
        assert agent.value(RATE, port) == agent.value(RATE2, port) == "0"
    assert "VMIB-" not in agent.host.rules()
