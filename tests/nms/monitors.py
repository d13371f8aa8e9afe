"""Nagios and Icinga as servers of their own on a directory of their own, and what they report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import debian
from .site import BIN, HOSTS, PORT, READER, Site, server

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(r"^(\w+) \{\n(.*?)^\s*\}", re.DOTALL | re.MULTILINE)
STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")

_NAGIOS = """\
log_file={place}/nagios.log
{samples}
cfg_file={place}/vmib.cfg
cfg_file={place}/example.cfg
object_cache_file={place}/objects.cache
precached_object_file={place}/objects.precache
status_file={place}/status.dat
status_update_interval=1
nagios_user=root
nagios_group=root
command_file={place}/nagios.cmd
lock_file={place}/nagios.lock
temp_file={place}/nagios.tmp
temp_path={place}
check_result_path={place}/results
query_socket={place}/nagios.qh
state_retention_file={place}/retention.dat
retain_state_information=0
interval_length=4
check_workers=2
host_check_timeout=60
service_inter_check_delay_method=n
host_inter_check_delay_method=n
use_syslog=0
enable_notifications=0
illegal_macro_output_chars=`~$&|'"<>
"""
_ICINGA = """\
const NodeName = "station"
const ZoneName = NodeName
const PluginDir = "{place}"
include <itl>
object CheckerComponent "checker" {{ }}
object Endpoint NodeName {{}}
object Zone ZoneName {{ endpoints = [ NodeName ] }}
object FileLogger "main" {{ path = "{place}/icinga2.log" }}
object StatusDataWriter "status" {{
  status_path = "{place}/status.dat"
  objects_path = "{place}/objects.cache"
  update_interval = 1s
}}
include "{place}/vmib.conf"
include "{place}/example.conf"
"""


@dataclass(frozen=True)
class Monitor:
    """A server that runs, and the files in which it says what it knows."""

    place: Path

    def status(self) -> dict[str, tuple[str, str]]:
        """State and line of each service that was checked, as `host/service`; of each host, too."""
        file = self.place / "status.dat"
        found: dict[str, tuple[str, str]] = {}
        for kind, block in _BLOCK.findall(file.read_text() if file.exists() else ""):
            cells = _cells(block)
            if cells.get("has_been_checked") != "1":
                continue
            told = cells.get("plugin_output", "")
            if kind == "servicestatus":
                name = f"{cells['host_name']}/{cells['service_description']}"
                found[name] = STATES[int(cells["current_state"])], told
            elif kind == "hoststatus":
                up = cells["current_state"] == "0"
                found[cells["host_name"]] = "UP" if up else "DOWN", told
        return found

    def state(self, name: str) -> str:
        """The state of a host, or of a service as `host/service`; empty before it was checked."""
        return self.status().get(name, ("", ""))[0]

    def objects(self) -> set[str]:
        """The services that the server has made of its configuration, as `host/service`."""
        text = (self.place / "objects.cache").read_text()
        blocks = re.findall(r"^define service \{\n(.*?)^\s*\}", text, re.DOTALL | re.MULTILINE)
        return {f"{c['host_name']}/{c['service_description']}" for c in map(_cells, blocks)}

    def report(self) -> list[str]:
        """What the server reports, a line for each host and service."""
        return [f"{state:9}{name:32} {told}" for name, (state, told) in self.status().items()]


def _cells(block: str) -> dict[str, str]:
    """The lines of a block of status.dat (`a=b`) or objects.cache (`a<TAB>b`)."""
    lines = (re.split(r"[=\t]", line.strip(), maxsplit=1) for line in block.splitlines())
    return {line[0]: line[1] for line in lines if len(line) == 2}


@contextmanager
def nagios(site: Site, place: Path) -> Iterator[Monitor]:
    """Nagios 4 with what packaging/nagios has; minutes are four seconds long."""
    source = ROOT / "packaging" / "nagios"
    (place / "results").mkdir(parents=True)
    (place / "vmib.cfg").write_text((source / "vmib.cfg").read_text())
    own = {
        "_VMIB_PLUGIN": str(BIN / "check_vmib"),
        "_VMIB_PORT": str(PORT),
        "_VMIB_TIMEOUT": "2",
        "_VMIB_USER": READER,
        "_VMIB_CREDENTIALS": str(site.credentials),
    }
    macros = "".join(f"\n    {name} {value}" for name, value in own.items())
    text = at_their_addresses(site, (source / "example.cfg").read_text())
    text = re.sub(r"use +vmib-agent\n", rf"\g<0>{macros}\n", text)
    text = re.sub(r"check_vmib!(rate|drops)!.*", r"\g<0> -i 2", text)
    (place / "example.cfg").write_text(text)
    root = debian.unpacked("nagios4-core")
    objects = root / "etc" / "nagios4" / "objects"
    names = ("commands", "contacts", "templates", "timeperiods")
    samples = "\n".join(f"cfg_file={objects / name}.cfg" for name in names)
    main = place / "nagios.cfg"
    main.write_text(_NAGIOS.format(place=place, samples=samples))
    with server([root / "usr" / "sbin" / "nagios4", main], place / "out"):
        yield Monitor(place)


@contextmanager
def icinga(site: Site, place: Path) -> Iterator[Monitor]:
    """Icinga 2 with what packaging/icinga2 has; minutes are four seconds long."""
    source = ROOT / "packaging" / "icinga2"
    for name in ("run", "lib", "spool", "cache", "log"):
        (place / name).mkdir(parents=True)
    own: Mapping[str, str | int] = {
        "vmib_port": PORT,
        "vmib_timeout": 2,
        "vmib_credentials": f'"{site.credentials}"',
    }
    text = (source / "vmib.conf").read_text()
    assert text.count('"/usr/bin/check_vmib"') == 1
    text = text.replace("/usr/bin/check_vmib", str(BIN / "check_vmib"))
    for name, value in own.items():
        text = re.sub(rf" +vars\.{name} = .*\n", "", text)
        text = text.replace("  vars.vmib_plugin", f"  vars.{name} = {value}\n  vars.vmib_plugin", 1)
    (place / "vmib.conf").write_text(re.sub(r"((check|retry)_interval =) \w+", r"\1 4s", text))
    example = at_their_addresses(site, (source / "example.conf").read_text())
    quick = example.replace("    vmib_target", "    vmib_interval = 2\n    vmib_target")
    (place / "example.conf").write_text(quick)
    main = place / "icinga2.conf"
    main.write_text(_ICINGA.format(place=place))
    root = debian.unpacked("icinga2-bin")
    constants = {
        "IncludeConfDir": root / "usr/share/icinga2/include",
        "ConfigDir": place,
        "DataDir": place / "lib",
        "CacheDir": place / "cache",
        "SpoolDir": place / "spool",
        "LogDir": place / "log",
        "InitRunDir": place / "run",
        "RunAsUser": "root",
        "RunAsGroup": "root",
    }
    defines = [word for name, value in constants.items() for word in ("-D", f"{name}={value}")]
    program = next(root.glob("usr/lib/*/icinga2/sbin/icinga2"))
    includes = str(constants["IncludeConfDir"])
    command: list[str | Path] = [program, "daemon", *defines, "-I", includes, "-c", main]
    with server(command, place / "out", **debian.libraries(root)):
        yield Monitor(place)


def at_their_addresses(site: Site, text: str) -> str:
    """An example whose hosts are those of the site."""
    for number, host in enumerate(HOSTS, 1):
        assert f"192.0.2.{number}" in text
        text = text.replace(f"192.0.2.{number}", site.address(host))
    return text
