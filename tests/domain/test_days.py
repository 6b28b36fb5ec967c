"""Campus days and the split of energy at a midnight."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.days import CampusDays, split_wh

START = datetime(2026, 1, 1, tzinfo=UTC)


def hours_of(zone: str, on: date) -> float:
    days = CampusDays(ZoneInfo(zone))
    return (days.end_of(on) - days.start_of(on)) / timedelta(hours=1)


@pytest.mark.parametrize(
    ("zone", "on", "hours"),
    [
        ("Asia/Shanghai", date(2026, 3, 2), 24),
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/Sao_Paulo", date(2018, 11, 4), 23),  # midnight skipped
        ("America/Sao_Paulo", date(2018, 2, 17), 25),  # 24:00 became 23:00
        ("America/Havana", date(2026, 11, 1), 25),  # midnight happens twice
        ("Pacific/Apia", date(2011, 12, 30), 0),  # a day that did not happen
    ],
)
def test_a_day_is_as_long_as_the_clock_on_campus_says(zone: str, on: date, hours: float) -> None:
    assert hours_of(zone, on) == hours


@given(
    at=st.integers(-(9 * 10**8), 3 * 10**8).map(lambda seconds: START + timedelta(seconds=seconds)),
    zone=st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/Sao_Paulo", "America/Havana"]),
)
def test_every_instant_is_within_the_day_that_it_belongs_to(at: datetime, zone: str) -> None:
    days = CampusDays(ZoneInfo(zone))
    on = days.day_of(at)
    assert days.start_of(on) <= at < days.end_of(on)
    assert days.last_day_over(at=at) == on - timedelta(days=1)


@given(
    energy_wh=st.integers(0, 10**12),
    cuts_s=st.lists(st.integers(0, 864_000), min_size=1, max_size=8),
    whole_s=st.integers(864_000, 10**8),
)
def test_a_split_is_monotone_and_keeps_to_its_ends(energy_wh: int, cuts_s: list[int], whole_s: int) -> None:
    to_at = START + timedelta(seconds=whole_s)
    places = [
        split_wh(energy_wh=energy_wh, from_at=START, to_at=to_at, at=START + timedelta(seconds=cut_s))
        for cut_s in (0, *sorted(cuts_s), whole_s)
    ]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (0, energy_wh)


def test_a_split_rounds_half_to_even() -> None:
    to_at, middle = START + timedelta(seconds=2), START + timedelta(seconds=1)
    halves = [split_wh(energy_wh=wh, from_at=START, to_at=to_at, at=middle) for wh in (1, 3, 5, 7)]
    assert halves == [0, 2, 2, 4]


@pytest.mark.parametrize("at_s", [-1, 3])
def test_a_split_outside_its_span_is_refused(at_s: int) -> None:
    with pytest.raises(ValueError, match="expected within"):
        split_wh(
            energy_wh=1,
            from_at=START,
            to_at=START + timedelta(seconds=2),
            at=START + timedelta(seconds=at_s),
        )


def test_the_cache_of_days_is_bounded() -> None:
    days = CampusDays(ZoneInfo("Asia/Shanghai"))
    for number in range(5000):
        days.start_of(date(2000, 1, 1) + timedelta(days=number))
    assert len(days._starts) <= 4096
