"""What tests of real guests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from .kept_logs import keeping
from .places import is_dom0

if TYPE_CHECKING:
    from .host_lab import HostLab

# What needs libvirt is imported late: tests of virtual time, below, run where there is none.


def _scope(fixture_name: str, config: pytest.Config) -> str:
    """In a dom0 there is nothing but the lab, and booting guests takes long."""
    return "session" if is_dom0() else "module"


@pytest.fixture(scope=_scope)
def lab(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[HostLab]:
    """A host with two guests and an agent."""
    from . import hypervisors
    from .host_lab import HostLab

    if reason := hypervisors.missing():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("hypervisor")
    logs = keeping("hypervisor", directory, request.session)
    with logs, hypervisors.hypervisor(directory) as hypervisor:
        made = HostLab(hypervisor, directory, "start_up = true")
        try:
            made.define(1, words="vif0=10.31.1.1/24")
            made.define(2, words="vif0=10.31.1.2/24")
            made.boot(1, 2)
            made.start_agent()
            yield made
        finally:
            made.close()
