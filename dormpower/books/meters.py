"""Meter points in the books: loading all states at the start, writing what a batch of samples changed.

One gateway owns a circuit's meter point and keeps its state in memory; nobody else writes these columns
(settlement writes `settled_wh` alone). Accepted samples update the one hot row of their circuit; segments and
boundaries get rows only at midnights and at changes of cause.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from sys import intern
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.tables import channel_spans, day_boundaries, day_changes, meter_points, segments
from dormpower.books.types import from_ms, to_ms
from dormpower.domain.meter_state import Judgement, MeteringRules, MeterState, Standing
from dormpower.domain.samples import Observation
from dormpower.domain.segments import Boundary, Cause, Mark, Segment
from dormpower.domain.spans import begin_span, new_state

# Written by hand: every sample ends in this statement, and column types would cost more than the update.
_PRESENT_SQL = (
    "UPDATE meter_points SET register_wh = ?, register_at = ?, metered_wh = ?, relay = ?, relay_at = ?,"
    " power_w = ?, voltage_v = COALESCE(?, voltage_v), current_a = COALESCE(?, current_a),"
    " power_factor = COALESCE(?, power_factor), flags = ?, last_seen_at = ? WHERE circuit_id = ?"
)
PresentRow = tuple[
    int | None,
    int | None,
    int,
    str | None,
    int | None,
    float | None,
    float | None,
    float | None,
    float | None,
    str,
    int,
    str,
]
"""The statement's values in its order: instants in ms, quantities as in a sample, flags with commas."""
_STATE_FIELDS = tuple(
    field.name for field in fields(MeterState) if field.name not in ("day_ends_at", "candidates")
)


@dataclass(slots=True)
class MeterPoint:
    """A circuit's state, when it was last seen, and whether a new span ended its quarantine just now."""

    state: MeterState
    seen_at: datetime | None
    quarantine_replaced: bool = False


def open_points(
    connection: Connection,
    *,
    rules: MeteringRules,
    channels: Collection[tuple[str, str, int]],
    circuit_ids: Iterable[str] | None = None,
) -> dict[str, MeterPoint]:
    """Load the meter points of circuits (all of them, or those named) that one of `channels` serves now.

    `channels` are (circuit, module, channel) as they are read by us. A circuit that the books have on another
    channel stays as it is until a gateway is started with the site that says so. One whose channel changed
    since it was last open goes over to its new span here, so the connection must be a writing one.
    """
    ended = channel_spans.alias("ended")
    query = (
        sa.select(
            meter_points,
            channel_spans.c.span_id.label("now_span_id"),
            channel_spans.c.module_id,
            channel_spans.c.channel,
            channel_spans.c.from_at.label("now_from_at"),
            channel_spans.c.first_register_wh.label("now_first_register_wh"),
            ended.c.final_register_wh,
            ended.c.to_at.label("ended_at"),
        )
        .join(channel_spans, channel_spans.c.circuit_id == meter_points.c.circuit_id)
        .outerjoin(ended, ended.c.span_id == meter_points.c.span_id)
        .where(channel_spans.c.to_at.is_(None))
    )
    if circuit_ids is not None:
        query = query.where(meter_points.c.circuit_id.in_(list(circuit_ids)))
    points: dict[str, MeterPoint] = {}
    begun: list[tuple[str, MeterState]] = []
    for row in connection.execute(query).all():
        if (row.circuit_id, row.module_id, row.channel) not in channels:
            continue
        state = _state(row, rules)
        replaced = False
        if state.register_at is None and not state.candidates:
            state = new_state(
                span_id=row.now_span_id,
                from_at=row.now_from_at,
                first_register_wh=row.now_first_register_wh,
                rules=rules,
            )
            begun.append((row.circuit_id, state))
        elif row.span_id != row.now_span_id:
            judgement = begin_span(
                state,
                span_id=row.now_span_id,
                from_at=row.now_from_at,
                first_register_wh=row.now_first_register_wh,
                final_register_wh=row.final_register_wh,
                final_at=row.ended_at,
                rules=rules,
            )
            replaced = state.standing is Standing.QUARANTINED
            state = judgement.state
            write_closed(connection, [(row.circuit_id, judgement)])
            begun.append((row.circuit_id, state))
        # The id as the site's own object (`config.site_objects`): intake looks it up for every sample.
        points[intern(row.circuit_id)] = MeterPoint(
            state=state, seen_at=row.last_seen_at, quarantine_replaced=replaced
        )
    write_states(connection, begun)
    return points


def lock_points(connection: Connection, circuit_ids: Iterable[str]) -> None:
    """Lock meter points in one order for all writers, so that intake and settlement can't deadlock.

    On SQLite the write lock already does.
    """
    if connection.dialect.name != "postgresql":
        return
    connection.execute(
        sa.select(meter_points.c.circuit_id)
        .where(meter_points.c.circuit_id == sa.any_(sa.cast(sorted(circuit_ids), sa.ARRAY(sa.String))))
        .order_by(meter_points.c.circuit_id)
        .with_for_update(key_share=True)
    ).all()


def write_presents(
    connection: Connection,
    presents: Mapping[str, Observation],
    state_of: Callable[[str], MeterState],
) -> None:
    """Update the circuits' hot rows: position, metered energy, and what the newest sample said and when."""
    rows: list[PresentRow] = []
    for circuit_id, observation in presents.items():
        sample, at, state = observation.sample, observation.at, state_of(circuit_id)
        relay = None if sample.relay is None else sample.relay.value
        register_at = state.register_at
        seen_ms = to_ms(at)
        rows.append(
            (
                None if register_at is None else state.register_wh,
                None if register_at is None else (seen_ms if register_at == at else to_ms(register_at)),
                state.metered_wh,
                relay,
                None if relay is None else seen_ms,
                sample.power_w,
                sample.voltage_v,
                sample.current_a,
                sample.power_factor,
                ",".join(sorted(sample.flags)) if sample.flags else "",
                seen_ms,
                circuit_id,
            )
        )
    write_present_rows(connection, rows)


