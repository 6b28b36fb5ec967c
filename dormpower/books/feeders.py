"""Feeders in the books: what shedding remembers, the demand that people see, and minutes off.

The gateway saves the state in the transaction that places and releases the holds, so that every timer and turn
survives a restart together with them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from dormpower.books.tables import circuits, feeder_states, holds, meta, rooms, shed_minutes, shed_turns
from dormpower.books.types import to_ms
from dormpower.domain.alarms import AlarmKind
from dormpower.domain.days import CampusDays
from dormpower.domain.feeder_facts import Demand, FeederState, ShedState, Turn
from dormpower.domain.holds import Enforcement, Reason

_PERIOD_KEY = "shedding_period_on"
_INSTANTS = ("shed_at", "restored_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeederNow:
    """A feeder at its last decision; watts. `source` is metered, summed or unknown."""

    feeder_id: str
    parent: str | None
    limit_w: int
    mode: str
    source: str
    measured_w: int | None
    expected_w: int
    projected_w: int
    reserved_w: int
    circuits_off: int
    sampled_at: datetime | None
    decided_at: datetime
    alarms: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OffOnDay:
    """How long a circuit was shed on a campus day, the present turn among it."""

    room_id: str
    circuit_id: str
    used_on: date
    minutes_off: float
    turns: int
    shadow: bool


# --- what is remembered ---------------------------------------------------------------------------------------


def feeder_written(state: FeederState) -> dict[str, Any]:
    """Return a feeder's memory as JSON; nothing is lost."""
    return {
        "below_since_at": _instant_written(state.below_since_at),
        "below_seen_at": _instant_written(state.below_seen_at),
        "points": [[at.isoformat(), power_w] for at, power_w in state.points],
        "loss": state.loss,
        "alarms": [kind.value for kind in state.alarms],
    }


def feeder_read(written: Mapping[str, Any]) -> FeederState:
    """Return the memory that `feeder_written` wrote.

    An older version's timers begin anew; a newer one's kinds of alarm that are not known here are passed over.
    """
    return FeederState(
        below_since_at=_instant_read(written["below_since_at"]),
        below_seen_at=_instant_read(written.get("below_seen_at")),
        points=tuple((datetime.fromisoformat(at), power_w) for at, power_w in written["points"]),
        loss=written["loss"],
        alarms=tuple(AlarmKind(kind) for kind in written["alarms"] if kind in set(AlarmKind)),
    )


def turn_written(turn: Turn) -> dict[str, Any]:
    """Return a circuit's memory as JSON; nothing is lost."""
    written = asdict(turn)
    for name in _INSTANTS:
        written[name] = _instant_written(written[name])
    return written


def turn_read(written: Mapping[str, Any]) -> Turn:
    """Return the memory that `turn_written` wrote."""
    return Turn(**{**written, **{name: _instant_read(written[name]) for name in _INSTANTS}})


def _instant_written(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _instant_read(written: str | None) -> datetime | None:
    return None if written is None else datetime.fromisoformat(written)


def load(connection: Connection) -> ShedState:
    """Return what shedding remembers; an empty state for a site that never shed."""
    period = connection.scalar(sa.select(meta.c.value).where(meta.c.key == _PERIOD_KEY))
    return ShedState(
        feeders={
            row.feeder_id: feeder_read(row.memory)
            for row in connection.execute(sa.select(feeder_states.c.feeder_id, feeder_states.c.memory))
        },
        turns={
            row.circuit_id: turn_read(row.memory)
            for row in connection.execute(sa.select(shed_turns.c.circuit_id, shed_turns.c.memory))
        },
        period_on=date.fromisoformat(period) if period else None,
    )


def save_turns(connection: Connection, before: ShedState, after: ShedState) -> None:
    """Write the turns that changed, and the fairness period."""
    changed = [
        {"circuit_id": circuit_id, "memory": turn_written(turn)}
        for circuit_id, turn in sorted(after.turns.items())
        if before.turns.get(circuit_id) != turn
    ]
    if changed:
        statement = _insert(connection)(shed_turns)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[shed_turns.c.circuit_id], set_={"memory": statement.excluded.memory}
            ),
            changed,
        )
    if after.period_on is not None and after.period_on != before.period_on:
        value = after.period_on.isoformat()
        connection.execute(
            _insert(connection)(meta)
            .values(key=_PERIOD_KEY, value=value)
            .on_conflict_do_update(index_elements=[meta.c.key], set_={"value": value})
        )


def save_feeder(
    connection: Connection,
    *,
    demand: Demand,
    parent: str | None,
    mode: str,
    circuits_off: int,
    state: FeederState,
    now: datetime,
) -> None:
    """Write a feeder's demand of this decision and what the next one has to know."""
    values = {
        "parent": parent,
        "limit_w": demand.limit_w,
        "mode": mode,
        "source": demand.source.value,
        "measured_w": demand.measured_w,
        "expected_w": demand.expected_w,
        "projected_w": demand.projected_w,
        "reserved_w": demand.reserved_w,
        "circuits_off": circuits_off,
        "sampled_at": demand.sampled_at,
        "decided_at": now,
        "memory": feeder_written(state),
    }
    connection.execute(
        _insert(connection)(feeder_states)
        .values(feeder_id=demand.feeder_id, **values)
        .on_conflict_do_update(index_elements=[feeder_states.c.feeder_id], set_=values)
    )


def keep_only(connection: Connection, feeder_ids: Sequence[str]) -> None:
    """Forget feeders that the site no longer describes."""
    connection.execute(sa.delete(feeder_states).where(feeder_states.c.feeder_id.not_in(list(feeder_ids))))


