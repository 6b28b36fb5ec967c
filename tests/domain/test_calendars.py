"""Kinds of days, and clock hours as instants where clocks miss or double them."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.calendars import (
    DateSpan,
    DayException,
    DayKinds,
    DayLabel,
    DayTest,
    Hours,
    TimeSpan,
    instant_of,
    merge,
    next_change_at,
    parse_day_test,
    span_at,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")  # 2026: clocks jump on 8 March at 2:00, go back on 1 November at 2:00
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # moves by half an hour
BEIRUT = ZoneInfo("Asia/Beirut")  # jumps at midnight

# The National Day of 2026: 1–7 October off, 20 September and 10 October worked.
DAYS = DayKinds(
    holidays=frozenset(date(2026, 10, day) for day in range(1, 8)),
    makeup_workdays=frozenset({date(2026, 9, 20), date(2026, 10, 10)}),
    known_years=frozenset({2026}),
    exams=(DateSpan(from_on=date(2026, 11, 9), to_on=date(2026, 11, 15)),),
    exceptions={
        date(2026, 11, 23): DayException.RESTDAY,
        date(2026, 11, 28): DayException.WORKDAY,
        date(2026, 12, 31): DayException.FREE,
    },
)


@pytest.mark.parametrize(
    ("on", "labels"),
    [
        (date(2026, 11, 24), {"tue", "workday"}),
        (date(2026, 11, 22), {"sun", "restday", "weekend"}),
        (date(2026, 10, 1), {"thu", "restday", "holiday"}),
        (date(2026, 10, 3), {"sat", "restday", "holiday"}),
        (date(2026, 10, 10), {"sat", "workday", "makeup"}),
        (date(2026, 11, 9), {"mon", "workday", "exam"}),
        (date(2026, 11, 15), {"sun", "restday", "weekend", "exam"}),
        (date(2026, 11, 16), {"mon", "workday"}),
        (date(2026, 11, 23), {"mon", "restday", "holiday"}),
        (date(2026, 11, 28), {"sat", "workday"}),
        (date(2026, 12, 31), {"thu", "workday", "free"}),
        (date(2027, 10, 1), {"fri", "workday"}),  # beyond the known years
    ],
)
def test_a_day_is_what_the_calendar_and_the_site_say(on, labels):
    assert {label.value for label in DAYS.labels(on)} == labels


@given(st.dates(min_value=date(2025, 1, 1), max_value=date(2028, 1, 1)))
def test_every_day_is_exactly_one_of_workday_weekend_and_holiday(on):
    labels = DAYS.labels(on)
    assert len(labels & {DayLabel.WORKDAY, DayLabel.WEEKEND, DayLabel.HOLIDAY}) == 1
    assert (DayLabel.RESTDAY in labels) != (DayLabel.WORKDAY in labels)


def test_years_without_data_are_known_to_be_unknown():
    assert DAYS.knows(date(2026, 1, 1))
    assert not DAYS.knows(date(2027, 1, 1))


def test_a_day_test_is_read_or_refused_with_what_was_expected():
    assert parse_day_test("workday") == DayTest(label=DayLabel.WORKDAY)
    assert parse_day_test("before_exam") == DayTest(label=DayLabel.EXAM, before=True)
    with pytest.raises(ValueError, match=r"expected one of workday, .* got 'werkday'"):
        parse_day_test("werkday")


def test_a_free_day_begins_a_span_only_where_it_is_asked_for():
    evening = date(2026, 12, 31)
    assert not Hours(from_minute=1380, to_minute=360).begin_on(evening, DAYS)
    assert Hours(from_minute=1380, to_minute=360, days=(parse_day_test("free"),)).begin_on(evening, DAYS)


def test_a_day_test_against_a_span_wins():
    hours = Hours(
        from_minute=0,
        to_minute=60,
        days=(parse_day_test("workday"),),
        not_days=(parse_day_test("exam"),),
    )
    assert not hours.begin_on(date(2026, 11, 9), DAYS)
    assert hours.begin_on(date(2026, 11, 16), DAYS)
    assert not hours.begin_on(date(2026, 11, 22), DAYS)


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "on", "minute", "at"),
    [
        (SHANGHAI, date(2026, 3, 8), 23 * 60, utc(2026, 3, 8, 15)),
        (NEW_YORK, date(2026, 3, 8), 60, utc(2026, 3, 8, 6)),
        (NEW_YORK, date(2026, 3, 8), 120, utc(2026, 3, 8, 7)),  # 2:00 is skipped: the instant of the jump
        (NEW_YORK, date(2026, 3, 8), 150, utc(2026, 3, 8, 7)),  # so is 2:30
        (NEW_YORK, date(2026, 3, 8), 180, utc(2026, 3, 8, 7)),
        (NEW_YORK, date(2026, 3, 8), 181, utc(2026, 3, 8, 7, 1)),
        (NEW_YORK, date(2026, 11, 1), 90, utc(2026, 11, 1, 5, 30)),  # 1:30 comes twice: the first
        (NEW_YORK, date(2026, 11, 1), 120, utc(2026, 11, 1, 7)),
        (LORD_HOWE, date(2026, 10, 4), 135, utc(2026, 10, 3, 15, 30)),  # 2:15 is skipped
        (BEIRUT, date(2026, 3, 29), 0, utc(2026, 3, 28, 22)),  # midnight is skipped
        (BEIRUT, date(2026, 3, 29), 30, utc(2026, 3, 28, 22)),
    ],
)
def test_a_clock_time_is_the_first_instant_that_the_clock_shows_it_or_more(zone, on, minute, at):
    assert instant_of(on, minute, zone) == at


@given(
    st.sampled_from([SHANGHAI, NEW_YORK, LORD_HOWE, BEIRUT]),
    st.dates(min_value=date(2026, 1, 1), max_value=date(2026, 12, 30)),
    st.integers(0, 1439),
    st.integers(0, 1439),
)
def test_later_clock_times_are_never_earlier_instants(zone, on, first, second):
    low, high = sorted((first, second))
    assert instant_of(on, low, zone) <= instant_of(on, high, zone) < instant_of(on + timedelta(1), high, zone)


def test_a_span_that_the_clock_skips_is_empty_and_one_that_comes_twice_begins_once():
    skipped = Hours(from_minute=125, to_minute=150).span_on(date(2026, 3, 8), NEW_YORK)
    assert skipped.from_at == skipped.to_at
    assert merge([skipped]) == ()
    doubled = Hours(from_minute=60, to_minute=120).span_on(date(2026, 11, 1), NEW_YORK)
    assert doubled.to_at - doubled.from_at == timedelta(hours=2)


def test_spans_that_touch_become_one_with_the_causes_of_both():
    def span(start, end, cause):
        return TimeSpan(from_at=utc(2026, 1, 1, start), to_at=utc(2026, 1, 1, end), causes=(cause,))

    merged = merge([span(5, 6, "c"), span(1, 3, "a"), span(3, 4, "b"), span(2, 3, "a")])
    assert [(one.from_at.hour, one.to_at.hour, one.causes) for one in merged] == [
        (1, 4, ("a", "b")),
        (5, 6, ("c",)),
    ]
    assert span_at(merged, utc(2026, 1, 1, 4)) is None
    assert span_at(merged, utc(2026, 1, 1, 1)) == merged[0]
    assert next_change_at(merged, utc(2026, 1, 1, 1)) == utc(2026, 1, 1, 4)
    assert next_change_at(merged, utc(2026, 1, 1, 6)) is None
