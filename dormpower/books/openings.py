"""The alarms of relays found open: the circuit's own, or one for a building (`domain.openings`).

A hold that a building's alarm tells of names it (`alarm_id`); so the books know after any restart what the
alarm stands for. Only the gateway places such holds, a batch at a time, and tells of all of a batch at once.
Anybody may release them: whoever releases the last one clears the alarm, in the same transaction. On PostgreSQL
two may release the last two at once, each seeing the other's still standing; `keep_up` puts that right as soon
as the gateway takes the intents that every release leaves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import alarms, load_off
from dormpower.books.alarms import Alarm
from dormpower.books.tables import alarms as alarms_table
from dormpower.books.tables import circuits, holds, meter_points, rooms
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.holds import Hold, Reason
from dormpower.domain.openings import (
    NAMED,
    NAMED_FIRST,
    Condition,
    Opening,
    OpeningsPolicy,
    are_one,
    cause,
    heard_from,
    joins,
)
from dormpower.domain.samples import Relay
from dormpower.domain.units import InvariantViolationError

_MANY = 500  # ids in one IN list


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class _Building:
    campus: str
    building: str

    @property
    def subject(self) -> str:
        return f"{self.campus}/{self.building}"


def tell(connection: Connection, opened: Sequence[Hold], *, policy: OpeningsPolicy, now: datetime) -> None:
    """Raise the alarms of relays that were just found open, or let a building's alarm tell of them.

    `opened` are all `opened_locally` holds that were placed in this transaction.
    """
    buildings = _buildings(connection, [hold.circuit_id for hold in opened])
    for building in sorted(set(buildings.values())):
        members = {hold.hold_id: hold for hold in opened if buildings[hold.circuit_id] == building}
        standing = _standing_alarm(connection, building)
        if standing is not None:
            condition = _condition(standing)
            late = [one for one in map(_opening, members.values()) if joins(one, condition, policy)]
            _join(connection, standing, late, policy=policy, now=now)
            members = {hold_id: hold for hold_id, hold in members.items() if hold_id not in _ids(late)}
        if not members:
            continue
        alone = _alone(connection, building, since=now - policy.window)
        closed = _closed(connection, building, since=heard_from(alone, policy))
        if are_one(alone, closed, policy):
            _raise(connection, building, alone, older=standing, closed=closed, policy=policy, now=now)
            continue
        for hold in members.values():
            load_off.tell(
                connection,
                circuit_id=hold.circuit_id,
                reason=hold.reason,
                hold_id=hold.hold_id,
                evidence=hold.evidence,
                now=now,
            )


def clear_if_over(connection: Connection, hold_id: str, *, now: datetime) -> None:
    """Clear the building's alarm that told of a hold just released, where it was the last one."""
    alarm_id = connection.scalar(sa.select(holds.c.alarm_id).where(holds.c.hold_id == hold_id))
    if alarm_id is None or _stands(connection, alarm_id):
        return
    alarm = alarms.get(connection, alarm_id, lock=True)
    if alarm.cleared_at is None and not _stands(connection, alarm_id):  # others may have joined before the lock
        _clear(connection, alarm, now=now)


def keep_up(connection: Connection, *, now: datetime) -> None:
    """Write into buildings' alarms how many of their circuits are still off, and which when they are few."""
    for alarm in alarms.active(connection, kind=AlarmKind.BUILDING_OPENED):
        left = _left(connection, alarm.alarm_id)
        if left["standing"] == 0:
            _clear(connection, alarm, now=now)
        elif left["standing"] != alarm.detail["standing"]:
            alarms.write_detail(connection, alarm_id=alarm.alarm_id, detail={**alarm.detail, **left}, now=now)


def _raise(
    connection: Connection,
    building: _Building,
    openings: Sequence[Opening],
    *,
    older: Alarm | None,
    closed: int,
    policy: OpeningsPolicy,
    now: datetime,
) -> None:
    """Raise the building's alarm; those that were told of singly are folded into it.

    An `older` one that still stands is replaced, and what it still told of is taken over: this is another
    condition, and somebody has to look again.
    """
    taken_over = 0
    if older is not None:
        taken_over = _left(connection, older.alarm_id)["standing"]
        _clear(connection, older, now=now)
    first = sorted(openings, key=lambda one: (one.opened_at, one.circuit_id))
    alarm_id = alarms.raise_alarm(
        connection,
        kind=AlarmKind.BUILDING_OPENED,
        priority=PRIORITIES[AlarmKind.BUILDING_OPENED],
        subject_kind="building",
        subject_id=building.subject,
        building=building.building,
        detail={
            "campus": building.campus,
            "building": building.building,
            "since_at": first[0].opened_at.isoformat(),
            "first": [one.circuit_id for one in first[:NAMED_FIRST]],
            "closed": closed,
            "window_s": policy.window_s,
            "sampling_period_s": policy.poll_s,
            "reset": {"scope": {"campus": building.campus, "building": building.building}},
            "circuits": taken_over,
            "came_back": 0,
        },
        now=now,
    )
    if alarm_id is None:
        raise InvariantViolationError(f"building {building.subject}: an alarm stands that was cleared")
    if older is not None:
        connection.execute(
            sa.update(holds)
            .where(holds.c.alarm_id == older.alarm_id, holds.c.released_at.is_(None))
            .values(alarm_id=alarm_id)
        )
    _join(connection, alarms.get(connection, alarm_id), openings, policy=policy, now=now)
    told_of = load_off.told_of(connection, [one.circuit_id for one in openings])
    load_off.clear_if_over(connection, told_of, folded_into=alarm_id, now=now)