def leave_off(connection: Connection, feeder_ids: Sequence[str]) -> None:
    """Put on record that nothing is decided for these feeders any more: no alarm stands, nobody is off."""
    rows = connection.execute(
        sa.select(feeder_states.c.feeder_id, feeder_states.c.memory).where(
            feeder_states.c.feeder_id.in_(list(feeder_ids)), feeder_states.c.mode != Enforcement.OFF.value
        )
    ).all()
    for row in rows:
        connection.execute(
            sa.update(feeder_states)
            .where(feeder_states.c.feeder_id == row.feeder_id)
            .values(mode=Enforcement.OFF.value, circuits_off=0, memory={**row.memory, "alarms": []})
        )


# --- minutes off ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedTurn:
    """A circuit of a room was off for a feeder's sake in [from_at, to_at)."""

    circuit_id: str
    room_id: str
    from_at: datetime
    to_at: datetime
    shadow: bool


def note_turns(connection: Connection, turns: Iterable[EndedTurn], *, days: CampusDays) -> None:
    """Add finished turns to their campus days; call it in the transaction that releases the holds."""
    rows = [
        {
            "circuit_id": turn.circuit_id,
            "used_on": used_on,
            "shadow": turn.shadow,
            "room_id": turn.room_id,
            "off_ms": off_ms,
            "turns": int(used_on == days.day_of(turn.from_at)),
        }
        for turn in turns
        for used_on, off_ms in _by_day(turn.from_at, turn.to_at, days)
    ]
    if rows:
        statement = _insert(connection)(shed_minutes)
        added = statement.on_conflict_do_update(
            index_elements=[shed_minutes.c.circuit_id, shed_minutes.c.used_on, shed_minutes.c.shadow],
            set_={
                "off_ms": shed_minutes.c.off_ms + statement.excluded.off_ms,
                "turns": shed_minutes.c.turns + statement.excluded.turns,
            },
        )
        connection.execute(added, rows)


def fairness(
    connection: Connection,
    *,
    from_on: date,
    to_on: date,
    now: datetime,
    days: CampusDays,
    room_ids: Sequence[str] | None = None,
    feeder_ids: Sequence[str] | None = None,
) -> list[OffOnDay]:
    """Return minutes off by circuit and campus day, both days inclusive, most minutes first.

    A resident's caller passes the own rooms. The turn that is under way counts up to `now`.
    """
    found: dict[tuple[str, date, bool], list[Any]] = {}
    finished = (
        sa.select(shed_minutes)
        .join(rooms, rooms.c.room_id == shed_minutes.c.room_id)
        .where(shed_minutes.c.used_on.between(from_on, to_on))
    )
    present = (
        sa.select(holds.c.circuit_id, circuits.c.room_id, holds.c.placed_at, holds.c.shadow)
        .join(circuits, circuits.c.circuit_id == holds.c.circuit_id)
        .join(rooms, rooms.c.room_id == circuits.c.room_id)
        .where(holds.c.reason == Reason.SHED.value, holds.c.released_at.is_(None))
    )
    if room_ids is not None:
        finished = finished.where(rooms.c.room_id.in_(list(room_ids)))
        present = present.where(rooms.c.room_id.in_(list(room_ids)))
    if feeder_ids is not None:
        finished = finished.where(rooms.c.feeder.in_(list(feeder_ids)))
        present = present.where(rooms.c.feeder.in_(list(feeder_ids)))
    for row in connection.execute(finished):
        found[row.circuit_id, row.used_on, row.shadow] = [row.room_id, row.off_ms, row.turns]
    for row in connection.execute(present):
        for used_on, off_ms in _by_day(row.placed_at, now, days):
            if not from_on <= used_on <= to_on:
                continue
            entry = found.setdefault((row.circuit_id, used_on, row.shadow), [row.room_id, 0, 0])
            entry[1] += off_ms
            entry[2] += int(used_on == days.day_of(row.placed_at))
    listed = [
        OffOnDay(
            room_id=room_id,
            circuit_id=circuit_id,
            used_on=used_on,
            minutes_off=off_ms / 60_000,
            turns=turns,
            shadow=shadow,
        )
        for (circuit_id, used_on, shadow), (room_id, off_ms, turns) in found.items()
    ]
    return sorted(listed, key=lambda one: (one.used_on, -one.minutes_off, one.circuit_id))


def feeders_now(connection: Connection) -> list[FeederNow]:
    """Return every feeder as of the gateway's last decision, by id."""
    columns = [column for column in feeder_states.c if column.name != "memory"]
    return [
        FeederNow(
            **{column.name: getattr(row, column.name) for column in columns},
            alarms=tuple(row.memory["alarms"]),
        )
        for row in connection.execute(sa.select(feeder_states).order_by(feeder_states.c.feeder_id))
    ]


def below(connection: Connection, feeder_id: str) -> list[str]:
    """Return a feeder and all that hang below it, by the site that the gateway last decided for."""
    children: dict[str | None, list[str]] = {}
    for row in connection.execute(sa.select(feeder_states.c.feeder_id, feeder_states.c.parent)):
        children.setdefault(row.parent, []).append(row.feeder_id)
    found = [feeder_id]
    for one in found:  # grows while it is walked
        found += [child for child in children.get(one, ()) if child not in found]
    return found


def _by_day(from_at: datetime, to_at: datetime, days: CampusDays) -> list[tuple[date, int]]:
    """Split [from_at, to_at) at campus midnights; a turn of no length still has its day."""
    found: list[tuple[date, int]] = []
    at = from_at
    while True:
        used_on = days.day_of(at)
        until = min(days.end_of(used_on), to_at)
        found.append((used_on, max(to_ms(until) - to_ms(at), 0)))
        if until >= to_at:
            return found
        at = until


def _insert(connection: Connection) -> Any:
    return postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
