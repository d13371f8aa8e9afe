"""The site that the stations watch does what their tests rely on."""

from __future__ import annotations

import os
import subprocess

import pytest

from .site import HOSTS, PORT, READER, Site, eventually

pytestmark = pytest.mark.nms


def test_the_reader_reads_from_both_agents_and_cannot_write(site: Site) -> None:
    home = site.directory / "reader"
    home.mkdir()
    conf = home / "snmp.conf"
    conf.touch(mode=0o600)
    text = (site.paths.snmp / "snmp.conf").read_text()
    known = [line for line in text.splitlines() if line.startswith("mib")]
    conf.write_text(
        f"defVersion 3\ndefSecurityName {READER}\ndefSecurityLevel authPriv\ndefAuthType SHA-256\n"
        f'defPrivType AES\ndefAuthPassphrase "{site.reader.auth}"\n'
        f'defPrivPassphrase "{site.reader.priv}"\n' + "\n".join(known) + "\n"
    )
    for host in HOSTS:
        agent = f"{site.address(host)}:{PORT}"
        environment = os.environ | {"SNMPCONFPATH": str(home)}
        get = ["snmpget", "-OqvU", agent, "VMIB-MIB::vmibHostRowsOutOfSync.0"]
        done = subprocess.run(get, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "0"
        put = ["snmpset", agent, "VMIB-MIB::vmibNotifyMinInterval.0", "u", "1"]
        refused = subprocess.run(put, env=environment, capture_output=True, text=True, check=False)
        assert "noAccess" in refused.stderr or "authorizationError" in refused.stderr


def test_a_drift_stays_until_it_is_set_right(site: Site) -> None:
    site.drift("bob")
    assert eventually(lambda: site.value("h1", "vmibHostRowsOutOfSync.0") == "1", 5)
    assert site.value("h2", "vmibHostRowsOutOfSync.0") == "0"
    site.as_described()
    assert site.value("h1", "vmibHostRowsOutOfSync.0") == "0"


def test_traffic_is_as_fast_as_asked(site: Site) -> None:
    (index,) = site.snmp("snmpwalk", "h1", 'vmibVifLookupVmIndex."bob"')
    rate = f"vmibShapeOperAchievedRate.{index.rpartition(' ')[2]}.1.toVm"
    with site.traffic("carol", "bob", 3e6, 30):
        assert eventually(lambda: 2500 < int(site.value("h1", rate).split()[0]) < 3500)
