"""vMIB's network manager: two descriptions become rows, and rows reach every host over SNMP::

    from vmib_manager import Manager, credentials_for, load

    model = load("real.xml", "virtual.xml")
    with Manager(model.real, credentials_for(model.real, path)) as manager:
        plan = manager.plan(model)
        result = manager.apply(plan)

`AsyncManager` has the same methods as coroutines. Everything that is refused is a `VmibError`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vmib.errors import VmibError

if TYPE_CHECKING:
    from .apply import ApplyFailed, ApplyResult, HostResult, NotApplicable, Options, Outcome, Phase
    from .apply import Progress as ApplyProgress
    from .checks import check, has_errors
    from .compile import compile_rows
    from .credentials import Community, Credentials
    from .credentials_file import CredentialsRefused, credentials_for
    from .description import load, load_real, load_virtual
    from .findings import Finding, Severity
    from .graph import Graph, render
    from .manager import AsyncManager
    from .measurement import Measurement, MeasurementPlan
    from .model import Model, Real
    from .pending import Ended
    from .plan import Change, HostPlan, Kind, Plan
    from .probe_verdict import Allowed, Aspect, Measured
    from .reachability import expected
    from .snmp_errors import AgentError
    from .status import Deviation, HostStatus
    from .sync import Manager
    from .transaction import Complaint, HostRefused
    from .verification import Verification
    from .wanted import WantedRow, resolve
    from .xmlload import DescriptionRefused, Problem

__all__ = [
    "load",
    "load_real",
    "load_virtual",
    "Model",
    "Real",
    "DescriptionRefused",
    "Problem",
    "check",
    "has_errors",
    "Finding",
    "Severity",
    "compile_rows",
    "WantedRow",
    "resolve",
    "expected",
    "Credentials",
    "Community",
    "credentials_for",
    "CredentialsRefused",
    "Manager",
    "AsyncManager",
    "Plan",
    "HostPlan",
    "Change",
    "Kind",
    "Options",
    "ApplyProgress",
    "ApplyResult",
    "ApplyFailed",
    "NotApplicable",
    "HostResult",
    "HostRefused",
    "Complaint",
    "Outcome",
    "Phase",
    "Verification",
    "MeasurementPlan",
    "Measurement",
    "Measured",
    "Allowed",
    "Aspect",
    "HostStatus",
    "Deviation",
    "Ended",
    "Graph",
    "render",
    "AgentError",
    "VmibError",
]

_HOMES = {
    "apply": "ApplyFailed ApplyResult HostResult NotApplicable Options Outcome Phase "
    "ApplyProgress=Progress",
    "checks": "check has_errors",
    "compile": "compile_rows",
    "credentials": "Community Credentials",
    "credentials_file": "CredentialsRefused credentials_for",
    "description": "load load_real load_virtual",
    "findings": "Finding Severity",
    "graph": "Graph render",
    "manager": "AsyncManager",
    "measurement": "Measurement MeasurementPlan",
    "model": "Model Real",
    "pending": "Ended",
    "plan": "Change HostPlan Kind Plan",
    "probe_verdict": "Allowed Aspect Measured",
    "reachability": "expected",
    "snmp_errors": "AgentError",
    "status": "Deviation HostStatus",
    "sync": "Manager",
    "transaction": "Complaint HostRefused",
    "verification": "Verification",
    "wanted": "WantedRow resolve",
    "xmlload": "DescriptionRefused Problem",
}
"""Which module has what: each is loaded when something of it is asked for, so that programs that
need little, such as check_vmib, start soon. `NAME=OTHER` is called OTHER there."""


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        for entry in names.split():
            here, _, there = entry.partition("=")
            if here == name:
                found = getattr(import_module(f".{module}", __name__), there or here)
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
