"""Who brings what into which guest, when, and how often it is tried."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest

from vmib_agent import couriers
from vmib_agent.couriers import Couriers
from vmib_agent.delivery import Delivery, Way
from vmib_agent.domains import AgentChannel, Domain, DomainVif
from vmib_agent.durable import StateUnusable
from vmib_agent.guest_agent import GuestRefused
from vmib_agent.ledger import Ledger, Put, put_of
from vmib_agent.network import Address, Link, Route, Stack
from vmib_agent.ports import Presence

UUID, OTHER = (f"6695eb01-f6a4-8304-79aa-97f2502e193{n}" for n in range(2))
MAC = "00:16:3e:00:00:01"
FIRST, SECOND = (Address(0, ip_interface(f"192.0.2.{n}/24")) for n in (1, 2))
ROUTE = Route(ip_network("198.51.100.0/24"), link=0)
WEB = Domain(UUID, "web", Presence.RUNNING, 3, (DomainVif(0, MAC, "vif3.0"),), AgentChannel.NONE)


def stack(*addresses: Address) -> Stack:
    return Stack(frozenset(addresses))


class Courier:
    """Brings what it is told into guests that remember it, unless it is in trouble."""

    def __init__(self, works_ahead: bool = False) -> None:
        self.works_ahead = works_ahead
        self.guests: dict[str, Stack] = {}
        self.trouble = ""
        self.visits: list[tuple[str, Stack]] = []
        self.gate = threading.Event()
        self.gate.set()

    def serves(self, domain: Domain) -> bool:
        return domain.name != "alone"

    def bring(self, domain: Domain, wanted: Stack) -> Delivery:
        self.visits.append((domain.uuid, wanted))
        self.gate.wait(10)
        if self.trouble:
            raise GuestRefused(self.trouble)
        self.guests[domain.uuid] = wanted
        return Delivery(Way.DHCP, wanted)


class Office:
    """Couriers at work, over domains that the test changes."""

    def __init__(self, courier: Courier, ledger: Ledger) -> None:
        self.courier = courier
        self.domains: Mapping[str, Domain] = {UUID: WEB}
        self.changes = threading.Semaphore(0)
        self.couriers = Couriers(
            [(Way.DHCP, courier)], lambda: self.domains, ledger, self.changes.release
        )
        self.couriers.domains_changed()
        self.couriers.start()

    def wish(self, **stacks: Stack) -> None:
        names = {"web": UUID, "other": OTHER}
        wanted = {names[name]: found for name, found in stacks.items()}
        self.couriers.wish(lambda: wanted)

    def become(self, *domains: Domain) -> None:
        self.domains = {domain.uuid: domain for domain in domains}
        self.couriers.domains_changed()

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.002)

    def delivery(self) -> Delivery | None:
        return self.couriers.deliveries().get(UUID)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "guests.json")


@pytest.fixture
def office(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    monkeypatch.setattr(couriers, "FIRST_RETRY", 0.005)
    monkeypatch.setattr(couriers, "RECHECK", 0.05)
    made = Office(Courier(), ledger)
    yield made
    made.couriers.close()


def test_what_is_wished_is_brought_and_told(office: Office) -> None:
    office.wish(web=stack(FIRST))
    office.until(lambda: office.delivery() == Delivery(Way.DHCP, stack(FIRST)))
    assert office.changes.acquire(timeout=1)
    office.wish(web=stack(FIRST, SECOND))
    office.until(lambda: office.courier.guests[UUID] == stack(FIRST, SECOND))


def test_a_guest_of_which_nothing_is_wished_is_left_alone(office: Office) -> None:
    office.wish(web=Stack(), other=stack(FIRST))
    time.sleep(0.05)
    assert office.courier.visits == []
    assert office.couriers.deliveries() == {}


def test_what_fails_is_told_and_tried_again(office: Office) -> None:
    office.courier.trouble = "it does not answer"
    office.wish(web=stack(FIRST))
    office.until(lambda: len(office.courier.visits) > 3)
    assert office.delivery() == Delivery(Way.DHCP, None, "it does not answer")
    office.courier.trouble = ""
    office.until(lambda: office.delivery() == Delivery(Way.DHCP, stack(FIRST)))


def test_a_guest_that_has_everything_is_looked_at_again(office: Office) -> None:
    office.wish(web=stack(FIRST))
    office.until(lambda: len(office.courier.visits) > 2)


def test_a_wish_that_changes_while_a_guest_is_visited_is_brought_after_it(office: Office) -> None:
    office.courier.gate.clear()
    office.wish(web=stack(FIRST))
    office.until(lambda: office.courier.visits == [(UUID, stack(FIRST))])
    office.wish(web=stack(SECOND))
    assert len(office.courier.visits) == 1, "one guest is visited by one at a time"
    office.courier.gate.set()
    office.until(lambda: office.delivery() == Delivery(Way.DHCP, stack(SECOND)))


def test_of_a_guest_that_starts_anew_nothing_is_believed(office: Office) -> None:
    office.wish(web=stack(FIRST))
    office.until(lambda: office.delivery() == Delivery(Way.DHCP, stack(FIRST)))
    office.courier.gate.clear()
    office.become(replace(WEB, number=4))
    assert office.delivery() == Delivery(Way.DHCP)
    office.courier.gate.set()
    office.until(lambda: office.delivery() == Delivery(Way.DHCP, stack(FIRST)))


def test_a_guest_that_stops_is_not_served_until_it_runs(office: Office) -> None:
    office.wish(web=stack(FIRST))
    office.until(lambda: UUID in office.courier.guests)
    office.become(replace(WEB, presence=Presence.DEFINED, number=-1))
    office.until(lambda: office.couriers.deliveries() == {})
    visits = len(office.courier.visits)
    office.wish(web=stack(SECOND))
    time.sleep(0.05)
    assert len(office.courier.visits) <= visits + 1
    office.become(replace(WEB, number=4))
    office.until(lambda: office.courier.guests[UUID] == stack(SECOND))


def test_a_way_that_works_ahead_serves_a_guest_that_is_off(office: Office) -> None:
    office.courier.works_ahead = True
    office.become(replace(WEB, presence=Presence.DEFINED, number=-1))
    office.wish(web=stack(FIRST))
    office.until(lambda: office.courier.guests.get(UUID) == stack(FIRST))


def test_a_guest_without_any_way_is_told_so(office: Office) -> None:
    office.become(replace(WEB, name="alone"))
    office.wish(web=stack(FIRST))
    office.until(lambda: (office.delivery() or Delivery(Way.DHCP)).reason != "")
    found = office.delivery()
    assert found is not None
    assert (found.way, found.have) == (Way.ITSELF, None)
    assert found.reason.startswith("it has no channel for a guest agent")


def test_what_was_put_is_taken_away_by_the_next_agent_too(office: Office, ledger: Ledger) -> None:
    ledger.record(UUID, put_of(stack(FIRST), {0: MAC}))
    office.wish(web=Stack())
    office.until(lambda: office.courier.visits == [(UUID, Stack())])


def test_the_ledger_survives_and_forgets_what_has_gone(tmp_path: Path) -> None:
    path = tmp_path / "guests.json"
    macs: dict[Link, str] = {0: MAC}
    Ledger(path).record(UUID, put_of(Stack(frozenset({FIRST}), frozenset({ROUTE})), macs))
    known = Ledger(path).put(UUID)
    assert known == Put(
        frozenset({(MAC, FIRST.interface)}), frozenset({(ROUTE.destination, ROUTE.metric)})
    )
    there = Stack(
        frozenset({replace(FIRST, ours=False), replace(SECOND, ours=False)}),
        frozenset({replace(ROUTE, ours=False)}),
    )
    marked = known.marked(there, macs)
    assert {str(a.interface) for a in marked.addresses if a.ours} == {"192.0.2.1/24"}
    assert all(route.ours for route in marked.routes)
    Ledger(path).record(UUID, Put())
    assert not Ledger(path).put(UUID)


@pytest.mark.parametrize("text", ["", "[]", '{"u": {}}', '{"u": {"addresses": [["m", "x"]]}}'])
def test_a_ledger_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "guests.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(StateUnusable, match=r"guests\.json: cannot be read"):
        Ledger(path)
