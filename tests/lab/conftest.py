"""What tests of real guests share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from .beside import beside
from .kept_logs import keeping
from .places import is_dom0

if TYPE_CHECKING:
    from .host_lab import HostLab

_OUTCOMES = pytest.StashKey[Mapping[str, Future[Any]]]()

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
    from .host_lab import SETTINGS, HostLab

    if reason := hypervisors.missing():
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("hypervisor")
    logs = keeping("hypervisor", directory, request.session)
    with logs, hypervisors.hypervisor(directory) as hypervisor:
        made = HostLab(hypervisor, directory, SETTINGS)
        try:
            made.define(1, words="vif0=10.31.1.1/24")
            made.define(2, words="vif0=10.31.1.2/24")
            made.boot(1, 2)
            made.start_agent()
            yield made
        finally:
            made.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Start the machines in virtual time that this session has tests for.

    They run at once and beside other tests, at the lowest priority, since each has one processor,
    and a clock that does not mind what else this computer does. A module that has one says by its
    function `run_machine` what comes of it for the session's tests.
    """
    if session.config.option.collectonly or session.testsfailed:
        return
    modules = {item.module for item in session.items if isinstance(item, pytest.Function)}
    session.stash[_OUTCOMES] = {
        module.__name__: beside(partial(module.run_machine, session.items))
        for module in modules
        if hasattr(module, "run_machine")
    }


@pytest.fixture(scope="session")
def outcomes(request: pytest.FixtureRequest) -> Mapping[str, Future[Any]]:
    """What comes of machines in virtual time, by the names of the modules that they are run for.

    What running a machine raises, its module gets, and no other.
    """
    return request.session.stash[_OUTCOMES]
