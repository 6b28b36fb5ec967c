"""A small campus in the books, users of every role, and clients that act as them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from api.app import create_app
from api.context import ApiContext, ApiSettings
from api.journal_counter import journal_counter
from api.rules_in_force import fixed_rules
from config.settings import Settings, load
from dormpower.books import users
from dormpower.books.database import Books
from dormpower.books.passwords import hash_password
from dormpower.books.residencies import begin_residency
from dormpower.books.sites import sync_site
from dormpower.books.tables import meter_points
from dormpower.clock import ManualClock
from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.curfew import CurfewPolicy
from dormpower.domain.meter_state import ChannelLimits
from dormpower.domain.scopes import Scoped
from dormpower.domain.site import Circuit, CircuitKind, Line, Module, Room, Site, Transport
from dormpower.domain.tariff import Price
from dormpower.readings.port import MAX_ITEMS, Reading

NOW = datetime(2026, 5, 20, 4, 0, tzinfo=UTC)  # noon in Shanghai
ZONE = ZoneInfo("Asia/Shanghai")
LONG_AGO = NOW - timedelta(days=400)
PASSWORD = "correct horse battery"
PRICES = (Price(from_on=date(2025, 1, 1), kind="all", price_millifen_per_kwh=56_530),)
OWN, OTHER = "south-01-101", "south-01-102"
SITE_FILE = """
site: {id: s, name: S}
lines: [{id: l1, transport: tcp, host: 127.0.0.1, port: 5020}]
modules: [{id: m-1, profile: dormpower-dual, line: l1, unit: 1}]
rooms:
  - {room_id: r-1, campus: south, building: "01", floor: "1", name: "1", lighting_module: m-1,
     lighting_channel: 0, ac_module: m-1, ac_channel: 1, rated_current_a: 16}
policies:
  prices: [{from: 2025-01-01, price_millifen_per_kwh: 56530}]
  arrears: {}
  overload: {limit_w: 3000, mode: enforce}
