"""What an agent with less than all capabilities(7) can do, and says that it can."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.netns

ROOT = Path(__file__).resolve().parents[2]
FOUND = """
import socket
from pathlib import Path
from vmib.errors import Unavailable
from vmib_agent.firewall import Firewall
from vmib_agent.kernel import HostKernel
from vmib_agent.netlink import Rtnetlink
from vmib_agent.netns import NamespaceGuests, NetnsHypervisor
from vmib_agent.network_kernel import HostNetwork
from vmib_agent.shaper import Shaper
try:
    guests = NamespaceGuests(NetnsHypervisor(Path("/nowhere")))
    kernel = HostKernel(Shaper(), HostNetwork(Rtnetlink(), guests), Firewall())
    print(*sorted(kernel.capabilities()))
    NamespaceGuests.takes_entering = False
    print(*sorted(kernel.capabilities()))
except Unavailable as refusal:
    print(refusal)
    print(refusal)
print(*(name for _, name in socket.if_nameindex()))
"""


def found_without(*lost: str) -> tuple[str, str, str]:
    """What is found in a new namespace without some capabilities, and what devices are left.

    First where machines are namespaces, then where they are not.
    """
    fewer = ",".join(f"-{name}" for name in lost)
    limited = ["setpriv", "--bounding-set", fewer, "--inh-caps", fewer] if lost else []
    done = subprocess.run(
        ["unshare", "-n", *limited, sys.executable, "-c", FOUND],
        env=os.environ | {"PYTHONPATH": f"{ROOT / 'agent'}:{ROOT / 'mibs'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    found, others, left = done.stdout.splitlines()
    return found, others, left


def test_without_cap_sys_admin_all_is_found_but_what_is_done_inside_machines() -> None:
    everything, _, _ = found_without()
    found, others, left = found_without("sys_admin")
    assert {*everything.split()} - {*found.split()} == {"addresses"}
    assert others == everything
    assert left == "lo"


def test_without_cap_net_raw_there_is_no_packet_filter() -> None:
    found, _, left = found_without("sys_admin", "net_raw")
    assert not {*found.split()} & {"filters", "nat"}
    assert {"links", "shapeToVm", "shapeFromVm", "switches"} <= {*found.split()}
    assert left == "lo"


def test_without_cap_net_admin_it_says_what_it_takes() -> None:
    refusal, _, _ = found_without("sys_admin", "net_admin")
    assert refusal == "rtnetlink: takes CAP_NET_ADMIN, which this process lacks"
