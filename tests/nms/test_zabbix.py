"""The template in a real Zabbix server, which watches a real lab by SNMPv3."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..netns import browser
from ..snmp.agents import free_port
from .site import ADDRESSES, HOSTS, NETWORK, PORT, READER, Site, eventually, said
from .zabbix import Zabbix

pytestmark = [
    pytest.mark.nms,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces"),
]

TEMPLATE = Path(__file__).resolve().parents[2] / "packaging" / "zabbix" / "vmib-agent-6.0.yaml"
PICTURE = Path(__file__).resolve().parents[2] / ".cache" / "nms" / "zabbix.png"
LOG_IN = """
document.querySelector('#name').value = 'Admin';
document.querySelector('#password').value = arguments[0];
document.querySelector('#enter').click();
"""
NAME = "vMIB agent by SNMP"
IMPATIENT = {
    "{$VMIB.INTERVAL}": "1s",
    "{$VMIB.DISCOVERY}": "5s",
    "{$VMIB.SILENT.MAX}": "5s",
    "{$VMIB.SYNC.MAX}": "3s",
    "{$VMIB.TXN.OPEN.MAX}": "3s",
}
SHA256, AES128, AUTH_PRIV = 3, 1, 2
PATIENCE = 90.0


@pytest.fixture(scope="module")
def zabbix() -> Iterator[Zabbix]:
    # Not below pytest's own directory, where nobody but root may look.
    directory = Path(tempfile.mkdtemp(prefix="vmib-zabbix-"))
    directory.chmod(0o755)
    made = Zabbix(directory, f"{NETWORK}.10")
    try:
        with made.running():
            yield made
    finally:
        made.remove()


def interface(site: Site, host: str) -> dict[str, Any]:
    """How the server asks the agent of a host."""
    return {
        "type": 2,
        "main": 1,
        "useip": 1,
        "ip": site.address(host),
        "dns": "",
        "port": str(PORT),
        "details": {
            "version": 3,
            "bulk": 1,
            "securityname": READER,
            "securitylevel": AUTH_PRIV,
            "authprotocol": SHA256,
            "authpassphrase": site.reader.auth,
            "privprotocol": AES128,
            "privpassphrase": site.reader.priv,
        },
    }


@pytest.fixture(scope="module")
def watched(zabbix: Zabbix, site: Site) -> Zabbix:
    """The server, with the template and both hosts."""
    rules: dict[str, Any] = {
        kind: {"createMissing": True, "updateExisting": True}
        for kind in ("templates", "items", "triggers", "graphs", "discoveryRules", "valueMaps")
    }
    rules["groups"] = {"createMissing": True}
    source = TEMPLATE.read_text()
    assert zabbix.call("configuration.import", format="yaml", rules=rules, source=source)
    (template,) = zabbix.call("template.get", filter={"host": NAME}, output=["templateid"])
    group = zabbix.call("hostgroup.create", name="Emulation")["groupids"][0]
    made = {
        "groups": [{"groupid": group}],
        "templates": [template],
        "macros": [{"macro": macro, "value": value} for macro, value in IMPATIENT.items()],
    }
    hosts = [made | {"host": host, "interfaces": [interface(site, host)]} for host in HOSTS]
    zabbix.call("host.create", *hosts)
    return zabbix


def values(zabbix: Zabbix, host: str) -> dict[str, str]:
    """The last values of a host's items that have one, by name."""
    found = zabbix.call(
        "item.get", host=host, output=["name", "lastvalue", "lastclock"], monitored=True
    )
    return {each["name"]: each["lastvalue"] for each in found if each["lastclock"] != "0"}


def problems(zabbix: Zabbix, host: str) -> set[str]:
    """Names of the host's triggers that are in trouble."""
    found = zabbix.call(
        "trigger.get",
        host=host,
        output=["description"],
        filter={"value": 1},
        expandDescription=True,
    )
    return {each["description"] for each in found}


def comes(zabbix: Zabbix, host: str, name: str, value: str) -> bool:
    return eventually(lambda: values(zabbix, host).get(name) == value, PATIENCE)


def test_every_discovered_thing_gets_values(watched: Zabbix) -> None:
    wanted = {
        "Agent: mode": "1",
        "Hypervisor: kind": "netns",
        "Machine bob: presence": "3",
        "Interface bob:0 toVm: rate": "10000000",
        "Interface bob:0 toVm: shaping sync": "1",
        "Interface alice:0 fromVm: rate": "20000000",
        "Link alice:0 to 10.37.0.2/32: rate": "5000000",
    }
    reached = eventually(lambda: wanted.items() <= values(watched, "h1").items(), PATIENCE)
    found = values(watched, "h1")
    said("items of h1 and their last values", [f"{k}: {v}" for k, v in sorted(found.items())])
    assert reached, {name: found.get(name) for name in wanted}
    assert comes(watched, "h2", "Interface carol:0 toVm: rate", "10000000")
    assert problems(watched, "h1") == set()


