"""VMIB-MIB over DTLS (RFC 6353): what the agent alone has not, it has under snmpd."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ..netns.hosts import ROOT
from .agentx_hosts import RATE, Both, both, eventually, rates

pytestmark = [
    pytest.mark.snmp,
    pytest.mark.netns,
    pytest.mark.skipif(shutil.which("snmpd") is None, reason="needs snmpd (Debian package snmpd)"),
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl"),
]

PORT = 1361
DROP_IN = (ROOT / "packaging" / "snmpd" / "vmib.conf").read_text()
MORE = "".join(line for line in DROP_IN.splitlines(keepends=True) if line[:6] != "agentX")
MORE += """\
[snmp] localCert snmpd
certSecName 10 manager --sn vmib-admin
certSecName 20 guest --sn vmib-read
group vmibAdmins tsm vmib-admin
group vmibReaders tsm vmib-read
access vmibAdmins "" tsm priv exact vmibRead vmibAdminWrite none
access vmibReaders "" tsm priv exact vmibRead none none
"""


def make_certificate(directory: Path, name: str) -> Path:
    """A self-signed certificate and its key, where net-snmp looks for them."""
    certificates, keys = directory / "tls" / "certs", directory / "tls" / "private"
    for place in (certificates, keys):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    made, key = certificates / f"{name}.crt", keys / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", str(key), "-out", str(made), "-subj", f"/CN={name}"]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return made


@contextmanager
def with_certificates(place: Path, transport: str) -> Iterator[Both]:
    """An agent and snmpd that listens by that transport, and three who have certificates; snmpd
    knows two of them."""
    with both(place, more=MORE) as made:
        master = made.master
        made.master.end()
        server = make_certificate(master.directory / "persistent", "snmpd")
        for name in ("manager", "guest", "stranger"):
            home = master.directory / f"tls-{name}"
            own = make_certificate(home, name)
            shutil.copy(server, home / "tls" / "certs")
            if name != "stranger":
                shutil.copy(own, master.directory / "persistent" / "tls" / "certs")
        master.also = f",{transport}:127.0.0.1:{PORT}"
        made.start()
        yield made


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    with with_certificates(tmp_path_factory.mktemp("tls"), "dtlsudp") as made:
        yield made


def ask(agent: Both, name: str, program: str, *words: str, transport: str = "dtlsudp") -> str:
    """What a tool prints that shows a certificate."""
    options = ("-On", "-v3", "-T", f"our_identity={name}", "-T", "their_identity=snmpd")
    where = f"{transport}:127.0.0.1:{PORT}"
    return agent.ask(program, *words, user=f"tls-{name}", options=options, where=where, seconds=2)


def test_who_has_a_certificate_reads_and_writes_as_its_view_says(agent: Both) -> None:
    assert "Gauge32: 0" in ask(agent, "guest", "snmpget", RATE)
    assert "noAccess" in ask(agent, "guest", "snmpset", RATE, "u", "600")
    assert "Gauge32: 700" in ask(agent, "manager", "snmpset", RATE, "u", "700")
    assert rates(agent) == ("700", 700)
    assert "Gauge32: 0" in ask(agent, "manager", "snmpset", RATE, "u", "0")
    assert eventually(lambda: agent.host.rate("vif1.0") is None)


def test_a_certificate_that_snmpd_does_not_know_gets_nothing(agent: Both) -> None:
    assert "Gauge32" not in ask(agent, "stranger", "snmpget", RATE)
