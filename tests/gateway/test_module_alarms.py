"""A condition of a module is one alarm, though both its channels report it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from dormpower.books import alarms
from dormpower.books.alarms import Alarm
from dormpower.books.tables import meter_points
from dormpower.domain.samples import Flag
from tests.gateway.composed_site import ComposedSite, site_document

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
LIGHTING, AC = "r-1-lighting", "r-1-ac"
OPEN, FAULT = frozenset({Flag.COVER_OPEN}), frozenset({Flag.RELAY_FAULT})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ComposedSite]:
    site = ComposedSite(tmp_path, site_document({}, rooms=2), at=NOON)
    for _ in range(4):
        site.sample()
    yield site
    site.close()


def told(site: ComposedSite) -> list[Alarm]:
    with site.books.read() as connection:
        found, _ = alarms.listing(connection)
    return found


def subjects(site: ComposedSite) -> list[tuple[str, str, str]]:
    return [(one.kind, one.subject_kind, one.subject_id) for one in told(site) if one.cleared_at is None]


def test_both_channels_report_an_open_cover_and_it_is_one_alarm_until_neither_does(site: ComposedSite) -> None:
    site.sample(flags={LIGHTING: OPEN, AC: OPEN})
    assert subjects(site) == [("cover_open", "module", "m-1")]
    (alarm,) = told(site)
    assert (alarm.module_id, alarm.line_id, alarm.building) == ("m-1", "l1", "01")
    assert alarm.circuit_id in {LIGHTING, AC}
    site.sample(flags={AC: OPEN})
    assert subjects(site) == [("cover_open", "module", "m-1")]
    site.sample(flags={"r-2-ac": OPEN})
    assert subjects(site) == [("cover_open", "module", "m-2")]
    assert len(told(site)) == 2


def test_it_ends_after_a_restart_too_with_the_last_channel_that_reports_it(site: ComposedSite) -> None:
    site.sample(flags={LIGHTING: OPEN})
    site.start()
    site.sample(flags={LIGHTING: OPEN, AC: OPEN})
    assert len(told(site)) == 1
    site.start()
    site.sample(flags={AC: OPEN})
    assert len(subjects(site)) == 1
    site.sample()
    assert subjects(site) == []


def test_a_channel_that_did_not_report_it_before_a_restart_raises_it_anew_after(site: ComposedSite) -> None:
    site.sample(flags={LIGHTING: OPEN})
    site.start()
    site.sample()
    assert subjects(site) == []
    site.sample(flags={AC: OPEN})
    assert len(told(site)) == 2


def test_it_ends_though_the_sample_without_it_was_not_judged_before_a_restart(site: ComposedSite) -> None:
    site.sample(flags={LIGHTING: OPEN})
    with site.books.write() as connection:  # as intake writes a sample that comes while a command is under way
        connection.execute(sa.update(meter_points).values(flags=""))
    site.start()
    site.sample()
    assert subjects(site) == []


def test_a_relay_s_fault_is_its_circuit_s(site: ComposedSite) -> None:
    site.sample(flags={LIGHTING: FAULT, AC: FAULT})
    assert set(subjects(site)) == {("relay_fault", "circuit", LIGHTING), ("relay_fault", "circuit", AC)}
    site.sample(flags={AC: FAULT})
    assert subjects(site) == [("relay_fault", "circuit", AC)]
