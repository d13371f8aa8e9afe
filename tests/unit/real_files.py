"""Small real files for tests, as text."""

from __future__ import annotations

from vmib_manager import real, xmlload
from vmib_manager.model import Real


def described(hosts: str) -> Real:
    """The real network of these elements; the first is in line 2."""
    text = f'<real xmlns="urn:vmib:1">\n{hosts}\n</real>'
    root, reader = xmlload.parse(text.encode(), "real.xml", "real")
    return real.read(root, reader)


def host(name: str, number: int, more: str = "", kind: str = "netns", user: str = "vmib") -> str:
    return (
        f'<host id="{name}" hypervisor="{kind}">'
        f'<agent address="127.0.0.{number}" user="{user}"/>{more}</host>'
    )
