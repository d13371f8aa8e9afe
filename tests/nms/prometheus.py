"""Prometheus and its SNMP exporter with what packaging/prometheus has, and what they answer."""

from __future__ import annotations

import json
import shlex
import shutil
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import pages
from . import debian
from .site import HOSTS, NETWORK, PORT, Site, eventually, server

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "packaging" / "prometheus"
PACKAGES = ("prometheus", "prometheus-snmp-exporter")
EXPORTER = f"{NETWORK}.10:9116"
STATION = f"{NETWORK}.11:9090"


@dataclass(frozen=True)
class Prometheus:
    """A server that runs."""

    place: Path

    def _get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://{STATION}/api/v1/{path}?{query}", timeout=10) as reply:
            document = json.loads(reply.read())
        assert document["status"] == "success", document
        return document["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that an expression has now."""
        found = self._get("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def alerts(self) -> dict[str, list[dict[str, str]]]:
        """The alerts that fire, by name: their labels."""
        firing: dict[str, list[dict[str, str]]] = {}
        for alert in self._get("alerts")["alerts"]:
            if alert["state"] == "firing":
                firing.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return firing

    def report(self, expression: str) -> list[str]:
        """What the server answers to an expression, a line for each series."""
        return [
            f"{expression}",
            *(f"  {named(labels)} {v:g}" for labels, v in self.query(expression)),
        ]


def named(labels: dict[str, str]) -> str:
    """A series as Prometheus writes it."""
    inner = ", ".join(f'{key}="{value}"' for key, value in labels.items() if key != "__name__")
    return f"{labels.get('__name__', '')}{{{inner}}}"


def with_secrets(site: Site, text: str) -> str:
    """A configuration whose pass phrases are the reader's."""
    for words, phrase in (("authentication", site.reader.auth), ("privacy", site.reader.priv)):
        assert text.count(f"the pass phrase for {words}") == 1
        text = text.replace(f"the pass phrase for {words}", phrase)
    return text


def private(file: Path, text: str) -> Path:
    """A file of mode 0600 with a text."""
    file.touch(mode=0o600)
    file.write_text(text)
    return file


@contextmanager
def exporter(site: Site, place: Path, new: bool = False) -> Iterator[str]:
    """Debian 12's exporter (0.21), or Debian 13's (0.28); gives the name of its auth, if any."""
    for file in ("snmp.yml", "auths.yml", "snmp-0.22.yml"):
        text = (SOURCE / file).read_text()
        private(place / file, with_secrets(site, text) if "pass phrase" in text else text)
    unpacked = debian.of_suite("trixie", PACKAGES[1]) if new else debian.unpacked(*PACKAGES)
    (block,) = pages.blocks("prometheus.md", "sh")
    for_new, for_old = (shlex.split(line, comments=True) for line in block.text.splitlines())
    words: list[str | Path] = [unpacked / "usr" / "bin" / PACKAGES[1]]
    words += [word.replace("=", f"={place}/") for word in (for_new if new else for_old)[1:]]
    log = place / f"exporter-{'new' if new else 'old'}.log"
    with server([*words, f"--web.listen-address={EXPORTER}"], log):
        assert eventually(lambda: is_answering(f"http://{EXPORTER}/")), log.read_text()
        yield "vmib" if new else ""


def is_answering(url: str) -> bool:
    """Whether there is anybody."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except OSError:
        return False
    return True


def scraped(site: Site, host: str, auth: str = "") -> dict[str, float]:
    """The series that the exporter makes of an agent, with their values."""
    parameters = {"module": "vmib", "target": f"{site.address(host)}:{PORT}"}
    query = urllib.parse.urlencode(parameters | ({"auth": auth} if auth else {}))
    with urllib.request.urlopen(f"http://{EXPORTER}/snmp?{query}", timeout=20) as reply:
        lines = reply.read().decode().splitlines()
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in lines
        if not line.startswith("#")
    }


@contextmanager
def prometheus(site: Site, place: Path) -> Iterator[Prometheus]:
    """The server, which asks every two seconds."""
    text = (SOURCE / "prometheus.yml").read_text()
    for number, host in enumerate(HOSTS, 1):
        text = text.replace(f"192.0.2.{number}", f"{site.address(host)}:{PORT}")
    text = text.replace("127.0.0.1:9116", EXPORTER).replace("interval: 30s", "interval: 2s")
    assert "192.0.2" not in text
    (place / "prometheus.yml").write_text(f"global: {{evaluation_interval: 1s}}\n{text}")
    shutil.copy(SOURCE / "vmib-rules.yml", place)
    log = place / "prometheus.log"
    command: list[str | Path] = [
        debian.unpacked(*PACKAGES) / "usr" / "bin" / "prometheus",
        f"--config.file={place / 'prometheus.yml'}",
        f"--storage.tsdb.path={place / 'data'}",
        f"--web.listen-address={STATION}",
    ]
    with server(command, log):
        assert eventually(lambda: is_answering(f"http://{STATION}/-/ready")), log.read_text()
        yield Prometheus(place)


def expressions() -> dict[str, list[str]]:
    """What the panels of the dashboard ask, by their titles, about all agents."""
    dashboard = json.loads((SOURCE / "vmib-dashboard.json").read_text())
    return {
        panel["title"]: [
            target["expr"].replace("$instance", ".*").replace("$__rate_interval", "20s")
            for target in panel["targets"]
        ]
        for panel in dashboard["panels"]
    }
