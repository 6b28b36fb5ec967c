"""Prohibited loads over restarts and silences of the running gateway: nothing that is on is forgotten."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.settings import load
from dormpower.books import shadow_alarms
from dormpower.domain.holds import Reason
from tests.gateway.composed_site import ComposedSite, site_document

AC = "r-1-ac"
NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
TRIPPED_AT_SAMPLE = 9  # four to begin with, three before the step, the second after it
KETTLE = [60.0, 60.0, 60.0, 1560.0, 1560.0, 1560.0, 1560.0]


def build(folder: Path, action: str, *, mode: str = "enforce") -> ComposedSite:
    bands = [{"from_w": 500, "action": action}]
    site = ComposedSite(folder, site_document({"prohibited": {"mode": mode, "bands": bands}}), at=NOON)
    site.grant(AC, 500_000)  # nothing else asks for a look
    for _ in range(4):  # the register is believed from the third sample on
        site.sample({AC: 60.0})
    return site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[ComposedSite]:
    site = build(tmp_path, "alarm")
    yield site
    site.close()


def boil(site: ComposedSite) -> None:
    for power_w in KETTLE:
        site.sample({AC: power_w})
    assert "prohibited_load" in site.alarms()


def test_an_alarm_stands_over_a_restart_while_the_load_is_on(site: ComposedSite) -> None:
    boil(site)
    site.start()
    site.run(site.gateway.control.sweep)  # before anything is heard
    assert "prohibited_load" in site.alarms()
    for _ in range(3):
        site.sample({AC: 1560.0})
    assert "prohibited_load" in site.alarms()
    site.sample({AC: 60.0})
    assert "prohibited_load" not in site.alarms()


def test_a_load_that_went_off_while_nobody_ran_ends_its_alarm(site: ComposedSite) -> None:
    boil(site)
    site.start()
    site.sample({AC: 60.0}, after_s=3600)
    assert "prohibited_load" not in site.alarms()


@pytest.mark.parametrize(("power_w", "stands"), [(1560.0, True), (60.0, False)])
def test_a_long_silence_ends_an_alarm_only_where_the_load_is_gone(
    site: ComposedSite, power_w: float, stands: bool
) -> None:
    boil(site)
    site.sample({AC: power_w}, after_s=1800)
    assert ("prohibited_load" in site.alarms()) is stands


@pytest.mark.parametrize("restart_at", range(len(KETTLE)))
def test_a_restart_at_any_sample_of_a_kettle_trips_it_all_the_same(tmp_path: Path, restart_at: int) -> None:
    site = build(tmp_path, "trip")
    for number, power_w in enumerate(KETTLE):
        if number == restart_at:
            site.start()
        site.sample({AC: power_w})
    holds = [hold for hold in site.holds(AC) if hold.reason is Reason.PROHIBITED]
    assert [hold.placed_at for hold in holds] == [NOON + timedelta(seconds=5 * TRIPPED_AT_SAMPLE)]
    site.close()


def on_record(site: ComposedSite) -> list[tuple[str, bool]]:
    """Return what would have been told: the kind, and whether it stands."""
    with site.books.read() as connection:
        found, _ = shadow_alarms.report(connection, since=NOON, until=site.clock.now() + timedelta(days=1))
    return [(one.kind, one.to_at is None) for one in found]


def test_in_shadow_a_band_that_alarms_is_put_on_record_and_nobody_is_told(tmp_path: Path) -> None:
    site = build(tmp_path, "alarm", mode="shadow")
    for power_w in KETTLE:
        site.sample({AC: power_w})
    site.start()
    site.sample({AC: 1560.0})
    assert on_record(site) == [("prohibited_load", True)]
    with site.books.read() as connection:
        (one,), _ = shadow_alarms.report(connection, since=NOON, until=site.clock.now() + timedelta(days=1))
    assert one.evidence["delta_w"] == 1500.0
    assert one.from_at == NOON + timedelta(seconds=5 * TRIPPED_AT_SAMPLE)
    assert site.alarms() == set()
    assert site.holds(AC) == ()
    site.sample({AC: 60.0})
    assert on_record(site) == [("prohibited_load", False)]
    site.close()


def test_a_rule_that_leaves_the_shadow_ends_its_record_and_raises_its_alarm(tmp_path: Path) -> None:
    site = build(tmp_path, "alarm", mode="shadow")
    for power_w in KETTLE:
        site.sample({AC: power_w})
    path = tmp_path / "site.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("mode: shadow", "mode: enforce"), encoding="utf-8")
    site.settings = load(path)
    site.start()
    site.sample({AC: 1560.0})
    site.sample({AC: 1560.0})
    assert on_record(site) == [("prohibited_load", False)]
    assert site.alarms() == {"prohibited_load"}
    site.close()
