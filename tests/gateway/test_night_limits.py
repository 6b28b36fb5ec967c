"""Night mode from the site file to a trip: a lower limit in the hours of the house rules, by its own mode."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from dormpower.domain.holds import Hold, Reason
from tests.gateway.composed_site import ComposedSite, site_document

ZONE = ZoneInfo("Asia/Shanghai")
WORKDAY = datetime(2026, 11, 23, 22, 50, tzinfo=ZONE)  # a Monday
HOLIDAY = datetime(2026, 10, 1, 22, 50, tzinfo=ZONE)
NIGHT = {"from": "23:00", "to": "06:00", "days": ["before_workday"], "kind": "lighting", "limit_w": 300}

OpenSite = Callable[..., ComposedSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    with ExitStack() as stack:

        def open_one(at: datetime, *, overload: dict[str, Any], night: dict[str, Any]) -> ComposedSite:
            document = site_document({"overload": overload, "night_mode": night})
            site = ComposedSite(tmp_path, document, at=at)
            stack.callback(site.close)
            for _ in range(4):  # registers are believed, nothing is drawn
                site.sample()
            return site

        yield open_one


def draw_over_an_evening(site: ComposedSite, power_w: float) -> None:
    """Draw from five to eleven until five past eleven, looked at every ten seconds."""
    site.clock.advance(240)
    for _ in range(60):
        site.sample(power_w, after_s=10)


def overload_holds(site: ComposedSite, circuit_id: str = "r-1-lighting") -> list[Hold]:
    return [hold for hold in site.holds(circuit_id) if hold.reason is Reason.OVERLOAD]


def test_above_the_nights_limit_is_tripped_on_a_workdays_evening_and_its_evidence_names_the_rule(open_site):
    site = open_site(WORKDAY, overload={"mode": "enforce"}, night={"mode": "enforce", "rules": [NIGHT]})
    draw_over_an_evening(site, 500.0)
    (hold,) = site.holds("r-1-lighting")
    assert (hold.reason, hold.shadow) == (Reason.OVERLOAD, False)
    assert (hold.evidence["limit_w"], hold.evidence["limit_of"]) == (300, "night_mode[0]")
    placed = hold.placed_at.astimezone(ZONE)
    assert (placed.hour, placed.minute) == (23, 0)  # debounced within the first minute, not before eleven
    assert "load_off" in site.alarms()
    assert site.holds("r-1-ac") == ()  # the rule is of lighting


def test_the_same_draw_on_a_holidays_evening_trips_nothing(open_site):
    site = open_site(HOLIDAY, overload={"mode": "enforce"}, night={"mode": "enforce", "rules": [NIGHT]})
    draw_over_an_evening(site, 500.0)
    assert site.holds("r-1-lighting") == ()
    draw_over_an_evening(site, 4000.0)  # above 16 A × 220 V: the overload limit stands all the same
    assert [hold.evidence["limit_of"] for hold in overload_holds(site)] == ["limit_w"]


@pytest.mark.parametrize(
    ("overload", "night", "expected"),
    [
        ("enforce", "shadow", [True]),  # would have been off
        ("enforce", "off", []),
        ("shadow", "enforce", [False]),  # by its own mode, whatever the overload limit's
        ("off", "enforce", [False]),
        ("off", "shadow", [True]),
    ],
)
def test_the_nights_limit_goes_by_its_own_mode(open_site, overload, night, expected):
    site = open_site(WORKDAY, overload={"mode": overload}, night={"mode": night, "rules": [NIGHT]})
    draw_over_an_evening(site, 500.0)
    assert [hold.shadow for hold in site.holds("r-1-lighting")] == expected


def test_each_row_may_have_a_mode_of_its_own(open_site):
    rows = [NIGHT, {**NIGHT, "limit_w": 200, "mode": "shadow"}]
    site = open_site(WORKDAY, overload={"mode": "off"}, night={"mode": "enforce", "rules": rows})
    draw_over_an_evening(site, 250.0)
    (hold,) = site.holds("r-1-lighting")
    assert (hold.shadow, hold.evidence["limit_of"]) == (True, "night_mode[1]")
    for _ in range(3):
        site.sample(500.0)
    found = {hold.shadow: hold.evidence["limit_of"] for hold in site.holds("r-1-lighting")}
    assert found == {True: "night_mode[1]", False: "night_mode[0]"}


def test_the_counts_against_both_limits_survive_a_restart(open_site):
    site = open_site(
        WORKDAY,
        overload={"mode": "enforce", "debounce_s": 8},
        night={"rules": [NIGHT]},
    )
    site.clock.advance(900)
    site.sample(500.0)
    site.sample(500.0)
    assert site.holds("r-1-lighting") == ()
    site.start()
    site.sample(500.0)
    assert [hold.shadow for hold in site.holds("r-1-lighting")] == [True]
