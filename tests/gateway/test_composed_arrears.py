"""Arrears from the site file to warnings and cuts: each place by its own values, warnings on every channel."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dormpower.books.tables import notices
from dormpower.domain.holds import Reason
from tests.gateway.composed_site import ComposedSite, site_document

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=ZoneInfo("Asia/Shanghai"))
HOUR_S = 3600.0
ARREARS = {
    "low_wh": 5_000,
    "critical_wh": 4_000,
    "warning_lead_s": 3600,
    "channels": ["wechat", "sms"],
    "mode": "enforce",
    "overrides": [{"kind": "ac", "mode": "shadow"}, {"room": "r-2", "overdraft_wh": 20_000}],
}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ComposedSite]:
    site = ComposedSite(tmp_path, site_document({"arrears": ARREARS}, rooms=2), at=NOON)
    for room in site.settings.site.rooms:
        for circuit in room.circuits:
            site.grant(circuit.circuit_id, 6_000)
    for _ in range(4):
        site.sample()
    yield site
    site.close()


def queued(site: ComposedSite, circuit_id: str) -> list[tuple[str, str]]:
    with site.books.read() as connection:
        rows = connection.execute(
            sa.select(notices.c.code, notices.c.channel)
            .where(notices.c.circuit_id == circuit_id)
            .order_by(notices.c.notice_id)
        )
        return [(row.code, row.channel) for row in rows]


def test_each_place_is_warned_and_cut_by_its_own_values(site):
    for _ in range(4):
        site.sample(3_000.0, after_s=HOUR_S)
    (hold,) = site.holds("r-1-lighting")
    assert (hold.reason, hold.shadow, hold.evidence["floor_wh"]) == (Reason.ARREARS, False, 0)
    (hold,) = site.holds("r-1-ac")
    assert (hold.reason, hold.shadow) == (Reason.ARREARS, True)  # air conditioning only watches
    assert site.holds("r-2-lighting") == ()  # within its own overdraft


def test_a_warning_is_queued_once_for_each_channel_of_the_site_and_none_in_shadow(site):
    for _ in range(2):
        site.sample(3_000.0, after_s=HOUR_S)
    both = [("warning.critical", "wechat"), ("warning.critical", "sms")]
    assert queued(site, "r-1-lighting") == [*both, *both]  # the balance fell through both thresholds at once
    assert queued(site, "r-1-ac") == []
