"""What the books know of circuits' days: energy from the segments, the open part, and how sure it is.

Daily usage and settlement both read days here, so that they can't disagree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import day_boundaries, meter_points, segments
from dormpower.domain.days import ONE_DAY
from dormpower.domain.segments import Cause

Day = tuple[str, date]


@dataclass(frozen=True, slots=True, kw_only=True)
class DayEnergy:
    """A circuit's metered energy of one campus day, as far as it is known.

    `closed` says that the position is past the day's end. The registers are those of the day's only segment,
    None where there are several. `estimated` tells of a boundary that was split or an estimate within the day.
    """

    energy_wh: int
    closed: bool
    estimated: bool
    segments: int
    register_from_wh: int | None
    register_to_wh: int | None


@dataclass(slots=True)
class _Sum:
    energy_wh: int = 0
    segments: int = 0
    estimated: bool = False
    register_from_wh: int | None = None
    register_to_wh: int | None = None

    def add(self, energy_wh: int, from_wh: int, to_wh: int, *, estimated: bool) -> None:
        self.segments += 1
        self.energy_wh += energy_wh
        self.estimated = self.estimated or estimated
        only = self.segments == 1
        self.register_from_wh, self.register_to_wh = (from_wh, to_wh) if only else (None, None)


_SEGMENTS = (
    sa.select(
        segments.c.circuit_id,
        segments.c.used_on,
        segments.c.energy_wh,
        segments.c.from_register_wh,
        segments.c.to_register_wh,
        segments.c.cause,
    )
    .where(
        segments.c.circuit_id.in_(sa.bindparam("circuit_ids", expanding=True)),
        segments.c.used_on >= sa.bindparam("from_on"),
        segments.c.used_on <= sa.bindparam("to_on"),
    )
    .order_by(segments.c.circuit_id, segments.c.from_at, segments.c.segment_id)
)


def day_energies(
    connection: Connection, *, circuit_ids: Sequence[str], from_on: date, to_on: date
) -> dict[Day, DayEnergy]:
    """Return what is known of these circuits' days from `from_on` to `to_on`, both inclusive.

    A day that no part of the metered energy belongs to is absent: before the circuit was commissioned, or after
    its position. Segments are read before positions; on databases where a batch may commit in between, its
    `day_changes` bring settlement back to these days.
    """
    sums: dict[Day, _Sum] = {}
    wanted = {"circuit_ids": list(circuit_ids), "from_on": from_on, "to_on": to_on}
    estimate = Cause.ESTIMATE.value
    for circuit_id, used_on, energy_wh, from_wh, to_wh, cause in connection.execute(_SEGMENTS, wanted).all():
        found = sums.get((circuit_id, used_on))
        if found is None:
            found = sums[circuit_id, used_on] = _Sum()
        found.add(energy_wh, from_wh, to_wh, estimated=cause == estimate)
    split_days = {
        (row.circuit_id, on)
        for row in connection.execute(
            sa.select(day_boundaries.c.circuit_id, day_boundaries.c.begins_on).where(
                day_boundaries.c.circuit_id.in_(circuit_ids),
                day_boundaries.c.begins_on >= from_on,
                day_boundaries.c.begins_on <= to_on + ONE_DAY,
                day_boundaries.c.estimated,
            )
        )
        for on in (row.begins_on - ONE_DAY, row.begins_on)
    }
    open_on = _add_open_parts(connection, circuit_ids, from_on, to_on, sums)
    return {
        (circuit_id, on): DayEnergy(
            energy_wh=day.energy_wh,
            closed=on < open_on[circuit_id],
            estimated=day.estimated or (circuit_id, on) in split_days,
            segments=day.segments,
            register_from_wh=day.register_from_wh,
            register_to_wh=day.register_to_wh,
        )
        for (circuit_id, on), day in sums.items()
        if circuit_id in open_on
    }


def _add_open_parts(
    connection: Connection, circuit_ids: Sequence[str], from_on: date, to_on: date, sums: dict[Day, _Sum]
) -> dict[str, date]:
    open_on: dict[str, date] = {}
    for row in connection.execute(
        sa.select(
            meter_points.c.circuit_id,
            meter_points.c.open_on,
            meter_points.c.segment_from_wh,
            meter_points.c.segment_from_at,
            meter_points.c.register_wh,
            meter_points.c.register_at,
        ).where(meter_points.c.circuit_id.in_(circuit_ids), meter_points.c.open_on.is_not(None))
    ):
        open_on[row.circuit_id] = row.open_on
        if not from_on <= row.open_on <= to_on:
            continue
        day = sums.setdefault((row.circuit_id, row.open_on), _Sum())
        if row.register_at > row.segment_from_at or day.segments == 0:
            day.add(
                row.register_wh - row.segment_from_wh, row.segment_from_wh, row.register_wh, estimated=False
            )
    return open_on
