"""From the steps of a plan to netlink requests."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from vmib_agent import tc
from vmib_agent.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Request
from vmib_agent.qdiscs import (
    INGRESS_FILTERS,
    INGRESS_HANDLE,
    INGRESS_PARENT,
    HtbClass,
    Ingress,
    Key,
    Qdisc,
    Rule,
    Table,
)
from vmib_agent.steps import IngressStep, RedirectStep, TcStep, Verb

REDIRECT_PREFERENCE = 0x76F0
"""The preference of our filter in an ingress hook, ours or foreign."""
OWN_BLOCKS = range(0x7600_0000, 0x7700_0000)
"""Indexes of filter blocks of ours; what is above the first is the device's index."""

_PREFERENCES = {tc.ETH_P_IP: 1, tc.ETH_P_IPV6: 2}
_FLAGS = {
    Verb.ADD: NLM_F_CREATE | NLM_F_EXCL,
    Verb.CHANGE: 0,
    Verb.REPLACE: NLM_F_CREATE | NLM_F_REPLACE,
}

_FIRST_ROOT = 0x800

Roots = Mapping[int, int]
"""The number of the root table by protocol; the kernel chooses it."""


def _qdisc(index: int, verb: Verb, item: Qdisc) -> Request:
    if verb is Verb.DELETE:
        body = tc.Tcmsg(index, item.handle, item.parent).pack()
        return Request(tc.RTM_DELQDISC, 0, body)
    body = tc.encode_qdisc(index, item, change=verb is Verb.CHANGE)
    return Request(tc.RTM_NEWQDISC, _FLAGS[verb], body)


def _class(index: int, verb: Verb, item: HtbClass) -> Request:
    if verb is Verb.DELETE:
        body = tc.Tcmsg(index, item.classid, item.parent).pack()
        return Request(tc.RTM_DELTCLASS, 0, body)
    return Request(tc.RTM_NEWTCLASS, _FLAGS[verb], tc.encode_class(index, item))


def _filter(index: int, verb: Verb, item: Table | Rule, parent: int, roots: Roots) -> Request:
    preference = _PREFERENCES[item.protocol]
    if verb is not Verb.DELETE:
        body = tc.encode_filter(index, parent, preference, item)
        # An empty table may be left from former links, see `vmib_agent.qdiscs.make_tree`.
        tolerated = frozenset({errno.EEXIST} if isinstance(item, Table) else ())
        return Request(tc.RTM_NEWTFILTER, _FLAGS[verb], body, tolerated)
    if isinstance(item, Table):
        raise TypeError("tables are not deleted but left empty")
    handle = tc.rule_handle(item)
    if not item.table:
        handle |= roots.get(item.protocol, _FIRST_ROOT) << 20
    info = tc.filter_info(item.protocol, preference)
    return Request(tc.RTM_DELTFILTER, 0, tc.Tcmsg(index, handle, parent, info).pack())


def tc_request(step: TcStep, index: int, roots: Roots) -> Request:
    """The request of a step on the device with this index.

    `roots` is needed only to delete rules of a root table.
    """
    match step.item:
        case Qdisc():
            return _qdisc(index, step.verb, step.item)
        case HtbClass():
            return _class(index, step.verb, step.item)
        case Table() | Rule():
            return _filter(index, step.verb, step.item, step.parent, roots)


def ingress_request(step: IngressStep, index: int) -> Request:
    """Make or remove an ingress hook that is ours, marked by the index of its filter block."""
    options = Ingress(OWN_BLOCKS[index])
    return _qdisc(index, step.verb, Qdisc(INGRESS_HANDLE, INGRESS_PARENT, options))


def redirect_request(step: RedirectStep, index: int, ifb: int, copying: bool) -> Request:
    """Make or remove the filter that sends everything, or copies of it, to the ifb."""
    device, parent = (
        (index, INGRESS_FILTERS) if step.shared else (tc.BLOCK_DEVICE_INDEX, OWN_BLOCKS[index])
    )
    if step.verb is Verb.DELETE:
        info = tc.filter_info(tc.ETH_P_ALL, REDIRECT_PREFERENCE)
        return Request(tc.RTM_DELTFILTER, 0, tc.Tcmsg(device, 0, parent, info).pack())
    rule = Rule(tc.ETH_P_ALL, 0, 0, 1, keys=(Key(0, 0, 0),), redirect=ifb, copying=copying)
    body = tc.encode_filter(device, parent, REDIRECT_PREFERENCE, rule)
    return Request(tc.RTM_NEWTFILTER, _FLAGS[step.verb], body)