def test_no_item_is_unsupported(watched: Zabbix) -> None:
    assert comes(watched, "h2", "Interface carol:0 toVm: shaping sync", "1")
    for host in HOSTS:
        for method in ("item.get", "discoveryrule.get"):
            asked = watched.call(method, host=host, output=["name", "state", "error"])
            assert len(asked) >= 4
            assert [each for each in asked if each["state"] != "0"] == []


def test_traffic_shows_as_achieved_rate(watched: Zabbix, site: Site) -> None:
    name = "Interface carol:0 toVm: achieved rate"
    assert comes(watched, "h2", name, "0")
    with site.traffic("alice", "carol", 4e6, 40):
        moved = eventually(lambda: int(values(watched, "h2")[name]) > 2_000_000, 40)
    said("achieved rate of carol", values(watched, "h2")[name])
    assert moved


def test_drift_is_a_problem_until_it_is_mended(watched: Zabbix, site: Site) -> None:
    name = "Interface bob:0 toVm: shaping: drifted"
    assert name not in problems(watched, "h1")
    site.drift("bob", "h1")
    assert eventually(lambda: name in problems(watched, "h1"), PATIENCE)
    said("problems of h1", sorted(problems(watched, "h1")))
    site.as_described()
    assert eventually(lambda: problems(watched, "h1") == set(), PATIENCE)


def seen(zabbix: Zabbix, place: Path) -> str:
    """What the front end's page of problems shows; PICTURE is what it looks like."""
    if not browser.is_there():
        pytest.skip("needs Chromium and its driver")
    with browser.browser(free_port(), place / "profile") as window:
        window.resize(1440, 360)
        window.go(f"{zabbix.url}index.php")
        window.run(LOG_IN, zabbix.password)
        window.wait("return !!document.querySelector('.menu-main')")
        window.go(f"{zabbix.url}zabbix.php?action=problem.view&filter_set=1&show_timeline=0")
        window.wait("return document.body.innerText.includes('h1')")
        window.run("document.querySelector('.tabfilter-item-link').click()")
        window.wait(
            "return document.querySelector('.tabfilter-content-container').offsetHeight < 9"
        )
        text = str(window.run("return document.body.innerText"))
        assert "Locale" not in text
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        window.picture(PICTURE)
    return text


def test_a_full_queue_puts_the_round_trip_of_its_link_off(
    watched: Zabbix, site: Site, tmp_path: Path
) -> None:
    """The probe of the same interface that asks the machine itself passes another queue."""
    for target in ("bob", "alice"):
        site.probe("alice", ADDRESSES[target])
    prefix = f"Probe of link alice:0 to {ADDRESSES['bob']}"
    own = f"Probe of alice:0 to {ADDRESSES['alice']}"
    trips = [f"{probe}: mean round trip" for probe in (prefix, own)]
    found = lambda: [values(watched, "h1").get(trip) for trip in trips]  # noqa: E731
    assert eventually(lambda: all(map(float, (trip or 0 for trip in found()))), PATIENCE)
    off = f"{prefix}: round trip is off by more than 10 %"
    with site.traffic("alice", "bob", 8e6, 4 * PATIENCE):
        assert eventually(lambda: off in problems(watched, "h1"), PATIENCE)
        said("problems of h1", sorted(problems(watched, "h1")))
        assert eventually(lambda: float(found()[0] or 0) > 0.02, PATIENCE)
        said("round trips", [f"{k}: {v} s" for k, v in zip(trips, found(), strict=True)])
        assert off.replace(prefix, own) not in problems(watched, "h1")
        assert "round trip is off by more than" in seen(watched, tmp_path)
    assert eventually(lambda: off not in problems(watched, "h1"), PATIENCE)


def test_a_commit_that_nobody_confirms_is_a_problem(watched: Zabbix, site: Site) -> None:
    site.vmib("clear", "real.xml")
    site.vmib("apply", "--no-confirm", "real.xml", "virtual.xml")
    try:
        assert eventually(lambda: "Transaction is open" in problems(watched, "h1"), PATIENCE)
        said("problems of h1", sorted(problems(watched, "h1")))
    finally:
        site.vmib("confirm", "real.xml")
    assert eventually(lambda: "Transaction is open" not in problems(watched, "h1"), PATIENCE)


def test_an_agent_that_does_not_answer_is_a_problem(watched: Zabbix, site: Site) -> None:
    name = "vMIB agent does not answer"
    with site.silent("h2"):
        assert eventually(lambda: name in problems(watched, "h2"), PATIENCE)
        said("problems of h2", sorted(problems(watched, "h2")))
    assert eventually(lambda: name not in problems(watched, "h2"), PATIENCE)
