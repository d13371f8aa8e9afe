"""vMIB's network manager: two descriptions become rows, and rows reach every host over SNMP."""

from .capabilities import check_capabilities
from .checks import check, has_errors
from .compile import compile_rows
from .description import load, load_real, load_virtual
from .findings import Finding, Severity
from .model import Model
from .reachability import expected
from .wanted import WantedRow, resolve
from .xmlload import DescriptionRefused, Problem

__all__ = [
    "load",
    "load_real",
    "load_virtual",
    "Model",
    "DescriptionRefused",
    "Problem",
    "check",
    "check_capabilities",
    "has_errors",
    "Finding",
    "Severity",
    "compile_rows",
    "WantedRow",
    "resolve",
    "expected",
]
