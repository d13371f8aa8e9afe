"""The agent as systemd starts, confines, watches and stops it, on Debian's own kernel."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ..lab import machine
from . import boot, debian_tree

pytestmark = pytest.mark.packaging

Facts = Mapping[str, Any]
NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 1 << 10, 1 << 12, 1 << 13


@pytest.fixture(scope="module")
def facts(layers: list[Path], packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """What has been seen in a machine that was booted once."""
    if reason := machine.missing():
        pytest.skip(reason)
    place = tmp_path_factory.mktemp("boot")
    with debian_tree.running(layers, packages, tmp_path_factory.mktemp("tree")) as tree:
        return boot.run(tree, place)


def test_it_runs_after_a_boot_as_its_user_with_few_capabilities_and_filtered_calls(
    facts: Facts,
) -> None:
    seen = facts["booted"]
    assert seen["shown"]["ActiveState"] == "active"
    assert seen["process"]["Uid"] == [seen["uid"]] * 4
    few = NET_ADMIN | NET_RAW | NET_BIND_SERVICE
    assert {int(seen["process"][name][0], 16) for name in ("CapEff", "CapBnd")} == {few}
    assert (seen["process"]["NoNewPrivs"], seen["process"]["Seccomp"]) == (["1"], ["2"])


def test_modules_are_loaded_and_bridged_packets_meet_no_rules_until_that_is_wanted(
    facts: Facts,
) -> None:
    loaded = {line.split()[0] for line in facts["booted"]["modules"]}
    assert {"ip_tables", "ip6_tables", "br_netfilter", "ifb"} <= loaded
    assert facts["booted"]["bridged"] == "0"
    assert facts["used"]["bridged"] == "1"


def test_a_reload_is_waited_for_and_keeps_the_process(facts: Facts) -> None:
    seen = facts["reloaded"]
    assert seen["before"]["MainPID"] == seen["after"]["MainPID"]
    assert seen["after"]["StatusText"].startswith("1 users, listening on 127.0.0.1 port 161")
    assert seen["mode"] == "normal"


def test_confined_it_can_do_all_that_takes_no_entering_of_machines(facts: Facts) -> None:
    seen = facts["used"]
    assert "tbf 76f8: dev vmib1.1 root refcnt 2 rate 5Mbit" in seen["queues"]
    assert "netem 76f1: dev vif1.0" in seen["queues"]
    assert "delay 20ms" in seen["queues"]
    assert "-j VMIB-FORWARD" in seen["rules"]
    assert seen["sync"] == "inSync"
    for name in ("links", "switches", "vlans", "routes", "filters", "nat", "netem", "probes"):
        assert f" {name}(" in seen["capabilities"]
    assert "addresses(" not in seen["capabilities"]


def test_an_agent_that_hangs_is_started_again_and_the_network_stays(facts: Facts) -> None:
    seen = facts["ended_by_the_watchdog"]
    assert "Watchdog timeout" in seen["journal"]
    assert (seen["before"]["NRestarts"], seen["after"]["NRestarts"]) == ("0", "1")
    assert seen["queues"] == facts["used"]["queues"]
    assert seen["mode"] == "normal"


def test_with_the_drop_in_it_enters_machines_that_are_made_while_it_runs(facts: Facts) -> None:
    assert "10.0.0.2/24" in facts["with_machines_of_namespaces"]["addresses"]


def test_libvirtd_answers_the_confined_agent_once_its_user_is_in_the_group(facts: Facts) -> None:
    seen = facts["with_libvirt"]
    assert (seen["kind"], seen["mode"]) == ("qemu", "normal")
    assert seen["groups"].split() == ["_vmib", "libvirt"]
    assert seen["shown"]["User"] == "_vmib"
    assert seen["libvirtd"] == "active"


def test_stopped_it_leaves_the_network_as_it_is(facts: Facts) -> None:
    seen = facts["stopped"]
    assert (seen["shown"]["ActiveState"], seen["shown"]["Result"]) == ("inactive", "success")
    assert "rate 5Mbit" in seen["queues"]
    assert seen["rules"] == facts["used"]["rules"]
    assert seen["timeouts"] == 1
