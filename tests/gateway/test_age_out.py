"""What a gateway's jobs let go of, and what they keep, on the stores that its site file names."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from config.settings import load
from dormpower.books import events, intents, tables
from dormpower.books.sites import sync_site
from dormpower.clock import ManualClock
from dormpower.readings.factory import open_embedded
from dormpower.readings.port import Reading
from gateway.service import Gateway

NOW = datetime(2026, 3, 2, 4, tzinfo=UTC)
DAY = timedelta(days=1)
SITE = """
site: {id: s, name: S}
database: sqlite:///books.db
readings: READINGS
lines: [{id: a, transport: tcp, host: 127.0.0.1, port: 1}]
modules: [{id: m1, profile: dormpower-dual, line: a, unit: 1}]
rooms:
  - {room_id: r1, campus: c, building: b, floor: 1, name: 1, ac_module: m1, ac_channel: 1, rated_current_a: 32}
policies: {prices: [{from: 2026-01-01, price_millifen_per_kwh: 56530}]}
"""
EMBEDDED = "{store: embedded, path: readings.db, keep_days: 7}"
INFLUX = "{store: influxdb, url: 'http://127.0.0.1:1', bucket: dorm}"


class _Untouched:
    """A readings store of a server, which lets readings age out itself."""

    def drop_before(self, at):
        raise AssertionError(f"asked to drop what is older than {at}")

    def compact(self):
        return 0


@pytest.fixture
def make_gateway(tmp_path, sqlite_books):
    made = []

    def make(readings_section, readings):
        path = tmp_path / "site.yaml"
        path.write_text(SITE.replace("READINGS", readings_section), encoding="utf-8")
        gateway = Gateway(settings=load(path), books=sqlite_books, readings=readings, clock=ManualClock(NOW))
        made.append(gateway)
        return gateway

    yield make
    for gateway in made:
        gateway._writer.shutdown()


def test_embedded_readings_stay_for_the_days_that_the_site_says(tmp_path, make_gateway):
    readings = open_embedded(tmp_path / "readings.db")
    kept_at = [NOW - timedelta(days=7), NOW]
    readings.append(
        [
            Reading(circuit_id="r1-ac", at=at, register_wh=1)
            for at in (NOW - timedelta(days=90), kept_at[0] - timedelta(seconds=1), *kept_at)
        ]
    )
    make_gateway(EMBEDDED, readings)._jobs.run_once()
    found = readings.between("r1-ac", NOW - timedelta(days=365), NOW + DAY)
    assert [one.at for one in found] == kept_at
    readings.close()


def test_intents_go_once_they_have_been_handled_for_a_day(make_gateway, sqlite_books):
    gateway = make_gateway(INFLUX, _Untouched())
    sync_site(books=sqlite_books, site=gateway.settings.site, now=NOW - 3 * DAY, today=NOW.date())
    with sqlite_books.write() as connection:
        for cause, handled_at in (("old", NOW - 2 * DAY), ("new", NOW), ("waiting", None)):
            intents.leave(connection, circuit_id="r1-ac", cause=cause, now=NOW - 2 * DAY)
            if handled_at is not None:
                (left,) = intents.unhandled(connection, 2)
                intents.mark_handled(connection, [left.intent_id], handled_at)
    gateway._jobs.run_once()
    with sqlite_books.read() as connection:
        assert connection.scalars(sa.select(tables.intents.c.cause)).all() == ["new", "waiting"]


def test_readings_on_a_server_are_left_to_it_and_the_books_age_all_the_same(make_gateway, sqlite_books):
    with sqlite_books.write() as connection:
        for at in (NOW - 2 * DAY, NOW):
            events.append(connection, kind="circuit", subject_id="r1-ac", now=at)
    gateway = make_gateway(INFLUX, _Untouched())
    gateway._jobs.run_once()
    with sqlite_books.read() as connection:
        assert connection.scalars(sa.select(tables.events.c.happened_at)).all() == [NOW]
    assert gateway._jobs._failing == set()
