"""The MIB modules as others read them: smilint, pysmi, net-snmp, and the published numbers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from vmib import objects
from vmib.schema import CONFIGURATION, locate

ROOT = Path(__file__).resolve().parents[2]
BASE = Path(os.environ.get("VMIB_BASE_MIBS", ROOT / ".cache" / "mibs"))
MODULES = ("VMIB-ROOT-MIB", "VMIB-MIB", "VMIB-CAPABILITIES-MIB")
GOLDEN = Path(__file__).with_name("published_oids.txt")


def translate(*arguments: str) -> str:
    """What net-snmp's snmptranslate prints, with our MIB and the base modules loaded."""
    done = subprocess.run(
        ["snmptranslate", "-m", ":".join(MODULES), *arguments],
        env={**os.environ, "MIBDIRS": f"{BASE}:{ROOT / 'mibs'}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Cannot" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", MODULES)
def test_smilint_at_level_6_says_nothing(module: str) -> None:
    done = subprocess.run(
        ["smilint", "-l", "6", "-m", f"./{module}.txt"],
        cwd=ROOT / "mibs",
        env={**os.environ, "SMIPATH": f"{BASE}:{ROOT / 'mibs'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout + done.stderr == ""


def test_the_linter_would_have_complained(tmp_path: Path) -> None:
    broken = (ROOT / "mibs" / "VMIB-MIB.txt").read_text().replace("DISPLAY-HINT", "DISPLY-HINT")
    (tmp_path / "VMIB-MIB.txt").write_text(broken)
    done = subprocess.run(
        ["smilint", "-l", "6", "-m", "./VMIB-MIB.txt"],
        cwd=tmp_path,
        env={**os.environ, "SMIPATH": f"{BASE}:{ROOT / 'mibs'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout + done.stderr != ""


def test_the_generated_modules_are_those_of_the_mib(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "mibs" / "generate.py"), str(BASE), str(tmp_path)]
    subprocess.run(command, check=True)
    for name in ("objects.py", "rows.py"):
        assert (tmp_path / name).read_text() == (ROOT / "mibs" / "vmib" / name).read_text(), name


def test_published_numbers_never_change() -> None:
    published = set(GOLDEN.read_text().splitlines())
    now = set(re.findall(r'^"(vmib\w*)"\s+"([\d.]+)"', translate("-Tz"), re.MULTILINE))
    assert {f"{name} {oid}" for name, oid in now} == published


def test_net_snmp_and_we_agree_on_every_object() -> None:
    named = dict(re.findall(r'^"(vmib\w*)"\s+"([\d.]+)"', translate("-Tz"), re.MULTILINE))
    ours = [*objects.SCALARS, *objects.TABLES, *objects.NOTIFICATIONS]
    ours += [column for table in objects.TABLES for column in table.columns]
    assert len(ours) > 250
    for item in ours:
        assert ".".join(map(str, item.oid)) == named[item.name]


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ("vmibShapeRate.3.1.toVm", "rate"),
        ("vmibLinkDelay.3.1.ipv4.4.10.0.0.0.24", "delay"),
        ('vmibVifLookupVmIndex."web".0', "vm_index"),
        ("vmibVmLookupIndex.'550e8400-e29b-41d4-a716-446655440000'", "vm_lookup_index"),
        ("vmibFilterAction.2.100", "action"),
    ],
)
def test_an_index_as_people_type_it_is_the_index_we_decode(typed: str, field: str) -> None:
    oid = tuple(
        int(part) for part in translate("-On", f"VMIB-MIB::{typed}").strip(".\n").split(".")
    )
    place = locate(oid)
    assert place is not None
    assert place.table is not None
    assert place.object.field == field
    key = place.table.decode_index(place.suffix)
    assert place.table.encode_index(key) == place.suffix


def test_the_documentation_number_stands_in_one_place_of_the_code() -> None:
    holders = [
        path.relative_to(ROOT).as_posix()
        for folder in ("mibs", "agent", "manager", "packaging", "tests")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.suffix not in (".pyc", ".so")
        and "32473" in path.read_text(errors="ignore")
    ]
    assert sorted(holders) == [
        "mibs/VMIB-ROOT-MIB.txt",
        "mibs/vmib/objects.py",
        "packaging/prometheus/snmp-0.22.yml",
        "packaging/prometheus/snmp.yml",
        "packaging/snmpd/vmib.conf",
        "packaging/zabbix/vmib-agent-6.0.yaml",
        "tests/unit/published_oids.txt",
        "tests/unit/test_mib.py",
    ]


def test_the_views_of_the_drop_in_for_snmpd_are_below_our_root() -> None:
    text = (ROOT / "packaging" / "snmpd" / "vmib.conf").read_text()
    oids = re.findall(r"included \.([0-9.]+)", text)
    enterprise = [oid for oid in oids if oid.startswith("1.3.6.1.4.1.")]
    assert enterprise
    root = ".".join(map(str, objects.ROOT))
    assert all(oid.startswith(f"{root}.") for oid in enterprise)


def test_every_configuration_table_can_be_written() -> None:
    for table in CONFIGURATION:
        assert table.writable
        assert table.column("storage_type").access.writable
