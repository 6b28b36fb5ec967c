"""Turning the schedule's sections of the site file into the domain's policy, and checking what goes together.

Public holidays and makeup workdays come from the library `chinese_calendar`, which learns each year's when the
State Council has announced them, in the autumn before. Beyond the years that it knows, Monday to Friday are
workdays, and the site check says so.
"""

import datetime as dt
from collections.abc import Iterable
from zoneinfo import ZoneInfo

from chinese_calendar import constants

from config.faults import Findings
from config.schedule_sections import (
    CalendarSection,
    CurfewSection,
    ExamRow,
    ExceptionRow,
    HoursOfDays,
    NightModeSection,
)
from dormpower.domain.calendars import DateSpan, DayException, DayKinds, Hours, parse_day_test
from dormpower.domain.curfew import CurfewPolicy, CurfewRule, NightLimit
from dormpower.domain.holds import Enforcement
from dormpower.domain.scopes import Scope

_MOST_DAYS = 400
_AHEAD = dt.timedelta(days=45)


def curfew_of(
    curfew: CurfewSection, night: NightModeSection, calendar: CalendarSection, zone: ZoneInfo
) -> CurfewPolicy:
    """Return the site's schedules."""
    return CurfewPolicy(
        zone=zone,
        days=day_kinds_of(calendar),
        curfews=tuple(
            CurfewRule(
                name=f"curfew[{index}]",
                hours=_hours(row),
                scope=_scope(row),
                mode=Enforcement(row.mode or curfew.mode),
            )
            for index, row in enumerate(curfew.rules)
        ),
        night_limits=tuple(
            NightLimit(
                name=f"night_mode[{index}]",
                hours=_hours(row),
                scope=_scope(row),
                limit_w=row.limit_w,
                mode=Enforcement(row.mode or night.mode),
            )
            for index, row in enumerate(night.rules)
        ),
    )


def day_kinds_of(calendar: CalendarSection) -> DayKinds:
    """Return the site's calendar as data."""
    china = calendar.holidays == "china"
    return DayKinds(
        holidays=frozenset(constants.holidays if china else ()),
        makeup_workdays=frozenset(constants.workdays if china else ()),
        known_years=frozenset(on.year for on in constants.holidays) if china else frozenset(),
        exams=tuple(DateSpan(from_on=row.from_on, to_on=row.to_on) for row in calendar.exam_weeks),
        exceptions={
            on: DayException(row.as_kind) for row in calendar.exceptions for on in _days(row.from_on, row.to_on)
        },
    )


def check_schedules(
    curfew: CurfewSection,
    night: NightModeSection,
    calendar: CalendarSection,
    *,
    today: dt.date,
    findings: Findings,
) -> None:
    """Note spans of days that end before they begin, doubles, floors without building, and unknown years."""
    _check_spans("calendar.exceptions", calendar.exceptions, findings)
    _check_spans("calendar.exam_weeks", calendar.exam_weeks, findings)
    taken: dict[dt.date, int] = {}
    for index, row in enumerate(calendar.exceptions):
        for on in _days(row.from_on, row.to_on):
            first = taken.setdefault(on, index)
            if first != index:
                findings.refuse(
                    f"calendar.exceptions[{index}]", f"{on} is already calendar.exceptions[{first}]"
                )
                break
    for name, rules in (("curfew", curfew.rules), ("night_mode", night.rules)):
        for index, rule in enumerate(rules):
            if rule.floor is not None and rule.building is None:
                findings.refuse(
                    f"policies.{name}.rules[{index}].building",
                    f"expected the building of floor {rule.floor}, got nothing",
                )
    if calendar.holidays == "china" and (curfew.rules or night.rules):
        newest = max(on.year for on in constants.holidays)
        if (today + _AHEAD).year > newest:
            findings.warn(
                "calendar.holidays",
                f"public holidays are known up to {newest}: after that Monday to Friday are taken as workdays; "
                "update the package chinese_calendar, or name the days in calendar.exceptions",
            )


def _check_spans(key: str, rows: Iterable[ExceptionRow | ExamRow], findings: Findings) -> None:
    for index, row in enumerate(rows):
        last = row.to_on or row.from_on
        if not 0 <= (last - row.from_on).days < _MOST_DAYS:
            findings.refuse(
                f"{key}[{index}].to",
                f"expected {row.from_on} or a day up to {_MOST_DAYS} days later, got {last}",
            )


def _days(from_on: dt.date, to_on: dt.date | None) -> list[dt.date]:
    length = min(((to_on or from_on) - from_on).days, _MOST_DAYS)
    return [from_on + dt.timedelta(days=offset) for offset in range(length + 1)]


def _hours(row: HoursOfDays) -> Hours:
    return Hours(
        from_minute=_minute(row.from_clock),
        to_minute=_minute(row.to_clock),
        days=tuple(parse_day_test(word) for word in row.days),
        not_days=tuple(parse_day_test(word) for word in row.not_days),
    )


def _minute(clock: str) -> int:
    hours, minutes = clock.split(":")
    return (int(hours) * 60 + int(minutes)) % (24 * 60)


def _scope(row: HoursOfDays) -> Scope:
    return Scope(campus=row.campus, building=row.building, floor=row.floor, room_id=row.room, kind=row.kind)
