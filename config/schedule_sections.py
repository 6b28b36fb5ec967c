"""The site file's sections of schedules: curfews, night limits, the calendar, and how a building comes back."""

import datetime as dt
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from config.policy_sections import ModeValue, PartOfSite, Watts
from config.site_values import Int, Name, Seconds, Section
from dormpower.domain.calendars import DayLabel, parse_day_test

_LABELS = ", ".join(label.value for label in DayLabel)


def _day_test(value: Any) -> Any:
    parse_day_test(str(value))
    return value


def _clock(value: Any) -> Any:
    if not isinstance(value, str) or len(value) != len("23:00"):
        raise ValueError("not a time of the clock")
    return value if value == "24:00" else dt.time.fromisoformat(value).strftime("%H:%M")


Clock = Annotated[str, BeforeValidator(_clock), Field(description='a time of the clock such as "23:00"')]
DayWord = Annotated[str, BeforeValidator(_day_test)]
_DAYS_EXPECTED = f"a list of {_LABELS}, each also with before_ in front"
Day = Annotated[dt.date, Field(strict=True, description="a date such as 2026-12-31")]


class HoursOfDays(PartOfSite):
    """Clock hours on days of a kind, in a part of the site; equal times are the whole day."""

    floor: Name | None = None
    from_clock: Clock = Field(alias="from")
    to_clock: Clock = Field(alias="to")
    days: tuple[DayWord, ...] = Field(default=(), description=_DAYS_EXPECTED)
    not_days: tuple[DayWord, ...] = Field(default=(), alias="except", description=_DAYS_EXPECTED)
    mode: ModeValue | None = None  # the section's


class CurfewRow(HoursOfDays):
    """Off in these hours."""


class CurfewSection(Section):
    """When circuits are off by the house rules."""

    mode: ModeValue = "shadow"
    rules: tuple[CurfewRow, ...] = Field(default=(), description="a list of rules")


class NightRow(HoursOfDays):
    """At most this power in these hours."""

    limit_w: Watts


class NightModeSection(Section):
    """When a power limit stands instead of off."""

    mode: ModeValue = "shadow"
    rules: tuple[NightRow, ...] = Field(default=(), description="a list of rules")


class ClosingsSection(Section):
    """How a building comes back: closings in batches."""

    at_once: Int = Field(default=20, ge=1, le=10_000, description="whole circuits of a building, 1–10000")
    every_s: Seconds = Field(default=10.0, description="seconds above 0, at most 86400")


class ExceptionRow(Section):
    """Days that the site makes something of."""

    from_on: Day = Field(alias="from")
    to_on: Day | None = Field(default=None, alias="to")
    as_kind: Literal["workday", "restday", "free"] = Field(alias="as", description="workday, restday or free")


class ExamRow(Section):
    """Days of exams, both inclusive."""

    from_on: Day = Field(alias="from")
    to_on: Day = Field(alias="to")


class CalendarSection(Section):
    """What kinds of days there are."""

    holidays: Literal["china", "none"] = Field(default="china", description="china or none")
    exceptions: tuple[ExceptionRow, ...] = Field(default=(), description="a list of days")
    exam_weeks: tuple[ExamRow, ...] = Field(default=(), description="a list of {from: …, to: …}")
