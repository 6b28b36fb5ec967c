"""Every rule of one site file, in force together, from the file to its holds as the gateway composes it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dormpower.books import shadow
from dormpower.domain.holds import Hold, Reason
from tests.gateway.composed_site import RATED_CURRENT_A, ComposedSite, site_document

ZONE = ZoneInfo("Asia/Shanghai")
LIGHTING, AC = "r-1-lighting", "r-1-ac"
EVENING = datetime(2026, 11, 23, 22, 50, tzinfo=ZONE)  # a Monday
NOON = datetime(2026, 11, 23, 12, 0, tzinfo=ZONE)
POLICIES = {
    "arrears": {"mode": "enforce", "warning_lead_s": 600},
    "overload": {"mode": "enforce"},
    "prohibited": {"mode": "enforce", "bands": [{"from_w": 1000}]},
    "curfew": {
        "mode": "enforce",
        "rules": [{"from": "23:00", "to": "06:00", "days": ["before_workday"], "kind": "lighting"}],
    },
    "night_mode": {
        "mode": "enforce",
        "rules": [{"from": "23:00", "to": "06:00", "kind": "ac", "limit_w": 600}],
    },
    "shedding": {"mode": "enforce"},
}
FEEDERS = [{"id": "f", "limit_kw": 4}]

OpenSite = Callable[..., ComposedSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    with ExitStack() as stack:

        def open_one(at: datetime, *, samples: int = 4) -> ComposedSite:
            document = site_document(POLICIES, rooms=3, feeders=FEEDERS)
            document["rooms"] = [{**room, "feeder": "f"} for room in document["rooms"]]
            site = ComposedSite(tmp_path, document, at=at)
            stack.callback(site.close)
            for room in site.settings.site.rooms:
                for circuit in room.circuits:
                    site.grant(circuit.circuit_id, 100_000)
            for _ in range(samples):
                site.sample()
            return site

        yield open_one


def standing(site: ComposedSite, circuit_id: str, reason: Reason, *, in_shadow: bool = False) -> list[Hold]:
    return [hold for hold in site.holds(circuit_id) if hold.reason is reason and hold.shadow is in_shadow]


def wait_until(site: ComposedSite, at: datetime) -> None:
    site.pass_time((at - site.clock.now()).total_seconds())


def test_nothing_is_held_while_nothing_is_wrong(open_site):
    site = open_site(NOON)
    for _ in range(6):
        site.sample(200.0)
    assert [site.holds(circuit.circuit_id) for circuit in site.settings.site.circuits()] == [()] * 6


@pytest.mark.parametrize(("power_w", "tripped"), [(3_500.0, False), (3_600.0, True)])
def test_overload_goes_by_the_rated_current_where_the_file_gives_no_limit(open_site, power_w, tripped):
    site = open_site(NOON)
    for _ in range(4):
        site.sample({AC: power_w})
    found = [hold.evidence["limit_w"] for hold in standing(site, AC, Reason.OVERLOAD)]
    assert found == ([RATED_CURRENT_A * 220] if tripped else [])


def test_a_kettle_is_found_and_what_stays_below_its_band_is_not(open_site):
    site = open_site(NOON)
    for _ in range(4):
        site.sample({AC: 1_500.0, LIGHTING: 900.0})
    assert len(standing(site, AC, Reason.PROHIBITED)) == 1
    assert site.holds(LIGHTING) == ()


def test_a_night_limit_trips_what_a_day_does_not(open_site):
    site = open_site(EVENING)
    for power_w in (100.0, 400.0, 800.0):  # no step of a kettle
        site.sample({AC: power_w})
    assert site.holds(AC) == ()
    wait_until(site, EVENING.replace(hour=23, minute=1))
    for _ in range(4):
        site.sample({AC: 800.0})
    assert [hold.evidence["limit_of"] for hold in standing(site, AC, Reason.OVERLOAD)] == ["night_mode[0]"]


def test_a_feeder_over_its_limit_sheds_air_conditioners_until_it_is_not(open_site):
    site = open_site(NOON)
    drawn = {f"r-{number}-ac": 1_900.0 for number in (1, 2, 3)}
    for power_w in (600.0, 1_200.0, 1_900.0):  # in steps below the band
        site.sample(dict.fromkeys(drawn, power_w))
    site.run(site.gateway.feeders.cycle)
    shed = [circuit_id for circuit_id in drawn if standing(site, circuit_id, Reason.SHED)]
    assert len(shed) == 1
    assert standing(site, shed[0], Reason.SHED)[0].evidence["limit_w"] == 4_000


def test_arrears_are_cut_after_their_warnings(open_site):
    site = open_site(NOON)
    for _ in range(60):
        site.sample({LIGHTING: 900.0}, after_s=7200)
    (hold,) = standing(site, LIGHTING, Reason.ARREARS)
    assert hold.evidence["available_wh"] <= 0


class TestBoundaries:
    """A curfew's boundaries come without a sample, at their instant, over restarts too."""

    def test_it_begins_and_ends_at_its_instants(self, open_site):
        site = open_site(EVENING)
        site.sample(100.0)
        wait_until(site, EVENING.replace(hour=22, minute=59, second=59))
        assert site.holds(LIGHTING) == ()
        site.pass_time(1)
        (hold,) = standing(site, LIGHTING, Reason.CURFEW)
        assert hold.placed_at == EVENING.replace(hour=23, minute=0)
        assert standing(site, AC, Reason.CURFEW) == []
        morning = datetime(2026, 11, 24, 6, 0, tzinfo=ZONE)
        assert hold.expected_release_at == morning
        wait_until(site, morning.replace(hour=5, minute=59, second=59))
        assert standing(site, LIGHTING, Reason.CURFEW) == [hold]
        site.pass_time(1)
        assert site.holds(LIGHTING) == ()

    def test_one_that_passed_while_no_gateway_ran_is_made_up_at_the_start(self, open_site):
        site = open_site(EVENING)
        site.clock.advance(3600)
        site.start()
        assert site.holds(LIGHTING) == ()
        site.pass_time(0)
        assert len(standing(site, LIGHTING, Reason.CURFEW)) == 1
        site.clock.advance(10 * 3600)  # the morning passes unseen
        site.start()
        site.pass_time(0)
        assert site.holds(LIGHTING) == ()

    def test_a_gateway_that_begins_within_it_has_seen_no_sample_yet(self, open_site):
        site = open_site(EVENING.replace(hour=23, minute=30), samples=0)
        site.pass_time(0)
        assert len(standing(site, LIGHTING, Reason.CURFEW)) == 1

    def test_each_evening_follows_the_last(self, open_site):
        site = open_site(EVENING)
        placed = []
        for day in (23, 24, 25):
            wait_until(site, datetime(2026, 11, day, 23, 0, tzinfo=ZONE))
            placed += [hold.placed_at.astimezone(ZONE).day for hold in standing(site, LIGHTING, Reason.CURFEW)]
            wait_until(site, datetime(2026, 11, day + 1, 6, 0, tzinfo=ZONE))
            assert site.holds(LIGHTING) == ()
        assert placed == [23, 24, 25]


def test_restored_books_that_nobody_has_confirmed_record_all_of_it_in_shadow(open_site):
    site = open_site(EVENING)
    with site.books.write() as connection:
        shadow.require_confirmation(connection)
    site.start()
    for _ in range(3):
        site.sample()
    for _ in range(4):
        site.sample({AC: 3_600.0})
    wait_until(site, EVENING.replace(hour=23, minute=0))
    assert len(standing(site, AC, Reason.OVERLOAD, in_shadow=True)) == 1
    assert len(standing(site, AC, Reason.PROHIBITED, in_shadow=True)) == 1
    assert len(standing(site, LIGHTING, Reason.CURFEW, in_shadow=True)) == 1
    assert not [
        hold for one in site.settings.site.circuits() for hold in site.holds(one.circuit_id) if not hold.shadow
    ]