def _join(
    connection: Connection, alarm: Alarm, openings: Sequence[Opening], *, policy: OpeningsPolicy, now: datetime
) -> None:
    """Let the building's alarm tell of these holds."""
    if not openings:
        return
    ids = sorted(_ids(openings))
    for start in range(0, len(ids), _MANY):
        connection.execute(
            sa.update(holds)
            .where(holds.c.hold_id.in_(ids[start : start + _MANY]), holds.c.released_at.is_(None))
            .values(alarm_id=alarm.alarm_id)
        )
    count = alarm.detail["circuits"] + len(openings)
    came_back = alarm.detail["came_back"] + sum(one.came_back(policy) for one in openings)
    detail = {
        **alarm.detail,
        "circuits": count,
        "came_back": came_back,
        "cause": cause(count, came_back).value,
        "latest_at": max(one.opened_at for one in openings).isoformat(),
        **_left(connection, alarm.alarm_id),
    }
    alarms.write_detail(connection, alarm_id=alarm.alarm_id, detail=detail, now=now)


def _clear(connection: Connection, alarm: Alarm, *, now: datetime) -> None:
    alarms.clear_alarm(
        connection, kind=alarm.kind, subject_kind=alarm.subject_kind, subject_id=alarm.subject_id, now=now
    )


def _still_off(alarm_id: str) -> sa.ColumnElement[bool]:
    """The condition of a hold that an alarm tells of still; nobody can look at a room that is closed."""
    is_open = sa.exists().where(
        circuits.c.circuit_id == holds.c.circuit_id,
        rooms.c.room_id == circuits.c.room_id,
        rooms.c.closed_at.is_(None),
    )
    return sa.and_(holds.c.alarm_id == alarm_id, holds.c.released_at.is_(None), is_open)


def _stands(connection: Connection, alarm_id: str) -> bool:
    return connection.scalar(sa.select(holds.c.hold_id).where(_still_off(alarm_id)).limit(1)) is not None


def _left(connection: Connection, alarm_id: str) -> Mapping[str, Any]:
    """Return how many circuits of an alarm are still off; their names where they are few, else null."""
    still = _still_off(alarm_id)
    standing = connection.scalar(sa.select(sa.func.count()).select_from(holds).where(still)) or 0
    names = None
    if standing <= NAMED:
        query = sa.select(holds.c.circuit_id).where(still).order_by(holds.c.circuit_id)
        names = list(connection.scalars(query))
    return {"standing": standing, "remaining": names}


def _standing_alarm(connection: Connection, building: _Building) -> Alarm | None:
    """Return the building's active alarm, locked: while it is, nobody clears it."""
    row = (
        connection.execute(
            sa.select(alarms_table)
            .where(
                alarms_table.c.kind == AlarmKind.BUILDING_OPENED,
                alarms_table.c.subject_kind == "building",
                alarms_table.c.subject_id == building.subject,
                alarms_table.c.cleared_at.is_(None),
            )
            .with_for_update()
        )
        .mappings()
        .first()
    )
    return None if row is None else Alarm(**row)


def _condition(alarm: Alarm) -> Condition:
    return Condition(
        since_at=datetime.fromisoformat(alarm.detail["since_at"]),
        latest_at=datetime.fromisoformat(alarm.detail["latest_at"]),
    )


def _opening(hold: Hold) -> Opening:
    return Opening(
        hold_id=hold.hold_id,
        circuit_id=hold.circuit_id,
        opened_at=hold.placed_at,
        unheard_s=hold.evidence.get("sampling_period_s"),
    )


def _ids(openings: Sequence[Opening]) -> set[str]:
    return {one.hold_id for one in openings}


def _buildings(connection: Connection, circuit_ids: Sequence[str]) -> dict[str, _Building]:
    found: dict[str, _Building] = {}
    for start in range(0, len(circuit_ids), _MANY):
        rows = connection.execute(
            sa.select(circuits.c.circuit_id, rooms.c.campus, rooms.c.building)
            .join(rooms, rooms.c.room_id == circuits.c.room_id)
            .where(circuits.c.circuit_id.in_(circuit_ids[start : start + _MANY]))
        )
        for row in rows:
            found[row.circuit_id] = _Building(campus=row.campus, building=row.building)
    return found


def _alone(connection: Connection, building: _Building, *, since: datetime) -> list[Opening]:
    """Return the building's relays found open since an instant that no building's alarm tells of."""
    rows = connection.execute(
        sa.select(holds.c.hold_id, holds.c.circuit_id, holds.c.placed_at, holds.c.evidence)
        .join(circuits, circuits.c.circuit_id == holds.c.circuit_id)
        .join(rooms, rooms.c.room_id == circuits.c.room_id)
        .where(
            rooms.c.campus == building.campus,
            rooms.c.building == building.building,
            holds.c.reason == Reason.OPENED_LOCALLY.value,
            holds.c.shadow.is_(sa.false()),
            holds.c.released_at.is_(None),
            holds.c.alarm_id.is_(None),
            holds.c.placed_at >= since,
        )
    )
    return [
        Opening(
            hold_id=row.hold_id,
            circuit_id=row.circuit_id,
            opened_at=row.placed_at,
            unheard_s=row.evidence.get("sampling_period_s"),
        )
        for row in rows
    ]


def _closed(connection: Connection, building: _Building, *, since: datetime) -> int:
    """Return how many of the building's circuits were heard to be closed since an instant."""
    query = (
        sa.select(sa.func.count())
        .select_from(meter_points)
        .join(circuits, circuits.c.circuit_id == meter_points.c.circuit_id)
        .join(rooms, rooms.c.room_id == circuits.c.room_id)
        .where(
            rooms.c.campus == building.campus,
            rooms.c.building == building.building,
            meter_points.c.relay == Relay.CLOSED.value,
            meter_points.c.last_seen_at >= since,
        )
    )
    return connection.scalar(query) or 0
