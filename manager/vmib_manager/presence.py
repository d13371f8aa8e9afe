"""The real file against what agents report: every machine there, with its UUID and MAC addresses.

Pure. What the virtual file uses has to be right; the rest of the real file only earns warnings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from .findings import Finding, error, warning
from .model import Host, Machine, Model
from .seen import Names, SeenVm


def check_presence(model: Model, names: Mapping[str, Names]) -> list[Finding]:
    """Findings about the machines of the hosts that answered, `names` by host."""
    found: list[Finding] = []
    where = {
        vm.name: host for host, seen in names.items() for vm in seen.vms.values() if vm.present
    }
    for host in model.real.hosts:
        if host.id in names:
            seen = names[host.id]
            known = {vm.name: (index, vm) for index, vm in seen.vms.items() if vm.present}
            macs = _macs(seen)
            for machine in host.machines:
                used = machine.name in model.attachments
                for finding in _of_machine(host, machine, known, macs, where):
                    found.append(finding if used else _lighter(finding))
    return sorted(found, key=lambda finding: finding.source)


def _lighter(finding: Finding) -> Finding:
    return warning(finding.source, finding.message, finding.way_out)


def _macs(names: Names) -> dict[int, dict[int, str]]:
    """MAC addresses by vmibVmIndex and the machine's own number of the interface."""
    macs: dict[int, dict[int, str]] = {}
    for key, vif in names.vifs.items():
        if vif.number >= 0:
            macs.setdefault(key.vm_index, {})[vif.number] = vif.mac
    return macs


def _of_machine(
    host: Host,
    machine: Machine,
    known: Mapping[str, tuple[int, SeenVm]],
    macs_by_vm: Mapping[int, Mapping[int, str]],
    where: Mapping[str, str],
) -> Iterator[Finding]:
    if machine.name not in known:
        message = f"the agent of {host.id} reports no machine {machine.name}"
        yield error(machine.source, message, _way_out(machine.name, known, where))
        return
    index, vm = known[machine.name]
    if machine.uuid and machine.uuid != vm.uuid:
        message = f"{machine.name} has the UUID {vm.uuid} on {host.id}, not {machine.uuid}"
        yield error(machine.source, message, "correct the file, or start the machine that is meant")
    macs = macs_by_vm.get(index, {})
    for wanted in machine.vifs:
        if wanted.number not in macs:
            listed = ", ".join(map(str, sorted(macs))) or "none"
            message = f"{machine.name} has no interface {wanted.number} on {host.id}"
            yield error(wanted.source, message, f"it has {listed}")
        elif wanted.mac and wanted.mac != macs[wanted.number]:
            message = f"interface {wanted.number} of {machine.name} has the MAC address"
            message += f" {macs[wanted.number]} on {host.id}, not {wanted.mac}"
            yield error(wanted.source, message, "correct the file (vmib discover writes it anew)")


def _way_out(name: str, known: Mapping[str, object], where: Mapping[str, str]) -> str:
    if name in where:
        return f"it is on {where[name]}: move it there in the real file"
    close = get_close_matches(name, list(known), 3)
    return f"did you mean {' or '.join(close)}?" if close else "define and start it, or remove it"