"""
ROLES = ("student", "finance", "maintenance", "admin")


@dataclass
class FakeReadings:
    """The readings port over a list."""

    kept: list[Reading] = field(default_factory=list)

    def append(self, readings: Sequence[Reading]) -> None:
        self.kept.extend(readings)

    def between(
        self, circuit_id: str, start: datetime, end: datetime, *, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        found = [one for one in self.kept if one.circuit_id == circuit_id and start <= one.at < end]
        return sorted(found, key=lambda one: one.at)[:limit]

    def every(
        self, circuit_id: str, start: datetime, end: datetime, *, every_s: int, limit: int = MAX_ITEMS
    ) -> list[Reading]:
        steps: dict[int, Reading] = {}
        for one in self.between(circuit_id, start, end):
            steps[int(one.at.timestamp()) // every_s * every_s] = one
        return [
            Reading(circuit_id=circuit_id, at=datetime.fromtimestamp(at_s, UTC), register_wh=last.register_wh)
            for at_s, last in steps.items()
        ][:limit]

    def drop_before(self, at: datetime) -> int:
        return 0

    def close(self) -> None:
        pass


def make_room(number: int, *, building: str = "01", campus: str = "south") -> Room:
    room_id = f"{campus}-{building}-{number}"
    return Room(
        room_id=room_id,
        campus=campus,
        building=building,
        floor=str(number // 100),
        name=f"{building}-{number}",
        rated_current_a=20,
        feeder=None,
        circuits=tuple(
            Circuit(
                circuit_id=f"{room_id}-{kind}",
                room_id=room_id,
                kind=CircuitKind(kind),
                module_id=f"m-{room_id}",
                channel=channel,
            )
            for channel, kind in enumerate(("lighting", "ac"))
        ),
    )


def make_site(rooms: Sequence[Room]) -> Site:
    return Site(
        site_id="test",
        name="Test campus",
        zone=ZONE,
        rooms=tuple(rooms),
        modules=tuple(
            Module(module_id=f"m-{room.room_id}", profile="dormpower-dual", line_id="l1", unit=unit + 1)
            for unit, room in enumerate(rooms)
        ),
        lines=(Line(line_id="l1", transport=Transport.TCP, host="127.0.0.1", port=5020),),
    )


@dataclass
class Campus:
    """A seeded campus: the books, its clock, and a client for each kind of user."""

    books: Books
    clock: ManualClock
    readings: FakeReadings
    context: ApiContext
    client: TestClient
    tokens: dict[str, str]
    user_ids: dict[str, int]

    def get(self, who: str, path: str, **options: object) -> object:
        return self.ask(who, "GET", path, **options)

    def ask(self, who: str, method: str, path: str, **options: object):
        headers = {"Authorization": f"Bearer {self.tokens[who]}", **options.pop("headers", {})}
        return self.client.request(method, f"/api/v1{path}", headers=headers, **options)

    def seen(self, circuit_id: str, *, at: datetime | None = None, relay: str = "closed") -> None:
        """Let a circuit have been read."""
        with self.books.write() as connection:
            connection.execute(
                sa.update(meter_points)
                .where(meter_points.c.circuit_id == circuit_id)
                .values(last_seen_at=at or self.clock.now(), relay=relay, power_w=12.5)
            )


@pytest.fixture(scope="session")
def password_hash() -> str:
    return hash_password(PASSWORD)


@pytest.fixture
def readings() -> FakeReadings:
    return FakeReadings()


def seed(books: Books, rooms: Sequence[Room], password_hash: str) -> tuple[dict[str, str], dict[str, int]]:
    """Describe the rooms, add a user of each role and a resident of OWN; return tokens and ids by name."""
    sync_site(books=books, site=make_site(rooms), now=LONG_AGO, today=LONG_AGO.astimezone(ZONE).date())
    tokens: dict[str, str] = {}
    user_ids: dict[str, int] = {}
    real_now = ManualClock(NOW).real_now()
    with books.write() as connection:
        for role in ROLES:
            user_id = users.add_user(
                connection,
                username=role,
                role=users.Role(role),
                password_hash=password_hash,
                now=real_now,
            )
            user_ids[role] = user_id
            tokens[role] = users.issue_token(connection, user_id=user_id, days=30, now=real_now).secret
        begin_residency(connection, user_id=user_ids["student"], room_id=OWN, from_at=LONG_AGO)
    return tokens, user_ids


@pytest.fixture
def rooms() -> list[Room]:
    return [make_room(101), make_room(102), make_room(203)]


def write_site_file(folder: Path) -> Settings:
    """Describe a site with the default levels; its one room has nothing to do with the books'."""
    path = folder / "site.yaml"
    path.write_text(SITE_FILE, encoding="utf-8")
    return load(path)


@pytest.fixture
def site_settings(tmp_path: Path) -> Settings:
    return write_site_file(tmp_path)


@pytest.fixture
def make_campus(
    rooms: list[Room], readings: FakeReadings, password_hash: str, site_settings: Settings
) -> Iterator[Callable[..., Campus]]:
    clients: list[TestClient] = []

    def make(books: Books, settings: ApiSettings | None = None, rooms: list[Room] = rooms) -> Campus:
        tokens, user_ids = seed(books, rooms, password_hash)
        clock = ManualClock(NOW)
        context = ApiContext(
            books=books,
            readings=readings,
            clock=clock,
            zone=ZONE,
            site=site_settings,
            rules=fixed_rules(Scoped(base=ArrearsPolicy(zone=ZONE)), CurfewPolicy(zone=ZONE)),
            limits={
                circuit.circuit_id: ChannelLimits(rated_current_a=room.rated_current_a, resolution_wh=10)
                for room in rooms
                for circuit in room.circuits
            },
            counter=journal_counter(books=books, prices=PRICES, zone=ZONE),
            settings=settings or ApiSettings(event_poll_s=0.02),
        )
        client = TestClient(create_app(context))
        client.__enter__()
        clients.append(client)
        return Campus(
            books=books,
            clock=clock,
            readings=readings,
            context=context,
            client=client,
            tokens=tokens,
            user_ids=user_ids,
        )

    yield make
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def campus(books: Books, make_campus: Callable[..., Campus]) -> Campus:
    """The campus on SQLite and on PostgreSQL."""
    return make_campus(books)


@pytest.fixture
def sqlite_campus(sqlite_books: Books, make_campus: Callable[..., Campus]) -> Campus:
    """The campus on SQLite alone, for what isn't about the database."""
    return make_campus(sqlite_books)
