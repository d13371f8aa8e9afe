"""From a real file to a lab."""

from __future__ import annotations

from vmib.errors import ValueRefused

from . import lab_spec
from .lab_errors import LabError
from .lab_spec import DEFAULT_NAME, HostSpec, LabSpec, MachineSpec, PifSpec, VifSpec
from .model import Host, Real

HYPERVISOR = "netns"


class NotForLab(LabError):
    """A real file that no lab can be made of; begins with file and line."""


def spec_of(real: Real, name: str = DEFAULT_NAME) -> LabSpec:
    """The lab that a real file describes.

    Raises NotForLab for what a lab cannot be (hosts that are not of namespaces, agents that are
    not on loopback or have different users) and ValueRefused for a bad name.
    """
    lab_spec.directory(name)
    hosts = tuple(_host_spec(host) for host in real.hosts)
    for host in real.hosts:
        if host.agent.user != real.hosts[0].agent.user:
            problem = f"user {host.agent.user!r}; all agents of a lab have the same, as the first"
            raise NotForLab(f"{host.source}: agent of host {host.id}: {problem}")
    spec = LabSpec(name, hosts, real.hosts[0].agent.user if real.hosts else "")
    try:
        lab_spec.check(spec)
    except ValueRefused as refused:
        raise NotForLab(f"{real.file}: {refused}") from None
    return spec


def _host_spec(host: Host) -> HostSpec:
    where = f"{host.source}: host {host.id}"
    if host.hypervisor != HYPERVISOR:
        problem = f"hypervisor {host.hypervisor!r} is not allowed; allowed: {HYPERVISOR}"
        raise NotForLab(f"{where}: {problem}: a lab is made of network namespaces")
    if not host.agent.address.is_loopback:
        problem = f"agent address {host.agent.address} is not allowed; allowed: of loopback"
        raise NotForLab(f"{where}: {problem}, such as 127.18.0.1")
    default = PifSpec()
    pifs = tuple(PifSpec(pif.name, pif.mac, pif.bridge or default.bridge) for pif in host.pifs)
    return HostSpec(
        id=host.id,
        address=str(host.agent.address),
        port=host.agent.port,
        machines=tuple(
            MachineSpec(
                machine.name,
                tuple(VifSpec(vif.number, vif.mac, vif.device, vif.bridge) for vif in machine.vifs),
                machine.uuid,
            )
            for machine in host.machines
        ),
        pifs=pifs or (default,),
        credential=host.agent.credential,
    )
