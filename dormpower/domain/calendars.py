"""Calendars: what kind of day a campus day is, and which instants a span of clock hours covers on it.

Theory of operation. Every day is exactly one of *workday*, *weekend* or *holiday*; a weekend or holiday is a
*restday*, a workday moved onto a weekend is a *makeup* workday besides, and exam weeks put *exam* on top. A
site's exception makes a day a workday, a restday, or *free*: then no span of hours begins on it. Which days are
public holidays is data handed in (`DayKinds`); beyond the years that the data cover, Monday to Friday are
workdays.

A rule of hours belongs to the day on which its span begins. "23:00–06:00 before workdays" therefore reads
`before_workday`: the span that begins on an evening whose next day is a workday.

Clock hours become instants by one map that never goes back: a clock time stands for the first instant at which
the campus clock shows it or more. An hour that the clock skips has no length, an hour that it shows twice
begins once, so that a span never begins twice and never ends before it begins.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

from dormpower.domain.days import ONE_DAY

_BEFORE = "before_"
_SATURDAY = 5
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_SECOND = timedelta(seconds=1)


class DayLabel(StrEnum):
    """What a day can be; `mon` to `sun` are what they are whatever the calendar says."""

    WORKDAY = "workday"
    RESTDAY = "restday"
    WEEKEND = "weekend"
    HOLIDAY = "holiday"
    MAKEUP = "makeup"
    EXAM = "exam"
    FREE = "free"
    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class DayException(StrEnum):
    """What a site can make of a day."""

    WORKDAY = "workday"
    RESTDAY = "restday"
    FREE = "free"


@dataclass(frozen=True, slots=True, kw_only=True)
class DateSpan:
    """Campus days, both inclusive."""

    from_on: date
    to_on: date

    def holds(self, on: date) -> bool:
        """Whether a day is one of them."""
        return self.from_on <= on <= self.to_on


@dataclass(frozen=True, slots=True, kw_only=True)
class DayKinds:
    """A calendar as data: public holidays and makeup workdays of the years that are known, and the own."""

    holidays: frozenset[date] = frozenset()
    makeup_workdays: frozenset[date] = frozenset()
    known_years: frozenset[int] = frozenset()
    exams: tuple[DateSpan, ...] = ()
    exceptions: Mapping[date, DayException] = field(default_factory=dict)

    def knows(self, on: date) -> bool:
        """Whether public holidays of the day's year are known."""
        return on.year in self.known_years

    def labels(self, on: date) -> frozenset[DayLabel]:
        """Return everything that a day is."""
        found = {DayLabel(_WEEKDAYS[on.weekday()])}
        exception = self.exceptions.get(on)
        if exception is DayException.WORKDAY:
            found.add(DayLabel.WORKDAY)
        elif exception is DayException.RESTDAY or on in self.holidays:
            found |= {DayLabel.RESTDAY, DayLabel.HOLIDAY}
        elif on in self.makeup_workdays:
            found |= {DayLabel.WORKDAY, DayLabel.MAKEUP}
        elif on.weekday() >= _SATURDAY:
            found |= {DayLabel.RESTDAY, DayLabel.WEEKEND}
        else:
            found.add(DayLabel.WORKDAY)
        if exception is DayException.FREE:
            found.add(DayLabel.FREE)
        if any(exam.holds(on) for exam in self.exams):
            found.add(DayLabel.EXAM)
        return frozenset(found)


WEEKDAYS_ONLY = DayKinds()


@dataclass(frozen=True, slots=True, kw_only=True)
class DayTest:
    """A label asked of a day itself, or of the day after it (`before`)."""

    label: DayLabel
    before: bool = False

    def holds(self, on: date, days: DayKinds) -> bool:
        """Whether the day passes."""
        return self.label in days.labels(on + ONE_DAY if self.before else on)


def parse_day_test(text: str) -> DayTest:
    """Read `workday`, `exam`, `before_workday` … Raises ValueError that says what was expected."""
    name = text.removeprefix(_BEFORE)
    try:
        return DayTest(label=DayLabel(name), before=name != text)
    except ValueError as fault:
        known = ", ".join(label.value for label in DayLabel)
        raise ValueError(f"expected one of {known}, or one with before_ in front, got {text!r}") from fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """A span of clock hours that begins on days which pass a test; wraps midnight where from > to.

    Minutes after midnight, half-open; equal ones are the whole day. No `days` means every day; `not_days`
    speaks against one. A free day begins no span unless `days` asks for `free`.
    """

    from_minute: int
    to_minute: int
    days: tuple[DayTest, ...] = ()
    not_days: tuple[DayTest, ...] = ()

    def begin_on(self, on: date, days: DayKinds) -> bool:
        """Whether a span begins on a day."""
        if DayLabel.FREE in days.labels(on) and DayTest(label=DayLabel.FREE) not in self.days:
            return False
        if any(test.holds(on, days) for test in self.not_days):
            return False
        return not self.days or any(test.holds(on, days) for test in self.days)

    def span_on(self, on: date, zone: tzinfo) -> "TimeSpan":
        """Return the instants of the span that begins on a day; empty where the clock skips all of it."""
        ends_on = on if self.to_minute > self.from_minute else on + ONE_DAY
        return TimeSpan(
            from_at=instant_of(on, self.from_minute, zone), to_at=instant_of(ends_on, self.to_minute, zone)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpan:
    """Instants [from_at, to_at), UTC, and what they come from, in order."""

    from_at: datetime
    to_at: datetime
    causes: tuple[str, ...] = ()

    def holds(self, at: datetime) -> bool:
        """Whether an instant is within the span."""
        return self.from_at <= at < self.to_at


def instant_of(on: date, minute: int, zone: tzinfo) -> datetime:
    """Return the first instant (UTC) at which the zone's clock shows a minute of a day, or a later one."""
    wall = datetime.combine(on, time(minute // 60, minute % 60))
    at = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(at, zone) == wall:
        return at
    # The clock skips this minute: take the instant at which it jumps.
    low = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    high = at
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        if _wall(middle, zone) >= wall:
            high = middle
        else:
            low = middle
    return high.replace(microsecond=0)


def _wall(at: datetime, zone: tzinfo) -> datetime:
    return at.astimezone(zone).replace(tzinfo=None)


def merge(spans: Iterable[TimeSpan]) -> tuple[TimeSpan, ...]:
    """Return spans in order, those that overlap or touch as one, empty ones left out."""
    merged: list[TimeSpan] = []
    for span in sorted(spans, key=lambda one: (one.from_at, one.to_at)):
        if span.from_at >= span.to_at:
            continue
        if merged and span.from_at <= merged[-1].to_at:
            last = merged[-1]
            merged[-1] = TimeSpan(
                from_at=last.from_at,
                to_at=max(last.to_at, span.to_at),
                causes=tuple(dict.fromkeys((*last.causes, *span.causes))),
            )
        else:
            merged.append(span)
    return tuple(merged)


def span_at(spans: Sequence[TimeSpan], now: datetime) -> TimeSpan | None:
    """Return the span that an instant lies in, of merged ones."""
    return next((span for span in spans if span.holds(now)), None)


def next_change_at(spans: Sequence[TimeSpan], now: datetime) -> datetime | None:
    """Return the next instant after `now` at which one of merged spans begins or ends."""
    return min((at for span in spans for at in (span.from_at, span.to_at) if at > now), default=None)
