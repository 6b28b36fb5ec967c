"""Daily usage: settled days as they were charged, days that wait for settlement, and today's open part."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.days import DayEnergy, day_energies
from dormpower.books.tables import settled_days
from dormpower.domain import forecast
from dormpower.domain.days import ONE_DAY, CampusDays

MAX_DAYS = 366


class UnableToListUsageError(Exception):
    """The period asked for can't be listed; the message says why."""


class Quality(StrEnum):
    """How sure a day's energy is."""

    MEASURED = "measured"
    ESTIMATED = "estimated"  # a boundary was split, or data are missing so far
    OPEN = "open"  # the day, or what is known of it, goes on


@dataclass(frozen=True, slots=True, kw_only=True)
class DayUsage:
    """One campus day of a circuit; `energy_wh` None where nothing is known of it yet."""

    on: date
    energy_wh: int | None
    register_from_wh: int | None
    register_to_wh: int | None
    segments: int
    quality: Quality


def daily_usage(
    connection: Connection, *, circuit_id: str, from_on: date, to_on: date, now: datetime, zone: tzinfo
) -> list[DayUsage]:
    """Return every campus day from `from_on` to `to_on`, both inclusive.

    A settled day shows what was charged for it, so that the rows of a period add up to its charges
    (invariant 11). Raises UnableToListUsageError where the period is empty or longer than 366 days.
    """
    count = (to_on - from_on).days + 1
    if not 1 <= count <= MAX_DAYS:
        raise UnableToListUsageError(
            f"from, to: expected 1 to {MAX_DAYS} days with `from` not after `to`, got {from_on} to {to_on}"
        )
    today = CampusDays(zone).day_of(now)
    settled = {
        row.used_on: row
        for row in connection.execute(
            sa.select(settled_days.c.used_on, settled_days.c.energy_wh, settled_days.c.estimated).where(
                settled_days.c.circuit_id == circuit_id,
                settled_days.c.used_on >= from_on,
                settled_days.c.used_on <= to_on,
            )
        ).all()
    }
    metered = day_energies(connection, circuit_ids=[circuit_id], from_on=from_on, to_on=to_on)
    rows = []
    for number in range(count):
        on = from_on + timedelta(days=number)
        # A clock that jumped may have left energy on days that are still to come; nobody has used it yet.
        day = None if on > today else metered.get((circuit_id, on))
        charged = settled.get(on)
        if charged is not None:
            rows.append(
                _row(on, charged.energy_wh, day, Quality.ESTIMATED if charged.estimated else Quality.MEASURED)
            )
        elif day is None:
            rows.append(_row(on, None, None, Quality.OPEN))
        elif not day.closed:
            rows.append(_row(on, day.energy_wh, day, Quality.OPEN))
        else:
            rows.append(_row(on, day.energy_wh, day, Quality.ESTIMATED if day.estimated else Quality.MEASURED))
    return rows


def days_left(
    connection: Connection, *, circuit_id: str, available_wh: int, now: datetime, zone: tzinfo
) -> int | None:
    """Return how many whole days a balance lasts at the use of the last seven days; None where unknown."""
    today = CampusDays(zone).day_of(now)
    rows = daily_usage(
        connection,
        circuit_id=circuit_id,
        from_on=today - timedelta(days=forecast.RECENT_DAYS),
        to_on=today - ONE_DAY,
        now=now,
        zone=zone,
    )
    recent_days_wh = [None if row.quality is Quality.OPEN else row.energy_wh for row in rows]
    return forecast.days_left(available_wh=available_wh, recent_days_wh=recent_days_wh)


def _row(on: date, energy_wh: int | None, day: DayEnergy | None, quality: Quality) -> DayUsage:
    return DayUsage(
        on=on,
        energy_wh=energy_wh,
        register_from_wh=None if day is None else day.register_from_wh,
        register_to_wh=None if day is None else day.register_to_wh,
        segments=0 if day is None else day.segments,
        quality=quality,
    )
