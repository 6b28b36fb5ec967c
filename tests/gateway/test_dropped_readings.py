"""Readings that a full buffer gave up are an alarm of the gateway."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dormpower.books import alarms
from dormpower.books.alarms import Alarm
from dormpower.books.database import Books
from gateway.dropped_readings import OVER_AFTER, DroppedReadings
from tests.gateway.composed_site import ComposedSite, site_document

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


def active(books: Books) -> list[Alarm]:
    with books.read() as connection:
        return alarms.active(connection)


def note(watch: DroppedReadings, books: Books, *, after: timedelta = timedelta(0), **figures: float) -> None:
    with books.write() as connection:
        watch.note(connection, figures, now=NOON, real_now=NOON + after)


def test_what_was_dropped_is_one_alarm_until_nothing_was_for_a_while(books: Books) -> None:
    watch = DroppedReadings("g1")
    note(watch, books)
    assert active(books) == []
    note(watch, books, intake_dropped=3, mqtt_overflowed=1)
    (alarm,) = active(books)
    assert (alarm.kind, alarm.priority, alarm.subject_id) == ("readings_dropped", "high", "readings-g1")
    assert alarm.detail == {"intake_dropped": 3, "mqtt_overflowed": 1, "outbox_dropped": 0}
    note(watch, books, after=OVER_AFTER / 2, intake_dropped=5, mqtt_overflowed=1)
    note(watch, books, after=OVER_AFTER, intake_dropped=5, mqtt_overflowed=1)
    assert [one.alarm_id for one in active(books)] == [alarm.alarm_id]
    note(watch, books, after=OVER_AFTER * 3 / 2, intake_dropped=5, mqtt_overflowed=1)
    assert active(books) == []


def test_what_the_outbox_dropped_in_a_former_run_is_told_once_and_its_alarm_ends(sqlite_books: Books) -> None:
    note(DroppedReadings("g1"), sqlite_books)
    watch = DroppedReadings("g1")
    note(watch, sqlite_books, outbox_dropped=70)
    assert active(sqlite_books) == []
    note(watch, sqlite_books, outbox_dropped=71)
    assert len(active(sqlite_books)) == 1
    after_a_restart = DroppedReadings("g1")
    note(after_a_restart, sqlite_books, outbox_dropped=71)
    assert len(active(sqlite_books)) == 1
    note(after_a_restart, sqlite_books, after=OVER_AFTER, outbox_dropped=71)
    assert active(sqlite_books) == []


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ComposedSite]:
    document: dict[str, Any] = site_document({}, feeders=[])
    site = ComposedSite(tmp_path, document, at=NOON)
    yield site
    site.close()


def test_the_gateway_looks_at_its_counters_with_each_report(site: ComposedSite) -> None:
    site.gateway._report()
    assert site.alarms() == set()
    site.gateway.intake.counters.dropped += 2
    site.gateway._report()
    assert site.alarms() == {"readings_dropped"}
