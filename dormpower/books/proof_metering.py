"""The way from registers to charges, circuit by circuit (invariants 10 and 11).

A circuit's segments follow one another without overlap or gap, in time and in register: the end of one is the
start of the next, and the last one ends where the open segment begins. A replacement or a break carries its
jump in itself. What was metered is their sum and the open part; what was charged for a day is what its segments
hold, unless the day waits for settlement. A few circuits at a time are read whole and forgotten again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.findings import Finding
from dormpower.books.tables import day_changes, meter_points, segments, settled_days, transactions
from dormpower.domain.segments import Cause

CHUNK = 50

Days = dict[tuple[str, date], int]


def walk(connection: Connection, *, progress: Callable[[str], None] | None = None) -> Iterator[Finding]:
    """Walk through every circuit's segments and days and yield what does not fit."""
    query = sa.select(meter_points.c.circuit_id).order_by(meter_points.c.circuit_id)
    circuit_ids = list(connection.execute(query).scalars())
    for start in range(0, len(circuit_ids), CHUNK):
        chunk = circuit_ids[start : start + CHUNK]
        points = {
            row.circuit_id: row
            for row in connection.execute(sa.select(meter_points).where(meter_points.c.circuit_id.in_(chunk)))
        }
        metered: Days = defaultdict(int)
        yield from _walk_segments(connection, chunk, points, metered)
        yield from _walk_days(connection, chunk, points, metered)
        if progress is not None:
            progress(f"metering walked: {min(start + CHUNK, len(circuit_ids))} of {len(circuit_ids)} circuits")


def _walk_segments(
    connection: Connection, circuit_ids: Sequence[str], points: dict[str, Any], metered: Days
) -> Iterator[Finding]:
    rows = connection.execute(
        sa.select(segments)
        .where(segments.c.circuit_id.in_(circuit_ids))
        .order_by(segments.c.circuit_id, segments.c.from_at, segments.c.to_at, segments.c.segment_id)
    ).all()
    of_circuit = {
        circuit_id: list(found) for circuit_id, found in groupby(rows, key=lambda row: row.circuit_id)
    }
    for circuit_id in circuit_ids:
        total_wh = 0
        before: Any = None
        for row in of_circuit.get(circuit_id, []):
            total_wh += row.energy_wh
            metered[(circuit_id, row.used_on)] += row.energy_wh
            yield from _judge(circuit_id, before, row)
            before = row
        yield from _judge_position(circuit_id, points[circuit_id], before, total_wh)


def _judge(circuit_id: str, before: Any, row: Any) -> Iterator[Finding]:
    where = f"{circuit_id}, segment {row.segment_id}"
    rise_wh = row.to_register_wh - row.from_register_wh
    if before is not None and before.to_at > row.from_at:
        yield Finding(invariant=10, where=where, text=f"it overlaps segment {before.segment_id}")
    elif before is not None and before.to_at < row.from_at:
        yield Finding(invariant=10, where=where, text=f"a gap lies between it and segment {before.segment_id}")
    elif before is not None and before.to_register_wh != row.from_register_wh:
        yield Finding(
            invariant=10,
            where=where,
            text=f"it begins at {row.from_register_wh} Wh, segment {before.segment_id} ended at "
            f"{before.to_register_wh} Wh",
        )
    if (
        row.energy_wh < 0
        or row.to_at < row.from_at
        or (row.cause == Cause.MEASURED and row.energy_wh != rise_wh)
        or (row.cause == Cause.ROLLOVER and row.energy_wh < rise_wh)
        or (row.cause in (Cause.REPLACEMENT, Cause.BREAK) and row.energy_wh)
    ):
        yield Finding(
            invariant=10,
            where=where,
            text=f"{row.energy_wh} Wh for a {row.cause} step "
            f"from {row.from_register_wh} to {row.to_register_wh} Wh",
        )


def _judge_position(circuit_id: str, point: Any, last: Any, total_wh: int) -> Iterator[Finding]:
    open_wh = 0
    if point.register_at is not None:
        open_wh = point.register_wh - point.segment_from_wh
        if last is not None and (last.to_at, last.to_register_wh) != (
            point.segment_from_at,
            point.segment_from_wh,
        ):
            yield Finding(
                invariant=10,
                where=circuit_id,
                text=f"segment {last.segment_id} does not end where the open segment begins",
            )
    if point.metered_wh != total_wh + open_wh or open_wh < 0:
        yield Finding(
            invariant=10,
            where=circuit_id,
            text=f"metered {point.metered_wh} Wh, segments hold {total_wh} and the open part {open_wh} Wh",
        )


def _walk_days(
    connection: Connection, circuit_ids: Sequence[str], points: dict[str, Any], metered: Days
) -> Iterator[Finding]:
    charged: Days = defaultdict(int)
    for row in connection.execute(
        sa.select(transactions.c.circuit_id, transactions.c.used_on, transactions.c.energy_wh).where(
            transactions.c.circuit_id.in_(circuit_ids), transactions.c.used_on.is_not(None)
        )
    ):
        charged[(row.circuit_id, row.used_on)] -= row.energy_wh
    settled: Days = {
        (row.circuit_id, row.used_on): row.energy_wh
        for row in connection.execute(
            sa.select(settled_days.c.circuit_id, settled_days.c.used_on, settled_days.c.energy_wh).where(
                settled_days.c.circuit_id.in_(circuit_ids)
            )
        )
    }
    waiting = {
        (row.circuit_id, row.used_on)
        for row in connection.execute(
            sa.select(day_changes.c.circuit_id, day_changes.c.used_on).where(
                day_changes.c.circuit_id.in_(circuit_ids)
            )
        )
    }
    sums: dict[str, int] = defaultdict(int)
    for day in sorted({*charged, *settled, *metered}):
        circuit_id, on = day
        sums[circuit_id] += settled.get(day, 0)
        where = f"{circuit_id}, {on}"
        if settled.get(day, 0) != charged.get(day, 0):
            yield Finding(
                invariant=11,
                where=where,
                text=f"the day shows {settled.get(day, 0)} Wh, charged were {charged.get(day, 0)} Wh",
            )
        # The day of the position goes on; a day on the list of changes is going to be settled anew.
        if day in waiting or on == points[circuit_id].open_on:
            continue
        if settled.get(day, 0) != metered.get(day, 0):
            yield Finding(
                invariant=10,
                where=where,
                text=f"metered {metered.get(day, 0)} Wh, charged {settled.get(day, 0)} Wh, and nothing waits",
            )
    for circuit_id in circuit_ids:
        if points[circuit_id].settled_wh != sums[circuit_id]:
            yield Finding(
                invariant=11,
                where=circuit_id,
                text=f"settled {points[circuit_id].settled_wh} Wh, its days add up to {sums[circuit_id]} Wh",
            )
