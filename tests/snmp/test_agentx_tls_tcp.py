"""VMIB-MIB over TLS (RFC 6353): over TCP net-snmp 5.9.3 speaks TLS 1.0 alone, whose signatures
OpenSSL 3 makes at its security level 0 only."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..netns.hosts import ROOT
from .agentx_hosts import RATE, rates
from .test_agentx_tls import ask, pytestmark, with_certificates

__all__ = ["pytestmark"]


def test_over_tcp_it_takes_the_lowest_security_level_of_openssl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "packaging" / "docs" / "snmpd.md").read_text()
    lowered = page.partition("```ini\n")[2].partition("```")[0]
    (tmp_path / "openssl.cnf").write_text(lowered)
    monkeypatch.setenv("OPENSSL_CONF", str(tmp_path / "openssl.cnf"))
    with with_certificates(tmp_path / "tls", "tlstcp") as made:
        assert "Gauge32: 0" in ask(made, "guest", "snmpget", RATE, transport="tlstcp")
        said = ask(made, "manager", "snmpset", RATE, "u", "700", transport="tlstcp")
        assert "Gauge32: 700" in said
        assert rates(made) == ("700", 700)
        assert "Gauge32" not in ask(made, "stranger", "snmpget", RATE, transport="tlstcp")
        monkeypatch.delenv("OPENSSL_CONF")
        said = ask(made, "guest", "snmpget", RATE, transport="tlstcp")
        assert "failed to ssl_connect" in said
