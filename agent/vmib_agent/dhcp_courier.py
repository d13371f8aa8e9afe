"""Into guests by the DHCP server dnsmasq(8), which reads what it is to give from a directory.

Of a directory DIR the server is started with --dhcp-hostsdir=DIR/hosts and
--dhcp-optsdir=DIR/options. It notices what is new or has changed there; a reservation that is gone
it keeps until it starts anew. SIGHUP would help, but dnsmasq 2.90 crashes of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .delivery import Delivery, Way
from .dhcp import reservations
from .domains import Domain
from .guest_agent import GuestRefused
from .ledger import Ledger, put_of
from .neighbours import has_address
from .network import Link, Stack
from .ports import Presence
from .start_up_courier import Answers, Devices, silent_addresses


class DhcpCourier:
    """Implements `couriers.Courier` for machines that take what a DHCP server gives."""

    works_ahead = True

    def __init__(
        self,
        directory: Path,
        ledger: Ledger,
        with_devices: Devices,
        answers: Answers = has_address,
    ) -> None:
        self._directory = directory
        self._ledger = ledger
        self._with_devices = with_devices
        self._answers = answers

    def serves(self, domain: Domain) -> bool:
        """Whether the domain has an interface."""
        return bool(domain.vifs)

    def bring(self, domain: Domain, wanted: Stack) -> Delivery:
        """Have the server know; see whether the machine has taken it. Raises `GuestRefused`."""
        macs: Mapping[Link, str] = {vif.number: vif.mac for vif in domain.vifs}
        told = reservations(wanted, macs)
        put = put_of(wanted, macs)
        self._ledger.record(domain.uuid, self._ledger.put(domain.uuid) | put)
        try:
            self._write("hosts", domain.uuid, told.hosts)
            self._write("options", domain.uuid, told.options)
        except OSError as error:
            raise GuestRefused(f"{error.filename}: {error.strerror}") from error
        self._ledger.record(domain.uuid, put)
        if domain.presence is Presence.DEFINED:
            return Delivery(Way.DHCP, wanted)
        silent = silent_addresses(self._with_devices(domain), told.addresses, self._answers)
        have = told.addresses - {*silent}
        there = {address.link for address in have}
        routes = frozenset(route for route, link in told.routes.items() if link in there)
        reason = next(iter(told.unsaid.values()), "")
        if silent:
            reason = f"the machine does not answer for {silent[0].interface.ip} yet"
        return Delivery(Way.DHCP, Stack(have, routes), reason)

    def _write(self, kind: str, uuid: str, text: str) -> None:
        """Make a file for the server what it is to be, unless it is that."""
        path = self._directory / kind / uuid
        if text == (path.read_text() if path.exists() else ""):
            return
        if not path.parent.exists():
            path.parent.mkdir(parents=True)
            path.parent.chmod(0o755)  # the server is another user
        if text:
            new = path.with_name(f".{uuid}")  # a name that the server does not read
            new.write_text(text)
            new.chmod(0o644)
            new.replace(path)
        else:
            path.unlink()
