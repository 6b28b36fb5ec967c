"""Instants and days at the ends of what the books hold."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from dormpower.domain.reach import day_within_reach, instant_within_reach

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))


@pytest.mark.parametrize(
    "at",
    [
        datetime(2000, 1, 1, tzinfo=UTC),
        datetime(2199, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2026, 3, 2, 12, tzinfo=EAST),
    ],
)
def test_an_instant_within_reach_comes_back_in_utc(at: datetime) -> None:
    assert instant_within_reach(at) == at
    assert instant_within_reach(at).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "at",
    [
        datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC),
        datetime(2200, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=WEST),
        datetime(1, 1, 1, tzinfo=EAST),
    ],
)
def test_an_instant_out_of_reach_is_refused_in_a_sentence(at: datetime) -> None:
    with pytest.raises(ValueError, match="expected an instant of the years 2000 to 2199, got"):
        instant_within_reach(at)


@pytest.mark.parametrize(
    ("on", "fits"),
    [
        (date(1999, 12, 31), False),
        (date(2000, 1, 1), True),
        (date(2199, 12, 31), True),
        (date(2200, 1, 1), False),
        (date.max, False),
    ],
)
def test_days_end_where_instants_do(on: date, fits: bool) -> None:
    if fits:
        assert day_within_reach(on) == on
    else:
        with pytest.raises(ValueError, match="expected a day of the years 2000 to 2199, got"):
            day_within_reach(on)
