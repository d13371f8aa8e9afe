"""The layers: who may import whom."""

from __future__ import annotations

import ast
import configparser
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    "vmib": ROOT / "mibs" / "vmib",
    "vmib_agent": ROOT / "agent" / "vmib_agent",
    "vmib_manager": ROOT / "manager" / "vmib_manager",
}
FORBIDDEN = {
    "vmib": {"vmib_agent", "vmib_manager"},
    "vmib_agent": {"vmib_manager"},
    "vmib_manager": {"vmib_agent"},
}
IMPURE = {"asyncio", "iptc", "os", "pyroute2", "pysnmp", "socket", "subprocess", "time"}
PURE = (
    "vmib/smi.py",
    "vmib/schema.py",
    "vmib/canonical.py",
    "vmib/units.py",
    "vmib/vm_mib.py",
    "vmib/snmp/ber.py",
    "vmib/snmp/message.py",
    "vmib_agent/agentx.py",
    "vmib_agent/agentx_codec.py",
    "vmib_agent/agentx_fields.py",
    "vmib_agent/agentx_session.py",
    "vmib_agent/classifier.py",
    "vmib_agent/delivery.py",
    "vmib_agent/desired.py",
    "vmib_agent/device_tree.py",
    "vmib_agent/dhcp.py",
    "vmib_agent/domains.py",
    "vmib_agent/firewall_plan.py",
    "vmib_agent/informs.py",
    "vmib_agent/inventory.py",
    "vmib_agent/iptables.py",
    "vmib_agent/iptables_entries.py",
    "vmib_agent/isolation.py",
    "vmib_agent/operational.py",
    "vmib_agent/prepared.py",
    "vmib_agent/psched.py",
    "vmib_agent/qdiscs.py",
    "vmib_agent/rules.py",
    "vmib_agent/scope.py",
    "vmib_agent/setrequest.py",
    "vmib_agent/shaping.py",
    "vmib_agent/shapingstate.py",
    "vmib_agent/start_up.py",
    "vmib_agent/state.py",
    "vmib_agent/steps.py",
    "vmib_agent/store.py",
    "vmib_agent/sync.py",
    "vmib_agent/target.py",
    "vmib_agent/tc.py",
    "vmib_agent/transactions.py",
    "vmib_agent/treediff.py",
    "vmib_agent/view.py",
    "vmib_manager/checks.py",
    "vmib_manager/compile.py",
    "vmib_manager/describe.py",
    "vmib_manager/documents.py",
    "vmib_manager/happenings.py",
    "vmib_manager/http_message.py",
    "vmib_manager/network_document.py",
    "vmib_manager/network_view.py",
    "vmib_manager/observation.py",
    "vmib_manager/paths.py",
    "vmib_manager/plan.py",
    "vmib_manager/plan_text.py",
    "vmib_manager/seen.py",
    "vmib_manager/staging.py",
    "vmib_manager/text_table.py",
    "vmib_manager/visible.py",
    "vmib_manager/watch_text.py",
)


def imported(path: Path) -> set[str]:
    """The top-level names of the packages a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", SOURCES)
def test_agent_and_manager_know_the_contract_and_never_each_other(package: str) -> None:
    modules = list(SOURCES[package].rglob("*.py"))
    assert modules
    for module in modules:
        assert not imported(module) & FORBIDDEN[package], module


@pytest.mark.parametrize("module", PURE)
def test_the_core_does_no_input_or_output_and_has_no_clock(module: str) -> None:
    package, rest = module.split("/", 1)
    assert not imported(SOURCES[package] / rest) & IMPURE


def test_every_package_of_the_tree_is_in_the_wheel() -> None:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    listed = set(config["options"]["packages"].split())
    found = {
        ".".join([package, *init.parent.relative_to(folder).parts])
        for package, folder in SOURCES.items()
        for init in folder.rglob("*.py")
    }
    assert found == listed


def test_what_the_manager_offers_is_loaded_from_where_its_types_come() -> None:
    import vmib_manager

    tree = ast.parse((SOURCES["vmib_manager"] / "__init__.py").read_text())
    typed = {
        alias.asname or alias.name: (node.module, alias.name)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name in vmib_manager.__all__:
        found = getattr(vmib_manager, name)
        if name in typed:
            module, there = typed[name]
            assert found is getattr(importlib.import_module(f"vmib_manager.{module}"), there)
    assert set(vmib_manager.__all__) - typed.keys() == {"VmibError"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(vmib_manager, "nothing")  # noqa: B009


def test_the_plug_in_does_not_load_what_it_does_not_need() -> None:
    loaded = "import sys, vmib_manager.check_vmib, vmib_manager.check_modes; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    heavy = {"lxml", "pyroute2", "vmib_manager.apply", "vmib_manager.model", "vmib_manager.lab"}
    assert not heavy & set(done.stdout.split())
