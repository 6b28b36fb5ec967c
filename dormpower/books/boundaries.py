"""What a late sample may change: the boundaries whose bracket it falls into, and the days that meet there."""

from dataclasses import replace
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.meters import boundary_columns, boundary_of, note_changes
from dormpower.books.tables import day_boundaries, segments
from dormpower.domain.meter_state import MeteringRules, MeterState
from dormpower.domain.segments import Boundary, Cause, Segment, narrow, shift_segment


def refine(
    connection: Connection,
    *,
    circuit_id: str,
    state: MeterState,
    register_wh: int,
    at: datetime,
    rules: MeteringRules,
) -> MeterState | None:
    """Narrow the day boundaries around a late sample; None where it says nothing about any.

    The segments on both sides of a boundary that moved change by equal and opposite energy, and both days are
    noted for settlement. The state returned differs from the one given only in the start of its open segment.
    Rows that this batch closed must have been written before.
    """
    found = connection.execute(
        sa.select(day_boundaries)
        .where(
            day_boundaries.c.circuit_id == circuit_id,
            day_boundaries.c.before_at < at,
            day_boundaries.c.after_at > at,
        )
        .order_by(day_boundaries.c.begins_on)
    ).all()
    moved: dict[datetime, tuple[Boundary, int]] = {}
    changed_on: set[tuple[str, date]] = set()
    for row in found:
        boundary = boundary_of(row)
        narrowed = narrow(boundary, register_wh=register_wh, at=at, within=rules.boundary_within)
        if narrowed is None:
            continue
        moved_wh = narrowed.metered_wh - boundary.metered_wh
        moved[narrowed.boundary_at] = (narrowed, moved_wh)
        connection.execute(
            sa.update(day_boundaries)
            .where(day_boundaries.c.circuit_id == circuit_id, day_boundaries.c.begins_on == boundary.begins_on)
            .values(boundary_columns(circuit_id, narrowed))
        )
        if moved_wh or narrowed.estimated != boundary.estimated:
            changed_on |= {
                (circuit_id, rules.days.last_day_over(at=boundary.boundary_at)),
                (circuit_id, boundary.begins_on),
            }
    if not moved:
        return None
    _shift_segments(connection, circuit_id, moved)
    note_changes(connection, changed_on)
    if state.segment_from_at in moved:
        boundary, _ = moved[state.segment_from_at]
        return replace(state, segment_from_wh=boundary.register_wh)
    return state


def _shift_segments(
    connection: Connection, circuit_id: str, moved: dict[datetime, tuple[Boundary, int]]
) -> None:
    instants = list(moved)
    touching = connection.execute(
        sa.select(segments).where(
            segments.c.circuit_id == circuit_id,
            segments.c.from_at < segments.c.to_at,  # the instant of a replacement has no energy to give
            sa.or_(segments.c.from_at.in_(instants), segments.c.to_at.in_(instants)),
        )
    ).all()
    for row in touching:
        start, start_moved_wh = moved.get(row.from_at, (None, 0))
        end, end_moved_wh = moved.get(row.to_at, (None, 0))
        shifted = shift_segment(
            Segment(
                span_id=row.span_id,
                used_on=row.used_on,
                from_at=row.from_at,
                to_at=row.to_at,
                from_register_wh=row.from_register_wh,
                to_register_wh=row.to_register_wh,
                energy_wh=row.energy_wh,
                cause=Cause(row.cause),
            ),
            start=start,
            end=end,
            start_moved_wh=start_moved_wh,
            end_moved_wh=end_moved_wh,
        )
        connection.execute(
            sa.update(segments)
            .where(segments.c.segment_id == row.segment_id)
            .values(
                energy_wh=shifted.energy_wh,
                from_register_wh=shifted.from_register_wh,
                to_register_wh=shifted.to_register_wh,
            )
        )
