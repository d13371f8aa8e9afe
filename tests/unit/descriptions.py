"""Small descriptions for tests: machines named in a line, the virtual file's body in XML."""

from __future__ import annotations

from vmib_manager import real, virtual, xmlload
from vmib_manager.model import Model, merge

NAMESPACE = 'xmlns="urn:vmib:1"'


def real_xml(machines: str, more: str = "", hosts: int = 1) -> str:
    """`a b/2 c@2`: a with one vif on host1, b with two, c on host2."""
    inside: dict[str, list[str]] = {f"host{n}": [] for n in range(1, hosts + 1)}
    for number, word in enumerate(machines.split()):
        rest, _, host = word.partition("@")
        name, _, vifs = rest.partition("/")
        macs = "".join(
            f'<vif mac="02:00:00:00:{number:02x}:{vif:02x}"/>' for vif in range(int(vifs or 1))
        )
        uuid = f"00000000-0000-0000-0000-{number + 1:012}"
        machine = f'<machine name="{name}" uuid="{uuid}">{macs}</machine>'
        inside.setdefault(f"host{host or 1}", []).append(machine)
    listed = "".join(
        f'<host id="{host}" hypervisor="netns"><agent address="127.0.0.{n}" user="u"/>'
        f'<pif name="eth0"/>{"".join(found)}</host>\n'
        for n, (host, found) in enumerate(inside.items(), 1)
    )
    return f"<real {NAMESPACE}>{listed}{more}</real>"


def sites_xml(machines: str) -> str:
    """A site of its own for each interface: 10.N.0.1 in sN for the Nth, counted from 0."""
    sites = []
    for word in machines.split():
        name, _, vifs = word.partition("@")[0].partition("/")
        for vif in range(int(vifs or 1)):
            n = len(sites)
            sites.append(
                f'<site id="s{n}" subnet="10.{n}.0.0/24 fd00:{n}::/64">'
                f'<member machine="{name}" vif="{vif}" address="10.{n}.0.1 fd00:{n}::1"/></site>\n'
            )
    return "".join(sites)


def described(real_text: str, virtual_body: str) -> Model:
    """The model of a real file and the inside of a virtual one; line 1 is the root element."""
    root, reader = xmlload.parse(real_text.encode(), "real.xml", "real")
    found = real.read(root, reader)
    text = f"<virtual {NAMESPACE}>\n{virtual_body}\n</virtual>"
    virtual_root, virtual_reader = xmlload.parse(text.encode(), "virtual.xml", "virtual")
    wanted = virtual.read(virtual_root, virtual_reader)
    assert not reader.problems, [str(problem) for problem in reader.problems]
    assert not virtual_reader.problems, [str(problem) for problem in virtual_reader.problems]
    return merge(found, wanted)


def model_of(machines: str, body: str, more_real: str = "") -> Model:
    """Machines in sites of their own, and the rest of the virtual file."""
    return described(real_xml(machines, more_real), sites_xml(machines) + body)
