"""A small campus with the pages on it, and browsers that are signed in."""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import pages
from api.access import SESSION_COOKIE
from api.app import create_app
from api.context import ApiContext, ApiSettings
from api.journal_counter import journal_counter
from api.rules_in_force import fixed_rules
from config.settings import Settings
from dormpower.books import alarms, holds, users
from dormpower.books.database import Books
from dormpower.books.passwords import hash_password
from dormpower.clock import ManualClock
from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.curfew import CurfewPolicy
from dormpower.domain.holds import Reason
from dormpower.domain.scopes import Scoped


def _load_api_campus():
    """Load the API tests' campus: one seeding for both folders (tests are no package)."""
    name = "dormpower_tests_api_campus"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "api" / "conftest.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


base = _load_api_campus()
NOW, PASSWORD, OWN, OTHER = base.NOW, base.PASSWORD, base.OWN, base.OTHER


@dataclass
class Place:
    """The application over real books, and what tests put into them."""

    books: Books
    clock: ManualClock
    context: ApiContext
    app: FastAPI
    user_ids: dict[str, int]
    alarm_id: str
    clients: dict[str, TestClient] = field(default_factory=dict)

    def browser(self, who: str, language: str = "en") -> TestClient:
        """Return a signed-in client, one a user; signing in itself has tests of its own."""
        if who not in self.clients:
            client = TestClient(self.app, headers={"Accept-Language": language, "Accept": "text/html"})
            with self.books.write() as connection:
                opened = users.open_session(
                    connection,
                    user_id=self.user_ids[who],
                    now=self.clock.real_now(),
                    lifetime=timedelta(days=30),
                )
            client.cookies.set(SESSION_COOKIE, opened.secret)
            self.clients[who] = client
        return self.clients[who]

    def csrf(self, who: str) -> str:
        return self.browser(who).get("/api/v1/me").json()["csrf_token"]

    def post(self, who: str, path: str, **fields: str):
        return self.browser(who).post(
            path, data={"csrf_token": self.csrf(who), **fields}, follow_redirects=False
        )

    def form_key(self, circuit_id: str) -> str:
        page = self.browser("finance").get(f"/circuits/{circuit_id}/recharge").text
        return re.search(r'name="key" value="([^"]+)"', page)[1]

    def hold(self, circuit_id: str, reason: Reason, **options: object) -> str:
        options = {"placed_by": "rule:test", "evidence": {}, "now": self.clock.now(), **options}
        with self.books.write() as connection:
            return holds.place(connection, circuit_id=circuit_id, reason=reason, **options)


@pytest.fixture(scope="session")
def password_hash() -> str:
    return hash_password(PASSWORD)


@pytest.fixture
def site_settings(tmp_path: Path) -> Settings:
    return base.write_site_file(tmp_path)


@pytest.fixture
def make_place(password_hash: str, site_settings: Settings) -> Iterator[Callable[[Books], Place]]:
    places: list[Place] = []

    def make(books: Books) -> Place:
        rooms = [base.make_room(101), base.make_room(102), base.make_room(203)]
        _, user_ids = base.seed(books, rooms, password_hash)
        clock = ManualClock(NOW)
        context = ApiContext(
            books=books,
            readings=base.FakeReadings(),
            clock=clock,
            zone=base.ZONE,
            site=site_settings,
            rules=fixed_rules(Scoped(base=ArrearsPolicy(zone=base.ZONE)), CurfewPolicy(zone=base.ZONE)),
            counter=journal_counter(books=books, prices=base.PRICES, zone=base.ZONE),
            prices=base.PRICES,
            site_name="Test campus",
            settings=ApiSettings(event_poll_s=0.02),
        )
        with books.write() as connection:
            alarm_id = alarms.raise_alarm(
                connection,
                kind="load_off",
                priority="high",
                subject_kind="circuit",
                subject_id=f"{OTHER}-ac",
                circuit_id=f"{OTHER}-ac",
                detail={"power_w": 4300, "word": "<b>bold</b>"},
                now=NOW,
            )
        place = Place(
            books=books,
            clock=clock,
            context=context,
            app=create_app(context, extensions=[pages.install]),
            user_ids=user_ids,
            alarm_id=alarm_id,
        )
        places.append(place)
        return place

    yield make
    for place in places:
        for client in place.clients.values():
            client.close()


@pytest.fixture
def place(books: Books, make_place: Callable[[Books], Place]) -> Place:
    """The pages on SQLite and on PostgreSQL."""
    return make_place(books)


@pytest.fixture
def sqlite_place(sqlite_books: Books, make_place: Callable[[Books], Place]) -> Place:
    """The pages on SQLite alone, for what isn't about the database."""
    return make_place(sqlite_books)