def write_present_rows(connection: Connection, rows: Sequence[PresentRow]) -> None:
    """Update circuits' hot rows with values that are worked out already."""
    if not rows:
        return
    sql = _PRESENT_SQL
    if connection.dialect.name == "postgresql":
        sql = sql.replace("?", "%s")
    connection.exec_driver_sql(sql, list(rows))


def write_states(connection: Connection, states: Sequence[tuple[str, MeterState]]) -> None:
    """Write whole states: where more changed than the position."""
    if not states:
        return
    statement = (
        sa.update(meter_points)
        .where(meter_points.c.circuit_id == sa.bindparam("of_circuit_id"))
        .values({name: sa.bindparam(name) for name in (*_STATE_FIELDS, "candidates")})
    )
    connection.execute(
        statement, [{"of_circuit_id": circuit_id, **_columns(state)} for circuit_id, state in states]
    )


def write_closed(connection: Connection, judgements: Sequence[tuple[str, Judgement]]) -> None:
    """Insert the segments and boundaries that judgements closed, and note the days that changed."""
    segment_rows = [
        {"circuit_id": circuit_id, "estimated": segment.cause is Cause.ESTIMATE, **_segment_columns(segment)}
        for circuit_id, judgement in judgements
        for segment in judgement.segments
    ]
    boundary_rows = [
        boundary_columns(circuit_id, boundary)
        for circuit_id, judgement in judgements
        for boundary in judgement.boundaries
    ]
    if segment_rows:
        connection.execute(sa.insert(segments), segment_rows)
        note_changes(connection, {(row["circuit_id"], row["used_on"]) for row in segment_rows})
    if boundary_rows:
        connection.execute(sa.insert(day_boundaries), boundary_rows)


def note_changes(connection: Connection, days: Iterable[tuple[str, date]]) -> None:
    """Leave a note for settlement that the energy of these (circuit, day) changed."""
    rows = [{"circuit_id": circuit_id, "used_on": used_on} for circuit_id, used_on in sorted(days)]
    if rows:
        connection.execute(sa.insert(day_changes), rows)


def boundary_columns(circuit_id: str, boundary: Boundary) -> dict[str, Any]:
    """Return a boundary as a row of `day_boundaries`."""
    return {
        "circuit_id": circuit_id,
        "begins_on": boundary.begins_on,
        "span_id": boundary.span_id,
        "boundary_at": boundary.boundary_at,
        "cause": boundary.cause.value,
        "before_at": boundary.before.at,
        "before_register_wh": boundary.before.register_wh,
        "before_metered_wh": boundary.before.metered_wh,
        "after_at": boundary.after.at,
        "after_register_wh": boundary.after.register_wh,
        "after_metered_wh": boundary.after.metered_wh,
        "register_wh": boundary.register_wh,
        "metered_wh": boundary.metered_wh,
        "estimated": boundary.estimated,
    }


def boundary_of(row: Any) -> Boundary:
    """Return a row of `day_boundaries` as the domain's value."""
    return Boundary(
        span_id=row.span_id,
        begins_on=row.begins_on,
        boundary_at=row.boundary_at,
        cause=Cause(row.cause),
        before=Mark(at=row.before_at, register_wh=row.before_register_wh, metered_wh=row.before_metered_wh),
        after=Mark(at=row.after_at, register_wh=row.after_register_wh, metered_wh=row.after_metered_wh),
        register_wh=row.register_wh,
        metered_wh=row.metered_wh,
        estimated=row.estimated,
    )


def _columns(state: MeterState) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(state, name) for name in _STATE_FIELDS}
    if state.register_at is None:
        row["register_wh"] = row["segment_from_wh"] = None
    row["standing"] = state.standing.value
    row["joins"] = None if state.joins is None else state.joins.value
    row["candidates"] = [[to_ms(at), register_wh] for at, register_wh in state.candidates]
    return row


def _state(row: Any, rules: MeteringRules) -> MeterState:
    return MeterState(
        span_id=row.span_id if row.span_id is not None else row.now_span_id,
        standing=Standing(row.standing),
        register_wh=row.register_wh or 0,
        register_at=row.register_at,
        metered_wh=row.metered_wh,
        segment_from_wh=row.segment_from_wh or 0,
        segment_from_at=row.segment_from_at,
        open_on=row.open_on,
        day_ends_at=None if row.open_on is None else rules.days.end_of(row.open_on),
        joins=None if row.joins is None else Cause(row.joins),
        candidates=tuple((from_ms(at_ms), register_wh) for at_ms, register_wh in row.candidates or ()),
        quarantined_at=row.quarantined_at,
        suspect_register_wh=row.suspect_register_wh,
        suspect_at=row.suspect_at,
        suspect_run=row.suspect_run,
    )


def _segment_columns(segment: Segment) -> dict[str, Any]:
    return {
        "span_id": segment.span_id,
        "used_on": segment.used_on,
        "from_at": segment.from_at,
        "to_at": segment.to_at,
        "from_register_wh": segment.from_register_wh,
        "to_register_wh": segment.to_register_wh,
        "energy_wh": segment.energy_wh,
        "cause": segment.cause.value,
    }
